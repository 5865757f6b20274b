"""Comparisons as JSON, for other programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from pytest_flopbudget.core.attribution import Share
from pytest_flopbudget.core.budget_codec import limit_to_json, number_to_json, verdict_to_json
from pytest_flopbudget.core.comparison import BudgetChange, Comparison, Delta, Entry, Place
from pytest_flopbudget.core.measurement import Value
from pytest_flopbudget.core.report import Git
from pytest_flopbudget.core.side_by_side_codec import side_by_side_to_json, timed_to_json

Json = dict[str, Any]


def render_json(comparison: Comparison) -> str:
    """The comparison in the order of the page: what is loosened first. Values are never scaled."""
    document = {
        "standing": comparison.standing.value,
        "base": _git(comparison.base_git) if comparison.has_base else None,
        "head": _git(comparison.head_git),
        "loosened": _changes(comparison.loosened),
        "over": _deltas(comparison.over),
        "warned": _deltas(comparison.warned),
        "changed": _deltas(comparison.changed),
        "tightened": _changes(comparison.tightened),
        "added": _changes(comparison.added),
        "new": _entries(comparison.new),
        "removed": _entries(comparison.removed),
        "not_measured": _entries(comparison.not_measured),
        "failed": _deltas(comparison.failed),
        "renamed": [asdict(rename) for rename in comparison.renamed],
        "undecided": _deltas(comparison.undecided),
        "incomparable": _deltas(comparison.incomparable),
        "timed": _deltas(comparison.timed),
        "timings": [
            _without_tests(side_by_side_to_json(one.run)) | {"legs": list(one.legs)}
            for one in comparison.timings
        ],
        "uncounted": [
            {
                **_place(row.place),
                "operator": row.operator.operator,
                "calls": row.operator.calls,
                "shapes": list(row.operator.shapes),
            }
            for row in comparison.uncounted
        ],
        "unchanged": list(comparison.unchanged),
        "machine_changes": [asdict(fact) for fact in comparison.machine_changes],
        "version_changes": [asdict(fact) for fact in comparison.version_changes],
        "notes": list(comparison.notes),
        "accepted": [
            {
                "tests": one.acceptance.tests,
                "metric": one.acceptance.metric,
                "cap": number_to_json(one.acceptance.cap),
                "is_floor": one.acceptance.is_floor,
                "is_change": one.acceptance.is_change,
                "reason": one.acceptance.reason,
                "line": one.acceptance.line,
                "set_by": one.acceptance.set_by,
                "over": next(iter(_deltas([one.delta])), None) if one.delta else None,
                "loosened": next(iter(_changes([one.change])), None) if one.change else None,
            }
            for one in comparison.accepted
        ],
        "pre_existing": _deltas(comparison.pre_existing),
        "base_age": comparison.base_age,
        "missing_legs": list(comparison.missing_legs),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _without_tests(timings: Json) -> Json:
    """How the times were taken; what came of it stands at each place."""
    return {key: value for key, value in timings.items() if key != "tests"}


def _git(git: Git | None) -> Json:
    return {"commit": git.commit if git else None, "branch": git.branch if git else None}


def _changes(changes: Iterable[BudgetChange]) -> list[Json]:
    return [
        {
            **asdict(change),
            "direction": change.direction.value,
            "tests": list(change.tests),
            "bound": number_to_json(change.bound),
        }
        for change in changes
    ]


def _deltas(deltas: Iterable[Delta]) -> list[Json]:
    return [
        {
            **_place(delta.place),
            "metric": delta.place.metric,
            "unit": delta.metric.dimension.unit,
            "base": _value(delta.base),
            "head": _value(delta.head),
            "limit": limit_to_json(delta.limit) if delta.limit else None,
            "verdict": verdict_to_json(delta.verdict, delta.place.test) if delta.verdict else None,
            "movers": _shares(delta.movers),
            "spenders": _shares(delta.spenders),
            "history": list(delta.history),
            "timed": timed_to_json(delta.timed) if delta.timed else None,
        }
        for delta in deltas
    ]


def _entries(entries: Iterable[Entry]) -> list[Json]:
    return [
        {**_place(entry.place), "reason": entry.reason, "budget": entry.budget} for entry in entries
    ]


def _place(place: Place) -> Json:
    return {
        "test": place.test,
        "file": place.file,
        "line": place.line,
        "region": place.region,
        "legs": list(place.legs),
    }


def _value(value: Value | None) -> int | float | None:
    return None if value is None else value.value


def _shares(shares: Iterable[Share]) -> list[Json]:
    return [asdict(share) for share in shares]
