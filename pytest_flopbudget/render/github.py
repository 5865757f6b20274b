"""What a run on GitHub shows of a comparison: annotations at the tests, and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from pytest_flopbudget.core.comparison import BudgetChange, Comparison, Standing
from pytest_flopbudget.render.words import (
    change_words,
    clean,
    explanation,
    names_of,
    plural,
    with_region,
)

MOST: Final = 9
"""Annotations of one level: GitHub keeps ten a step, and the tenth counts the rest."""

_VERDICTS: Final = {
    Standing.WITHIN: "pass",
    Standing.OVER: "fail",
    Standing.NOTHING_MEASURED: "nothing-measured",
    Standing.ACCEPTED: "accepted",
    Standing.NEEDS_APPROVAL: "needs-approval",
    Standing.INCOMPLETE: "incomplete",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One line beside the code of a pull request."""

    is_error: bool
    """Else it is a warning."""
    message: str
    file: str = ""
    """Relative to the root of the run; empty where it is about no file."""
    line: int = 0


def annotate(
    comparison: Comparison, *, locate: Callable[[str], str] = str
) -> tuple[Annotation, ...]:
    """At most ten errors and ten warnings, of which the last counts those left out.

    locate: the path from the root of the repository, for one from the root of the run.
    """
    errors = [
        Annotation(
            is_error=True,
            message=explanation(delta),
            file=delta.place.file,
            line=delta.place.line,
        )
        for delta in comparison.over
    ]
    kept = (*_capped(errors), *_capped(list(_warnings(comparison))))
    return tuple(replace(one, file=clean(locate(one.file)) if one.file else "") for one in kept)


def outputs(comparison: Comparison) -> dict[str, str]:
    """What later steps of the job can read, by name."""
    return {
        "verdict": _VERDICTS[comparison.standing],
        "over-budget": str(len(comparison.over)),
        "loosened": str(len(comparison.loosened)),
    }


def _warnings(comparison: Comparison) -> Iterator[Annotation]:
    names = names_of(comparison)
    for change in comparison.loosened:
        yield Annotation(
            is_error=False,
            message=f"This change loosens a budget: {_who(change, names)}{change_words(change)}",
            file=change.file,
            line=change.line,
        )
    for delta in comparison.warned:
        yield Annotation(
            is_error=False,
            message=explanation(delta),
            file=delta.place.file,
            line=delta.place.line,
        )
    for row in comparison.uncounted:
        name = with_region(names[row.place.test], row.place.region)
        operator = clean(row.operator.operator)
        calls = plural(row.operator.calls, "call")
        yield Annotation(
            is_error=False,
            message=f"{name}: {operator} has no formula ({calls}): its counts are too low",
            file=row.place.file,
            line=row.place.line,
        )


def _who(change: BudgetChange, names: dict[str, str]) -> str:
    if not change.tests:
        return ""
    more = f" and {len(change.tests) - 1} more" if len(change.tests) > 1 else ""
    return f"{with_region(names[change.tests[0]], change.region)}{more}: "


def _capped(every: list[Annotation]) -> list[Annotation]:
    if len(every) <= MOST:
        return every
    message = f"and {len(every) - MOST} more: the job summary has them all"
    return [*every[:MOST], Annotation(is_error=every[0].is_error, message=message)]
