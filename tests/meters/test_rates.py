"""FLOPs per second and the share of the roof, from scripted times and roofs."""

from __future__ import annotations

import pytest
import torch

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.measurement import Measurement, Value
from pytest_flopbudget.meters import rates
from pytest_flopbudget.meters.rates import flops_by_dtype, utilization, with_rates

from ..builders import sampled

# [32, 48] by [48, 64]
FLOPS = 2 * 32 * 48 * 64


def _counted(flops: int, int_ops: int = 0) -> Measurement:
    values = {"flops": Value(value=flops), "int_ops": Value(value=int_ops)}
    return Measurement(values=values, absent={"rss_peak": "no mark"})


@pytest.fixture(autouse=True)
def roofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 at 100 FLOP/s and bfloat16 at 400, on three threads."""

    def rate_of(dtype: str, threads: int) -> float:
        assert threads == 3
        try:
            return {"float32": 100.0, "bfloat16": 400.0}[dtype]
        except KeyError:
            raise MeasureError(f"the rate of {dtype} is not measured") from None

    monkeypatch.setattr(rates, "rate_of", rate_of)


def test_the_rate_is_flops_by_the_median_and_its_interval_is_turned_round() -> None:
    timed = with_rates(_counted(100), sampled(2.0, 1.0, 4.0, threads=3), None)
    # 100 FLOP in 2 s, and between 1 and 4 s.
    assert timed.values["flops_per_second"] == Value(value=50.0, low=25.0, high=100.0)
    assert "utilization" not in timed.values
    assert timed.absent == {"rss_peak": "no mark"}


def test_the_share_is_of_the_roof_of_the_dtype_that_did_most() -> None:
    samples = sampled(2.0, 1.0, 4.0, threads=3)
    timed = with_rates(_counted(100), samples, lambda: {"float32": 10, "bfloat16": 90})
    assert timed.values["utilization"] == Value(value=50 / 400, low=25 / 400, high=100 / 400)


def test_more_than_the_roof_is_not_hidden() -> None:
    timed = with_rates(_counted(300), sampled(1.0, 1.0, 1.0, threads=3), lambda: {"float32": 1})
    assert timed.values["utilization"].value == 3.0


@pytest.mark.parametrize(
    ("flops", "why"),
    [
        ({"float32": 11, "bfloat16": 89}, "of several dtypes, .*: bfloat16 89%, float32 11%"),
        ({}, "the dtype that its FLOPs ran in is not known"),
        ({"float32": 0}, "the dtype that its FLOPs ran in is not known"),
        ({"no floating-point dtype": 5}, "the dtype that its FLOPs ran in is not known"),
        ({"complex64": 5}, "the rate of complex64 is not measured"),
    ],
)
def test_without_one_roof_there_is_no_share_and_a_reason(flops: dict[str, int], why: str) -> None:
    with pytest.raises(MeasureError, match=why):
        utilization(Value(value=1.0), flops, 3)
    timed = with_rates(_counted(100), sampled(1.0, 1.0, 1.0, threads=3), lambda: flops)
    assert timed.values["flops_per_second"].value == 100.0
    assert timed.absent.keys() == {"rss_peak", "utilization"}


@pytest.mark.parametrize(("int_ops", "is_held"), [(9, True), (10, True), (11, False)])
def test_work_that_is_mostly_in_integers_is_not_held_to_a_roof_of_flops(
    int_ops: int, *, is_held: bool
) -> None:
    # Of 100 operations, 10 may be of integers.
    counted = _counted(90, int_ops=int_ops)
    timed = with_rates(counted, sampled(1.0, 1.0, 1.0, threads=3), lambda: {"float32": 90})
    assert timed.values["flops_per_second"].value == 90.0
    assert ("utilization" in timed.values) is is_held
    if not is_held:
        said = "11% of its arithmetic is in integers, which are int_ops and no FLOPs"
        assert timed.absent["utilization"] == said


@pytest.mark.parametrize(
    ("counted", "low", "why"),
    [
        (_counted(0), 1.0, "the region does no floating-point arithmetic"),
        (
            _counted(0, int_ops=7),
            1.0,
            (
                "the region does no floating-point arithmetic: it computes in integers, "
                "which are int_ops"
            ),
        ),
        (_counted(7), 0.0, "the clock is too coarse to see a call"),
    ],
)
def test_what_has_no_rate_has_no_share_either(counted: Measurement, low: float, why: str) -> None:
    timed = with_rates(counted, sampled(1.0, low, 1.0, threads=3), dict)
    assert timed.values.keys() == {"flops", "int_ops"}
    assert (timed.absent["flops_per_second"], timed.absent["utilization"]) == (why, why)


def test_flops_are_told_by_the_dtype_that_they_ran_in() -> None:
    a, b = torch.ones(32, 48), torch.ones(48, 64)
    small = torch.ones(16, 16, dtype=torch.bfloat16)
    wide = torch.ones(2, 2, dtype=torch.float64)

    def mixed(scale: float) -> torch.Tensor:
        torch.mm(a, b) * scale  # and one for each of 32 * 64 products
        torch.mm(small.to(torch.float32).to(torch.bfloat16), small)
        return wide + wide

    assert flops_by_dtype(mixed, (), {"scale": 2.0}) == {
        "float32": FLOPS + 32 * 64,
        "bfloat16": 2 * 16**3,
        "float64": 4,
    }


def test_a_training_step_under_autocast_is_told_apart() -> None:
    layer = torch.nn.Linear(8, 8, bias=False)
    x = torch.ones(4, 8)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = layer(x)
        out.sum().backward()

    found = flops_by_dtype(step, (), {})
    # Forward, and backward to the weight: x needs no gradient. The sum has 31 additions.
    product = 2 * 4 * 8 * 8
    assert found["bfloat16"] == 2 * product + 31
    assert set(found) - {"bfloat16"} <= {"float32"}
    assert found.get("float32", 0) == 0


def test_operators_made_of_others_are_told_by_what_they_are_made_of() -> None:
    a = torch.ones(2, 4, 8, 16, dtype=torch.float64)
    found = flops_by_dtype(torch.einsum, ("bhqd,bhkd->bhqk", a, a), {})
    assert found["float64"] == 2 * 2 * 4 * 8 * 8 * 16


def test_counting_once_more_leaves_the_random_state() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2, generator=torch.Generator().manual_seed(1))
    flops_by_dtype(torch.rand, (3,), {})
    assert torch.equal(torch.rand(2), expected)
