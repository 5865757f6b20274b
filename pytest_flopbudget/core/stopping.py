"""When pairs enough were run, and what they say: a sequential decision, and no measurement."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_flopbudget.core.ratios import FEWEST_PAIRS, Ratio, estimate
from pytest_flopbudget.core.turns import TurnSeries


class State(enum.Enum):
    """What is known of one test after so many pairs."""

    REGRESSED = "regressed"
    WITHIN = "within"
    UNSTABLE = "unstable"
    """The pairs differ too much among themselves to tell a growth of what is allowed from none."""
    MORE = "more"
    """Open: another pair may tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may be claimed of one test, when it is looked at, and how sure the claim must be.

    Raises ValueError where no look could fail a test, or a share is none.
    """

    allowed: float
    """Growth allowed, 0.05 for +5 %."""
    error: float = 0.01
    """The most often that a test without any growth may be called regressed, over all looks."""
    looks: tuple[int, ...] = (3, 5, 7, 10)
    """After how many pairs there is a decision; the last of them is the most pairs."""
    fewest_to_fail: int = 5
    """Pairs without which nothing regresses."""
    clear: float = 0.95
    """How sure one early look must be that the growth is below what is allowed."""

    def __post_init__(self) -> None:
        if not 0 <= self.allowed < math.inf or not 0 < self.error <= 1 - self.clear < 1:
            raise ValueError(f"no such growth, error or confidence: {self}")
        if self.fewest_to_fail < FEWEST_PAIRS or not self.failing_looks:
            raise ValueError(f"no look of these can fail a test: {self}")

    @property
    def failing_looks(self) -> int:
        """How many looks can fail a test."""
        return sum(look >= self.fewest_to_fail for look in self.looks)

    @property
    def confidence(self) -> float:
        """The two-sided confidence of the interval at each look."""
        return 1 - 2 * self.error / self.failing_looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the pairs so far say of one test."""

    state: State
    ratio: Ratio | None
    """With the interval that decided: of `Rules.clear` where its upper end is below what is
    allowed, else of `Rules.confidence`. None with fewer than two pairs, which have none."""
    resolves: float
    """The smallest growth that these pairs can tell from none, 0.03 for +3 %; infinite where
    there are too few to tell any."""


def decide(series: Sequence[TurnSeries], rules: Rules, *, is_last: bool) -> Decision:
    """What these pairs say, and whether more are needed.

    is_last: there will be no more pairs, because the time is spent. After the last of
    `rules.looks` there are none in any case.
    """
    pairs = len(series)
    is_last = is_last or pairs >= max(rules.looks)
    if pairs < FEWEST_PAIRS:
        state = State.UNSTABLE if is_last else State.MORE
        return Decision(state=state, ratio=None, resolves=math.inf)
    ratio = estimate(series, rules.confidence)
    can_fail = pairs >= rules.fewest_to_fail
    resolves = ratio.high / ratio.estimate - 1 if can_fail else math.inf
    bound = 1 + rules.allowed
    if not is_last and pairs not in rules.looks:
        state = State.MORE
    elif can_fail and ratio.low > 1 and ratio.estimate > bound:
        state = State.REGRESSED
    elif (passing := estimate(series, 2 * rules.clear - 1)).high < bound:
        state, ratio = State.WITHIN, passing
    elif not is_last:
        state = State.MORE
    else:
        state = State.UNSTABLE if resolves > rules.allowed else State.WITHIN
    return Decision(state=state, ratio=ratio, resolves=resolves)
