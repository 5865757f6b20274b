"""Writes operators.md beside this file: every operator that is counted, and its rule.

The rules are read from the docstrings of the formulas, so that the page says what the code
does. Run it after a change to a formula: python docs/formula_table.py
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_flopbudget.meters.formulas import (
    FAMILIES,
    complex_numbers,
    foreach,
    free,
    pointwise,
    sparse_pointwise,
    uncounted,
)
from pytest_flopbudget.meters.formulas.registry import _FORMULAS, _SPARSE_FORMULAS
from pytest_flopbudget.meters.formulas.uncounted import NOT_COUNTED
from pytest_flopbudget.meters.plans import _LOOKED_INSIDE

PAGE = Path(__file__).with_name("operators.md")
_HEAD = """\
# Every operator that is counted, and its rule

Written by `docs/formula_table.py` from the docstrings of the formulas. What the words mean,
and what is not counted, is in [counting.md](counting.md).

Names are those of `aten`, without overloads; `add` stands for `add_` and `out=` too, and for
`_foreach_add` where that is listed. `out` is the result. An addition, a comparison and a
transcendental function count one each, a multiply-accumulate (MAC) two.
"""


def render() -> str:
    """The page, whole."""
    parts = [_HEAD]
    for family in (module for module in FAMILIES if module is not free):
        parts += [f"## {_first_line(family)}\n", *_table(_rows(family))]
    parts += [f"## {_first_line(complex_numbers)}\n", _rest(complex_numbers)]
    by_operands = [
        (f"`{name}`", "out: any shape", inspect.getdoc(count) or "", "the definition")
        for name, count in complex_numbers.COMPLEX_BY_OPERANDS.items()
    ]
    by_number = _per_element_rows(complex_numbers, "COMPLEX_PER_ELEMENT")
    parts += _table([*by_operands, *by_number])
    parts += ["## Counted as what they are made of\n", _composed()]
    parts += [f"## {_first_line(free)}\n", *_table(_free_rows(), "operators", "why")]
    refused = [(f"`{name}`", why) for name, why in NOT_COUNTED.items()]
    parts += [f"## {_first_line(uncounted)}\n", *_table(refused, "operators", "why")]
    return "\n".join(parts)


def _first_line(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").splitlines()[0].rstrip(".")


def _rest(module: ModuleType) -> str:
    """The docstring of a module without its first line."""
    return (inspect.getdoc(module) or "").partition("\n\n")[2] + "\n"


def _table(rows: list[tuple[str, ...]], *titles: str) -> Iterator[str]:
    titles = titles or ("operators", "shapes", "counts", "source")
    yield f"| {' | '.join(titles)} |"
    yield f"|{' --- |' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"
    yield ""


def _cell(text: str) -> str:
    """One line, in which no asterisk starts italics."""
    pieces = " ".join(text.split()).split("`")
    pieces[::2] = [piece.replace("*", "\\*") for piece in pieces[::2]]  # outside of code
    return "`".join(pieces).replace("|", "\\|")


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name.removeprefix('aten::')}`" for name in names)


def _rows(family: ModuleType) -> list[tuple[str, ...]]:
    """One row for each formula of the family, with all its operators."""
    rows = list(_per_element_rows(pointwise, "PER_ELEMENT")) if family is pointwise else []
    if family is foreach:
        each = _names([f"_foreach_{name}" for name in foreach.FOREACH])
        rows = [(each, "lists of tensors", "as the plain operator, for each", "the definition")]
    if family is sparse_pointwise:
        rows = [("those of the tables", *_explained(sparse_pointwise.by_stored, family))]
    operators: dict[Any, list[str]] = {}
    for name, rule in (*_FORMULAS.items(), *_SPARSE_FORMULAS.items()):
        if not isinstance(rule, partial) and rule.__module__ == family.__name__:
            operators.setdefault(rule, []).append(name)
    in_order = sorted(operators.items(), key=lambda known: known[0].__code__.co_firstlineno)
    return rows + [(_names(names), *_explained(rule, family)) for rule, names in in_order]


def _explained(rule: Any, family: ModuleType) -> tuple[str, str, str]:
    """Shapes, counts and source, as the docstring of the formula gives them."""
    rule = inspect.getclosurevars(rule).nonlocals.get("count", rule)
    doc = inspect.getdoc(rule) or ""
    if other := re.search(r"(?:see|as for) `(\w+)`", doc):
        doc = inspect.getdoc(getattr(family, other[1])) or ""
    if "Source:" not in doc:
        # A cost for each element of the result, told in a sentence or two.
        return "out: any shape", f"for each element of out: {doc}", "the definition"
    body, source = doc.split("\n\n", 1)[1].split("Source:", 1)
    shapes, separator, counts = body.partition("Counts")
    if not separator:
        shapes, counts = body.split("\n", 1)
    return shapes, counts.strip(" ,\n"), source


def _per_element_rows(module: ModuleType, table: str) -> Iterator[tuple[str, ...]]:
    """A table of element-wise costs, by the comment that stands above the numbers."""
    source = inspect.getsource(module).split(f"{table}: Final", 1)[1].split("}\n", 1)[0]
    groups: dict[str, list[str]] = {}
    why = ""
    for line in source.splitlines():
        if comment := re.match(r"\s*# (.*)", line):
            why = comment[1]
        elif entry := re.match(r'\s*"(\w+)":', line):
            groups.setdefault(why, []).append(entry[1])
    for why, names in groups.items():
        costs = {getattr(module, table)[name] for name in names}
        assert len(costs) == 1, f"{names} have one comment and several costs: {costs}"  # noqa: S101 - a mistake in the source, found when the page is written
        yield _names(names), "out: any shape", f"{costs.pop()} for each element of out", why


def _composed() -> str:
    return (
        f"{_names(sorted(_LOOKED_INSIDE))}: the operators that their CPU kernels call.\n\n"
        "Every operator without a formula that torch itself composes of others (`linear`, "
        "`matmul`, `einsum`, `scaled_dot_product_attention`, ...): those others.\n"
    )


def _free_rows() -> list[tuple[str, ...]]:
    """The lists of operators that cost nothing, each with the sentence below it."""
    body = ast.parse(inspect.getsource(free)).body
    rows: list[tuple[str, ...]] = [("views", "They look at the same memory; told by their schema.")]
    for assigned, below in pairwise(body):
        if isinstance(assigned, ast.AnnAssign) and isinstance(below, ast.Expr):
            name = ast.unparse(assigned.target)
            rows.append((_names(list(getattr(free, name))), ast.literal_eval(below.value)))
    return rows


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
