"""Side-by-side timings as JSON and back. The document's shape is in `report.schema.json`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.fields import Node, finite
from pytest_flopbudget.core.ratios import FEWEST_PAIRS, Ratio
from pytest_flopbudget.core.side_by_side import SideBySide, Timed, TimedOutcome
from pytest_flopbudget.core.witness import Witness

Json = dict[str, Any]

_HAS_RATIO: Final = {
    TimedOutcome.REGRESSED: True,
    TimedOutcome.WITHIN: True,
    TimedOutcome.NOT_TIMED: False,
}
"""An unstable test may have had too few pairs for one."""
_ABOVE_ZERO: Final = ("estimate", "wall", "base_s", "head_s")


def side_by_side_to_json(run: SideBySide) -> Json:
    """The timings. Raises ReportError, naming the test, for a number that is not finite."""
    return {
        "base": run.base,
        "head": run.head,
        "dirty": run.is_dirty,
        "environment": dict(run.environment),
        "pairs": run.pairs,
        "seconds": finite(run.seconds, "side_by_side.seconds"),
        "notes": list(run.notes),
        "tests": [timed_to_json(timed) for timed in run.tests],
    }


def side_by_side_from_json(node: Node, tests: Collection[str]) -> SideBySide:
    """The timings at this place.

    tests: the ids of the report's tests, which alone can have been timed.
    Raises ReportError for malformed ones.
    """
    found: dict[tuple[str, str], Timed] = {}
    for item in node["tests"].items():
        timed = _timed_from_json(item)
        if timed.test not in tests:
            raise item["test"].error(f"the report has no test {timed.test!r}")
        if (timed.test, timed.region) in found:
            raise item["region"].error("this region of the test stands there twice")
        found[timed.test, timed.region] = timed
    return SideBySide(
        base=node["base"].text(),
        head=node["head"].text(),
        is_dirty=node["dirty"].flag(),
        environment={name: value.text() for name, value in node["environment"].entries()},
        pairs=node["pairs"].count(),
        seconds=_at_least_zero(node["seconds"]),
        notes=node["notes"].texts(),
        tests=tuple(found.values()),
    )


def timed_to_json(timed: Timed) -> Json:
    """What came of one region. Raises ReportError, naming the test, as the above."""
    document: Json = {
        "test": timed.test,
        "region": timed.region,
        "outcome": timed.outcome.value,
        "reason": timed.reason,
        "allowed": finite(timed.allowed, f"{timed.test}: allowed"),
        "severity": timed.severity.value,
    }
    if timed.ratio is not None:
        document["ratio"] = _ratio_to_json(timed.ratio, timed.test)
    return document


def _timed_from_json(node: Node) -> Timed:
    ratio, outcome = node.maybe("ratio"), node["outcome"].member(TimedOutcome)
    if _HAS_RATIO.get(outcome, ratio is not None) != (ratio is not None):
        has = "no ratio" if ratio is None else "a ratio"
        raise node["outcome"].error(f"{outcome.value!r}, and there is {has}")
    return Timed(
        test=node["test"].text(),
        region=node["region"].text(),
        outcome=outcome,
        reason=node["reason"].text(),
        allowed=_at_least_zero(node["allowed"]),
        severity=node["severity"].member(Severity),
        ratio=None if ratio is None else _ratio_from_json(ratio),
    )


def _ratio_to_json(ratio: Ratio, test_id: str) -> Json:
    """One ratio. Raises ReportError, naming the test, for a number that is not finite."""
    where = f"{test_id}: ratio"
    return {
        "estimate": finite(ratio.estimate, where),
        "interval": [finite(ratio.low, where), finite(ratio.high, where)],
        "confidence": finite(ratio.confidence, where),
        "noise": finite(ratio.noise, where),
        "pairs": ratio.pairs,
        "witness": ratio.witness.value,
        "wall": finite(ratio.wall, where),
        "base_s": finite(ratio.base_s, where),
        "head_s": finite(ratio.head_s, where),
    }


def _ratio_from_json(node: Node) -> Ratio:
    low, high = _interval(node["interval"])
    pairs, confidence = node["pairs"], node["confidence"]
    if pairs.count() < FEWEST_PAIRS:
        raise pairs.wrong("two pairs or more")
    if not 0 <= confidence.real() < 1:
        raise confidence.wrong("a share below 1")
    numbers = {name: _above_zero(node[name]) for name in _ABOVE_ZERO}
    return Ratio(
        low=low,
        high=high,
        confidence=confidence.real(),
        noise=_at_least_zero(node["noise"]),
        pairs=pairs.count(),
        witness=node["witness"].member(Witness),
        **numbers,
    )


def _interval(node: Node) -> tuple[float, float]:
    ends = [_above_zero(end) for end in node.items()]
    if len(ends) != 2 or ends[0] > ends[1]:  # noqa: PLR2004 - an interval has two ends
        raise node.wrong("two numbers, the lower first")
    return ends[0], ends[1]


def _above_zero(node: Node) -> float:
    """A time, or a share of one, of which a logarithm is taken."""
    value = node.real()
    if value <= 0:
        raise node.wrong("a number above zero")
    return value


def _at_least_zero(node: Node) -> float:
    value = node.real()
    if value < 0:
        raise node.wrong("a number, zero or more")
    return value
