"""The page of all operators is what the formulas say of themselves."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from pytest_flopbudget.meters.formulas import FAMILIES, registry

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "operators.md"


@pytest.fixture(scope="module")
def rendered() -> str:
    return str(runpy.run_path(str(DOCS / "formula_table.py"))["render"]())


def test_the_page_is_what_the_formulas_say(rendered: str) -> None:
    stale = "docs/operators.md is stale; run: python docs/formula_table.py"
    assert PAGE.read_text(encoding="utf-8") == rendered, stale


def test_every_operator_with_a_formula_of_ours_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    families = {family.__name__ for family in FAMILIES}
    ours = {
        name.removeprefix("aten::")
        for name, rule in registry._FORMULAS.items()
        if getattr(rule, "__module__", None) in families
    }
    assert {"mm", "convolution", "gelu"} <= ours  # the registry was read at all
    assert {name for name in ours if f"`{name}`" not in page} == set()


def test_every_operator_declared_free_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    free = {name.removeprefix("aten::") for name in registry._FREE}
    assert {"clone", "empty"} <= free
    assert {name for name in free if f"`{name}`" not in page} == set()


def test_control_another_rule_makes_the_page_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    def invented(*, out: object) -> int:
        """FLOPs of nothing.

        out: []
        Counts 17 pancakes.
        Source: this test.
        """
        return 0

    invented.__module__ = FAMILIES[0].__name__
    monkeypatch.setitem(registry._FORMULAS, "aten::invented", invented)
    rendered = str(runpy.run_path(str(DOCS / "formula_table.py"))["render"]())
    assert "| `invented` | out: [] | 17 pancakes. | this test. |" in rendered
