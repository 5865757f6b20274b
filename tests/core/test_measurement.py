"""Sums over modules and operators, and the values by name."""

from __future__ import annotations

import pytest

from pytest_flopbudget.core.measurement import (
    COUNTED,
    Counts,
    Measurement,
    ModuleSpending,
    OperatorSpending,
    Value,
)


def module(path: str, *rows: tuple[str, int, int]) -> ModuleSpending:
    """A module whose operators are given as name, calls and FLOPs."""
    return ModuleSpending(
        path=path,
        type="Module",
        calls=1,
        operators=tuple(
            OperatorSpending(operator=name, calls=calls, counts=Counts(flops=flops))
            for name, calls, flops in rows
        ),
    )


# The root adds 1, layer1.0 spends 10 and 100 below layer1, which itself only leads there.
M = Measurement(
    values={"flops": Value(value=1111), "accuracy": Value(value=0.5)},
    modules=(
        module("", ("aten.add", 1, 1)),
        module("layer1.0", ("aten.mm", 1, 10), ("aten.add", 2, 100)),
        module("layer2", ("aten.mm", 3, 1000)),
    ),
)


def test_counts_add_up_field_by_field() -> None:
    ones = Counts(**dict.fromkeys(COUNTED, 1))
    assert ones + ones == Counts(**dict.fromkeys(COUNTED, 2))
    assert Counts.total([ones, ones, ones]) == Counts(**dict.fromkeys(COUNTED, 3))
    assert Counts.total([]) == Counts()


def test_counts_that_are_zero_are_left_out_of_the_dictionary() -> None:
    assert Counts(flops=3, ops=1).as_dict() == {"flops": 3, "ops": 1}


def test_a_module_counts_what_is_below_it_and_knows_its_own() -> None:
    by_module = M.by_module
    assert {path: counts.flops for path, counts in by_module.items()} == {
        "": 1111,
        "layer1": 110,
        "layer1.0": 110,
        "layer2": 1000,
    }
    assert by_module[""].own.flops == 1
    assert by_module["layer1"].own.flops == 0
    assert by_module["layer1.0"].own.flops == 110


def test_the_root_is_there_even_when_nothing_ran() -> None:
    assert Measurement(values={}).by_module[""].flops == 0


def test_operators_are_summed_over_modules_in_the_order_of_first_use() -> None:
    assert [(row.operator, row.calls, row.counts.flops) for row in M.operators] == [
        ("aten.add", 3, 101),
        ("aten.mm", 4, 1010),
    ]
    assert {name: counts.flops for name, counts in M.by_operator.items()} == {
        "aten.add": 101,
        "aten.mm": 1010,
    }


def test_own_counts_of_all_modules_add_up_to_the_region() -> None:
    assert Counts.total(row.own for row in M.modules).flops == M.flops == 1111


def test_a_metric_that_was_not_measured_is_named_with_those_that_were() -> None:
    assert M.accuracy == 0.5
    with pytest.raises(AttributeError, match=r"'latency' was not .* has flops, accuracy"):
        _ = M.latency
    with pytest.raises(AttributeError, match="has nothing"):
        _ = Measurement(values={}).flops


def test_what_the_callable_returned_is_no_part_of_equality_or_text() -> None:
    with_output = Measurement(values=M.values, modules=M.modules, output="secret")
    assert with_output == M
    assert "secret" not in repr(with_output)
