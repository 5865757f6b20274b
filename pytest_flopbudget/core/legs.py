"""One leg of a run: what a single job measured, as it is handed to the job that judges them all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pytest_flopbudget.core.codec import report_from_json, report_to_json
from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.core.report import Report

LEG_VERSION: Final = 1

LEG_BYTES: Final = 32 * 1024 * 1024
"""The largest file of a leg."""
_MOST_VALUES: Final = 4_000_000
_MOST_TESTS: Final = 20_000
_MOST_REGIONS: Final = 10_000
"""Of a report, in all its tests, beyond one for each of them."""
_MOST_METRICS: Final = 1000
"""Of a region: what this version measures, and what the test records."""
_MOST_NOTES: Final = 1000
_DEEPEST: Final = 40
_LONGEST_TEXT: Final = 20_000
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_SERIES: Final = 1000
_MOST_PINNED: Final = 100
"""Variables of an environment, which a page lists one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What the commits of the base branch measured of one metric, oldest first."""

    test: str
    region: str
    metric: str
    values: tuple[int | float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """The reports of one job, and what its base is."""

    name: str
    """Such as `py311-cpu`: letters, digits, dots, hyphens and underscores, at most 64."""
    head: Report
    base: Report | None = None
    baseline: str = "rerun"
    """Where the base's report is from: `rerun`, `branch`, `artifact` or `file`."""
    base_age: int = 0
    """How many commits older than the right base the one is that was compared with."""
    history: tuple[Series, ...] = ()


def check_leg_name(name: str) -> str:
    """The name, if a leg can have it. Raises ReportError."""
    if not _NAME.fullmatch(name) or "--" in name:
        raise ReportError(
            f"leg {name!r}: use at most 64 letters, digits, dots, single hyphens and underscores"
        )
    return name


def parse_leg_names(text: str) -> tuple[str, ...]:
    """The names in a text, with blanks or commas between. Raises ReportError."""
    return tuple(check_leg_name(name) for name in text.replace(",", " ").split())


def leg_to_json(leg: Leg) -> dict[str, Any]:
    """The leg as JSON can say it. Raises ReportError for a number that is not finite."""
    return {
        "leg_version": LEG_VERSION,
        "name": check_leg_name(leg.name),
        "baseline": leg.baseline,
        "base_age": leg.base_age,
        "head": report_to_json(leg.head),
        "base": None if leg.base is None else report_to_json(leg.base),
        "history": [
            {
                "test": series.test,
                "region": series.region,
                "metric": series.metric,
                "values": list(series.values),
            }
            for series in leg.history
        ],
    }


def leg_from_json(data: object, *, where: str) -> Leg:
    """The leg that the decoded JSON describes.

    where: the file's name, for messages.
    Raises ReportError: not a leg, a malformed one, or one of a newer version.
    """
    top = Node(data, where)
    version = top["leg_version"].count()
    if version != LEG_VERSION:
        raise top.error(f"leg_version is {version}; this version reads {LEG_VERSION}")
    base = top.maybe("base")
    return Leg(
        name=check_leg_name(top["name"].text()),
        head=report_from_json(top["head"].value, where=f"{where}: head"),
        base=None if base is None else report_from_json(base.value, where=f"{where}: base"),
        baseline=top["baseline"].text(),
        base_age=top["base_age"].count(),
        history=tuple(_series(node) for node in top["history"].items()),
    )


def decode_leg(content: bytes, *, where: str, name: str = "") -> Leg:
    """The leg in a file that may have been written to do harm.

    name: the leg that is expected; empty for any.
    Whatever the file holds, this ends soon and takes memory within bounds.
    Raises ReportError: too large, not a leg, or another leg.
    """
    if len(content) > LEG_BYTES:
        raise ReportError(f"{where}: larger than {LEG_BYTES} bytes")
    # Counted before they are made: two bytes of text become a list of fifty.
    if sum(content.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES:
        raise ReportError(f"{where}: more than {_MOST_VALUES} values")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    if data is None:
        raise ReportError(f"{where}: not JSON")
    _check_bounds(data, where)
    leg = leg_from_json(data, where=where)
    if name and leg.name != name:
        raise ReportError(f"{where}: holds the leg {leg.name!r}, and not {name!r}")
    for report in filter(None, (leg.base, leg.head)):
        _check_counts(report, where)
    return leg


def _check_counts(report: Report, where: str) -> None:
    """Raises ReportError for more than a page about it could be made of in time."""
    measurements = [m for test in report.tests for m in test.measurements]
    beside = report.side_by_side
    for count, most, what in (
        (len(report.tests), _MOST_TESTS, "tests"),
        (len(measurements) - len(report.tests), _MOST_REGIONS, "regions beside the tests' own"),
        (
            max((len(m.values) for m in measurements), default=0),
            _MOST_METRICS,
            "metrics of a region",
        ),
        (len(report.notes), _MOST_NOTES, "notes"),
        (0 if beside is None else len(beside.tests), _MOST_TESTS, "timings"),
        (0 if beside is None else len(beside.environment), _MOST_PINNED, "pinned variables"),
    ):
        if count > most:
            raise ReportError(f"{where}: more than {most} {what}")


def _check_bounds(data: object, where: str) -> None:
    """Raises ReportError for JSON that is nested too deeply, or has a text that is too long."""
    level = [data]
    for _ in range(_DEEPEST):
        if any(isinstance(value, str) and len(value) > _LONGEST_TEXT for value in level):
            raise ReportError(f"{where}: a text of more than {_LONGEST_TEXT} characters")
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value)
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        if not inner:
            return
        level = inner
    raise ReportError(f"{where}: nested more than {_DEEPEST} deep")


def history_of(series: tuple[Series, ...]) -> Mapping[tuple[str, str, str], tuple[float, ...]]:
    """The series by test, region and metric."""
    return {(one.test, one.region, one.metric): one.values for one in series}


def _series(node: Node) -> Series:
    values = tuple(item.number() for item in node["values"].items())
    if len(values) > _LONGEST_SERIES:
        raise node.error(f"more than {_LONGEST_SERIES} values")
    return Series(
        test=node["test"].text(),
        region=node["region"].text(),
        metric=node["metric"].text(),
        values=values,
    )
