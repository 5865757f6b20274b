"""Estimates from timed rounds, against binomial sums done by hand and synthetic series."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.statistics import (
    dependence,
    is_drifting,
    median,
    median_interval,
    percentile,
    percentile_interval,
    relative_half_width,
)

TIMES = st.lists(st.floats(min_value=1e-9, max_value=1e3), min_size=1, max_size=80)
CONFIDENCES = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])


def test_median_of_an_even_count_is_the_mean_of_the_middle_two() -> None:
    assert median([4.0, 1.0, 2.0, 10.0]) == 3.0


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.01, 1.0), (0.05, 1.0), (0.0501, 2.0), (0.5, 10.0), (0.95, 19.0), (0.951, 20.0), (1, 20.0)],
)
def test_percentile_is_the_smallest_sample_that_enough_do_not_exceed(
    share: float, expected: float
) -> None:
    # Of 1 ... 20, the k-th is not exceeded by k / 20 of the samples.
    assert percentile([float(n) for n in range(20, 0, -1)], share) == expected


@pytest.mark.parametrize(
    ("count", "rank", "attained"),
    [
        # P(B < 1) = 1/64 <= 0.025, and P(B < 2) = 7/64 is more.
        (6, 1, 1 - 2 * 1 / 64),
        # P(B < 2) = (1 + 10)/1024 <= 0.025, and P(B < 3) = 56/1024 is more.
        (10, 2, 1 - 2 * 11 / 1024),
        # P(B < 4) = (1 + 15 + 105 + 455)/32768 <= 0.025, and with 1365 more it is not.
        (15, 4, 1 - 2 * 576 / 32768),
    ],
)
def test_the_median_lies_between_the_ranks_of_the_binomial(
    count: int, rank: int, attained: float
) -> None:
    interval = median_interval([float(n) for n in range(1, count + 1)], 0.95)
    assert (interval.low, interval.high) == (rank, count + 1 - rank)
    assert interval.confidence == pytest.approx(attained, rel=1e-12)


@pytest.mark.parametrize(("count", "attained"), [(1, 0.0), (2, 0.5), (3, 0.75), (5, 0.9375)])
def test_too_few_samples_give_their_whole_range_and_say_what_it_attains(
    count: int, attained: float
) -> None:
    # The range misses the median only if all samples fall on one side: 2 * (1/2)^n.
    interval = median_interval([float(n) for n in range(1, count + 1)], 0.95)
    assert (interval.low, interval.high) == (1.0, count)
    assert interval.confidence == attained


def test_dependent_samples_count_for_fewer() -> None:
    samples = [float(n) for n in range(1, 61)]
    # Ten samples a piece make 6 independent ones, whose ranks 1 and 6 of 7 are 61/7 = 8.7
    # and its mirror image here, rounded outwards.
    interval = median_interval(samples, 0.95, dependence=10.0)
    assert (interval.low, interval.high) == (8.0, 53.0)
    assert interval.confidence == pytest.approx(1 - 2 / 64)


@given(samples=TIMES, confidence=CONFIDENCES, worth=st.floats(min_value=1.0, max_value=100.0))
def test_the_interval_contains_the_median(
    samples: list[float], confidence: float, worth: float
) -> None:
    interval = median_interval(samples, confidence, worth)
    assert min(samples) <= interval.low <= median(samples) <= interval.high <= max(samples)


@given(samples=TIMES, confidence=CONFIDENCES)
def test_more_confidence_never_narrows_the_interval(
    samples: list[float], confidence: float
) -> None:
    interval = median_interval(samples, confidence)
    wider = median_interval(samples, (1 + confidence) / 2)
    assert wider.low <= interval.low
    assert wider.high >= interval.high


@given(samples=TIMES, confidence=CONFIDENCES)
def test_the_attained_confidence_falls_short_only_when_the_interval_is_the_whole_range(
    samples: list[float], confidence: float
) -> None:
    interval = median_interval(samples, confidence)
    if interval.confidence < confidence:
        assert (interval.low, interval.high) == (min(samples), max(samples))


@given(samples=TIMES, exponent=st.integers(min_value=-10, max_value=10))
def test_scaling_time_scales_every_estimate(samples: list[float], exponent: int) -> None:
    scale = 2.0**exponent  # a power of two, so that the products are exact
    scaled = [scale * value for value in samples]
    interval, scaled_interval = median_interval(samples, 0.95), median_interval(scaled, 0.95)
    assert median(scaled) == scale * median(samples)
    assert percentile(scaled, 0.95) == scale * percentile(samples, 0.95)
    assert scaled_interval.low == scale * interval.low
    assert scaled_interval.high == scale * interval.high
    assert relative_half_width(scaled_interval, median(scaled)) == relative_half_width(
        interval, median(samples)
    )
    assert dependence(scaled) == dependence(samples)


@given(samples=TIMES, seed=st.integers())
def test_the_order_of_the_samples_does_not_move_an_estimate(
    samples: list[float], seed: int
) -> None:
    shuffled = random.Random(seed).sample(samples, len(samples))
    assert median(shuffled) == median(samples)
    assert percentile(shuffled, 0.99) == percentile(samples, 0.99)
    assert median_interval(shuffled, 0.95) == median_interval(samples, 0.95)


@given(samples=TIMES, slower=st.floats(min_value=0.0, max_value=1.0))
def test_slower_samples_never_lower_an_estimate(samples: list[float], slower: float) -> None:
    slowed = [value + slower for value in samples]
    assert median(slowed) >= median(samples)
    assert percentile(slowed, 0.95) >= percentile(samples, 0.95)
    assert median_interval(slowed, 0.95).low >= median_interval(samples, 0.95).low


@pytest.mark.parametrize(("share", "fewest"), [(0.95, 72), (0.99, 368)])
def test_a_high_percentile_has_an_interval_only_with_enough_samples(
    share: float, fewest: int
) -> None:
    # All samples fall below the quantile with probability share^n:
    # 0.95^71 = 0.0262 and 0.95^72 = 0.0249; 0.99^367 = 0.02501 and 0.99^368 = 0.0248.
    assert share ** (fewest - 1) > 0.025 >= share**fewest
    assert percentile_interval([float(n) for n in range(fewest - 1)], share, 0.95) is None
    interval = percentile_interval([float(n) for n in range(fewest)], share, 0.95)
    assert interval is not None
    assert interval.high == fewest - 1
    assert interval.low < percentile([float(n) for n in range(fewest)], share)
    assert interval.confidence >= 0.95


def _covered(make_series: object, true_median: float, runs: int = 400) -> float:
    """Share of the runs whose 95 % interval holds the true median."""
    assert callable(make_series)
    hits = 0
    for seed in range(runs):
        samples = make_series(random.Random(seed))
        interval = median_interval(samples, 0.95, dependence(samples))
        hits += interval.low <= true_median <= interval.high
    return hits / runs


def _heavy_tailed(source: random.Random) -> list[float]:
    return [source.paretovariate(1.2) for _ in range(40)]


def _correlated(source: random.Random) -> list[float]:
    """A Markov chain with lag-1 correlation 0.6 around zero, as timings have it."""
    value, series = 0.0, []
    for _ in range(300):
        value = 0.6 * value + source.gauss(0, 1)
        series.append(value)
    return series


def test_the_interval_holds_the_median_of_a_heavy_tail_as_often_as_it_says() -> None:
    # P(X > x) = x^-1.2, so that the median is 2^(1/1.2). 400 runs have a sigma of 1.1 %.
    assert _covered(_heavy_tailed, 2 ** (1 / 1.2)) >= 0.93


def test_dependence_is_what_keeps_the_promise_for_correlated_rounds() -> None:
    assert _covered(_correlated, 0.0) >= 0.92
    naive = 0
    for seed in range(400):
        interval = median_interval(_correlated(random.Random(seed)), 0.95)
        naive += interval.low <= 0 <= interval.high
    assert naive / 400 < 0.85


def test_alternating_samples_are_worth_no_less_than_independent_ones() -> None:
    assert dependence([1.0, 2.0] * 20) == 1.0
    assert dependence([1.0, 2.0] * 20 + [1.0]) == pytest.approx(1.0, abs=0.1)


def test_a_step_half_way_is_worth_few_independent_samples() -> None:
    # Four lows and four highs, of sides -1 and +1: k apart, 8 - k pairs, of which k are
    # unlike while k <= 4, so that r_k = (8 - 3k)/8. r_1 + r_2 = 7/8, and r_3 + r_4 < 0.
    assert dependence([1.0] * 4 + [2.0] * 4) == pytest.approx(1 + 2 * 7 / 8)


def test_equal_samples_have_no_width_and_no_dependence() -> None:
    assert dependence([1.0] * 30) == 1.0
    assert relative_half_width(median_interval([1.0] * 30, 0.95), 1.0) == 0.0


def test_a_falling_series_is_drifting() -> None:
    assert is_drifting([2.0 * 0.9**n for n in range(10)], 0.02)


def test_a_rising_series_is_drifting() -> None:
    assert is_drifting([1.0 + 0.01 * n for n in range(10)], 0.02)


def test_a_drift_below_the_tolerance_is_steady() -> None:
    # The medians of the halves are 1.002 and 1.007: 0.5 % apart.
    assert not is_drifting([1.0 + 0.001 * n for n in range(10)], 0.02)


def test_a_bimodal_series_is_steady() -> None:
    assert not is_drifting([1.0, 1.0, 2.0, 1.0, 2.0, 2.0, 1.0, 2.0, 1.0, 2.0], 0.02)


def test_one_outlier_does_not_make_a_drift() -> None:
    assert not is_drifting([9.0] + [1.0] * 9, 0.02)


def test_five_samples_cannot_show_a_drift() -> None:
    assert not is_drifting([5.0, 4.0, 3.0, 2.0, 1.0], 0.02)
    assert is_drifting([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 0.02)
