"""One run: which tests have budgets, what each reported, and what came of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_flopbudget.core.report import Git, Report, TestOutcome, TestReport
from pytest_flopbudget.core.settings import ProjectSettings
from pytest_flopbudget.core.verdicts import Outcome, Verdict, failures, inconclusive
from pytest_flopbudget.session.references import find_references


@dataclass(slots=True)
class BudgetRun:
    """The tests of one run in collection order, filled in as their reports arrive."""

    settings: ProjectSettings
    mode: str
    configured_mode: str = "enforce"
    tests: dict[str, TestReport] = field(default_factory=dict)
    """By test id; planned tests stand here as not run until they report."""
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    """Ids of tests, budgeted or not, that failed before they reported, or beside it."""
    late_failures: tuple[Verdict, ...] = ()
    """Broken ratios between tests, which no single test could fail for."""

    def plan(self, tests: Iterable[TestReport]) -> None:
        """Note the budgeted tests, in collection order; what was reported stays."""
        for test in tests:
            self.tests.setdefault(test.id, test)
            if test.id in self.failed:
                self.fail(test.id)

    def receive(self, test: TestReport) -> None:
        """Take a test's report; a rerun replaces the earlier one."""
        self.tests[test.id] = test
        if test.id in self.failed:
            self.fail(test.id)

    def fail_teardown(self, test_id: str) -> None:
        """Note that a test which had reported went wrong in its tear-down."""
        test = self.tests.get(test_id)
        if test is not None and test.outcome is TestOutcome.PASSED:
            self.tests[test_id] = replace(test, outcome=TestOutcome.ERROR)

    def fail(self, test_id: str) -> None:
        """Note that a test failed in a way that it cannot report, planned already or not.

        Its process ended in the middle of it, or one of its subtests failed.
        """
        self.failed.add(test_id)
        test = self.tests.get(test_id)
        if test is not None and test.outcome in (TestOutcome.NOT_RUN, TestOutcome.PASSED):
            self.tests[test_id] = replace(test, outcome=TestOutcome.FAILED)

    def learn(self, versions: Mapping[str, str], machine: Mapping[str, Any]) -> None:
        """Add what a process that ran tests knows of itself."""
        self.versions.update(versions)
        self.machine.update(machine)

    def resolve_ratios(self, *, uncollected: Sequence[str] = ()) -> None:
        """Judge the ratios to measurements of other tests, now that all have reported.

        uncollected: the options that kept tests from being collected.
        """
        references = find_references(self.tests.values(), uncollected)
        broken: list[Verdict] = []
        for test in self.tests.values():
            if all(verdict.outcome is not Outcome.PENDING for verdict in test.verdicts):
                continue
            verdicts = tuple(
                references.settled(verdict, test) if verdict.outcome is Outcome.PENDING else verdict
                for verdict in test.verdicts
            )
            # What failed by the other verdicts has said so in the test itself.
            late = set(failures(verdicts)) - set(failures(test.verdicts))
            broken += [verdict for verdict in verdicts if verdict in late]
            is_over = bool(late) and test.outcome is TestOutcome.PASSED and self.mode == "enforce"
            self.tests[test.id] = replace(
                test,
                verdicts=verdicts,
                outcome=TestOutcome.OVER_BUDGET if is_over else test.outcome,
            )
        self.late_failures = tuple(broken)

    def inconclusive(self) -> Iterator[Verdict]:
        """The verdicts that this machine could not tell, of the tests that passed."""
        for test in self.tests.values():
            if test.outcome is TestOutcome.PASSED:
                yield from inconclusive(test.verdicts)

    def report(self, *, selection: Sequence[str], git: Git | None, is_interrupted: bool) -> Report:
        """The report of the whole run, as it stands.

        is_interrupted: whether tests may be missing from it.
        """
        tests = tuple(self.tests.values())
        return Report(
            machine=self.machine,
            versions=dict(sorted(self.versions.items())),
            git=git,
            settings=self.settings.as_report(self.mode, self.configured_mode),
            selection=tuple(selection),
            is_interrupted=is_interrupted
            or any(test.outcome is TestOutcome.NOT_RUN for test in tests),
            tests=tests,
            notes=tuple(_unsteady(tests)),
        )


def _unsteady(tests: Iterable[TestReport]) -> Iterator[str]:
    """The timings that a reader should not lean on."""
    for test in tests:
        for measurement in test.measurements:
            if measurement.samples is not None and not measurement.samples.is_steady:
                region = f", region {measurement.name!r}" if measurement.name else ""
                yield f"{test.id}{region}: still speeding up or slowing down after its warm-up"
