"""How much slower the head is than the base, as a ratio with an interval over pairs.

The process, not the call, is the unit of noise: the calls of one pair of processes resemble
each other, so that an interval over them claims too much. Each pair gives one number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.series import Slice, TurnSeries
from pytest_flopbudget.core.statistics import median
from pytest_flopbudget.core.witness import Witness, witness

FEWEST_PAIRS: Final = 2
"""One pair has no spread, and so no interval."""
_EVEN: Final = 0.5
"""The confidence of a coin: Student's t is then 0."""
_WIDEST: Final = 690.0
"""The widest interval, as a logarithm: a report holds numbers below 1e300, and exp(690) is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The head's time as a multiple of the base's, over several pairs of processes."""

    estimate: float
    """The geometric mean of the pairs' ratios: above 1 where the head is slower."""
    low: float
    high: float
    confidence: float
    """How often such an interval holds the true ratio, where its logarithms are normal."""
    noise: float
    """The spread between pairs as a share: exp of the standard deviation of their
    logarithms, less 1."""
    pairs: int
    witness: Witness
    wall: float
    """The same estimate from wall time, whichever clock was the witness."""
    base_s: float
    """Wall seconds for one call: the median over pairs of their medians over turns."""
    head_s: float

    def at(self, confidence: float) -> Ratio:
        """The same with the two-sided interval of another confidence.

        Raises ValueError for a confidence that is not at least 0 and below 1.
        """
        quantile = student_t((1 + confidence) / 2, self.pairs - 1)
        half = quantile * math.log1p(self.noise) / math.sqrt(self.pairs)
        centre = math.log(self.estimate)
        low, high = _exp(centre - half), _exp(centre + half)
        return replace(self, low=low, high=high, confidence=confidence)


def estimate(series: Sequence[TurnSeries], confidence: float) -> Ratio:
    """The ratio over these pairs, two at least, with its two-sided interval.

    The interval is Student's, on the logarithms of the pairs' ratios. One outlying pair moves
    the mean, and widens the interval by more: that costs power, and makes no false alarm.
    Raises ValueError for fewer than two pairs, and MeasureError for a pair without a turn in
    which both sides took any time.
    """
    if len(series) < FEWEST_PAIRS:
        raise ValueError(f"an interval over pairs needs two pairs, and there are {len(series)}")
    clock = witness(series)
    logs = [log_ratio(pair, clock) for pair in series]
    centre = _mean(logs)
    spread = math.sqrt(math.fsum((log - centre) ** 2 for log in logs) / (len(logs) - 1))
    point = Ratio(
        estimate=_exp(centre),
        low=_exp(centre),
        high=_exp(centre),
        confidence=0.0,
        noise=_exp(spread) - 1,
        pairs=len(logs),
        witness=clock,
        wall=_exp(_mean([log_ratio(pair, Witness.WALL) for pair in series])),
        base_s=median([_call_s([turn.base for turn in pair.turns]) for pair in series]),
        head_s=median([_call_s([turn.head for turn in pair.turns]) for pair in series]),
    )
    return point.at(confidence)


def log_ratio(series: TurnSeries, clock: Witness) -> float:
    """The logarithm of the head's time per call over the base's: the median over the turns.

    For CPU time over the shared turns, where there are any: what takes time from one side
    takes it from the other too. A turn in which either side took no time at all is left out.
    Raises MeasureError where that leaves none.
    """
    turns = (clock is Witness.CPU and series.shared_turns) or series.turns
    logs = [
        _log_call_s(turn.head, clock) - _log_call_s(turn.base, clock)
        for turn in turns
        if min(_time_s(turn.base, clock), _time_s(turn.head, clock)) > 0
    ]
    if not logs:
        raise MeasureError(
            f"the {clock.value} clock saw no time pass in {len(turns)} turns; "
            "let the region do more work"
        )
    return median(logs)


@lru_cache(maxsize=256)
def student_t(confidence: float, degrees: int) -> float:
    """The value that Student's t stays below with this probability, from 0.5 to below 1.

    For a whole number of degrees of freedom the distribution is a finite sum in the angle
    whose tangent is t / sqrt(degrees); the angle is found by bisection. Exact to 1e-9 of the
    value for confidences up to 0.99999. Raises ValueError for others than these.
    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    if not _EVEN <= confidence < 1 or degrees < 1:
        raise ValueError(f"no t of confidence {confidence} with {degrees} degrees of freedom")
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if (1 + _within(middle, degrees)) / 2 < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)


def _within(angle: float, degrees: int) -> float:
    """The probability that |t| stays below sqrt(degrees) * tan(angle)."""
    cosine = math.cos(angle)
    # The terms of both sums begin with cos to the power of the parity, and each is the one
    # before times cos^2 times 2/3, 4/5, ... (odd degrees) or 1/2, 3/4, ... (even degrees).
    is_odd = degrees % 2
    term = cosine if is_odd else 1.0
    total = 0.0
    for power in range(is_odd, degrees - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    total *= math.sin(angle)
    return (angle + total) * 2 / math.pi if is_odd else total


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _time_s(piece: Slice, clock: Witness) -> float:
    return piece.cpu_s if clock is Witness.CPU else piece.wall_s


def _log_call_s(piece: Slice, clock: Witness) -> float:
    return math.log(_time_s(piece, clock)) - math.log(piece.calls)


def _call_s(slices: Sequence[Slice]) -> float:
    """The median of the slices' wall seconds for one call."""
    return median([piece.wall_s / piece.calls for piece in slices])


def _exp(logarithm: float) -> float:
    """The ratio of this logarithm, as near as a float can be."""
    return math.exp(max(-_WIDEST, min(logarithm, _WIDEST)))
