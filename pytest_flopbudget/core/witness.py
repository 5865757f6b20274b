"""Which clock to believe of what was timed by turns: the process's or the wall's."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from pytest_flopbudget.core.series import TurnSeries
from pytest_flopbudget.core.statistics import percentile

_BUSY_SHARE: Final = 0.9
"""Which slice, counted from the least busy one, says whether a side computes all the time."""
_ONE_THREAD: Final = (0.95, 1.05)
"""CPU and queued time per wall time of what computes all the time on one thread."""


class Witness(enum.Enum):
    """The clock that a ratio was taken from."""

    CPU = "cpu"
    """The time that the process had the CPU: blind to what its neighbours take, and to sleep."""
    WALL = "wall"


def witness(series: Sequence[TurnSeries]) -> Witness:
    """The clock to believe: CPU time where both sides compute all the time on one thread.

    A neighbour that takes the CPU away lengthens wall time and hardly CPU time. But CPU time
    does not see a side wait, and sees all threads of one that has several. So it serves only
    if it agrees with wall time to 5 % on both sides, once the time queued for a CPU is added,
    in the slices that were robbed least: the 0.9 quantile of the quotient, over all pairs. A
    neighbour that the system does not tell of may so rob nine slices in ten. A clock too
    coarse for a slice is no witness.
    """
    turns = [turn for pair in series for turn in pair.turns]
    for slices in ([turn.base for turn in turns], [turn.head for turn in turns]):
        if not slices or any(min(piece.cpu_s, piece.wall_s) <= 0 for piece in slices):
            return Witness.WALL
        shares = [(piece.cpu_s + piece.queued_s) / piece.wall_s for piece in slices]
        share = percentile(shares, _BUSY_SHARE)
        if not _ONE_THREAD[0] <= share <= _ONE_THREAD[1]:
            return Witness.WALL
    return Witness.CPU
