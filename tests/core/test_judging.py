"""Judging: every bound below, at and above it, and what each verdict says."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.budgets import Budget, Limit, Severity
from pytest_flopbudget.core.judging import Context, judge, judge_test
from pytest_flopbudget.core.limits import parse_limit
from pytest_flopbudget.core.measurement import (
    Counts,
    Measurement,
    ModuleSpending,
    OperatorSpending,
    Samples,
    Uncounted,
    Value,
)
from pytest_flopbudget.core.metrics import METRICS, Better
from pytest_flopbudget.core.quantity import format_quantity
from pytest_flopbudget.core.verdicts import Outcome, Verdict

NOTHING = Context()


def limit(metric: str, raw: object) -> Limit:
    return parse_limit(metric, raw, where="here", machines=("bench",))


def holding(name: str = "", **values: float) -> Measurement:
    return Measurement(name=name, values={key: Value(value=v) for key, v in values.items()})


def spending(total: int, flops: dict[tuple[str, str], int]) -> Measurement:
    modules = tuple(
        ModuleSpending(
            path=path,
            type="Linear",
            calls=1,
            operators=(OperatorSpending(operator=operator, calls=1, counts=Counts(flops=amount)),),
        )
        for (path, operator), amount in flops.items()
    )
    return replace(holding(flops=total), modules=modules)


def timed(metric: str, value: float, low: float | None, high: float | None) -> Measurement:
    samples = Samples(
        rounds=20,
        warmup_rounds=2,
        threads=1,
        median=0.040,
        low=0.039,
        high=0.041,
        confidence=0.95,
        p95=0.05,
        p99=0.06,
        minimum=0.03,
        maximum=0.07,
        is_steady=True,
    )
    return Measurement(values={metric: Value(value=value, low=low, high=high)}, samples=samples)


def verdict_on(
    raw: object,
    measurement: Measurement | None,
    context: Context = NOTHING,
    *,
    metric: str = "flops",
    region: str = "",
) -> Verdict:
    return judge(limit(metric, raw), measurement, context, region=region, subject="test_x")


@pytest.mark.parametrize(
    ("raw", "value", "outcome"),
    [
        ({"max": 1000}, 999, Outcome.WITHIN),
        ({"max": 1000}, 1000, Outcome.WITHIN),
        ({"max": 1000}, 1001, Outcome.OVER),
        ({"max": 0}, 0, Outcome.WITHIN),
        ({"max": 0}, 1, Outcome.OVER),
        ({"min": 1000}, 999, Outcome.OVER),
        ({"min": 1000}, 1000, Outcome.WITHIN),
        ({"min": 1000}, 1001, Outcome.WITHIN),
        ({"equals": 1000}, 999, Outcome.OVER),
        ({"equals": 1000}, 1000, Outcome.WITHIN),
        ({"equals": 1000}, 1001, Outcome.OVER),
        # 1 % of 1000 is 10 either way.
        ({"equals": 1000, "tolerance": "1%"}, 989, Outcome.OVER),
        ({"equals": 1000, "tolerance": "1%"}, 990, Outcome.WITHIN),
        ({"equals": 1000, "tolerance": "1%"}, 1010, Outcome.WITHIN),
        ({"equals": 1000, "tolerance": "1%"}, 1011, Outcome.OVER),
        ({"equals": 1000, "tolerance": 3}, 997, Outcome.WITHIN),
        ({"equals": 1000, "tolerance": 3}, 996, Outcome.OVER),
        ({"min": 10, "max": 20}, 9, Outcome.OVER),
        ({"min": 10, "max": 20}, 15, Outcome.WITHIN),
        ({"min": 10, "max": 20}, 21, Outcome.OVER),
    ],
)
def test_a_count_is_held_to_its_bound_exactly(raw: object, value: int, outcome: Outcome) -> None:
    assert verdict_on(raw, holding(flops=value)).outcome is outcome


@given(st.integers(min_value=0, max_value=10**30), st.integers(min_value=-3, max_value=3))
def test_no_count_is_too_large_for_an_exact_comparison(bound: int, step: int) -> None:
    value = max(0, bound + step)
    verdict = judge(
        Limit(metric="flops", maximum=Fraction(bound)),
        holding(flops=value),
        NOTHING,
        region="",
        subject="test_x",
    )
    assert (verdict.outcome is Outcome.OVER) == (value > bound)


def test_a_recorded_decimal_meets_the_same_decimal() -> None:
    # As binary numbers 0.7 lies below seven tenths, which is what the limit says.
    assert Fraction(0.7) < Fraction(7, 10)
    assert verdict_on({"min": 0.7}, holding(accuracy=0.7), metric="accuracy").outcome is (
        Outcome.WITHIN
    )
    assert verdict_on({"min": 0.7}, holding(accuracy=0.699), metric="accuracy").outcome is (
        Outcome.OVER
    )


def test_a_broken_maximum_says_value_budget_and_by_how_much() -> None:
    verdict = verdict_on("1.2 GFLOP", holding(flops=1_310_000_000))
    # 1310 / 1200 = 1.0917
    assert verdict.reason == "test_x used 1.31 GFLOP, budget 1.2 GFLOP (+9.2 %)"
    assert verdict.value == 1_310_000_000
    assert verdict.bound == 1_200_000_000
    assert verdict.used == pytest.approx(1310 / 1200)
    assert verdict.is_failure


def test_a_budget_missed_by_one_operation_prints_that_operation() -> None:
    verdict = verdict_on("3.7 GFLOP", holding(flops=3_700_000_001))
    assert "used 3.700000001 GFLOP, budget 3.7 GFLOP" in verdict.reason


def test_a_broken_maximum_names_what_spent_most() -> None:
    head = spending(
        100, {("a", "aten.mm"): 20, ("b", "aten.mm"): 50, ("", "aten.add"): 29, ("c", "x"): 1}
    )
    assert verdict_on(90, head).reason == (
        "test_x used 100 FLOP, budget 90 FLOP (+11.1 %); most spent in b (aten.mm, 50 FLOP), "
        "(top level) (aten.add, 29 FLOP), a (aten.mm, 20 FLOP)"
    )


def test_with_a_baseline_a_broken_maximum_names_what_grew() -> None:
    base = spending(80, {("a", "aten.mm"): 30, ("b", "aten.mm"): 50})
    head = spending(100, {("a", "aten.mm"): 55, ("b", "aten.mm"): 45})
    assert verdict_on(90, head, Context(baseline={"": base})).reason == (
        "test_x used 100 FLOP, budget 90 FLOP (+11.1 %); most of the growth in "
        "a (aten.mm, +25 FLOP)"
    )


def test_a_budget_below_what_the_baseline_spent_names_the_spenders_when_nothing_grew() -> None:
    same = spending(100, {("a", "aten.mm"): 100})
    reason = verdict_on(90, same, Context(baseline={"": same})).reason
    assert reason.endswith("; most spent in a (aten.mm, 100 FLOP)")


def test_a_value_below_its_minimum_blames_no_spender() -> None:
    head = spending(100, {("a", "aten.mm"): 100})
    assert verdict_on({"min": 110}, head).reason == (
        "test_x used 100 FLOP, budget at least 110 FLOP (-9.1 %)"
    )


def test_a_broken_equality_says_its_tolerance() -> None:
    verdict = verdict_on({"equals": 1000, "tolerance": "0.1%"}, holding(flops=1100))
    assert verdict.reason == (
        "test_x used 1.1 kFLOP, budget 1 kFLOP \N{PLUS-MINUS SIGN} 0.1 % (+10 %)"
    )
    assert verdict.used == pytest.approx(1.1)


def test_a_region_is_named_in_the_sentence() -> None:
    verdict = verdict_on(10, holding("decode", flops=5), region="decode")
    assert verdict.reason == "test_x, region 'decode', used 5 FLOP, budget 10 FLOP (-50 %)"
    assert verdict.region == "decode"


def test_a_warning_is_over_and_no_failure() -> None:
    verdict = verdict_on({"max": 10, "severity": "warn"}, holding(flops=11))
    assert verdict.outcome is Outcome.OVER
    assert verdict.severity is Severity.WARN
    assert not verdict.is_failure


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (99, Outcome.IMPROVED),
        (100, Outcome.WITHIN),
        (101, Outcome.WITHIN),
        (105, Outcome.WITHIN),
        (106, Outcome.REGRESSED),
    ],
)
def test_growth_against_the_baseline_may_reach_what_is_allowed(
    value: int, outcome: Outcome
) -> None:
    context = Context(baseline={"": holding(flops=100)})
    assert verdict_on({"vs_baseline": "+5%"}, holding(flops=value), context).outcome is outcome


def test_a_regression_names_baseline_allowance_and_what_grew() -> None:
    context = Context(baseline={"": spending(100, {("a", "aten.mm"): 100})})
    head = spending(110, {("a", "aten.mm"): 110})
    verdict = verdict_on({"vs_baseline": "+5%"}, head, context)
    assert verdict.reason == (
        "test_x used 110 FLOP, baseline 100 FLOP, allowed +5 % (+10 %); "
        "most of the growth in a (aten.mm, +10 FLOP)"
    )
    assert verdict.bound == 105
    assert verdict.used is None


@pytest.mark.parametrize("allowed", ["+10%", "-10%"])
@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (0.71, Outcome.REGRESSED),
        (0.72, Outcome.WITHIN),
        (0.8, Outcome.WITHIN),
        (0.81, Outcome.IMPROVED),
    ],
)
def test_where_more_is_better_the_allowed_change_is_a_drop(
    allowed: str, value: float, outcome: Outcome
) -> None:
    # 0.8 less a tenth of it is 0.72.
    context = Context(baseline={"": holding(accuracy=0.8)})
    head = Measurement(values={"accuracy": Value(value=value, better=Better.HIGHER)})
    verdict = verdict_on({"vs_baseline": allowed}, head, context, metric="accuracy")
    assert verdict.outcome is outcome


def test_anything_is_growth_from_a_baseline_of_zero() -> None:
    context = Context(baseline={"": holding(flops=0)})
    assert verdict_on({"vs_baseline": "+5%"}, holding(flops=1), context).outcome is (
        Outcome.REGRESSED
    )


@pytest.mark.parametrize(
    "baseline",
    [
        None,
        {},
        {"": holding(macs=1)},
        {"": replace(holding(flops=1), is_partial=True)},
    ],
)
def test_a_missing_baseline_is_no_baseline_and_not_zero(
    baseline: dict[str, Measurement] | None,
) -> None:
    verdict = verdict_on({"vs_baseline": "+5%"}, holding(flops=9), Context(baseline=baseline))
    assert verdict.outcome is Outcome.NO_BASELINE
    assert verdict.reason == "test_x used 9 FLOP; the baseline has no flops of it"


def test_of_several_bounds_the_worst_outcome_is_the_verdict() -> None:
    raw = {"max": 100, "vs_baseline": "+5%"}
    grown = Context(baseline={"": holding(flops=50)})
    assert verdict_on(raw, holding(flops=90), grown).outcome is Outcome.REGRESSED
    assert verdict_on(raw, holding(flops=101), grown).outcome is Outcome.OVER
    assert verdict_on(raw, holding(flops=90)).outcome is Outcome.NO_BASELINE
    assert verdict_on(raw, holding(flops=101)).outcome is Outcome.OVER


def test_a_limit_that_is_kept_is_told_where_the_baseline_is_missing() -> None:
    verdict = verdict_on({"max": 100, "vs_baseline": "+5%"}, holding(flops=90))
    # 90 of 100 are 10 % less.
    assert verdict.reason == (
        "test_x used 90 FLOP, budget 100 FLOP (-10 %); the baseline has no flops of it"
    )
    assert verdict.bound is None


def test_within_two_bounds_the_nearest_is_named() -> None:
    assert verdict_on({"min": 10, "max": 100}, holding(flops=20)).bound == 10
    assert verdict_on({"min": 10, "max": 100}, holding(flops=80)).bound == 100


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.040, 0.044, Outcome.WITHIN),
        (0.040, 0.045, Outcome.WITHIN),
        (0.040, 0.046, Outcome.INCONCLUSIVE),
        (0.045, 0.050, Outcome.INCONCLUSIVE),
        (0.046, 0.050, Outcome.OVER),
        (None, None, Outcome.INCONCLUSIVE),
    ],
)
def test_a_latency_is_over_only_when_its_interval_lies_wholly_above(
    low: float | None, high: float | None, outcome: Outcome
) -> None:
    head = timed("latency", 0.0455, low, high)
    assert verdict_on("45 ms", head, metric="latency").outcome is outcome


def test_a_latency_over_budget_says_its_interval() -> None:
    verdict = verdict_on("45 ms", timed("latency", 0.0521, 0.0503, 0.054), metric="latency")
    # 52.1 / 45 = 1.1578
    assert verdict.reason == (
        "test_x took 52.1 ms (95 % interval 50.3 ms to 54 ms), budget 45 ms (+15.8 %)"
    )


def test_what_cannot_be_told_says_why() -> None:
    straddling = verdict_on("45 ms", timed("latency", 0.0455, 0.044, 0.047), metric="latency")
    assert "the interval holds the bound" in straddling.reason
    unknown = verdict_on("55 ms", timed("latency_p99", 0.05, None, None), metric="latency_p99")
    assert unknown.outcome is Outcome.INCONCLUSIVE
    assert "too few rounds" in unknown.reason


def test_a_percentile_without_an_interval_is_over_where_the_median_already_is() -> None:
    # The median's interval begins at 39 ms.
    head = timed("latency_p99", 0.06, None, None)
    assert verdict_on("38 ms", head, metric="latency_p99").outcome is Outcome.OVER
    assert verdict_on("40 ms", head, metric="latency_p99").outcome is Outcome.INCONCLUSIVE


def test_a_throughput_is_held_to_its_minimum_by_its_interval() -> None:
    head = timed("throughput", 100.0, 95.0, 105.0)
    for bound, outcome in ((95, Outcome.WITHIN), (100, Outcome.INCONCLUSIVE), (106, Outcome.OVER)):
        assert verdict_on({"min": bound}, head, metric="throughput").outcome is outcome


def test_timings_of_separate_runs_are_not_compared() -> None:
    head = timed("latency", 0.9, 0.8, 1.0)
    context = Context(baseline={"": timed("latency", 0.1, 0.1, 0.1)})
    verdict = verdict_on({"vs_baseline": "+5%"}, head, context, metric="latency")
    assert verdict.outcome is Outcome.NO_BASELINE
    assert verdict.reason.endswith("; timings of separate runs are not comparable")


def test_a_limit_for_another_machine_is_not_gated_here() -> None:
    raw = {"max": "45 ms", "on": "bench"}
    head = timed("latency", 0.9, 0.8, 1.0)
    elsewhere = verdict_on(raw, head, metric="latency")
    assert elsewhere.outcome is Outcome.NOT_GATED
    assert "for the machine 'bench'" in elsewhere.reason
    there = verdict_on(raw, head, Context(machines=frozenset({"bench"})), metric="latency")
    assert there.outcome is Outcome.OVER


@pytest.mark.parametrize(
    ("value", "outcome"), [(249, Outcome.WITHIN), (250, Outcome.WITHIN), (251, Outcome.OVER)]
)
def test_a_ratio_is_held_to_its_share_of_the_reference(value: int, outcome: Outcome) -> None:
    context = Context(references={"teacher": holding("teacher", flops=1000)})
    verdict = verdict_on({"ratio_to": "teacher", "max": 0.25}, holding(flops=value), context)
    assert verdict.outcome is outcome
    assert verdict.bound == 250
    assert "budget 0.25 of 'teacher', 250 FLOP" in verdict.reason


def test_a_ratio_of_timings_needs_both_intervals_apart() -> None:
    teacher = timed("latency", 0.100, 0.090, 0.110)
    context = Context(references={"teacher": teacher})
    # Half of the teacher's interval is 45 to 55 ms.
    for low, high, outcome in (
        (0.040, 0.045, Outcome.WITHIN),
        (0.050, 0.060, Outcome.INCONCLUSIVE),
        (0.056, 0.060, Outcome.OVER),
    ):
        head = timed("latency", 0.05, low, high)
        raw = {"ratio_to": "teacher", "max": 0.5}
        assert verdict_on(raw, head, context, metric="latency").outcome is outcome


def test_a_missing_reference_is_pending_until_nothing_more_will_come() -> None:
    raw = {"ratio_to": "teacher", "max": 0.25}
    known = {"teachers": holding("teachers", flops=1)}
    assert verdict_on(raw, holding(flops=1), Context(references=known)).outcome is Outcome.PENDING
    final = verdict_on(raw, holding(flops=1), Context(references=known, is_final=True))
    assert final.outcome is Outcome.NOT_MEASURED
    assert final.reason == (
        "test_x used 1 FLOP; no measurement is named 'teacher'; did you mean 'teachers'?"
    )


def test_a_reference_without_the_metric_is_said_at_once() -> None:
    context = Context(references={"teacher": holding("teacher", macs=1)})
    verdict = verdict_on({"ratio_to": "teacher", "max": 0.25}, holding(flops=1), context)
    assert verdict.outcome is Outcome.NOT_MEASURED
    assert verdict.reason.endswith("'teacher' was not measured for flops")


def test_a_metric_that_was_not_measured_fails_with_the_nearest_name() -> None:
    unmeasured = verdict_on("45 ms", holding(flops=1), metric="latency")
    assert unmeasured.outcome is Outcome.NOT_MEASURED
    assert unmeasured.is_failure
    assert unmeasured.reason == "test_x was not measured for latency"
    never = verdict_on({"min": 0.7}, holding(flops=1, acuracy=0.8), metric="accuracy")
    assert never.reason == "test_x never recorded 'accuracy'; did you mean 'acuracy'?"


def test_a_region_that_was_never_measured_is_named_with_the_nearest() -> None:
    budgets = [Budget(region="decoder", limits=(limit("flops", 10),))]
    (verdict,) = judge_test(budgets, [holding("decode", flops=5)], NOTHING, subject="test_x")
    assert verdict.outcome is Outcome.NOT_MEASURED
    assert verdict.region == "decoder"
    assert verdict.reason == ("test_x never measured the region 'decoder'; did you mean 'decode'?")


def test_a_budget_of_the_call_in_a_test_of_regions_says_where_it_could_go() -> None:
    budgets = [Budget(limits=(limit("flops", 10),))]
    (verdict,) = judge_test(budgets, [holding("decode", flops=5)], NOTHING, subject="test_x")
    assert verdict.reason == (
        "test_x never measured its own call; it measured only 'decode': "
        "tie the budget to one with region="
    )


def test_each_budget_is_held_to_its_own_region() -> None:
    budgets = [
        Budget(limits=(limit("flops", 10), limit("ops", 1))),
        Budget(region="decode", limits=(limit("flops", 10),)),
    ]
    measured = [holding(flops=11, ops=1), holding("decode", flops=9)]
    verdicts = judge_test(budgets, measured, NOTHING, subject="test_x")
    assert [(v.region, v.metric, v.outcome) for v in verdicts] == [
        ("", "flops", Outcome.OVER),
        ("", "ops", Outcome.WITHIN),
        ("decode", "flops", Outcome.WITHIN),
    ]


def test_what_a_test_records_is_found_from_the_budget_of_any_region() -> None:
    budgets = [Budget(region="decode", limits=(limit("accuracy", {"min": 0.7}),))]
    measured = [holding(accuracy=0.8), holding("decode", flops=9)]
    (verdict,) = judge_test(budgets, measured, NOTHING, subject="test_x")
    assert verdict.outcome is Outcome.WITHIN


def test_no_number_of_code_that_raised_is_judged() -> None:
    partial = replace(
        holding(flops=11),
        is_partial=True,
        uncounted=(Uncounted(operator="aten.x", calls=1, shapes=()),),
    )
    (verdict,) = judge_test([Budget(limits=(limit("flops", 10),))], [partial], NOTHING, subject="t")
    assert (verdict.outcome, verdict.value) == (Outcome.NOT_MEASURED, None)
    assert "t raised before its end, so that its flops say nothing" in verdict.reason


UNCOUNTED = (
    Uncounted(operator="aten.cholesky.default", calls=3, shapes=("f32[64,64]", "f32[8,8]")),
    Uncounted(operator="my.op.default", calls=1, shapes=()),
)


@pytest.mark.parametrize("metric", ["flops", "macs", "int_ops", "arithmetic_intensity"])
def test_an_uncounted_operator_breaks_a_strict_budget_of_counts(metric: str) -> None:
    head = replace(holding(**{metric: 5}), uncounted=UNCOUNTED)
    budget = Budget(limits=(limit(metric, 10),))
    within, strict = judge_test([budget], [head], NOTHING, subject="test_x")
    assert within.outcome is Outcome.WITHIN
    assert strict.is_failure
    assert (strict.metric, strict.value, strict.bound) == ("uncounted", 2, 0)
    assert strict.reason == (
        "test_x ran 2 operators with no formula, so that its counts are too low: "
        "aten.cholesky.default (3 calls, f32[64,64]), my.op.default (1 call); give each a "
        "formula with pytest_flopbudget.register_formula, or write strict = false"
    )


def test_an_uncounted_operator_only_warns_where_the_budget_is_not_strict() -> None:
    head = replace(holding(flops=5), uncounted=UNCOUNTED[:1])
    budget = Budget(limits=(limit("flops", 10),), is_strict=False)
    _, warning = judge_test([budget], [head], NOTHING, subject="test_x")
    assert warning.outcome is Outcome.OVER
    assert not warning.is_failure
    assert "ran an operator with no formula" in warning.reason


def test_an_uncounted_operator_does_not_touch_a_budget_of_memory() -> None:
    head = replace(holding(peak_memory=5), uncounted=UNCOUNTED)
    budget = Budget(limits=(limit("peak_memory", 10),))
    (verdict,) = judge_test([budget], [head], NOTHING, subject="test_x")
    assert verdict.outcome is Outcome.WITHIN


def test_of_many_uncounted_operators_the_first_five_are_listed() -> None:
    many = tuple(Uncounted(operator=f"my.op{n}", calls=1, shapes=()) for n in range(7))
    head = replace(holding(flops=5), uncounted=many)
    *_, strict = judge_test([Budget(limits=(limit("flops", 9),))], [head], NOTHING, subject="t")
    assert "my.op4 (1 call), 2 more;" in strict.reason
    assert "my.op5" not in strict.reason


@pytest.mark.parametrize("metric", [m.name for m in METRICS.values() if not m.unfit])
def test_every_metric_has_words_and_its_unit_in_a_sentence(metric: str) -> None:
    verdict = verdict_on(10, holding(**{metric: 20.0}), metric=metric)
    bound = format_quantity(10, METRICS[metric].dimension)
    assert f", budget {bound} (+100 %)" in verdict.reason


@pytest.mark.parametrize("metric", ["flops", "macs", "peak_memory", "allocator_peak"])
def test_zero_of_code_that_ran_no_operator_is_not_within(metric):
    nothing = holding(**{metric: 0, "ops": 0})
    verdict = verdict_on(5, nothing, metric=metric)
    assert verdict.outcome is Outcome.NOT_MEASURED
    assert f"test_x ran no operator of torch, so that its {metric} say nothing" in verdict.reason


def test_zero_is_within_where_it_is_meant_or_where_operators_ran():
    nothing = holding(flops=0, ops=0)
    assert verdict_on({"equals": 0}, nothing).outcome is Outcome.WITHIN
    assert verdict_on(0, nothing).outcome is Outcome.WITHIN
    assert verdict_on(5, holding(flops=0, ops=1)).outcome is Outcome.WITHIN
    # A model's size is known even where nothing of it ran.
    assert verdict_on(5, holding(params=4, ops=0), metric="params").outcome is Outcome.WITHIN


GROWTH = {"vs_baseline": "+10%"}


class TestOfThisMachine:
    """The allocator's peak is held to a baseline of the same machine alone."""

    @staticmethod
    def after(base: int, *, difference: str = "") -> Context:
        return Context(baseline={"": holding(allocator_peak=base)}, difference=difference)

    @pytest.mark.parametrize(
        ("value", "outcome"),
        [(110, Outcome.WITHIN), (111, Outcome.REGRESSED), (99, Outcome.IMPROVED)],
    )
    def test_growth_on_the_same_machine_is_judged(self, value: int, outcome: Outcome) -> None:
        held = holding(allocator_peak=value)
        verdict = verdict_on(GROWTH, held, self.after(100), metric="allocator_peak")
        assert verdict.outcome is outcome

    def test_a_baseline_of_another_machine_is_none(self) -> None:
        context = self.after(1, difference="cpu_capability AVX2, here AVX512")
        held = holding(allocator_peak=200, flops=3)
        verdict = verdict_on(GROWTH, held, context, metric="allocator_peak")
        assert verdict.outcome is Outcome.NO_BASELINE
        assert verdict.reason == (
            "test_x took 200 B of the allocator at its peak; the baseline is of another machine: "
            "cpu_capability AVX2, here AVX512"
        )

    def test_what_is_exact_is_held_to_any_machine(self) -> None:
        context = Context(baseline={"": holding(flops=1)}, difference="arch x86_64, here arm64")
        assert verdict_on(GROWTH, holding(flops=3), context).outcome is Outcome.REGRESSED

    def test_where_it_is_absent_the_verdict_says_why(self) -> None:
        held = replace(holding(flops=1), absent={"allocator_peak": "a profiler is running"})
        verdict = verdict_on("1 B", held, metric="allocator_peak")
        assert verdict.outcome is Outcome.NOT_MEASURED
        assert verdict.reason == (
            "test_x was not measured for allocator_peak: a profiler is running"
        )
