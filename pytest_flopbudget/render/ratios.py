"""What every renderer shows of times that were taken beside the base: one row for each region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.comparison import Comparison, Delta, Timings
from pytest_flopbudget.core.metrics import Better
from pytest_flopbudget.core.quantity import format_quantity
from pytest_flopbudget.core.ratios import Ratio
from pytest_flopbudget.core.side_by_side import Timed, TimedOutcome
from pytest_flopbudget.core.witness import Witness
from pytest_flopbudget.render.sentences import on_legs
from pytest_flopbudget.render.words import clean, plural, value_and_bound, values_of

TITLE: Final = "timed beside the base"
COLUMNS: Final = ("test", "base -> head", "change", "interval, %", "noise", "verdict")

_UNKNOWN: Final = "-"
_DIGITS: Final = 3
"""Of a time: a fourth would be noise."""
_PERCENT: Final = 100
_MANY: Final = 10
"""Times the base's time: written so, and not in percent, from here on."""
_COMMIT: Final = 9
_WORDS: Final = {
    TimedOutcome.REGRESSED: "SLOWER",
    TimedOutcome.UNSTABLE: "unstable",
    TimedOutcome.NOT_TIMED: "not timed",
    TimedOutcome.WITHIN: "ok",
}
"""In the order in which the rows stand."""
_ORDER: Final = tuple(_WORDS)
_CLOCKS: Final = {Witness.CPU: "CPU time", Witness.WALL: "wall time"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioRow:
    """One region's times in words; what is not known is a dash."""

    delta: Delta
    verdict: str
    base: str = _UNKNOWN
    head: str = _UNKNOWN
    change: str = _UNKNOWN
    interval: str = _UNKNOWN
    """In percent, such as `[-0.4, +2.9]`."""
    noise: str = _UNKNOWN
    wall: str = ""
    """The change by the wall clock, where another clock decided and says something else."""

    @property
    def is_telling(self) -> bool:
        """Whether it says more than that nothing happened."""
        return self.verdict != _WORDS[TimedOutcome.WITHIN]

    @property
    def is_unstable(self) -> bool:
        """Whether its noise kept it from being judged."""
        return self.verdict == _WORDS[TimedOutcome.UNSTABLE]

    @property
    def times(self) -> str:
        """Both amounts, with a unit that they share once."""
        if self.base == _UNKNOWN:
            return _UNKNOWN
        number, _, unit = self.base.partition(" ")
        is_shared = self.head.partition(" ")[2] == unit
        return f"{number if is_shared else self.base} -> {self.head}"


def ratio_rows(comparison: Comparison) -> list[RatioRow]:
    """A row for each region: what is slower first, then what could not be told, then the rest."""
    known = [(delta.timed, delta) for delta in comparison.timed if delta.timed is not None]
    known.sort(key=lambda one: (_ORDER.index(one[0].outcome), -one[1].growth))
    return [_row(timed, delta) for timed, delta in known]


def timing_facts(comparison: Comparison) -> Iterator[str]:
    """How the times were taken, in a line for each thing to know."""
    ratios = [d.timed.ratio for d in comparison.timed if d.timed and d.timed.ratio]
    for one in comparison.timings:
        yield on_legs(_effort(one), one.legs)
    if ratios:
        clocks = Counter(_CLOCKS[ratio.witness] for ratio in ratios)
        counted = ", ".join(f"{clock} for {count}" for clock, count in sorted(clocks.items()))
        sure = " or ".join(f"{_PERCENT * one:.3g} %" for one in _confidences(ratios))
        yield f"decided by {counted}; the times shown are by the wall clock"
        yield f"intervals over pairs of processes, at {sure}; noise is the spread between pairs"
    for one in comparison.timings:
        pinned = ", ".join(f"{name}={value}" for name, value in one.run.environment.items())
        if pinned:
            yield on_legs(clean(f"pinned: {pinned}"), one.legs)


def judged_amounts(delta: Delta) -> tuple[str, str]:
    """The head's amount and what it is held to: beside the base, the change that is allowed."""
    if delta.verdict is None:
        return _UNKNOWN, _UNKNOWN
    if delta.timed is None or delta.timed.ratio is None:
        return value_and_bound(delta.verdict, delta.limit)
    is_rate = _is_rate(delta)
    allowed = _percent(_change(1 + delta.timed.allowed, is_rate=is_rate))
    return _row(delta.timed, delta).head, f"{'>=' if is_rate else '<='} {allowed}"


def judged_base(delta: Delta) -> str:
    """The base's amount, beside that of `judged_amounts`."""
    if delta.timed is None or delta.timed.ratio is None:
        return values_of(delta)[0]
    return _row(delta.timed, delta).base


def timing_causes(delta: Delta) -> tuple[str, ...]:
    """How sure the change is; empty for what was not timed beside the base."""
    if delta.timed is None or delta.timed.ratio is None:
        return ()
    row = _row(delta.timed, delta)
    wall = (f"by wall time {row.wall}",) if row.wall else ()
    return f"interval {row.interval} %", f"noise {row.noise}", *wall


def _row(timed: Timed, delta: Delta) -> RatioRow:
    word = _word(timed)
    ratio = timed.ratio
    if ratio is None or delta.base is None or delta.head is None:
        return RatioRow(delta=delta, verdict=word)
    is_rate = _is_rate(delta)
    ends = sorted(_change(end, is_rate=is_rate) for end in (ratio.low, ratio.high))
    low, high = (_percent(end).removesuffix(" %") for end in ends)
    dimension = delta.metric.dimension
    return RatioRow(
        delta=delta,
        verdict=word,
        base=format_quantity(delta.base.value, dimension, _DIGITS),
        head=format_quantity(delta.head.value, dimension, _DIGITS),
        change=_percent(_change(ratio.estimate, is_rate=is_rate)),
        interval=f"[{low}, {high}]",
        noise=_percent(ratio.noise).removeprefix("+"),
        wall=_percent(_change(ratio.wall, is_rate=is_rate)) if _is_wall_else(ratio) else "",
    )


def _word(timed: Timed) -> str:
    if timed.outcome is TimedOutcome.REGRESSED and timed.severity is Severity.WARN:
        return "slower (warn)"
    if timed.outcome is TimedOutcome.WITHIN and timed.is_faster:
        return "faster"
    return _WORDS[timed.outcome]


def _is_wall_else(ratio: Ratio) -> bool:
    """Whether the wall clock's ratio lies outside of what the other clock leaves open."""
    return ratio.witness is not Witness.WALL and not ratio.low <= ratio.wall <= ratio.high


def _is_rate(delta: Delta) -> bool:
    return delta.metric.better is Better.HIGHER


def _change(ratio: float, *, is_rate: bool) -> float:
    """The change of the metric, as a share, where the time changes by this ratio."""
    return (1 / ratio if is_rate else ratio) - 1


def _percent(share: float) -> str:
    """Such as `+1.3 %`; `x12.5` for what is more than ten times as much."""
    if share + 1 >= _MANY:
        return f"x{share + 1:.3g}"
    text = f"{_PERCENT * share:+.1f} %"
    return text.replace("-0.0", "+0.0")


def _confidences(ratios: list[Ratio]) -> list[float]:
    return sorted({ratio.confidence for ratio in ratios})


def _effort(timings: Timings) -> str:
    run = timings.run
    changed = " with changes" if run.is_dirty else ""
    return clean(
        f"{plural(run.pairs, 'pair')} of processes at most, {run.seconds:.3g} s, "
        f"{run.head[:_COMMIT]}{changed} beside {run.base[:_COMMIT]}"
    )
