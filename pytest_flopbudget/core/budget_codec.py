"""Budgets and verdicts as JSON and back. The document's shape is in `report.schema.json`."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from pytest_flopbudget.core.budgets import Budget, Limit, Severity, Tolerance
from pytest_flopbudget.core.fields import Node, finite
from pytest_flopbudget.core.verdicts import Outcome, Verdict

Json = dict[str, Any]


def budget_to_json(budget: Budget) -> Json:
    """One budget, without the keys that its limits leave open."""
    return {
        "region": budget.region,
        "name": budget.name,
        "strict": budget.is_strict,
        "limits": [limit_to_json(limit) for limit in budget.limits],
    }


def budget_from_json(node: Node) -> Budget:
    """The budget at this place. Raises ReportError for a malformed one."""
    return Budget(
        region=node["region"].text(),
        name=node.text_or_none("name"),
        is_strict=node["strict"].flag(),
        limits=tuple(_limit_from_json(item) for item in node["limits"].items()),
    )


def limit_to_json(limit: Limit) -> Json:
    """One limit, without the keys that it leaves open."""
    document: Json = {
        "metric": limit.metric,
        "max": number_to_json(limit.maximum),
        "min": number_to_json(limit.minimum),
        "equals": number_to_json(limit.equals),
        "tolerance": limit.tolerance
        and {
            "amount": number_to_json(limit.tolerance.amount),
            "relative": limit.tolerance.is_relative,
        },
        "vs_baseline": number_to_json(limit.vs_baseline),
        "ratio_to": limit.ratio_to,
        "on": limit.on,
        "severity": limit.severity.value,
        "source": limit.source,
    }
    return {key: value for key, value in document.items() if value is not None}


def _limit_from_json(node: Node) -> Limit:
    tolerance = node.maybe("tolerance")
    return Limit(
        metric=node["metric"].text(),
        maximum=_fraction_or_none(node, "max"),
        minimum=_fraction_or_none(node, "min"),
        equals=_fraction_or_none(node, "equals"),
        tolerance=None
        if tolerance is None
        else Tolerance(
            amount=tolerance["amount"].fraction(), is_relative=tolerance["relative"].flag()
        ),
        vs_baseline=_fraction_or_none(node, "vs_baseline"),
        ratio_to=node.text_or_none("ratio_to"),
        on=node.text_or_none("on"),
        severity=node["severity"].member(Severity),
        source=node["source"].text(),
    )


def verdict_to_json(verdict: Verdict, test_id: str) -> Json:
    """One verdict. Raises ReportError, naming the test, for a number that is not finite."""
    where = f"{test_id}: {verdict.metric}"
    return {
        "region": verdict.region,
        "metric": verdict.metric,
        "verdict": verdict.outcome.value,
        "reason": verdict.reason,
        "value": finite(verdict.value, where),
        "bound": finite(verdict.bound, where),
        "used": finite(verdict.used, where),
        "severity": verdict.severity.value,
    }


def verdict_from_json(node: Node) -> Verdict:
    """The verdict at this place. Raises ReportError for a malformed one."""
    value, bound, used = node.maybe("value"), node.maybe("bound"), node.maybe("used")
    return Verdict(
        region=node["region"].text(),
        metric=node["metric"].text(),
        outcome=node["verdict"].member(Outcome),
        reason=node["reason"].text(),
        value=None if value is None else value.number(),
        bound=None if bound is None else bound.number(),
        used=None if used is None else used.real(),
        severity=node["severity"].member(Severity),
    )


def number_to_json(amount: Fraction | None) -> int | float | None:
    """The amount as a JSON number: its decimal where a float can hold it to the digit."""
    if amount is None:
        return None
    return amount.numerator if amount.denominator == 1 else float(amount)


def _fraction_or_none(node: Node, key: str) -> Fraction | None:
    item = node.maybe(key)
    return None if item is None else item.fraction()
