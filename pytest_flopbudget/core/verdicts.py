"""The outcome of holding one measured value to one limit."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_flopbudget.core.budgets import Severity


class Outcome(enum.Enum):
    """What the comparison of a value with its limit says."""

    WITHIN = "within"
    OVER = "over"
    """Outside an absolute bound, a ratio, or strictness."""
    REGRESSED = "regressed"
    """Grown against the baseline by more than `vs_baseline` allows."""
    IMPROVED = "improved"
    """Within a `vs_baseline` limit, and better than the baseline."""
    INCONCLUSIVE = "inconclusive"
    """The interval of a sampled value holds the bound."""
    NOT_GATED = "not gated here"
    """The limit names another machine than this one."""
    NO_BASELINE = "no baseline"
    NOT_MEASURED = "not measured"
    """The test ended without measuring what the limit bounds."""
    PENDING = "pending"
    """A ratio to a measurement of another test: judged when the session ends."""


BROKEN = frozenset({Outcome.OVER, Outcome.REGRESSED, Outcome.NOT_MEASURED})
"""Outcomes that fail a test, unless the limit only warns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one limit says of one measured value."""

    region: str
    metric: str
    outcome: Outcome
    reason: str
    """One sentence for people: the value, the bound, by how much, what spent it."""
    value: int | float | None = None
    bound: float | int | None = None
    """The bound that decided, in the metric's base unit: the nearest one when within."""
    used: float | None = None
    """Value as a share of the bound, where the bound is a maximum."""
    severity: Severity = Severity.ERROR

    @property
    def is_failure(self) -> bool:
        """Whether the test must fail for it."""
        return self.outcome in BROKEN and self.severity is Severity.ERROR


def failures(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts for which a test must fail."""
    return tuple(verdict for verdict in verdicts if verdict.is_failure)


def inconclusive(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts that could not be told, of limits that do more than warn."""
    return tuple(
        verdict
        for verdict in verdicts
        if verdict.outcome is Outcome.INCONCLUSIVE and verdict.severity is Severity.ERROR
    )
