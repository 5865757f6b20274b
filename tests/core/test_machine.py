"""Which machines are alike enough to compare what depends on them."""

from __future__ import annotations

import pytest

from pytest_flopbudget.core.machine import machine_difference, pace_difference
from pytest_flopbudget.core.report import Report

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


PACE = {
    **HERE,
    "cpu_flags": "avx avx2",
    "cores": 4,
    "cpu_quota": 3.5,
    "governor": "performance",
    "blas": "mkl 2024.2",
    "onednn": "3.7.1",
    "torch_threads": 2,
    "torch_interop_threads": 4,
    "gpu": "NVIDIA H100",
    "cuda": "12.8",
}
VERSIONS = {"python": "3.11.2", "torch": "2.13.0"}
REPORT = Report(machine=PACE, versions=VERSIONS)


def test_the_pace_is_the_same_whatever_the_amount_of_memory_and_the_runners_name() -> None:
    other = {**PACE, "memory_bytes": 2**34, "runner": "x", "ci": "github"}
    assert pace_difference(REPORT, Report(machine=other, versions=VERSIONS)) == ""


@pytest.mark.parametrize("name", PACE)
def test_each_fact_that_decides_a_latency_makes_another_pace(name: str) -> None:
    other = Report(machine={**PACE, name: "other"}, versions=VERSIONS)
    assert pace_difference(REPORT, other) == f"{name} {PACE[name]}, here other"


@pytest.mark.parametrize("name", VERSIONS)
def test_so_do_the_versions_of_what_runs_the_code(name: str) -> None:
    other = Report(machine=PACE, versions={**VERSIONS, name: "other", "pytest": "9"})
    assert pace_difference(REPORT, other) == f"{name} {VERSIONS[name]}, here other"
