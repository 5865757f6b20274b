"""Estimates from a series of timed rounds, with no assumption on their distribution.

Times are neither normal nor independent, so that nothing here uses a mean or a
standard deviation, and the intervals are widened by how much neighbouring
rounds resemble each other.
"""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

_FEWEST_FOR_ORDER: Final = 6
_TREND_SIGMAS: Final = 2.0
_MOST_LAGS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A range that holds a quantile of the underlying distribution with some confidence."""

    low: float
    high: float
    confidence: float
    """The confidence attained: at least the one asked for, unless the samples are too few."""


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the two in the middle. Needs at least one."""
    return statistics.median(samples)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of the samples do not exceed.

    This is the nearest-rank method (Hyndman and Fan's type 1): always a time that
    was seen, never a mixture of two. `share` lies in (0, 1]; needs at least one sample.
    """
    # Rounding first keeps 0.95 * 20 from becoming the rank 20.
    rank = math.ceil(round(share * len(samples), 9))
    return sorted(samples)[max(rank, 1) - 1]


def median_interval(
    samples: Sequence[float], confidence: float, dependence: float = 1.0
) -> Interval:
    """The narrowest symmetric pair of order statistics that holds the median.

    The number of independent samples below the true median is binomial with
    p = 1/2, whatever the distribution, so that [x_(k), x_(n+1-k)] holds it with
    probability 1 - 2 P(B < k): exact, and no approximation by the normal. With
    too few samples for `confidence` (fewer than six for 95 %) the interval is as
    wide as the data, and says what it attains. `dependence` is how many samples
    are worth one independent one; the ranks are then those of so many fewer.
    Source: David and Nagaraja, Order Statistics, section 7.1.
    """
    ordered = sorted(samples)
    count = _independent(len(ordered), dependence)
    below = _lower_rank(count, 0.5, (1 - confidence) / 2)
    if below is None:
        return Interval(low=ordered[0], high=ordered[-1], confidence=1 - 2 * 0.5**count)
    rank, tail = below
    position = _spread_rank(rank, count, len(ordered))
    return Interval(low=ordered[position - 1], high=ordered[-position], confidence=1 - 2 * tail)


def percentile_interval(
    samples: Sequence[float], share: float, confidence: float, dependence: float = 1.0
) -> Interval | None:
    """The order statistics that hold the quantile at `share`, or None with too few samples.

    As `median_interval`, with p = `share` and equal tails. 95 % confidence takes
    72 independent samples for p95 and 368 for p99: with fewer, no sample is high enough.
    """
    ordered = sorted(samples)
    count = _independent(len(ordered), dependence)
    tail_share = (1 - confidence) / 2
    below = _lower_rank(count, share, tail_share)
    # The samples above the quantile are binomial too, so that one search serves both ends.
    above = _lower_rank(count, 1 - share, tail_share)
    if below is None or above is None:
        return None
    low = _spread_rank(below[0], count, len(ordered))
    high = _spread_rank(above[0], count, len(ordered))
    return Interval(low=ordered[low - 1], high=ordered[-high], confidence=1 - below[1] - above[1])


def dependence(samples: Sequence[float]) -> float:
    """How many samples of this series are worth one independent sample; at least 1.

    Computed as 1 + 2 * (r_1 + r_2 + ...), from the correlations r_k, k samples apart, in
    being above, at or below the median: the inflation of the variance of a count. The
    sum ends at the first pair of lags whose sum is not positive, and at 50 lags. It sees
    what lasts for a few rounds, such as a neighbour's burst, and not what lasts for the
    whole series. Source: Geyer, Practical Markov Chain Monte Carlo (1992), section 3.3.
    """
    count, middle = len(samples), median(samples)
    sides = [(value > middle) - (value < middle) for value in samples]
    mean = sum(sides) / count
    centred = [side - mean for side in sides]
    variance = sum(side * side for side in centred)
    if count < _FEWEST_FOR_ORDER or not variance:
        return 1.0
    total = 0.0
    for lag in range(1, min(_MOST_LAGS, count // 2), 2):
        pair = _products(centred, lag) + _products(centred, lag + 1)
        if pair <= 0:
            break
        total += pair / variance
    return min(float(count), 1 + 2 * total)


def relative_half_width(interval: Interval, centre: float) -> float:
    """Half of the interval's width as a share of `centre`; infinite around zero."""
    return (interval.high - interval.low) / 2 / centre if centre else math.inf


def is_drifting(samples: Sequence[float], tolerance: float) -> bool:
    """Whether the series still rises or falls by more than `tolerance`, a share.

    Both must hold: the medians of its two halves differ by more than the share,
    and the order of its values is no chance (the Mann-Kendall trend test, at two
    standard deviations). Fewer than six samples cannot show a drift.
    """
    count = len(samples)
    if count < _FEWEST_FOR_ORDER:
        return False
    half = count // 2
    first, last = median(samples[:half]), median(samples[-half:])
    if abs(last - first) <= tolerance * min(first, last):
        return False
    trend = sum((b > a) - (b < a) for a, b in combinations(samples, 2))
    return abs(trend) > _TREND_SIGMAS * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)


def _products(centred: Sequence[float], lag: int) -> float:
    """The sum of the products of the values that stand `lag` apart."""
    return math.fsum(map(operator.mul, centred, centred[lag:]))


def _independent(count: int, dependence: float) -> int:
    return max(1, int(count / dependence))


def _lower_rank(count: int, share: float, tail_share: float) -> tuple[int, float] | None:
    """The highest rank k with P(B < k) <= `tail_share`, B ~ Binomial(count, share), and that P.

    None where even the lowest sample is above the quantile too often.
    """
    log_share, log_rest = math.log(share), math.log1p(-share)
    tail, rank = 0.0, 0
    for successes in range(count):
        log_ways = (
            math.lgamma(count + 1) - math.lgamma(successes + 1) - math.lgamma(count - successes + 1)
        )
        chance = math.exp(log_ways + successes * log_share + (count - successes) * log_rest)
        if tail + chance > tail_share:
            break
        tail += chance
        rank = successes + 1
    return (rank, tail) if rank else None


def _spread_rank(rank: int, count: int, samples: int) -> int:
    """The rank among all samples of the rank among the independent ones, rounded outwards."""
    return max(1, rank * (samples + 1) // (count + 1))
