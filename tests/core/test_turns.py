"""Sampling by turns, with sides that are nothing but a clock."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.ratios import log_ratio
from pytest_flopbudget.core.series import Slice, Turn, TurnSeries
from pytest_flopbudget.core.turns import TurnPlan, take_turns
from pytest_flopbudget.core.witness import Witness

PLAN = TurnPlan(slice_s=0.04)
"""With slices as long in the turns as in the warm-up."""


class FakeSide:
    """A side whose slices take these seconds per call, one after the other."""

    def __init__(
        self, paces: Iterable[float], log: list[FakeSide] | None = None, tick_s: float = 0.0
    ) -> None:
        self.slices: list[Slice] = []
        self._paces: Iterator[float] = iter(paces)
        self._log = [] if log is None else log
        self._tick_s = tick_s

    def run(self, calls: int) -> Slice:
        seconds = calls * next(self._paces)
        if self._tick_s:
            seconds = math.floor(seconds / self._tick_s) * self._tick_s
        piece = Slice(calls=calls, wall_s=seconds, cpu_s=seconds)
        self.slices.append(piece)
        self._log.append(self)
        return piece


def steady(call_s: float, first_s: float | None = None) -> Iterator[float]:
    first = () if first_s is None else (first_s,)
    return itertools.chain(first, itertools.repeat(call_s))


class TestOrder:
    @pytest.mark.parametrize(("head_leads", "round_"), [(False, "bhhb"), (True, "hbbh")])
    def test_the_sides_take_turns_in_rounds_that_a_drift_cancels_in(
        self, head_leads: bool, round_: str
    ) -> None:
        log: list[FakeSide] = []
        base, head = FakeSide(steady(0.005), log), FakeSide(steady(0.005), log)
        series = take_turns(base, head, PLAN, head_leads=head_leads)
        measured = log[-2 * len(series.turns) :]
        # Each side takes 1 s in slices of 40 ms: 25 turns, which the last round makes 26.
        assert len(series.turns) == 26
        assert "".join("b" if side is base else "h" for side in measured) == round_ * 13

    @pytest.mark.parametrize("head_leads", [False, True])
    def test_a_turn_holds_the_slices_that_were_next_to_each_other(self, head_leads: bool) -> None:
        base, head = FakeSide(steady(0.005)), FakeSide(steady(0.006))
        series = take_turns(base, head, PLAN, head_leads=head_leads)
        count = len(series.turns)
        assert [turn.base for turn in series.turns] == base.slices[-count:]
        assert [turn.head for turn in series.turns] == head.slices[-count:]

    def test_an_error_of_a_side_ends_the_series(self) -> None:
        def broken() -> Iterator[float]:
            yield from itertools.repeat(0.005, 30)
            raise RuntimeError("the worker has gone")

        with pytest.raises(RuntimeError, match="the worker has gone"):
            take_turns(FakeSide(steady(0.005)), FakeSide(broken()), PLAN, head_leads=False)


class TestLength:
    @given(
        base_s=st.floats(min_value=1e-6, max_value=20),
        head_s=st.floats(min_value=1e-6, max_value=20),
        first_s=st.floats(min_value=1e-6, max_value=60),
    )
    def test_every_slice_lasts_its_time_and_at_most_a_call_longer(
        self, base_s: float, head_s: float, first_s: float
    ) -> None:
        base, head = FakeSide(steady(base_s, first_s)), FakeSide(steady(head_s, first_s))
        series = take_turns(base, head, PLAN, head_leads=False)
        assert len(series.turns) % 2 == 0
        assert 4 <= len(series.turns) <= 26
        for turn in series.turns:
            for piece, call_s in ((turn.base, base_s), (turn.head, head_s)):
                assert PLAN.slice_s * (1 - 1e-9) <= piece.wall_s
                assert piece.wall_s <= (PLAN.slice_s + call_s) * (1 + 1e-9)

    @given(
        base_s=st.floats(min_value=1e-5, max_value=5), head_s=st.floats(min_value=1e-5, max_value=5)
    )
    def test_measuring_ends_within_one_round_of_its_time(
        self, base_s: float, head_s: float
    ) -> None:
        base, head = FakeSide(steady(base_s)), FakeSide(steady(head_s))
        turns = take_turns(base, head, PLAN, head_leads=False).turns
        before = sum(turn.base.wall_s + turn.head.wall_s for turn in turns[:-2])
        assert before < 2 * PLAN.side_s or len(turns) == 4

    def test_a_call_longer_than_the_time_still_gets_four_turns(self) -> None:
        base, head = FakeSide(steady(3.0)), FakeSide(steady(3.0))
        series = take_turns(base, head, PLAN, head_leads=False)
        assert len(series.turns) == 4
        assert all(turn.base.calls == turn.head.calls == 1 for turn in series.turns)
        # And its first call, and the one that takes the warm-up to its limit.
        assert len(base.slices) == len(head.slices) == 4 + 2
        assert series.is_steady

    def test_sides_of_different_speed_make_different_numbers_of_calls(self) -> None:
        base, head = FakeSide(steady(0.005)), FakeSide(steady(0.05))
        turns = take_turns(base, head, PLAN, head_leads=False).turns
        # 8 calls fill 40 ms and one takes 50: 2 s are full in the 23rd turn of 90 ms, and
        # its round has another.
        assert {turn.base.calls for turn in turns} == {8}
        assert {turn.head.calls for turn in turns} == {1}
        assert len(turns) == 24

    def test_a_side_that_was_slow_while_it_warmed_up_gets_full_slices_soon(self) -> None:
        def freed() -> Iterator[float]:
            """Robbed of half its time until the end of its warm-up."""
            # The first call, one more call, and 8 slices of 10: 4 ms + 8 * 40 ms >= 0.3 s.
            yield from itertools.repeat(0.004, 1 + 1 + 8)
            yield from itertools.repeat(0.002)

        base = FakeSide(freed())
        turns = take_turns(base, FakeSide(steady(0.002)), PLAN, head_leads=False).turns
        assert turns[0].base.wall_s == pytest.approx(0.02)
        assert all(turn.base.wall_s == pytest.approx(0.04) for turn in turns[1:])

    def test_a_pace_that_comes_and_goes_shortens_no_slice(self) -> None:
        base = FakeSide(itertools.cycle([0.002, 0.004]))
        turns = take_turns(base, FakeSide(steady(0.002)), PLAN, head_leads=False).turns
        assert {turn.base.calls for turn in turns} == {20}


class TestSlices:
    @pytest.mark.parametrize(
        ("call_s", "calls"),
        [(0.0005, 10), (0.002, 3), (0.005, 1), (0.05, 1)],  # 5 ms, at the next whole call
    )
    def test_those_of_the_turns_are_shorter_than_those_of_the_warm_up(
        self, call_s: float, calls: int
    ) -> None:
        base, head = FakeSide(steady(call_s)), FakeSide(steady(call_s))
        series = take_turns(base, head, TurnPlan(), head_leads=False)
        assert {turn.base.calls for turn in series.turns} == {calls}
        warmup = base.slices[2 : -len(series.turns)]
        assert warmup[-1].calls == max(1, math.ceil(0.04 / call_s - 1e-9))
        assert series.is_steady


class TestWarmUp:
    def test_a_slow_first_call_has_no_say(self) -> None:
        base, head = FakeSide(steady(0.001, first_s=30.0)), FakeSide(steady(0.001))
        series = take_turns(base, head, PLAN, head_leads=False)
        assert series.is_steady
        assert len(series.turns) == 26
        assert all(turn.base.wall_s == pytest.approx(0.04) for turn in series.turns)
        # The warm-up had its own time all the same.
        warmup = base.slices[1 : -len(series.turns)]
        assert sum(piece.wall_s for piece in warmup) >= PLAN.warmup_s

    @pytest.mark.parametrize(
        ("call_s", "calls"),
        [
            (0.01, 1 + 8 * 4),  # 10 ms, and slices of 40 ms: seven are 10 ms short of 0.3 s
            (0.25, 6),  # 0.3 s would be two calls: six slices are the fewest
            (0.5, 4),  # six would take 3 s: ends after 2
        ],
    )
    def test_it_makes_enough_calls_unless_they_take_too_long(
        self, call_s: float, calls: int
    ) -> None:
        base, head = FakeSide(steady(call_s)), FakeSide(steady(call_s))
        series = take_turns(base, head, PLAN, head_leads=False)
        for side in (base, head):
            # The slice after the first call is of one call too: it finds the pace.
            warmup = side.slices[1 : -len(series.turns)]
            assert sum(piece.calls for piece in warmup) == calls

    def test_a_side_that_is_warm_does_not_wait_for_a_slow_one(self) -> None:
        base, head = FakeSide(steady(0.005)), FakeSide(steady(10.0))
        series = take_turns(base, head, PLAN, head_leads=False)
        # Two calls of 10 s are the head's warm-up, while the base goes on to 0.3 s.
        assert len(head.slices) == 2 + len(series.turns)
        warmup = base.slices[1 : -len(series.turns)]
        assert sum(piece.wall_s for piece in warmup) == pytest.approx(0.3, abs=0.04)

    def test_it_takes_enough_slices_to_see_a_drift(self) -> None:
        plan = TurnPlan(slice_s=0.04, warmup_s=0.01)
        base = FakeSide(steady(0.05))
        series = take_turns(base, FakeSide(steady(0.05)), plan, head_leads=False)
        assert len(base.slices) - len(series.turns) == 1 + 6

    @pytest.mark.parametrize("drifting", ["base", "head"])
    def test_a_side_that_never_settles_is_told(self, drifting: str) -> None:
        def slower() -> Iterator[float]:
            return (0.005 * 1.01**n for n in itertools.count())

        sides = {"base": FakeSide(steady(0.005)), "head": FakeSide(steady(0.005))}
        sides[drifting] = FakeSide(slower())
        series = take_turns(sides["base"], sides["head"], PLAN, head_leads=False)
        assert not series.is_steady
        warmup = sides[drifting].slices[1 : -len(series.turns)]
        spent = sum(piece.wall_s for piece in warmup)
        # It ends with the slice that takes it to its limit.
        assert spent - warmup[-1].wall_s < PLAN.warmup_limit_s <= spent

    def test_a_side_that_settles_late_is_waited_for(self) -> None:
        def settling() -> Iterator[float]:
            return (0.005 * (1 + 0.5 * 0.9**n) for n in itertools.count())

        base = FakeSide(settling())
        series = take_turns(base, FakeSide(steady(0.005)), PLAN, head_leads=False)
        assert series.is_steady
        warmup = base.slices[: -len(series.turns)]
        # Steady from slice n on, if the medians of the two halves of the last ten, which are
        # the slices n - 7 and n - 2, differ by at most 2 %: 0.5 * 0.9^(n-7) * (1 - 0.9^5) <=
        # 0.02 * (1 + 0.5 * 0.9^(n-2)), first at n = 29. Slices are counted from 0.
        assert len(warmup) == 29 + 1
        assert sum(piece.wall_s for piece in warmup) < PLAN.warmup_limit_s

    def test_a_neighbour_that_the_system_tells_of_is_no_drift(self) -> None:
        class Robbed(FakeSide):
            """A side whose time beyond 5 ms a call was spent in a queue."""

            def run(self, calls: int) -> Slice:
                piece = super().run(calls)
                return replace(piece, queued_s=piece.wall_s - 0.005 * calls)

        def crowded() -> Iterator[float]:
            return (0.005 * 1.01**n for n in itertools.count())

        side = Robbed(crowded())
        series = take_turns(side, FakeSide(steady(0.005)), PLAN, head_leads=False)
        assert series.is_steady
        warmup = side.slices[1 : -len(series.turns)]
        assert sum(piece.wall_s for piece in warmup[:-1]) < PLAN.warmup_s

    def test_noise_is_no_drift(self) -> None:
        source = Random(7)

        def noisy() -> Iterator[float]:
            while True:
                yield 0.005 * math.exp(source.gauss(0, 0.1))

        series = [
            take_turns(FakeSide(noisy()), FakeSide(noisy()), PLAN, head_leads=False)
            for _ in range(20)
        ]
        assert all(one.is_steady for one in series)


class TestClock:
    @pytest.mark.parametrize("reading", [0.0, -1e-9])
    def test_a_clock_that_stands_still_ends_the_series_all_the_same(self, reading: float) -> None:
        base, head = FakeSide(steady(reading)), FakeSide(steady(reading))
        series = take_turns(base, head, PLAN, head_leads=False)
        assert len(series.turns) == 26
        assert max(piece.calls for piece in base.slices) == 1_000_000
        assert len(base.slices) == 1 + (10 + 2.0 / 0.04) + 26

    def test_a_coarse_clock_gets_slices_that_it_can_see(self) -> None:
        # 1, 10 and 100 calls of 30 us read 0 of ticks of 10 ms; 1000 read three of them.
        base, head = FakeSide(steady(3e-5), tick_s=0.01), FakeSide(steady(3e-5), tick_s=0.01)
        series = take_turns(base, head, PLAN, head_leads=False)
        assert [piece.calls for piece in base.slices[:5]] == [1, 1, 10, 100, 1000]
        assert base.slices[5].calls == 1334
        assert all(turn.base.wall_s == pytest.approx(0.04) for turn in series.turns)

    @pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf])
    def test_a_time_that_is_no_number_is_refused(self, seconds: float) -> None:
        with pytest.raises(MeasureError, match="3 calls were timed at"):
            Slice(calls=3, wall_s=seconds, cpu_s=0.1)
        with pytest.raises(MeasureError, match="3 calls were timed at"):
            Slice(calls=3, wall_s=0.1, cpu_s=seconds)
        with pytest.raises(MeasureError, match="3 calls were timed at"):
            Slice(calls=3, wall_s=0.1, cpu_s=0.1, queued_s=seconds)

    def test_a_slice_without_a_call_is_refused(self) -> None:
        with pytest.raises(MeasureError, match="0 calls were timed at"):
            Slice(calls=0, wall_s=0.1, cpu_s=0.1)


@pytest.mark.parametrize(
    "name", ["slice_s", "warmup_slice_s", "warmup_s", "warmup_limit_s", "side_s"]
)
@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_plan_without_time_is_refused(name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match="times above zero"):
        TurnPlan(**{name: seconds})


class FakeCore:
    """A core on which both take their own CPU time, and the wall time of both together."""

    def __init__(self, base: FakeSide, head: FakeSide, *, is_in_the_way: bool = False) -> None:
        self.asked: list[tuple[int, int, bool]] = []
        self._sides = base, head
        self._is_in_the_way = is_in_the_way

    def run(self, slices: int, calls: int, *, head_first: bool) -> tuple[Turn, ...] | None:
        self.asked.append((slices, calls, head_first))
        if self._is_in_the_way:
            return None
        return tuple(self._turn(calls) for _ in range(slices))

    def _turn(self, calls: int) -> Turn:
        base, head = (side.run(calls) for side in self._sides)
        wall_s = base.wall_s + head.wall_s
        return Turn(base=replace(base, wall_s=wall_s), head=replace(head, wall_s=wall_s))


class TestSharedCore:
    @pytest.mark.parametrize("head_leads", [False, True])
    @pytest.mark.parametrize(
        ("times_s", "slices", "calls"),
        [
            # A second of the slower side, in rounds of four and one that does not count.
            ((0.05, 0.1), (4, 4, 4), 1),
            # 40 ms and more in a slice, of both sides as many calls: 48 and 84 ms.
            ((0.012, 0.021), (4, 4, 4), 4),
            ((0.3, 0.4), (3,), 1),
            ((3.0, 2.0), (2,), 1),
        ],
    )
    def test_long_calls_that_compute_run_at_once_after_the_first_turns(
        self, times_s: tuple[float, float], slices: tuple[int, ...], calls: int, head_leads: bool
    ) -> None:
        base, head = (FakeSide(steady(time_s)) for time_s in times_s)
        core = FakeCore(base, head)
        series = take_turns(base, head, TurnPlan(), head_leads=head_leads, core=core)
        assert len(series.turns) == 4
        assert core.asked == [
            (count + 1, calls, head_leads ^ (number % 2 == 1))
            for number, count in enumerate(slices)
        ]
        assert len(series.shared_turns) == sum(slices)
        assert log_ratio(series, Witness.CPU) == pytest.approx(math.log(times_s[1] / times_s[0]))

    def test_calls_that_can_be_cut_into_slices_go_by_turns(self) -> None:
        base, head = FakeSide(steady(0.0099)), FakeSide(steady(0.0099))
        core = FakeCore(base, head)
        series = take_turns(base, head, TurnPlan(), head_leads=False, core=core)
        assert (core.asked, series.shared_turns) == ([], ())
        assert series == take_turns(
            FakeSide(steady(0.0099)), FakeSide(steady(0.0099)), TurnPlan(), head_leads=False
        )

    @pytest.mark.parametrize(
        "other", [{"cpu_s": 0.04}, {"cpu_s": 0.09}, {"has_device": True}, {"cpu_s": 0.0}]
    )
    def test_a_side_whose_cpu_time_does_not_tell_goes_by_turns(
        self, other: dict[str, float]
    ) -> None:
        class Other(FakeSide):
            """It sleeps, has several threads or a device, or its clock stands still."""

            def run(self, calls: int) -> Slice:
                return replace(super().run(calls), **other)

        sides = FakeSide(steady(0.05)), Other(steady(0.05))
        core = FakeCore(*sides)
        series = take_turns(*sides, TurnPlan(), head_leads=False, core=core)
        assert (core.asked, series.shared_turns) == ([], ())
        # Two seconds of both are 20 turns.
        assert len(series.turns) == 20

    def test_sides_in_each_other_s_way_go_on_by_turns(self) -> None:
        base, head = FakeSide(steady(0.05)), FakeSide(steady(0.05))
        core = FakeCore(base, head, is_in_the_way=True)
        series = take_turns(base, head, TurnPlan(), head_leads=False, core=core)
        assert core.asked == [(5, 1, False)]
        assert series.shared_turns == ()
        assert len(series.turns) == 20

    def test_bursts_within_a_call_fall_on_both(self) -> None:
        source = Random(11)
        pairs = [bursty_pair(source) for _ in range(40)]
        by_turns = [log_ratio(replace(pair, shared_turns=()), Witness.CPU) for pair in pairs]
        shared = [log_ratio(pair, Witness.CPU) for pair in pairs]
        assert statistics.stdev(shared) < statistics.stdev(by_turns) / 3

    @pytest.mark.parametrize("growth", [-0.2, 0.0, 0.05, 0.2])
    @pytest.mark.parametrize("head_leads", [False, True])
    def test_what_a_side_does_alone_does_not_count(self, growth: float, head_leads: bool) -> None:
        # While one makes five calls the other makes four at least, if it is no more than a
        # quarter slower: those that count run while the other runs too, all at the same cost.
        base, head = FakeSide(steady(0.05)), FakeSide(steady(0.05 * (1 + growth)))
        core = RoomyCore(0.05, 0.05 * (1 + growth))
        series = take_turns(base, head, TurnPlan(), head_leads=head_leads, core=core)
        assert len(series.shared_turns) >= 20
        for turn in series.shared_turns:
            assert turn.base.cpu_s == pytest.approx(0.05)
            assert turn.head.cpu_s == pytest.approx(0.05 * (1 + growth))


class RoomyCore:
    """A side that runs while the other has ended takes half the time."""

    def __init__(self, base_s: float, head_s: float) -> None:
        self._call_s = {"base": base_s, "head": head_s}

    def run(self, slices: int, calls: int, *, head_first: bool) -> tuple[Turn, ...]:
        work_s = {side: call_s * calls for side, call_s in self._call_s.items()}
        taken: dict[str, list[Slice]] = {side: [] for side in work_s}
        # Both have half of the core, so that the shorter of them ends first.
        first, last = sorted(work_s, key=lambda side: work_s[side])
        first_ends_s = slices * work_s[first]
        taken[first] = [Slice(calls=calls, wall_s=1, cpu_s=work_s[first])] * slices
        for number in range(slices):
            beside_s = min(work_s[last], max(0.0, first_ends_s - number * work_s[last]))
            cpu_s = beside_s + (work_s[last] - beside_s) / 2
            taken[last].append(Slice(calls=calls, wall_s=1, cpu_s=cpu_s))
        pairs = zip(taken["base"], taken["head"], strict=True)
        return tuple(Turn(base=base, head=head) for base, head in pairs)


class BurstyCore:
    """Costs half as much again in bursts of 20 ms on average."""

    def __init__(self, source: Random) -> None:
        self._source = source
        self._is_slow, self._left_s = False, source.expovariate(1 / 0.02)

    def spend(self, work_s: float) -> float:
        """The CPU time of so much work from now on."""
        spent_s = 0.0
        while work_s > 0:
            cost = 1.5 if self._is_slow else 1.0
            part_s = min(work_s * cost, self._left_s)
            spent_s, work_s = spent_s + part_s, work_s - part_s / cost
            self._left_s -= part_s
            if self._left_s <= 0:
                self._is_slow = not self._is_slow
                self._left_s = self._source.expovariate(1 / 0.02)
        return spent_s

    def run(self, slices: int, calls: int, *, head_first: bool) -> tuple[Turn, ...]:
        """Both by turns of 3 ms at the core, slice after slice."""
        sides = ("head", "base") if head_first else ("base", "head")
        taken: dict[str, list[Slice]] = {side: [] for side in sides}
        left_s = dict.fromkeys(sides, 0.04 * calls)
        spent_s = dict.fromkeys(sides, 0.0)
        while any(len(pieces) < slices for pieces in taken.values()):
            for side in sides:
                part_s = min(0.003, left_s[side])
                left_s[side] -= part_s
                spent_s[side] += self.spend(part_s)
                if left_s[side] < 1e-9 and len(taken[side]) < slices:
                    cpu_s = spent_s[side]
                    taken[side].append(Slice(calls=calls, wall_s=2 * cpu_s, cpu_s=cpu_s))
                    left_s[side], spent_s[side] = 0.04 * calls, 0.0
        pairs = zip(taken["base"], taken["head"], strict=True)
        return tuple(Turn(base=base, head=head) for base, head in pairs)


class AloneOn:
    """A side whose calls are 40 ms of work."""

    def __init__(self, core: BurstyCore) -> None:
        self._core = core

    def run(self, calls: int) -> Slice:
        seconds = self._core.spend(0.04 * calls)
        return Slice(calls=calls, wall_s=seconds, cpu_s=seconds)


def bursty_pair(source: Random) -> TurnSeries:
    """A pair by turns, with its shared turns."""
    core = BurstyCore(source)
    plan = TurnPlan(side_s=0.4)
    base, head = AloneOn(core), AloneOn(core)
    by_turns = take_turns(base, head, plan, head_leads=False)
    shared = take_turns(base, head, plan, head_leads=False, core=core)
    return replace(by_turns, shared_turns=shared.shared_turns)
