"""The growth that pairs of processes can tell from none."""

from __future__ import annotations

import math
import random
from statistics import fmean, stdev

import pytest

from pytest_flopbudget.core.noise import _power, detectable_growth
from pytest_flopbudget.core.stopping import Rules

# Three of the looks can fail a test, so that each errs by 0.5 %.
RULES = Rules(allowed=0.05, error=0.015, looks=(3, 5, 7, 10))


@pytest.mark.parametrize(
    ("shift", "bound", "degrees", "power"),
    [
        # Student's t itself where nothing is shifted: its tables at 0.995, 0.9 and 0.5.
        (0.0, 4.604, 4, 0.005),
        (0.0, 1.383, 9, 0.1),
        (0.0, 0.0, 3, 0.5),
        # Above nothing at all lies what the normal distribution has there.
        (1.0, 0.0, 4, 0.84134),
    ],
)
def test_the_power_is_the_upper_tail_of_the_noncentral_t(
    shift: float, bound: float, degrees: int, power: float
) -> None:
    assert _power(shift, bound, degrees) == pytest.approx(power, abs=2e-5)


def test_the_growth_grows_with_the_noise_and_falls_with_the_pairs() -> None:
    def logarithm(spread: float, pairs: int) -> float:
        return math.log1p(detectable_growth(math.expm1(spread), pairs, RULES, 0.9))

    assert logarithm(0.06, 5) == pytest.approx(2 * logarithm(0.03, 5))
    assert logarithm(0.03, 5) > logarithm(0.03, 7) > logarithm(0.03, 10)


def test_a_machine_without_noise_resolves_everything() -> None:
    assert detectable_growth(0.0, 5, RULES, 0.9) == 0.0


def test_too_few_pairs_to_fail_a_test_resolve_nothing() -> None:
    assert RULES.fewest_to_fail == 4
    assert math.isinf(detectable_growth(0.01, 3, RULES, 0.9))
    assert math.isfinite(detectable_growth(0.01, 4, RULES, 0.9))


@pytest.mark.parametrize(("pairs", "bound"), [(5, 4.604), (10, 3.250)])
def test_so_much_growth_is_found_as_often_as_was_said(pairs: int, bound: float) -> None:
    spread = 0.02
    grown = math.log1p(detectable_growth(math.exp(spread) - 1, pairs, RULES, 0.9))
    source = random.Random(5)
    found = 0
    for _ in range(2000):
        logs = [source.gauss(grown, spread) for _ in range(pairs)]
        # The lower end of the interval, with Student's t at 0.995 from its tables.
        found += fmean(logs) > bound * stdev(logs) / math.sqrt(pairs)
    # Four standard deviations of a share of 90 % among 2000 are 2.7 %.
    assert abs(found / 2000 - 0.9) < 0.027
