"""The comparison as other programs read it."""

from __future__ import annotations

import json
from dataclasses import fields, replace

from pytest_flopbudget.core.acceptance import parse_acceptances
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.report import Report
from pytest_flopbudget.core.settling import settle
from pytest_flopbudget.render.json import render_json

from ..builders import budgeted, limit, measured, reported


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
    # a gate adds to a plain comparison, or makes of it.
    gated = {"accepted", "pre_existing", "base_age", "missing_legs", "failed"}
    assert [key for key in parts - gated - {"added"} if not document[key]] == []


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
