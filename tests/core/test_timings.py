"""Times that were taken beside the base are judged; those of two separate runs never are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison, Delta, Standing
from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.legs import Leg, decode_leg, leg_to_json
from pytest_flopbudget.core.measurement import Value
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport
from pytest_flopbudget.core.side_by_side import SideBySide, Timed, TimedOutcome
from pytest_flopbudget.core.verdicts import Outcome

from ..builders import BASE, HEAD, beside, budgeted, limit, measured, ratio, reported, timed

A = "tests/test_a.py::test_a"
REGRESSED, WITHIN = TimedOutcome.REGRESSED, TimedOutcome.WITHIN
UNSTABLE, NOT_TIMED = TimedOutcome.UNSTABLE, TimedOutcome.NOT_TIMED
GROWTH = limit("latency", vs_baseline=0.05)
SLOW = ratio(1.2)
SOME = Value(value=0.005, low=0.0049, high=0.0051)


def one(*limits: Any, outcome: TestOutcome = TestOutcome.PASSED, **values: Any) -> TestReport:
    known = values or {"latency": SOME}
    return budgeted(A, measured(macs={"fc": 5}, **known), limits=limits, outcome=outcome)


def runs(test: TestReport, timings: SideBySide | None) -> tuple[Report, Report]:
    head = reported(test, git=HEAD, side_by_side=timings)
    return reported(test, git=BASE), head


def compared(test: TestReport, *found: Timed, **other: Any) -> Comparison:
    return compare(*runs(test, beside(*found, **other)))


def verdicts(deltas: tuple[Delta, ...]) -> list[tuple[str, str]]:
    return [(d.place.metric, d.verdict.outcome.value) for d in deltas if d.verdict]


class TestVerdicts:
    def test_a_growth_beyond_what_is_allowed_fails(self) -> None:
        test = one(GROWTH)
        comparison = compared(test, timed(test, REGRESSED, SLOW, reason="took 6 ms"))
        assert comparison.standing is Standing.OVER
        assert verdicts(comparison.over) == [("latency", "regressed")]
        (delta,) = comparison.over
        assert delta.verdict is not None
        assert delta.verdict.reason == "test_a took 6 ms"
        # 5 ms on the base, 1.2 times that here, and 1.05 times that allowed.
        assert (delta.base, delta.head) == (Value(value=0.005), Value(value=0.005 * 1.2))
        assert delta.verdict.value == pytest.approx(0.006)
        assert delta.verdict.bound == pytest.approx(0.00525)
        assert delta.growth == pytest.approx(0.2)
        assert comparison.undecided == comparison.within == ()

    def test_one_that_only_warns_fails_nothing(self) -> None:
        test = one(limit("latency", vs_baseline=0.05, severity=Severity.WARN))
        comparison = compared(test, timed(test, REGRESSED, SLOW))
        assert comparison.standing is Standing.WITHIN
        assert verdicts(comparison.warned) == [("latency", "regressed")]

    @pytest.mark.parametrize("estimate", [1.04, 0.9])
    def test_what_is_within_holds_its_limit(self, estimate: float) -> None:
        test = one(GROWTH)
        comparison = compared(test, timed(test, WITHIN, ratio(estimate)))
        assert comparison.standing is Standing.WITHIN
        assert [(p.test, p.metric) for p in comparison.within] == [(A, "latency")]
        assert comparison.over == comparison.undecided == comparison.incomparable == ()

    def test_what_is_faster_beyond_doubt_is_not_called_unchanged(self) -> None:
        test = one(GROWTH)
        assert compared(test, timed(test, WITHIN, ratio(0.9))).unchanged == ()
        assert compared(test, timed(test, WITHIN, ratio(0.995))).unchanged == (A,)

    def test_what_the_noise_hides_is_undecided_and_fails_nothing(self) -> None:
        test = one(GROWTH)
        comparison = compared(test, timed(test, UNSTABLE, ratio(1.3, spread=0.4)))
        assert comparison.standing is Standing.WITHIN
        (delta,) = comparison.undecided
        assert delta.verdict is not None
        assert delta.verdict.outcome is Outcome.INCONCLUSIVE
        assert delta.verdict.reason == "test_a took so long: unstable, not gated"

    def test_what_was_not_timed_is_undecided_and_says_why(self) -> None:
        test = one(GROWTH)
        comparison = compared(test, timed(test, NOT_TIMED, reason="it failed there"))
        assert comparison.standing is Standing.WITHIN
        (delta,) = comparison.undecided
        assert delta.verdict is not None
        assert delta.verdict.outcome is Outcome.NO_BASELINE
        assert delta.verdict.reason == "test_a was not timed beside the base: it failed there"
        assert delta.base is delta.head is None

    def test_a_throughput_is_judged_as_the_inverse_of_the_time(self) -> None:
        test = one(limit("throughput", vs_baseline=0.05), throughput=Value(value=200.0))
        comparison = compared(test, timed(test, REGRESSED, ratio(1.25)))
        (delta,) = comparison.over
        # 5 ms and 6.25 ms a call are 200 and 160 calls a second; 190 are allowed.
        assert verdicts(comparison.over) == [("throughput", "regressed")]
        assert delta.base == Value(value=200.0)
        assert delta.verdict is not None
        assert delta.verdict.value == pytest.approx(160)
        assert delta.verdict.bound == pytest.approx(190)
        assert delta.growth == pytest.approx(0.25)

    def test_a_region_is_judged_by_its_own_time(self) -> None:
        test = budgeted(A, measured("decode", latency=SOME), limits=(GROWTH,), region="decode")
        comparison = compared(test, timed(test, REGRESSED, SLOW, region="decode"))
        (delta,) = comparison.over
        assert delta.place.region == "decode"
        assert delta.verdict is not None
        assert delta.verdict.reason == "test_a, region 'decode', took so long"

    def test_a_test_that_is_expected_to_fail_may_be_slower(self) -> None:
        test = one(GROWTH, outcome=TestOutcome.XFAILED)
        assert compared(test, timed(test, REGRESSED, SLOW)).over == ()

    def test_timings_without_a_report_of_the_base_are_judged_too(self) -> None:
        test = one(GROWTH)
        _, head = runs(test, beside(timed(test, REGRESSED, SLOW)))
        comparison = compare(None, head)
        assert comparison.standing is Standing.OVER
        assert comparison.notes == (
            "no report of the base: absolute budgets and the growth of times alone are judged",
        )


class TestBesideTheHeadsOwnVerdict:
    CEILING = limit("latency", 0.0052)
    HOLDS = Value(value=0.005, low=0.0049, high=0.0051)
    OPEN = Value(value=0.005, low=0.0049, high=0.0053)
    BREAKS = Value(value=0.006, low=0.0059, high=0.0061)

    @pytest.mark.parametrize(
        ("own", "found", "over", "undecided", "within"),
        [
            (HOLDS, (WITHIN, ratio(1.0)), [], [], 1),
            (HOLDS, (REGRESSED, SLOW), ["regressed"], [], 0),
            # The ceiling holds all the same: nothing took that away.
            (HOLDS, (UNSTABLE, SLOW), [], ["inconclusive"], 1),
            (HOLDS, (NOT_TIMED, None), [], ["no baseline"], 1),
            (OPEN, (WITHIN, ratio(1.0)), [], ["inconclusive"], 0),
            (OPEN, (REGRESSED, SLOW), ["regressed"], ["inconclusive"], 0),
            (BREAKS, (WITHIN, ratio(1.0)), ["over"], [], 0),
            (BREAKS, (UNSTABLE, SLOW), ["over"], [], 0),
            # Two faults: each may have to be mended, and accepted, by itself.
            (BREAKS, (REGRESSED, SLOW), ["over", "regressed"], [], 0),
        ],
    )
    def test_a_ceiling_and_a_growth_are_two_questions(
        self,
        own: Value,
        found: tuple[TimedOutcome, Any],
        over: list[str],
        undecided: list[str],
        within: int,
    ) -> None:
        test = one(self.CEILING, latency=own)
        comparison = compared(test, timed(test, *found))
        assert sorted(outcome for _, outcome in verdicts(comparison.over)) == over
        assert [outcome for _, outcome in verdicts(comparison.undecided)] == undecided
        assert comparison.limits_within == within

    def test_a_ceiling_of_another_machine_says_so_still(self) -> None:
        test = one(limit("latency", 0.001, on="elsewhere"))
        comparison = compared(test, timed(test, WITHIN, ratio(1.0)))
        assert verdicts(comparison.undecided) == [("latency", "not gated here")]

    def test_one_timing_answers_for_every_limit_that_allows_as_much(self) -> None:
        loose = limit("throughput", vs_baseline=0.2)
        test = one(GROWTH, loose, latency=SOME, throughput=Value(value=200.0))
        comparison = compared(test, timed(test, WITHIN, ratio(1.0)))
        assert comparison.undecided == ()

    def test_a_tighter_limit_that_only_warns_is_left_open(self) -> None:
        tight = limit("throughput", vs_baseline=0.01, severity=Severity.WARN)
        test = one(GROWTH, tight, latency=SOME, throughput=Value(value=200.0))
        comparison = compared(test, timed(test, WITHIN, ratio(1.03)))
        assert verdicts(comparison.undecided) == [("throughput", "no baseline")]

    def test_the_growth_of_a_tail_stays_open(self) -> None:
        tail = limit("latency_p95", vs_baseline=0.05)
        test = one(tail, latency_p95=SOME)
        comparison = compared(test, timed(test, WITHIN, ratio(1.0)))
        assert verdicts(comparison.undecided) == [("latency_p95", "no baseline")]
        assert [place.metric for place in comparison.within] == ["latency"]


class TestSeparateRuns:
    def test_without_timings_beside_the_base_times_are_not_comparable(self) -> None:
        comparison = compare(*runs(one(GROWTH), None))
        assert comparison.timed == comparison.timings == ()
        assert [d.place.metric for d in comparison.incomparable] == ["latency"]
        (delta,) = comparison.undecided
        assert delta.verdict is not None
        assert delta.verdict.reason.endswith("timings of separate runs are not comparable")

    def test_what_was_timed_beside_the_base_stands_no_more_beside_another_run(self) -> None:
        test = one(GROWTH, latency=SOME, latency_p95=SOME)
        comparison = compared(test, timed(test, WITHIN, ratio(1.0)))
        # What no ratio was taken of is still of two separate runs.
        assert [d.place.metric for d in comparison.incomparable] == ["latency_p95"]
        comparison = compared(test, timed(test, NOT_TIMED))
        assert [d.place.metric for d in comparison.incomparable] == ["latency", "latency_p95"]

    def test_timings_beside_another_base_say_nothing_of_this_one(self) -> None:
        test = one(GROWTH)
        comparison = compared(test, timed(test, REGRESSED, SLOW), base="c" * 40)
        assert comparison.standing is Standing.WITHIN
        assert comparison.timed == comparison.timings == ()
        assert verdicts(comparison.undecided) == [("latency", "no baseline")]
        assert comparison.notes[0] == (
            "the latencies were taken beside ccccccccc, and this base is bbbbbbbbb: "
            "they say nothing of it"
        )

    def test_a_base_of_no_known_commit_is_another_one(self) -> None:
        test = one(GROWTH)
        base, head = runs(test, beside(timed(test, REGRESSED, SLOW)))
        comparison = compare(replace(base, git=None), head)
        assert comparison.over == ()
        assert "this base is of no known commit" in comparison.notes[0]

    def test_times_of_two_machines_are_said_to_be_so(self) -> None:
        base, head = runs(one(GROWTH), None)
        here, there = {"cpu": "EPYC 7763"}, {"cpu": "Xeon 8370C"}
        (note,) = compare(replace(base, machine=there), replace(head, machine=here)).notes
        assert note == (
            "the base's times are of another machine, and not shown: cpu Xeon 8370C, here EPYC 7763"
        )
        assert compare(replace(base, machine=here), replace(head, machine=here)).notes == ()

    def test_counts_of_two_machines_need_no_such_note(self) -> None:
        test = budgeted(A, measured(macs={"fc": 5}))
        base, head = reported(test, machine={"cpu": "x"}), reported(test, machine={"cpu": "y"})
        assert compare(base, head).notes == ()

    def test_what_the_timing_noted_is_passed_on(self) -> None:
        test = one(GROWTH)
        note = "numpy is 1.26 on the base and 2.0 here"
        comparison = compared(test, timed(test, WITHIN, ratio(1.0)), notes=(note,))
        assert comparison.notes == (note,)


class TestHostileLegs:
    def leg(self, timings: SideBySide) -> dict[str, Any]:
        _, head = runs(one(GROWTH), timings)
        return leg_to_json(Leg(name="cpu", head=head))

    def decode(self, document: dict[str, Any]) -> Leg:
        return decode_leg(json.dumps(document).encode(), where="leg.json")

    def test_timings_arrive_with_the_leg(self) -> None:
        test = one(GROWTH)
        timings = beside(timed(test, REGRESSED, SLOW))
        assert self.decode(self.leg(timings)).head.side_by_side == timings

    @pytest.mark.parametrize(("count", "is_read"), [(100, True), (101, False)])
    def test_an_environment_has_its_limit(self, count: int, is_read: bool) -> None:
        timings = beside(environment={f"V{n}": "1" for n in range(count)})
        if is_read:
            assert self.decode(self.leg(timings)).head.side_by_side == timings
            return
        with pytest.raises(ReportError, match=r"^leg.json: more than 100 pinned variables$"):
            self.decode(self.leg(timings))

    @pytest.mark.parametrize(("count", "is_read"), [(20_000, True), (20_001, False)])
    def test_timings_have_their_limit(self, count: int, is_read: bool) -> None:
        known = timed(one(GROWTH), NOT_TIMED)
        timings = beside(*(replace(known, region=str(n)) for n in range(count)))
        if is_read:
            assert self.decode(self.leg(timings)).head.side_by_side is not None
            return
        with pytest.raises(ReportError, match=r"^leg.json: more than 20000 timings$"):
            self.decode(self.leg(timings))

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-1", "0", "1e301"])
    def test_a_ratio_that_no_run_measures_is_refused(self, number: str) -> None:
        text = json.dumps(self.leg(beside(timed(one(GROWTH), REGRESSED, SLOW))))
        broken = text.replace('"estimate": 1.2', f'"estimate": {number}')
        assert broken != text
        with pytest.raises(ReportError, match=r"side_by_side.tests\[0\].ratio.estimate: expected"):
            decode_leg(broken.encode(), where="leg.json")
