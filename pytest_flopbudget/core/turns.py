"""Two sides timed by turns: in short slices, so that what slows the machine slows both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.statistics import is_drifting

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What one side measured over several calls in a row.

    Raises MeasureError where a time is infinite or no number, or nothing was called.
    """

    calls: int
    wall_s: float
    """For all the calls together. Zero, or less, where the clock was too coarse to tell."""
    cpu_s: float
    """CPU time of the whole process, all its threads, for all the calls together."""
    queued_s: float = 0.0
    """Time for which the thread that calls could have run, and other processes had the CPUs;
    0 where the system does not tell. Linux does, in nanoseconds, as the second number of
    `/proc/thread-self/schedstat`; read it between the two readings of the wall clock, or a
    preemption from one reading to the other makes it the longer of the two."""

    def __post_init__(self) -> None:
        times = self.wall_s, self.cpu_s, self.queued_s
        if self.calls < 1 or not all(map(math.isfinite, times)):
            raise MeasureError(
                f"{self.calls} calls were timed at {self.wall_s} s, {self.cpu_s} s of them on the "
                f"CPU and {self.queued_s} s waiting for one: no such times can be compared; "
                "run it again"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A slice of each side, one right after the other."""

    base: Slice
    head: Slice


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSeries:
    """What one pair of processes measured of one test."""

    turns: tuple[Turn, ...]
    """In the order in which they were taken."""
    is_steady: bool
    """False where a side still drifted when its warm-up ended at the time limit."""


class Side(Protocol):
    """One process of a pair, which calls what is timed as often as it is told."""

    def run(self, calls: int) -> Slice:
        """Call it so many times in a row, and say how long that took."""
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


def take_turns(base: Side, head: Side, plan: TurnPlan, *, head_leads: bool) -> TurnSeries:
    """The turns of one pair on one test, after the warm-up of both sides.

    The order is base, head, head, base, and so on (ABBA); with `head_leads`, head, base,
    base, head. A drift that both sides share then favours neither. The number of turns is
    even, and four at least. The two sides may make different numbers of calls in a slice,
    and time is only what the slices say. An exception of a side propagates.
    """
    base_side, head_side = _Paced(base, plan), _Paced(head, plan)
    leader, follower = (head_side, base_side) if head_leads else (base_side, head_side)
    for side in (leader, follower):
        side.call_first()
    while waiting := [side for side in (leader, follower) if not side.is_warm()]:
        for side in waiting:
            side.warm_up()
    is_steady = base_side.is_steady() and head_side.is_steady()
    for side in (leader, follower):
        side.end_warm_up()
    turns: list[Turn] = []
    spent_s = 0.0
    while len(turns) < plan.fewest_turns or (
        len(turns) < plan.most_turns and spent_s < 2 * plan.side_s
    ):
        for first, second in ((leader, follower), (follower, leader)):
            pieces = {first: first.run(), second: second.run()}
            turns.append(Turn(base=pieces[base_side], head=pieces[head_side]))
            spent_s += sum(piece.wall_s for piece in pieces.values())
    return TurnSeries(turns=tuple(turns), is_steady=is_steady)


class _Paced:
    """A side whose slices are made long enough, as far as its pace is known."""

    def __init__(self, side: Side, plan: TurnPlan) -> None:
        self._side = side
        self._plan = plan
        self._calls = 1
        self._slice_s = plan.warmup_slice_s
        self._warmup_s = 0.0
        self._call_times: list[float] = []

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
