"""HTML built from elements, so that text of others can only ever become text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pytest_flopbudget.render.words import clean

_WHOLE: Final = 100


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML that may stand in a page as it is. Only this module makes it."""

    text: str


BLANK: Final = Markup(" ")
"""Between two elements on one line: a plain blank would be cleaned away."""

Content = str | Markup
"""A plain string is text of others: it is cleaned and escaped when it enters an element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table."""

    title: str
    kind: str = ""
    """`number`, `name`, `bar`, or empty for words, which alone are broken into lines."""


def element(tag: str, *children: Content, **attributes: str | bool) -> Markup:
    """One element. Attributes are written as in Python: `class_`, `aria_hidden`.

    An attribute is left out where its value is empty or False; True stands for its name alone.
    """
    opening = "".join(
        f" {name}" if value is True else f' {name}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value and (name := key.rstrip("_").replace("_", "-"))
    )
    return Markup(f"<{tag}{opening}>{join(children).text}</{tag}>")


def join(children: Iterable[Content]) -> Markup:
    """The children after each other."""
    return Markup("".join(c.text if isinstance(c, Markup) else _escaped(c) for c in children))


def page(*, title: str, style: str, body: Sequence[Content]) -> str:
    """A whole document, which loads nothing and runs nothing.

    `style` is CSS of ours; it goes in as it is.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        # A second lock: were an escape ever missing, the browser would still run nothing.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"{element('title', title).text}\n<style>\n{style}</style>\n</head>\n"
        f"{element('body', *body).text}\n</html>\n"
    )


def table(columns: Sequence[Column], rows: Iterable[Sequence[Content]]) -> Markup:
    """A table in a box that scrolls by itself where the screen is narrow; empty without rows."""
    body = [
        element(
            "tr",
            *(
                element("td", cell, class_=column.kind)
                for column, cell in zip(columns, row, strict=True)
            ),
        )
        for row in rows
    ]
    if not body:
        return Markup("")
    titles = (element("th", c.title, class_=c.kind, scope="col") for c in columns)
    head = element("thead", element("tr", *titles))
    return element("div", element("table", head, element("tbody", *body)), class_="scroll")


def bar(share: float, part: float = 0.0, *, kind: str = "", mark: float | None = None) -> Markup:
    """A horizontal bar as long as the share of its track, and a darker one within it.

    Shares are of one; what is longer than the track ends with it. `mark` is a line across.
    """
    pieces = [
        element("i", style=f"width:{_length(share)}%"),
        element("b", style=f"width:{_length(part)}%"),
    ]
    if mark is not None:
        pieces.append(element("s", style=f"left:{_length(mark)}%"))
    # Every bar has its number in words beside it.
    return element("span", *pieces, class_=f"track {kind}".rstrip(), aria_hidden="true")


def _length(share: float) -> str:
    return f"{max(0.0, min(1.0, share)) * _WHOLE:.2f}"


def _escaped(text: str | bool) -> str:
    return html.escape(clean(str(text)))
