"""Times regions side by side, pair after pair, until each is decided or the time is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pytest_flopbudget.ab.conductor import PairResult, Question
from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.series import TurnSeries
from pytest_flopbudget.core.stopping import Decision, Rules, State, decide
from pytest_flopbudget.core.turns import TurnPlan

_PAIRS_HOPED_FOR: Final = 5
"""How many pairs the time is shared out to; most regions are decided after three."""
_FEWEST_PAIRS: Final = 3
_SHORTEST_S: Final = 0.25
"""Of each side's turns in one pair: below it a region of 50 ms has five slices."""
_LONGEST_S: Final = 1.0
_START_S: Final = 4.0
"""What the first pair is taken to need before its first turn: two imports of torch at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One region to be timed, and by how much it may have grown."""

    question: Question
    allowed: float
    """As a share: 0.05 for +5 %."""
    severity: Severity
    is_new: bool = False
    """Whether the base's report lacks the test: it may be there all the same, unbudgeted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of one case: a decision, or why there is none."""

    case: Case
    decision: Decision | None
    is_steady: bool
    """False where a side still drifted at the end of its warm-up, in some pair."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What came of all of them."""

    findings: tuple[Finding, ...]
    pairs: int
    """How many pairs were run."""
    seconds: float
    is_traced: bool
    """Whether a tracer, such as that of coverage, ran along with the timed code."""


class PairRunner(Protocol):
    """Runs one pair of fresh workers."""

    def __call__(
        self,
        questions: Sequence[Question],
        plan: TurnPlan,
        *,
        head_leads: bool,
        deadline_s: float,
        on_progress: Callable[[int], None],
    ) -> PairResult:
        """What `conduct` gives for its two sides."""


def time_cases(
    cases: Sequence[Case],
    run_pair: PairRunner,
    *,
    time_limit_s: float,
    clock: Callable[[], float],
    say: Callable[[str], None],
) -> Timing:
    """Run pairs until every case is decided, or the time would not do for another pair.

    time_limit_s: for all pairs together; what is not reached in it is named, and not decided.
    clock: seconds since any moment, the same that `run_pair` has its deadline on.
    say: is told how far it is, a line at a time.
    """
    contest = _Contest(cases, time_limit_s)
    start_s = clock()
    deadline_s = start_s + time_limit_s
    overhead_s = _START_S
    while contest.is_open:
        pair_start_s = clock()
        plan = contest.plan(deadline_s - pair_start_s, overhead_s)
        if plan is None:
            break
        questions = contest.questions()

        def progress(done: int, of: int = len(questions)) -> None:
            left_s = max(0.0, deadline_s - clock())
            say(
                f"pair {contest.pairs + 1} of at most {contest.most_pairs}: {done} of {of} "
                f"timed, at most {left_s:.0f} s left"
            )

        progress(0)
        result = run_pair(
            questions,
            plan,
            head_leads=contest.pairs % 2 == 1,
            deadline_s=deadline_s,
            on_progress=progress,
        )
        contest.take(result)
        if result.is_cut_short:
            break
        overhead_s = max(0.0, clock() - pair_start_s - len(questions) * _turns_s(plan))
    contest.close()
    return Timing(
        findings=contest.findings(),
        pairs=contest.pairs,
        seconds=clock() - start_s,
        is_traced=contest.is_traced,
    )


class _Contest:
    """What is known of every case so far."""

    def __init__(self, cases: Sequence[Case], time_limit_s: float) -> None:
        self.pairs = 0
        self.is_traced = False
        self._cases = cases
        self._series: dict[Question, list[TurnSeries]] = {case.question: [] for case in cases}
        self._decided: dict[Question, Decision] = {}
        self._untimed: dict[Question, str] = {}
        self._lost: frozenset[Question] = frozenset()
        """What the last pair lost with one of its workers."""
        self._no_room = (
            f"the time limit of {time_limit_s:.0f} s does not do for all {len(cases)} timed "
            "regions; raise it with --time-limit, or time fewer tests at once"
        )
        # Those that are left out are always the same ones, and not what chance leaves.
        room_s = time_limit_s / _FEWEST_PAIRS - _START_S
        fitting = max(1, int(room_s / _turns_s(TurnPlan(side_s=_SHORTEST_S))))
        for case in cases[fitting:]:
            self._untimed[case.question] = self._no_room

    @property
    def most_pairs(self) -> int:
        """Pairs after which every case is decided."""
        return max((max(_rules(case).looks) for case in self._cases), default=0)

    @property
    def is_open(self) -> bool:
        """Whether another pair could tell something."""
        return self.pairs < self.most_pairs and any(True for _ in self._open())

    def questions(self) -> list[Question]:
        """What the next pair is asked."""
        return [case.question for case in self._open()]

    def plan(self, left_s: float, overhead_s: float) -> TurnPlan | None:
        """How long the next pair's turns are; None where the time does not do for one.

        left_s: time for all further pairs.
        overhead_s: what a pair takes beside its turns.
        """
        count = sum(1 for _ in self._open())
        pairs = max(1, _PAIRS_HOPED_FOR - self.pairs)
        warmup_s = 2 * TurnPlan().warmup_s

        def side_s(share_s: float) -> float:
            return ((share_s - overhead_s) / count - warmup_s) / 2

        # The first pair is run in any case: what it does not reach is named.
        if self.pairs and side_s(left_s) < _SHORTEST_S:
            return None
        return TurnPlan(side_s=min(_LONGEST_S, max(_SHORTEST_S, side_s(left_s / pairs))))

    def take(self, result: PairResult) -> None:
        """Add what a pair found, and decide what can be decided."""
        self.pairs += 1
        self.is_traced |= result.is_traced
        self._untimed.update(result.untimed)
        # A worker may be killed for what is not its fault, but hardly so two in a row.
        self._untimed.update({q: why for q, why in result.lost.items() if q in self._lost})
        self._lost = frozenset(result.lost)
        for question, series in result.series.items():
            self._series[question].append(series)
        self._decide(is_last=False)

    def close(self) -> None:
        """Decide what is still open: there will be no more pairs."""
        for case in self._open():
            if not self._series[case.question]:
                self._untimed[case.question] = self._no_room
        self._decide(is_last=True)

    def findings(self) -> tuple[Finding, ...]:
        """What came of each case, in the order of the cases."""
        return tuple(
            Finding(
                case=case,
                decision=self._decided.get(case.question),
                is_steady=all(series.is_steady for series in self._series[case.question]),
                why=self._untimed.get(case.question, ""),
            )
            for case in self._cases
        )

    def _open(self) -> Iterator[Case]:
        for case in self._cases:
            if case.question not in self._untimed and case.question not in self._decided:
                yield case

    def _decide(self, *, is_last: bool) -> None:
        for case in list(self._open()):
            try:
                decision = decide(self._series[case.question], _rules(case), is_last=is_last)
            except MeasureError as error:
                self._untimed[case.question] = str(error)
                continue
            if decision.state is not State.MORE:
                self._decided[case.question] = decision


def _rules(case: Case) -> Rules:
    return Rules(allowed=case.allowed)


def _turns_s(plan: TurnPlan) -> float:
    """What both sides' turns at one region take, where no call is longer than a slice."""
    return 2 * (plan.warmup_s + plan.side_s)
