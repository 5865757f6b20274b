"""Pair after pair, with pairs that are made up and a clock that moves by what they take."""

from __future__ import annotations

import pytest

from pytest_flopbudget.ab.conductor import PairResult, Question
from pytest_flopbudget.ab.timing import Case, Timing, time_cases
from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.series import Slice, Turn, TurnSeries
from pytest_flopbudget.core.stopping import State

CALL_S = 0.005


class Machine:
    """Runs pairs in which every head is so many times slower, and moves the clock."""

    def __init__(self, slowdowns, *, start_s=3.0, spread=(0.0, 0.004, -0.004), dying=()):
        self.dying = dying
        self.slowdowns = slowdowns
        self.start_s = start_s
        self.spread = spread
        self.now_s = 100.0
        self.pairs = []
        self.said = []

    def clock(self):
        return self.now_s

    def run_pair(self, questions, plan, *, head_leads, deadline_s, on_progress):
        self.now_s += self.start_s
        result = PairResult()
        off = self.spread[len(self.pairs) % len(self.spread)]
        for done, question in enumerate(questions):
            self.now_s += 2 * (plan.warmup_s + plan.side_s)
            if self.now_s > deadline_s:
                result.is_cut_short = True
                break
            slowdown = self.slowdowns[question.head]
            if len(self.pairs) in self.dying:
                result.lost[question] = "killed"
            elif isinstance(slowdown, str):
                result.untimed[question] = slowdown
            else:
                result.series[question] = series(slowdown + off)
            on_progress(done + 1)
        self.pairs.append(([q.head for q in questions], head_leads, plan.side_s))
        return result

    def time(self, *, allowed=0.05, time_limit_s=300.0) -> Timing:
        cases = [
            Case(
                question=Question(base=test, head=test, region=""),
                allowed=allowed,
                severity=Severity.ERROR,
            )
            for test in self.slowdowns
        ]
        return time_cases(
            cases,
            self.run_pair,
            time_limit_s=time_limit_s,
            clock=self.clock,
            say=self.said.append,
        )


def series(slowdown: float) -> TurnSeries:
    def piece(call_s: float) -> Slice:
        return Slice(calls=8, wall_s=8 * call_s, cpu_s=8 * call_s)

    turn = Turn(base=piece(CALL_S), head=piece(CALL_S * (1 + slowdown)))
    return TurnSeries(turns=(turn,) * 4, is_steady=True)


def states(timing: Timing):
    return {
        finding.case.question.head: finding.decision.state if finding.decision else finding.why
        for finding in timing.findings
    }


def test_what_is_clear_ends_after_three_pairs_and_what_is_slower_gets_more():
    machine = Machine({"same": 0.0, "slow": 0.2})
    timing = machine.time()
    assert states(timing) == {"same": State.WITHIN, "slow": State.REGRESSED}
    # Nothing regresses on three pairs: five are the fewest.
    assert [tests for tests, _, _ in machine.pairs] == 3 * [["same", "slow"]] + 2 * [["slow"]]
    assert timing.pairs == 5


def test_the_side_that_is_started_first_takes_turns_too():
    machine = Machine({"slow": 0.2})
    machine.time()
    assert [leads for _, leads, _ in machine.pairs] == [False, True, False, True, False]


def test_noise_that_is_too_large_is_unstable_after_the_most_pairs():
    machine = Machine({"noisy": 0.0}, spread=(0.3, -0.3, 0.2, -0.2))
    timing = machine.time(time_limit_s=10_000.0)
    assert states(timing) == {"noisy": State.UNSTABLE}
    assert timing.pairs == 10


def test_no_pair_is_begun_that_the_time_does_not_do_for():
    # 3 s to start and 2 * (0.3 + 1) s of turns are 5.6 s a pair: five in 30 s, and the sixth
    # would end after 33.6 s.
    machine = Machine({"noisy": 0.0}, spread=(0.3, -0.3, 0.2, -0.2))
    timing = machine.time(time_limit_s=30.0)
    assert timing.pairs == 5
    assert timing.seconds <= 30.0
    assert states(timing) == {"noisy": State.UNSTABLE}


def test_turns_get_shorter_where_many_regions_share_the_time():
    machine = Machine({f"test{n}": 0.0 for n in range(10)})
    timing = machine.time(time_limit_s=120.0)
    # A fifth of 120 s, less 4 s to start, is 2 s for each of ten regions: less 0.6 s of
    # warm-up, 0.7 s for each side.
    assert machine.pairs[0][2] == pytest.approx(0.7)
    assert set(states(timing).values()) == {State.WITHIN}
    assert timing.seconds < 120


def test_regions_that_the_time_never_does_for_are_named_and_the_rest_is_timed():
    # A third of 30 s, less 4 s to start, is 6 s: five regions of 2 * (0.3 + 0.25) s.
    machine = Machine({f"test{n}": 0.0 for n in range(9)}, start_s=1.0)
    found = states(machine.time(time_limit_s=30.0))
    assert [found[f"test{n}"] for n in range(5)] == [State.WITHIN] * 5
    assert all("30 s does not do for all 9" in found[f"test{n}"] for n in range(5, 9))


def test_what_the_first_pair_does_not_reach_is_named():
    machine = Machine({"first": 0.0, "second": 0.0}, start_s=19.0)
    found = states(machine.time(time_limit_s=21.0))
    assert found["first"] is State.UNSTABLE  # one pair has no interval
    assert "--time-limit" in found["second"]


def test_what_cannot_be_timed_is_asked_once():
    machine = Machine({"gone": "the other side lacks it", "same": 0.0})
    timing = machine.time()
    assert states(timing) == {"gone": "the other side lacks it", "same": State.WITHIN}
    assert [tests for tests, _, _ in machine.pairs] == [["gone", "same"], ["same"], ["same"]]


def test_a_pair_that_lost_a_worker_is_not_the_last_one():
    machine = Machine({"same": 0.0}, dying=[1])
    assert states(machine.time()) == {"same": State.WITHIN}
    # Of four pairs three had turns.
    assert len(machine.pairs) == 4


def test_what_loses_two_workers_in_a_row_is_not_timed():
    machine = Machine({"same": 0.0}, dying=[1, 2])
    assert states(machine.time()) == {"same": "killed"}
    assert len(machine.pairs) == 3


def test_nothing_to_time_starts_no_worker():
    machine = Machine({})
    timing = machine.time()
    assert (timing.pairs, timing.findings, machine.pairs) == (0, (), [])


def test_it_says_how_far_it_is_and_what_time_is_left():
    machine = Machine({"same": 0.0})
    machine.time(time_limit_s=60.0)
    assert machine.said[:2] == [
        "pair 1 of at most 10: 0 of 1 timed, at most 60 s left",
        "pair 1 of at most 10: 1 of 1 timed, at most 54 s left",
    ]
