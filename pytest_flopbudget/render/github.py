"""What a run on GitHub shows of a comparison: annotations at the tests, and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from pytest_flopbudget.core.comparison import Comparison, Place, Standing
from pytest_flopbudget.render.sentences import (
    BROKEN_BEFORE,
    VERDICTS,
    accepted_words,
    incomplete_words,
    loosened_words,
    on_legs,
    way_out,
)
from pytest_flopbudget.render.words import clean, explanation, names_of, plural, with_region

MOST: Final = 9
"""Annotations of one level: GitHub keeps ten a step, and the tenth counts the rest."""

_WAITING: Final = frozenset({Standing.NEEDS_APPROVAL, Standing.INCOMPLETE})
"""Where a loosened budget stands in the way by itself."""


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
    comparison: Comparison, *, locate: Callable[[str], str] = str, label: str = ""
) -> tuple[Annotation, ...]:
    """At most ten errors and ten warnings, of which the last counts those left out.

    locate: the path from the root of the repository, for one from the root of the run.
    label: what lets the acceptances of a pull request count; empty where they come by --accept.
    """
    errors = list(_errors(comparison, label))
    kept = (*_capped(errors), *_capped(list(_warnings(comparison))))
    return tuple(replace(one, file=clean(locate(one.file)) if one.file else "") for one in kept)


def outputs(comparison: Comparison) -> dict[str, str]:
    """What later steps of the job can read, by name."""
    return {
        "verdict": VERDICTS[comparison.standing],
        "over-budget": str(len(comparison.over)),
        "loosened": str(len(comparison.loosened)),
    }


def _errors(comparison: Comparison, label: str) -> Iterator[Annotation]:
    for message in incomplete_words(comparison):
        yield Annotation(is_error=True, message=message)
    for delta in comparison.over:
        yield _at(delta.place, explanation(delta), is_error=True)
    if comparison.standing in _WAITING:
        for change in comparison.loosened:
            message = f"{loosened_words(change)}; {way_out(change, label=label)}"
            yield Annotation(is_error=True, message=message, file=change.file, line=change.line)


def _warnings(comparison: Comparison) -> Iterator[Annotation]:
    if comparison.standing not in _WAITING:
        for change in comparison.loosened:
            message = loosened_words(change)
            yield Annotation(is_error=False, message=message, file=change.file, line=change.line)
    for delta in comparison.warned:
        yield _at(delta.place, explanation(delta))
    for one in comparison.accepted:
        place = one.delta.place if one.delta else one.change
        if place is not None:
            yield Annotation(
                is_error=False, message=accepted_words(one), file=place.file, line=place.line
            )
    for delta in comparison.pre_existing:
        yield _at(delta.place, f"{explanation(delta)} ({BROKEN_BEFORE})")
    names = names_of(comparison)
    for row in comparison.uncounted:
        name = with_region(names[row.place.test], row.place.region)
        operator = clean(row.operator.operator)
        calls = plural(row.operator.calls, "call")
        yield _at(row.place, f"{name}: {operator} has no formula ({calls}): its counts are too low")


def _at(place: Place, message: str, *, is_error: bool = False) -> Annotation:
    message = on_legs(message, place.legs)
    return Annotation(is_error=is_error, message=message, file=place.file, line=place.line)


def _capped(every: list[Annotation]) -> list[Annotation]:
    if len(every) <= MOST:
        return every
    message = f"and {len(every) - MOST} more: the job summary has them all"
    return [*every[:MOST], Annotation(is_error=every[0].is_error, message=message)]
