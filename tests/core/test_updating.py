"""What a run's measurements make of the budgets: held bounds come nearer, broken ones give way."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.limits import parse_limit
from pytest_flopbudget.core.measurement import Measurement, Uncounted
from pytest_flopbudget.core.metrics import Dimension
from pytest_flopbudget.core.quantity import parse_quantity
from pytest_flopbudget.core.report import TestOutcome, TestReport
from pytest_flopbudget.core.settings import ProjectSettings
from pytest_flopbudget.core.updating import Edit, plan_update
from pytest_flopbudget.core.verdicts import Outcome

from ..builders import budgeted, measured

SOURCE = "pyproject.toml: tool.flopbudget.budgets.net"


def settings_of(**written: Any) -> ProjectSettings:
    """Settings whose only budget, `net`, is written so."""
    limits = tuple(
        parse_limit(metric, raw, where=SOURCE, machines=("runner",))
        for metric, raw in written.items()
    )
    return ProjectSettings(budgets={"net": limits}, written={"budgets": {"net": written}})


def run_of(
    settings: ProjectSettings, *measurements: Measurement, name: str = "test_net", **other: Any
) -> TestReport:
    """A test that the budget `net` bounds."""
    limits = settings.budgets["net"]
    return budgeted(f"test_a.py::{name}", *measurements, limits=limits, **other)


def only_edit(settings: ProjectSettings, *tests: TestReport) -> Edit:
    update = plan_update(settings, tests)
    assert update.left == ()
    (edit,) = update.edits
    return edit


def test_a_loose_maximum_is_tightened_to_what_was_measured() -> None:
    settings = settings_of(flops="3.7 GFLOP")
    edit = only_edit(settings, run_of(settings, measured(flops=3_643_000_000)))
    assert edit == Edit(
        path=("tool", "flopbudget", "budgets", "net", "flops"),
        where=f"{SOURCE}.flops",
        old="3.7 GFLOP",
        new="3.643 GFLOP",
        why="tightened; test_net measured 3.643 GFLOP",
    )


def test_an_exceeded_maximum_is_loosened_to_what_was_measured() -> None:
    settings = settings_of(flops="3.6 GFLOP")
    edit = only_edit(settings, run_of(settings, measured(flops=3_643_000_000)))
    assert (edit.new, edit.why) == ("3.643 GFLOP", "loosened; test_net measured 3.643 GFLOP")


@pytest.mark.parametrize(
    ("raw", "new"),
    [
        ("2 GFLOP", "1.001 GFLOP"),
        ("2G", "1.001 GFLOP"),
        (2_000_000_000, 1_001_000_000),
        (2e9, 1_001_000_000),
    ],
    ids=["unit", "prefix", "integer", "float"],
)
def test_the_form_of_the_old_value_is_kept(raw: Any, new: Any) -> None:
    settings = settings_of(flops=raw)
    assert only_edit(settings, run_of(settings, measured(flops=1_001_000_000))).new == new


def test_each_bound_of_a_table_is_written_at_its_own_key() -> None:
    settings = settings_of(ops={"max": 9, "min": 3, "severity": "warn"})
    update = plan_update(settings, [run_of(settings, measured(ops=5))])
    assert [(edit.path[-2:], edit.old, edit.new, edit.why) for edit in update.edits] == [
        (("ops", "max"), 9, 5, "tightened; test_net measured 5"),
        (("ops", "min"), 3, 5, "tightened; test_net measured 5"),
    ]


@pytest.mark.parametrize(
    ("amount", "digits"),
    [
        # Four digits would be 3.642, which is less: five are 3.6424, which is not.
        (3_642_390_000, "3.6424 GFLOP"),
        (3_642_600_000, "3.643 GFLOP"),
        # Rounded at every digit up to nine it would be less than it is.
        (1_000_000_000_001, "1000000000001 FLOP"),
    ],
)
def test_a_maximum_is_rounded_up_only(amount: int, digits: str) -> None:
    settings = settings_of(flops="5 TFLOP")
    assert only_edit(settings, run_of(settings, measured(flops=amount))).new == digits


def test_a_maximum_that_rounding_would_loosen_is_left() -> None:
    settings = settings_of(flops="3.64261 GFLOP")
    update = plan_update(settings, [run_of(settings, measured(flops=3_642_600_000))])
    assert update.edits == ()


def test_a_second_update_changes_nothing() -> None:
    settings = settings_of(flops="4 GFLOP", peak_memory={"max": "1 GiB"}, ops={"equals": 3})
    value = measured(flops=3_642_345_678, peak_memory=94_371_841, ops=4)
    edits = plan_update(settings, [run_of(settings, value)]).edits
    assert len(edits) == 3
    again = settings_of(
        flops=edits[0].new, peak_memory={"max": edits[1].new}, ops={"equals": edits[2].new}
    )
    assert plan_update(again, [run_of(again, value)]).edits == ()


def test_the_most_of_all_tests_decides_a_maximum_and_the_least_a_minimum() -> None:
    settings = settings_of(ops={"max": 9, "min": 1})
    tests = [run_of(settings, measured(ops=count), name=f"test_{count}") for count in (4, 7, 5)]
    most, least = plan_update(settings, tests).edits
    assert (most.new, most.why) == (7, "tightened; test_7 measured 7, the most of 3")
    assert (least.new, least.why) == (4, "tightened; test_4 measured 4, the least of 3")


def test_equals_within_its_tolerance_is_left() -> None:
    settings = settings_of(macs={"equals": "1.814 GMAC", "tolerance": "0.1%"})
    # 0.1 % of 1.814 GMAC is 1 814 000.
    held = run_of(settings, measured(macs={"": 1_815_814_000}))
    broken = run_of(settings, measured(macs={"": 1_815_814_001}))
    assert plan_update(settings, [held]).edits == ()
    assert only_edit(settings, broken).new == "1.816 GMAC"


def test_equals_without_tolerance_is_written_to_the_last_digit() -> None:
    settings = settings_of(macs={"equals": "1.8 GMAC"})
    edit = only_edit(settings, run_of(settings, measured(macs={"": 1_814_073_344})))
    # Nine digits are 1.81407334 GMAC, one too few.
    assert edit.new == "1814073344 MAC"
    assert edit.why == "set; test_net measured 1.814 GMAC"


def test_equals_for_tests_that_differ_is_set_between_them_where_the_tolerance_reaches() -> None:
    settings = settings_of(ops={"equals": 1, "tolerance": 2})
    near = [run_of(settings, measured(ops=count), name=f"test_{count}") for count in (10, 14)]
    assert only_edit(settings, *near).new == 12
    far = [run_of(settings, measured(ops=count), name=f"test_{count}") for count in (10, 15)]
    update = plan_update(settings, far)
    assert update.edits == ()
    differ = "the tests that it bounds differ, and no one value holds for all"
    assert update.left == (f"{SOURCE}.ops.equals: left alone: {differ}",)


@pytest.mark.parametrize(
    ("metric", "raw", "why"),
    [
        ("latency", "1 ms", "it is sampled"),
        ("allocator_peak", "1 B", "it depends on the machine"),
        ("accuracy", {"max": 1}, "the test records it itself"),
        ("flops", {"max": 1, "on": "runner"}, "it is of the machine 'runner'"),
    ],
)
def test_what_is_no_exact_absolute_bound_is_left_and_told_when_broken(
    metric: str, raw: Any, why: str
) -> None:
    settings = settings_of(**{metric: raw})
    test = run_of(settings, measured(**{metric: 2.0}))
    broken = [replace(v, outcome=Outcome.OVER, reason="too much.") for v in test.verdicts]
    update = plan_update(settings, [replace(test, verdicts=tuple(broken))])
    assert update.edits == ()
    assert update.left == (f"{SOURCE}.{metric}: left alone, as {why}: too much.",)
    within = [replace(v, outcome=Outcome.WITHIN) for v in test.verdicts]
    assert plan_update(settings, [replace(test, verdicts=tuple(within))]).left == ()


def test_ratios_and_limits_against_a_baseline_are_never_rewritten() -> None:
    settings = settings_of(
        flops={"ratio_to": "teacher", "max": 0.5}, ops={"max": 1, "vs_baseline": "+5%"}
    )
    assert plan_update(settings, [run_of(settings, measured(flops=9, ops=9))]).edits == ()


def test_a_limit_at_the_test_is_told_with_the_value_to_write() -> None:
    limit = Limit(metric="flops", maximum=Fraction(10**9), source="test_a.py::test_b: @flop_budget")
    over = budgeted("test_a.py::test_b", measured(flops=1_500_000_000), limits=(limit,))
    within = budgeted("test_a.py::test_b", measured(flops=10**9), limits=(limit,))
    update = plan_update(ProjectSettings(), [over])
    assert update.edits == ()
    advice = 'write "1.5 GFLOP" as max (test_b measured 1.5 GFLOP)'
    assert update.left == (f"{limit.source}.flops: not rewritten; {advice}",)
    assert plan_update(ProjectSettings(), [within]).left == ()


@pytest.mark.parametrize("outcome", [TestOutcome.FAILED, TestOutcome.ERROR, TestOutcome.XFAILED])
def test_a_test_that_did_not_pass_is_not_used_and_told(outcome: TestOutcome) -> None:
    settings = settings_of(ops=9)
    update = plan_update(settings, [run_of(settings, measured(ops=4), outcome=outcome)])
    assert update.edits == ()
    assert update.left == (
        f"test_a.py::test_net: {outcome.value}, so what it measured is not used",
    )


def test_a_partial_measurement_is_not_used_and_told() -> None:
    settings = settings_of(ops=9)
    update = plan_update(settings, [run_of(settings, measured(ops=4, is_partial=True))])
    assert update.edits == ()
    assert update.left == ("test_a.py::test_net: the measurement is partial, so it is not used",)


def test_counts_with_uncounted_operators_are_no_budget_unless_strictness_is_off() -> None:
    settings = settings_of(flops="9 FLOP")
    low = measured(
        flops=4, uncounted=(Uncounted(operator="aten.cholesky.default", calls=1, shapes=()),)
    )
    strict = plan_update(settings, [run_of(settings, low)])
    assert strict.edits == ()
    (sentence,) = strict.left
    assert sentence.startswith("test_a.py::test_net: not used, as test_net ran an operator with no")
    loose = plan_update(settings, [run_of(settings, low, is_strict=False)])
    assert [edit.new for edit in loose.edits] == ["4 FLOP"]


@pytest.mark.parametrize("outcome", [TestOutcome.DESELECTED, TestOutcome.SKIPPED])
def test_a_budget_is_not_tightened_over_a_test_that_was_not_measured(outcome: TestOutcome) -> None:
    settings = settings_of(ops=9)
    small = run_of(settings, measured(ops=4), name="test_small")
    large = run_of(settings, name="test_large", outcome=outcome)
    refusal = f"{SOURCE}.ops: not tightened, as test_a.py::test_large was not measured"
    assert plan_update(settings, [small, large]).left == (refusal,)
    assert plan_update(settings, [small], [large]).left == (refusal,)
    assert plan_update(settings, [small, large]).edits == ()


def test_an_old_measurement_is_never_written_into_a_budget() -> None:
    settings = settings_of(ops=9)
    small = run_of(settings, measured(ops=4), name="test_small")
    large = run_of(settings, measured(ops=7), name="test_large")
    update = plan_update(settings, [small], [large])
    assert update.edits == ()
    assert update.left == (f"{SOURCE}.ops: not tightened, as {large.id} was not measured",)


def test_a_broken_budget_gives_way_though_another_test_was_not_measured() -> None:
    settings = settings_of(ops=3)
    small = run_of(settings, measured(ops=4), name="test_small")
    large = run_of(settings, name="test_large", outcome=TestOutcome.DESELECTED)
    assert only_edit(settings, small, large).new == 4


def test_a_budget_that_no_test_of_the_run_measured_is_passed_over_in_silence() -> None:
    settings = settings_of(ops=9)
    large = run_of(settings, name="test_large", outcome=TestOutcome.DESELECTED)
    assert plan_update(settings, [large]).left == ()


def test_a_default_is_told_and_not_rewritten() -> None:
    source = "pyproject.toml: tool.flopbudget.defaults"
    limit = Limit(metric="ops", maximum=Fraction(3), source=source)
    settings = ProjectSettings(defaults=(limit,), written={"defaults": {"ops": 3}})
    test = budgeted("test_a.py::test_b", measured(ops=4), limits=(limit,))
    update = plan_update(settings, [test])
    assert update.edits == ()
    assert update.left[0].startswith(f'{source}.ops: not rewritten; write "4" as max')


@given(
    values=st.lists(st.integers(0, 10**15), min_size=1, max_size=4),
    old=st.integers(0, 10**15),
    key=st.sampled_from(["max", "min"]),
    metric=st.sampled_from(["flops", "peak_memory", "params"]),
)
def test_what_is_written_holds_for_every_test_and_is_never_looser_than_needed(
    values: list[int], old: int, key: str, metric: str
) -> None:
    unit = {"flops": Dimension.FLOP, "peak_memory": Dimension.BYTE, "params": Dimension.ONE}[metric]
    settings = settings_of(**{metric: {key: f"{old}"}})
    tests = [
        run_of(settings, measured(**{metric: value}), name=f"test_{n}")
        for n, value in enumerate(values)
    ]
    edits = plan_update(settings, tests).edits
    current = parse_quantity(edits[0].new, unit) if edits else Fraction(old)
    sign = 1 if key == "max" else -1
    worst = max(sign * value for value in values)
    assert sign * current >= worst
    # Rounding at four digits moves a number by less than a thousandth of it.
    assert sign * current - worst <= abs(worst) / Fraction(1000)
    if sign * old >= worst:
        assert sign * current <= sign * old
