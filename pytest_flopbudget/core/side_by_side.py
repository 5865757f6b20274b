"""What timing two commits side by side said of each test: plain data, beside the reports."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from pytest_flopbudget.core.budgets import Limit, Severity
from pytest_flopbudget.core.metrics import METRICS, Kind, metric_named
from pytest_flopbudget.core.ratios import Ratio
from pytest_flopbudget.core.verdicts import Outcome

if TYPE_CHECKING:
    # A report holds what is defined here.
    from pytest_flopbudget.core.report import TestReport

_DEFAULT_GROWTH: Final = Fraction(5, 100)
OF_THE_MEDIAN: Final = frozenset({"latency", "throughput"})
"""The metrics that a ratio of medians says something of."""
_MOST_LOST: Final = Fraction(99, 100)
"""The largest drop of a throughput that has a growth of the time to match."""


class TimedOutcome(enum.Enum):
    """What several pairs of runs say of one test."""

    REGRESSED = "regressed"
    """Slower than the base, beyond doubt, and by more than is allowed."""
    WITHIN = "within"
    UNSTABLE = "unstable"
    """The noise hides what is allowed: not gated."""
    NOT_TIMED = "not timed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """The region of one test, as both sides ran it by turns."""

    test: str
    """The id that the head gives it."""
    region: str
    outcome: TimedOutcome
    reason: str
    """What people are told of it, behind its name: `took 5.7 ms, on the base 5.1 ms: ...`, with
    the interval and what is allowed; or why it was not timed."""
    allowed: float
    """The growth of the time that is allowed, 0.05 for +5 %."""
    severity: Severity
    ratio: Ratio | None = None
    """There wherever a verdict is; None for what was not timed."""

    @property
    def is_faster(self) -> bool:
        """Whether the head takes less time than the base, beyond doubt."""
        return self.ratio is not None and self.ratio.high < 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """How two commits were timed next to each other, on one machine, and what came of it."""

    base: str
    """The base's commit, its full name."""
    head: str
    """The head's; that of a temporary commit where `is_dirty`."""
    is_dirty: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    """The variables that were pinned for both sides."""
    pairs: int
    """The most pairs of processes that a test had."""
    seconds: float
    """The time that all of it took."""
    tests: tuple[Timed, ...] = ()
    """At most one for each region of a test, and of tests of the report alone."""
    notes: tuple[str, ...] = ()

    def timed(self, test: str, region: str) -> Timed | None:
        """What is known of this region, if it was to be timed."""
        keys = (test, region)
        return next((timed for timed in self.tests if (timed.test, timed.region) == keys), None)


def growth_allowed(test: TestReport, region: str) -> tuple[float, Severity] | None:
    """How much more time than on the base the region may take, and what more does.

    Such as (0.05, ERROR) for +5 %, which is also what a budget on a time allows that says
    nothing of it. None where the region has no such budget.
    """
    limit = growth_limit(test, region)
    return None if limit is None else (float(_growth(limit)), limit.severity)


def growth_limit(test: TestReport, region: str) -> Limit | None:
    """The limit that decides how much the region's time may grow; None where none is sampled.

    It is that of `vs_baseline` on the latency or the throughput, and else any on a time.
    Of several, one that fails the test goes before one that warns, and then the tighter one.
    """
    every = [limit for limit in _sampled_limits(test, region) if _applies(limit, test, region)]
    telling = [limit for limit in every if _is_growth(limit)] or every
    return min(telling, key=_order, default=None)


def is_implied(limit: Limit, by: Limit) -> bool:
    """Whether what is within the growth that one limit allows is within that of the other too."""
    return _growth(limit) >= _growth(by)


def _sampled_limits(test: TestReport, region: str) -> Iterator[Limit]:
    for budget in test.budgets:
        if budget.region == region:
            for limit in budget.limits:
                if metric_named(limit.metric).kind is Kind.SAMPLED:
                    yield limit


def _is_growth(limit: Limit) -> bool:
    return limit.vs_baseline is not None and limit.metric in OF_THE_MEDIAN


def _applies(limit: Limit, test: TestReport, region: str) -> bool:
    """Whether its growth is judged on this machine: a ceiling of another one does no harm."""
    key = region, limit.metric
    return limit.vs_baseline is None or not any(
        verdict.outcome is Outcome.NOT_GATED
        for verdict in test.verdicts
        if (verdict.region, verdict.metric) == key
    )


def _order(limit: Limit) -> tuple[bool, Fraction, int]:
    return limit.severity is Severity.WARN, _growth(limit), list(METRICS).index(limit.metric)


def _growth(limit: Limit) -> Fraction:
    """The growth of the time that it allows.

    A limit that demands an improvement allows none. A throughput that may drop by a share d
    is a time that may grow by d / (1 - d).
    """
    if limit.vs_baseline is None or limit.metric not in OF_THE_MEDIAN:
        return _DEFAULT_GROWTH
    if limit.metric == "latency":
        return max(limit.vs_baseline, Fraction(0))
    drop = min(abs(limit.vs_baseline), _MOST_LOST)
    return drop / (1 - drop)
