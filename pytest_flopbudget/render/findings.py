"""The comparison as single findings, each at a test: what trackers of tests and code list."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_flopbudget.core.comparison import Accepted, BudgetChange, Comparison, Delta, Place
from pytest_flopbudget.render.sentences import (
    BROKEN_BEFORE,
    accepted_words,
    incomplete_words,
    loosened_words,
    loosening_fails,
    on_legs,
    way_out,
)
from pytest_flopbudget.render.words import clean, explanation


class Weight(enum.Enum):
    """How much a finding matters."""

    FAILING = "failing"
    MINOR = "minor"
    """It does not fail, and wants to be looked at."""
    INFORMATION = "information"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to tell of one test, or of the run where it has none."""

    kind: str
    """Such as `over-budget`; what it is of, whatever the numbers."""
    weight: Weight
    message: str
    place: Place
    """Of no test and no file where it is about the whole run."""
    what: str = ""
    """Which part of a budget moved; tells two findings of one metric apart."""


def findings(comparison: Comparison) -> Iterator[Finding]:
    """What fails first, then what is warned of, then what is good to know."""
    for message in incomplete_words(comparison):
        nowhere = Place(test="", file="", line=0)
        yield Finding(
            kind="incomplete", weight=Weight.FAILING, message=message, place=nowhere, what=message
        )
    for delta in comparison.over:
        yield _of_delta("over-budget", Weight.FAILING, delta)
    is_failing = loosening_fails(comparison)
    for change in comparison.loosened:
        message = loosened_words(change) + (f"; {way_out(change)}" if is_failing else "")
        weight = Weight.FAILING if is_failing else Weight.MINOR
        yield from _of_change("loosened-budget", weight, change, message)
    for delta in comparison.warned:
        yield _of_delta("warned", Weight.MINOR, delta)
    for one in comparison.accepted:
        yield from _of_accepted(one)
    for delta in comparison.pre_existing:
        yield _of_delta("pre-existing", Weight.INFORMATION, delta, f" ({BROKEN_BEFORE})")


def _of_accepted(one: Accepted) -> Iterator[Finding]:
    message = accepted_words(one)
    if one.change is not None:
        yield from _of_change("accepted", Weight.INFORMATION, one.change, message)
    if one.delta is not None:
        yield Finding(
            kind="accepted", weight=Weight.INFORMATION, message=message, place=one.delta.place
        )


def _of_delta(kind: str, weight: Weight, delta: Delta, more: str = "") -> Finding:
    message = on_legs(f"{explanation(delta)}{more}", delta.place.legs)
    # A limit may be broken by its ceiling and by its growth at once.
    what = "" if delta.timed is None else "growth"
    return Finding(kind=kind, weight=weight, message=message, place=delta.place, what=what)


def _of_change(kind: str, weight: Weight, change: BudgetChange, message: str) -> Iterator[Finding]:
    """One for each test that it is about, or one for the settings that no test shows."""
    for n, test in enumerate(change.tests or ("",)):
        # The change knows the line of its first test alone.
        file = change.file if n == 0 else test.partition("::")[0]
        place = Place(
            test=test,
            file=file if test else clean(change.source.partition(":")[0]),
            line=change.line if n == 0 else 0,
            region=change.region,
            metric=change.metric,
            legs=change.legs,
        )
        what = change.what if test else f"{change.source} {change.what}"
        yield Finding(kind=kind, weight=weight, message=message, place=place, what=what)
