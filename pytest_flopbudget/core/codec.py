"""Reports as JSON and back: nothing is lost on the way, and nothing malformed comes in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_flopbudget.core.budget_codec import (
    budget_from_json,
    budget_to_json,
    verdict_from_json,
    verdict_to_json,
)
from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.measurement_codec import (
    line_from_json,
    measurement_from_json,
    measurement_to_json,
    module_from_json,
    operator_to_json,
    uncounted_from_json,
)
from pytest_flopbudget.core.report import (
    SCHEMA_VERSION,
    Git,
    Report,
    Settings,
    TestOutcome,
    TestReport,
)
from pytest_flopbudget.core.side_by_side_codec import (
    side_by_side_from_json,
    side_by_side_to_json,
)

Json = dict[str, Any]


def report_to_json(report: Report) -> Json:
    """The report as JSON can say it, in the shape of `report.schema.json`.

    Raises ReportError for a number that is not finite: JSON has none such.
    """
    document: Json = {
        "schema_version": report.schema_version,
        "machine": Node(dict(report.machine), "report", "machine").plain(),
        "versions": dict(report.versions),
        "git": _git_to_json(report.git),
        "settings": _settings_to_json(report.settings),
        "selection": list(report.selection),
        "interrupted": report.is_interrupted,
        "notes": list(report.notes),
        "tests": [test_to_json(test) for test in report.tests],
    }
    if report.side_by_side is not None:
        document["side_by_side"] = side_by_side_to_json(report.side_by_side)
    return document


def report_from_json(data: object, *, where: str) -> Report:
    """The report that the decoded JSON describes.

    where: the file's name, for messages.
    Raises ReportError: not a report, a malformed one, or one of a newer schema.
    """
    top = Node(data, where)
    _check_version(top)
    git, timings = top.maybe("git"), top.maybe("side_by_side")
    tests = tuple(_test(node) for node in top["tests"].items())
    ids = {test.id for test in tests}
    return Report(
        machine=_plain_table(top["machine"]),
        versions={key: node.text() for key, node in top["versions"].entries()},
        git=None if git is None else _git_from_json(git),
        settings=_settings_from_json(top["settings"]),
        selection=top["selection"].texts(),
        is_interrupted=top["interrupted"].flag(),
        notes=top["notes"].texts(),
        tests=tests,
        side_by_side=None if timings is None else side_by_side_from_json(timings, ids),
    )


def test_to_json(test: TestReport) -> Json:
    """One test of a report, as JSON can say it. Raises ReportError as `report_to_json`."""
    regions = list(_labelled(test.measurements))
    document: Json = {
        "id": test.id,
        "file": test.file,
        "line": test.line,
        "outcome": test.outcome.value,
        "measurements": [measurement_to_json(m, test.id) for m in test.measurements],
        "budgets": [budget_to_json(budget) for budget in test.budgets],
        "verdicts": [verdict_to_json(verdict, test.id) for verdict in test.verdicts],
        "modules": [
            {
                **region,
                "path": row.path,
                "type": row.type,
                "calls": row.calls,
                "operators": [operator_to_json(operator) for operator in row.operators],
            }
            for region, m in regions
            for row in m.modules
        ],
        "operators": [
            {**region, **operator_to_json(row)} for region, m in regions for row in m.operators
        ],
        "uncounted": [
            {**region, "operator": row.operator, "calls": row.calls, "shapes": list(row.shapes)}
            for region, m in regions
            for row in m.uncounted
        ],
    }
    lines = [
        {
            **region,
            "line": row.line,
            "operator": row.operator,
            "calls": row.calls,
            **row.counts.as_dict(),
        }
        for region, m in regions
        for row in m.lines
    ]
    if lines:
        document["lines"] = lines
    return document


def test_from_json(data: object, *, where: str) -> TestReport:
    """The test that the decoded JSON describes. Raises ReportError for a malformed one."""
    return _test(Node(data, where))


# pytest would take the two for tests wherever they are imported.
test_to_json.__test__ = False  # type: ignore[attr-defined]  # functions take any
test_from_json.__test__ = False  # type: ignore[attr-defined]  # the same


def encode_test(test: TestReport) -> str:
    """One test as JSON text, for the way from a worker to the controller."""
    return json.dumps(test_to_json(test), allow_nan=False)


def decode_test(text: str) -> TestReport:
    """The test that `encode_test` wrote. Raises ReportError for anything else."""
    where = "a worker's test"
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ReportError(f"{where}: not JSON: {error}") from error
    return test_from_json(data, where=where)


def _check_version(top: Node) -> None:
    if not isinstance(top.value, dict) or "schema_version" not in top.value:
        raise top.error("not a report of pytest-flopbudget: it has no schema_version")
    version = top["schema_version"].count()
    if version > SCHEMA_VERSION:
        raise top.error(
            f"written with report schema {version}, and this version reads up to "
            f"{SCHEMA_VERSION}; update pytest-flopbudget"
        )
    if version < SCHEMA_VERSION:
        raise top.error(f"schema_version: there is no report schema {version}")


def _git_to_json(git: Git | None) -> Json | None:
    if git is None:
        return None
    return {"commit": git.commit, "branch": git.branch, "dirty": git.is_dirty}


def _git_from_json(node: Node) -> Git:
    return Git(
        commit=node["commit"].text(),
        branch=node.text_or_none("branch"),
        is_dirty=node["dirty"].flag(),
    )


def _settings_to_json(settings: Settings) -> Json:
    return {
        "mode": settings.mode,
        "configured_mode": settings.configured_mode,
        "strict": settings.strict,
        "file": settings.file,
        "budgets": Node(dict(settings.budgets), "settings", "budgets").plain(),
        "defaults": Node(dict(settings.defaults), "settings", "defaults").plain(),
        "match": [Node(dict(rule), "settings", "match").plain() for rule in settings.match],
    }


def _settings_from_json(node: Node) -> Settings:
    return Settings(
        mode=node["mode"].text(),
        # Reports of earlier versions do not say it.
        configured_mode=node.text_or_none("configured_mode") or "enforce",
        strict=node["strict"].flag(),
        file=node.text_or_none("file"),
        budgets=_plain_table(node["budgets"]),
        defaults=_plain_table(node["defaults"]),
        match=tuple(_plain_table(rule) for rule in node["match"].items()),
    )


def _labelled(measurements: Iterable[Measurement]) -> Iterator[tuple[Json, Measurement]]:
    """Each measurement with the keys that tie a row to it.

    The region's name is enough, unless a test measured one name twice.
    """
    seen: Counter[str] = Counter()
    for m in measurements:
        nth = seen[m.name]
        seen[m.name] += 1
        yield ({"region": m.name, "nth": nth} if nth else {"region": m.name}), m


def _test(node: Node) -> TestReport:
    heads = [measurement_from_json(item) for item in node["measurements"].items()]
    labels = [_label(region) for region, _ in _labelled(heads)]
    modules = _by_measurement(node["modules"], labels)
    uncounted = _by_measurement(node["uncounted"], labels)
    asked = node.maybe("lines")
    lines = {} if asked is None else _by_measurement(asked, labels)
    measurements = tuple(
        replace(
            m,
            modules=tuple(module_from_json(row) for row in modules[label]),
            lines=tuple(line_from_json(row) for row in lines.get(label, ())),
            uncounted=tuple(uncounted_from_json(row) for row in uncounted[label]),
        )
        for label, m in zip(labels, heads, strict=True)
    )
    return TestReport(
        id=node["id"].text(),
        file=node["file"].text(),
        line=node["line"].count(),
        outcome=node["outcome"].member(TestOutcome),
        measurements=measurements,
        budgets=tuple(budget_from_json(item) for item in node["budgets"].items()),
        verdicts=tuple(verdict_from_json(item) for item in node["verdicts"].items()),
    )


def _label(region: Mapping[str, Any]) -> tuple[str, int]:
    return region["region"], region.get("nth", 0)


def _by_measurement(
    rows: Node, labels: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], list[Node]]:
    found: dict[tuple[str, int], list[Node]] = {label: [] for label in labels}
    for row in rows.items():
        nth = row.maybe("nth")
        label = (row["region"].text(), 0 if nth is None else nth.count())
        if label not in found:
            raise row["region"].error(f"the test has no measurement named {label[0]!r}")
        found[label].append(row)
    return found


def _plain_table(node: Node) -> Json:
    return {key: item.plain() for key, item in node.entries()}
