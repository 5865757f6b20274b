"""How often something happened, with an interval, where the trials are not all independent."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
STEPS = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of so many, and the two-sided interval of the true share."""

    hits: int
    trials: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.hits / self.trials


def rate(hits: int, trials: int, design_effect: float = 1.0) -> Rate:
    """The exact interval of Clopper and Pearson.

    design_effect: how many of the trials tell as much as one that is independent of all others.
    Both numbers are divided by it, and rounded to the side that widens the interval.
    Source: Clopper and Pearson, Biometrika 26 (1934), 404; Kish, Survey Sampling (1965), 5.4.
    """
    independent = max(1, math.floor(trials / design_effect))
    fewer = math.floor(hits / design_effect)
    more = min(independent, math.ceil(hits / design_effect))
    tail = (1 - CONFIDENCE) / 2
    low = _root(lambda p: at_most(fewer - 1, independent, p) > 1 - tail) if fewer else 0.0
    high = _root(lambda p: at_most(more, independent, p) > tail) if more < independent else 1.0
    return Rate(hits, trials, low, high)


def at_most(hits: int, trials: int, p: float) -> float:
    """The probability of at most so many hits, each of probability p."""
    return math.fsum(
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * math.log(p)
            + (trials - k) * math.log1p(-p)
        )
        for k in range(hits + 1)
    )


def _root(is_below: Callable[[float], bool]) -> float:
    """Where `is_below` turns from true to false, between 0 and 1."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2


def within_groups(groups: Sequence[Sequence[float]]) -> float:
    """How much values of the same group resemble each other: 0 not at all, 1 wholly.

    groups: of equal size. The intraclass correlation of a one-way analysis of variance, and
    0 where it is negative, or where there are too few to tell.
    Source: Shrout and Fleiss, Psychological Bulletin 86 (1979), 420: ICC(1,1).
    """
    size = len(groups[0]) if groups else 0
    if len(groups) < 2 or size < 2:
        return 0.0
    between = size * statistics.variance([statistics.fmean(group) for group in groups])
    within = statistics.fmean(statistics.variance(group) for group in groups)
    total = between + (size - 1) * within
    return max(0.0, (between - within) / total) if total else 0.0


def design_effect(correlation: float, size: int) -> float:
    """How many trials in groups of this size tell as much as one alone.

    Source: Kish, Survey Sampling (1965), 5.4.
    """
    return 1 + (size - 1) * correlation
