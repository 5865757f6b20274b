"""Every way to allow more than before is seen, and what allows less is not taken for it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.budgets import Limit, Severity, Tolerance
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import BudgetChange, Direction
from pytest_flopbudget.core.loosening import describe_limit
from pytest_flopbudget.core.measurement import Value
from pytest_flopbudget.core.metrics import Better
from pytest_flopbudget.core.report import Report, Settings, TestOutcome
from pytest_flopbudget.core.verdicts import Outcome, Verdict

from ..builders import budgeted, limit, measured, reported

A, B = "test_a.py::test_a", "test_a.py::test_b"
LOOSENED, TIGHTENED, ADDED = Direction.LOOSENED, Direction.TIGHTENED, Direction.ADDED


def relative(amount: str) -> Tolerance:
    return Tolerance(amount=Fraction(amount), is_relative=True)


def absolute(amount: int) -> Tolerance:
    return Tolerance(amount=Fraction(amount), is_relative=False)


def every_change(base: Report, head: Report) -> list[BudgetChange]:
    comparison = compare(base, head)
    return [*comparison.loosened, *comparison.tightened, *comparison.added]


def steps(before: Limit | None, after: Limit | None, **value: Any) -> list[tuple[Any, ...]]:
    """The changes between two limits of one test, as plain tuples."""
    base, head = (
        reported(budgeted(A, measured(macs={"": 5}, **value), limits=() if one is None else (one,)))
        for one in (before, after)
    )
    return [(c.direction, c.what, c.before, c.after) for c in every_change(base, head)]


STEPS: dict[str, tuple[Limit | None, Limit | None, list[tuple[Any, ...]]]] = {
    "a raised maximum": (
        limit("macs", 10**9),
        limit("macs", 2 * 10**9),
        [(LOOSENED, "maximum", "1 GMAC", "2 GMAC")],
    ),
    "a lowered maximum": (
        limit("macs", 10),
        limit("macs", 9),
        [(TIGHTENED, "maximum", "10 MAC", "9 MAC")],
    ),
    "a raise of one in a billion": (
        limit("macs", 10**9),
        limit("macs", 10**9 + 1),
        [(LOOSENED, "maximum", "1 GMAC", "1.000000001 GMAC")],
    ),
    "a lowered minimum": (
        limit("accuracy", minimum=0.9),
        limit("accuracy", minimum=0.8),
        [(LOOSENED, "minimum", "0.9", "0.8")],
    ),
    "a raised minimum": (
        limit("accuracy", minimum=0.8),
        limit("accuracy", minimum=0.9),
        [(TIGHTENED, "minimum", "0.8", "0.9")],
    ),
    "an exact cost that rose": (
        limit("macs", equals=10),
        limit("macs", equals=11),
        [(LOOSENED, "equals", "10 MAC", "11 MAC")],
    ),
    "an exact cost that fell": (
        limit("macs", equals=11),
        limit("macs", equals=10),
        [(TIGHTENED, "equals", "11 MAC", "10 MAC")],
    ),
    "a first tolerance": (
        limit("macs", equals=10),
        limit("macs", equals=10, tolerance=relative("0.001")),
        [(LOOSENED, "tolerance", "none", "± 0.1 %")],
    ),
    "a wider tolerance": (
        limit("macs", equals=10, tolerance=relative("0.001")),
        limit("macs", equals=10, tolerance=relative("0.002")),
        [(LOOSENED, "tolerance", "± 0.1 %", "± 0.2 %")],
    ),
    # 1 % of 1000 MAC is 10 MAC.
    "a tolerance in other words": (
        limit("macs", equals=1000, tolerance=relative("0.01")),
        limit("macs", equals=1000, tolerance=absolute(10)),
        [],
    ),
    "a tolerance in other and more words": (
        limit("macs", equals=1000, tolerance=relative("0.01")),
        limit("macs", equals=1000, tolerance=absolute(11)),
        [(LOOSENED, "tolerance", "± 1 %", "± 11 MAC")],
    ),
    "from exact to a higher maximum": (
        limit("macs", equals=10),
        limit("macs", 12),
        [(LOOSENED, "maximum", "10 MAC", "12 MAC"), (LOOSENED, "minimum", "10 MAC", "none")],
    ),
    "from a maximum to the same, exactly": (
        limit("macs", 10),
        limit("macs", equals=10),
        [(TIGHTENED, "minimum", "none", "10 MAC")],
    ),
    "more growth": (
        limit("macs", vs_baseline=0.05),
        limit("macs", vs_baseline=0.1),
        [(LOOSENED, "growth", "+5 %", "+10 %")],
    ),
    "growth that is no longer bounded": (
        limit("macs", 10, vs_baseline=0.05),
        limit("macs", 10),
        [(LOOSENED, "growth", "+5 %", "none")],
    ),
    "growth that is bounded too": (
        limit("macs", 10),
        limit("macs", 10, vs_baseline=0.05),
        [(TIGHTENED, "growth", "none", "+5 %")],
    ),
    "a ratio to something else": (
        limit("macs", 0.25, ratio_to="teacher"),
        limit("macs", 0.25, ratio_to="giant"),
        [(LOOSENED, "ratio", "at most 0.25 of teacher", "at most 0.25 of giant")],
    ),
    "a larger ratio": (
        limit("macs", 0.25, ratio_to="teacher"),
        limit("macs", 0.5, ratio_to="teacher"),
        [(LOOSENED, "maximum", "0.25 of teacher", "0.5 of teacher")],
    ),
    "a limit for one machine only": (
        limit("latency", 1),
        limit("latency", 1, on="big"),
        [(LOOSENED, "machine", "every machine", "big")],
    ),
    "a limit for another machine": (
        limit("latency", 1, on="big"),
        limit("latency", 1, on="idle"),
        [(LOOSENED, "machine", "big", "idle")],
    ),
    "a limit for every machine": (
        limit("latency", 1, on="big"),
        limit("latency", 1),
        [(TIGHTENED, "machine", "big", "every machine")],
    ),
    "a limit that only warns": (
        limit("macs", 10),
        limit("macs", 10, severity=Severity.WARN),
        [(LOOSENED, "severity", "error", "warn")],
    ),
    "a limit that no longer only warns": (
        limit("macs", 10, severity=Severity.WARN),
        limit("macs", 10),
        [(TIGHTENED, "severity", "warn", "error")],
    ),
    "a limit that is gone": (
        limit("macs", 10),
        None,
        [(LOOSENED, "limit", "at most 10 MAC", "none")],
    ),
    "a limit that is new": (
        None,
        limit("macs", 10),
        [(ADDED, "limit", "none", "at most 10 MAC")],
    ),
    "a limit that was written elsewhere": (
        limit("macs", 10, source="pyproject.toml"),
        limit("macs", 10, source="marker"),
        [],
    ),
}


@pytest.mark.parametrize(("before", "after", "expected"), STEPS.values(), ids=STEPS.keys())
def test_each_move_of_a_limit_is_named(
    before: Limit | None, after: Limit | None, expected: list[tuple[Any, ...]]
) -> None:
    assert steps(before, after) == expected


def test_where_more_is_better_a_larger_drop_is_looser() -> None:
    accuracy = Value(value=0.9, better=Better.HIGHER)
    before, after = limit("accuracy", vs_baseline=-0.01), limit("accuracy", vs_baseline=-0.02)
    assert steps(before, after, accuracy=accuracy) == [(LOOSENED, "growth", "-1 %", "-2 %")]
    assert steps(after, before, accuracy=accuracy) == [(TIGHTENED, "growth", "-2 %", "-1 %")]


def test_where_more_is_better_a_lower_exact_value_is_looser() -> None:
    accuracy = Value(value=0.9, better=Better.HIGHER)
    before, after = limit("accuracy", equals=0.9), limit("accuracy", equals=0.8)
    assert steps(before, after, accuracy=accuracy) == [(LOOSENED, "equals", "0.9", "0.8")]


bounds = st.none() | st.integers(1, 1000)


@given(bounds, bounds, bounds, bounds)
def test_two_limits_are_looser_one_way_and_tighter_the_other(
    high: int | None, low: int | None, later_high: int | None, later_low: int | None
) -> None:
    before = limit("macs", high, minimum=low, vs_baseline=1)
    after = limit("macs", later_high, minimum=later_low, vs_baseline=1)
    mirrored = {LOOSENED: TIGHTENED, TIGHTENED: LOOSENED}
    there = [(direction, what) for direction, what, *_ in steps(before, after)]
    back = [(mirrored[direction], what) for direction, what, *_ in steps(after, before)]
    assert sorted(there, key=str) == sorted(back, key=str)
    assert bool(there) is ((high, low) != (later_high, later_low))


def on_machine(outcome: Outcome, on: str = "big", cpu: str = "EPYC") -> Report:
    """A limit for one machine, and what the runner with this CPU made of it."""
    verdict = Verdict(region="", metric="latency", outcome=outcome, reason="")
    test = budgeted(A, measured(latency=0.5), limits=(limit("latency", 1, on=on),), line=4)
    return reported(replace(test, verdicts=(verdict,)), machine={"cpu": cpu})


class TestNoLongerGated:
    @pytest.mark.parametrize("before", [Outcome.WITHIN, Outcome.OVER, Outcome.INCONCLUSIVE])
    def test_a_machine_that_this_runner_no_longer_counts_as_loosens_its_limits(
        self, before: Outcome
    ) -> None:
        # As where [tool.flopbudget.machines.big] now asks for a CPU that no runner has.
        base, head = on_machine(before), on_machine(Outcome.NOT_GATED)
        (change,) = every_change(base, head)
        assert (change.direction, change.what) == (LOOSENED, "machine")
        assert (change.before, change.after) == ("judged here", "not here")
        assert (change.metric, change.tests, change.line) == ("latency", (A,), 4)

    def test_another_runner_is_no_change_of_the_budgets(self) -> None:
        base = on_machine(Outcome.WITHIN)
        head = on_machine(Outcome.NOT_GATED, cpu="Xeon")
        assert every_change(base, head) == []

    def test_what_was_not_judged_before_either_is_no_change(self) -> None:
        side = on_machine(Outcome.NOT_GATED)
        assert every_change(side, side) == []

    def test_what_is_judged_again_is_not_loosened(self) -> None:
        base, head = on_machine(Outcome.NOT_GATED), on_machine(Outcome.WITHIN)
        assert every_change(base, head) == []

    def test_a_limit_for_another_machine_is_told_once(self) -> None:
        base = on_machine(Outcome.WITHIN)
        head = on_machine(Outcome.NOT_GATED, on="idle")
        assert [(c.before, c.after) for c in every_change(base, head)] == [("big", "idle")]


class TestRatios:
    @staticmethod
    def report(ratio: str, *, teacher: int = 400, least: str | None = None) -> Report:
        one = limit("macs", Fraction(ratio), ratio_to="teacher")
        if least is not None:
            one = replace(one, minimum=Fraction(least))
        bound = int(Fraction(ratio) * teacher)
        verdict = Verdict(
            region="", metric="macs", outcome=Outcome.WITHIN, reason="", value=90, bound=bound
        )
        test = budgeted(A, measured(macs={"": 90}), limits=(one,))
        return reported(replace(test, verdicts=(verdict,)))

    def test_a_larger_share_allows_what_it_is_of_the_teacher_now(self) -> None:
        (change,) = every_change(self.report("0.25"), self.report("0.5"))
        assert (change.direction, change.what) == (LOOSENED, "maximum")
        assert (change.before, change.after) == ("0.25 of teacher", "0.5 of teacher")
        # Half of the 400 MAC of the teacher, which is what a line has to accept.
        assert (change.bound, change.is_floor) == (Fraction(200), False)

    def test_of_a_share_with_two_ends_no_single_amount_is_known(self) -> None:
        (change,) = every_change(self.report("0.25", least="0.1"), self.report("0.5", least="0.1"))
        assert change.bound is None

    def test_a_smaller_share_is_tighter(self) -> None:
        (change,) = every_change(self.report("0.5"), self.report("0.25"))
        assert change.direction is TIGHTENED


class TestTests:
    BASE = reported(budgeted(A, measured(macs={"": 5}), limits=(limit("macs", 10),)))

    @pytest.mark.parametrize(
        ("outcome", "word"),
        [
            (TestOutcome.SKIPPED, "skipped"),
            (TestOutcome.XFAILED, "expected to fail"),
            (TestOutcome.DESELECTED, "deselected"),
            (TestOutcome.NOT_RUN, "not run"),
        ],
    )
    def test_a_budgeted_test_that_no_longer_counts_is_loosened(
        self, outcome: TestOutcome, word: str
    ) -> None:
        head = reported(budgeted(A, limits=(limit("macs", 10),), outcome=outcome))
        assert [
            (c.what, c.before, c.after, c.tests) for c in compare(self.BASE, head).loosened
        ] == [("test", "macs at most 10 MAC", word, (A,))]

    def test_a_budgeted_test_that_is_gone_is_loosened(self) -> None:
        (change,) = compare(self.BASE, reported()).loosened
        assert (change.what, change.after, change.file, change.line) == (
            "test",
            "removed",
            "test_a.py",
            3,
        )

    @pytest.mark.parametrize("outcome", [TestOutcome.DESELECTED, TestOutcome.NOT_RUN, None])
    @pytest.mark.parametrize("why", [{"selection": ("-k", "b")}, {"is_interrupted": True}])
    def test_a_partial_run_loosens_nothing_by_what_it_leaves_out(
        self, outcome: TestOutcome | None, why: dict[str, Any]
    ) -> None:
        limits = (limit("macs", 10),)
        tests = () if outcome is None else (budgeted(A, limits=limits, outcome=outcome),)
        assert compare(self.BASE, reported(*tests, **why)).loosened == ()

    def test_a_skip_within_a_partial_run_is_still_seen(self) -> None:
        skipped = budgeted(A, limits=(limit("macs", 10),), outcome=TestOutcome.SKIPPED)
        head = reported(skipped, selection=("-k", "a"))
        assert [change.after for change in compare(self.BASE, head).loosened] == ["skipped"]

    def test_what_was_skipped_before_is_not_loosened_by_being_skipped(self) -> None:
        skipped = budgeted(A, limits=(limit("macs", 10),), outcome=TestOutcome.SKIPPED)
        assert every_change(reported(skipped), reported(skipped)) == []

    def test_a_test_without_a_budget_may_go(self) -> None:
        base = reported(budgeted(A, measured(macs={"": 5})))
        assert compare(base, reported()).loosened == ()

    def test_strictness_that_is_given_up_is_loosened(self) -> None:
        strict, lax = (
            budgeted(A, measured(macs={"": 5}), limits=(limit("macs", 10),), is_strict=is_strict)
            for is_strict in (True, False)
        )
        (change,) = every_change(reported(strict), reported(lax))
        assert (change.direction, change.metric) == (LOOSENED, "uncounted")
        assert every_change(reported(lax), reported(strict)) == []

    def test_a_limit_moves_within_its_own_region(self) -> None:
        before, after = (
            budgeted(A, measured("decode", macs={"": 5}), limits=(one,), region="decode")
            for one in (limit("macs", 10), limit("macs", 20))
        )
        (change,) = compare(reported(before), reported(after)).loosened
        assert (change.region, change.measured) == ("decode", 5)

    def test_many_tests_under_one_raised_budget_are_one_change(self) -> None:
        def report(maximum: int) -> Report:
            shared = limit("macs", maximum, source="pyproject.toml: tool.flopbudget.budgets.small")
            return reported(
                *(budgeted(i, measured(macs={"": 1}), limits=(shared,)) for i in (A, B))
            )

        (change,) = every_change(report(10), report(20))
        assert change.tests == (A, B)
        assert change.measured is None


class TestSettings:
    def settings(self, **other: Any) -> Report:
        return reported(settings=Settings(file="pyproject.toml", **other))

    def test_a_named_budget_that_no_test_shows_is_still_compared(self) -> None:
        base = self.settings(budgets={"small": {"macs": "1 GMAC", "ops": 7}})
        head = self.settings(budgets={"small": {"macs": "2 GMAC", "ops": 7}})
        (change,) = every_change(base, head)
        assert (change.direction, change.before, change.after) == (LOOSENED, "1 GMAC", "2 GMAC")
        assert change.source == "pyproject.toml: tool.flopbudget.budgets.small"
        assert change.tests == ()

    def test_the_same_amount_in_other_words_is_no_change(self) -> None:
        base = self.settings(budgets={"small": {"macs": "1 GMAC"}})
        head = self.settings(budgets={"small": {"macs": {"max": "1000 MMAC"}}})
        assert every_change(base, head) == []

    @pytest.mark.parametrize("after", [{}, {"small": {}}, {"other": {"macs": 5}}])
    def test_a_named_budget_that_is_gone_is_loosened(self, after: dict[str, Any]) -> None:
        base = self.settings(budgets={"small": {"macs": 5}})
        assert [(c.what, c.after) for c in every_change(base, self.settings(budgets=after))] == [
            ("limit", "none")
        ]

    def test_defaults_are_compared_too(self) -> None:
        (change,) = every_change(
            self.settings(defaults={"macs": 5}), self.settings(defaults={"macs": 6})
        )
        assert change.source == "pyproject.toml: tool.flopbudget.defaults"

    def test_what_a_test_shows_is_not_said_again_for_the_settings(self) -> None:
        def report(maximum: int) -> Report:
            source = 'pyproject.toml: tool.flopbudget.budgets."my budget"'
            shared = limit("macs", maximum, source=source)
            report = self.settings(budgets={"my budget": {"macs": maximum}})
            return replace(report, tests=(budgeted(A, measured(macs={"": 1}), limits=(shared,)),))

        (change,) = every_change(report(10), report(20))
        assert change.tests == (A,)

    def test_a_limit_on_a_machine_is_read_as_the_settings_read_it(self) -> None:
        base = self.settings(budgets={"small": {"latency": {"max": "1 ms", "on": "big"}}})
        head = self.settings(budgets={"small": {"latency": {"max": "2 ms", "on": "big"}}})
        assert [(c.what, c.before, c.after) for c in every_change(base, head)] == [
            ("maximum", "1 ms", "2 ms")
        ]

    def test_a_limit_that_cannot_be_read_is_shown_as_written(self) -> None:
        base = self.settings(budgets={"small": {"macs": {"at_most": 5}}})
        head = self.settings(budgets={"small": {"macs": {"at_most": 6}}})
        (change,) = every_change(base, head)
        assert (change.direction, change.before, change.after) == (
            LOOSENED,
            '{"at_most": 5}',
            '{"at_most": 6}',
        )

    def test_enforcement_and_strictness_that_are_switched_off_are_loosened(self) -> None:
        base, head = self.settings(), self.settings(configured_mode="report", strict=False)
        assert [(c.direction, c.what) for c in every_change(base, head)] == [
            (LOOSENED, "mode"),
            (LOOSENED, "strict"),
        ]
        assert every_change(head, base) == []

    def test_a_mode_of_the_command_line_is_no_change_of_the_project(self) -> None:
        enforced, reported_only = self.settings(), self.settings(mode="report")
        assert every_change(enforced, reported_only) == []


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (limit("macs", 10), "at most 10 MAC"),
        (limit("accuracy", minimum=0.5), "at least 0.5"),
        (limit("macs", equals=10, tolerance=relative("0.05")), "exactly 10 MAC ± 5 %"),
        (limit("macs", 10, vs_baseline=-0.01), "at most 10 MAC and -1 % against the baseline"),
        (limit("macs", 0.25, ratio_to="teacher"), "at most 0.25 of teacher"),
    ],
)
def test_a_limit_is_told_in_words(one: Limit, words: str) -> None:
    assert describe_limit(one) == words
