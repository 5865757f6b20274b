"""Conducts a pair: two workers, one on each side, that take turns at every timed region."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, final

from pytest_flopbudget.ab.side import Sides
from pytest_flopbudget.ab.worker import (
    CallRaisedError,
    Ended,
    Ready,
    Worker,
    WorkerEndedError,
)
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.series import Slice, Turn, TurnSeries
from pytest_flopbudget.core.turns import TurnPlan, take_turns
from pytest_flopbudget.session.channel import ChannelSilentError
from pytest_flopbudget.session.cores import core_of_pair

NOT_THERE: Final = "pytest did not come to it"
"""Why a test that a side does not have was not timed there."""
_OUT_OF_STEP: Final = "the two sides come to their regions in different orders"
_ANOTHER_KIND: Final = (
    "one side measures the whole test, the other what the test gives to the fixture"
)
_NEVER_CAME: Final = "the test never came to it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One region of one test, to be timed on both sides."""

    base: str
    """The id of the test on the base."""
    head: str
    region: str


@dataclass(slots=True, kw_only=True)
class PairResult:
    """What one pair of workers found."""

    series: dict[Question, TurnSeries] = field(default_factory=dict)
    untimed: dict[Question, str] = field(default_factory=dict)
    """Why there is no series."""
    lost: dict[Question, str] = field(default_factory=dict)
    """How a worker ended before these had their turns, which another pair may have."""
    modules: dict[str, dict[str, str]] = field(default_factory=dict)
    """By the side's name, the file of each module that it imported."""
    is_traced: bool = False
    """Whether a tracer, such as that of coverage, ran along with the timed code."""
    is_cut_short: bool = False
    """Whether the time was over before every question had its turns."""


def conduct(
    sides: Sides,
    questions: Sequence[Question],
    plan: TurnPlan,
    *,
    head_leads: bool,
    deadline_s: float = float("inf"),
    on_progress: Callable[[int], None] = lambda _: None,
) -> PairResult:
    """Start a worker on each side, and let them take turns at every question.

    head_leads: whether the head's worker is started first, and has the first slice.
    deadline_s: on the clock of `time.monotonic`; what has not been timed by then is not.
    on_progress: is told how many questions are done.
    """
    base, head = sides.base, sides.head
    result = PairResult(modules={base.name: {}, head.name: {}})
    tests = {
        base.name: _regions((q.base, q.region) for q in questions),
        head.name: _regions((q.head, q.region) for q in questions),
    }
    try:
        with ExitStack() as block:
            core = core_of_pair(int(head_leads))
            workers = {
                side.name: block.enter_context(Worker(side, tests[side.name], core))
                for side in ((head, base) if head_leads else (base, head))
            }
            both = workers[base.name], workers[head.name]
            pair = _Pair(both, plan, head_leads, deadline_s)
            done = 0
            for _, group in groupby(questions, key=lambda question: question.head):
                asked = list(group)
                pair.ask(asked, result)
                done += len(asked)
                on_progress(done)
    except ChannelSilentError:
        result.is_cut_short = True
    except WorkerEndedError as error:
        for question in questions:
            if question not in result.series and question not in result.untimed:
                result.lost[question] = str(error)
    return result


def _regions(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    tests: dict[str, list[str]] = {}
    for test, region in pairs:
        tests.setdefault(test, []).append(region)
    return tests


@final
class _Pair:
    """Two workers that run the same tests at the same time: the base's and the head's."""

    def __init__(
        self,
        workers: tuple[Worker, Worker],
        plan: TurnPlan,
        head_leads: bool,
        deadline_s: float,
    ) -> None:
        self._workers = workers
        self._plan = plan
        self._head_leads = head_leads
        self._deadline_s = deadline_s
        self._early: dict[Worker, Ready | Ended] = {}
        """What a worker came to that did not collect the tests before it."""

    def ask(self, questions: Sequence[Question], result: PairResult) -> None:
        """Follow both sides through one test, and time the regions that both come to."""
        by_region = {question.region: question for question in questions}
        tests = dict(zip(self._workers, (questions[0].base, questions[0].head), strict=True))
        events = {worker: self._next(worker, test, result) for worker, test in tests.items()}
        while ready := {w: event for w, event in events.items() if isinstance(event, Ready)}:
            why = _why_apart(list(ready.values()))
            if why:
                for event in ready.values():
                    result.untimed[by_region[event.region]] = why
            else:
                result.is_traced |= any(event.is_traced for event in ready.values())
                cores = {event.core for event in ready.values()}
                region = next(iter(ready.values())).region
                is_shared = len(cores) == 1 and None not in cores
                self._take_turns(by_region[region], result, is_shared=is_shared)
            for worker in ready:
                worker.go_on()
                events[worker] = self._next(worker, tests[worker], result)
        for question in questions:
            if any(isinstance(event, Ended) and event.why for event in events.values()):
                # Of a test that fails, nobody knows what was timed.
                result.series.pop(question, None)
            if question not in result.series:
                # What the side itself says of it tells more than that the other was alone.
                own = _why_never(question, events)
                result.untimed[question] = own or result.untimed.get(question) or _NEVER_CAME

    def _take_turns(self, question: Question, result: PairResult, *, is_shared: bool) -> None:
        base, head = (_Patient(worker, self._left_s) for worker in self._workers)
        try:
            result.series[question] = take_turns(
                base,
                head,
                self._plan,
                head_leads=self._head_leads,
                core=_Core(base, head) if is_shared else None,
            )
        except CallRaisedError as error:
            result.untimed[question] = f"called again, it raised {error}"
        except MeasureError as error:
            result.untimed[question] = str(error)

    def _next(self, worker: Worker, test: str, result: PairResult) -> Ready | Ended:
        event = self._early.pop(worker, None) or worker.next(self._left_s())
        if event.test != test:
            self._early[worker] = event
            return Ended(test=test, why=NOT_THERE, untimed={}, modules={})
        if isinstance(event, Ended):
            result.modules[worker.side.name].update(event.modules)
        return event

    def _left_s(self) -> float:
        return max(0.0, self._deadline_s - time.monotonic())


@final
class _Patient:
    """A worker that is waited for until the deadline, and no longer."""

    def __init__(self, worker: Worker, left_s: Callable[[], float]) -> None:
        self._worker = worker
        self._left_s = left_s

    def run(self, calls: int) -> Slice:
        """One slice of so many calls."""
        self.start(1, calls)
        (piece,) = self.finish()
        return piece

    def start(self, slices: int, calls: int) -> None:
        """Have it begin so many such slices."""
        self._worker.start(slices, calls)

    def finish(self) -> list[Slice]:
        """The slices that were begun."""
        return self._worker.finish(self._left_s())


@final
class _Core:
    """The core that both workers run on."""

    def __init__(self, base: _Patient, head: _Patient) -> None:
        self._base = base
        self._head = head

    def run(self, slices: int, calls: int, *, head_first: bool) -> tuple[Turn, ...] | None:
        """Turns of both at once; None where a call raises that did not when it was alone."""
        sides = (self._head, self._base) if head_first else (self._base, self._head)
        for side in sides:
            side.start(slices, calls)
        taken: dict[_Patient, list[Slice]] = {}
        # Each is waited for, whatever became of the other.
        for side in sides:
            with contextlib.suppress(CallRaisedError):
                taken[side] = side.finish()
        if len(taken) < len(sides):
            return None
        pairs = zip(taken[self._base], taken[self._head], strict=True)
        return tuple(Turn(base=base, head=head) for base, head in pairs)


def _why_apart(ready: Sequence[Ready]) -> str:
    """Why what the sides have come to is not to be held against each other; `""` if it is."""
    if len(ready) == 1:
        return "the other side's test ended before it came to it"
    base, head = ready
    if base.region != head.region:
        return _OUT_OF_STEP
    return _ANOTHER_KIND if base.is_call != head.is_call else ""


def _why_never(question: Question, events: Mapping[Worker, Ready | Ended]) -> str:
    """What either side says of a region that has no turns; `""` where neither does."""
    for worker, event in events.items():
        if isinstance(event, Ended):
            why = event.untimed.get(question.region) or event.why
            if why:
                return f"on the {worker.side.name}, {why}"
    return ""
