"""When pairs are enough, on pairs whose truth is known: errors and power are counted."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.ratios import student_t
from pytest_flopbudget.core.series import TurnSeries
from pytest_flopbudget.core.stopping import Decision, Rules, State, decide
from pytest_flopbudget.core.turns import TurnPlan, take_turns
from pytest_flopbudget.core.witness import Witness

from .pairs import (
    NOISES,
    Machine,
    Noise,
    Process,
    decided,
    most_successes,
    normal,
    pair_of,
    pairs_with,
    two_modes,
)

RULES = Rules(allowed=0.05)
TABLED = Rules(allowed=0.05, error=0.015)
"""Each of three looks may err by 0.5 %, for which Student's t is in every table."""
LOGS = st.lists(st.floats(min_value=-0.5, max_value=0.5) | st.just(0.1), min_size=0, max_size=12)


def spread(centre: float, deviation: float, pairs: int) -> list[float]:
    """Log-ratios of exactly this mean and standard deviation."""
    steps = [n - (pairs - 1) / 2 for n in range(pairs)]
    unit = math.sqrt(sum(step * step for step in steps) / (pairs - 1))
    return [centre + deviation * step / unit for step in steps]


def state(logs: list[float], rules: Rules = TABLED, *, is_last: bool = False) -> State:
    return decide(pairs_with(logs), rules, is_last=is_last).state


class TestRegressed:
    @pytest.mark.parametrize(("centre", "is_above"), [(0.0613, False), (0.0623, True)])
    def test_the_interval_must_lie_above_1(self, centre: float, is_above: bool) -> None:
        # Five pairs, t = 4.604 for 0.5 % and 4 degrees: the half-width of a deviation of 3 %
        # is 4.604 * 0.03 / sqrt(5) = 0.06177, and exp(0.0613) is above what is allowed.
        expected = State.REGRESSED if is_above else State.MORE
        assert state(spread(centre, 0.03, 5)) is expected

    @pytest.mark.parametrize(
        ("growth", "expected"), [(1.0499, State.WITHIN), (1.0501, State.REGRESSED)]
    )
    def test_the_estimate_must_be_above_what_is_allowed(
        self, growth: float, expected: State
    ) -> None:
        decision = decide(pairs_with(spread(math.log(growth), 1e-6, 5)), RULES, is_last=False)
        assert decision.state is expected
        assert decision.ratio is not None
        assert decision.ratio.low > 1

    @pytest.mark.parametrize(
        ("pairs", "is_last", "expected"),
        [
            (3, False, State.MORE),
            (3, True, State.UNSTABLE),
            (4, False, State.MORE),  # no look
            (4, True, State.REGRESSED),
            (5, False, State.REGRESSED),
        ],
    )
    def test_three_pairs_that_agree_are_too_few(
        self, pairs: int, is_last: bool, expected: State
    ) -> None:
        decision = decide(pairs_with([0.3] * pairs), RULES, is_last=is_last)
        assert decision.state is expected
        assert decision.resolves == (math.inf if pairs < 4 else 0.0)

    def test_the_interval_is_of_the_confidence_that_the_looks_leave(self) -> None:
        # Of the looks after 3, 5, 7 and 10 pairs, three can fail: each may err by 0.01 / 3.
        decision = decide(pairs_with(spread(0.2, 0.01, 5)), RULES, is_last=False)
        assert decision.state is State.REGRESSED
        assert decision.ratio is not None
        assert decision.ratio.confidence == pytest.approx(1 - 2 * 0.01 / 3)
        half = student_t(1 - 0.01 / 3, 4) * 0.01 / math.sqrt(5)
        assert decision.ratio.low == pytest.approx(math.exp(0.2 - half))
        assert decision.resolves == pytest.approx(math.exp(half) - 1)


class TestWithin:
    @pytest.mark.parametrize(("centre", "expected"), [(0.0150, State.WITHIN), (0.0152, State.MORE)])
    def test_it_ends_early_where_the_upper_bound_is_below_what_is_allowed(
        self, centre: float, expected: State
    ) -> None:
        # Three pairs, t = 2.920 for 95 % and 2 degrees: a deviation of 2 % has the bound
        # centre + 2.920 * 0.02 / sqrt(3) = centre + 0.03372, and log(1.05) = 0.04879.
        assert state(spread(centre, 0.02, 3)) is expected

    def test_it_shows_the_interval_that_decided(self) -> None:
        decision = decide(pairs_with(spread(0.0, 0.02, 3)), RULES, is_last=False)
        assert decision.ratio is not None
        assert decision.ratio.confidence == pytest.approx(0.9)
        assert decision.ratio.high == pytest.approx(math.exp(0.03372), abs=1e-5)

    def test_a_faster_head_is_within_however_noisy(self) -> None:
        decision = decide(pairs_with(spread(-0.7, 0.2, 3)), RULES, is_last=False)
        assert decision.state is State.WITHIN
        assert decision.ratio is not None
        assert decision.ratio.high < 1

    def test_a_small_growth_that_is_sure_is_within(self) -> None:
        decision = decide(pairs_with(spread(0.03, 0.001, 5)), RULES, is_last=False)
        assert decision.state is State.WITHIN
        assert decision.ratio is not None
        assert decision.ratio.low > 1


class TestUnstable:
    @pytest.mark.parametrize(
        ("deviation", "expected"), [(0.0473, State.WITHIN), (0.0476, State.UNSTABLE)]
    )
    def test_the_last_look_names_what_could_not_have_been_told(
        self, deviation: float, expected: State
    ) -> None:
        # Ten pairs, t = 3.250 for 0.5 % and 9 degrees: these deviations have half-widths of
        # 3.250 / sqrt(10) = 1.0278 times themselves, 0.04861 and 0.04892, on either side of
        # log(1.05) = 0.04879. Nothing is clear: the upper bound, with t = 1.833 for 95 %, is
        # 0.03 + 0.58 times the deviation, more than 0.057.
        decision = decide(pairs_with(spread(0.03, deviation, 10)), TABLED, is_last=False)
        assert decision.state is expected
        assert decision.resolves == pytest.approx(math.exp(1.0278 * deviation) - 1, abs=1e-4)
        assert (decision.resolves > 0.05) is (expected is State.UNSTABLE)

    def test_time_that_runs_out_is_a_last_look(self) -> None:
        logs = spread(0.03, 0.1, 6)
        assert state(logs) is State.MORE
        assert state(logs, is_last=True) is State.UNSTABLE

    @pytest.mark.parametrize("pairs", [0, 1])
    @pytest.mark.parametrize(("is_last", "expected"), [(False, State.MORE), (True, State.UNSTABLE)])
    def test_fewer_than_two_pairs_say_nothing(
        self, pairs: int, is_last: bool, expected: State
    ) -> None:
        decision = decide(pairs_with([1.0] * pairs), RULES, is_last=is_last)
        assert decision == Decision(state=expected, ratio=None, resolves=math.inf)

    def test_two_pairs_at_the_end_of_the_time_can_pass_and_never_fail(self) -> None:
        assert state([0.5, 0.5], is_last=True) is State.UNSTABLE
        assert state([0.0, 0.0], is_last=True) is State.WITHIN


class TestAlways:
    @given(logs=LOGS, allowed=st.sampled_from([0.0, 0.03, 0.05, 0.5]), is_last=st.booleans())
    def test_a_decision_is_what_its_numbers_say(
        self, logs: list[float], allowed: float, is_last: bool
    ) -> None:
        rules = Rules(allowed=allowed)
        decision = decide(pairs_with(logs), rules, is_last=is_last)
        ratio, bound = decision.ratio, 1 + allowed
        is_end = is_last or len(logs) >= 10
        assert decision.state is not State.MORE or not is_end
        if decision.state is State.REGRESSED:
            assert len(logs) >= 4
            assert ratio is not None
            assert ratio.low > 1
            assert ratio.estimate > bound
            assert ratio.confidence == rules.confidence
        if decision.state is State.WITHIN:
            assert ratio is not None
            assert ratio.estimate < bound or math.isclose(ratio.estimate, bound)
            assert ratio.high < bound or decision.resolves <= allowed
        if decision.state is State.UNSTABLE:
            assert is_end
            assert decision.resolves > allowed
        if len(logs) not in {3, 5, 7, 10} and not is_end:
            assert decision.state is State.MORE

    @given(logs=LOGS, allowed=st.sampled_from([0.0, 0.03, 0.05]))
    def test_a_head_and_its_mirror_never_both_regress(
        self, logs: list[float], allowed: float
    ) -> None:
        rules = Rules(allowed=allowed)
        states = [state(side, rules, is_last=True) for side in (logs, [-log for log in logs])]
        assert states.count(State.REGRESSED) < 2

    def test_a_pair_in_which_no_time_passed_is_refused(self) -> None:
        series = [pair_of((0.0, 0.0)), *pairs_with([0.0, 0.0])]
        with pytest.raises(MeasureError, match="no time pass"):
            decide(series, RULES, is_last=False)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"allowed": -0.01}, "no such growth"),
            ({"allowed": math.nan}, "no such growth"),
            ({"allowed": math.inf}, "no such growth"),
            ({"fewest_to_fail": 1}, "too few pairs to fail"),
            ({"looks": (3,)}, "enough pairs to fail"),
            ({"looks": ()}, "enough pairs to fail"),
            ({"looks": (5, 3)}, "must rise"),
            ({"looks": (5, 5)}, "must rise"),
            ({"error": 0.0}, "an error must be"),
            ({"error": 0.5}, "an error must be"),
            ({"clear": 0.5}, "what is clear"),
            ({"clear": 1.0}, "what is clear"),
        ],
    )
    def test_rules_that_cannot_hold_are_refused(
        self, settings: dict[str, float], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            Rules(**{"allowed": 0.05, **settings})


def count(noise: str, growth: float, rules: Rules, *, runs: int, seed: int = 5) -> Counter[State]:
    """How often each state ended a series of pairs with this noise and true growth."""
    source = Random(seed)
    made = NOISES[noise]
    return Counter(decided(made, growth, rules, source).state for _ in range(runs))


@pytest.mark.parametrize("noise", NOISES)
class TestFalseAlarms:
    """A against A. The alarms of so many runs are binomial, with at most the stated rate: more
    than `most_successes` of them happen by chance once in 1000, and where that is seen the
    stated error does not hold."""

    @pytest.mark.parametrize("allowed", [0.03, 0.05])
    def test_they_are_as_rare_as_is_said(self, noise: str, allowed: float) -> None:
        found = count(noise, 1.0, Rules(allowed=allowed), runs=100)
        assert found[State.REGRESSED] <= most_successes(100, 0.01, 1e-3)

    def test_the_interval_alone_keeps_them_as_rare(self, noise: str) -> None:
        found = count(noise, 1.0, Rules(allowed=0.0), runs=100)
        assert found[State.REGRESSED] <= most_successes(100, 0.01, 1e-3)

    @pytest.mark.slow  # up to a quarter of a minute for each noise
    def test_many_runs_say_the_same(self, noise: str) -> None:
        found = count(noise, 1.0, Rules(allowed=0.0), runs=4000)
        assert found[State.REGRESSED] <= most_successes(4000, 0.01, 1e-3)


class TestErrors:
    def test_control_intervals_that_ignore_the_looks_alarm_too_often(self) -> None:
        # Each of three looks may err by 3 %, as if it were the only one.
        rules = Rules(allowed=0.0, error=0.09)
        alarms = count("normal, 2.3 %", 1.0, rules, runs=600)[State.REGRESSED]
        assert alarms > most_successes(600, 0.03, 1e-3)

    @pytest.mark.slow  # 20 000 runs, to tell 1.8 % from 1
    def test_control_three_pairs_that_could_fail_would_alarm_too_often(self) -> None:
        eager = Rules(allowed=0.05, fewest_to_fail=3)
        for rules, is_kept in ((RULES, True), (eager, False)):
            alarms = count("two modes", 1.0, rules, runs=20_000)[State.REGRESSED]
            assert (alarms <= most_successes(20_000, 0.01, 1e-3)) is is_kept

    @pytest.mark.parametrize("pairs", [4, 6, 8])
    def test_time_that_runs_out_makes_no_more_of_them(self, pairs: int) -> None:
        source, alarms, runs = Random(3), 0, 500
        for _ in range(runs):
            series = [two_modes(source, n, 1.0) for n in range(pairs)]
            states = [
                decide(series[:n], RULES, is_last=n == pairs).state for n in range(3, pairs + 1)
            ]
            ends = next(n for n, found in enumerate(states) if found is not State.MORE)
            alarms += states[ends] is State.REGRESSED
        assert alarms <= most_successes(runs, 0.01, 1e-3)

    @pytest.mark.parametrize("noise", [0.01, 0.023])
    def test_where_3_percent_is_allowed_they_are_proven_to_be_below_1(self, noise: float) -> None:
        # So few would be seen by chance less than once in 1000, were the rate 1 %: the runs
        # that raise no alarm are binomial, too.
        source, runs, rules = Random(17), 2000, Rules(allowed=0.03)
        states = Counter(decided(normal(noise), 1.0, rules, source).state for _ in range(runs))
        assert runs - states[State.REGRESSED] > most_successes(runs, 0.99, 1e-3)
        assert states[State.WITHIN] >= 0.98 * runs


class TestPower:
    """A true growth. That this many are found would happen once in 1000 were the power less."""

    @pytest.mark.parametrize(
        ("noise", "power", "pairs"), [(0.01, 0.95, 5.3), (0.023, 0.90, 7.0)], ids=["quiet", "noisy"]
    )
    def test_5_percent_is_found_where_3_are_allowed(
        self, noise: float, power: float, pairs: float
    ) -> None:
        source, runs, rules = Random(23), 500, Rules(allowed=0.03)
        found = [decided(normal(noise), 1.05, rules, source) for _ in range(runs)]
        regressed = sum(one.state is State.REGRESSED for one in found)
        assert regressed > most_successes(runs, power, 1e-3)
        taken = [one.ratio.pairs for one in found if one.ratio is not None]
        assert max(taken) <= 10
        assert sum(taken) / runs < pairs

    @pytest.mark.parametrize("noise", ["shared drift", "launch order", "neighbour"])
    @pytest.mark.parametrize("growth", [1.10, 1.20])
    def test_larger_ones_are_found_in_every_noise_that_is_shared(
        self, noise: str, growth: float
    ) -> None:
        assert count(noise, growth, RULES, runs=100)[State.REGRESSED] > most_successes(
            100, 0.90, 1e-3
        )

    @pytest.mark.parametrize("noise", ["two modes", "heavy-tailed processes"])
    def test_what_noise_hides_is_called_unstable_and_not_within(self, noise: str) -> None:
        # Processes that differ by 30 %: neither alarm nor all-clear is to be had.
        found = count(noise, 1.10, RULES, runs=150)
        assert found[State.UNSTABLE] > found[State.REGRESSED] > found[State.WITHIN]

    def test_a_growth_of_just_what_is_allowed_is_a_coin_flip(self) -> None:
        source, runs = Random(29), 400
        states = Counter(decided(normal(0.01), 1.05, RULES, source).state for _ in range(runs))
        # Each look is even; three of them find it above in 64 % of the cases.
        assert 0.5 < states[State.REGRESSED] / runs < 0.75


def timed(source: Random, *, base: float, head: float, sleep_s: float = 0.0) -> Noise:
    """Pairs that take their turns on one machine, beside a neighbour that comes and goes."""

    def make(_: Random, position: int, growth: float) -> TurnSeries:
        machine = Machine(source)
        sides = [Process(machine, source, call_s, sleep_s) for call_s in (base, head * growth)]
        return take_turns(sides[0], sides[1], TurnPlan(), head_leads=position % 2 == 1)

    return make


class TestFromTheClockToTheDecision:
    @pytest.mark.parametrize("call_s", [0.0005, 0.005, 0.05])
    @pytest.mark.parametrize(("growth", "expected"), [(1.0, State.WITHIN), (1.1, State.REGRESSED)])
    def test_a_neighbour_hides_no_computing(
        self, call_s: float, growth: float, expected: State
    ) -> None:
        source = Random(31)
        noise = timed(source, base=call_s, head=call_s)
        found = [decided(noise, growth, RULES, source) for _ in range(15)]
        assert {one.state for one in found} == {expected}
        assert {one.ratio.witness for one in found if one.ratio} == {Witness.CPU}

    def test_a_side_that_sleeps_is_timed_by_the_wall(self) -> None:
        source = Random(37)
        noise = timed(source, base=0.005, head=0.005, sleep_s=0.005)
        found = [decided(noise, 1.5, RULES, source) for _ in range(15)]
        assert {one.state for one in found} == {State.REGRESSED}
        assert {one.ratio.witness for one in found if one.ratio} == {Witness.WALL}
        # A call of 5 + 5 ms became one of 7.5 + 5, beside a neighbour 10 + 5 and 15 + 5.
        assert all(1.2 < one.ratio.estimate < 1.4 for one in found if one.ratio)
