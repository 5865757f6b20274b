"""Times what has a latency budget on both sides, and puts on record what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pytest_flopbudget.ab.conductor import NOT_THERE, PairResult, Question, conduct
from pytest_flopbudget.ab.environment import Allocator, environment_notes, pinned
from pytest_flopbudget.ab.imports import foreign_modules, own_packages, refusal
from pytest_flopbudget.ab.side import Side, Sides
from pytest_flopbudget.ab.timing import Case, Finding, Timing, time_cases
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.metrics import Dimension
from pytest_flopbudget.core.pairing import Pair, pair_tests
from pytest_flopbudget.core.quantity import format_change, format_quantity
from pytest_flopbudget.core.report import Report, TestOutcome
from pytest_flopbudget.core.side_by_side import SideBySide, Timed, TimedOutcome, growth_allowed
from pytest_flopbudget.core.stopping import State
from pytest_flopbudget.core.turns import TurnPlan
from pytest_flopbudget.core.witness import Witness
from pytest_flopbudget.session.lock import machine_lock

_RAN: Final = frozenset({TestOutcome.PASSED, TestOutcome.OVER_BUDGET})
_OUTCOMES: Final = {
    State.REGRESSED: TimedOutcome.REGRESSED,
    State.WITHIN: TimedOutcome.WITHIN,
    State.UNSTABLE: TimedOutcome.UNSTABLE,
}


class ImportedError(FlopBudgetError):
    """A side imported code that is not its own, so that its times are not its own either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be timed side by side, and how."""

    base_commit: str
    head_commit: str
    is_dirty: bool
    trees: Mapping[str, Path]
    """By the side's name, the top of its checkout."""
    checkouts: Sequence[Path]
    """The tops of the user's checkouts, one of which may be that of the head."""
    project: Path
    """Where the project is in the first of them."""
    time_limit_s: float
    allocator: Allocator
    notes: tuple[str, ...] = ()


def time_side_by_side(
    sides: Sides,
    base: Report | None,
    head: Report,
    wanted: Wanted,
    *,
    say: Callable[[str], None],
) -> SideBySide | None:
    """What every region of the head with a latency budget takes on both sides, by turns.

    base, head: the reports of the counted runs. None where nothing has a latency budget.
    No other test of this user is timed meanwhile.
    Raises ImportedError where a side does not run its own code.
    """
    cases = list(_cases(base, head))
    if not cases:
        return None
    pins = pinned(sides.head.environ, allocator=wanted.allocator)
    quiet = replace(sides, base=_with(sides.base, pins), head=_with(sides.head, pins))
    own = own_packages(wanted.project)

    def run_pair(
        questions: Sequence[Question],
        plan: TurnPlan,
        *,
        head_leads: bool,
        deadline_s: float,
        on_progress: Callable[[int], None],
    ) -> PairResult:
        result = conduct(
            quiet,
            questions,
            plan,
            head_leads=head_leads,
            deadline_s=deadline_s,
            on_progress=on_progress,
        )
        _refuse_foreign(result, wanted, own)
        return result

    with machine_lock():
        timing = time_cases(
            cases, run_pair, time_limit_s=wanted.time_limit_s, clock=time.monotonic, say=say
        )
    unpinned = environment_notes(sides.head.environ, allocator=wanted.allocator)
    return SideBySide(
        base=wanted.base_commit,
        head=wanted.head_commit,
        is_dirty=wanted.is_dirty,
        environment=pins,
        pairs=timing.pairs,
        seconds=timing.seconds,
        tests=tuple(_timed(finding) for finding in timing.findings),
        notes=(*wanted.notes, *unpinned, *_notes(timing)),
    )


def _cases(base: Report | None, head: Report) -> Iterator[Case]:
    """Every region of a test that ran on the head, and has a latency budget there.

    A test that the base's report lacks may be there all the same, with no budget yet: its
    worker will tell.
    """
    pairs = (
        pair_tests(base, head)
        if base is not None
        else tuple(Pair(base=None, head=test) for test in head.tests)
    )
    for pair in pairs:
        if pair.head is None or pair.head.outcome not in _RAN:
            continue
        for region in dict.fromkeys(budget.region for budget in pair.head.budgets):
            growth = growth_allowed(pair.head, region)
            if growth is None:
                continue
            allowed, severity = growth
            question = Question(
                base=pair.head.id if pair.base is None else pair.base.id,
                head=pair.head.id,
                region=region,
            )
            yield Case(
                question=question,
                allowed=allowed,
                severity=severity,
                is_new=pair.base is None,
            )


def _with(side: Side, pins: Mapping[str, str]) -> Side:
    return replace(side, environ={**side.environ, **pins})


def _refuse_foreign(result: PairResult, wanted: Wanted, own: frozenset[str]) -> None:
    for name, modules in result.modules.items():
        tree = wanted.trees[name]
        for other in {*wanted.trees.values(), *wanted.checkouts} - {tree}:
            foreign = foreign_modules(modules, tree, other, own=own)
            if foreign:
                raise ImportedError(refusal(name, foreign))


def _timed(finding: Finding) -> Timed:
    case, decision = finding.case, finding.decision
    outcome, ratio = TimedOutcome.NOT_TIMED, None
    if decision is not None and decision.ratio is not None:
        outcome, ratio = _OUTCOMES[decision.state], decision.ratio
    return Timed(
        test=case.question.head,
        region=case.question.region,
        outcome=outcome,
        reason=_reason(finding),
        allowed=case.allowed,
        severity=case.severity,
        ratio=ratio,
    )


def _reason(finding: Finding) -> str:
    """What was found, in one sentence that follows the name of the test."""
    decision, allowed = finding.decision, _percent(1 + finding.case.allowed)
    if decision is None:
        is_new = finding.case.is_new and finding.why.endswith(NOT_THERE)
        return "the test is new: the base does not have it" if is_new else finding.why
    ratio = decision.ratio
    if ratio is None:
        return "the time limit did for one pair of processes, which has no interval; raise it"
    before = format_quantity(ratio.base_s, Dimension.SECOND)
    after = format_quantity(ratio.head_s, Dimension.SECOND)
    by = "in CPU time " if ratio.witness is Witness.CPU else ""
    found = (
        f"took {after}, on the base {before}; side by side {_percent(ratio.estimate)} {by}"
        f"[{_percent(ratio.low)}, {_percent(ratio.high)}] over {ratio.pairs} pairs of processes"
    )
    if decision.state is not State.UNSTABLE:
        return f"{found}, allowed {allowed}"
    if math.isinf(decision.resolves):
        return f"{found}, too few to tell {allowed}, which is allowed; raise the time limit"
    told = _percent(1 + decision.resolves)
    return (
        f"{found}, which differ so much that only {told} or more could be told, and {allowed} "
        "is allowed"
    )


def _percent(ratio: float) -> str:
    """The change that a ratio is, such as `+5.2 %` for 1.052."""
    return format_change(1, ratio)


def _notes(timing: Timing) -> Iterator[str]:
    if timing.is_traced:
        yield (
            "a tracer, such as that of coverage, ran along with the timed code; "
            "leave it out (pytest-cov: --no-cov)"
        )
    for finding in timing.findings:
        if not finding.is_steady:
            question = finding.case.question
            region = f", region {question.region!r}" if question.region else ""
            yield f"{question.head}{region}: still drifting after its warm-up in some pair"
