"""Small reports for the tests of what compares and prints them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from pytest_flopbudget.core.budgets import Budget, Limit
from pytest_flopbudget.core.judging import Context, judge_test
from pytest_flopbudget.core.measurement import (
    Counts,
    Measurement,
    ModuleSpending,
    OperatorSpending,
    Samples,
    Uncounted,
    Value,
)
from pytest_flopbudget.core.ratios import Ratio
from pytest_flopbudget.core.report import Git, Report, TestOutcome, TestReport
from pytest_flopbudget.core.side_by_side import SideBySide, Timed, TimedOutcome, growth_allowed
from pytest_flopbudget.core.witness import Witness


def measured(
    name: str = "",
    *,
    macs: dict[str, int] | None = None,
    uncounted: tuple[Uncounted, ...] = (),
    is_partial: bool = False,
    **values: Value | float,
) -> Measurement:
    """A region whose MACs were spent by `aten.mm` under the modules of these paths."""
    spent = macs or {}
    known = {key: v if isinstance(v, Value) else Value(value=v) for key, v in values.items()}
    if macs is not None:
        known = {"macs": Value(value=sum(spent.values())), **known}
    return Measurement(
        name=name,
        values=known,
        modules=tuple(
            ModuleSpending(
                path=path,
                type="Linear",
                calls=1,
                operators=(
                    OperatorSpending(operator="aten.mm", calls=1, counts=Counts(macs=amount)),
                ),
            )
            for path, amount in spent.items()
        ),
        uncounted=uncounted,
        is_partial=is_partial,
    )


def limit(metric: str, maximum: float | None = None, **other: Any) -> Limit:
    """A limit whose amounts may be given as numbers."""
    exact = {
        key: Fraction(str(value)) if isinstance(value, (int, float)) else value
        for key, value in {"maximum": maximum, **other}.items()
    }
    return Limit(metric=metric, **exact)


def budgeted(
    test_id: str,
    *measurements: Measurement,
    limits: tuple[Limit, ...] = (),
    outcome: TestOutcome = TestOutcome.PASSED,
    line: int = 3,
    region: str = "",
    is_strict: bool = True,
) -> TestReport:
    """A test, judged as the run would have judged it."""
    budgets = (Budget(region=region, limits=limits, is_strict=is_strict),) if limits else ()
    name = test_id.rpartition("::")[2]
    verdicts = judge_test(budgets, measurements, Context(), subject=name) if measurements else ()
    return TestReport(
        id=test_id,
        file=test_id.partition("::")[0],
        line=line,
        outcome=outcome,
        measurements=measurements,
        budgets=budgets,
        verdicts=verdicts,
    )


def reported(*tests: TestReport, **other: Any) -> Report:
    """A whole run of these tests."""
    return Report(tests=tests, **{"versions": {"torch": "2.13.0"}, **other})


BASE = Git(commit="b" * 40, branch="main", is_dirty=False)
HEAD = Git(commit="a" * 40, branch="topic", is_dirty=False)
PINNED = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def ratio(estimate: float, *, spread: float = 0.01, base_s: float = 0.005, **other: Any) -> Ratio:
    """The head's time over the base's, known to within the spread."""
    known: dict[str, Any] = {
        "low": estimate - spread,
        "high": estimate + spread,
        "confidence": 0.99,
        "noise": 0.018,
        "pairs": 5,
        "witness": Witness.CPU,
        "wall": estimate,
        "base_s": base_s,
        "head_s": base_s * estimate,
    }
    return Ratio(estimate=estimate, **{**known, **other})


def timed(
    test: TestReport,
    outcome: TimedOutcome,
    found: Ratio | None = None,
    *,
    region: str = "",
    reason: str = "took so long",
) -> Timed:
    """What came of one region of the test, held to what its own budgets allow."""
    growth = growth_allowed(test, region)
    assert growth is not None, f"{test.id} has no budget on a time"
    allowed, severity = growth
    return Timed(
        test=test.id,
        region=region,
        outcome=outcome,
        reason=reason,
        allowed=allowed,
        severity=severity,
        ratio=found,
    )


def beside(*found: Timed, **other: Any) -> SideBySide:
    """The timings of a head beside its base."""
    known: dict[str, Any] = {"base": BASE.commit, "head": HEAD.commit, "environment": PINNED}
    return SideBySide(tests=found, **{**known, "pairs": 5, "seconds": 62.5, **other})


def sampled(median: float, low: float, high: float, *, threads: int = 1) -> Samples:
    """A steady series of rounds with this median and interval, in seconds."""
    return Samples(
        rounds=40,
        warmup_rounds=20,
        threads=threads,
        median=median,
        low=low,
        high=high,
        confidence=0.95,
        p95=high,
        p99=high,
        minimum=low,
        maximum=high,
        is_steady=True,
    )
