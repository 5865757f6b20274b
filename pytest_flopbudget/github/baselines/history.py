"""What the last commits of the default branch cost, as one small file of each leg."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.core.legs import Series
from pytest_flopbudget.core.metrics import Kind, metric_named
from pytest_flopbudget.core.report import Report

MOST_COMMITS: Final = 200
_VERSION: Final = 1

_Key: TypeAlias = tuple[str, str, str]
"""Test, region and metric."""
_Values: TypeAlias = tuple["int | float | None", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The values of each budgeted, deterministic metric, beside the commits they are of."""

    commits: tuple[str, ...] = ()
    """Oldest first, in the order in which they were recorded."""
    values: Mapping[_Key, _Values] = field(default_factory=dict)
    """As many as there are commits; None where a commit has no such value."""

    def series(self) -> tuple[Series, ...]:
        """The values that are there, for charts."""
        return tuple(
            Series(
                test=test,
                region=region,
                metric=metric,
                values=tuple(value for value in values if value is not None),
            )
            for (test, region, metric), values in self.values.items()
        )


def extended(history: History, commit: str, report: Report) -> History:
    """The history with this commit's report; a commit that is there keeps its place."""
    new = dict(_budgeted(report))
    commits = history.commits
    if commit not in commits:
        commits = (*commits, commit)
    place = commits.index(commit)
    values: dict[_Key, _Values] = {}
    for key in (*history.values, *(key for key in new if key not in history.values)):
        old = history.values.get(key, ())
        row = [*old, *[None] * (len(commits) - len(old))]
        row[place] = new.get(key)
        row = row[-MOST_COMMITS:]
        if any(value is not None for value in row):
            values[key] = tuple(row)
    return History(commits=commits[-MOST_COMMITS:], values=values)


def history_to_json(history: History) -> dict[str, Any]:
    """The history as JSON can say it."""
    return {
        "history_version": _VERSION,
        "commits": list(history.commits),
        "series": [
            {"test": test, "region": region, "metric": metric, "values": list(values)}
            for (test, region, metric), values in history.values.items()
        ],
    }


def history_from_json(data: object, *, where: str) -> History:
    """The history that the decoded JSON describes. Raises ReportError."""
    top = Node(data, where)
    version = top["history_version"].count()
    if version != _VERSION:
        raise top.error(f"history_version is {version}; this version reads {_VERSION}")
    commits = top["commits"].texts()
    values: dict[_Key, _Values] = {}
    for node in top["series"].items():
        row = tuple(
            None if item.value is None else item.number() for item in node["values"].items()
        )
        if len(row) != len(commits):
            raise node.error(f"has {len(row)} values for {len(commits)} commits")
        values[node["test"].text(), node["region"].text(), node["metric"].text()] = row
    return History(commits=commits, values=values)


def _budgeted(report: Report) -> Iterator[tuple[_Key, int | float]]:
    for test in report.tests:
        for budget in test.budgets:
            measurement = test.measurement(budget.region)
            if measurement is None:
                continue
            for limit in budget.limits:
                value = measurement.values.get(limit.metric)
                if value is not None and metric_named(limit.metric).kind is Kind.EXACT:
                    yield (test.id, budget.region, limit.metric), value.value
