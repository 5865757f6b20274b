"""What two reports say beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from pytest_flopbudget.core.attribution import Share
from pytest_flopbudget.core.budgets import Budget, Severity
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison, Delta, Direction, Entry, Standing
from pytest_flopbudget.core.judging import Context, judge_test
from pytest_flopbudget.core.measurement import Measurement, Uncounted, Value
from pytest_flopbudget.core.metrics import Better
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport
from pytest_flopbudget.core.settling import settle
from pytest_flopbudget.core.verdicts import Outcome

from ..builders import budgeted, limit, measured, reported, sampled

A, B = "tests/test_a.py::test_a", "tests/test_a.py::test_b"


def places(found: tuple[Delta, ...] | tuple[Entry, ...]) -> list[tuple[str, str]]:
    return [(one.place.test, one.place.metric) for one in found]


def reasons(entries: tuple[Entry, ...]) -> dict[str, str]:
    return {entry.place.test: entry.reason for entry in entries}


def timed(latency: float) -> Measurement:
    """A call that always took so long."""
    samples = sampled(latency, latency, latency)
    return Measurement(values={"latency": Value(value=latency)}, samples=samples)


class TestMovedMetrics:
    def test_a_change_names_the_modules_and_operators_that_made_it(self) -> None:
        base = reported(budgeted(A, measured(macs={"fc1": 100, "fc2": 50, "head": 7})))
        head = reported(budgeted(A, measured(macs={"fc1": 300, "fc2": 40, "head": 7})))
        (delta,) = compare(base, head).changed
        assert delta.place.metric == "macs"
        assert (delta.base, delta.head) == (Value(value=157), Value(value=347))
        assert delta.movers == (
            Share(path="fc1", operator="aten.mm", amount=200),
            Share(path="fc2", operator="aten.mm", amount=-10),
        )

    def test_a_module_that_is_gone_or_new_is_a_mover_too(self) -> None:
        base = reported(budgeted(A, measured(macs={"old": 5})))
        head = reported(budgeted(A, measured(macs={"young": 9})))
        (delta,) = compare(base, head).changed
        assert [(share.path, share.amount) for share in delta.movers] == [
            ("young", 9),
            ("old", -5),
        ]

    def test_what_costs_the_same_is_unchanged(self) -> None:
        report = reported(budgeted(A, measured(macs={"fc": 5}), limits=(limit("macs", 5),)))
        comparison = compare(report, report)
        assert comparison.changed == ()
        assert comparison.unchanged == (A,)
        assert comparison.standing is Standing.WITHIN

    def test_one_more_is_a_change(self) -> None:
        base = reported(budgeted(A, measured(macs={"fc": 10**15})))
        head = reported(budgeted(A, measured(macs={"fc": 10**15 + 1})))
        assert places(compare(base, head).changed) == [(A, "macs")]

    def test_budgeted_metrics_come_first_then_what_got_worse_then_the_larger(self) -> None:
        base = reported(budgeted(A, measured(macs={"": 100}, ops=100, params=100, flops=100)))
        head = reported(
            budgeted(
                A,
                measured(macs={"": 101}, ops=90, params=150, flops=300),
                limits=(limit("macs", 1000),),
            )
        )
        assert [metric for _, metric in places(compare(base, head).changed)] == [
            "macs",
            "flops",
            "params",
            "ops",
        ]

    @pytest.mark.parametrize(
        ("better", "is_improved"), [(Better.HIGHER, True), (Better.LOWER, False), (None, False)]
    )
    def test_a_recorded_metric_improves_in_the_direction_the_test_gave_it(
        self, better: Better | None, is_improved: bool
    ) -> None:
        base = reported(budgeted(A, measured(accuracy=Value(value=0.5, better=better))))
        head = reported(budgeted(A, measured(accuracy=Value(value=0.75, better=better))))
        comparison = compare(base, head)
        assert bool(comparison.improved) is is_improved
        # (0.75 - 0.5) / 0.5 is a half.
        assert abs(comparison.changed[0].growth) == 0.5

    def test_growth_from_nothing_is_without_measure(self) -> None:
        base = reported(budgeted(A, measured(macs={"": 0})))
        head = reported(budgeted(A, measured(macs={"": 1})))
        assert compare(base, head).changed[0].growth == float("inf")
        assert compare(head, base).changed[0].growth == -1.0


class TestBrokenBudgets:
    def test_a_limit_holds_at_its_bound_and_breaks_one_above(self) -> None:
        for spent, standing in ((10, Standing.WITHIN), (11, Standing.OVER)):
            head = reported(budgeted(A, measured(macs={"": spent}), limits=(limit("macs", 10),)))
            assert compare(None, head).standing is standing

    def test_a_broken_limit_shows_the_base_and_what_moved_it(self) -> None:
        base = reported(budgeted(A, measured(macs={"fc": 9}), limits=(limit("macs", 10),)))
        head = reported(budgeted(A, measured(macs={"fc": 12}), limits=(limit("macs", 10),)))
        (delta,) = compare(base, head).over
        assert delta.base == Value(value=9)
        assert delta.movers == (Share(path="fc", operator="aten.mm", amount=3),)
        assert delta.limit == limit("macs", 10)
        assert delta.verdict is not None
        assert delta.verdict.outcome is Outcome.OVER

    def test_a_limit_that_warns_fails_nothing(self) -> None:
        soft = limit("macs", 10, severity=Severity.WARN)
        comparison = compare(None, reported(budgeted(A, measured(macs={"": 11}), limits=(soft,))))
        assert places(comparison.warned) == [(A, "macs")]
        assert comparison.over == ()
        assert comparison.standing is Standing.WITHIN

    def test_a_test_that_is_expected_to_fail_may_be_over(self) -> None:
        head = reported(
            budgeted(
                A,
                measured(macs={"": 11}),
                limits=(limit("macs", 10),),
                outcome=TestOutcome.XFAILED,
            )
        )
        assert compare(None, head).standing is Standing.WITHIN

    def test_the_farthest_over_comes_first(self) -> None:
        head = reported(
            budgeted(A, measured(macs={"": 11}), limits=(limit("macs", 10),)),
            budgeted(B, measured(macs={"": 30}), limits=(limit("macs", 10),)),
        )
        assert places(compare(None, head).over) == [(B, "macs"), (A, "macs")]


class TestGrowth:
    @pytest.mark.parametrize(
        ("spent", "outcome"),
        # 5 % on 100 allows 105.
        [(104, None), (105, None), (106, Outcome.REGRESSED)],
    )
    def test_growth_is_judged_against_the_base_to_the_last_digit(
        self, spent: int, outcome: Outcome | None
    ) -> None:
        limits = (limit("macs", vs_baseline=0.05),)
        base = reported(budgeted(A, measured(macs={"": 100}), limits=limits))
        head = reported(budgeted(A, measured(macs={"": spent}), limits=limits))
        comparison = compare(base, head)
        assert [d.verdict.outcome for d in comparison.regressed if d.verdict] == (
            [outcome] if outcome else []
        )
        assert comparison.standing is (Standing.OVER if outcome else Standing.WITHIN)
        # The run had no baseline of its own: that is settled here, and not said again.
        assert comparison.undecided == ()

    def test_growth_of_a_recorded_metric_is_judged_in_its_own_direction(self) -> None:
        limits = (limit("accuracy", vs_baseline=-0.1),)
        accuracy = [Value(value=v, better=Better.HIGHER) for v in (0.8, 0.72, 0.71)]
        base, held, lost = (
            reported(budgeted(A, measured(accuracy=value), limits=limits)) for value in accuracy
        )
        # A tenth of 0.8 is 0.08, so that 0.72 is the least that is allowed.
        assert compare(base, held).standing is Standing.WITHIN
        assert compare(base, lost).standing is Standing.OVER

    def test_growth_that_only_warns_fails_nothing(self) -> None:
        limits = (limit("macs", vs_baseline=0, severity=Severity.WARN),)
        base = reported(budgeted(A, measured(macs={"": 1}), limits=limits))
        head = reported(budgeted(A, measured(macs={"": 2}), limits=limits))
        comparison = compare(base, head)
        assert comparison.standing is Standing.WITHIN
        assert places(comparison.warned) == [(A, "macs")]

    def test_without_a_base_growth_is_not_decided(self) -> None:
        head = reported(
            budgeted(A, measured(macs={"": 9}), limits=(limit("macs", vs_baseline=0.05),))
        )
        comparison = compare(None, head)
        assert places(comparison.undecided) == [(A, "macs")]
        assert comparison.standing is Standing.WITHIN
        assert comparison.notes == ("no baseline yet: absolute budgets alone are judged",)

    def test_a_limit_over_both_its_bounds_is_told_once(self) -> None:
        limits = (limit("macs", 10, vs_baseline=0),)
        base = reported(budgeted(A, measured(macs={"": 5}), limits=limits))
        head = reported(budgeted(A, measured(macs={"": 11}), limits=limits))
        (delta,) = compare(base, head).over
        assert delta.verdict is not None
        assert delta.verdict.outcome is Outcome.OVER

    def test_growth_of_a_timing_is_never_judged_from_two_runs(self) -> None:
        limits = (limit("latency", vs_baseline=0.05),)
        base = reported(budgeted(A, measured(latency=Value(value=1.0)), limits=limits))
        head = reported(budgeted(A, measured(latency=Value(value=9.0)), limits=limits))
        comparison = compare(base, head)
        assert comparison.standing is Standing.WITHIN
        assert comparison.changed == ()
        assert places(comparison.incomparable) == [(A, "latency")]
        # Not even the sentence about it puts the two beside each other.
        assert comparison.undecided[0].base is None

    def test_a_base_does_not_settle_what_a_timing_left_open(self) -> None:
        open_ended = measured(latency=Value(value=1.0, low=0.9, high=1.1))
        report = reported(budgeted(A, open_ended, limits=(limit("latency", 1, vs_baseline=0.05),)))
        (delta,) = compare(report, report).undecided
        assert delta.verdict is not None
        assert delta.verdict.outcome is Outcome.INCONCLUSIVE


class TestWhoIsThere:
    def test_new_and_removed_tests_are_told_apart(self) -> None:
        comparison = compare(
            reported(budgeted(A, measured(macs={"": 1}))),
            reported(budgeted(B, measured(macs={"": 2}))),
        )
        assert reasons(comparison.new) == {B: "new"}
        assert reasons(comparison.removed) == {A: "removed"}

    @pytest.mark.parametrize(
        ("report", "reason"),
        [
            (reported(selection=("-k", "b")), "left out by -k b"),
            (reported(is_interrupted=True), "the run was interrupted"),
        ],
    )
    def test_a_test_that_a_partial_run_lacks_is_not_removed(
        self, report: Report, reason: str
    ) -> None:
        comparison = compare(reported(budgeted(A, measured(macs={"": 1}))), report)
        assert comparison.removed == ()
        assert reasons(comparison.not_measured) == {A: reason}
        assert comparison.loosened == ()

    @pytest.mark.parametrize(
        ("outcome", "reason"),
        [
            (TestOutcome.SKIPPED, "skipped"),
            (TestOutcome.ERROR, "its set-up failed"),
            (TestOutcome.DESELECTED, "deselected"),
            (TestOutcome.NOT_RUN, "not run"),
            (TestOutcome.FAILED, "failed before it was measured to the end"),
            (TestOutcome.PASSED, "measured nothing"),
        ],
    )
    def test_a_test_without_a_measurement_says_why(self, outcome: TestOutcome, reason: str) -> None:
        base = reported(budgeted(A, measured(macs={"": 1})))
        comparison = compare(base, reported(budgeted(A, outcome=outcome)))
        assert reasons(comparison.not_measured) == {A: reason}

    def test_a_test_cut_off_by_an_interrupt_says_so(self) -> None:
        head = reported(budgeted(A, outcome=TestOutcome.NOT_RUN), is_interrupted=True)
        comparison = compare(reported(budgeted(A, measured(macs={"": 1}))), head)
        assert reasons(comparison.not_measured) == {A: "not run: the run was interrupted"}
        assert comparison.notes == ("the run was interrupted: what it did not reach is not judged",)

    def test_what_neither_side_measures_is_no_news(self) -> None:
        report = reported(budgeted(A, outcome=TestOutcome.SKIPPED))
        assert compare(report, report).not_measured == ()

    def test_code_that_raised_is_not_compared(self) -> None:
        base = reported(budgeted(A, measured(macs={"": 9})))
        head = reported(
            budgeted(A, measured(macs={"": 3}, is_partial=True), outcome=TestOutcome.FAILED)
        )
        comparison = compare(base, head)
        assert comparison.changed == ()
        assert reasons(comparison.not_measured) == {A: "raised while it was measured"}
        assert comparison.standing is Standing.NOTHING_MEASURED

    def test_regions_come_and_go_within_a_test(self) -> None:
        base = reported(budgeted(A, measured(macs={"": 1}), measured("old", macs={"": 1})))
        head = reported(
            budgeted(
                A,
                measured(macs={"": 1}),
                measured("young", macs={"": 1}),
                measured("torn", macs={"": 1}, is_partial=True),
            )
        )
        comparison = compare(base, head)
        assert [(e.place.region, e.reason) for e in comparison.new] == [("young", "a new region")]
        assert [(e.place.region, e.reason) for e in comparison.not_measured] == [
            ("torn", "raised before its end"),
            ("old", "a region of the base that never ran"),
        ]

    def test_a_test_that_only_the_head_measures_is_new_with_the_base_s_reason(self) -> None:
        base = reported(budgeted(A, outcome=TestOutcome.SKIPPED))
        head = reported(budgeted(A, measured(macs={"": 1})))
        assert reasons(compare(base, head).new) == {A: "on the base: skipped"}

    @pytest.mark.parametrize("tests", [(), (budgeted(A, outcome=TestOutcome.SKIPPED),)])
    def test_a_head_that_measured_nothing_has_a_standing_of_its_own(self, tests: tuple) -> None:
        assert compare(None, reported(*tests)).standing is Standing.NOTHING_MEASURED


class TestRenames:
    def renames(self, base: Report, head: Report) -> list[tuple[str, str]]:
        return [(one.before, one.after) for one in compare(base, head).renamed]

    def test_a_test_of_the_same_file_and_cost_was_renamed(self) -> None:
        base = reported(budgeted("t.py::test_old", measured(macs={"": 7})))
        head = reported(budgeted("t.py::test_young", measured(macs={"": 7})))
        assert self.renames(base, head) == [("t.py::test_old", "t.py::test_young")]
        comparison = compare(base, head)
        assert comparison.new == comparison.removed == ()

    def test_a_test_of_the_same_name_and_cost_was_moved(self) -> None:
        base = reported(budgeted("a.py::test_x", measured(macs={"": 7})))
        head = reported(budgeted("b.py::test_x", measured(macs={"": 7})))
        assert self.renames(base, head) == [("a.py::test_x", "b.py::test_x")]

    @pytest.mark.parametrize(
        ("old", "young", "cost"),
        [
            ("t.py::test_old", "t.py::test_young", 8),
            ("a.py::test_old", "b.py::test_young", 7),
        ],
        ids=["another cost", "neither file nor name"],
    )
    def test_too_little_in_common_is_no_rename(self, old: str, young: str, cost: int) -> None:
        base = reported(budgeted(old, measured(macs={"": 7})))
        head = reported(budgeted(young, measured(macs={"": cost})))
        assert self.renames(base, head) == []

    def test_two_candidates_are_no_rename(self) -> None:
        base = reported(budgeted("t.py::test_old", measured(macs={"": 7})))
        head = reported(
            budgeted("t.py::test_x", measured(macs={"": 7})),
            budgeted("t.py::test_y", measured(macs={"": 7})),
        )
        assert self.renames(base, head) == []

    def test_tests_that_cost_nothing_look_alike_and_are_no_rename(self) -> None:
        base = reported(budgeted("t.py::test_old", measured(macs={"": 0})))
        head = reported(budgeted("t.py::test_young", measured(macs={"": 0})))
        assert self.renames(base, head) == []

    def test_a_partial_run_knows_of_no_renames(self) -> None:
        base = reported(budgeted("t.py::test_old", measured(macs={"": 7})))
        head = reported(
            budgeted("t.py::test_young", measured(macs={"": 7})), selection=("-k", "young")
        )
        assert self.renames(base, head) == []

    def test_a_rename_that_raises_the_budget_is_still_a_loosened_budget(self) -> None:
        base = reported(
            budgeted("t.py::test_old", measured(macs={"": 7}), limits=(limit("macs", 7),))
        )
        head = reported(
            budgeted("t.py::test_young", measured(macs={"": 7}), limits=(limit("macs", 9),))
        )
        (change,) = compare(base, head).loosened
        assert (change.what, change.before, change.after) == ("maximum", "7 MAC", "9 MAC")


class TestMachines:
    def test_a_side_that_tells_no_machine_differs_in_none(self) -> None:
        test = budgeted(A, measured(macs={"": 1}))
        silent, telling = reported(test, machine={}), reported(test, machine={"cores": 8})
        assert compare(silent, telling).machine_changes == ()
        assert compare(telling, silent).machine_changes == ()

    def test_a_side_that_measured_nothing_differs_in_no_fact(self) -> None:
        # What torch knows of the machine is asked for only where torch is used.
        empty = reported(machine={"cores": 8}, versions={"python": "3.11"})
        full = reported(
            budgeted(A, measured(macs={"": 1})),
            machine={"cores": 8, "blas": "mkl"},
            versions={"python": "3.11", "torch": "2.13.0"},
        )
        for base, head in ((empty, full), (full, empty)):
            comparison = compare(base, head)
            assert comparison.machine_changes == ()
            assert comparison.version_changes == ()

    def test_facts_and_versions_that_differ_are_listed(self) -> None:
        base = reported(
            budgeted(A, measured(macs={"": 1})),
            machine={"cpu": "EPYC", "cores": 4, "ci": None},
            versions={"torch": "2.12.0", "python": "3.11"},
        )
        head = reported(
            budgeted(A, measured(macs={"": 1})),
            machine={"cpu": "EPYC", "cores": 8, "ci": "github"},
            versions={"torch": "2.13.0", "python": "3.11"},
        )
        comparison = compare(base, head)
        assert [(f.name, f.before, f.after) for f in comparison.machine_changes] == [
            ("cores", "4", "8"),
            ("ci", "", "github"),
        ]
        assert [(f.name, f.before, f.after) for f in comparison.version_changes] == [
            ("torch", "2.12.0", "2.13.0")
        ]
        assert comparison.notes == (
            (
                "torch is 2.13.0 here and 2.12.0 on the base: "
                "exact counts may differ by the version alone"
            ),
        )

    def test_uncounted_operators_of_the_head_are_listed_where_they_ran(self) -> None:
        row = Uncounted(operator="aten.sort.default", calls=2, shapes=("f32[4]",))
        head = reported(budgeted(A, measured("decode", macs={"": 1}, uncounted=(row,)), line=9))
        (found,) = compare(None, head).uncounted
        assert (found.place.test, found.place.region, found.place.line) == (A, "decode", 9)
        assert found.operator == row

    def test_the_notes_of_the_run_are_kept(self) -> None:
        head = reported(budgeted(A, measured(macs={"": 1})), notes=("two threads",))
        assert compare(head, head).notes == ("two threads",)


def test_a_loosened_budget_alone_does_not_fail() -> None:
    base = reported(budgeted(A, measured(macs={"": 9}), limits=(limit("macs", 10),)))
    head = reported(budgeted(A, measured(macs={"": 19}), limits=(limit("macs", 20),)))
    comparison: Comparison = compare(base, head)
    assert comparison.standing is Standing.WITHIN
    assert [change.direction for change in comparison.loosened] == [Direction.LOOSENED]
    assert comparison.loosened[0].measured == 19


def test_limits_are_exact_fractions_on_both_sides() -> None:
    # A float's 0.1 is a little more than a tenth; the limits are a tenth exactly.
    held = limit("accuracy", minimum=0.1)
    assert held.minimum == Fraction(1, 10)
    report = reported(budgeted(A, measured(accuracy=0.1), limits=(held,)))
    assert compare(report, report).standing is Standing.WITHIN


class TestPartsOfASuite:
    def test_a_test_outside_the_folder_that_was_run_is_left_out_not_removed(self) -> None:
        base = reported(budgeted(A, measured(macs={"": 5})), selection=("tests",))
        head = reported(budgeted(B, measured(macs={"": 9})), selection=("tests/b",))
        comparison = compare(base, head)
        assert comparison.removed == ()
        assert reasons(comparison.not_measured) == {A: "left out by tests/b"}

    def test_a_test_that_is_gone_from_the_same_part_is_removed(self) -> None:
        for selection in (("tests",), ("-m not slow",)):
            base = reported(budgeted(A, measured(macs={"": 5})), selection=selection)
            head = reported(budgeted(B, measured(macs={"": 9})), selection=selection)
            assert reasons(compare(base, head).removed) == {A: "removed"}, selection


HERE = {"system": "Linux", "arch": "x86_64", "cpu": "AMD EPYC", "cpu_capability": "AVX2"}
THERE = {**HERE, "cpu_capability": "AVX512"}


class TestOtherMachines:
    def test_the_allocators_peak_moves_between_two_runs_of_one_machine(self) -> None:
        base = reported(budgeted(A, measured(allocator_peak=10)), machine=HERE)
        head = reported(budgeted(A, measured(allocator_peak=12)), machine={**HERE, "cores": 2})
        result = compare(base, head)
        assert places(result.changed) == [(A, "allocator_peak")]
        assert result.incomparable == ()

    @pytest.mark.parametrize("machine", [THERE, {}])
    def test_of_two_machines_it_is_information(self, machine: dict[str, object]) -> None:
        base = reported(budgeted(A, measured(allocator_peak=10, ops=1)), machine=machine)
        head = reported(budgeted(A, measured(allocator_peak=12, ops=1)), machine=HERE)
        result = compare(base, head)
        assert result.changed == ()
        assert result.unchanged == (A,)
        assert places(result.incomparable) == [(A, "allocator_peak")]

    def test_what_is_resident_is_never_compared(self) -> None:
        base = reported(budgeted(A, measured(rss_peak=10)), machine=HERE)
        head = reported(budgeted(A, measured(rss_peak=12)), machine=HERE)
        result = compare(base, head)
        assert (result.changed, result.unchanged) == ((), (A,))

    @pytest.mark.parametrize(("machine", "is_judged"), [(HERE, True), (THERE, False)])
    def test_growth_is_judged_on_one_machine_alone(
        self, machine: dict[str, object], *, is_judged: bool
    ) -> None:
        bound = limit("allocator_peak", vs_baseline=0.1)
        base = reported(budgeted(A, measured(allocator_peak=10)), machine=machine)
        head = reported(budgeted(A, measured(allocator_peak=12), limits=(bound,)), machine=HERE)
        result = compare(base, head)
        assert bool(result.over) is is_judged
        if not is_judged:
            (delta,) = result.undecided
            assert delta.verdict is not None
            assert delta.base is None
            assert "the baseline is of another machine: cpu_capability AVX512, here AVX2" in (
                delta.verdict.reason
            )

    @pytest.mark.parametrize(("cores", "is_shown"), [(4, True), (2, False)])
    def test_a_latency_of_the_base_is_shown_where_the_machines_look_alike(
        self, cores: int, *, is_shown: bool
    ) -> None:
        base = reported(budgeted(A, timed(0.25)), machine={**HERE, "cores": 4})
        head = reported(budgeted(A, timed(0.5)), machine={**HERE, "cores": cores})
        result = compare(base, head)
        (delta,) = result.incomparable
        assert delta.base == (Value(value=0.25) if is_shown else None)
        assert delta.head == Value(value=0.5)
        note = "the base's times are of another machine, and not shown: cores 4, here 2"
        assert (note in result.notes) is not is_shown

    def test_where_nothing_was_timed_no_note_speaks_of_latencies(self) -> None:
        base = reported(budgeted(A, measured(ops=1)), machine={**HERE, "cores": 4})
        head = reported(budgeted(A, timed(0.5)), machine=HERE)
        assert compare(base, head).notes == ()


class Watched(tuple[Any, ...]):
    """Members that count how often somebody looks through them."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        type(self).looks += 1
        return super().__iter__()


def test_nobody_looks_through_all_regions_for_each_of_them() -> None:
    def report(spent: int) -> Report:
        names = [f"r{n}" for n in range(300)]
        regions = [measured(name, macs={"fc": spent}) for name in names]
        budgets = [Budget(region=name, limits=(limit("macs", 5),)) for name in names]
        verdicts = judge_test(budgets, regions, Context(), subject="t")
        test = TestReport(
            id="t.py::t",
            file="t.py",
            line=1,
            outcome=TestOutcome.PASSED,
            measurements=Watched(regions),
            budgets=Watched(budgets),
            verdicts=Watched(verdicts),
        )
        return reported(test)

    base, head = report(8), report(9)
    Watched.looks = 0
    assert len(settle(compare(base, head), base, ()).over) == 300
    assert Watched.looks < 100
