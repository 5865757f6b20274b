"""A page made of parts, from which whole rows are left out until it holds its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytest_flopbudget.render.words import plural

LEFT_OUT: Final = "left out for space"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of the page."""

    head: str = ""
    rows: tuple[str, ...] = ()
    closing: str = ""
    """What ends the rows, before it is said that some are left out."""
    tail: str = ""
    is_fixed: bool = False
    """True for a part that stands without rows."""
    row_prefix: str = ""
    """What begins every line, within a quotation."""

    def text(self, kept: int) -> str:
        """The part with its first rows, and the number of those that are not shown."""
        if not kept and not self.is_fixed:
            return ""
        lines = [*filter(None, [self.head]), *self.rows[:kept], *filter(None, [self.closing])]
        if kept < len(self.rows):
            # A blank line first: it must end a table, and not be one more row of it.
            lines += [self.row_prefix.rstrip()] if self.row_prefix else [""]
            lines += [f"{self.row_prefix}and {len(self.rows) - kept} more, {LEFT_OUT}"]
        return "\n".join([*lines, *filter(None, [self.tail])]) + "\n\n"


def fitted(blocks: Sequence[Block], max_bytes: int, *, elsewhere: str = "") -> str:
    """The page in at most so many bytes of UTF-8, as far as its fixed parts allow.

    blocks: the most important first. Rows are left out from the end, and with its last row
    a part that is not fixed; what is left out is counted.
    elsewhere: Markdown that names what has all of it.
    """
    whole = sum(len(block.rows) for block in blocks)

    def page(kept: int) -> str:
        return _page(blocks, kept, whole, elsewhere)

    if len(page(whole).encode()) <= max_bytes:
        return page(whole)
    fits, too_many = 0, whole
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if len(page(middle).encode()) <= max_bytes:
            fits = middle
        else:
            too_many = middle
    return page(fits)


def _page(blocks: Sequence[Block], kept: int, whole: int, elsewhere: str) -> str:
    """The page with its first rows."""
    texts, left = [], kept
    for block in blocks:
        shown = min(left, len(block.rows))
        texts.append(block.text(shown))
        left -= shown
    if kept < whole:
        there = f": {elsewhere} has all" if elsewhere else ""
        texts.append(f"<sub>{plural(whole - kept, 'row')} {LEFT_OUT}{there}</sub>")
    return "".join(texts).rstrip() + "\n"
