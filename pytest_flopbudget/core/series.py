"""What two processes measured by turns: a slice of each, turn after turn."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_flopbudget.core.errors import MeasureError


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
    has_device: bool = False
    """Whether a GPU is in use, which two processes at once would wait for."""

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
    shared_turns: tuple[Turn, ...] = ()
    """Taken after these, of both sides at once on one core, where calls are long and compute
    all the time: the system then has them take turns at the core within a call. Their wall
    times hold the other side's; none where the sides were timed by turns alone."""
    is_steady: bool
    """False where a side still drifted when its warm-up ended at the time limit."""
