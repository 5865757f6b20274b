"""Tables of GitHub's Markdown, and what stands in their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pytest_flopbudget.core.comparison import Place
from pytest_flopbudget.render.escaping import cell
from pytest_flopbudget.render.layout import Block
from pytest_flopbudget.render.words import percent, with_region

Names = dict[str, str]
"""How each test is shown, by its id."""

_BAR: Final = 10
_MOST_LEGS: Final = 6
"""Legs that a row names; the rest are counted."""


def folded(block: Block, title: str) -> Block:
    """The part behind a line that opens it, with the number of its rows."""
    return Block(
        head=f"<details><summary>{title} ({len(block.rows)})</summary>\n{block.head}",
        rows=block.rows,
        closing=block.closing,
        tail="\n</details>",
    )


def table(title: str, columns: Iterable[str], rows: Iterable[str]) -> Block:
    """A table under its title; its rows are lines of Markdown, as `table_row` gives them."""
    names = list(columns)
    head = f"#### {title}\n" if title else ""
    return Block(head=f"{head}\n{table_row(*names)}\n|{'---|' * len(names)}", rows=tuple(rows))


def table_row(*cells: str) -> str:
    """One line of a table, of cells that are Markdown already."""
    return f"| {' | '.join(cells)} |"


def name_cells(names: Names, place: Place) -> tuple[str, str]:
    """The cells that say which test, on which legs, and which metric."""
    return cell(named(names, place.test, place.region)) + legs_below(place.legs), cell(place.metric)


def legs_below(legs: Sequence[str]) -> str:
    """The legs on a line of their own in the cell."""
    return f"<br>{on_legs(legs).strip()}" if legs else ""


def on_legs(legs: Sequence[str]) -> str:
    """Which legs a row is about; empty where it is about all of them."""
    if not legs:
        return ""
    shown = [cell(leg) for leg in legs[:_MOST_LEGS]]
    if len(legs) > len(shown):
        shown.append(f"{len(legs) - len(shown)} more")
    return f" on {', '.join(shown)}"


def named(names: Names, test: str, region: str) -> str:
    """A test as it is shown, with its region."""
    return with_region(names[test], region)


def listed(texts: Sequence[str]) -> str:
    """A cell with each text on a line of its own."""
    return "<br>".join(cell(text) for text in texts) or "-"


def used_bar(used: float | None) -> str:
    """How much of a budget is used, as a bar and in per cent."""
    if used is None:
        return "-"
    full = max(0, min(_BAR, round(used * _BAR)))
    bar = "\N{DARK SHADE}" * full + "\N{LIGHT SHADE}" * (_BAR - full)
    return f"{bar} {percent(used)}"
