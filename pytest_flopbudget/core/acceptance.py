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
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
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
_MARK: Final = re.compile(r"(?:[-*+]|([0-9]{1,9})[.)])( {1,4})(?! )")
"""What begins an item of a list; with more blanks behind it, the rest is code."""
_FENCE: Final = re.compile(r"(?:(?:[-*+]|[0-9]{1,9}[.)]) +)?(`{3,}|~{3,})")
_HEADING: Final = re.compile(r"#{1,6}(?: |$)")
_SPAN: Final = re.compile(r"(?<![`\\])(`+)(?!`)(?:(?!\1)[^`]|(?<!`)`+(?!`))*?(?<!`)\1(?!`)")
"""Code within a line."""
_TAG: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9-]*)")
_HTML: Final = re.compile(r"<[A-Za-z/!?]")
_HIDDEN: Final = re.compile(r"<!--|<\?|<!\[CDATA\[|<![A-Za-z]")
_ENDS: Final = {"<!--": "-->", "<?": "?>", "<![CDATA[": "]]>"}
"""What ends that which no reader sees; a declaration ends with its first bracket."""
_NOT_SAID: Final = frozenset(
    {
        *("blockquote", "q", "pre", "code", "kbd", "samp", "template", "s", "del", "strike"),
        *("script", "style", "textarea", "title", "svg", "math", "iframe", "noscript", "select"),
        *("option", "object", "audio", "video", "canvas"),
    }
)
"""Elements of HTML whose text is quoted, struck out, code or not shown."""
_INVISIBLE: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that show nothing."""
_LOOK_ALIKE: Final = str.maketrans(
    "\u0410\u0412\u0415\u0420\u0421\u0422\u0430\u0435\u043e\u0440\u0441\u0405\u0455\u0501"
    "\u0391\u0392\u0395\u03a1\u03a4\u03bf\u2010\u2011\u2012\u2013\u2014\u2212",
    "ABEPCTaeopcSsdABEPTo------",
)
"""Letters of other scripts, and dashes, that look like those of the key."""
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
    at the start of a paragraph or of an item of a list: not in a quotation, in code, or in HTML
    and its comments, where templates keep their examples.
    """
    found: dict[Acceptance, None] = {}
    complaints: list[str] = []
    if len(text) > _LONGEST_TEXT:
        complaints.append(f"only the first {_LONGEST_TEXT} characters were looked at for {KEY}")
    lines, ignored = _meant_lines(text[:_LONGEST_TEXT])
    complaints += ignored[:_MOST]
    if len(lines) > _MOST:
        complaints.append(f"only the first {_MOST} lines of {KEY} were read, of {len(lines)}")
    for line in lines[:_MOST]:
        read = _acceptance(line)
        if isinstance(read, Acceptance):
            found[read] = None
        else:
            complaints.append(f"cannot read '{_shortened(line)}': {read}")
    return tuple(found), tuple(complaints)


def _meant_lines(text: str) -> tuple[list[str], list[str]]:
    """The lines that count, and what keeps others from it that look like them."""
    page, meant, ignored = _Page(), [], []
    for raw in text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        line = page.next(raw)
        if line is None:
            continue
        if _is_meant(line) and not page.why_not:
            meant.append(line)
        elif why := page.why_not if _is_meant(line) else _disguise(line):
            ignored.append(f"'{_shortened(line)}' looks like {KEY}, but {why}")
    return meant, ignored


@dataclass(slots=True)
class _Page:
    """What is known of a page of Markdown up to a line: enough to be sure of what is said.

    A line is the author's own where it begins a paragraph or an item of a list. In doubt it is
    not: a paragraph may begin in a quotation, in code, or in an attribute of HTML.
    """

    fence: str = ""
    end: str = ""
    """What ends that which is hidden; empty where nothing is."""
    is_own_block: bool = False
    """Whether that began a line, and so ends with the line that ends it."""
    is_begun: bool = False
    """Whether something stands on the line before that may go on."""
    is_html: bool = False
    """Whether a block of HTML began, which ends with a blank line."""
    open: Counter[str] = field(default_factory=Counter)
    """Elements whose text nobody says, and which have not ended."""
    why_not: str = ""
    """Why the line, if it looks right, does not count; empty where it does."""

    def next(self, raw: str) -> str | None:
        """The line without comments and the mark of a list; None where it cannot count."""
        bare = raw.strip()
        if self.fence:
            if bare.startswith(self.fence) and not bare.strip(self.fence[0]):
                self.fence, self.is_begun = "", False
            return None
        if not self.end and (opened := _FENCE.match(bare)):
            self.fence = opened[1]
            return None
        was_hidden, masked = bool(self.end), _masked(raw)
        is_code = _indentation(raw) > _INDENTATION
        is_block = not is_code and _HIDDEN.match(masked.lstrip()) is not None
        if not was_hidden:
            self.is_own_block = is_block
        line = self._visible(raw, masked)
        if was_hidden or is_block:
            # The whole line at which it ends is part of its block, and the next begins anew.
            self.is_begun = bool(self.end) or not self.is_own_block
            return None
        return self._counted(line, masked)

    def _counted(self, line: str, masked: str) -> str | None:
        bare = line.strip()
        if not bare:
            self.is_begun = self.is_html = False
            return None
        mark = _MARK.match(bare)
        # Only a list that begins with 1 can end a paragraph.
        is_item = mark is not None and (mark[1] in (None, "1") or not self.is_begun)
        content = bare[mark.end() :] if mark is not None and is_item else bare
        self.is_html = self.is_html or _HTML.match(content) is not None
        self.why_not = self._reason(is_item=is_item)
        for slash, name in _TAG.findall(masked):
            if name.lower() in _NOT_SAID:
                self.open[name.lower()] += -1 if slash and self.open[name.lower()] else not slash
        is_code = _indentation(line) > _INDENTATION
        is_said = not is_code and not self.why_not and _is_meant(content)
        self.is_begun = not (_HEADING.match(bare) or (is_said and _is_closed(content)))
        return None if is_code else content

    def _reason(self, *, is_item: bool) -> str:
        if self.is_html or any(self.open.values()):
            return "it stands within HTML; write it outside"
        if self.is_begun and not is_item:
            return "it stands within a paragraph or a quotation; leave a blank line before it"
        return ""

    def _visible(self, raw: str, masked: str) -> str:
        """The line without what is hidden in it, and without what began before it."""
        kept: list[str] = []
        at = 0
        while at < len(raw):
            if self.end:
                found = raw.find(self.end, at)
                at = len(raw) if found < 0 else found + len(self.end)
                self.end = self.end if found < 0 else ""
                continue
            opened = _HIDDEN.search(masked, at)
            kept.append(raw[at : opened.start() if opened else len(raw)])
            at = opened.end() if opened else len(raw)
            self.end = _ENDS.get(opened[0], ">") if opened else ""
        return "".join(kept)


def _masked(line: str) -> str:
    """The line with its code of one line made blank: what looks like HTML there is none."""
    return _SPAN.sub(lambda span: " " * len(span[0]), line)


def _is_closed(line: str) -> bool:
    """Whether nothing begins on the line that could go on in the next: no code, no tag."""
    runs = re.findall("`+", line)
    return len(runs) % 2 == 0 and set(runs) <= {"`"} and _HTML.search(_masked(line)) is None


def _disguise(line: str) -> str:
    """Why a line is not taken for one that counts though people would; empty for all others."""
    shown = "".join(c for c in line if unicodedata.category(c) != "Cf").strip()
    if _is_meant(shown):
        return "it has characters in it that are not shown; write it anew"
    if _is_meant(shown.translate(_LOOK_ALIKE)):
        return "it is written with letters or dashes that only look like those; write it anew"
    if _is_meant(shown.lstrip("*_").replace("**", "").replace("__", "")):
        return "it is bold or slanted; write it plainly"
    return ""


def _indentation(line: str) -> int:
    return len((line[: len(line) - len(line.lstrip())]).expandtabs(4))


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
    if not any(_is_visible(char) for char in reason):
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


def _is_visible(char: str) -> bool:
    return unicodedata.category(char)[0] in "LNPS" and char not in _INVISIBLE


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
