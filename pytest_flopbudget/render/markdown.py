"""Comparisons as GitHub's Markdown, for pull request comments and job summaries.

Whatever comes from a report is taken as hostile: the report may have been made by
the code of a fork, and the comment is posted by a token that can write.
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pytest_flopbudget.core.comparison import (
    BudgetChange,
    Comparison,
    Delta,
    Entry,
    Place,
    Standing,
)
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.render.words import (
    causes_of,
    change_of,
    change_words,
    clean,
    commit_of,
    cut,
    headline,
    names_of,
    percent,
    plural,
    sides,
    timings_of,
    value_and_bound,
    values_of,
    with_region,
)

COMMENT_BYTES: Final = 60_000
"""GitHub refuses above 65 536, and does not say of what."""
SUMMARY_BYTES: Final = 1_000_000
"""GitHub drops a whole summary above 1 MiB."""

Names = dict[str, str]

_CELL: Final = 120
_SENTENCE: Final = 400
_BAR: Final = 10
_ICONS: Final = {
    Standing.OVER: "\N{CROSS MARK}",
    Standing.WITHIN: "\N{WHITE HEAVY CHECK MARK}",
    Standing.NOTHING_MEASURED: "\N{WARNING SIGN}\N{VARIATION SELECTOR-16}",
    Standing.ACCEPTED: "\N{WHITE HEAVY CHECK MARK}",
    Standing.NEEDS_APPROVAL: "\N{CROSS MARK}",
    Standing.INCOMPLETE: "\N{CROSS MARK}",
}
_HARMLESS: Final = "_-/,%=+;?'\""
# An entity alone is not enough for @: GitHub looks for addresses after decoding it.
_ESCAPES: Final = str.maketrans(
    {char: f"&#{ord(char)};" for char in string.punctuation if char not in _HARMLESS}
    | {"@": "&#64;<!-- -->"}
)
_STATE: Final = re.compile(r"[A-Za-z0-9.:_= -]*")
_LINK: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?:/[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]*)?")
_LONGEST_LINK: Final = 500
_EMPHASIS: Final = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")
"""Underscores that do not stand inside a word, where they mean nothing."""


def render_comment(
    comparison: Comparison,
    *,
    marker_id: str = "default",
    link: str = "",
    state: str = "",
    is_fork: bool = False,
) -> str:
    """The comment's body: its first line is hidden, and finds the comment again.

    link: address of the run, whose summary has what is left out here.
    state: which run it is by, such as `sha=... run=1 attempt=1`; hidden, as the second line.
    is_fork: whether the code that was measured is that of another repository.
    At most 60 000 bytes of UTF-8; rows that do not fit are counted instead.
    Raises FlopBudgetError for a link or a state that could end what it stands in.
    """
    hidden = f"<!-- pytest-flopbudget:v1 id={marker_id} -->\n{_state_line(state)}"
    max_bytes = COMMENT_BYTES - len(hidden.encode())
    return hidden + _page(comparison, max_bytes, link=_checked(link), is_fork=is_fork)


def render_markdown(comparison: Comparison, *, max_bytes: int = SUMMARY_BYTES) -> str:
    """The same without the hidden lines, as for a job summary."""
    return _page(comparison, max_bytes)


def _page(comparison: Comparison, max_bytes: int, *, link: str = "", is_fork: bool = False) -> str:
    lead = _lead(comparison, link=link, is_fork=is_fork)
    title, *parts = _blocks(comparison)
    return _fitted([block for block in (title, lead, *parts) if block.is_needed], max_bytes)


def _state_line(state: str) -> str:
    if not state:
        return ""
    if not _STATE.fullmatch(state) or "--" in state:
        raise FlopBudgetError(
            f"state {state!r}: use letters, digits, '.', ':', '_', '=', blanks and single hyphens"
        )
    return f"<!-- pytest-flopbudget:state {state} -->\n"


def _checked(link: str) -> str:
    """The link, if it is one that a page may have."""
    if link and not (_LINK.fullmatch(link) and len(link) <= _LONGEST_LINK):
        raise FlopBudgetError(f"link {cut(link, 80)!r}: write an address with http:// or https://")
    return link


def _anchor(link: str, text: str) -> str:
    return f'<a href="{html.escape(link)}">{text}</a>'


def _lead(comparison: Comparison, *, link: str, is_fork: bool) -> _Block:
    """What a reader must know of the numbers before reading them."""
    parts = []
    if comparison.base_age > 0:
        base = comparison.base_git
        commit = f"<code>{_escaped(commit_of(base))}</code>" if base and commit_of(base) else "one"
        older = plural(comparison.base_age, "commit")
        parts.append(f"compared with {commit}, {older} older than the base")
    if is_fork:
        parts.append("measured by code of this pull request")
    if link:
        parts.append(_anchor(link, "the run"))
    text = " \N{MIDDLE DOT} ".join(parts)
    return _Block(head=text[:1].upper() + text[1:], is_fixed=bool(parts))


def cell(text: str, limit: int = _CELL) -> str:
    """Text of others as code that stays inside its cell, links nothing and calls nobody."""
    return f"<code>{_escaped(cut(clean(text), limit))}</code>"


def _escaped(text: str) -> str:
    encoded = text.translate(_ESCAPES)
    return _EMPHASIS.sub(lambda found: "&#95;" * len(found[0]), encoded)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A part of the page: its rows are dropped one by one where the page is full."""

    head: str
    rows: tuple[str, ...] = ()
    tail: str = ""
    is_fixed: bool = False
    """True for a part that stands without rows."""
    row_prefix: str = ""
    """What begins every line, within a quotation."""

    @property
    def is_needed(self) -> bool:
        return self.is_fixed or bool(self.rows)

    def text(self, kept: int) -> str:
        """The part with its first rows, and the number of those that are not shown."""
        lines = [self.head, *self.rows[:kept]]
        if kept < len(self.rows):
            # A blank line first: it must end a table, and not be one more row of it.
            left_out = f"{self.row_prefix}and {len(self.rows) - kept} more, left out for space"
            lines += [self.row_prefix.rstrip(), left_out]
        return "\n".join([*lines, *filter(None, [self.tail])]) + "\n\n"


def _fitted(blocks: Sequence[_Block], max_bytes: int) -> str:
    """The page within its limit: rows are dropped from the least important end."""
    kept = [len(block.rows) for block in blocks]
    size = sum(_bytes(block.text(n)) for block, n in zip(blocks, kept, strict=True))
    for at in range(len(blocks) - 1, -1, -1):
        while size > max_bytes and kept[at]:
            before = _bytes(blocks[at].text(kept[at]))
            # Several rows at once where far too much stands there, so that this ends soon.
            excess = size - max_bytes
            kept[at] -= max(1, min(kept[at], kept[at] * excess // (2 * before)))
            size += _bytes(blocks[at].text(kept[at])) - before
    return "".join(block.text(n) for block, n in zip(blocks, kept, strict=True)).rstrip() + "\n"


def _bytes(text: str) -> int:
    return len(text.encode("utf-8"))


def _blocks(comparison: Comparison) -> Iterator[_Block]:
    """The parts of the page, the most important first."""
    names = names_of(comparison)
    yield _title(comparison)
    yield _caution(names, comparison.loosened)
    yield _notes(comparison.notes)
    yield _judged(names, "Over budget", comparison.over)
    yield _judged(names, "Over, only warned of", comparison.warned)
    broken = {delta.place for delta in comparison.over}
    moved = [delta for delta in comparison.changed if delta.place not in broken]
    yield _moved(names, "Changed", [d for d in moved if d.growth >= 0 and d.is_budgeted])
    yield _folded(_moved(names, "", [d for d in moved if d.growth < 0]), "Improved")
    yield _folded(
        _moved(names, "", [d for d in moved if d.growth >= 0 and not d.is_budgeted]),
        "Changed, with no budget",
    )
    yield _folded(_budgets(names, comparison.tightened), "Budgets tightened")
    yield _folded(_budgets(names, comparison.added), "Budgets added")
    yield _folded(_entries(names, comparison.new), "New")
    yield _folded(_entries(names, comparison.removed), "Removed")
    yield _folded(_entries(names, comparison.not_measured), "Not measured")
    yield _folded(_renamed(comparison), "Renamed")
    yield _folded(_undecided(names, comparison.undecided), "Not decided")
    yield _folded(_uncounted(names, comparison), "Uncounted operators")
    yield _folded(_incomparable(names, timings_of(comparison)), "Not comparable: two separate runs")
    yield _folded(_facts(comparison), "Another machine or other versions")
    yield _folded(
        _Block(head="", rows=tuple(f"- {cell(names[test])}" for test in comparison.unchanged)),
        "Unchanged",
    )
    versions = " \N{MIDDLE DOT} ".join(cell(text) for text in comparison.versions)
    yield _Block(head=f"<sub>{versions}</sub>", is_fixed=bool(versions))


def _title(comparison: Comparison) -> _Block:
    commits = sides(comparison)
    return _Block(
        head=f"### {_ICONS[comparison.standing]} Compute budget: {headline(comparison)}"
        + (f" (<code>{_escaped(commits)}</code>)" if commits else ""),
        is_fixed=True,
    )


def _caution(names: Names, changes: Sequence[BudgetChange]) -> _Block:
    them = "a budget" if len(changes) == 1 else f"{len(changes)} budgets"
    return _Block(
        head=f"> [!CAUTION]\n> **This change loosens or removes {them}.**\n>",
        rows=tuple(f"> - {_change(names, change)}" for change in changes),
        row_prefix="> ",
    )


def _notes(notes: Sequence[str]) -> _Block:
    return _Block(
        head="> [!NOTE]", rows=tuple(f"> - {_sentence(note)}" for note in notes), row_prefix="> "
    )


def _sentence(text: str) -> str:
    return cell(text, _SENTENCE)


def _judged(names: Names, title: str, deltas: Sequence[Delta]) -> _Block:
    rows = []
    for delta in deltas:
        if delta.verdict is None:
            continue
        value, bound = value_and_bound(delta.verdict, delta.limit)
        why = causes_of(delta) if delta.verdict.value is not None else (delta.verdict.reason,)
        rows.append(
            _row(
                *_name(names, delta.place),
                values_of(delta)[0],
                value,
                change_of(delta),
                bound,
                _used(delta.verdict.used),
                _listed(why),
            )
        )
    columns = ("Test", "Metric", "Base", "PR", "\N{GREEK CAPITAL LETTER DELTA}", "Budget", "Used")
    return _table(title, (*columns, "Cause"), rows)


def _moved(names: Names, title: str, deltas: Sequence[Delta]) -> _Block:
    rows = [
        _row(
            *_name(names, delta.place),
            *values_of(delta),
            change_of(delta),
            _listed(causes_of(delta)),
        )
        for delta in deltas
    ]
    columns = ("Test", "Metric", "Base", "PR", "\N{GREEK CAPITAL LETTER DELTA}", "Cause")
    return _table(title, columns, rows)


def _entries(names: Names, entries: Sequence[Entry]) -> _Block:
    rows = [
        _row(
            _name(names, entry.place)[0],
            _sentence(entry.reason),
            _sentence(entry.budget) if entry.budget else "-",
        )
        for entry in entries
    ]
    return _table("", ("Test", "Why", "Budget"), rows)


def _undecided(names: Names, deltas: Sequence[Delta]) -> _Block:
    rows = [
        _row(
            *_name(names, delta.place), delta.verdict.outcome.value, _sentence(delta.verdict.reason)
        )
        for delta in deltas
        if delta.verdict is not None
    ]
    return _table("", ("Test", "Metric", "Verdict", "Why"), rows)


def _incomparable(names: Names, deltas: Sequence[Delta]) -> _Block:
    rows = [_row(*_name(names, delta.place), *values_of(delta)) for delta in deltas]
    return _table("", ("Test", "Metric", "On the base", "Here"), rows)


def _uncounted(names: Names, comparison: Comparison) -> _Block:
    rows = [
        _row(
            _name(names, row.place)[0],
            cell(row.operator.operator),
            str(row.operator.calls),
            _listed(row.operator.shapes[:3]),
        )
        for row in comparison.uncounted
    ]
    return _table("", ("Test", "Operator", "Calls", "Shapes"), rows)


def _renamed(comparison: Comparison) -> _Block:
    rows = [_row(cell(one.before), cell(one.after)) for one in comparison.renamed]
    return _table("", ("Before", "Now"), rows)


def _facts(comparison: Comparison) -> _Block:
    rows = [
        _row(cell(fact.name), cell(fact.before or "none"), cell(fact.after or "none"))
        for fact in (*comparison.machine_changes, *comparison.version_changes)
    ]
    return _table("", ("Fact", "Base", "PR"), rows)


def _budgets(names: Names, changes: Sequence[BudgetChange]) -> _Block:
    return _Block(head="", rows=tuple(f"- {_change(names, change)}" for change in changes))


def _change(names: Names, change: BudgetChange) -> str:
    who = [cell(_named(names, test, change.region)) for test in change.tests[:3]]
    if len(change.tests) > len(who):
        who.append(f"{len(change.tests) - len(who)} more")
    where = f" ({cell(change.source)})" if change.source else ""
    subject = f"{', '.join(who)}: " if who else ""
    return f"{subject}{_sentence(change_words(change))}{where}"


def _folded(block: _Block, title: str) -> _Block:
    """The part behind a line that opens it, with the number of its rows."""
    return _Block(
        head=f"<details><summary>{title} ({len(block.rows)})</summary>\n{block.head}",
        rows=block.rows,
        tail="\n</details>",
    )


def _table(title: str, columns: Iterable[str], rows: Iterable[str]) -> _Block:
    names = list(columns)
    head = f"#### {title}\n" if title else ""
    return _Block(head=f"{head}\n{_row(*names)}\n|{'---|' * len(names)}", rows=tuple(rows))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _name(names: Names, place: Place) -> tuple[str, str]:
    return cell(_named(names, place.test, place.region)), cell(place.metric)


def _named(names: Names, test: str, region: str) -> str:
    return with_region(names[test], region)


def _listed(texts: Sequence[str]) -> str:
    return "<br>".join(cell(text) for text in texts) or "-"


def _used(used: float | None) -> str:
    if used is None:
        return "-"
    full = max(0, min(_BAR, round(used * _BAR)))
    bar = "\N{DARK SHADE}" * full + "\N{LIGHT SHADE}" * (_BAR - full)
    return f"{bar} {percent(used)}"
