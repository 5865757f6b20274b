"""A baseline keeps what a run did not measure, and shows the budgets that stand beside it."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pytest_flopbudget.core.baseline import merge_baseline, with_settings
from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport
from pytest_flopbudget.core.settings import ProjectSettings
from pytest_flopbudget.core.verdicts import Outcome

from ..builders import budgeted, measured, reported

OLD_A = budgeted("t.py::a", measured(ops=1))
OLD_B = budgeted("t.py::b", measured(ops=2))
NEW_A = budgeted("t.py::a", measured(ops=3))
BEFORE = reported(OLD_A, OLD_B)


def test_a_first_baseline_is_the_run() -> None:
    run = reported(NEW_A, selection=("-k a",))
    merged = merge_baseline(run, None, is_whole=False)
    assert merged.report == run
    assert (merged.fresh, merged.kept, merged.dropped) == (1, (), ())


def test_a_test_outside_the_selection_stays_as_it_was() -> None:
    merged = merge_baseline(reported(NEW_A, selection=("-k a",)), BEFORE, is_whole=False)
    assert merged.report.tests == (NEW_A, OLD_B)
    assert (merged.fresh, merged.kept, merged.dropped) == (1, ("t.py::b",), ())


def test_a_merged_baseline_is_as_whole_as_the_old_one() -> None:
    part = merge_baseline(reported(NEW_A, selection=("-k a",)), BEFORE, is_whole=False)
    assert part.report.selection == ()
    again = merge_baseline(
        reported(NEW_A), reported(OLD_B, selection=("-k b",), is_interrupted=True), is_whole=False
    )
    assert (again.report.selection, again.report.is_interrupted) == (("-k b",), True)


def test_a_removed_test_goes_with_a_whole_run_alone() -> None:
    merged = merge_baseline(reported(NEW_A), BEFORE, is_whole=True)
    assert merged.report.tests == (NEW_A,)
    assert merged.dropped == ("t.py::b",)


@pytest.mark.parametrize(
    "outcome",
    [TestOutcome.FAILED, TestOutcome.ERROR, TestOutcome.SKIPPED, TestOutcome.DESELECTED],
)
def test_a_record_without_a_good_measurement_never_replaces_one(outcome: TestOutcome) -> None:
    bad = budgeted("t.py::a", measured(ops=9), outcome=outcome)
    merged = merge_baseline(reported(bad), BEFORE, is_whole=False)
    assert merged.report.tests == (OLD_A, OLD_B)
    assert (merged.fresh, merged.kept) == (0, ("t.py::a", "t.py::b"))
    assert merge_baseline(reported(bad), None, is_whole=False).report.tests == (bad,)


def _bounded(maximum: int, source: str = "pyproject.toml: tool.flopbudget.budgets.net") -> Limit:
    return Limit(metric="ops", maximum=Fraction(maximum), source=source)


def _settled(test: TestReport) -> TestReport:
    """The test in a baseline beside a budget of five operators."""
    written = {"budgets": {"net": {"ops": 5}}}
    settings = ProjectSettings(budgets={"net": (_bounded(5),)}, written=written)
    report = with_settings(Report(tests=(test,)), settings)
    assert report.settings.budgets == written["budgets"]
    return report.tests[0]


def test_the_budgets_of_a_baseline_are_those_after_the_update() -> None:
    before = budgeted("t.py::a", measured(ops=5), limits=(_bounded(4),))
    assert before.verdicts[0].outcome is Outcome.OVER
    after = _settled(before)
    assert after.budgets[0].limits == (_bounded(5),)
    assert [(v.outcome, v.bound) for v in after.verdicts] == [(Outcome.WITHIN, 5)]


def test_a_limit_of_another_place_keeps_its_verdict() -> None:
    before = budgeted("t.py::a", measured(ops=5), limits=(_bounded(4, "t.py::a: @flop_budget"),))
    assert _settled(before) == before


@pytest.mark.parametrize(("cpu", "kept"), [("AMD EPYC", {"ops", "rss_peak"}), ("M1", {"ops"})])
def test_what_depends_on_the_machine_stays_only_beside_its_own(cpu: str, kept: set[str]) -> None:
    old = reported(budgeted("t.py::b", measured(ops=2, rss_peak=9)), machine={"cpu": "AMD EPYC"})
    run = reported(NEW_A, selection=("-k a",), machine={"cpu": cpu})
    merged = merge_baseline(run, old, is_whole=False)
    assert merged.kept == ("t.py::b",)
    assert merged.report.tests[1].measurements[0].values.keys() == kept
