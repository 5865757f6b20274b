"""Which machines are alike enough to compare what depends on them."""

from __future__ import annotations

import pytest

from pytest_flopbudget.core.machine import machine_difference

HERE = {"system": "Linux", "arch": "x86_64", "cpu": "AMD EPYC", "cpu_capability": "AVX2"}


def test_a_machine_is_like_itself_whatever_else_runs_on_it() -> None:
    assert machine_difference(HERE, {**HERE, "cores": 2, "runner": "x"}) == ""


@pytest.mark.parametrize("name", HERE)
def test_each_telling_fact_makes_another_machine(name: str) -> None:
    other = {**HERE, name: "other"}
    assert machine_difference(HERE, other) == f"{name} {HERE[name]}, here other"


def test_a_fact_that_one_side_does_not_tell_is_a_difference() -> None:
    without = {name: fact for name, fact in HERE.items() if name != "cpu_capability"}
    assert machine_difference(without, HERE) == "cpu_capability unknown, here AVX2"


def test_machines_of_which_nothing_is_known_are_not_taken_for_one() -> None:
    assert machine_difference({}, {"cores": 4}) == "neither tells what it is"
