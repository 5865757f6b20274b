"""How much slower a test may get is read from its budgets, and from nothing else."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pytest_flopbudget.core.budgets import Budget, Limit, Severity
from pytest_flopbudget.core.report import TestOutcome, TestReport
from pytest_flopbudget.core.side_by_side import growth_allowed, growth_limit
from pytest_flopbudget.core.verdicts import Outcome, Verdict

ERROR, WARN = Severity.ERROR, Severity.WARN


def limit(metric: str, change: str | None = None, severity: Severity = ERROR) -> Limit:
    """A limit with this `vs_baseline`, or else a maximum alone."""
    if change is None:
        return Limit(metric=metric, maximum=Fraction(1), severity=severity)
    share = Fraction(change.rstrip("%")) / 100
    return Limit(metric=metric, vs_baseline=share, severity=severity)


def measured(*limits: Limit, region: str = "", verdicts: tuple[Verdict, ...] = ()) -> TestReport:
    return TestReport(
        id="test_a.py::test_a",
        file="test_a.py",
        line=1,
        outcome=TestOutcome.PASSED,
        budgets=(Budget(region=region, limits=limits),),
        verdicts=verdicts,
    )


@pytest.mark.parametrize("metric", ["latency", "latency_p95", "latency_p99", "throughput"])
def test_a_budget_on_a_time_that_says_nothing_of_growth_allows_five_percent(metric: str) -> None:
    assert growth_allowed(measured(limit(metric)), "") == (0.05, ERROR)
    assert growth_allowed(measured(limit(metric, severity=WARN)), "") == (0.05, WARN)


def test_a_budget_on_counts_alone_is_not_timed() -> None:
    assert growth_allowed(measured(limit("flops", "+5%")), "") is None
    assert growth_allowed(measured(), "") is None


def test_each_region_has_its_own_budget() -> None:
    test = measured(limit("latency", "+2%"), region="decode")
    assert growth_allowed(test, "decode") == (0.02, ERROR)
    assert growth_allowed(test, "") is None


def test_the_latency_says_how_much_more_time_may_pass() -> None:
    assert growth_allowed(measured(limit("latency", "+12%")), "") == (0.12, ERROR)
    assert growth_allowed(measured(limit("latency", "+0%")), "") == (0.0, ERROR)


def test_a_latency_that_must_shrink_may_not_grow() -> None:
    assert growth_allowed(measured(limit("latency", "-10%")), "") == (0.0, ERROR)


@pytest.mark.parametrize("change", ["+20%", "-20%"])
def test_a_throughput_that_may_drop_by_a_fifth_is_a_time_that_may_grow_by_a_quarter(
    change: str,
) -> None:
    # 0.8 of the calls in a second: each takes 1 / 0.8 = 1.25 times as long.
    assert growth_allowed(measured(limit("throughput", change)), "") == (0.25, ERROR)


@pytest.mark.parametrize("change", ["+99%", "+100%", "+300%"])
def test_a_throughput_that_may_drop_to_nothing_has_a_growth_for_all_that(change: str) -> None:
    # A hundredth of the calls: each takes 100 times as long, 99 times more than before.
    assert growth_allowed(measured(limit("throughput", change)), "") == (99.0, ERROR)


def test_what_a_tail_may_grow_says_nothing_of_the_median() -> None:
    assert growth_allowed(measured(limit("latency_p95", "+50%")), "") == (0.05, ERROR)


def test_a_limit_on_growth_goes_before_a_ceiling() -> None:
    test = measured(limit("latency"), limit("throughput", "-50%"))
    assert growth_allowed(test, "") == (1.0, ERROR)


def test_of_several_limits_the_tightest_counts_and_first_of_those_that_fail() -> None:
    test = measured(limit("latency", "+10%"), limit("throughput", "-5%"))
    # 1 / 0.95 - 1 = 1 / 19, about 5.3 %.
    assert growth_allowed(test, "") == (1 / 19, ERROR)
    test = measured(limit("latency", "+10%"), limit("throughput", "-5%", WARN))
    assert growth_allowed(test, "") == (0.10, ERROR)


def test_growth_on_another_machine_is_not_timed_here() -> None:
    away = Verdict(region="", metric="latency", outcome=Outcome.NOT_GATED, reason="")
    assert growth_allowed(measured(limit("latency", "+2%"), verdicts=(away,)), "") is None
    # A ceiling of another machine leaves the growth to be judged on this one.
    assert growth_allowed(measured(limit("latency"), verdicts=(away,)), "") == (0.05, ERROR)


def test_the_limit_that_decides_is_known() -> None:
    growth = limit("throughput", "-5%")
    assert growth_limit(measured(limit("latency"), growth), "") == growth
