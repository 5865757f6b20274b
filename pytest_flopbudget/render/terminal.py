"""Reports, comparisons and measurements as plain text, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pytest_flopbudget.core.attribution import spenders
from pytest_flopbudget.core.comparison import BudgetChange, Comparison, Delta, Entry, Standing
from pytest_flopbudget.core.measurement import Counts, Measurement, Uncounted
from pytest_flopbudget.core.metrics import METRICS, UNCOUNTED, Kind, metric_named
from pytest_flopbudget.core.pairing import limit_of
from pytest_flopbudget.core.report import Report, TestReport
from pytest_flopbudget.core.verdicts import BROKEN, Outcome, Verdict
from pytest_flopbudget.render.accepting import MOST_CHANGES, lines_for_change, lines_for_over
from pytest_flopbudget.render.ratios import COLUMNS, TITLE, ratio_rows, timing_facts
from pytest_flopbudget.render.sentences import (
    accepted_words,
    incomplete_words,
    notes_beside,
    older_words,
    on_legs,
)
from pytest_flopbudget.render.words import (
    NOT_JUDGED,
    TOO_LOW,
    UNSTEADY,
    amount,
    causes_of,
    change_of,
    change_words,
    clean,
    cut,
    digits_or_interval,
    entries_beside,
    explanation,
    headline,
    leading_metric,
    names_of,
    percent,
    plural,
    samples_words,
    short_names,
    sides,
    timings_of,
    value_and_bound,
    values_of,
    verdict_word,
    with_region,
)

WIDTH: Final = 80
_NARROWEST: Final = 12
_LABEL: Final = 24
_MOST_WITHIN: Final = 40
"""Rows of what is within its budget; what is not is always shown."""
_MOST_ROWS: Final = 20
_MOST_UNCOUNTED: Final = 8
_MOST_SPENDERS: Final = 5
_BRIEF: Final = ("flops", "macs", "int_ops", "peak_memory", "params", "latency")
_RANKS: Final = {name: rank for rank, name in enumerate(METRICS)}
_FINE: Final = frozenset({Outcome.WITHIN, Outcome.IMPROVED})
_LEFT: Final = frozenset({0, 1, 5})
"""Columns of words; the others hold numbers, and end under each other."""


def render_summary(report: Report, *, width: int = WIDTH) -> str:
    """The table that a run ends with: a row for each limit, and what could not be counted.

    Empty where no test was measured or judged.
    """
    names = short_names(test.id for test in report.tests)
    rows, hidden = _rows(report, names)
    lines = _table(rows, width)
    if hidden:
        lines.append(f"... and {plural(hidden, 'limit')} more within budget")
    for test in report.tests:
        name = names[test.id]
        lines += _unbudgeted(test, name, width)
        lines += _remarks(test, name, width, is_enforced=report.settings.mode == "enforce")
    return "\n".join(lines)


def render_comparison(comparison: Comparison, *, is_gate: bool = False, width: int = WIDTH) -> str:
    """What the change did: the loosened budgets first, then what is over, then what moved.

    is_gate: whether what is wrong can be accepted; then the lines for that are offered, each
    as one line however long it is, so that it can be copied.
    """
    names = names_of(comparison)
    title = headline(comparison) + (f"  ({s})" if (s := sides(comparison)) else "")
    lines = _wrapped(title, width)
    if older := older_words(comparison):
        lines += _wrapped(older, width)
    lines += _section("INCOMPLETE", incomplete_words(comparison), width)
    lines += _budget_section("LOOSENED BUDGETS", comparison.loosened, names, width)
    lines += _delta_section("over budget", comparison.over, names, width)
    if is_gate:
        lines += _to_accept(comparison)
    lines += _section("accepted", [accepted_words(one) for one in comparison.accepted], width)
    lines += _delta_section("over, only warned of", comparison.warned, names, width)
    lines += _delta_section(
        "over on the base too, and no less", comparison.pre_existing, names, width
    )
    lines += _timed_section(comparison, names, width)
    shown, hidden = _telling(comparison)
    lines += _delta_section("changed", shown, names, width)
    if hidden:
        lines += [] if shown else ["", "changed"]
        lines.append(f"  ... and {plural(hidden, 'metric')} more; --format markdown lists all")
    lines += _budget_section("tightened budgets", comparison.tightened, names, width)
    lines += _budget_section("new budgets", comparison.added, names, width)
    for title, entries in (
        ("new", comparison.new),
        ("removed", comparison.removed),
        ("not measured", comparison.not_measured),
    ):
        lines += _entry_section(title, entries_beside(comparison, entries), names, width)
    renames = [f"{clean(r.before)} -> {clean(r.after)}" for r in comparison.renamed]
    lines += _section("renamed", renames, width)
    lines += _undecided_section(comparison, names, width)
    lines += _facts_section(comparison, width)
    if comparison.standing is Standing.NOTHING_MEASURED:
        lines += ["", "Nothing was measured."]
    return "\n".join(lines) + "\n"


def _to_accept(comparison: Comparison) -> list[str]:
    """The lines that accept what is loosened and what is over, as they are to be copied."""
    offered = [line for c in comparison.loosened for line in lines_for_change(c, most=1)]
    offered += lines_for_over(comparison.over)
    if not offered:
        return []
    title = "to have that accepted, in the text given with --accept, with your reason"
    return ["", title, *(f"  {line}" for line in dict.fromkeys(offered[:MOST_CHANGES]))]


def _telling(comparison: Comparison) -> tuple[list[Delta], int]:
    """The changes that say most, one a region where no budget says which; and how many are left.

    A wider layer moves ten metrics of every test that runs it, in the same way.
    """
    accepted = [one.delta for one in comparison.accepted if one.delta]
    explained = (*comparison.over, *accepted, *comparison.pre_existing)
    # A time says nothing of the modules that took it, which what else has moved does.
    told = {(d.place.test, d.place.region) for d in explained if d.metric.kind is not Kind.SAMPLED}
    broken = {delta.place for delta in explained}
    moved = [delta for delta in comparison.changed if delta.place not in broken]
    shown = [d for d in moved if d.is_budgeted or d.metric.kind is Kind.RECORDED]
    told.update((d.place.test, d.place.region) for d in shown)
    for delta in sorted(moved, key=lambda d: _RANKS.get(d.place.metric, len(_RANKS))):
        if (delta.place.test, delta.place.region) not in told:
            told.add((delta.place.test, delta.place.region))
            shown.append(delta)
    return shown, len(moved) - len(shown)


def render_measurement(measurement: Measurement, *, title: str, width: int = WIDTH) -> str:
    """Every metric of one measurement, and the modules and operators that spent the most."""
    lines = [cut(clean(title), width)]
    if measurement.is_partial:
        lines.append("  partial: the measured code raised")
    for name, value in measurement.values.items():
        note = digits_or_interval(value, name)
        title_words = clean(metric_named(name).title)
        line = f"  {cut(title_words, 24):<24}{amount(value.value, name):>16}  {note:>24}"
        lines.append(cut(line.rstrip(), width))
    for name, why in measurement.absent.items():
        title_words = clean(metric_named(name).title)
        lines += _wrapped(f"  {title_words} was not measured: {clean(why)}", width)
    if measurement.samples is not None:
        lines.append(f"  {samples_words(measurement.samples)}")
    lines += _spending(measurement, width)
    lines += _at_peak(measurement, width)
    lines += _uncounted_lines(measurement.uncounted, width)
    return "\n".join(lines) + "\n"


def _rows(report: Report, names: dict[str, str]) -> tuple[list[Sequence[str]], int]:
    """The rows of the table, and how many of the limits that are kept are not among them."""
    rows: list[Sequence[str]] = []
    within = hidden = 0
    for test in report.tests:
        for verdict in test.verdicts:
            if verdict.outcome in _FINE:
                within += 1
                if within > _MOST_WITHIN:
                    hidden += 1
                    continue
            rows.append(_row(test, verdict, with_region(names[test.id], verdict.region)))
    return rows, hidden


def _row(test: TestReport, verdict: Verdict, name: str) -> Sequence[str]:
    value, bound = value_and_bound(verdict, limit_of(test, verdict.region, verdict.metric))
    used = "" if verdict.used is None else percent(verdict.used)
    return name, clean(verdict.metric), value, bound, used, verdict_word(verdict)


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The rows in columns, of which the first is cut where they would be too wide."""
    if not rows:
        return []
    sizes = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    others = sum(sizes[1:]) + 2 * (len(sizes) - 1)
    sizes[0] = min(sizes[0], max(_NARROWEST, width - others))
    lines = []
    for row in rows:
        cells = [cut(row[0], sizes[0]), *row[1:]]
        padded = [
            cell.ljust(size) if n in _LEFT else cell.rjust(size)
            for n, (cell, size) in enumerate(zip(cells, sizes, strict=True))
        ]
        lines.append(cut("  ".join(padded).rstrip(), width))
    return lines


def _unbudgeted(test: TestReport, name: str, width: int) -> Iterator[str]:
    """A line for each region that was measured with no limit on it."""
    bounded = {budget.region for budget in test.budgets if budget.limits}
    for m in test.measurements:
        if m.name not in bounded and not m.is_partial:
            shown = [
                f"{metric} {amount(m.values[metric].value, metric)}"
                for metric in _BRIEF
                if metric in m.values and m.values[metric].value
            ]
            label = cut(with_region(name, m.name), _LABEL)
            line = f"{label}  no budget"
            for text in shown:
                # What does not fit is in the report; a number is never cut in two.
                if len(line) + len(text) + 2 <= width:
                    line += f"  {text}"
            yield line


def _remarks(test: TestReport, name: str, width: int, *, is_enforced: bool) -> Iterator[str]:
    """What a reader must know of a test beside its rows."""
    for m in test.measurements:
        label = with_region(name, m.name)
        if m.is_partial:
            yield from _wrapped(f"{label}: {NOT_JUDGED}", width)
        if m.samples is not None and not m.samples.is_steady:
            yield from _wrapped(f"{label}: {UNSTEADY}", width)
        metric = leading_metric(m)
        if m.lines and metric is not None:
            total = Counts.total(row.counts for row in m.lines)
            yield f"{label}: most {metric_named(metric).title}, by line"
            yield from _ranked(_of_lines(m), metric, getattr(total, metric), width)
        for operator in m.uncounted[:_MOST_UNCOUNTED]:
            yield from _wrapped(f"{label}: uncounted {_operator(operator)}", width)
        if len(m.uncounted) > _MOST_UNCOUNTED:
            yield f"{label}: and {len(m.uncounted) - _MOST_UNCOUNTED} more uncounted operators"
    for verdict in test.verdicts:
        # A failed test says it itself; its row says all of a limit that does not apply.
        is_silent = verdict.outcome in BROKEN and not (verdict.is_failure and is_enforced)
        if is_silent or verdict.outcome in (Outcome.INCONCLUSIVE, Outcome.PENDING):
            yield from _wrapped(clean(verdict.reason), width)


def _operator(row: Uncounted) -> str:
    shapes = f", {row.shapes[0]}" if row.shapes else ""
    return clean(f"{row.operator} ({plural(row.calls, 'call')}{shapes})")


def _spending(measurement: Measurement, width: int) -> list[str]:
    """The modules and operators that spent the most of what the region did most of."""
    metric = leading_metric(measurement)
    if metric is None:
        return []
    total = sum(getattr(module.own, metric) for module in measurement.modules)
    own = {
        f"{module.path or '(top level)'} {module.type}".rstrip(): 0
        for module in measurement.modules
    }
    for module in measurement.modules:
        own[f"{module.path or '(top level)'} {module.type}".rstrip()] += getattr(module.own, metric)
    operators = {
        f"{row.operator} x{row.calls}": getattr(row.counts, metric) for row in measurement.operators
    }
    lines = []
    for title, spent in (
        ("module", own),
        ("operator", operators),
        ("line", _of_lines(measurement)),
    ):
        if spent:
            lines.append(f"  most {metric_named(metric).title}, by {title}")
            lines += _ranked(spent, metric, total, width)
    return lines


def _of_lines(measurement: Measurement) -> dict[str, int]:
    metric = leading_metric(measurement)
    return {
        line or "(no line of yours)": getattr(counts, metric)
        for line, counts in measurement.by_line.items()
        if metric is not None
    }


def _at_peak(measurement: Measurement, width: int) -> list[str]:
    """What was alive at the peak of memory, the largest first."""
    shares = spenders(measurement, "peak_memory", _MOST_SPENDERS)
    if not shares:
        return []
    spent = {f"{share.place} {share.operator}": share.amount for share in shares}
    total = measurement.values["peak_memory"].value
    return ["  alive at the peak of memory", *_ranked(spent, "peak_memory", total, width)]


def _ranked(spent: Mapping[str, int], metric: str, total: float, width: int) -> Iterator[str]:
    """A line for each of those that spent the most."""
    ranked = sorted(spent.items(), key=lambda item: -item[1])
    for label, count in [item for item in ranked if item[1]][:_MOST_SPENDERS]:
        name = cut(clean(label), width - 34)
        share = percent(count / total)
        yield f"    {name:<{width - 34}}  {amount(count, metric):>14}  {share:>9}"


def _uncounted_lines(rows: Sequence[Uncounted], width: int) -> list[str]:
    lines = [line for row in rows for line in _wrapped(f"    {_operator(row)}", width)]
    return [f"  {UNCOUNTED.title}: {TOO_LOW}", *lines] if lines else []


def _section(title: str, items: Sequence[str], width: int, most: int = _MOST_ROWS) -> list[str]:
    """The items under a title, as many as a screen takes."""
    if not items:
        return []
    lines = ["", title]
    for item in items[:most]:
        lines += _wrapped(f"  {item}", width)
    if len(items) > most:
        lines.append(f"  ... and {len(items) - most} more")
    return lines


def _budget_section(
    title: str, changes: Iterable[BudgetChange], names: dict[str, str], width: int
) -> list[str]:
    items = []
    for change in changes:
        who = [with_region(names[test], change.region) for test in change.tests[:3]]
        if len(change.tests) > len(who):
            who.append(f"{len(change.tests) - len(who)} more")
        item = ": ".join((", ".join(who) or clean(change.source), change_words(change)))
        items.append(on_legs(item, change.legs))
    return _section(title, items, width, most=len(items))


def _delta_section(
    title: str, deltas: Sequence[Delta], names: dict[str, str], width: int
) -> list[str]:
    items = []
    for delta in deltas:
        if delta.verdict is not None:
            items.append(on_legs(explanation(delta), delta.place.legs))
            continue
        base, head = values_of(delta)
        name = with_region(names[delta.place.test], delta.place.region)
        item = f"{name}: {clean(delta.place.metric)} {base} -> {head} ({change_of(delta)})"
        item = "; ".join((item, *(causes_of(delta) if delta.movers else ())))
        items.append(on_legs(item, delta.place.legs))
    return _section(title, items, width)


def _entry_section(
    title: str, entries: Sequence[Entry], names: dict[str, str], width: int
) -> list[str]:
    items = []
    for entry in entries:
        item = with_region(names[entry.place.test], entry.place.region)
        item += f": {clean(entry.reason)}" if entry.reason != title else ""
        item += f" (budget: {clean(entry.budget)})" if entry.budget else ""
        items.append(on_legs(item, entry.place.legs))
    return _section(title, items, width)


def _timed_section(comparison: Comparison, names: dict[str, str], width: int) -> list[str]:
    """A line for each region that was timed beside the base, and how that was done."""
    known = ratio_rows(comparison)
    if not known:
        return []
    rows = [COLUMNS]
    for row in known:
        place = row.delta.place
        name = on_legs(with_region(names[place.test], place.region), place.legs)
        rows.append((name, row.times, row.change, row.interval, row.noise, row.verdict))
    lines = ["", TITLE, *(f"  {line}" for line in _table(rows, width - 2))]
    for row in known:
        if row.wall:
            name = with_region(names[row.delta.place.test], row.delta.place.region)
            lines += _wrapped(f"  {name}: by wall time {row.wall}", width)
    return [
        *lines,
        *(one for fact in timing_facts(comparison) for one in _wrapped(f"  {fact}", width)),
    ]


def _undecided_section(comparison: Comparison, names: dict[str, str], width: int) -> list[str]:
    lines = _section(
        "not decided",
        [on_legs(clean(d.verdict.reason), d.place.legs) for d in comparison.undecided if d.verdict],
        width,
    )
    items = []
    for delta in timings_of(comparison):
        base, head = values_of(delta)
        name = with_region(names[delta.place.test], delta.place.region)
        was = "" if delta.base is None else f"was {base}, "
        items.append(f"{name}: {delta.place.metric} {was}is {head}")
    lines += _section("two separate runs, so not compared", items, width)
    uncounted = [
        f"{with_region(names[row.place.test], row.place.region)}: {_operator(row.operator)}"
        for row in comparison.uncounted
    ]
    return lines + _section("uncounted operators", uncounted, width)


def _facts_section(comparison: Comparison, width: int) -> list[str]:
    facts = [
        clean(f"{fact.name}: {fact.before or 'none'} -> {fact.after or 'none'}")
        for fact in (*comparison.machine_changes, *comparison.version_changes)
    ]
    lines = _section("another machine or other versions", facts, width)
    lines += _section("notes", [clean(note) for note in notes_beside(comparison)], width)
    if comparison.unchanged:
        lines += ["", f"{plural(len(comparison.unchanged), 'test')} unchanged"]
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most the width, the later ones indented under the first."""
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(text, width, subsequent_indent=f"{indent}  ", break_on_hyphens=False) or [
        ""
    ]
