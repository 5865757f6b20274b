"""What the formats made of single findings say of each: annotations, JUnit, Code Quality."""

from __future__ import annotations

from typing import Final

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.comparison import Accepted, BudgetChange, Comparison, Standing
from pytest_flopbudget.core.metrics import metric_named
from pytest_flopbudget.core.quantity import format_change, format_quantity
from pytest_flopbudget.render.accepting import lines_for_change
from pytest_flopbudget.render.words import change_words, clean, explanation, plural, with_region

LABEL: Final = "flopbudget-accept"
"""The label without which no line of a pull request accepts anything."""

VERDICTS: Final = {
    Standing.WITHIN: "pass",
    Standing.OVER: "fail",
    Standing.NOTHING_MEASURED: "nothing-measured",
    Standing.ACCEPTED: "accepted",
    Standing.NEEDS_APPROVAL: "needs-approval",
    Standing.INCOMPLETE: "incomplete",
}
"""The whole in a word, wherever a gate says it."""

BROKEN_BEFORE: Final = "the base breaks it too"

_PASSING: Final = frozenset({Standing.WITHIN, Standing.ACCEPTED, Standing.NOTHING_MEASURED})


def loosening_fails(comparison: Comparison) -> bool:
    """Whether what is loosened stands in the way, as it does wherever the whole does not pass."""
    return comparison.standing not in _PASSING


def short_name(test: str) -> str:
    """The test's id without its file."""
    return clean(test.partition("::")[2] or test)


def on_legs(text: str, legs: tuple[str, ...]) -> str:
    """The text, and the legs of the run that alone show it."""
    return f"{text} (on {', '.join(clean(leg) for leg in legs)})" if legs else text


def loosened_words(change: BudgetChange) -> str:
    """What the change allows that was not, and whose budget it is."""
    who = ""
    if change.tests:
        others = len(change.tests) - 1
        more = f" and {others} more" if others else ""
        who = f"{with_region(short_name(change.tests[0]), change.region)}{more}: "
    return on_legs(f"This change loosens a budget: {who}{change_words(change)}", change.legs)


def accepted_words(one: Accepted) -> str:
    """What would fail, up to which value it was accepted, why, and by whose label."""
    what = ""
    if one.delta is not None:
        what = on_legs(explanation(one.delta), one.delta.place.legs)
    elif one.change is not None:
        what = loosened_words(one.change)
    return f"{what}; {acceptance_words(one)}"


def acceptance_words(one: Accepted) -> str:
    """Up to which value it was accepted, why, and by whose label."""
    line = one.acceptance
    upto = ""
    if line.cap is not None:
        upto = f" {'down' if line.is_floor else 'up'} to {cap_words(line)}"
    by = f" (label set by {line.set_by})" if line.set_by else ""
    return clean(f"accepted{upto}: {line.reason}{by}")


def cap_words(line: Acceptance) -> str:
    """The value up to which it accepts, in the unit in which it was written."""
    if line.cap is None:
        return ""
    if line.is_change:
        return format_change(1, 1 + line.cap)
    return format_quantity(line.cap, metric_named(line.metric).dimension)


def way_out(change: BudgetChange, *, label: str = "") -> str:
    """What to do for the change to pass: take it back, or this line.

    label: what makes the lines of a pull request count; empty where they are given by --accept.
    """
    lines = lines_for_change(change, most=1)
    if not lines:
        return "take it back: no line can name it"
    where = (
        f"label {label}, and a line in the description"
        if label
        else "a line in the text given with --accept"
    )
    return f"take it back, or have it accepted: {where}: {lines[0]}"


def incomplete_words(comparison: Comparison) -> tuple[str, ...]:
    """Why nothing can be said of the whole, in a sentence for each reason."""
    if comparison.standing is not Standing.INCOMPLETE and not comparison.missing_legs:
        return ()
    names = comparison.missing_legs
    if not names:
        return ("The run did not reach its end, so that nothing can be said of the rest",)
    return tuple(
        clean(f"Leg {name} is missing: its job failed, or left no report") for name in names
    )


def notes_beside(comparison: Comparison) -> list[str]:
    """The notes, without those of missing legs, which are told of above all."""
    told = tuple(f"leg {leg} is missing:" for leg in comparison.missing_legs)
    return [note for note in comparison.notes if not note.startswith(told)]


def older_words(comparison: Comparison) -> str:
    """How far the base is from the right one; empty where it is the right one."""
    if not comparison.base_age:
        return ""
    return f"compared with a commit that is {plural(comparison.base_age, 'commit')} older"
