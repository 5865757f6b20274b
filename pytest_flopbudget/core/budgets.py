"""Budgets: the limits of one region, and where they were written."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction


class Severity(enum.Enum):
    """What a broken limit does."""

    ERROR = "error"
    WARN = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Allowed distance from `equals`: a share of it, or an amount in the metric's base unit."""

    amount: Fraction
    is_relative: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The bounds of one metric. Amounts are exact, in the metric's base unit."""

    metric: str
    maximum: Fraction | None = None
    minimum: Fraction | None = None
    """With `ratio_to`, these two are ratios."""
    equals: Fraction | None = None
    tolerance: Tolerance | None = None
    vs_baseline: Fraction | None = None
    """Allowed change against the baseline, as a share of it: 0.05 for ``"+5%"``."""
    ratio_to: str | None = None
    """Name of the measurement that `maximum` and `minimum` are a share of."""
    on: str | None = None
    """Name of the only machine on which this limit is judged."""
    severity: Severity = Severity.ERROR
    source: str = ""
    """Where the limit was written, such as `pyproject.toml: tool.flopbudget.budgets.resnet18`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The limits of one region of a test."""

    region: str = ""
    """The region's name; ``""`` is the test's call."""
    name: str | None = None
    """The name under which `ratio_to` finds this region's measurement."""
    limits: tuple[Limit, ...] = ()
    is_strict: bool = True
    """Whether an uncounted operator breaks the budget."""

    @property
    def metrics(self) -> frozenset[str]:
        """Names of the metrics that are bounded."""
        return frozenset(limit.metric for limit in self.limits)


def overlay(weaker: Iterable[Limit], stronger: Iterable[Limit]) -> tuple[Limit, ...]:
    """The limits of both, metric by metric; where both bound a metric, the stronger's alone."""
    merged = {limit.metric: limit for limit in weaker}
    merged.update((limit.metric, limit) for limit in stronger)
    return tuple(merged.values())
