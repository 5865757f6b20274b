"""Holding a test's measurements to its budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

from pytest_flopbudget.core import reasons
from pytest_flopbudget.core.bounds import (
    Bound,
    BoundKind,
    Span,
    absolute_bounds,
    baseline_bound,
    span_of,
)
from pytest_flopbudget.core.budgets import Budget, Limit, Severity
from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.metrics import UNCOUNTED, Kind, Metric, metric_named
from pytest_flopbudget.core.quantity import LARGEST, exact, ratio
from pytest_flopbudget.core.verdicts import Outcome, Verdict

_STRICT: Final = frozenset(
    {"flops", "macs", "int_ops", "arithmetic_intensity", "flops_per_second", "utilization"}
)
"""The metrics that an uncounted operator makes too low."""

_WORST_FIRST: Final = (
    Outcome.OVER,
    Outcome.REGRESSED,
    Outcome.INCONCLUSIVE,
    Outcome.NO_BASELINE,
    Outcome.IMPROVED,
    Outcome.WITHIN,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a test is judged by, beside its own budgets and measurements."""

    baseline: Mapping[str, Measurement] | None = None
    """This test's measurements in the baseline, by region; None where it has none."""
    machines: frozenset[str] = frozenset()
    """Names of the machines that this runner counts as."""
    references: Mapping[str, Measurement] = field(default_factory=dict)
    """The measurements that `ratio_to` can name."""
    difference: str = ""
    """How the machine of the baseline is not this one; empty where it is the same."""
    is_final: bool = False
    """True when no further measurement will come, so that nothing is left pending."""
    regions: tuple[str, ...] = ()
    """The regions that the test measured, to find a misspelt one by."""


def judge_test(
    budgets: Iterable[Budget],
    measurements: Iterable[Measurement],
    context: Context,
    *,
    subject: str,
) -> tuple[Verdict, ...]:
    """A verdict for each limit, and one for the operators that a strict budget could not count.

    subject: what sentences call the test. Of a region whose code raised, no number is judged:
    it counts as not measured, which matters where the test goes on and passes.
    """
    by_region = {measurement.name: measurement for measurement in measurements}
    context = replace(context, regions=tuple(by_region))
    verdicts: list[Verdict] = []
    for budget in budgets:
        measurement = by_region.get(budget.region)
        if measurement is not None and measurement.is_partial:
            verdicts.extend(
                _raised(limit, budget.region, subject, context) for limit in budget.limits
            )
            continue
        for limit in budget.limits:
            # What a test records belongs to no region: it is kept with the test's call.
            is_recorded = metric_named(limit.metric).kind is Kind.RECORDED
            held = by_region.get("", measurement) if is_recorded else measurement
            verdicts.append(judge(limit, held, context, region=budget.region, subject=subject))
        if measurement is not None and measurement.uncounted and budget.metrics & _STRICT:
            verdicts.append(_judge_strictness(budget, measurement, subject))
    return tuple(verdicts)


def judge(
    limit: Limit,
    measurement: Measurement | None,
    context: Context,
    *,
    region: str,
    subject: str,
) -> Verdict:
    """What the limit says of the measurement: of its bounds, the one that comes out worst.

    measurement: of the region, complete; None where the test never measured it.
    """
    if limit.on is not None and limit.on not in context.machines:
        reason = reasons.not_gated(limit, subject, region)
        return _without_value(limit, region, Outcome.NOT_GATED, reason)
    if measurement is None or limit.metric not in measurement.values:
        reason = reasons.not_measured(limit, measurement, context.regions, subject, region)
        return _without_value(limit, region, Outcome.NOT_MEASURED, reason)
    if _is_nothing(limit, measurement):
        reason = reasons.nothing_ran(limit, subject, region)
        return _without_value(limit, region, Outcome.NOT_MEASURED, reason)
    case = _Case(
        limit=limit,
        metric=metric_named(limit.metric, measurement.values[limit.metric].better),
        measurement=measurement,
        region=region,
        subject=subject,
    )
    reference = None
    if limit.ratio_to is not None:
        referred = context.references.get(limit.ratio_to)
        if referred is None or limit.metric not in referred.values:
            return case.unresolved(referred, context)
        reference = span_of(case.metric, referred)
    return case.judged(reference, context)


def _raised(limit: Limit, region: str, subject: str, context: Context) -> Verdict:
    if limit.on is not None and limit.on not in context.machines:
        reason = reasons.not_gated(limit, subject, region)
        return _without_value(limit, region, Outcome.NOT_GATED, reason)
    return _without_value(
        limit, region, Outcome.NOT_MEASURED, reasons.raised(limit, subject, region)
    )


def _is_nothing(limit: Limit, measurement: Measurement) -> bool:
    """Whether a count is zero because no operator ran at all: a silent zero, unless meant."""
    ops = measurement.values.get("ops")
    is_meant = 0 in (limit.maximum, limit.equals)
    return (
        ops is not None
        and ops.value == 0
        and measurement.values[limit.metric].value == 0
        and metric_named(limit.metric).kind in (Kind.EXACT, Kind.MACHINE)
        and not is_meant
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """What came of one bound; without a bound, why there is none."""

    outcome: Outcome
    bound: Bound | None = None
    why: str = ""

    def rank(self, value: Fraction) -> tuple[int, Fraction]:
        """Orders the worst first, and then the nearest bound."""
        distance = Fraction(0) if self.bound is None else abs(self.bound.edge - value)
        return _WORST_FIRST.index(self.outcome), distance


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One limit, and the measurement that it bounds."""

    limit: Limit
    metric: Metric
    measurement: Measurement
    region: str
    subject: str

    @property
    def span(self) -> Span:
        return span_of(self.metric, self.measurement)

    def judged(self, reference: Span | None, context: Context) -> Verdict:
        bounds = absolute_bounds(self.limit, self.metric, reference)
        found = [
            _Finding(outcome=bound.outcome(self.span, self.metric.better), bound=bound)
            for bound in bounds
        ]
        base = None if context.baseline is None else context.baseline.get(self.measurement.name)
        if self.limit.vs_baseline is not None:
            found.append(self.against_baseline(self.limit.vs_baseline, base, context.difference))
        found.sort(key=lambda finding: finding.rank(self.span.middle))
        worst, *others = found
        if worst.bound is None:
            # That it keeps the limits which need no baseline is told all the same.
            kept = next((other.bound for other in others if other.bound is not None), None)
            done = reasons.did(self.metric, self.measurement) if kept is None else self.told(kept)
            return self.verdict(worst.outcome, f"{done}; {worst.why}")
        reason = self.told(worst.bound)
        if worst.outcome in (Outcome.OVER, Outcome.REGRESSED):
            is_growth = self.span.middle > worst.bound.amount
            reason += reasons.places(self.metric, base, self.measurement, is_growth=is_growth)
        elif worst.outcome is Outcome.INCONCLUSIVE:
            reason += reasons.why_inconclusive(self.metric, self.measurement)
        return self.verdict(worst.outcome, reason, worst.bound)

    def told(self, bound: Bound) -> str:
        """What was measured, beside this bound."""
        return reasons.against(self.metric, self.measurement, bound.amount, bound.words)

    def against_baseline(
        self, allowed: Fraction, base: Measurement | None, difference: str
    ) -> _Finding:
        if self.metric.kind is Kind.SAMPLED:
            why = "timings of separate runs are not comparable"
            return _Finding(outcome=Outcome.NO_BASELINE, why=why)
        if base is None or base.is_partial or self.metric.name not in base.values:
            why = f"the baseline has no {self.metric.name} of it"
            return _Finding(outcome=Outcome.NO_BASELINE, why=why)
        if self.metric.kind is Kind.MACHINE and difference:
            why = f"the baseline is of another machine: {difference}"
            return _Finding(outcome=Outcome.NO_BASELINE, why=why)
        before = exact(base.values[self.metric.name].value)
        bound = baseline_bound(before, allowed, self.metric.better)
        return _Finding(outcome=bound.outcome(self.span, self.metric.better), bound=bound)

    def unresolved(self, referred: Measurement | None, context: Context) -> Verdict:
        """The verdict where what `ratio_to` names is not, or not yet, measured."""
        done = reasons.did(self.metric, self.measurement)
        if not context.is_final and referred is None:
            why = f"its ratio to {self.limit.ratio_to!r} is judged when the session ends"
            return self.verdict(Outcome.PENDING, f"{done}; {why}")
        why = reasons.no_reference(self.limit, referred, context.references)
        return self.verdict(Outcome.NOT_MEASURED, f"{done}; {why}")

    def verdict(self, outcome: Outcome, reason: str, bound: Bound | None = None) -> Verdict:
        value = self.measurement.values[self.metric.name].value
        is_share = bound is not None and bound.kind in (BoundKind.MAXIMUM, BoundKind.EQUALS)
        return Verdict(
            region=self.region,
            metric=self.metric.name,
            outcome=outcome,
            reason=f"{reasons.who(self.subject, self.region)} {reason}",
            value=value,
            bound=None if bound is None else _number(bound.edge),
            used=_share(value, bound.edge) if bound and is_share and bound.edge else None,
            severity=self.limit.severity,
        )


def _without_value(limit: Limit, region: str, outcome: Outcome, reason: str) -> Verdict:
    return Verdict(
        region=region,
        metric=limit.metric,
        outcome=outcome,
        reason=reason,
        severity=limit.severity,
    )


def _judge_strictness(budget: Budget, measurement: Measurement, subject: str) -> Verdict:
    return Verdict(
        region=budget.region,
        metric=UNCOUNTED.name,
        outcome=Outcome.OVER,
        reason=f"{reasons.who(subject, budget.region)} {reasons.uncounted(measurement.uncounted)}",
        value=len(measurement.uncounted),
        bound=0,
        severity=Severity.ERROR if budget.is_strict else Severity.WARN,
    )


def _share(value: float, bound: Fraction) -> float | None:
    """The value as a share of the bound; None where that is beyond what a report holds."""
    share = ratio(value, bound)
    return share if abs(share) <= LARGEST else None


def _number(amount: Fraction) -> int | float:
    return int(amount) if amount.denominator == 1 else float(amount)
