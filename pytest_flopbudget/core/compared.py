"""One test on both sides, and what its numbers say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pytest_flopbudget.core.attribution import movers, spenders
from pytest_flopbudget.core.budgets import Limit, Severity
from pytest_flopbudget.core.comparison import Delta, UncountedRow
from pytest_flopbudget.core.judging import Context, judge
from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.metrics import Kind, Metric, metric_named
from pytest_flopbudget.core.pairing import Pair, limit_of, value_of
from pytest_flopbudget.core.presence import is_measured, place_of
from pytest_flopbudget.core.reasons import who
from pytest_flopbudget.core.report import BROKEN_OFF, TestOutcome, TestReport
from pytest_flopbudget.core.side_by_side import OF_THE_MEDIAN
from pytest_flopbudget.core.timings import with_timings
from pytest_flopbudget.core.verdicts import BROKEN, Outcome, Verdict

_MOST_CAUSES: Final = 3
_WHY_FAILED: Final = {
    TestOutcome.PASSED: "never judged: the report has a value and a limit, and no verdict",
    TestOutcome.FAILED: "not measured: it failed",
    TestOutcome.OVER_BUDGET: "not measured: it failed",
    TestOutcome.ERROR: "not measured: its set-up failed",
}


@dataclass(frozen=True, slots=True)
class ComparedTest:
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
        """The test on the head, if it is there."""
        return self.pair.head

    @property
    def is_measured(self) -> bool:
        """Whether the head measured something of it to its end."""
        return self.head is not None and is_measured(self.head)

    @property
    def is_measured_twice(self) -> bool:
        """Whether both sides did."""
        return self.is_measured and self.pair.base is not None and is_measured(self.pair.base)

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
                yield UncountedRow(place=place_of(self.pair.test, m.name), operator=operator)

    def _delta(self, region: str, metric: str, verdict: Verdict | None) -> Delta:
        base, head = self._measurement(self.pair.base, region), self._measurement(self.head, region)
        known = metric_named(metric)
        is_comparable = self.is_comparable(known) if verdict else self._may_stand_beside(known)
        moved = movers(base, head, metric) if base and head else ()
        return Delta(
            place=place_of(self.pair.test, region, metric),
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
