"""The baseline that a run leaves behind: its own tests, and those that it left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.judging import Context, judge
from pytest_flopbudget.core.machine import machine_difference
from pytest_flopbudget.core.metrics import Kind, metric_named
from pytest_flopbudget.core.report import Report, TestReport
from pytest_flopbudget.core.settings import ProjectSettings
from pytest_flopbudget.core.updating import USABLE
from pytest_flopbudget.core.verdicts import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A new baseline, and what became of the tests of the old one."""

    report: Report
    fresh: int
    """How many tests are as this run measured them."""
    kept: tuple[str, ...]
    """Ids of tests that are as they were."""
    dropped: tuple[str, ...]
    """Ids of tests that are no longer there."""


def merge_baseline(run: Report, before: Report | None, *, is_whole: bool) -> Merged:
    """The run's report, with the old record of every test that it has no good one of.

    is_whole: the run collected every test and all passed, so that a test which it does
    not know is gone.
    """
    old = {} if before is None else {test.id: test for test in before.tests}
    if before is not None and machine_difference(before.machine, run.machine):
        # The new baseline names one machine, which is not the one that these are of.
        old = {test_id: _portable(test) for test_id, test in old.items()}
    known = {test.id for test in run.tests}
    tests = [test if test.outcome in USABLE else old.get(test.id, test) for test in run.tests]
    absent = [test for test in old.values() if test.id not in known]
    report = replace(run, tests=(*tests, *(() if is_whole else absent)))
    if before is not None and not is_whole:
        # With the old tests in it, it is as whole as the old baseline was.
        report = replace(report, selection=before.selection, is_interrupted=before.is_interrupted)
    kept = {test.id for test in tests if old.get(test.id) is test}
    if not is_whole:
        kept.update(test.id for test in absent)
    return Merged(
        report=report,
        fresh=sum(test.outcome in USABLE for test in run.tests),
        kept=tuple(test_id for test_id in old if test_id in kept),
        dropped=tuple(test.id for test in absent) if is_whole else (),
    )


def _portable(test: TestReport) -> TestReport:
    """The test without what another machine would have measured otherwise."""
    return replace(
        test,
        measurements=tuple(
            replace(
                m,
                values={
                    name: value
                    for name, value in m.values.items()
                    if metric_named(name).kind is not Kind.MACHINE
                },
            )
            for m in test.measurements
        ),
    )


def with_settings(report: Report, settings: ProjectSettings) -> Report:
    """The report as if the named budgets had been these when it was made.

    A baseline must show the budgets that stand beside it; with those from before an
    update, every later comparison would show the update itself as a change.
    """
    limits = {
        (limit.source, limit.metric): limit
        for named in settings.budgets.values()
        for limit in named
    }
    return replace(
        report,
        settings=settings.as_report(),
        tests=tuple(_with_limits(test, limits) for test in report.tests),
    )


def _with_limits(test: TestReport, limits: dict[tuple[str, str], Limit]) -> TestReport:
    verdicts = {(v.region, v.metric): v for v in test.verdicts}
    budgets = []
    for budget in test.budgets:
        current = tuple(limits.get((lim.source, lim.metric), lim) for lim in budget.limits)
        budgets.append(replace(budget, limits=current))
        for old, new in zip(budget.limits, current, strict=True):
            key = (budget.region, new.metric)
            if old != new and key in verdicts:
                verdicts[key] = _judged(test, budget.region, new, verdicts[key])
    return replace(test, budgets=tuple(budgets), verdicts=tuple(verdicts.values()))


def _judged(test: TestReport, region: str, limit: Limit, before: Verdict) -> Verdict:
    """The verdict of a limit that needs neither baseline, nor machine, nor another test."""
    measurement = test.measurement(region)
    if measurement is None or limit.vs_baseline is not None or limit.ratio_to or limit.on:
        return before
    subject = test.id.rpartition("::")[2]
    return judge(limit, measurement, Context(), region=region, subject=subject)
