"""The tables of inputs and outputs in the documentation are what the actions declare."""

from __future__ import annotations

import runpy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cmarkgfm
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
ACTIONS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("action/**/action.yml"))
generator = runpy.run_path(str(DOCS / "action_tables.py"))


class Cells(HTMLParser):
    """The rows of all tables below a comment, as text, up to the next one."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark
        self.is_below = self.is_cell = False
        self.rows: list[list[str]] = []

    def handle_comment(self, data: str) -> None:
        self.is_below = data.strip() == self.mark

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if self.is_below and tag == "tr":
            self.rows.append([])
        self.is_cell = tag in {"td", "th"} or (self.is_cell and tag == "code")
        if self.is_below and tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.is_cell &= tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self.is_below and self.is_cell:
            self.rows[-1][-1] += data


def shown(page: str, mark: str) -> list[list[str]]:
    """The table below the mark once GitHub's Markdown is rendered, headings left out."""
    cells = Cells(mark)
    cells.feed(
        cmarkgfm.github_flavored_markdown_to_html(page, options=cmarkgfm.Options.CMARK_OPT_UNSAFE)
    )
    return cells.rows[1:]


def declared(file: Path, kind: str) -> list[list[str]]:
    """The rows as the action has them, with code spans as their plain text."""
    listed: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text()).get(kind) or {}
    rows = []
    for name, its in listed.items():
        default = "required" if its.get("required") else its.get("default", "")
        row = [name, its["description"].replace("`", "")]
        rows.append([row[0], default, row[1]] if kind == "inputs" else row)
    return rows


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_table_is_stale(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    stale = f"{page.name} is stale; run: python docs/action_tables.py"
    assert generator["render"](text) == text, stale


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
@pytest.mark.parametrize("action", ACTIONS)
def test_what_an_action_declares_is_on_one_page(action: str, kind: str) -> None:
    expected = declared(ROOT / action, kind)
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    found = [rows for text in texts if (rows := shown(text, f"{kind} of {action}"))]
    assert found == ([expected] if expected else [])


def test_there_are_actions_and_inputs_to_look_for() -> None:
    assert "action/action.yml" in ACTIONS
    assert len(declared(ROOT / "action" / "action.yml", "inputs")) > 5


HOSTILE = {
    "inputs": {
        "plain": {"default": "a|b", "description": "One | two, `c|d` and *stars* of\ntwo_lines_."},
        "needed": {"required": True, "description": "A <tag> & a [word](link) \\ and \\|"},
        "quoted": {"default": "`x` or ``y``", "description": "x"},
        "empty": {"default": "", "description": "y"},
    },
    "outputs": {"out": {"value": "", "description": "p | q"}},
}
PAGE = """Before.

<!-- inputs of there/action.yml -->
{}<!-- end -->

<!-- outputs of there/action.yml -->
<!-- end -->

| other | table |
| --- | --- |
| stays | here |
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "action.yml").write_text(yaml.safe_dump(HOSTILE, sort_keys=False))
    return tmp_path


def test_bars_and_markup_in_an_action_stay_text(hostile: Path) -> None:
    page = generator["render"](PAGE.format(""), root=hostile)
    assert shown(page, "inputs of there/action.yml") == [
        ["plain", "a|b", "One | two, c|d and *stars* of two_lines_."],
        ["needed", "required", "A <tag> & a [word](link) \\ and \\|"],
        ["quoted", "`x` or ``y``", "x"],
        ["empty", "", "y"],
    ]
    assert shown(page, "outputs of there/action.yml") == [["out", "p | q"]]
    assert page.endswith("<!-- end -->\n\n| other | table |\n| --- | --- |\n| stays | here |\n")


def test_an_old_table_is_replaced_and_a_new_one_kept(hostile: Path) -> None:
    new = generator["render"](PAGE.format(""), root=hostile)
    assert generator["render"](PAGE.format("\n| an old | table |\n\n"), root=hostile) == new
    assert generator["render"](new, root=hostile) == new


def test_a_block_without_its_end_is_refused(hostile: Path) -> None:
    with pytest.raises(ValueError, match="must be closed"):
        generator["render"](PAGE.format("").replace("<!-- end -->", "", 1), root=hostile)
