"""When pairs enough were run, and what they say: a sequential decision, and no measurement."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_flopbudget.core.ratios import FEWEST_PAIRS, Ratio, estimate
from pytest_flopbudget.core.series import TurnSeries


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

    A test regresses if the interval over its pairs lies above 1 and the estimate above what
    is allowed. Looking four times gives chance four times, so each look that can fail a test
    may err by an equal part of `error`; by Bonferroni's inequality all of them together then
    err by no more than `error`, however the looks depend on each other and whatever stops the
    series in between. Equal parts are Pocock's choice among the spending functions: keeping
    more for the last look would find a little more under noise, and later.
    Sources: Pocock, Biometrika 64 (1977), 191; Lan and DeMets, Biometrika 70 (1983), 659;
    Wassmer and Brannath, Group Sequential and Confirmatory Adaptive Designs (2016).

    On normal logarithms, with +3 % allowed and the defaults, a true +5 % is found in more
    than 99.9 % of the cases after 5.0 pairs where pairs differ by 1 %, and in 99 % after 6.4
    where they differ by 2.3 %; no growth passes after 3.1 and 4.8. A true growth of exactly
    what is allowed is a coin flip by definition, for its estimate falls on either side as
    often; three looks make it fail in 64 % rather than 50. The error is that of one test: of
    many without growth, each has its own chance to fail.

    Raises ValueError where no look could fail a test, or a share is none.
    """

    allowed: float
    """Growth allowed, 0.05 for +5 %. With 0, a test is within only if it is surely faster."""
    error: float = 0.01
    """The most often that a test without any growth may be called regressed, over all looks."""
    looks: tuple[int, ...] = (3, 5, 7, 10)
    """After how many pairs there is a decision, rising; the last of them is the most pairs."""
    fewest_to_fail: int = 4
    """Fewer pairs never fail a test. Where each process is fast or slow by chance, as by its
    allocator, n pairs agree on the same false ratio up to once in 4^n: 1.6 % for three, and
    what agrees has a narrow interval."""
    clear: float = 0.95
    """How sure one look must be that the true ratio is below what is allowed, to pass early.
    Of the regressions above, this lets one in 200 pass where pairs differ by 2.3 %; being
    surer takes up to one more pair of every test that has not grown."""

    def __post_init__(self) -> None:
        if list(self.looks) != sorted(set(self.looks)) or not self.failing_looks:
            raise ValueError(f"looks must rise, and one come after enough pairs to fail: {self}")
        if self.fewest_to_fail < FEWEST_PAIRS or not 0 <= self.allowed < math.inf:
            raise ValueError(f"too few pairs to fail, or no such growth: {self}")
        if not (0 < self.error < 1 - self.error and 1 - self.clear < self.clear < 1):
            raise ValueError(f"an error must be below 0.5, and what is clear above it: {self}")

    @property
    def failing_looks(self) -> int:
        """How many looks can fail a test."""
        return sum(look >= self.fewest_to_fail for look in self.looks)

    @property
    def confidence(self) -> float:
        """The two-sided confidence of the interval at each look: only its lower end fails."""
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

    is_last: there will be no more pairs, because the time is spent; this is then a look,
    in place of those that were planned. After the last of `rules.looks` there are no more in
    any case; between looks nothing is decided. At the last, what neither regressed nor is
    clearly within is unstable if the pairs could not have told the allowed growth from none.
    Raises MeasureError as `estimate` does.
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
    elif (passing := ratio.at(2 * rules.clear - 1)).high < bound:
        state, ratio = State.WITHIN, passing
    elif not is_last:
        state = State.MORE
    else:
        state = State.UNSTABLE if resolves > rules.allowed else State.WITHIN
    return Decision(state=state, ratio=ratio, resolves=resolves)
