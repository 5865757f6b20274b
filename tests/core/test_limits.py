"""Limits: every form that a budget may be written in, and every way to get it wrong."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pytest_flopbudget.core.budgets import Limit, Severity, Tolerance
from pytest_flopbudget.core.errors import SettingsError
from pytest_flopbudget.core.limits import parse_limit

WHERE = "pyproject.toml: tool.flopbudget.budgets.small"
MACHINES = ("github-4core", "bench")


def read(metric: str, raw: object) -> Limit:
    return parse_limit(metric, raw, where=WHERE, machines=MACHINES)


def fault(metric: str, raw: object) -> str:
    with pytest.raises(SettingsError) as caught:
        read(metric, raw)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_bare_value_is_a_maximum() -> None:
    assert read("flops", "3.7 GFLOP") == Limit(
        metric="flops", maximum=Fraction(3_700_000_000), source=WHERE
    )
    assert read("flops", 12).maximum == 12


def test_a_table_may_hold_both_bounds_a_machine_and_a_severity() -> None:
    limit = read("latency", {"min": "1 ms", "max": "45 ms", "on": "bench", "severity": "warn"})
    assert (limit.minimum, limit.maximum) == (Fraction(1, 1000), Fraction(45, 1000))
    assert limit.on == "bench"
    assert limit.severity is Severity.WARN


def test_bounds_may_be_equal() -> None:
    assert read("ops", {"min": 3, "max": 3}).minimum == 3


def test_a_tolerance_in_percent_is_a_share_and_any_other_an_amount() -> None:
    share = read("macs", {"equals": "1.814 GMAC", "tolerance": "0.1%"})
    assert share.equals == 1_814_000_000
    assert share.tolerance == Tolerance(amount=Fraction(1, 1000), is_relative=True)
    amount = read("macs", {"equals": "1.814 GMAC", "tolerance": "2 MMAC"})
    assert amount.tolerance == Tolerance(amount=Fraction(2_000_000), is_relative=False)


def test_a_change_against_the_baseline_is_a_share() -> None:
    assert read("latency", {"vs_baseline": "+5%"}).vs_baseline == Fraction(1, 20)


def test_against_another_measurement_the_bounds_are_ratios() -> None:
    limit = read("macs", {"ratio_to": "teacher", "max": 0.25, "min": "5%"})
    assert limit.ratio_to == "teacher"
    assert (limit.minimum, limit.maximum) == (Fraction(1, 20), Fraction(1, 4))


def test_a_metric_that_the_test_records_takes_plain_numbers_of_either_sign() -> None:
    assert read("accuracy", {"min": 0.76}).minimum == Fraction(76, 100)
    assert read("log_likelihood", {"min": -3.5}).minimum == Fraction(-7, 2)
    assert read("accuracy", {"min": "76%"}).minimum == Fraction(76, 100)


@pytest.mark.parametrize(
    "metric", ["pass@1", "loss", "top1", "flops_per_token", "throughput_tokens"]
)
def test_a_name_unlike_any_metric_is_the_tests_own(metric: str) -> None:
    assert read(metric, 2).maximum == 2


@pytest.mark.parametrize(
    ("metric", "meant"),
    [
        ("flop", "flops"),
        ("Flops", "flops"),
        ("gflops", "flops"),
        ("mac", "macs"),
        ("param", "params"),
        ("parameters", "params"),
        ("memory", "peak_memory"),
        ("peak_mem", "peak_memory"),
        ("latancy", "latency"),
        ("latency_95", "latency_p95"),
        ("througput", "throughput"),
    ],
)
def test_a_misspelt_metric_is_answered_with_the_nearest(metric: str, meant: str) -> None:
    message = fault(metric, 5)
    assert message.startswith(f"{WHERE}.{metric}: no metric is called '{metric}'")
    assert f"write '{meant}'" in message


@pytest.mark.parametrize("metric", ["energy", "sparsity", "latency@T4", "cost@a100"])
def test_a_metric_of_the_design_that_is_not_measured_yet_is_refused(metric: str) -> None:
    assert fault(metric, 5) == f"{WHERE}.{metric}: this version does not measure '{metric}'"


def test_a_misspelt_planned_metric_is_refused_too() -> None:
    assert fault("sparsitty", 5) == f"{WHERE}.sparsitty: this version does not measure 'sparsity'"


def test_words_that_are_no_metrics_say_where_they_belong() -> None:
    assert "write it in the marker" in fault("strict", True)
    assert "'strict' decides" in fault("uncounted", 0)


@pytest.mark.parametrize(
    ("metric", "raw", "message"),
    [
        (
            "flops",
            "24 MBps",
            "flops: cannot read '24 MBps'; write a number and a unit, such as '1.5 GFLOP'",
        ),
        ("flops", [1], "flops: cannot read [1]; write a quantity or a table"),
        ("flops", True, "flops: cannot read True; write a quantity or a table"),
        ("flops", None, "flops: cannot read None; write a quantity or a table"),
        ("flops", {"max": None}, "flops.max: cannot read None; write a quantity or a table"),
        ("flops", {"maxx": 3}, "flops.maxx: unknown key 'maxx'; did you mean 'max'?"),
        (
            "flops",
            {"on": "bench"},
            "flops: bounds nothing; write 'max', 'min', 'equals' or 'vs_baseline'",
        ),
        (
            "flops",
            {"max": 3, "tolerance": 1},
            "flops: 'tolerance' is of 'equals'; write that too, or 'max' alone",
        ),
        (
            "flops",
            {"ratio_to": "teacher"},
            "flops: 'ratio_to' needs the greatest or least ratio; write 'max' or 'min'",
        ),
        (
            "flops",
            {"ratio_to": "teacher", "max": 1, "vs_baseline": "+5%"},
            "flops: 'ratio_to' goes with 'max' and 'min' alone",
        ),
        ("flops", {"min": "3 GFLOP", "max": 2}, "flops: min 3 GFLOP is more than max 2"),
        ("flops", {"max": 3, "ratio_to": ""}, "flops.ratio_to: cannot read ''; write a name"),
        (
            "flops",
            {"vs_baseline": [5]},
            "flops.vs_baseline: cannot read [5]; write a change, such as '+5%'",
        ),
        (
            "flops",
            {"vs_baseline": "5"},
            "flops.vs_baseline: cannot read '5'; write a change, such as '+5%'",
        ),
        (
            "latency",
            {"max": "45 ms", "on": "github-4cores"},
            "latency.on: unknown machine 'github-4cores'; did you mean 'github-4core'?",
        ),
        (
            "latency",
            {"max": "45 ms", "on": "zzz"},
            "latency.on: unknown machine 'zzz'; known are github-4core, bench",
        ),
        (
            "latency",
            {"max": "45 ms", "severity": "warning"},
            "latency.severity: unknown severity 'warning'; did you mean 'warn'?",
        ),
        (
            "accuracy",
            {"min": "45 ms"},
            (
                "accuracy.min: cannot read '45 ms'; write a number, such as '11.7 M', "
                "as the test records 'accuracy' itself"
            ),
        ),
    ],
)
def test_a_mistake_says_where_what_and_what_to_write(
    metric: str, raw: object, message: str
) -> None:
    assert fault(metric, raw) == f"{WHERE}.{message}"


def test_a_unit_of_the_wrong_count_is_never_converted_in_silence() -> None:
    assert "write '7.4 GFLOP'" in fault("flops", "3.7 GMAC")
    assert "is a rate" in fault("flops", {"max": "3.7 GFLOPS"})


def test_an_unknown_machine_where_none_is_defined_says_so() -> None:
    with pytest.raises(SettingsError, match="the settings define none"):
        parse_limit("latency", {"max": 1, "on": "bench"}, where=WHERE, machines=())


@pytest.mark.parametrize("other", ["max", "min"])
def test_exact_value_beside_a_bound_is_refused(other):
    with pytest.raises(
        SettingsError, match=r"f\.flops: 'equals' leaves no room for 'max' or 'min'"
    ):
        parse_limit("flops", {"equals": 3, other: 3}, where="f", machines=())


@pytest.mark.parametrize(
    "raw",
    [
        "90 MiB",
        {"max": "90 MiB", "on": "bench"},
        {"equals": "90 MiB", "tolerance": "10%"},
        {"equals": "90 MiB", "tolerance": "1 B"},
        {"vs_baseline": "+10%"},
        {"ratio_to": "teacher", "max": 0.5},
    ],
)
def test_the_allocators_peak_may_be_bounded_with_room(raw: object) -> None:
    assert read("allocator_peak", raw).metric == "allocator_peak"


@pytest.mark.parametrize(
    ("raw", "instead"),
    [
        ({"equals": "90 MiB"}, "'equals' needs a 'tolerance' above 0, such as '10%'"),
        ({"equals": 1, "tolerance": "0%"}, "'equals' needs a 'tolerance' above 0, such as '10%'"),
        ({"vs_baseline": "+0%"}, "'vs_baseline' needs room, such as '+10%'"),
        ({"vs_baseline": 0}, "'vs_baseline' needs room, such as '+10%'"),
        ({"max": 9, "vs_baseline": "-1%"}, "'vs_baseline' needs room, such as '+10%'"),
    ],
)
def test_the_allocators_peak_is_never_bounded_to_the_last_byte(raw: object, instead: str) -> None:
    assert fault("allocator_peak", raw) == (
        f"{WHERE}.allocator_peak: 'allocator_peak' depends on the processor's instruction set: "
        f"{instead}, or write 'activation_memory', which is exact"
    )


@pytest.mark.parametrize("raw", ["90 MiB", {"max": 1, "severity": "warn"}])
def test_resident_memory_takes_no_budget_and_says_what_does(raw: object) -> None:
    message = fault("rss_peak", raw)
    assert message.startswith(f"{WHERE}.rss_peak: 'rss_peak' is shown, and takes no budget: ")
    assert "bound 'peak_memory', or 'allocator_peak'" in message
