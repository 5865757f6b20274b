"""Writes the tables of inputs and outputs on these pages, from the action.yml files.

A table stands between `<!-- inputs of action/action.yml -->` and `<!-- end -->`; `outputs of`
likewise. Run it after a change to an action: python docs/action_tables.py
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent
ROOT = DOCS.parent
_BLOCK = re.compile(
    r"(?P<opening><!-- (?P<kind>inputs|outputs) of (?P<file>\S+) -->\n)"
    r"(?P<table>(?:(?!<!-- ).*\n)*?)"
    r"(?P<closing><!-- end -->)"
)
_OPENING = re.compile(r"<!-- (?:inputs|outputs) of ")


def render(page: str, *, root: Path = ROOT) -> str:
    """The page with each of its tables written anew.

    Raises ValueError for a block without its end, and OSError for an action that is not there.
    """
    if len(_BLOCK.findall(page)) != len(_OPENING.findall(page)):
        raise ValueError("a table's block must be closed by <!-- end -->")
    return _BLOCK.sub(lambda block: _filled(block, root), page)


def tables(page: str) -> list[tuple[str, str]]:
    """What the page has blocks for: `inputs` or `outputs`, and the action's file."""
    return [(block["kind"], block["file"]) for block in _BLOCK.finditer(page)]


def _filled(block: re.Match[str], root: Path) -> str:
    action = yaml.safe_load((root / block["file"]).read_text(encoding="utf-8"))
    rows = _TABLES[block["kind"]](action.get(block["kind"]) or {})
    # The blank lines keep Markdown from taking the comments for a part of the table.
    lines = ["", *(f"| {' | '.join(row)} |" for row in rows), ""]
    return block["opening"] + "\n".join(lines) + "\n" + block["closing"]


def _inputs(declared: Mapping[str, Any]) -> list[list[str]]:
    rows = [
        [
            _code(name),
            "required" if its.get("required") else _code(_text(its.get("default", ""))),
            _cell(its["description"]),
        ]
        for name, its in declared.items()
    ]
    return [["input", "default", "meaning"], ["---", "---", "---"], *rows]


def _outputs(declared: Mapping[str, Any]) -> list[list[str]]:
    rows = [[_code(name), _cell(its["description"])] for name, its in declared.items()]
    return [["output", "meaning"], ["---", "---"], *rows]


_TABLES: dict[str, Callable[[Mapping[str, Any]], list[list[str]]]] = {
    "inputs": _inputs,
    "outputs": _outputs,
}


def _text(default: object) -> str:
    """The default as the runner hands it on: `true` for YAML's true."""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _code(text: str) -> str:
    """A code span; nothing for nothing."""
    # GitHub takes \| for a plain bar inside of code too, as long as it is in a table.
    line = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    padding = " " if "`" in line else ""
    return f"{fence}{padding}{line}{padding}{fence}" if line else ""


def _cell(text: str) -> str:
    """One line in which nothing but code spans is Markdown or HTML."""
    pieces = " ".join(text.split()).split("`")
    pieces[::2] = [re.sub(r"[\\*_<>]|](?=\()", r"\\\g<0>", piece) for piece in pieces[::2]]
    return "`".join(pieces).replace("|", "\\|")


if __name__ == "__main__":
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")
