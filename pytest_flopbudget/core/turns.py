"""Two sides timed by turns: in short slices, so that what slows the machine slows both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

from pytest_flopbudget.core.series import Slice, Turn, TurnSeries
from pytest_flopbudget.core.statistics import is_drifting
from pytest_flopbudget.core.witness import Witness, witness

_MOST_CALLS: Final = 1_000_000
"""In one slice: enough for 40 ms at 40 ns a call, less than Python takes to call anything."""
_GROWTH: Final = 10
"""The most by which the calls of a slice grow at once. A clock too coarse to see one slice says
nothing of how many calls are enough, and a slice of ten times the length still ends soon."""
_FEWEST_SLICES: Final = 6
"""Of each side in the warm-up: fewer cannot show a drift."""
_DRIFT_SLICES: Final = 10
"""The last slices of the warm-up, over which it must be steady."""
_DRIFT: Final = 0.02
"""The drift over them that is still steady, as a share."""
_GROWING_SLICES: Final = 10
"""More than it takes to come from one call in a slice to `_MOST_CALLS`."""
_LONG_SLICES: Final = 2
"""A call that is as long as this many slices is long: it cannot be cut into slices."""
_ROUND_SLICES: Final = 4
"""Slices that count of those that both sides take at once without a pause, one more than these."""


class Side(Protocol):
    """One process of a pair, which calls what is timed as often as it is told."""

    def run(self, calls: int) -> Slice:
        """Call it so many times in a row, and say how long that took."""
        ...


class SharedCore(Protocol):
    """The one core that both sides of a pair run on."""

    def run(self, slices: int, calls: int, *, head_first: bool) -> tuple[Turn, ...] | None:
        """Have both sides take so many slices at once, each of so many calls, without a pause.

        The first of the one and of the other are a turn, and so on. One side begins a little
        before the other. None where they are in each other's way, and can only run by turns.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPlan:
    """How long the parts of a series last. Raises ValueError where one is not above zero."""

    slice_s: float = 0.005
    """A slice makes as many calls as take at least so long at the best pace seen; one at
    least. What slows a machine lasts for many milliseconds, so that the two slices of a turn
    share it the better, the shorter they are: on a shared host with bursts, the median over
    0.5 s of each side had a third of the spread that slices of 40 ms gave it."""
    warmup_slice_s: float = 0.04
    """The same in the warm-up, whose slices are to show a drift and no burst."""
    warmup_s: float = 0.3
    """Least warm-up of each side, after its first call, and six slices at least: more calls
    than a small CNN of 50 ms took to come within 5 % of its pace."""
    warmup_limit_s: float = 2.0
    """The warm-up of a side ends after so long, however few its calls and whether or not it is
    steady. The first call, which may compile, does not count."""
    side_s: float = 1.0
    """Measuring ends when both sides together have taken twice as long: the faster of the two
    may then have had less than this, and the slower more."""
    fewest_turns: int = 4
    """Turns taken however long they last. Rounded up to an even number, as all turns are: with
    four, no single turn decides their median."""

    def __post_init__(self) -> None:
        slices = self.slice_s, self.warmup_slice_s
        times = *slices, self.warmup_s, self.warmup_limit_s, self.side_s
        if not all(0 < time < math.inf for time in times):
            raise ValueError(f"a plan of turns needs times above zero, and has {times}")

    @property
    def most_turns(self) -> int:
        """Turns that fill the time where every slice is as short as it may be."""
        return max(self.fewest_turns, math.ceil(self.side_s / self.slice_s))


def take_turns(
    base: Side, head: Side, plan: TurnPlan, *, head_leads: bool, core: SharedCore | None = None
) -> TurnSeries:
    """The turns of one pair on one test, after the warm-up of both sides.

    The order is base, head, head, base, and so on (ABBA); with `head_leads`, head, base,
    base, head. A drift that both sides share then favours neither. The number of turns is
    even, and four at least. The two sides may make different numbers of calls in a slice,
    and time is only what the slices say. An exception of a side propagates.

    core: where both sides run on one core. A call that is longer than a slice cannot be cut by
    turns, but the system cuts it where both sides call at once: they take turns at the core
    every few milliseconds, and their CPU times tell them apart. So those that compute all the
    time on one thread, in long calls and without a device, have shared turns after the first
    four. On a host with bursts, where one call of 40 ms differed from the next by 13 %, the
    median over 0.5 s of each side had a spread of 5 % by turns and of 1.2 to 2 % so.
    """
    pair = _Pair(_Paced(base, plan), _Paced(head, plan), plan, head_leads=head_leads)
    is_steady = pair.warm_up()
    pair.take_fewest()
    shared = pair.share(core) if core is not None and pair.is_shareable() else ()
    if not shared:
        pair.fill_time()
    return TurnSeries(turns=tuple(pair.turns), shared_turns=shared, is_steady=is_steady)


class _Pair:
    """Both sides, and the turns that they have taken."""

    def __init__(self, base: _Paced, head: _Paced, plan: TurnPlan, *, head_leads: bool) -> None:
        self.turns: list[Turn] = []
        self._base, self._head = base, head
        self._sides = (head, base) if head_leads else (base, head)
        self._plan = plan
        self._head_leads = head_leads
        self._spent_s = 0.0

    def warm_up(self) -> bool:
        """Warm both up by turns, and say whether both were steady in the end."""
        for side in self._sides:
            side.call_first()
        while waiting := [side for side in self._sides if not side.is_warm()]:
            for side in waiting:
                side.warm_up()
        is_steady = all(side.is_steady() for side in self._sides)
        for side in self._sides:
            side.end_warm_up()
        return is_steady

    def take_fewest(self) -> None:
        """The turns that are taken however long they last."""
        while len(self.turns) < self._plan.fewest_turns:
            self._take_two()

    def fill_time(self) -> None:
        """All further turns that there is time for."""
        most, time_s = self._plan.most_turns, 2 * self._plan.side_s
        while len(self.turns) < most and self._spent_s < time_s:
            self._take_two()

    def _take_two(self) -> None:
        for order in (self._sides, self._sides[::-1]):
            pieces = {side: side.run() for side in order}
            self.turns.append(Turn(base=pieces[self._base], head=pieces[self._head]))
            self._spent_s += sum(piece.wall_s for piece in pieces.values())

    def is_shareable(self) -> bool:
        """Whether calls are long, and CPU time alone tells how long."""
        if not any(side.is_long for side in self._sides):
            return False
        if any(turn.base.has_device or turn.head.has_device for turn in self.turns):
            return False
        return witness([TurnSeries(turns=tuple(self.turns), is_steady=True)]) is Witness.CPU

    def share(self, core: SharedCore) -> tuple[Turn, ...]:
        """Turns of both sides at once; none where they cannot run so.

        What one side does while the other has ended, it does alone, with the caches for
        itself. So both make as many calls, or pairs of the same code would differ by 5 % where
        they differ by 2 %, and some slices without a pause, of which the last does not count:
        while one side makes that, the other ends those that count, even if it takes a quarter
        longer for them. Where they counted, growths of 5 and 20 % were found to be 4.3 and
        17.6 %. Not too many slices, as those of a turn are to overlap.
        """
        calls = max(side.warm_calls for side in self._sides)
        slice_s = calls * max(side.call_s for side in self._sides)
        rounds = math.ceil(self._plan.side_s / slice_s / _ROUND_SLICES)
        slices = _ROUND_SLICES if rounds > 1 else max(2, math.ceil(self._plan.side_s / slice_s))
        turns: list[Turn] = []
        for number in range(rounds):
            head_first = self._head_leads if number % 2 == 0 else not self._head_leads
            taken = core.run(slices + 1, calls, head_first=head_first)
            if taken is None:
                return ()
            turns += taken[:-1]
        return tuple(turns)


class _Paced:
    """A side whose slices are made long enough, as far as its pace is known."""

    def __init__(self, side: Side, plan: TurnPlan) -> None:
        self._side = side
        self._plan = plan
        self._calls = 1
        self._slice_s = plan.warmup_slice_s
        self._warmup_s = 0.0
        self._call_times: list[float] = []
        self.warm_calls = 1
        """Calls of a slice at the end of the warm-up."""

    @property
    def call_s(self) -> float:
        """Seconds of the shortest call of the warm-up."""
        return min(self._call_times)

    @property
    def is_long(self) -> bool:
        """Whether calls are longer than slices are to be."""
        return self.call_s >= _LONG_SLICES * self._plan.slice_s

    def call_first(self) -> None:
        """The first call, from which nothing is learnt: what it does is done once, or not yet."""
        self._side.run(1)

    def run(self) -> Slice:
        """One slice, from which the calls of the next are found."""
        piece = self._side.run(self._calls)
        call_s = piece.wall_s / piece.calls
        enough = math.ceil(self._slice_s / call_s) if call_s > 0 else _MOST_CALLS
        # Never fewer again: the best pace is the side's own, a worse one the machine's.
        self._calls = max(self._calls, min(enough, _GROWTH * self._calls, _MOST_CALLS))
        return piece

    def warm_up(self) -> None:
        """One slice that counts for the warm-up alone."""
        piece = self.run()
        self._warmup_s += piece.wall_s
        # What others took is no drift of the side's own.
        self._call_times.append((piece.wall_s - piece.queued_s) / piece.calls)

    def end_warm_up(self) -> None:
        """From here on slices are as long as those of a turn."""
        self.warm_calls = self._calls
        share = self._plan.slice_s / self._plan.warmup_slice_s
        self._calls = max(1, math.ceil(self._calls * share))
        self._slice_s = self._plan.slice_s

    def is_warm(self) -> bool:
        """Whether the warm-up was long enough and ended steady, or must end."""
        # Slices end it, too, where the clock stands still.
        most_slices = _GROWING_SLICES + self._plan.warmup_limit_s / self._plan.warmup_slice_s
        if self._warmup_s >= self._plan.warmup_limit_s or len(self._call_times) >= most_slices:
            return True
        return (
            self._warmup_s >= self._plan.warmup_s
            and len(self._call_times) >= _FEWEST_SLICES
            and self.is_steady()
        )

    def is_steady(self) -> bool:
        """Whether the last slices of the warm-up show no drift."""
        return not is_drifting(self._call_times[-_DRIFT_SLICES:], _DRIFT)
