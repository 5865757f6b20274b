"""Measurements as JSON and back. The document's shape is in `report.schema.json`."""

from __future__ import annotations

from typing import Any, Final

from pytest_flopbudget.core.fields import Node, finite
from pytest_flopbudget.core.measurement import (
    COUNTED,
    Counts,
    LineSpending,
    Measurement,
    ModuleSpending,
    OperatorSpending,
    Samples,
    Uncounted,
    Value,
)
from pytest_flopbudget.core.metrics import Better, Kind, metric_named

Json = dict[str, Any]

_P_BOUNDS: Final = ("p95_low", "p95_high", "p99_low", "p99_high")


def measurement_to_json(m: Measurement, test_id: str) -> Json:
    """The values and samples of one region; the rows of its modules stand beside it in the test.

    Raises ReportError, naming the test, for a number that is not finite.
    """
    document: Json = {
        "region": m.name,
        "partial": m.is_partial,
        "metrics": {name: _value_to_json(name, value, test_id) for name, value in m.values.items()},
    }
    if m.absent:
        document["absent"] = dict(m.absent)
    if m.samples is not None:
        document["samples"] = _samples_to_json(m.samples, test_id)
    return document


def measurement_from_json(node: Node) -> Measurement:
    """The measurement without its modules, which stand beside it in the test."""
    samples, absent = node.maybe("samples"), node.maybe("absent")
    return Measurement(
        name=node["region"].text(),
        values={name: _value_from_json(name, item) for name, item in node["metrics"].entries()},
        samples=None if samples is None else _samples_from_json(samples),
        absent={} if absent is None else {name: why.text() for name, why in absent.entries()},
        is_partial=node["partial"].flag(),
    )


def _value_to_json(name: str, value: Value, test_id: str) -> Json:
    metric = metric_named(name)
    where = f"{test_id}: {name}"
    document: Json = {
        "value": finite(value.value, where),
        "unit": metric.dimension.unit,
        "kind": metric.kind.value,
    }
    if value.low is not None or value.high is not None:
        document["interval"] = [finite(value.low, where), finite(value.high, where)]
    # A recorded metric that says no direction is left to say none.
    better = metric.better if metric.kind is not Kind.RECORDED else value.better
    if better is not None:
        document["better"] = better.value
    return document


def _value_from_json(name: str, node: Node) -> Value:
    low = high = None
    interval = node.maybe("interval")
    if interval is not None:
        ends = [None if end.value is None else end.real() for end in interval.items()]
        if len(ends) != 2:  # noqa: PLR2004 - an interval has two ends
            raise interval.wrong("a list of two numbers")
        low, high = ends
    better = node.maybe("better")
    is_recorded = metric_named(name).kind is Kind.RECORDED
    return Value(
        value=node["value"].number(),
        low=low,
        high=high,
        better=better.member(Better) if better is not None and is_recorded else None,
    )


def _samples_to_json(samples: Samples, test_id: str) -> Json:
    where = f"{test_id}: samples"
    document: Json = {
        "rounds": samples.rounds,
        "warmup_rounds": samples.warmup_rounds,
        "calls_per_round": samples.calls_per_round,
        "threads": samples.threads,
        "confidence": samples.confidence,
        "steady": samples.is_steady,
    }
    if samples.device is not None:
        document["device"] = samples.device
    for name in ("median", "low", "high", "p95", "p99", "minimum", "maximum"):
        document[name] = finite(getattr(samples, name), where)
    for name in _P_BOUNDS:
        value = getattr(samples, name)
        if value is not None:
            document[name] = finite(value, where)
    return document


def _samples_from_json(node: Node) -> Samples:
    bounds = {name: node.maybe(name) for name in _P_BOUNDS}
    return Samples(
        rounds=node["rounds"].count(),
        warmup_rounds=node["warmup_rounds"].count(),
        calls_per_round=node["calls_per_round"].count(),
        threads=node["threads"].count(),
        device=node.text_or_none("device"),
        confidence=node["confidence"].real(),
        is_steady=node["steady"].flag(),
        median=node["median"].real(),
        low=node["low"].real(),
        high=node["high"].real(),
        p95=node["p95"].real(),
        p99=node["p99"].real(),
        minimum=node["minimum"].real(),
        maximum=node["maximum"].real(),
        **{name: bound.real() for name, bound in bounds.items() if bound is not None},
    )


def operator_to_json(row: OperatorSpending) -> Json:
    """One row of spending, without the metrics that are zero."""
    return {"operator": row.operator, "calls": row.calls, **row.counts.as_dict()}


def module_from_json(node: Node) -> ModuleSpending:
    """One module and its operators. Raises ReportError for a malformed row."""
    return ModuleSpending(
        path=node["path"].text(),
        type=node["type"].text(),
        calls=node["calls"].count(),
        operators=tuple(
            OperatorSpending(
                operator=row["operator"].text(),
                calls=row["calls"].count(),
                counts=_counts_from_json(row),
            )
            for row in node["operators"].items()
        ),
    )


def line_from_json(node: Node) -> LineSpending:
    """What one operator spent on one source line. Raises ReportError for a malformed row."""
    return LineSpending(
        line=node["line"].text(),
        operator=node["operator"].text(),
        calls=node["calls"].count(),
        counts=_counts_from_json(node),
    )


def _counts_from_json(node: Node) -> Counts:
    found = {name: node.maybe(name) for name in COUNTED}
    return Counts(**{name: count.count() for name, count in found.items() if count is not None})


def uncounted_from_json(node: Node) -> Uncounted:
    """One uncounted operator. Raises ReportError for a malformed row."""
    return Uncounted(
        operator=node["operator"].text(),
        calls=node["calls"].count(),
        shapes=node["shapes"].texts(),
    )
