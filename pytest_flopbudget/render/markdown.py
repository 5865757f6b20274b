"""Comparisons as GitHub's Markdown, for pull request comments and job summaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pytest_flopbudget.core.comparison import (
    Accepted,
    BudgetChange,
    Comparison,
    Delta,
    Entry,
    Place,
    Standing,
)
from pytest_flopbudget.render.accepting import MOST_CHANGES, lines_for_change, lines_for_over
from pytest_flopbudget.render.escaping import anchor, cell, sentence
from pytest_flopbudget.render.layout import Block, fitted
from pytest_flopbudget.render.ratios import (
    RatioRow,
    judged_amounts,
    judged_base,
    ratio_rows,
    timing_causes,
    timing_facts,
)
from pytest_flopbudget.render.sentences import LABEL, VERDICTS, cap_words, notes_beside
from pytest_flopbudget.render.tables import (
    Names,
    folded,
    legs_below,
    listed,
    name_cells,
    named,
    on_legs,
    table,
    table_row,
    used_bar,
)
from pytest_flopbudget.render.trend import trend
from pytest_flopbudget.render.words import (
    causes_of,
    change_of,
    change_words,
    commit_of,
    entries_beside,
    headline,
    names_of,
    plural,
    sides,
    timings_of,
    values_of,
)

COMMENT_BYTES: Final = 60_000
"""GitHub refuses above 65 536, and does not say of what."""
SUMMARY_BYTES: Final = 1_000_000
"""GitHub drops a whole summary above 1 MiB."""

_MOST_TIMED: Final = 10
"""Rows of times that are shown in any case."""
_DELTA: Final = "\N{GREEK CAPITAL LETTER DELTA}"
_ICONS: Final = {
    Standing.OVER: "\N{CROSS MARK}",
    Standing.WITHIN: "\N{WHITE HEAVY CHECK MARK}",
    Standing.NOTHING_MEASURED: "\N{WARNING SIGN}\N{VARIATION SELECTOR-16}",
    Standing.ACCEPTED: "\N{WHITE HEAVY CHECK MARK}",
    Standing.NEEDS_APPROVAL: "\N{CROSS MARK}",
    Standing.INCOMPLETE: "\N{CROSS MARK}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    """What a page says of the run, beside what was compared."""

    is_fork: bool = False
    label: str
    """Empty where no label lets the lines count, but who gives them."""


def render_comment(
    comparison: Comparison,
    *,
    marker_id: str = "default",
    link: str = "",
    is_fork: bool = False,
    label: str = LABEL,
) -> str:
    """The comment's body: its first line is hidden, and finds the comment again.

    link: address of the run, whose summary has what is left out here.
    is_fork: whether the code that was measured is that of another repository.
    label: what is put on a pull request that accepts a regression.
    At most 60 000 bytes of UTF-8; rows that do not fit are counted instead.
    Raises FlopBudgetError for a link that is none.
    """
    hidden = f"<!-- pytest-flopbudget:v1 id={marker_id} -->\n"
    # Only where rows are left out, for with it the comment changes with every run.
    summary = anchor(link, "the full summary") if link else ""
    blocks = list(_blocks(comparison, _About(is_fork=is_fork, label=label)))
    return hidden + fitted(blocks, COMMENT_BYTES - len(hidden.encode()), elsewhere=summary)


def render_markdown(
    comparison: Comparison, *, max_bytes: int = SUMMARY_BYTES, label: str = ""
) -> str:
    """The same without the hidden lines, as for a job summary.

    label: as in a comment; empty outside of GitHub, where lines are given with --accept.
    """
    return fitted(list(_blocks(comparison, _About(label=label))), max_bytes)


def _blocks(comparison: Comparison, about: _About) -> Iterator[Block]:
    """The parts of the page, the most important first."""
    c, names = comparison, names_of(comparison)
    yield _title(c)
    yield from _lead(c, about)
    yield from _caution(names, c.loosened, about.label)
    yield from _incomplete(c.missing_legs)
    yield _notes(c)
    yield _judged(names, "Over budget", c.over)
    yield _to_accept(c.over, about.label)
    yield _judged(names, "Over, only warned of", c.warned)
    yield _accepted(names, c.accepted)
    yield from _timed(names, c)
    yield folded(_judged(names, "", c.pre_existing), "Over budget on the base too")
    moved = _moved_elsewhere(c)
    bounded = [delta for delta in moved if delta.is_budgeted]
    yield _moved(names, "Changed", [d for d in bounded if d.growth >= 0])
    yield folded(_moved(names, "", [d for d in bounded if d.growth < 0]), "Improved")
    yield folded(
        _moved(names, "", [d for d in moved if not d.is_budgeted]), "Changed, with no budget"
    )
    yield folded(_budgets(names, c.tightened), "Budgets tightened")
    yield folded(_budgets(names, c.added), "Budgets added")
    yield folded(_entries(names, c.new), "New")
    yield folded(_entries(names, entries_beside(c, c.removed)), "Removed")
    yield folded(_entries(names, entries_beside(c, c.not_measured)), "Not measured")
    yield folded(_renamed(c), "Renamed")
    yield folded(_undecided(names, c.undecided), "Not decided")
    yield folded(_uncounted(names, c), "Uncounted operators")
    yield folded(_incomparable(names, timings_of(c)), "Not comparable: two separate runs")
    yield folded(_facts(c), "Another machine or other versions")
    yield folded(
        Block(rows=tuple(f"- {cell(names[test])}" for test in c.unchanged)),
        "Unchanged",
    )
    if c.versions:
        versions = " \N{MIDDLE DOT} ".join(cell(text) for text in c.versions)
        yield Block(rows=(f"<sub>{versions}</sub>",))


def _title(comparison: Comparison) -> Block:
    commits = sides(comparison)
    return Block(
        head=f"### {_ICONS[comparison.standing]} Compute budget: {VERDICTS[comparison.standing]}"
        f" \N{MIDDLE DOT} {headline(comparison)}" + (f" ({cell(commits)})" if commits else ""),
        is_fixed=True,
    )


def _lead(comparison: Comparison, about: _About) -> Iterator[Block]:
    """What a reader must know of the numbers before reading them."""
    parts = []
    if comparison.base_age > 0:
        base = comparison.base_git
        commit = cell(commit_of(base)) if base and commit_of(base) else "a commit"
        older = plural(comparison.base_age, "commit")
        parts.append(f"compared with {commit}, {older} older than the base")
    if about.is_fork:
        parts.append("measured by code of this pull request")
    if parts:
        text = " \N{MIDDLE DOT} ".join(parts)
        yield Block(head=text[0].upper() + text[1:], is_fixed=True)


def _caution(names: Names, changes: Sequence[BudgetChange], label: str) -> Iterator[Block]:
    if not changes:
        return
    them = "a budget" if len(changes) == 1 else f"{len(changes)} budgets"
    how = _how(label, len(changes))
    rows = []
    for n, change in enumerate(changes):
        lines = [f"> - {_change(names, change)}"]
        if n < MOST_CHANGES and (pasted := lines_for_change(change)):
            lines += [f">   {line}" for line in ("```text", *pasted, "```")]
        rows.append("\n".join(lines))
    yield Block(
        head=f"> [!CAUTION]\n> **This change loosens or removes {them}.** {how}\n>",
        rows=tuple(rows),
        row_prefix="> ",
        is_fixed=True,
    )


def _how(label: str, count: int) -> str:
    """What to do so that the lines below accept what they stand for."""
    lines = "the line" if count == 1 else "the lines"
    if not label:
        return (
            f"To accept that, put {lines} below into the text that is given with `--accept`, "
            "with your reason at the end:"
        )
    return (
        f"To accept that, put the label {cell(label)} on the pull request, and {lines} below "
        "into its description, with your reason at the end; then run the job again:"
    )


def _incomplete(legs: Sequence[str]) -> Iterator[Block]:
    if not legs:
        return
    them = "one leg" if len(legs) == 1 else f"{len(legs)} legs"
    yield Block(
        head=f"> [!WARNING]\n> **Incomplete: {them} of the run left no report.** "
        "Their jobs failed or did not run; nothing passes without them:\n>",
        rows=tuple(f"> - {cell(leg)}" for leg in legs),
        row_prefix="> ",
        is_fixed=True,
    )


def _notes(comparison: Comparison) -> Block:
    rows = tuple(f"> - {sentence(note)}" for note in notes_beside(comparison))
    return Block(head="> [!NOTE]", rows=rows, row_prefix="> ")


def _moved_elsewhere(comparison: Comparison) -> list[Delta]:
    """What moved, but for the numbers that another table has, on some leg at least."""
    accepted = [one.delta for one in comparison.accepted if one.delta]
    told: dict[Place, list[tuple[str, ...]]] = {}
    for delta in (*comparison.over, *comparison.pre_existing, *accepted):
        told.setdefault(replace(delta.place, legs=()), []).append(delta.place.legs)
    return [
        delta
        for delta in comparison.changed
        if not any(
            _is_overlap(delta.place.legs, legs)
            for legs in told.get(replace(delta.place, legs=()), ())
        )
    ]


def _is_overlap(legs: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether they have a leg in common; none are named where it is all of them."""
    return not legs or not others or not set(legs).isdisjoint(others)


def _judged(names: Names, title: str, deltas: Sequence[Delta]) -> Block:
    has_trend = any(delta.history for delta in deltas)
    rows = []
    for delta in deltas:
        if delta.verdict is None:
            continue
        value, bound = judged_amounts(delta)
        why = causes_of(delta) if delta.verdict.value is not None else (delta.verdict.reason,)
        why = timing_causes(delta) or why
        rows.append(
            table_row(
                *name_cells(names, delta.place),
                judged_base(delta),
                value,
                change_of(delta),
                bound,
                used_bar(delta.verdict.used),
                *_trend(delta, is_shown=has_trend),
                listed(why),
            )
        )
    columns = (
        "Test",
        "Metric",
        "Base",
        "PR",
        _DELTA,
        "Budget",
        "Used",
        *(["Trend"] if has_trend else []),
    )
    return table(title, (*columns, "Cause"), rows)


def _to_accept(deltas: Sequence[Delta], label: str) -> Block:
    lines = lines_for_over(deltas)
    head = f"\n{_how(label, len(lines))}\n\n```text"
    return folded(Block(head=head, rows=lines, closing="```"), "To accept what is over budget")


def _accepted(names: Names, every: Sequence[Accepted]) -> Block:
    rows = []
    for one in every:
        acceptance = one.acceptance
        cap = "gone"
        if acceptance.cap is not None:
            cap = f"{'>=' if acceptance.is_floor else '<='} {cap_words(acceptance)}"
        rows.append(
            table_row(
                *_what(names, one),
                cap,
                sentence(acceptance.reason),
                cell(acceptance.set_by) if acceptance.set_by else "-",
            )
        )
    columns = ("Test", "What", "Accepted", "Reason", "Label set by")
    return table("Accepted", columns, rows)


def _what(names: Names, one: Accepted) -> tuple[str, str]:
    """Whom an acceptance is about, and what it lets pass."""
    if one.delta is not None:
        base, head = values_of(one.delta)
        test, metric = name_cells(names, one.delta.place)
        return test, f"{metric} {base} to {head} ({change_of(one.delta)})"
    if one.change is not None:
        who = (_who(names, one.change) or cell(one.change.source)) + legs_below(one.change.legs)
        return who, sentence(change_words(one.change))
    return "-", "-"


def _moved(names: Names, title: str, deltas: Sequence[Delta]) -> Block:
    has_trend = any(delta.history for delta in deltas)
    rows = [
        table_row(
            *name_cells(names, delta.place),
            *values_of(delta),
            change_of(delta),
            *_trend(delta, is_shown=has_trend),
            listed(causes_of(delta)),
        )
        for delta in deltas
    ]
    columns = ("Test", "Metric", "Base", "PR", _DELTA, *(["Trend"] if has_trend else []), "Cause")
    return table(title, columns, rows)


def _entries(names: Names, entries: Sequence[Entry]) -> Block:
    rows = [
        table_row(
            name_cells(names, entry.place)[0],
            sentence(entry.reason),
            sentence(entry.budget) if entry.budget else "-",
        )
        for entry in entries
    ]
    return table("", ("Test", "Why", "Budget"), rows)


def _timed(names: Names, comparison: Comparison) -> Iterator[Block]:
    """What was timed beside the base: in the open what says something, and few rows in any case."""
    rows = ratio_rows(comparison)
    is_short = len(rows) <= _MOST_TIMED
    shown = [row for row in rows if is_short or row.is_telling]
    hidden = [row for row in rows if not (is_short or row.is_telling)]
    yield _ratios(names, "Timed beside the base", shown)
    yield folded(_ratios(names, "", hidden), "Timed beside the base, and not slower")
    facts = tuple(f"- {sentence(fact)}" for fact in timing_facts(comparison))
    yield folded(Block(rows=facts), "How the times were taken")


def _ratios(names: Names, title: str, rows: Sequence[RatioRow]) -> Block:
    cells = (
        table_row(
            *name_cells(names, row.delta.place),
            row.base,
            row.head,
            row.change,
            row.interval + (f"<br>wall {row.wall}" if row.wall else ""),
            row.noise,
            row.verdict + (", not gated" if row.is_unstable else ""),
        )
        for row in rows
    )
    columns = ("Test", "Metric", "Base", "PR", _DELTA, "Interval, %", "Noise", "Verdict")
    return table(title, columns, cells)


def _undecided(names: Names, deltas: Sequence[Delta]) -> Block:
    rows = [
        table_row(
            *name_cells(names, delta.place),
            delta.verdict.outcome.value,
            sentence(delta.verdict.reason),
        )
        for delta in deltas
        if delta.verdict is not None
    ]
    return table("", ("Test", "Metric", "Verdict", "Why"), rows)


def _incomparable(names: Names, deltas: Sequence[Delta]) -> Block:
    rows = [table_row(*name_cells(names, delta.place), *values_of(delta)) for delta in deltas]
    return table("", ("Test", "Metric", "On the base", "Here"), rows)


def _uncounted(names: Names, comparison: Comparison) -> Block:
    rows = [
        table_row(
            name_cells(names, row.place)[0],
            cell(row.operator.operator),
            str(row.operator.calls),
            listed(row.operator.shapes[:3]),
        )
        for row in comparison.uncounted
    ]
    return table("", ("Test", "Operator", "Calls", "Shapes"), rows)


def _renamed(comparison: Comparison) -> Block:
    rows = [
        table_row(cell(one.before) + legs_below(one.legs), cell(one.after))
        for one in comparison.renamed
    ]
    return table("", ("Before", "Now"), rows)


def _facts(comparison: Comparison) -> Block:
    rows = [
        table_row(
            cell(fact.name) + legs_below(fact.legs),
            cell(fact.before or "none"),
            cell(fact.after or "none"),
        )
        for fact in (*comparison.machine_changes, *comparison.version_changes)
    ]
    return table("", ("Fact", "Base", "PR"), rows)


def _budgets(names: Names, changes: Sequence[BudgetChange]) -> Block:
    return Block(rows=tuple(f"- {_change(names, change)}" for change in changes))


def _change(names: Names, change: BudgetChange) -> str:
    who = _who(names, change)
    where = f" ({cell(change.source)})" if change.source else ""
    subject = f"{who}: " if who else ""
    return f"{subject}{sentence(change_words(change))}{where}{on_legs(change.legs)}"


def _who(names: Names, change: BudgetChange) -> str:
    """The first tests that a change of budgets is about; empty where no test shows it."""
    who = [cell(named(names, test, change.region)) for test in change.tests[:3]]
    if len(change.tests) > len(who):
        who.append(f"{len(change.tests) - len(who)} more")
    return ", ".join(who)


def _trend(delta: Delta, *, is_shown: bool) -> tuple[str, ...]:
    """The cell of a column that is there only where something is known of earlier commits."""
    return (trend(delta) or "-",) if is_shown else ()
