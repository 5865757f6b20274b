"""The page on budgets shows what the settings and the markers really read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pytest_flopbudget.core.budgets import Budget, Limit
from pytest_flopbudget.core.errors import SettingsError
from pytest_flopbudget.core.limits import parse_limit
from pytest_flopbudget.core.markers import Marker, read_marker, resolve_budgets
from pytest_flopbudget.core.measurement import Measurement, Value
from pytest_flopbudget.core.report import TestOutcome, TestReport
from pytest_flopbudget.core.settings import ProjectSettings, load_settings
from pytest_flopbudget.core.updating import plan_update
from pytest_flopbudget.store.budgetfile import rewrite

PAGE = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text(encoding="utf-8")
SHORTHANDS = {"latency_budget": "latency", "memory_budget": "peak_memory"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def rows(last_column: str) -> list[tuple[str, str, str]]:
    """Metric, value as written and last cell of the table with this last column."""
    _, _, table = PAGE.partition(f"| metric | written | {last_column} |\n")
    cells = [line.strip("| ").split(" | ") for line in table.partition("\n\n")[0].splitlines()]
    assert len(cells) > 1, "the page has no such table"
    return [(row[0].strip("`"), row[1].strip("`"), row[2]) for row in cells[1:]]


@pytest.fixture
def settings(tmp_path: Path) -> ProjectSettings:
    """All settings of the page in one file."""
    path = tmp_path / "pyproject.toml"
    path.write_text("\n".join(blocks("toml")), encoding="utf-8")
    return load_settings(path, display="pyproject.toml")


def markers(settings: ProjectSettings) -> Iterator[tuple[str, Marker]]:
    """Every marker of the page, with the name of its test."""
    for block in blocks("python"):
        for test in ast.parse(block).body:
            assert isinstance(test, ast.FunctionDef)
            for call in test.decorator_list:
                assert isinstance(call, ast.Call)
                assert isinstance(call.func, ast.Attribute)
                args: list[Any] = [ast.literal_eval(arg) for arg in call.args]
                kwargs = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
                if call.func.attr in SHORTHANDS:
                    kwargs = {SHORTHANDS[call.func.attr]: args.pop()}
                yield test.name, read_marker(args, kwargs, settings=settings, where=test.name)


def test_the_settings_mean_what_their_comments_say(settings: ProjectSettings) -> None:
    limits = {limit.metric: limit for limit in settings.budgets["resnet18"]}
    assert limits["flops"].maximum == 3_700_000_000
    assert limits["peak_memory"].severity.value == "warn"
    tolerance = limits["macs"].tolerance
    assert tolerance is not None
    assert (tolerance.amount, tolerance.is_relative) == (Fraction(1, 1000), True)
    assert limits["arithmetic_intensity"].minimum == 12
    assert (limits["params"].minimum, limits["params"].maximum) == (11_000_000, 12_000_000)
    assert limits["latency"].on == "github-4core"
    assert limits["bytes_moved"].vs_baseline == Fraction(5, 100)
    assert limits["accuracy"].minimum == Fraction(76, 100)


def test_every_marker_is_read(settings: ProjectSettings) -> None:
    found = list(markers(settings))
    # One decorator each for three tests, and two each for two.
    assert len(found) == 7
    bounded = {(name, limit.metric) for name, marker in found for limit in marker.limits}
    assert {("test_in_short", "latency"), ("test_in_short", "peak_memory")} <= bounded
    ratio = [lim for _, marker in found for lim in marker.limits if lim.ratio_to == "teacher"]
    assert [limit.maximum for limit in ratio] == [Fraction(1, 4)]


def test_a_marker_beats_the_budget_it_names_and_that_beats_the_defaults(
    settings: ProjectSettings,
) -> None:
    (marker,) = (m for name, m in markers(settings) if name == "test_named_but_for_one_metric")
    matched = "tests/models/test_a.py::test_forward[case]"

    def bounds(*closest: Marker, test_id: str = "t.py::t") -> dict[str, Limit]:
        (budget,) = resolve_budgets(test_id, closest, settings)
        return {limit.metric: limit for limit in budget.limits}

    assert bounds(marker)["flops"].maximum == 3_650_000_000
    assert bounds(marker)["peak_memory"].maximum == 90 * 1024**2
    assert bounds(test_id=matched)["peak_memory"].maximum == 90 * 1024**2
    ops = Marker(limits=(Limit(metric="ops", maximum=Fraction(1)),))
    assert bounds(ops)["peak_memory"].maximum == 1024**3
    assert resolve_budgets("t.py::t", (), settings) == ()


@pytest.mark.parametrize(("metric", "written", "amount"), rows("is"))
def test_a_quantity_is_the_amount_that_stands_beside_it(
    metric: str, written: str, amount: str
) -> None:
    limit = parse_limit(metric, ast.literal_eval(written), where="page", machines=())
    assert limit.maximum == Fraction(amount)


@pytest.mark.parametrize(("metric", "written", "answer"), rows("answer"))
def test_a_mistake_gets_the_answer_that_stands_beside_it(
    metric: str, written: str, answer: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_limit(metric, ast.literal_eval(written), where="page", machines=())
    assert answer in str(caught.value)


def test_an_update_says_the_lines_that_are_shown(settings: ProjectSettings) -> None:
    limits = tuple(
        limit for limit in settings.budgets["resnet18"] if limit.metric in ("flops", "params")
    )
    test = TestReport(
        id="test_models.py::test_named",
        file="test_models.py",
        line=1,
        outcome=TestOutcome.PASSED,
        budgets=(Budget(limits=limits),),
        measurements=(
            Measurement(
                values={"flops": Value(value=3_643_000_000), "params": Value(value=11_689_512)}
            ),
        ),
    )
    update = plan_update(settings, [test])
    _, said = rewrite("\n".join(blocks("toml")), update.edits)
    (shown,) = blocks("text")
    assert sorted(said) == sorted(shown.splitlines())
