"""Puts the report of a base beside that of a head, and says what the change did."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pytest_flopbudget.core.attribution import movers, spenders
from pytest_flopbudget.core.budgets import Limit, Severity
from pytest_flopbudget.core.comparison import (
    BudgetChange,
    Comparison,
    Delta,
    Direction,
    Entry,
    FactChange,
    Place,
    Rename,
    Standing,
    Timings,
    UncountedRow,
)
from pytest_flopbudget.core.judging import Context, judge
from pytest_flopbudget.core.loosening import budget_changes, describe_budget
from pytest_flopbudget.core.machine import machine_difference, pace_difference
from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.metrics import METRICS, Kind, Metric, metric_named
from pytest_flopbudget.core.pairing import Pair, is_whole, limit_of, narrowing, pair_tests, value_of
from pytest_flopbudget.core.quantity import exact, ratio
from pytest_flopbudget.core.reasons import who
from pytest_flopbudget.core.report import BROKEN_OFF, Report, TestOutcome, TestReport
from pytest_flopbudget.core.side_by_side import OF_THE_MEDIAN, Timed
from pytest_flopbudget.core.timings import (
    timed_delta,
    timed_of,
    times_of_two_machines,
    timing_notes,
    usable_timings,
    with_timings,
)
from pytest_flopbudget.core.verdicts import BROKEN, Outcome, Verdict

_MOST_CAUSES: Final = 3
_UNDECIDED: Final = frozenset({Outcome.INCONCLUSIVE, Outcome.NOT_GATED, Outcome.NO_BASELINE})
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
_WHY_FAILED: Final = {
    TestOutcome.PASSED: "never judged: the report has a value and a limit, and no verdict",
    TestOutcome.FAILED: "not measured: it failed",
    TestOutcome.OVER_BUDGET: "not measured: it failed",
    TestOutcome.ERROR: "not measured: its set-up failed",
}


_NO_BASELINE: Final = "no baseline"


def base_failed(exit_code: int) -> str:
    """The note that a head's report has where its base could not be measured."""
    return (
        f"{_NO_BASELINE}: the base's tests could not run (pytest ended with {exit_code}): "
        "what the change loosens was not looked for"
    )


def compare(base: Report | None, head: Report) -> Comparison:
    """What the head costs, allows and breaks, beside the base where there is one."""
    pairs = (
        pair_tests(base, head)
        if base is not None
        else tuple(Pair(base=None, head=test) for test in head.tests)
    )
    difference = "" if base is None else machine_difference(base.machine, head.machine)
    pace = "" if base is None else pace_difference(base, head)
    timings = usable_timings(base, head)
    timed = timed_of(timings)
    tests = [
        _ComparedTest(pair, difference, not pace, _timed_regions(pair, timed)) for pair in pairs
    ]
    judged = [delta for test in tests for delta in test.judged()]
    over = [delta for delta in judged if delta.verdict and _fails(delta.verdict)]
    changed = [delta for test in tests for delta in test.deltas() if test.is_changed(delta)]
    measured = tuple(test.pair.test.id for test in tests if test.is_measured)
    faster = [d for test in tests for d in test.timed.values() if d.timed and d.timed.is_faster]
    touched = {delta.place.test for delta in (*over, *changed, *faster)}
    incomparable = tuple(d for test in tests for d in test.incomparable())
    side = _budgets_side(base, head, pairs)
    return replace(
        side,
        standing=_standing(over, len(measured)),
        over=tuple(sorted(over, key=how_far_over, reverse=True)),
        failed=tuple(delta for test in tests for delta in test.failed()),
        warned=tuple(d for d in judged if d.verdict and _only_warns(d.verdict)),
        undecided=tuple(d for d in judged if d.verdict and d.verdict.outcome in _UNDECIDED),
        changed=tuple(sorted(changed, key=weight, reverse=True)),
        incomparable=incomparable,
        timed=tuple(d for test in tests for d in test.timed.values()),
        timings=(Timings(run=replace(timings, tests=())),) if timings else (),
        uncounted=tuple(row for test in tests for row in test.uncounted()),
        unchanged=tuple(
            test.head.id
            for test in tests
            if test.head and test.is_measured_twice and test.head.id not in touched
        ),
        measured=measured,
        within=tuple(
            d.place
            for d in judged
            if d.verdict and d.verdict.outcome in (Outcome.WITHIN, Outcome.IMPROVED)
        ),
        notes=(*side.notes, *times_of_two_machines(incomparable, pace)),
    )


def _timed_regions(pair: Pair, timed: Mapping[str, Sequence[Timed]]) -> Mapping[str, Delta]:
    head = pair.head
    if head is None:
        return {}
    return {one.region: timed_delta(head, one) for one in timed.get(head.id, ())}


def _budgets_side(base: Report | None, head: Report, pairs: tuple[Pair, ...]) -> Comparison:
    """What can be said without looking at a single number: who is there, and what is allowed."""
    comparison = Comparison(
        standing=Standing.WITHIN,
        has_base=base is not None,
        head_git=head.git,
        not_measured=tuple(_not_measured(pairs, base, head)),
        versions=tuple(f"{name} {version}" for name, version in head.versions.items()),
        notes=tuple(_notes(base, head)),
    )
    if base is None:
        return comparison
    changes = budget_changes(base, head, pairs)
    return replace(
        comparison,
        base_git=base.git,
        loosened=_only(changes, Direction.LOOSENED),
        tightened=_only(changes, Direction.TIGHTENED),
        added=_only(changes, Direction.ADDED),
        new=tuple(_new(pairs, base, head)),
        removed=tuple(
            _entry(pair.base, "removed")
            for pair in pairs
            if pair.head is None and pair.base is not None and is_whole(head, base)
        ),
        renamed=tuple(
            Rename(before=pair.base.id, after=pair.head.id)
            for pair in pairs
            if pair.base and pair.head and pair.is_renamed
        ),
        machine_changes=tuple(_fact_changes(base.machine, head.machine)),
        version_changes=tuple(_fact_changes(base.versions, head.versions)),
    )


def _only(changes: Iterable[BudgetChange], direction: Direction) -> tuple[BudgetChange, ...]:
    return tuple(change for change in changes if change.direction is direction)


@dataclass(frozen=True, slots=True)
class _ComparedTest:
    """One test on both sides, and what its numbers say."""

    pair: Pair
    difference: str
    """How the base's machine is not the head's; empty where it is the same."""
    is_one_machine: bool
    """Whether the two machines look alike in all that decides a latency."""
    timed: Mapping[str, Delta]
    """By region, what running beside the base said of its time."""

    @property
    def head(self) -> TestReport | None:
        return self.pair.head

    @property
    def is_measured(self) -> bool:
        return self.head is not None and _is_measured(self.head)

    @property
    def is_measured_twice(self) -> bool:
        return self.is_measured and self.pair.base is not None and _is_measured(self.pair.base)

    def judged(self) -> Iterator[Delta]:
        """Each verdict of the head's report, and those that only the base can give."""
        if self.head is None:
            return
        # A test that is expected to fail may break its budget, as pytest sees it too.
        is_excused = self.head.outcome is TestOutcome.XFAILED
        for delta in with_timings(self._of_reports(self.head), self.timed):
            if not (is_excused and delta.verdict and delta.verdict.outcome in BROKEN):
                yield delta

    def _of_reports(self, head: TestReport) -> Iterator[Delta]:
        """The verdicts that the two reports give."""
        against_base = {(v.region, v.metric): v for v in self._against_base()}
        for verdict in head.verdicts:
            better_known = against_base.get((verdict.region, verdict.metric))
            if better_known is not None and verdict.outcome not in BROKEN:
                continue
            against_base.pop((verdict.region, verdict.metric), None)
            yield self._delta(verdict.region, verdict.metric, verdict)
        for verdict in against_base.values():
            yield self._delta(verdict.region, verdict.metric, verdict)

    def failed(self) -> Iterator[Delta]:
        """The enforced limits that have no verdict, as the test failed before.

        One that passed has a verdict of each of its limits, unless somebody took it out.
        """
        if self.head is None or self.head.outcome not in {*BROKEN_OFF, TestOutcome.PASSED}:
            return
        has_passed = self.head.outcome is TestOutcome.PASSED
        for budget in self.head.budgets:
            for limit in budget.limits:
                is_judged = self.head.verdict(budget.region, limit.metric) is not None
                is_enforced = limit.severity is Severity.ERROR
                is_measured = value_of(self.head, budget.region, limit.metric) is not None
                if has_passed and not is_measured:
                    continue
                if is_judged or not is_enforced or self._is_elsewhere(budget.region, limit):
                    continue
                subject = who(self.head.id.rpartition("::")[2], budget.region)
                verdict = Verdict(
                    region=budget.region,
                    metric=limit.metric,
                    outcome=Outcome.NOT_MEASURED,
                    reason=f"{subject} was {_WHY_FAILED[self.head.outcome]}",
                )
                yield self._delta(budget.region, limit.metric, verdict)

    def _is_elsewhere(self, region: str, limit: Limit) -> bool:
        """Whether the limit is for a machine that this one is not known to be.

        The base's verdict alone can tell: a test that failed says nothing of it.
        """
        if limit.on is None:
            return False
        base = self.pair.base
        before = None if base is None else base.verdict(region, limit.metric)
        return before is None or before.outcome is Outcome.NOT_GATED

    def _against_base(self) -> Iterator[Verdict]:
        """Verdicts of the limits on growth, for what does not depend on the machine."""
        if self.head is None or self.pair.base is None:
            return
        before = {m.name: m for m in self.pair.base.measurements if not m.is_partial}
        for budget in self.head.budgets:
            for limit in budget.limits:
                kind = metric_named(limit.metric).kind
                region = "" if kind is Kind.RECORDED else budget.region
                measurement = self.head.measurement(region)
                if limit.vs_baseline is None or kind is Kind.SAMPLED or measurement is None:
                    continue
                if limit.metric not in measurement.values or region not in before:
                    continue
                growth = replace(
                    limit, maximum=None, minimum=None, equals=None, tolerance=None, ratio_to=None
                )
                yield judge(
                    growth,
                    measurement,
                    Context(baseline={budget.region: before[region]}, difference=self.difference),
                    region=budget.region,
                    subject=self.head.id.rpartition("::")[2],
                )

    def deltas(self) -> Iterator[Delta]:
        """Every metric that both sides measured."""
        if self.head is None or self.pair.base is None:
            return
        for after in self.head.measurements:
            before = self.pair.base.measurement(after.name)
            if after.is_partial or before is None:
                continue
            for metric in after.values:
                if metric in before.values:
                    yield self._delta(after.name, metric, None)

    def incomparable(self) -> Iterator[Delta]:
        """What two separate runs measured, and cannot be held against each other."""
        timed = {d.place.region for d in self.timed.values() if d.base is not None}
        for delta in self.deltas():
            is_told = delta.place.region in timed and delta.place.metric in OF_THE_MEDIAN
            if not is_told and not self.is_comparable(delta.metric):
                yield delta

    def is_changed(self, delta: Delta) -> bool:
        """Whether it is a number that can be compared, and is another one now."""
        if delta.base is None or delta.head is None or not self.is_comparable(delta.metric):
            return False
        return delta.base.value != delta.head.value

    def is_comparable(self, metric: Metric) -> bool:
        """Whether two separate runs can compare it, as they can no statistic."""
        if metric.kind is Kind.MACHINE:
            return not metric.unfit and not self.difference
        return metric.kind is not Kind.SAMPLED

    def _may_stand_beside(self, metric: Metric) -> bool:
        """Whether the base's value may be shown beside the head's, for information."""
        return metric.kind is not Kind.SAMPLED or self.is_one_machine

    def uncounted(self) -> Iterator[UncountedRow]:
        """The operators that ran with no formula."""
        for m in self.head.measurements if self.head else ():
            for operator in m.uncounted:
                yield UncountedRow(place=_place(self.pair.test, m.name), operator=operator)

    def _delta(self, region: str, metric: str, verdict: Verdict | None) -> Delta:
        base, head = self._measurement(self.pair.base, region), self._measurement(self.head, region)
        known = metric_named(metric)
        is_comparable = self.is_comparable(known) if verdict else self._may_stand_beside(known)
        moved = movers(base, head, metric) if base and head else ()
        return Delta(
            place=_place(self.pair.test, region, metric),
            base=value_of(self.pair.base, region, metric) if is_comparable else None,
            head=value_of(self.head, region, metric),
            verdict=verdict,
            movers=moved[:_MOST_CAUSES],
            spenders=spenders(head, metric, _MOST_CAUSES) if head else (),
            limit=limit_of(self.head, region, metric) if self.head else None,
        )

    @staticmethod
    def _measurement(test: TestReport | None, region: str) -> Measurement | None:
        return None if test is None else test.measurement(region)


def _not_measured(pairs: Iterable[Pair], base: Report | None, head: Report) -> Iterator[Entry]:
    """What this run does not know, though the test, or its region, is there or was."""
    for pair in pairs:
        was_measured = pair.base is not None and _is_measured(pair.base)
        if pair.head is None:
            if not is_whole(head, base) and was_measured:
                yield replace(_entry(pair.test, _left_out(head)), is_left_out=True)
        elif not _is_measured(pair.head):
            # What neither side ever measures is no news.
            if was_measured or base is None or pair.base is None:
                entry = _entry(pair.head, _why_unmeasured(pair.head, head))
                yield replace(entry, is_left_out=was_measured and _is_cut_off(pair.head, head))
        else:
            regions = {m.name: m.is_partial for m in pair.head.measurements}
            for name, is_partial in regions.items():
                if is_partial:
                    yield _entry(pair.head, "raised before its end", name)
            for m in pair.base.measurements if pair.base else ():
                if m.name not in regions and not m.is_partial:
                    yield _entry(pair.head, "a region of the base that never ran", m.name)


def _new(pairs: Iterable[Pair], base: Report, head: Report) -> Iterator[Entry]:
    for pair in pairs:
        if pair.head is None or not _is_measured(pair.head):
            continue
        if pair.base is None:
            yield _entry(pair.head, "new" if is_whole(base, head) else "not in the base's run")
        elif not _is_measured(pair.base):
            yield _entry(pair.head, f"on the base: {_why_unmeasured(pair.base, base)}")
        else:
            regions = {m.name for m in pair.base.measurements}
            for m in pair.head.measurements:
                if m.name not in regions and not m.is_partial:
                    yield _entry(pair.head, "a new region", m.name)


def _is_measured(test: TestReport) -> bool:
    return any(not measurement.is_partial for measurement in test.measurements)


def _why_unmeasured(test: TestReport, report: Report) -> str:
    if any(measurement.is_partial for measurement in test.measurements):
        return "raised while it was measured"
    why = _WHY_UNMEASURED[test.outcome]
    return f"{why}: {_left_out(report)}" if _is_cut_off(test, report) else why


def _is_cut_off(test: TestReport, report: Report) -> bool:
    is_off = test.outcome in (TestOutcome.DESELECTED, TestOutcome.NOT_RUN)
    return is_off and not is_whole(report)


def _left_out(report: Report) -> str:
    if report.is_interrupted:
        return "the run was interrupted"
    return f"left out by {' '.join(report.selection)}"


def what_is_missing(report: Report) -> Iterator[str]:
    """Why the run is not the whole suite, in a sentence for each reason."""
    if report.is_interrupted:
        yield "the run was interrupted: what it did not reach is not judged"
    if narrowing(report):
        yield f"only a part of the tests was run: {' '.join(report.selection)}"


def _notes(base: Report | None, head: Report) -> Iterator[str]:
    is_told = any(note.startswith(f"{_NO_BASELINE}: ") for note in head.notes)
    if base is None and head.side_by_side is None and not is_told:
        yield f"{_NO_BASELINE} yet: absolute budgets alone are judged"
    elif base is None and not is_told:
        yield "no report of the base: absolute budgets and the growth of times alone are judged"
    yield from what_is_missing(head)
    if base is not None and not is_whole(base, head):
        yield f"the base's run is not whole: {_left_out(base)}"
    if base is not None and base.versions.get("torch") != head.versions.get("torch"):
        yield (
            f"torch is {head.versions.get('torch', 'unknown')} here and "
            f"{base.versions.get('torch', 'unknown')} on the base: "
            "exact counts may differ by the version alone"
        )
    yield from timing_notes(base, head)
    yield from head.notes


def _fact_changes(base: Mapping[str, Any], head: Mapping[str, Any]) -> Iterator[FactChange]:
    if not base or not head:
        # It measured nothing, and so says nothing of its machine.
        return
    for name in {**base, **head}:
        before, after = base.get(name), head.get(name)
        if before != after:
            yield FactChange(name=name, before=_words(before), after=_words(after))


def _words(fact: object) -> str:
    if fact is None:
        return ""
    return fact if isinstance(fact, str) else json.dumps(fact)


def _place(test: TestReport, region: str = "", metric: str = "") -> Place:
    return Place(test=test.id, file=test.file, line=test.line, region=region, metric=metric)


def _entry(test: TestReport, reason: str, region: str = "") -> Entry:
    return Entry(place=_place(test, region), reason=reason, budget=describe_budget(test))


def _standing(over: list[Delta], measured: int) -> Standing:
    if over:
        return Standing.OVER
    return Standing.WITHIN if measured else Standing.NOTHING_MEASURED


def _fails(verdict: Verdict) -> bool:
    return verdict.is_failure


def _only_warns(verdict: Verdict) -> bool:
    return verdict.outcome in BROKEN and not verdict.is_failure


def how_far_over(delta: Delta) -> float:
    """Orders broken limits by how far they are broken; a value that is missing comes first."""
    verdict = delta.verdict
    if verdict is None or verdict.value is None or not verdict.bound:
        return float("inf")
    return abs(ratio(exact(verdict.value) - exact(verdict.bound), verdict.bound))


def weight(delta: Delta) -> tuple[bool, bool, float, int]:
    """Orders changes: what a budget bounds first, then what got worse, then by size."""
    catalogue = list(METRICS)
    name = delta.place.metric
    at = catalogue.index(name) if name in METRICS else len(catalogue)
    return delta.is_budgeted, delta.growth > 0, abs(delta.growth), -at
