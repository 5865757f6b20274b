"""Attribution: what spent a metric, and what moved it."""

from __future__ import annotations

import pytest

from pytest_flopbudget.core.attribution import Share, describe_share, movers, spenders
from pytest_flopbudget.core.measurement import (
    Counts,
    Measurement,
    ModuleSpending,
    OperatorSpending,
)
from pytest_flopbudget.core.metrics import Dimension


def measured(flops: dict[tuple[str, str], int]) -> Measurement:
    """A measurement whose modules spent these, each row in a module of its own."""
    modules = tuple(
        ModuleSpending(
            path=path,
            type="Linear",
            calls=1,
            operators=(OperatorSpending(operator=operator, calls=1, counts=Counts(flops=amount)),),
        )
        for (path, operator), amount in flops.items()
    )
    return Measurement(values={}, modules=modules)


def share(path: str, operator: str, amount: int) -> Share:
    return Share(path=path, operator=operator, amount=amount)


def test_spenders_come_largest_first_and_equal_ones_in_the_order_of_use() -> None:
    measurement = measured(
        {("a", "mm"): 5, ("b", "mm"): 9, ("c", "mm"): 5, ("d", "mm"): 0, ("e", "mm"): 1}
    )
    assert spenders(measurement, "flops") == (
        share("b", "mm", 9),
        share("a", "mm", 5),
        share("c", "mm", 5),
    )
    assert len(spenders(measurement, "flops", most=9)) == 4


def test_rows_of_one_place_are_added_up() -> None:
    row = measured({("a", "mm"): 5}).modules[0]
    assert spenders(Measurement(values={}, modules=(row, row)), "flops") == (share("a", "mm", 10),)


def test_movers_are_signed_and_come_by_size_without_those_that_stayed() -> None:
    base = measured({("a", "mm"): 5, ("b", "mm"): 9, ("gone", "mm"): 4})
    head = measured({("a", "mm"): 5, ("b", "mm"): 12, ("new", "mm"): 30})
    assert movers(base, head, "flops") == (
        share("new", "mm", 30),
        share("gone", "mm", -4),
        share("b", "mm", 3),
    )


def test_a_missing_side_spent_nothing() -> None:
    only = measured({("a", "mm"): 5})
    assert movers(None, only, "flops") == (share("a", "mm", 5),)
    assert movers(only, None, "flops") == (share("a", "mm", -5),)


@pytest.mark.parametrize("metric", ["latency", "arithmetic_intensity", "accuracy"])
def test_what_does_not_add_up_over_modules_is_not_attributed(metric: str) -> None:
    only = measured({("a", "mm"): 5})
    assert spenders(only, metric) == ()
    assert movers(None, only, metric) == ()


def test_a_share_reads_as_place_operator_and_amount() -> None:
    grown = share("layer4.0.conv2", "aten.convolution", 420_000_000)
    assert describe_share(grown, Dimension.FLOP) == "layer4.0.conv2 (aten.convolution) 420 MFLOP"
    assert (
        describe_share(grown, Dimension.FLOP, signed=True)
        == "layer4.0.conv2 (aten.convolution): +420 MFLOP"
    )
    shrunk = share("", "aten.add", -2048)
    assert describe_share(shrunk, Dimension.BYTE, signed=True) == "(top level) (aten.add): -2 KiB"
