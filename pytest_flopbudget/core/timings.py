"""What side-by-side timings say in a comparison: a row and a verdict for each region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from pytest_flopbudget.core.comparison import Delta, Place
from pytest_flopbudget.core.measurement import Value
from pytest_flopbudget.core.metrics import Better, Kind, metric_named
from pytest_flopbudget.core.ratios import Ratio
from pytest_flopbudget.core.reasons import who
from pytest_flopbudget.core.report import Report, TestReport
from pytest_flopbudget.core.side_by_side import (
    OF_THE_MEDIAN,
    SideBySide,
    Timed,
    TimedOutcome,
    growth_limit,
    is_implied,
)
from pytest_flopbudget.core.verdicts import BROKEN, Outcome, Verdict

_OUTCOMES: Final = {
    TimedOutcome.REGRESSED: Outcome.REGRESSED,
    TimedOutcome.WITHIN: Outcome.WITHIN,
    TimedOutcome.UNSTABLE: Outcome.INCONCLUSIVE,
    TimedOutcome.NOT_TIMED: Outcome.NO_BASELINE,
}
_FINE: Final = frozenset({Outcome.WITHIN, Outcome.IMPROVED})
_COMMIT: Final = 9


def usable_timings(base: Report | None, head: Report) -> SideBySide | None:
    """The head's timings, unless they were taken beside another base than this one."""
    timings = head.side_by_side
    return timings if timings is not None and not _is_other_base(timings, base) else None


def timing_notes(base: Report | None, head: Report) -> Iterator[str]:
    """What a reader must know of the head's timings, in a sentence each."""
    timings = head.side_by_side
    if timings is None:
        return
    if base is not None and _is_other_base(timings, base):
        commit = base.git.commit[:_COMMIT] if base.git else "of no known commit"
        yield (
            f"the latencies were taken beside {timings.base[:_COMMIT]}, and this base is "
            f"{commit}: they say nothing of it"
        )
        return
    yield from timings.notes


def times_of_two_machines(incomparable: Iterable[Delta], difference: str) -> Iterator[str]:
    """That the times of two separate runs are not even of one machine, where there are any.

    difference: how the base's machine is not the head's in what decides a time; empty where
    it is the same.
    """
    if difference and any(delta.metric.kind is Kind.SAMPLED for delta in incomparable):
        yield f"the base's times are of another machine, and not shown: {difference}"


def timed_of(timings: SideBySide | None) -> Mapping[str, tuple[Timed, ...]]:
    """What was timed, by the id of its test."""
    found: dict[str, list[Timed]] = {}
    for timed in timings.tests if timings else ():
        found.setdefault(timed.test, []).append(timed)
    return {test: tuple(every) for test, every in found.items()}


def timed_delta(test: TestReport, timed: Timed) -> Delta:
    """The row of one region, with its verdict.

    Its metric is the one whose growth is judged: the latency, or a throughput that a budget
    bounds. The amounts are the medians by the wall clock. The verdict's value is the base's
    amount times the ratio, which the paired turns know better than the two medians do.
    """
    limit = growth_limit(test, timed.region)
    name = limit.metric if limit is not None and limit.metric in OF_THE_MEDIAN else "latency"
    delta = Delta(
        place=Place(test=test.id, file=test.file, line=test.line, region=timed.region, metric=name),
        limit=limit,
        timed=timed,
        verdict=Verdict(
            region=timed.region,
            metric=name,
            outcome=Outcome.IMPROVED
            if timed.outcome is TimedOutcome.WITHIN and timed.is_faster
            else _OUTCOMES[timed.outcome],
            reason=_reason(test, timed),
            severity=timed.severity,
        ),
    )
    return delta if timed.ratio is None else _with_amounts(delta, timed.ratio, timed.allowed)


def _reason(test: TestReport, timed: Timed) -> str:
    subject = who(test.id.rpartition("::")[2], timed.region)
    if timed.outcome is TimedOutcome.NOT_TIMED:
        why = f": {timed.reason}" if timed.reason else ""
        return f"{subject} was not timed beside the base{why}"
    unstable = ": unstable, not gated" if timed.outcome is TimedOutcome.UNSTABLE else ""
    return f"{subject} {timed.reason}{unstable}"


def _with_amounts(delta: Delta, ratio: Ratio, allowed: float) -> Delta:
    is_rate = metric_named(delta.place.metric).better is Better.HIGHER

    def amount(seconds: float) -> float:
        return 1 / seconds if is_rate else seconds

    return replace(
        delta,
        base=Value(value=amount(ratio.base_s)),
        head=Value(value=amount(ratio.head_s)),
        verdict=delta.verdict
        and replace(
            delta.verdict,
            value=amount(ratio.base_s * ratio.estimate),
            bound=amount(ratio.base_s * (1 + allowed)),
        ),
    )


def change_beside_base(delta: Delta) -> float | None:
    """The change of the metric as a share of the base's, below zero for a drop.

    None where it was not timed beside the base.
    """
    ratio = None if delta.timed is None else delta.timed.ratio
    if ratio is None:
        return None
    return (1 / ratio.estimate if delta.metric.better is Better.HIGHER else ratio.estimate) - 1


def with_timings(judged: Iterable[Delta], timed: Mapping[str, Delta]) -> Iterator[Delta]:
    """The verdicts of one test, with those of its timings in the place of what they settle.

    timed: the rows of the test's regions. A limit that is broken in the head's own run, or
    open in it, stays so, beside what the timings say of the growth.
    """
    silent: set[str] = set()
    for delta in judged:
        row = timed.get(delta.place.region)
        if row is None or delta.verdict is None or row.verdict is None:
            yield delta
            continue
        if _is_settled(delta, delta.verdict, row, row.verdict):
            continue
        yield delta
        if delta.place.metric == row.place.metric and _says_less(row.verdict, delta.verdict):
            silent.add(delta.place.region)
    yield from (row for region, row in timed.items() if region not in silent)


def _is_settled(delta: Delta, verdict: Verdict, row: Delta, by: Verdict) -> bool:
    """Whether the timing of the region says all that this verdict leaves to be said."""
    if delta.place.metric not in OF_THE_MEDIAN:
        return False
    is_same = delta.place.metric == row.place.metric
    if verdict.outcome is Outcome.NO_BASELINE:
        limit, other = delta.limit, row.limit
        return is_same or (limit is not None and other is not None and is_implied(limit, other))
    return is_same and verdict.outcome in _FINE and by.outcome in _FINE | BROKEN


def _says_less(timing: Verdict, verdict: Verdict) -> bool:
    """Whether the timing adds nothing to a verdict of the same metric that stays."""
    if verdict.outcome in BROKEN:
        return timing.outcome not in BROKEN
    return timing.outcome in _FINE


def _is_other_base(timings: SideBySide, base: Report | None) -> bool:
    return base is not None and (base.git is None or base.git.commit != timings.base)
