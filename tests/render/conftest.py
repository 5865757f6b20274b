"""Two runs of one project, which show every part of a page."""

from __future__ import annotations

import pytest

from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.measurement import Uncounted, Value
from pytest_flopbudget.core.report import Git, Report, TestOutcome

from ..builders import budgeted, limit, measured, reported

FILE = "tests/test_models.py"


def timing(median: float) -> Value:
    return Value(value=median, low=median * 0.9, high=median * 1.1)


@pytest.fixture
def base() -> Report:
    return reported(
        budgeted(f"{FILE}::test_mlp", measured(macs={"fc1": 1000}), limits=(limit("macs", 1500),)),
        budgeted(f"{FILE}::test_soft", measured(macs={"fc": 10}), limits=(limit("macs", 30),)),
        budgeted(f"{FILE}::test_slim", measured(macs={"fc": 80}), limits=(limit("macs", 90),)),
        budgeted(f"{FILE}::test_same", measured(macs={"fc": 70}), limits=(limit("macs", 70),)),
        budgeted(f"{FILE}::test_free", measured(macs={"fc": 40}, latency=timing(0.01))),
        budgeted(f"{FILE}::test_old", measured(macs={"fc": 55})),
        budgeted(f"{FILE}::test_gone", measured(macs={"fc": 5}), limits=(limit("macs", 5),)),
        budgeted(f"{FILE}::test_flaky", measured(macs={"fc": 6})),
        git=Git(commit="b" * 40, branch="main", is_dirty=False),
        versions={"torch": "2.12.0"},
        machine={"cores": 4},
    )


@pytest.fixture
def head() -> Report:
    warns = limit("macs", 30, severity=Severity.WARN)
    sort = Uncounted(operator="aten.sort.default", calls=2, shapes=("f32[4]",))
    growth = limit("macs", vs_baseline=0.1)
    return reported(
        budgeted(
            f"{FILE}::test_mlp", measured(macs={"fc1": 3000}), limits=(limit("macs", 1500),), line=7
        ),
        budgeted(f"{FILE}::test_soft", measured(macs={"fc": 31}), limits=(warns,)),
        budgeted(f"{FILE}::test_slim", measured(macs={"fc": 60}), limits=(limit("macs", 65),)),
        budgeted(f"{FILE}::test_same", measured(macs={"fc": 70}), limits=(limit("macs", 70),)),
        budgeted(
            f"{FILE}::test_free", measured(macs={"fc": 44}, latency=timing(0.02), uncounted=(sort,))
        ),
        budgeted(f"{FILE}::test_renamed", measured(macs={"fc": 55})),
        budgeted(f"{FILE}::test_fresh", measured(macs={"fc": 9}), limits=(growth,)),
        budgeted(f"{FILE}::test_flaky", outcome=TestOutcome.SKIPPED),
        git=Git(commit="a" * 40, branch="topic", is_dirty=False),
        versions={"torch": "2.13.0"},
        machine={"cores": 8},
    )


@pytest.fixture
def comparison(base: Report, head: Report) -> Comparison:
    return compare(base, head)
