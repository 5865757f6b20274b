"""Bounds as ranges of allowed values, and where a value that is known as a range lies.

Counts and recorded numbers are compared exactly. A sampled value is known only as
an interval: it breaks a bound when the interval lies wholly outside it, holds it
when wholly inside, and is otherwise inconclusive.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.metrics import Better, Dimension, Kind, Metric
from pytest_flopbudget.core.quantity import exact, format_quantity
from pytest_flopbudget.core.verdicts import Outcome

_ABOVE_THE_MEDIAN: Final = frozenset({"latency_p95", "latency_p99"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What is known of a value: it lies between the ends, of which None is not known."""

    low: Fraction | None
    middle: Fraction
    high: Fraction | None

    @staticmethod
    def point(amount: Fraction) -> Span:
        """A value that is known exactly."""
        return Span(low=amount, middle=amount, high=amount)

    def times(self, factor: Fraction) -> Span:
        """The span of the value multiplied by a factor that is not negative."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Span(low=low, middle=self.middle * factor, high=high)


class BoundKind(enum.Enum):
    """Which key of a limit a bound comes from."""

    MAXIMUM = "max"
    MINIMUM = "min"
    EQUALS = "equals"
    BASELINE = "vs_baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The range that one key of a limit allows."""

    kind: BoundKind
    amount: Fraction
    """What sentences name, and count the change from."""
    words: str
    """With `{}` for the amount."""
    floor: Span | None = None
    ceiling: Span | None = None

    @property
    def edge(self) -> Fraction:
        """The number that decides: for a baseline, what it may grow to."""
        side = self.ceiling or self.floor
        return self.amount if side is None or self.kind is not BoundKind.BASELINE else side.middle

    def outcome(self, value: Span, better: Better) -> Outcome:
        """Where the value lies, and against a baseline also whether it is the better one."""
        sides = []
        if self.ceiling is not None:
            sides.append(_is_below(value, self.ceiling))
        if self.floor is not None:
            sides.append(_is_below(self.floor, value))
        is_baseline = self.kind is BoundKind.BASELINE
        if False in sides:
            return Outcome.REGRESSED if is_baseline else Outcome.OVER
        if None in sides:
            return Outcome.INCONCLUSIVE
        gain = self.amount - value.middle
        is_improved = gain > 0 if better is Better.LOWER else gain < 0
        return Outcome.IMPROVED if is_baseline and is_improved else Outcome.WITHIN


def span_of(metric: Metric, measurement: Measurement) -> Span:
    """What the measurement knows of the metric.

    A sampled value without an interval has no known ends, but for this: p95 and p99
    are not below the median, so that the lower end of its interval is theirs too.
    """
    value = measurement.values[metric.name]
    middle = exact(value.value)
    if metric.kind is not Kind.SAMPLED:
        return Span.point(middle)
    low, high = (None if end is None else exact(end) for end in (value.low, value.high))
    if low is None and metric.name in _ABOVE_THE_MEDIAN and measurement.samples is not None:
        low = exact(measurement.samples.low)
    return Span(low=low, middle=middle, high=high)


def absolute_bounds(limit: Limit, metric: Metric, reference: Span | None) -> Iterator[Bound]:
    """The bounds of a limit that need no baseline.

    reference: what `ratio_to` names; the bounds are then that many times it.
    """
    unit = Span.point(Fraction(1)) if reference is None else reference
    if limit.maximum is not None:
        ceiling = unit.times(limit.maximum)
        words = _ratio_words(limit, limit.maximum)
        yield Bound(
            kind=BoundKind.MAXIMUM, amount=ceiling.middle, words=f"budget {words}", ceiling=ceiling
        )
    if limit.minimum is not None:
        floor = unit.times(limit.minimum)
        words = f"budget at least {_ratio_words(limit, limit.minimum)}"
        yield Bound(kind=BoundKind.MINIMUM, amount=floor.middle, words=words, floor=floor)
    if limit.equals is not None:
        spread = _spread(limit, limit.equals)
        yield Bound(
            kind=BoundKind.EQUALS,
            amount=limit.equals,
            words=f"budget {_tolerance_words(limit, metric.dimension)}",
            floor=Span.point(limit.equals - spread),
            ceiling=Span.point(limit.equals + spread),
        )


def baseline_bound(base: Fraction, allowed: Fraction, better: Better) -> Bound:
    """What a value may be after this baseline, of which it may lose the allowed share.

    Where more is better, both `+2%` and `-2%` allow a drop of so much.
    """
    percent = format_quantity(allowed * 100, Dimension.ONE)
    signed = percent if allowed < 0 else f"+{percent}"
    if better is Better.LOWER:
        return Bound(
            kind=BoundKind.BASELINE,
            amount=base,
            words=f"baseline {{}}, allowed {signed} %",
            ceiling=Span.point(base + allowed * abs(base)),
        )
    return Bound(
        kind=BoundKind.BASELINE,
        amount=base,
        words=f"baseline {{}}, allowed -{percent.lstrip('-')} %",
        floor=Span.point(base - abs(allowed * base)),
    )


def _is_below(a: Span, b: Span) -> bool | None:
    """Whether `a` is at most `b`; None where what is known cannot tell."""
    if a.high is not None and b.low is not None and a.high <= b.low:
        return True
    if a.low is not None and b.high is not None and a.low > b.high:
        return False
    return None


def _spread(limit: Limit, equals: Fraction) -> Fraction:
    if limit.tolerance is None:
        return Fraction(0)
    amount = limit.tolerance.amount
    return amount * abs(equals) if limit.tolerance.is_relative else amount


def _ratio_words(limit: Limit, ratio: Fraction) -> str:
    if limit.ratio_to is None:
        return "{}"
    return f"{format_quantity(ratio, Dimension.ONE)} of {limit.ratio_to!r}, {{}}"


def _tolerance_words(limit: Limit, dimension: Dimension) -> str:
    if limit.tolerance is None:
        return "exactly {}"
    amount = limit.tolerance.amount
    if limit.tolerance.is_relative:
        return f"{{}} \N{PLUS-MINUS SIGN} {format_quantity(amount * 100, Dimension.ONE)} %"
    return f"{{}} \N{PLUS-MINUS SIGN} {format_quantity(amount, dimension)}"
