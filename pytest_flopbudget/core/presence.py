"""Which tests and regions a run has, lacks or has anew, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from pytest_flopbudget.core.comparison import Entry, Place
from pytest_flopbudget.core.loosening import describe_budget
from pytest_flopbudget.core.pairing import Pair, is_whole, narrowing
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport

_WHY_UNMEASURED: Final = {
    TestOutcome.PASSED: "measured nothing",
    TestOutcome.FAILED: "failed before it was measured to the end",
    TestOutcome.OVER_BUDGET: "failed before it was measured to the end",
    TestOutcome.ERROR: "its set-up failed",
    TestOutcome.SKIPPED: "skipped",
    TestOutcome.XFAILED: "failed as expected, before it was measured to the end",
    TestOutcome.DESELECTED: "deselected",
    TestOutcome.NOT_RUN: "not run",
}


def not_measured(pairs: Iterable[Pair], base: Report | None, head: Report) -> Iterator[Entry]:
    """What this run does not know, though the test, or its region, is there or was."""
    for pair in pairs:
        was_measured = pair.base is not None and is_measured(pair.base)
        if pair.head is None:
            if not is_whole(head, base) and was_measured:
                yield replace(entry_of(pair.test, left_out(head)), is_left_out=True)
        elif not is_measured(pair.head):
            # What neither side ever measures is no news.
            if was_measured or base is None or pair.base is None:
                entry = entry_of(pair.head, _why_unmeasured(pair.head, head))
                yield replace(entry, is_left_out=was_measured and _is_cut_off(pair.head, head))
        else:
            regions = {m.name: m.is_partial for m in pair.head.measurements}
            for name, is_partial in regions.items():
                if is_partial:
                    yield entry_of(pair.head, "raised before its end", name)
            for m in pair.base.measurements if pair.base else ():
                if m.name not in regions and not m.is_partial:
                    yield entry_of(pair.head, "a region of the base that never ran", m.name)


def new_entries(pairs: Iterable[Pair], base: Report, head: Report) -> Iterator[Entry]:
    """What the head measured and the base did not."""
    for pair in pairs:
        if pair.head is None or not is_measured(pair.head):
            continue
        if pair.base is None:
            yield entry_of(pair.head, "new" if is_whole(base, head) else "not in the base's run")
        elif not is_measured(pair.base):
            yield entry_of(pair.head, f"on the base: {_why_unmeasured(pair.base, base)}")
        else:
            regions = {m.name for m in pair.base.measurements}
            for m in pair.head.measurements:
                if m.name not in regions and not m.is_partial:
                    yield entry_of(pair.head, "a new region", m.name)


def is_measured(test: TestReport) -> bool:
    """Whether something of the test was measured to its end."""
    return any(not measurement.is_partial for measurement in test.measurements)


def _why_unmeasured(test: TestReport, report: Report) -> str:
    if any(measurement.is_partial for measurement in test.measurements):
        return "raised while it was measured"
    why = _WHY_UNMEASURED[test.outcome]
    return f"{why}: {left_out(report)}" if _is_cut_off(test, report) else why


def _is_cut_off(test: TestReport, report: Report) -> bool:
    is_off = test.outcome in (TestOutcome.DESELECTED, TestOutcome.NOT_RUN)
    return is_off and not is_whole(report)


def left_out(report: Report) -> str:
    """Why a run that is not whole lacks a test."""
    if report.is_interrupted:
        return "the run was interrupted"
    return f"left out by {' '.join(report.selection)}"


def what_is_missing(report: Report) -> Iterator[str]:
    """Why the run is not the whole suite, in a sentence for each reason."""
    if report.is_interrupted:
        yield "the run was interrupted: what it did not reach is not judged"
    if narrowing(report):
        yield f"only a part of the tests was run: {' '.join(report.selection)}"


def place_of(test: TestReport, region: str = "", metric: str = "") -> Place:
    """Where a number of this test is found."""
    return Place(test=test.id, file=test.file, line=test.line, region=region, metric=metric)


def entry_of(test: TestReport, reason: str, region: str = "") -> Entry:
    """A test, or one region of it, with what is said of it and what it is allowed."""
    return Entry(place=place_of(test, region), reason=reason, budget=describe_budget(test))
