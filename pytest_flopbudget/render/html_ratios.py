"""The part of a page that shows times which were taken beside the base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.verdicts import Outcome
from pytest_flopbudget.render.elements import Column, Content, Markup, element, join, table
from pytest_flopbudget.render.ratios import RatioRow, ratio_rows, timing_facts
from pytest_flopbudget.render.words import with_region

_KINDS: Final = {
    Outcome.WITHIN: "good",
    Outcome.IMPROVED: "good",
    Outcome.INCONCLUSIVE: "warn",
    Outcome.REGRESSED: "warn",
}


def timed_section(comparison: Comparison, names: Mapping[str, str]) -> Iterator[Markup]:
    """A table with a row for each region, and how it was timed; nothing where none was."""
    rows = ratio_rows(comparison)
    if not rows:
        return
    yield element("h2", "Timed beside the base")
    columns = (
        Column(title="Test"),
        Column(title="Metric", kind="name"),
        Column(title="Base", kind="number"),
        Column(title="Here", kind="number"),
        Column(title="Change", kind="number"),
        Column(title="Interval, %", kind="number"),
        Column(title="Noise", kind="number"),
        Column(title="Verdict"),
    )
    yield table(columns, ([*_cells(row, names)] for row in rows))
    facts = (element("p", fact, class_="soft") for fact in timing_facts(comparison))
    yield element("details", element("summary", "How the times were taken"), join(facts))


def _cells(row: RatioRow, names: Mapping[str, str]) -> Iterator[Content]:
    place, verdict = row.delta.place, row.delta.verdict
    yield with_region(names[place.test], place.region)
    yield element("code", place.metric)
    yield from (row.base, row.head)
    yield f"{row.change} (wall {row.wall})" if row.wall else row.change
    yield from (row.interval, row.noise)
    is_bad = verdict is not None and verdict.is_failure
    kind = "bad" if is_bad else _KINDS.get(verdict.outcome, "") if verdict else ""
    yield element("span", row.verdict, class_=f"pill {kind}".rstrip(), title=_why(row))


def _why(row: RatioRow) -> str:
    return "" if row.delta.verdict is None else row.delta.verdict.reason
