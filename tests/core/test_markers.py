"""Markers, match rules and defaults: who beats whom, and what a marker may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_flopbudget.core.budgets import Budget
from pytest_flopbudget.core.errors import SettingsError
from pytest_flopbudget.core.markers import Marker, matches_any, read_marker, resolve_budgets
from pytest_flopbudget.core.settings import ProjectSettings, load_settings

FILE = """
[tool.flopbudget.budgets.small]
flops = 10
ops = 10

[tool.flopbudget.budgets.smaller]
ops = 5

[tool.flopbudget.defaults]
flops = 1000
params = 1000

[[tool.flopbudget.match]]
tests = "tests/test_*.py::test_forward*"
budget = "small"

[[tool.flopbudget.match]]
tests = "tests/test_b.py::*"
budget = "smaller"

[[tool.flopbudget.match]]
tests = "tests/test_c.py::test_exact"
budget = "small"
"""

WHERE = "tests/test_a.py::test_x: @flop_budget"


@pytest.fixture
def settings(tmp_path: Path) -> ProjectSettings:
    path = tmp_path / "pyproject.toml"
    path.write_text(FILE, encoding="utf-8")
    return load_settings(path, display="pyproject.toml")


def read(settings: ProjectSettings, *args: object, **kwargs: object) -> Marker:
    return read_marker(args, kwargs, settings=settings, where=WHERE)


def maxima(budget: Budget) -> dict[str, Any]:
    return {limit.metric: limit.maximum for limit in budget.limits}


def test_a_marker_takes_named_budgets_limits_and_its_three_arguments(
    settings: ProjectSettings,
) -> None:
    marker = read(settings, "small", region="decode", name="student", strict=False, macs="2 kMAC")
    assert (marker.region, marker.name, marker.strict) == ("decode", "student", False)
    assert {limit.metric: limit.maximum for limit in marker.limits} == {
        "flops": 10,
        "ops": 10,
        "macs": 2000,
    }


def test_an_inline_limit_beats_the_named_budget_and_a_later_name_an_earlier(
    settings: ProjectSettings,
) -> None:
    marker = read(settings, "small", "smaller", flops=3)
    assert {limit.metric: limit.maximum for limit in marker.limits} == {"flops": 3, "ops": 5}
    sources = {limit.metric: limit.source for limit in marker.limits}
    assert sources == {
        "flops": WHERE,
        "ops": "pyproject.toml: tool.flopbudget.budgets.smaller",
    }


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (("smal",), {}, ": unknown budget 'smal'; did you mean 'small'?"),
        (
            (3,),
            {},
            ": 3 is no name of a budget; write a limit with its metric, such as flops='1.5 GFLOP'",
        ),
        ((), {"strict": "no"}, ".strict: must be True or False, not 'no'"),
        ((), {"region": 3}, ".region: cannot read 3; write a name"),
        ((), {"name": ["a"]}, ".name: cannot read ['a']; write a name"),
        ((), {"flop": 3}, ".flop: no metric is called 'flop'; write 'flops', "),
        ((), {"flops": {"mux": 3}}, ".flops.mux: unknown key 'mux'; did you mean 'max'?"),
        ((), {"region": "decode"}, ": bounds nothing; write the name of a budget, "),
    ],
)
def test_a_mistake_in_a_marker_names_the_test_and_the_cure(
    settings: ProjectSettings, args: tuple[object, ...], kwargs: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(settings, *args, **kwargs)
    assert str(caught.value).startswith(WHERE + message)


def test_a_marker_without_arguments_needs_defaults_to_bound_anything(
    settings: ProjectSettings,
) -> None:
    assert read(settings) == Marker()
    with pytest.raises(SettingsError, match="bounds nothing; write the name of a budget"):
        read(ProjectSettings())


def test_a_marker_may_only_name_a_measurement() -> None:
    assert read(ProjectSettings(), name="teacher") == Marker(name="teacher")


def test_marker_beats_match_beats_defaults_metric_by_metric(settings: ProjectSettings) -> None:
    marker = read(settings, ops=7)
    (budget,) = resolve_budgets("tests/test_a.py::test_forward", [marker], settings)
    assert budget.region == ""
    # ops from the marker, flops from the rule, params from the defaults.
    assert maxima(budget) == {"ops": 7, "flops": 10, "params": 1000}


def test_of_several_matching_rules_the_last_is_the_strongest(settings: ProjectSettings) -> None:
    (budget,) = resolve_budgets("tests/test_b.py::test_forward", [], settings)
    assert maxima(budget) == {"ops": 5, "flops": 10, "params": 1000}


def test_a_test_that_nothing_asks_to_bound_has_no_budget(settings: ProjectSettings) -> None:
    assert resolve_budgets("tests/test_a.py::test_other", [], settings) == ()


def test_defaults_leave_a_test_alone_that_only_bounds_a_region(settings: ProjectSettings) -> None:
    marker = read(settings, region="decode", flops=3)
    (budget,) = resolve_budgets("tests/test_a.py::test_other", [marker], settings)
    assert (budget.region, maxima(budget)) == ("decode", {"flops": 3})


def test_markers_of_one_region_merge_and_the_closest_wins(settings: ProjectSettings) -> None:
    markers = [
        read(settings, flops=1, strict=True),
        read(settings, flops=2, macs=2, strict=False, name="far"),
        read(settings, region="decode", flops=3),
    ]
    call, decode = resolve_budgets("tests/test_a.py::test_other", markers, settings)
    assert maxima(call) == {"flops": 1, "macs": 2, "params": 1000}
    assert (call.is_strict, call.name) == (True, "far")
    assert (decode.region, maxima(decode)) == ("decode", {"flops": 3})


@pytest.mark.parametrize(
    ("of_settings", "of_marker", "is_strict"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_strictness_is_the_settings_unless_the_marker_says(
    of_settings: bool, of_marker: bool | None, is_strict: bool
) -> None:
    settings = ProjectSettings(strict=of_settings)
    marker = read(settings, flops=1, strict=of_marker)
    (budget,) = resolve_budgets("tests/test_a.py::test_x", [marker], settings)
    assert budget.is_strict is is_strict


@pytest.mark.parametrize(
    ("test_id", "is_match"),
    [
        ("tests/test_a.py::test_forward", True),
        ("tests/test_a.py::test_forward[1-True]", True),
        ("tests/test_a.py::TestIt::test_forward", False),
        ("tests/test_c.py::test_exact[a::b[c]]", True),
        ("tests/test_c.py::test_exactly", False),
        ("other/test_a.py::test_forward", False),
    ],
)
def test_a_rule_matches_ids_with_and_without_their_parameters(
    settings: ProjectSettings, test_id: str, is_match: bool
) -> None:
    assert matches_any(test_id, settings) is is_match
    assert bool(resolve_budgets(test_id, [], settings)) is is_match
