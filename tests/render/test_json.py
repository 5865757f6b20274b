"""The comparison as other programs read it."""

from __future__ import annotations

import json
from dataclasses import fields

from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.report import Report
from pytest_flopbudget.render.json import render_json


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
    # The two runs of the fixture have something of everything, but for new limits and notes.
    assert [key for key in parts - {"added"} if not document[key]] == []


def test_without_a_base_there_is_none(head: Report) -> None:
    assert json.loads(render_json(compare(None, head)))["base"] is None
