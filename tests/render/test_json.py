"""The comparison as other programs read it."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from pytest_flopbudget.core.acceptance import parse_acceptances
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.report import Report, TestOutcome
from pytest_flopbudget.core.settling import settle
from pytest_flopbudget.core.side_by_side import TimedOutcome
from pytest_flopbudget.render.json import render_json

from ..builders import BASE, HEAD, beside, budgeted, limit, measured, ratio, reported, timed


def test_values_are_unscaled_and_movers_are_named(comparison: Comparison) -> None:
    (over,) = json.loads(render_json(comparison))["over"]
    assert (over["test"], over["metric"], over["unit"]) == (
        "tests/test_models.py::test_mlp",
        "macs",
        "MAC",
    )
    assert (over["base"], over["head"], over["limit"]["max"]) == (1000, 3000, 1500)
    assert over["verdict"]["verdict"] == "over"
    assert over["movers"] == [{"path": "fc1", "operator": "aten.mm", "amount": 2000}]


def test_loosened_budgets_stand_before_all_other_lists(comparison: Comparison) -> None:
    lists = [
        key for key, value in json.loads(render_json(comparison)).items() if isinstance(value, list)
    ]
    assert lists[0] == "loosened"


def test_every_part_of_the_comparison_is_in_it(comparison: Comparison) -> None:
    left_out = {"has_base", "base_git", "head_git", "versions", "measured", "within"}
    parts = {field.name for field in fields(Comparison)} - left_out
    document = json.loads(render_json(comparison))
    assert parts <= document.keys()
    # The two runs of the fixture have something of everything, but for new limits, and what
    # a gate adds to a plain comparison.
    gated = {"accepted", "pre_existing", "base_age", "missing_legs"}
    beside_base = {"timed", "timings"}
    own_tests = {"added", "failed"} | beside_base
    assert [key for key in parts - gated - own_tests if not document[key]] == []


def test_a_limit_of_a_test_that_failed_before_it_was_measured_is_in_it() -> None:
    test = budgeted("t.py::t", measured(macs={"fc": 1}), limits=(limit("macs", 10),))
    failed = replace(test, outcome=TestOutcome.FAILED, measurements=(), verdicts=())
    document = json.loads(render_json(compare(reported(test), reported(failed))))
    (row,) = document["failed"]
    assert (row["test"], row["metric"], row["limit"]["max"]) == ("t.py::t", "macs", 10)
    assert row["verdict"]["verdict"] == "not measured"


def test_times_beside_the_base_are_in_it_with_how_they_were_taken() -> None:
    test = budgeted("t.py::t", measured(latency=0.006), limits=(limit("latency", 0.1),))
    found = timed(test, TimedOutcome.REGRESSED, ratio(1.2, spread=0.1), reason="took 6 ms")
    head = reported(test, git=HEAD, side_by_side=beside(found))
    document = json.loads(render_json(compare(reported(test, git=BASE), head)))
    (row,) = document["timed"]
    assert (row["test"], row["metric"], row["unit"], row["base"]) == (
        "t.py::t",
        "latency",
        "s",
        0.005,
    )
    assert row["timed"]["outcome"] == "regressed"
    assert row["timed"]["ratio"]["interval"] == pytest.approx([1.1, 1.3])
    assert row["timed"]["ratio"]["noise"] == 0.018
    (over,) = document["over"]
    assert over["timed"] == row["timed"]
    assert over["verdict"]["verdict"] == "regressed"
    (how,) = document["timings"]
    assert (how["base"], how["pairs"], how["environment"]["OMP_NUM_THREADS"]) == ("b" * 40, 5, "1")
    # What came of it stands at each test.
    assert "tests" not in how


def test_what_the_gate_adds_is_in_it() -> None:
    over = [
        budgeted(f"t.py::{name}", measured(macs={"": 12}), limits=(limit("macs", 10),))
        for name in ("old", "new")
    ]
    base, head = reported(over[0]), reported(*over)
    accepted, _ = parse_acceptances("Flop-Budget-Accept: t.py::new macs <= 12 - it pays")
    settled = replace(
        settle(compare(base, head), base, accepted), base_age=3, missing_legs=("py311",)
    )
    document = json.loads(render_json(settled))
    assert (document["base_age"], document["missing_legs"]) == (3, ["py311"])
    assert [one["test"] for one in document["pre_existing"]] == ["t.py::old"]
    (one,) = document["accepted"]
    assert (one["cap"], one["reason"], one["over"]["test"]) == (12, "it pays", "t.py::new")
    assert one["loosened"] is None


def test_without_a_base_there_is_none(head: Report) -> None:
    assert json.loads(render_json(compare(None, head)))["base"] is None
