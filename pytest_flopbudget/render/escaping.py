"""Text of others as code in a page of GitHub's Markdown, where it is shown and does nothing.

Whatever comes from a report is taken as hostile: the report may have been made by
the code of a fork, and the comment is posted by a token that can write.
"""

from __future__ import annotations

import html
import re
import string
from typing import Final

from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.render.words import clean, cut

_CELL: Final = 120
_SENTENCE: Final = 400
_HARMLESS: Final = "_-/,%=+;?'\""
# An entity alone is not enough for @: GitHub looks for addresses after decoding it.
_ESCAPES: Final = str.maketrans(
    {char: f"&#{ord(char)};" for char in string.punctuation if char not in _HARMLESS}
    | {"@": "&#64;<!-- -->"}
)
_EMPHASIS: Final = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")
"""Underscores that do not stand inside a word, where they mean nothing."""
_LINK: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?:/[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]*)?")
_LONGEST_LINK: Final = 500


def cell(text: str, limit: int = _CELL) -> str:
    """Text of others as code that stays inside its cell, links nothing and calls nobody."""
    return f"<code>{_escaped(cut(clean(text), limit))}</code>"


def sentence(text: str) -> str:
    """The same for text that is longer than a name."""
    return cell(text, _SENTENCE)


def anchor(link: str, words: str) -> str:
    """A link with our own words. Raises FlopBudgetError for what is no address of the web."""
    if not _LINK.fullmatch(link) or len(link) > _LONGEST_LINK:
        raise FlopBudgetError(f"link {cut(link, 80)!r}: write an address with http:// or https://")
    return f'<a href="{html.escape(link)}">{words}</a>'


def _escaped(text: str) -> str:
    encoded = text.translate(_ESCAPES)
    return _EMPHASIS.sub(lambda found: "&#95;" * len(found[0]), encoded)
