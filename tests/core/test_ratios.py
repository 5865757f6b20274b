"""Ratios over pairs, against Student's tables, sums done by hand and synthetic pairs."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.ratios import Ratio, estimate, log_ratio, student_t
from pytest_flopbudget.core.series import Slice, Turn, TurnSeries
from pytest_flopbudget.core.witness import Witness, witness

from .pairs import most_successes, normal, pair_of, pairs_with, piece

TIMES_S = st.floats(min_value=1e-6, max_value=1e3)
TURNS = st.lists(st.tuples(TIMES_S, TIMES_S), min_size=1, max_size=4).map(lambda t: pair_of(*t))
PAIRS = st.lists(
    st.one_of(TURNS, st.builds(lambda p, q: replace(p, shared_turns=q.turns), p=TURNS, q=TURNS)),
    min_size=2,
    max_size=5,
)
SCALES = st.floats(min_value=0.01, max_value=100)
LOGS = st.lists(st.floats(min_value=-1, max_value=1), min_size=2, max_size=10)


def scaled(series: TurnSeries, base: float = 1.0, head: float = 1.0) -> TurnSeries:
    def times(side: Slice, factor: float) -> Slice:
        return replace(side, wall_s=side.wall_s * factor, cpu_s=side.cpu_s * factor)

    def all_times(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        return tuple(Turn(base=times(t.base, base), head=times(t.head, head)) for t in turns)

    return replace(
        series, turns=all_times(series.turns), shared_turns=all_times(series.shared_turns)
    )


def swapped(series: TurnSeries) -> TurnSeries:
    def both(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        return tuple(Turn(base=t.head, head=t.base) for t in turns)

    return replace(series, turns=both(series.turns), shared_turns=both(series.shared_turns))


def width(ratio: Ratio) -> float:
    return math.log(ratio.high / ratio.low)


class TestStudent:
    @pytest.mark.parametrize(
        ("degrees", "values"),
        # NIST/SEMATECH e-Handbook of Statistical Methods, table 1.3.6.7.2; but for 0.999 and 1
        # or 9 degrees, where its last digits are off, Federighi, JASA 54 (1959), 683.
        [
            (1, (3.078, 6.314, 12.706, 31.821, 63.657, 318.309)),
            (2, (1.886, 2.920, 4.303, 6.965, 9.925, 22.327)),
            (3, (1.638, 2.353, 3.182, 4.541, 5.841, 10.215)),
            (4, (1.533, 2.132, 2.776, 3.747, 4.604, 7.173)),
            (5, (1.476, 2.015, 2.571, 3.365, 4.032, 5.893)),
            (6, (1.440, 1.943, 2.447, 3.143, 3.707, 5.208)),
            (9, (1.383, 1.833, 2.262, 2.821, 3.250, 4.297)),
            (14, (1.345, 1.761, 2.145, 2.624, 2.977, 3.787)),
            (29, (1.311, 1.699, 2.045, 2.462, 2.756, 3.396)),
            (100, (1.290, 1.660, 1.984, 2.364, 2.626, 3.174)),
        ],
    )
    def test_it_is_what_the_table_says(self, degrees: int, values: tuple[float, ...]) -> None:
        shares = (0.90, 0.95, 0.975, 0.99, 0.995, 0.999)
        found = [student_t(share, degrees) for share in shares]
        assert found == pytest.approx(values, abs=0.0005001)

    @pytest.mark.parametrize("share", [0.5001, 0.6, 0.9, 0.99, 0.9975, 0.9999, 0.99999])
    def test_it_is_exact_where_there_is_a_closed_form(self, share: float) -> None:
        # With 1 degree it is Cauchy's distribution; with 2 and 4, see Shaw, Sampling Student's
        # T distribution (2006), Journal of Computational Finance 9(4), section 3.
        product = 4 * share * (1 - share)
        assert student_t(share, 1) == pytest.approx(math.tan(math.pi * (share - 0.5)), rel=1e-9)
        assert student_t(share, 2) == pytest.approx(
            2 * (share - 0.5) * math.sqrt(2 / product), rel=1e-9
        )
        root = math.sqrt(product)
        four = 2 * math.sqrt(math.cos(math.acos(root) / 3) / root - 1)
        assert student_t(share, 4) == pytest.approx(four, rel=1e-9)

    @given(
        share=st.floats(min_value=0.501, max_value=0.9999),
        degrees=st.integers(min_value=1, max_value=40),
    )
    def test_so_much_of_the_density_lies_below_it(self, share: float, degrees: int) -> None:
        # Student's density in the angle whose tangent is t / sqrt(degrees), by Simpson's rule:
        # Gamma((n+1)/2) / (sqrt(pi) Gamma(n/2)) * cos(angle)^(n-1).
        end = math.atan(student_t(share, degrees) / math.sqrt(degrees))
        step = end / 200
        heights = [math.cos(n * step) ** (degrees - 1) for n in range(201)]
        weighted = heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2])
        scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2) / math.sqrt(math.pi)
        assert 0.5 + scale * weighted * step / 3 == pytest.approx(share, abs=1e-8)

    @given(
        share=st.floats(min_value=0.51, max_value=0.9999),
        degrees=st.integers(min_value=1, max_value=99),
    )
    def test_more_certainty_takes_more_and_more_pairs_take_less(
        self, share: float, degrees: int
    ) -> None:
        assert student_t((1 + share) / 2, degrees) > student_t(share, degrees)
        assert student_t(share, degrees + 1) < student_t(share, degrees)

    def test_half_lies_below_nothing(self) -> None:
        assert student_t(0.5, 7) == 0.0

    @pytest.mark.parametrize(("share", "degrees"), [(0.49, 3), (1.0, 3), (math.nan, 3), (0.9, 0)])
    def test_what_has_no_answer_is_refused(self, share: float, degrees: int) -> None:
        with pytest.raises(ValueError, match="no t of confidence"):
            student_t(share, degrees)


class TestLogRatio:
    def test_it_is_the_median_over_turns_for_one_call(self) -> None:
        # 2/1, 8/2 and 6/6 for the same number of calls: the median of 2, 4 and 1 is 2.
        series = pair_of((1.0, 2.0), (2.0, 8.0), (6.0, 6.0))
        assert log_ratio(series, Witness.WALL) == pytest.approx(math.log(2))

    def test_different_numbers_of_calls_do_not_matter(self) -> None:
        turn = Turn(base=piece(0.06, calls=3), head=piece(0.05, calls=2))
        series = TurnSeries(turns=(turn,), is_steady=True)
        assert log_ratio(series, Witness.CPU) == pytest.approx(math.log(0.025 / 0.02))

    def test_each_clock_has_its_own(self) -> None:
        turn = Turn(base=piece(4.0, cpu_s=1.0), head=piece(2.0, cpu_s=3.0))
        series = TurnSeries(turns=(turn,), is_steady=True)
        assert log_ratio(series, Witness.WALL) == pytest.approx(math.log(1 / 2))
        assert log_ratio(series, Witness.CPU) == pytest.approx(math.log(3))

    @pytest.mark.parametrize("reading", [0.0, -1e-9])
    def test_a_turn_in_which_no_time_passed_is_left_out(self, reading: float) -> None:
        series = pair_of((reading, 1.0), (1.0, reading), (1.0, 3.0), (reading, reading))
        assert log_ratio(series, Witness.WALL) == pytest.approx(math.log(3))

    @pytest.mark.parametrize("series", [pair_of((0.0, 1.0), (1.0, 0.0)), pair_of()])
    def test_a_series_in_which_none_passed_is_refused(self, series: TurnSeries) -> None:
        with pytest.raises(MeasureError, match=r"the wall clock saw no time pass in \d turns"):
            log_ratio(series, Witness.WALL)


class TestEstimate:
    def test_it_is_the_mean_of_the_pairs_with_students_interval(self) -> None:
        # Logarithms 0.01, 0.04 and 0.07: mean 0.04, deviation 0.03, and t = 4.303 for 95 % and
        # 2 degrees, so that the half-width is 4.303 * 0.03 / sqrt(3) = 0.07453.
        ratio = estimate(pairs_with([0.01, 0.04, 0.07]), 0.95)
        assert ratio.estimate == pytest.approx(math.exp(0.04))
        assert ratio.low == pytest.approx(math.exp(0.04 - 0.07453), abs=1e-5)
        assert ratio.high == pytest.approx(math.exp(0.04 + 0.07453), abs=1e-5)
        assert ratio.noise == pytest.approx(math.exp(0.03) - 1)
        assert (ratio.pairs, ratio.confidence) == (3, 0.95)

    def test_wall_time_stands_beside_cpu_time(self) -> None:
        def robbed(wall_s: float) -> TurnSeries:
            fair = Turn(base=piece(1.0), head=piece(1.1))
            turn = Turn(base=piece(1.0), head=piece(wall_s, cpu_s=1.1))
            return TurnSeries(turns=(fair, turn, turn), is_steady=True)

        ratio = estimate([robbed(2.0), robbed(3.0)], 0.9)
        assert ratio.witness is Witness.CPU
        assert ratio.estimate == pytest.approx(1.1)
        assert ratio.wall == pytest.approx(math.sqrt(2 * 3))

    def test_the_times_of_a_call_are_medians_of_wall_time(self) -> None:
        first = pair_of((1.0, 2.0), (3.0, 4.0), (5.0, 9.0))  # medians 3 and 4
        second = pair_of((7.0, 1.0))
        third = pair_of((2.0, 8.0), (4.0, 4.0))  # 3 and 6
        ratio = estimate([first, second, third], 0.95)
        assert (ratio.base_s, ratio.head_s) == (3.0, 4.0)
        calls = TurnSeries(
            turns=(Turn(base=piece(1.0, calls=4), head=piece(1.0, calls=2)),), is_steady=True
        )
        ratio = estimate([calls, calls], 0.95)
        assert (ratio.base_s, ratio.head_s) == (0.25, 0.5)

    @pytest.mark.parametrize("pairs", [0, 1])
    def test_fewer_than_two_pairs_have_no_interval(self, pairs: int) -> None:
        with pytest.raises(ValueError, match="needs two pairs"):
            estimate(pairs_with([0.0] * pairs), 0.95)

    def test_pairs_that_are_worlds_apart_stay_numbers(self) -> None:
        far = estimate([pair_of((1e-300, 1e300)), pair_of((1e300, 1e-300))], 0.99)
        assert all(map(math.isfinite, (far.low, far.high, far.noise)))
        assert 0 < far.low < far.estimate < far.high

    @given(series=PAIRS, scale=SCALES)
    def test_scaling_all_times_scales_the_times_and_not_the_ratio(
        self, series: list[TurnSeries], scale: float
    ) -> None:
        before = estimate(series, 0.95)
        after = estimate([scaled(pair, scale, scale) for pair in series], 0.95)
        for name in ("estimate", "low", "high", "noise", "wall"):
            assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-6, abs=1e-9)
        assert after.base_s == pytest.approx(scale * before.base_s)
        assert after.head_s == pytest.approx(scale * before.head_s)

    @given(series=PAIRS, scale=SCALES)
    def test_scaling_one_side_scales_the_estimate(
        self, series: list[TurnSeries], scale: float
    ) -> None:
        before = estimate(series, 0.95)
        slower = estimate([scaled(pair, head=scale) for pair in series], 0.95)
        faster = estimate([scaled(pair, base=scale) for pair in series], 0.95)
        assert slower.estimate == pytest.approx(scale * before.estimate)
        assert faster.estimate == pytest.approx(before.estimate / scale)
        assert width(slower) == pytest.approx(width(before), rel=1e-6, abs=1e-9)

    @given(series=PAIRS)
    def test_swapping_the_sides_inverts_the_ratio_and_its_interval(
        self, series: list[TurnSeries]
    ) -> None:
        one = estimate(series, 0.95)
        other = estimate([swapped(pair) for pair in series], 0.95)
        assert other.estimate == pytest.approx(1 / one.estimate)
        assert other.wall == pytest.approx(1 / one.wall)
        assert other.low == pytest.approx(1 / one.high)
        assert other.high == pytest.approx(1 / one.low)
        assert other.noise == pytest.approx(one.noise)
        assert (other.base_s, other.head_s) == (one.head_s, one.base_s)

    @given(logs=LOGS, seed=st.integers())
    def test_the_order_of_the_pairs_does_not_matter(self, logs: list[float], seed: int) -> None:
        shuffled = Random(seed).sample(logs, len(logs))
        assert estimate(pairs_with(shuffled), 0.9) == estimate(pairs_with(logs), 0.9)

    @given(centre=st.floats(-0.5, 0.5), spread=st.floats(0.001, 0.3), pairs=st.integers(2, 12))
    def test_more_pairs_with_the_same_spread_claim_more(
        self, centre: float, spread: float, pairs: int
    ) -> None:
        def evenly(count: int) -> list[TurnSeries]:
            """As many pairs, of exactly this mean and standard deviation."""
            steps = [n - (count - 1) / 2 for n in range(count)]
            unit = math.sqrt(sum(step * step for step in steps) / (count - 1))
            return pairs_with([centre + spread * step / unit for step in steps])

        few, more = estimate(evenly(pairs), 0.99), estimate(evenly(pairs + 1), 0.99)
        assert few.noise == pytest.approx(more.noise)
        assert width(more) < width(few)

    @given(logs=LOGS, confidence=st.floats(0.1, 0.99))
    def test_another_confidence_is_as_if_it_had_been_asked_for(
        self, logs: list[float], confidence: float
    ) -> None:
        series = pairs_with(logs)
        there, asked = estimate(series, 0.5).at(confidence), estimate(series, confidence)
        assert there == asked
        assert estimate(series, (1 + confidence) / 2).high >= asked.high

    @given(pairs=st.integers(2, 12), distance=st.floats(0.001, 3.0))
    def test_an_outlying_pair_widens_the_interval_by_more_than_it_moves_the_mean(
        self, pairs: int, distance: float
    ) -> None:
        # One pair of n that is off by d moves the mean by d / n, and makes the deviation
        # d / sqrt(n): the half-width is then t * d / n, and t is above 1.
        outlier = estimate(pairs_with([0.0] * (pairs - 1) + [distance]), 0.95)
        assert outlier.low < 1 < outlier.estimate
        assert math.log(outlier.estimate) == pytest.approx(distance / pairs)
        half = student_t(0.975, pairs - 1) * distance / pairs
        assert width(outlier) == pytest.approx(2 * half)

    @pytest.mark.parametrize(("confidence", "pairs"), [(0.9, 3), (0.95, 5), (0.99, 10)])
    def test_the_interval_holds_the_truth_as_often_as_it_says(
        self, confidence: float, pairs: int
    ) -> None:
        source, noise, truth, runs = Random(11), normal(0.02), 1.07, 1000
        held = 0
        for _ in range(runs):
            ratio = estimate([noise(source, n, truth) for n in range(pairs)], confidence)
            held += ratio.low <= truth <= ratio.high
        # Misses are binomial: neither more nor fewer than chance allows once in 10 000.
        assert runs - held <= most_successes(runs, 1 - confidence, 1e-4)
        assert held <= most_successes(runs, confidence, 1e-4)


class TestWitness:
    def test_pure_computing_is_told_by_the_cpu(self) -> None:
        assert witness(pairs_with([0.0, 0.1])) is Witness.CPU

    @pytest.mark.parametrize("side", ["base", "head"])
    @pytest.mark.parametrize(
        ("share", "clock"),
        [
            (0.9499, Witness.WALL),  # sleeps, or waits for a device or another process
            (0.9501, Witness.CPU),
            (1.0499, Witness.CPU),
            (1.0501, Witness.WALL),  # several threads
        ],
    )
    def test_either_side_can_speak_against_the_cpu(
        self, side: str, share: float, clock: Witness
    ) -> None:
        sides = {"base": piece(0.04), "head": piece(0.04), side: piece(0.04, cpu_s=0.04 * share)}
        series = TurnSeries(turns=(Turn(**sides),) * 4, is_steady=True)
        assert witness([series, series]) is clock

    @pytest.mark.parametrize("taken", [0.3, 0.5, 0.9])
    def test_a_neighbour_in_half_of_the_slices_does_not(self, taken: float) -> None:
        fair, robbed = piece(0.04), piece(0.04 / (1 - taken), cpu_s=0.04)
        turns = (Turn(base=fair, head=robbed), Turn(base=robbed, head=fair)) * 6
        series = TurnSeries(turns=turns, is_steady=True)
        assert witness([series] * 3) is Witness.CPU
        assert estimate([series] * 3, 0.95).estimate == 1.0

    @pytest.mark.parametrize(("robbed", "clock"), [(17, Witness.CPU), (19, Witness.WALL)])
    def test_a_neighbour_may_take_of_nine_slices_in_ten(self, robbed: int, clock: Witness) -> None:
        fair, taken = piece(0.04), piece(0.08, cpu_s=0.04)
        turns = [Turn(base=taken, head=fair)] * robbed + [Turn(base=fair, head=fair)] * (
            20 - robbed
        )
        series = TurnSeries(turns=tuple(turns), is_steady=True)
        assert witness([series]) is clock

    def test_one_that_never_goes_away_does_not_where_the_system_tells_of_it(self) -> None:
        # Five processes for one CPU: a fifth of every slice is computing.
        robbed = Slice(calls=1, wall_s=0.2, cpu_s=0.04, queued_s=0.159)
        series = TurnSeries(turns=(Turn(base=robbed, head=robbed),) * 6, is_steady=True)
        assert witness([series]) is Witness.CPU
        untold = replace(robbed, queued_s=0.0)
        series = TurnSeries(turns=(Turn(base=robbed, head=untold),) * 6, is_steady=True)
        assert witness([series]) is Witness.WALL

    @pytest.mark.parametrize(
        ("wall_s", "cpu_s", "queued_s"),
        [
            (0.2, 0.04, 0.08),  # sleeps 80 ms, and is robbed of as much
            (0.2, 0.2, 0.1),  # two threads, each robbed of half
        ],
    )
    def test_a_queue_hides_neither_sleep_nor_threads(
        self, wall_s: float, cpu_s: float, queued_s: float
    ) -> None:
        odd = Slice(calls=1, wall_s=wall_s, cpu_s=cpu_s, queued_s=queued_s)
        series = TurnSeries(turns=(Turn(base=odd, head=odd),) * 6, is_steady=True)
        assert witness([series]) is Witness.WALL

    def test_a_side_that_sleeps_a_little_in_every_call_is_told_by_the_wall(self) -> None:
        # The head waits for 10 ms of each 50: on the CPU it has not changed at all.
        turn = Turn(base=piece(0.04), head=piece(0.05, cpu_s=0.04))
        series = TurnSeries(turns=(turn,) * 6, is_steady=True)
        ratio = estimate([series] * 3, 0.95)
        assert ratio.witness is Witness.WALL
        assert ratio.estimate == pytest.approx(1.25)

    def test_threads_are_told_by_the_wall_also_beside_a_neighbour(self) -> None:
        # Two threads, 1.8 times as much CPU as wall time, and robbed in half of the slices.
        free, robbed = piece(0.04, cpu_s=0.072), piece(0.08, cpu_s=0.072)
        series = TurnSeries(turns=(Turn(base=free, head=robbed),) * 6, is_steady=True)
        other = TurnSeries(turns=(Turn(base=robbed, head=free),) * 6, is_steady=True)
        assert witness([series, other]) is Witness.WALL

    @pytest.mark.parametrize("reading", [0.0, -1e-9])
    def test_a_cpu_clock_too_coarse_for_a_slice_is_no_witness(self, reading: float) -> None:
        turns = (Turn(base=piece(0.04), head=piece(0.04)),) * 30
        coarse = (*turns, Turn(base=piece(0.04, cpu_s=reading), head=piece(0.05)))
        series = TurnSeries(turns=coarse, is_steady=True)
        assert witness([series]) is Witness.WALL
        assert estimate([series, series], 0.95).estimate == 1.0

    def test_nothing_is_no_witness_of_computing(self) -> None:
        assert witness([]) is Witness.WALL
