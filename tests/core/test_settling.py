"""The gate's policy: what is not the change's doing, and what was accepted."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from pytest_flopbudget.core.acceptance import Acceptance, parse_acceptances
from pytest_flopbudget.core.budgets import Limit, Severity
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison, Standing
from pytest_flopbudget.core.measurement import Uncounted, Value
from pytest_flopbudget.core.metrics import Better
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport
from pytest_flopbudget.core.settling import settle
from pytest_flopbudget.core.side_by_side import TimedOutcome
from pytest_flopbudget.core.verdicts import Outcome, Verdict

from ..builders import BASE, HEAD, beside, budgeted, limit, measured, ratio, reported, timed

A, B = "test_a.py::test_a", "test_a.py::test_b"
TEN = limit("macs", 10)


def one(spent: float, *limits: Limit, test: str = A, **other: Any) -> TestReport:
    return budgeted(test, measured(macs={"fc": spent}), limits=limits or (TEN,), **other)


def one_left_out() -> TestReport:
    return budgeted(A, limits=(TEN,), outcome=TestOutcome.DESELECTED)


def judged(base: Report | None, head: Report, *lines: str) -> Comparison:
    text = "\n".join(f"Flop-Budget-Accept: {line}" for line in lines)
    acceptances, complaints = parse_acceptances(text)
    assert complaints == ()
    return settle(compare(base, head), base, acceptances)


def counts(c: Comparison) -> tuple[int, int, int, int]:
    return len(c.over), len(c.pre_existing), len(c.loosened), len(c.accepted)


class TestPreExisting:
    @pytest.mark.parametrize(
        ("before", "after", "is_pre_existing"),
        [(12, 12, True), (12, 11, True), (12, 13, False), (10, 11, False), (9, 12, False)],
    )
    def test_what_the_base_breaks_by_as_much_is_not_the_changes_doing(
        self, before: int, after: int, is_pre_existing: bool
    ) -> None:
        comparison = judged(reported(one(before)), reported(one(after)))
        assert counts(comparison) == ((0, 1, 0, 0) if is_pre_existing else (1, 0, 0, 0))
        assert comparison.standing is (Standing.WITHIN if is_pre_existing else Standing.OVER)

    def test_without_a_base_nothing_is_pre_existing(self) -> None:
        assert counts(judged(None, reported(one(12)))) == (1, 0, 0, 0)

    def test_a_test_that_was_renamed_keeps_its_past(self) -> None:
        comparison = judged(reported(one(12)), reported(one(12, test="test_a.py::test_z")))
        assert [r.after for r in comparison.renamed] == ["test_a.py::test_z"]
        assert counts(comparison) == (0, 1, 0, 0)

    def test_a_regression_never_is(self) -> None:
        growth = limit("macs", vs_baseline=-0.5)
        report = reported(one(12, growth))
        assert counts(judged(report, report)) == (1, 0, 0, 0)

    def test_a_regression_behind_an_absolute_bound_is_none_either(self) -> None:
        # 12 on both sides breaks 10, and a decrease by half was asked for besides.
        both = limit("macs", 10, vs_baseline=-0.5)
        report = reported(one(12, both))
        assert counts(judged(report, report)) == (1, 0, 0, 0)
        room = limit("macs", 10, vs_baseline=0.5)
        report = reported(one(12, room))
        assert counts(judged(report, report)) == (0, 1, 0, 0)

    @pytest.mark.parametrize(("after", "is_pre_existing"), [(12, True), (9, False)])
    def test_what_breaks_by_a_tightened_limit_alone_is_the_changes_doing(
        self, after: int, is_pre_existing: bool
    ) -> None:
        head = reported(one(after, limit("macs", 8)))
        assert bool(judged(reported(one(12)), head).pre_existing) is is_pre_existing

    def test_a_floor_is_held_the_other_way_round(self) -> None:
        floor = limit("accuracy", minimum=0.9)

        def report(value: float) -> Report:
            known = Value(value=value, better=Better.HIGHER)
            return reported(budgeted(A, measured(accuracy=known), limits=(floor,)))

        assert counts(judged(report(0.8), report(0.85))) == (0, 1, 0, 0)
        assert counts(judged(report(0.8), report(0.75))) == (1, 0, 0, 0)

    def test_an_exact_cost_that_breaks_on_the_other_side_is_new(self) -> None:
        exactly = limit("macs", equals=10)
        base = reported(one(12, exactly))
        assert counts(judged(base, reported(one(11, exactly)))) == (0, 1, 0, 0)
        assert counts(judged(base, reported(one(8, exactly)))) == (1, 0, 0, 0)

    def test_a_break_that_only_warned_is_no_excuse(self) -> None:
        base = reported(one(12, limit("macs", 10, severity=Severity.WARN)))
        assert counts(judged(base, reported(one(12)))) == (1, 0, 0, 0)

    def test_a_break_that_was_expected_is_no_excuse(self) -> None:
        base = reported(one(12, outcome=TestOutcome.XFAILED))
        assert counts(judged(base, reported(one(12)))) == (1, 0, 0, 0)

    @pytest.mark.parametrize(
        ("maximum", "is_pre_existing"),
        # Of the base's 1 s at least 0.9 s, of the head's 2 s at least 1.8 s are sure.
        [(0.5, True), (0.4, True), (0.6, True)],
    )
    def test_timings_are_pre_existing_where_both_break_their_bound(
        self, maximum: float, is_pre_existing: bool
    ) -> None:
        def report(median: float, most: float) -> Report:
            known = Value(value=median, low=median * 0.9, high=median * 1.1)
            return reported(budgeted(A, measured(latency=known), limits=(limit("latency", most),)))

        comparison = judged(report(1, 0.5), report(2, maximum))
        assert bool(comparison.pre_existing) is is_pre_existing

    def test_a_timing_that_breaks_by_a_tightened_limit_alone_is_not(self) -> None:
        def report(median: float, most: float) -> Report:
            known = Value(value=median, low=median * 0.9, high=median * 1.1)
            return reported(budgeted(A, measured(latency=known), limits=(limit("latency", most),)))

        # The head's interval, 0.45 s to 0.55 s, would not have broken 0.5 s for sure.
        assert counts(judged(report(1, 0.5), report(0.5, 0.4))) == (1, 0, 0, 0)

    def test_a_ratio_is_held_against_what_it_is_a_share_of(self) -> None:
        share = limit("macs", 0.5, ratio_to="teacher")

        def report(value: int, bound: int) -> Report:
            verdict = Verdict(
                region="",
                metric="macs",
                outcome=Outcome.OVER,
                reason="over",
                value=value,
                bound=bound,
            )
            return reported(replace(one(value, share), verdicts=(verdict,)))

        # 12 of 10 is the same share as 24 of 20; 12 of 9 is more.
        assert counts(judged(report(12, 10), report(24, 20))) == (0, 1, 0, 0)
        assert counts(judged(report(12, 10), report(12, 9))) == (1, 0, 0, 0)

    @pytest.mark.parametrize(
        ("before", "after", "is_pre_existing"),
        [("ab", "ab", True), ("ab", "a", True), ("a", "ab", False), ("a", "b", False)],
    )
    def test_operators_that_the_base_could_not_count_are_pre_existing(
        self, before: str, after: str, is_pre_existing: bool
    ) -> None:
        def report(operators: str) -> Report:
            rows = tuple(Uncounted(operator=name, calls=1, shapes=()) for name in operators)
            return reported(budgeted(A, measured(macs={"": 1}, uncounted=rows), limits=(TEN,)))

        comparison = judged(report(before), report(after))
        assert counts(comparison) == ((0, 1, 0, 0) if is_pre_existing else (1, 0, 0, 0))

    def test_a_region_that_neither_side_ran_is_pre_existing(self) -> None:
        silent = budgeted(A, measured(macs={"": 1}), limits=(TEN,), region="decode")
        ran = budgeted(A, measured("decode", macs={"": 1}), limits=(TEN,), region="decode")
        assert counts(judged(reported(silent), reported(silent))) == (0, 1, 0, 0)
        assert counts(judged(reported(ran), reported(silent))) == (1, 0, 0, 0)


class TestAcceptedBreaks:
    @pytest.mark.parametrize(("cap", "is_accepted"), [(12, True), (13, True), (11, False)])
    def test_a_break_is_accepted_up_to_its_cap(self, cap: int, is_accepted: bool) -> None:
        comparison = judged(reported(one(9)), reported(one(12)), f"{A} macs <= {cap} - it pays")
        if is_accepted:
            assert counts(comparison) == (0, 0, 0, 1)
            assert comparison.standing is Standing.ACCEPTED
            assert comparison.accepted[0].acceptance.reason == "it pays"
            assert comparison.accepted[0].delta is not None
            assert comparison.accepted[0].delta.place.test == A
        else:
            assert counts(comparison) == (1, 0, 0, 0)
            verdict = comparison.over[0].verdict
            assert verdict is not None
            assert verdict.reason.endswith("; accepted up to 11 MAC, and this is 12 MAC")
        assert comparison.notes == ()

    @pytest.mark.parametrize(
        "line",
        [f"{B} macs <= 99 - r", f"{A} flops <= 99 - r", f"{A} macs >= 1 - r", f"{A} removed - r"],
    )
    def test_what_accepts_nothing_is_told(self, line: str) -> None:
        comparison = judged(reported(one(9)), reported(one(12)), line)
        assert counts(comparison) == (1, 0, 0, 0)
        assert comparison.standing is Standing.OVER
        assert comparison.notes == (f"accepts nothing: Flop-Budget-Accept: {line}",)

    def test_the_wider_of_two_caps_counts(self) -> None:
        lines = [f"{A} macs <= 11 - r", "* macs <= 12 - r"]
        assert counts(judged(None, reported(one(12)), *lines)) == (0, 0, 0, 1)

    def test_a_regression_can_be_accepted(self) -> None:
        growth = limit("macs", vs_baseline=0)
        comparison = judged(
            reported(one(9, growth)), reported(one(12, growth)), f"{A} macs <= 12 - r"
        )
        assert comparison.standing is Standing.ACCEPTED

    def test_a_drop_below_a_floor_is_accepted_down_to_its_cap(self) -> None:
        known = Value(value=0.75, better=Better.HIGHER)
        floor = limit("accuracy", minimum=0.9)
        head = reported(budgeted(A, measured(accuracy=known), limits=(floor,)))
        assert counts(judged(None, head, f"{A} accuracy >= 0.75 - r")) == (0, 0, 0, 1)
        too_low = judged(None, head, f"{A} accuracy >= 0.76 - r")
        verdict = too_low.over[0].verdict
        assert verdict is not None
        assert "accepted down to 0.76, and this is 0.75" in verdict.reason

    def test_one_accepted_and_one_not_is_over(self) -> None:
        head = reported(one(12), one(12, test=B))
        comparison = judged(None, head, f"{A} macs <= 12 - r")
        assert counts(comparison) == (1, 0, 0, 1)
        assert comparison.standing is Standing.OVER

    def test_uncounted_operators_are_accepted_by_their_number(self) -> None:
        row = Uncounted(operator="aten.sort.default", calls=1, shapes=())
        head = reported(budgeted(A, measured(macs={"": 1}, uncounted=(row,)), limits=(TEN,)))
        assert counts(judged(None, head, f"{A} uncounted <= 1 - r")) == (0, 0, 0, 1)
        assert counts(judged(None, head, f"{A} uncounted <= 0 - r")) == (1, 0, 0, 0)


class TestBesideTheBase:
    GROWTH = limit("latency", vs_baseline=0.05)

    def judged(self, test: TestReport, *lines: str, estimate: float = 1.2) -> Comparison:
        found = timed(test, TimedOutcome.REGRESSED, ratio(estimate))
        base = reported(test, git=BASE)
        return judged(base, reported(test, git=HEAD, side_by_side=beside(found)), *lines)

    def one(self, allowed: Limit = GROWTH) -> TestReport:
        return budgeted(A, measured(macs={"fc": 1}, **{allowed.metric: 0.005}), limits=(allowed,))

    @pytest.mark.parametrize(
        ("cap", "is_accepted"), [("+20%", True), ("+19.9%", False), ("6 ms", True), ("5 ms", False)]
    )
    def test_a_slower_test_is_accepted_by_its_change_or_by_its_time(
        self, cap: str, is_accepted: bool
    ) -> None:
        # 5 ms on the base, and 1.2 times that here.
        comparison = self.judged(self.one(), f"{A} latency <= {cap} - it pays")
        assert counts(comparison) == ((0, 0, 0, 1) if is_accepted else (1, 0, 0, 0))

    @pytest.mark.parametrize(("cap", "is_accepted"), [("-20%", True), ("-19%", False)])
    def test_a_throughput_is_accepted_down_to_its_drop(self, cap: str, is_accepted: bool) -> None:
        # 1.25 times the time is 0.8 of the throughput.
        test = self.one(limit("throughput", vs_baseline=0.05))
        line = f"{A} throughput >= {cap} - it pays"
        comparison = self.judged(test, line, estimate=1.25)
        assert comparison.standing is (Standing.ACCEPTED if is_accepted else Standing.OVER)

    def test_what_was_accepted_in_vain_is_told_in_percent(self) -> None:
        (delta,) = self.judged(self.one(), f"{A} latency <= +10% - it pays").over
        assert delta.verdict is not None
        assert delta.verdict.reason.endswith("; accepted up to +10 %, and this is +20 %")

    def test_a_change_accepts_no_broken_ceiling(self) -> None:
        ceiling = limit("latency", 0.001)
        known = Value(value=0.005, low=0.004, high=0.006)
        test = budgeted(A, measured(macs={"fc": 1}, latency=known), limits=(ceiling,))
        comparison = judged(None, reported(test), f"{A} latency <= +900% - it pays")
        assert counts(comparison) == (1, 0, 0, 0)
        assert comparison.notes[-1].startswith("accepts nothing: ")

    @pytest.mark.parametrize(
        ("most", "was", "outcome", "base_s", "is_pre_existing"),
        [
            # 5 ms here, at least 4 ms of it for sure.
            (0.001, 0.001, TimedOutcome.WITHIN, 0.005, True),
            (0.001, 0.001, TimedOutcome.UNSTABLE, 0.005, True),
            # The base held it, or both held what the base allowed.
            (0.001, 0.001, TimedOutcome.WITHIN, 0.0009, False),
            (0.001, 0.006, TimedOutcome.WITHIN, 0.005, False),
            (0.001, 0.0045, TimedOutcome.WITHIN, 0.005, False),
            # Slower beyond what is allowed is the change's doing.
            (0.001, 0.001, TimedOutcome.REGRESSED, 0.005, False),
        ],
    )
    def test_a_ceiling_that_the_base_broke_beside_the_head_is_pre_existing(
        self, most: float, was: float, outcome: TimedOutcome, base_s: float, is_pre_existing: bool
    ) -> None:
        known = Value(value=0.005, low=0.004, high=0.006)

        def test_of(most: float, **values: Value) -> TestReport:
            return budgeted(A, measured(macs={"fc": 1}, **values), limits=(limit("latency", most),))

        head = test_of(most, latency=known)
        found = timed(head, outcome, ratio(1.0, base_s=base_s))
        # In a run of its own the base is not timed.
        base = reported(test_of(was), git=BASE)
        comparison = judged(base, reported(head, git=HEAD, side_by_side=beside(found)))
        assert bool(comparison.pre_existing) is is_pre_existing

    def test_a_growth_is_the_changes_doing_though_the_base_breaks_the_ceiling_too(self) -> None:
        ceiling = limit("latency", 0.001)
        known = Value(value=0.005, low=0.004, high=0.006)
        test = budgeted(A, measured(macs={"fc": 1}, latency=known), limits=(ceiling,))
        comparison = self.judged(test)
        assert counts(comparison) == (1, 1, 0, 0)
        assert [d.verdict.outcome.value for d in comparison.over if d.verdict] == ["regressed"]


class TestAcceptedLoosening:
    @pytest.mark.parametrize(
        ("cap", "standing"),
        [(20, Standing.ACCEPTED), (19, Standing.NEEDS_APPROVAL), (None, Standing.NEEDS_APPROVAL)],
    )
    def test_a_raised_limit_needs_approval_up_to_its_new_value(
        self, cap: int | None, standing: Standing
    ) -> None:
        lines = [] if cap is None else [f"{A} macs <= {cap} - r"]
        comparison = judged(reported(one(9)), reported(one(9, limit("macs", 20))), *lines)
        assert comparison.standing is standing
        expected = {20: (), 19: (f"{A} macs: accepted up to 19 MAC, and the new limit is 20 MAC",)}
        assert comparison.notes == expected.get(cap or 0, ())

    def test_over_and_loosened_is_over(self) -> None:
        comparison = judged(reported(one(9)), reported(one(21, limit("macs", 20))))
        assert comparison.standing is Standing.OVER
        assert counts(comparison) == (1, 0, 1, 0)

    @pytest.mark.parametrize(
        "after",
        [
            (),
            (one(9, outcome=TestOutcome.SKIPPED),),
            (one(9, outcome=TestOutcome.XFAILED),),
            (replace(one(9), budgets=(), verdicts=()),),
            (one(9, limit("macs", 10, severity=Severity.WARN)),),
            (one(9, limit("macs", 10, on="big")),),
            (one(9, is_strict=False),),
        ],
        ids=["removed", "skipped", "xfailed", "no budget", "warns", "elsewhere", "lax"],
    )
    def test_what_is_no_longer_enforced_is_accepted_as_removed(
        self, after: tuple[TestReport, ...]
    ) -> None:
        base, head = reported(one(9)), reported(*after)
        assert judged(base, head).standing is Standing.NEEDS_APPROVAL
        assert judged(base, head, f"{A} macs <= 99 - r").standing is Standing.NEEDS_APPROVAL
        comparison = judged(base, head, f"{A} removed - r")
        assert comparison.standing is Standing.ACCEPTED
        assert comparison.accepted[0].change is not None
        assert comparison.accepted[0].change.tests == (A,)

    @pytest.mark.parametrize(
        ("before", "after", "line", "is_accepted"),
        [
            # 10 of 100 MAC may be added: up to 110 MAC.
            (limit("macs", vs_baseline=0), limit("macs", vs_baseline=0.1), "<= 110", True),
            (limit("macs", vs_baseline=0), limit("macs", vs_baseline=0.1), "<= 109", False),
            (limit("macs", 200, vs_baseline=0), limit("macs", 200), "<= 200", True),
            (limit("macs", 200, vs_baseline=0), limit("macs", 200), "<= 199", False),
            (limit("macs", minimum=90), limit("macs", minimum=80), ">= 80", True),
            (limit("macs", minimum=90), limit("macs", minimum=80), ">= 81", False),
            (limit("macs", minimum=90), limit("macs", minimum=80), "<= 80", False),
        ],
    )
    def test_each_loosened_amount_is_held_to_the_cap(
        self, before: Limit, after: Limit, line: str, is_accepted: bool
    ) -> None:
        comparison = judged(
            reported(one(100, before)), reported(one(100, after)), f"{A} macs {line} - r"
        )
        expected = Standing.ACCEPTED if is_accepted else Standing.NEEDS_APPROVAL
        assert comparison.standing is expected

    @pytest.mark.parametrize(("cap", "is_accepted"), [(102, True), (101, False)])
    def test_an_exact_cost_that_rose_is_held_to_the_cap(self, cap: int, is_accepted: bool) -> None:
        before, after = one(100, limit("macs", equals=100)), one(102, limit("macs", equals=102))
        comparison = judged(reported(before), reported(after), f"{A} macs <= {cap} - r")
        assert (comparison.standing is Standing.ACCEPTED) is is_accepted

    def test_of_one_change_of_many_tests_only_the_named_ones_are_accepted(self) -> None:
        def report(most: int) -> Report:
            shared = limit("macs", most, source="pyproject.toml")
            return reported(one(9, shared), one(9, shared, test=B))

        comparison = judged(report(10), report(20), f"{A} macs <= 20 - r")
        assert comparison.standing is Standing.NEEDS_APPROVAL
        assert [change.tests for change in comparison.loosened] == [(B,)]
        assert [change.file for change in comparison.loosened] == ["test_a.py"]
        assert [a.change.tests for a in comparison.accepted if a.change] == [(A,)]
        whole = judged(report(10), report(20), "*::test_? macs <= 20 - r")
        assert [a.change.tests for a in whole.accepted if a.change] == [(A, B)]

    def test_growth_that_many_tests_share_is_held_to_the_loosest(self) -> None:
        def report(growth: float) -> Report:
            shared = limit("macs", vs_baseline=growth, source="pyproject.toml")
            return reported(one(100, shared), one(1000, shared, test=B))

        assert len(compare(report(0), report(1)).loosened) == 1
        # Twice 1000 MAC are allowed to the one, and twice 100 MAC to the other.
        assert counts(judged(report(0), report(1), "* macs <= 2000 - r")) == (0, 0, 0, 1)
        assert counts(judged(report(0), report(1), "* macs <= 1999 - r")) == (0, 0, 1, 0)

    @pytest.mark.parametrize(
        "head",
        [
            reported(selection=("-k b",)),
            reported(is_interrupted=True),
            reported(
                budgeted(A, limits=(TEN,), outcome=TestOutcome.DESELECTED), selection=("-k b",)
            ),
        ],
    )
    def test_a_test_that_the_head_alone_left_out_needs_approval(self, head: Report) -> None:
        base = reported(one(9))
        comparison = judged(base, head)
        assert [change.tests for change in comparison.loosened] == [(A,)]
        assert comparison.standing is Standing.NEEDS_APPROVAL
        assert judged(base, head, f"{A} removed - r").standing is Standing.ACCEPTED

    def test_a_test_that_both_sides_left_out_does_not(self) -> None:
        left = reported(one(9, test=B), selection=("-k b",))
        assert judged(left, left).standing is Standing.WITHIN

    def test_a_test_without_a_budget_may_be_left_out(self) -> None:
        base = reported(budgeted(A, measured(macs={"": 5})), one(9, test=B))
        head = reported(one(9, test=B), selection=("-k b",))
        assert judged(base, head).standing is Standing.WITHIN


def failing(
    *limits: Limit, test: str = A, outcome: TestOutcome = TestOutcome.FAILED, **other: Any
) -> TestReport:
    """A test that failed before it had measured anything to the end."""
    return budgeted(test, limits=limits or (TEN,), outcome=outcome, **other)


class TestFailedBeforeItWasMeasured:
    GOOD = one(9, test=B)

    @pytest.mark.parametrize(
        ("outcome", "why"),
        [(TestOutcome.FAILED, "it failed"), (TestOutcome.ERROR, "its set-up failed")],
    )
    def test_it_does_not_pass_for_within_budget(self, outcome: TestOutcome, why: str) -> None:
        head = reported(failing(TEN, limit("ops", 3), outcome=outcome), self.GOOD)
        for base in (None, reported(self.GOOD), reported(one(9), self.GOOD)):
            comparison = judged(base, head)
            assert comparison.standing is Standing.OVER
            assert [d.place.metric for d in comparison.over] == ["macs", "ops"]
            for delta in comparison.over:
                assert delta.verdict
                assert delta.verdict.reason == f"test_a was not measured: {why}"
            assert comparison.not_measured == ()

    def test_a_plain_comparison_does_not_judge_it(self) -> None:
        comparison = compare(reported(one(9), self.GOOD), reported(failing(), self.GOOD))
        assert (comparison.standing, comparison.over) == (Standing.WITHIN, ())
        assert [entry.place.test for entry in comparison.not_measured] == [A]

    def test_what_the_base_does_too_is_not_the_changes_doing(self) -> None:
        base = reported(failing(outcome=TestOutcome.ERROR), self.GOOD)
        comparison = judged(base, reported(failing(), self.GOOD))
        assert comparison.standing is Standing.WITHIN
        assert [delta.place.test for delta in comparison.pre_existing] == [A]

    def test_a_base_that_failed_after_it_was_measured_is_no_excuse(self) -> None:
        base = reported(one(9, outcome=TestOutcome.FAILED), self.GOOD)
        assert judged(base, reported(failing(), self.GOOD)).standing is Standing.OVER

    def test_a_base_that_was_expected_to_fail_is_no_excuse(self) -> None:
        base = reported(failing(outcome=TestOutcome.XFAILED), self.GOOD)
        assert judged(base, reported(failing(), self.GOOD)).standing is Standing.OVER

    def test_the_base_may_be_mended(self) -> None:
        assert judged(reported(failing()), reported(one(9))).standing is Standing.WITHIN

    def test_no_line_accepts_it(self) -> None:
        head = reported(failing(), self.GOOD)
        for line in (f"{A} macs <= 1 TMAC - r", f"{A} removed - r"):
            assert judged(reported(one(9), self.GOOD), head, line).standing is Standing.OVER

    def test_one_that_failed_after_it_was_measured_is_judged_by_its_numbers(self) -> None:
        head = reported(one(9, outcome=TestOutcome.FAILED))
        assert judged(reported(one(9)), head).standing is Standing.WITHIN

    @pytest.mark.parametrize(
        "spared",
        [
            failing(limit("macs", 10, severity=Severity.WARN)),
            failing(limit("latency", 1, on="github-4core")),
            failing(outcome=TestOutcome.XFAILED),
            budgeted(A, outcome=TestOutcome.FAILED),
        ],
        ids=["warns", "elsewhere", "expected", "unbounded"],
    )
    def test_what_was_not_to_be_held_to_anything_is_spared(self, spared: TestReport) -> None:
        base = reported(replace(spared, outcome=TestOutcome.SKIPPED), self.GOOD)
        assert judged(base, reported(spared, self.GOOD)).standing is Standing.WITHIN

    def test_a_limit_of_the_machine_that_the_base_was_judged_on_is_not(self) -> None:
        here = limit("macs", 10, on="github-4core")
        known = Verdict(region="", metric="macs", outcome=Outcome.WITHIN, reason="", value=9)
        base = replace(one(9, here), verdicts=(known,))
        head = reported(failing(here), self.GOOD)
        assert judged(reported(base, self.GOOD), head).standing is Standing.OVER


def test_a_value_and_a_limit_without_a_verdict_do_not_pass() -> None:
    head = reported(replace(one(9), verdicts=()))
    (delta,) = judged(reported(one(9)), head).over
    assert delta.verdict is not None
    assert delta.verdict.reason.startswith("test_a was never judged")


def test_with_nothing_to_settle_the_comparison_stays_as_it_is() -> None:
    for base, head in ((reported(one(9)), reported(one(10))), (None, reported())):
        plain = compare(base, head)
        assert settle(plain, base, ()) == plain


def test_a_cap_of_one_more_never_accepts_less() -> None:
    caps = [
        judged(None, reported(one(12)), f"{A} macs <= {cap} - r").standing for cap in range(8, 16)
    ]
    assert caps == [Standing.OVER] * 4 + [Standing.ACCEPTED] * 4


def test_who_set_the_label_stays_with_what_is_accepted() -> None:
    acceptance = Acceptance(
        tests=A, metric="macs", cap=Fraction(12), reason="r", line="l", set_by="mona"
    )
    head = reported(one(12))
    (accepted,) = settle(compare(None, head), None, (acceptance,)).accepted
    assert accepted.acceptance.set_by == "mona"
