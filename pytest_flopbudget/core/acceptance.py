"""A regression that somebody takes on, in a line with the test, the metric, a cap and a reason.

The line is `Flop-Budget-Accept: TESTS METRIC <= QUANTITY - REASON`, with `>=` where less is
worse, or `Flop-Budget-Accept: TESTS removed - REASON`. For a time that was taken beside the
base, QUANTITY may be a change, such as `+12%`, which holds on every machine. It is looked for
in text that anybody may have written: whatever that holds, reading it takes time in proportion
to its length.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pytest_flopbudget.core.errors import FlopBudgetError, QuantityError, SettingsError
from pytest_flopbudget.core.limits import parse_limit
from pytest_flopbudget.core.metrics import UNCOUNTED, Kind, metric_named
from pytest_flopbudget.core.quantity import parse_change, parse_quantity

KEY: Final = "Flop-Budget-Accept"

_EXAMPLE: Final = f"{KEY}: tests/test_net.py::test_* flops <= 1.5 GFLOP - the reason"
_NO_REASONS: Final = frozenset(
    {"", "reason", "the reason", "your reason", "a reason", "reason here", "todo", "tbd", "why"}
)
"""What stands in the place of a reason, without its punctuation: pasted, and not written."""
_WORD_FOR_GONE: Final = "removed"

_LONGEST_TEXT: Final = 262_144
"""Characters that are read; four times what a pull request can hold."""
_LONGEST_LINE: Final = 1000
_MOST: Final = 50
"""Lines that are read, and complaints that are made."""

_INDENTATION: Final = 3
"""Blanks before the key: with more, Markdown takes the line for code."""
_FENCE: Final = re.compile(r"(?:[-*+] )?(`{3,}|~{3,})")
_COMMENT: Final = ("<!--", "-->")
_OPERATORS: Final = {"<=": False, "\N{LESS-THAN OR EQUAL TO}": False, ">=": True} | {
    "\N{GREATER-THAN OR EQUAL TO}": True
}
"""How a cap is written, and whether it is the least value and not the greatest."""
_OPERATOR: Final = re.compile("|".join(map(re.escape, _OPERATORS)))
_GONE: Final = re.compile(rf"(?<= ){_WORD_FOR_GONE}(?= |$)", re.IGNORECASE)
_DASH: Final = re.compile(r"(?:^|\s)(?:--?|\N{EN DASH}|\N{EM DASH})(?:\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """One line of a pull request that accepts one thing, up to a stated value."""

    tests: str
    """A pattern of test ids, such as `tests/test_net.py::test_*`."""
    metric: str
    """Empty for a test that is removed or skipped."""
    cap: Fraction | None
    """In the metric's base unit; the value up to which it is accepted. None: removed."""
    is_change: bool = False
    """Whether the cap is a change against the base, as a share of it, of a sampled metric."""
    reason: str
    line: str
    """As it is written."""
    is_floor: bool = False
    """Whether the cap is the least value that is accepted, and not the greatest."""
    set_by: str = ""
    """Who put the label; empty where that cannot be read."""

    def covers(self, name: str) -> bool:
        """Whether it speaks of the test of this id.

        `*` stands for anything and `?` for one character; brackets stand for themselves.
        """
        return name == self.tests or _covers(self.tests, name)


def parse_acceptances(text: str) -> tuple[tuple[Acceptance, ...], tuple[str, ...]]:
    """The acceptances in the text, and what is wrong with the lines that cannot be read.

    A line counts where a reader of the rendered Markdown sees it as the author's own words,
    at its start or behind the dash or asterisk of a list: not in a quotation, in code, or in
    a comment of HTML, where templates keep their examples.
    """
    found: dict[Acceptance, None] = {}
    complaints: list[str] = []
    if len(text) > _LONGEST_TEXT:
        complaints.append(f"only the first {_LONGEST_TEXT} characters were looked at for {KEY}")
    lines = [line for line in _plain_lines(text[:_LONGEST_TEXT]) if _is_meant(line)]
    if len(lines) > _MOST:
        complaints.append(f"only the first {_MOST} lines of {KEY} were read, of {len(lines)}")
    for line in lines[:_MOST]:
        read = _acceptance(line)
        if isinstance(read, Acceptance):
            found[read] = None
        else:
            complaints.append(f"cannot read '{_shortened(line)}': {read}")
    return tuple(found), tuple(complaints)


def _plain_lines(text: str) -> Iterator[str]:
    """The lines outside of quotations, code and comments, without list marks."""
    fence = ""
    is_comment = False
    for raw in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        bare = raw.strip()
        if fence:
            is_end = bare.startswith(fence) and not bare.strip(fence[0])
            fence = "" if is_end else fence
            continue
        is_open = is_comment
        if not is_open and (opened := _FENCE.match(bare)):
            fence = opened[1]
            continue
        line, is_comment = _without_comments(raw, is_open=is_comment)
        if is_open or _indentation(line) > _INDENTATION:
            continue
        bare = line.strip()
        yield bare[2:].lstrip() if bare[:2] in ("- ", "* ", "+ ") else bare


def _indentation(line: str) -> int:
    return len((line[: len(line) - len(line.lstrip())]).expandtabs(4))


def _without_comments(line: str, *, is_open: bool) -> tuple[str, bool]:
    """The line without its comments of HTML, and whether one is still open at its end."""
    kept: list[str] = []
    rest = line
    while rest:
        before, mark, rest = rest.partition(_COMMENT[is_open])
        if not is_open:
            kept.append(before)
        if mark:
            is_open = not is_open
    return "".join(kept), is_open


def _is_meant(line: str) -> bool:
    return line[: len(KEY)].lower() == KEY.lower() and line[len(KEY) :].lstrip().startswith(":")


def _acceptance(line: str) -> Acceptance | FlopBudgetError:
    """What the line accepts, or else what is wrong with it, and what to write."""
    if len(line) > _LONGEST_LINE:
        return FlopBudgetError(f"it is longer than {_LONGEST_LINE} characters; shorten it")
    content = line.partition(":")[2].strip()
    places = [*_OPERATOR.finditer(content), *_GONE.finditer(content)]
    # The words of a line may also stand in the brackets of a test's parameters, or in the
    # reason: the first one that makes sense of the whole is the one that was meant.
    places.sort(key=lambda at: (not _is_balanced(content[: at.start()]), at.start()))
    readings = [_reading(content, at, line) for at in places]
    read = next((one for one in readings if isinstance(one, Acceptance)), None)
    # Only of the reading that was meant: for another the words may lie elsewhere.
    if read is not None and _is_placeholder(read.reason):
        return FlopBudgetError(
            f"'{read.reason}' is no reason; write why this is worth it in its place"
        )
    whole = f"write '{_EXAMPLE}', or '{KEY}: TESTS removed - the reason'"
    return read or (readings[0] if readings else FlopBudgetError(whole))


def _reading(content: str, at: re.Match[str], line: str) -> Acceptance | FlopBudgetError:
    """The content read as if this were the word that divides it."""
    try:
        return _read(content[: at.start()].rstrip(), at[0], content[at.end() :], line)
    except FlopBudgetError as error:
        return error


def _read(before: str, word: str, after: str, line: str) -> Acceptance:
    """The acceptance, with the word that divides it found."""
    dash = _DASH.search(after)
    quantity = (after if dash is None else after[: dash.start()]).strip()
    reason = "" if dash is None else after[dash.end() :].strip()
    is_gone = word not in _OPERATORS
    tests, _, metric = (before, "", "") if is_gone else before.rpartition(" ")
    tests, metric = _bare(tests.strip()), _bare(metric)
    if not tests:
        raise FlopBudgetError(f"name the tests, the metric and the value, as in '{_EXAMPLE}'")
    is_change = not is_gone and _is_change(metric, _bare(quantity))
    read = parse_change if is_change else functools.partial(_cap, metric)
    cap = None if is_gone else read(_bare(quantity))
    if is_gone and quantity:
        raise FlopBudgetError(f"write a dash and the reason behind '{_WORD_FOR_GONE}'")
    if not reason:
        raise FlopBudgetError("give a reason, behind a dash: ' - the reason'")
    return Acceptance(
        tests=tests,
        metric=metric,
        cap=cap,
        is_change=is_change,
        reason=reason,
        line=line,
        is_floor=_OPERATORS.get(word, False),
    )


def _is_change(metric: str, quantity: str) -> bool:
    return metric_named(metric).kind is Kind.SAMPLED and quantity.endswith("%")


def _is_placeholder(reason: str) -> bool:
    words = "".join(c if c.isalnum() else " " for c in reason).casefold().split()
    return " ".join(words) in _NO_REASONS


def _cap(metric: str, quantity: str) -> Fraction:
    """The amount in the metric's base unit. Raises FlopBudgetError."""
    if metric == UNCOUNTED.name:
        return parse_quantity(quantity, UNCOUNTED.dimension)
    raw: str | float = quantity
    if metric_named(metric).kind is Kind.RECORDED:
        # What a test records may be less than nothing, as a number alone can say.
        with contextlib.suppress(ValueError):
            raw = float(quantity)
    try:
        cap = parse_limit(metric, raw, where=KEY, machines=()).maximum
    except SettingsError as error:
        raise FlopBudgetError(str(error).removeprefix(f"{KEY}.{metric}: ")) from None
    if cap is None:
        raise QuantityError(f"cannot read {quantity!r}; write a quantity")
    return cap


def _bare(word: str) -> str:
    """The word without the backticks that keep Markdown from reading its asterisks."""
    return word[1:-1] if word[:1] == word[-1:] == "`" else word


def _is_balanced(text: str) -> bool:
    return text.count("[") == text.count("]")


def _shortened(line: str, width: int = 200) -> str:
    return line if len(line) <= width else f"{line[:width]}..."


def _covers(pattern: str, name: str) -> bool:
    """Whether the whole name fits.

    Each part between two asterisks is taken where it first fits, which a later fit never
    beats: so no pattern makes the search go back.
    """
    first, *others = (_part(part) for part in pattern.split("*"))
    if not others:
        return first.fullmatch(name) is not None
    *middle, last = others
    found = first.match(name)
    for part in middle:
        if found is None:
            return False
        found = part.search(name, found.end())
    if found is None:
        return False
    at_least = len(name) - len(pattern.rpartition("*")[2])
    return at_least >= found.end() and last.fullmatch(name, at_least) is not None


@functools.lru_cache(maxsize=256)
def _part(text: str) -> re.Pattern[str]:
    return re.compile("".join("." if c == "?" else re.escape(c) for c in text), re.DOTALL)
