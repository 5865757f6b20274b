"""The noise floor: what growth of a latency a machine can tell from none."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

from pytest_flopbudget.core.ratios import FEWEST_PAIRS, student_t
from pytest_flopbudget.core.stopping import Rules

_STEPS: Final = 400
_HIGHEST: Final = 8.0
"""Above which neither what a standard deviation is estimated at, in units of itself, nor a
shift that is found by a rule of a few pairs has any weight."""
_MOST_SHIFT: Final = 1000.0
_standard: Final = NormalDist()


def detectable_growth(noise: float, pairs: int, rules: Rules, power: float) -> float:
    """The growth that so many pairs tell from none with this power, 0.03 for +3 %.

    noise: between pairs, as `Ratio.noise` has it: exp of the standard deviation s of the
    logarithms of the pairs' ratios, less 1.
    rules: of which one look's share of the stated error counts.
    power: how often the interval over pairs then lies above 1.

    It is exp(shift * s / sqrt(n)) - 1 for n pairs, where a mean that lies so many of its
    standard errors from none has the power: that of the t-test, by the noncentral t with
    n - 1 degrees of freedom. Infinite with fewer pairs than may fail a test.
    Source: Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions 2, chapter 31.
    """
    if pairs < max(rules.fewest_to_fail, FEWEST_PAIRS):
        return math.inf
    bound = student_t((1 + rules.confidence) / 2, pairs - 1)
    low, high = 0.0, _MOST_SHIFT
    while low < (middle := (low + high) / 2) < high:
        if _power(middle, bound, pairs - 1) < power:
            low = middle
        else:
            high = middle
    return math.expm1(high * math.log1p(noise) / math.sqrt(pairs))


def _power(shift: float, bound: float, degrees: int) -> float:
    """How often (Z + shift) / U is above the bound: the upper tail of the noncentral t.

    Z is standard normal, and U^2 an independent chi-squared by its degrees of freedom. The
    mean over U of what Z does is summed at the middles of equal steps.
    """
    log_scale = math.log(2) + degrees / 2 * math.log(degrees / 2) - math.lgamma(degrees / 2)
    step = _HIGHEST / _STEPS
    total = 0.0
    for n in range(_STEPS):
        u = (n + 0.5) * step
        density = math.exp(log_scale + (degrees - 1) * math.log(u) - degrees * u * u / 2)
        total += density * _standard.cdf(shift - bound * u)
    return total * step
