"""How a metric got where it is: a line of small bars, and its ends in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytest_flopbudget.core.comparison import Delta
from pytest_flopbudget.core.quantity import exact, format_pair
from pytest_flopbudget.render.words import head_value

MOST_POINTS: Final = 20

_BARS: Final = "".join(chr(0x2581 + height) for height in range(8))
_FLAT: Final = _BARS[3]


def trend(delta: Delta) -> str:
    """What earlier commits measured and the head does, such as `▁▁█ 1 GFLOP to 1.8 GFLOP`.

    At most 20 points, the head last; empty where nothing earlier is known.
    """
    if not delta.history:
        return ""
    head = head_value(delta)
    points = (*delta.history, *([] if head is None else [head]))[-MOST_POINTS:]
    ends = format_pair(points[0], points[-1], delta.metric.dimension)
    return f"{_sparkline(points)} {' to '.join(dict.fromkeys(ends))}"


def _sparkline(points: Sequence[int | float]) -> str:
    """A bar for each point, from the lowest to the highest; a constant has them all alike."""
    amounts = [exact(point) for point in points]
    low, high = min(amounts), max(amounts)
    if low == high:
        return _FLAT * len(points)
    top = len(_BARS) - 1
    return "".join(_BARS[round((one - low) / (high - low) * top)] for one in amounts)
