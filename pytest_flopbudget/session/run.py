"""One run: which tests have budgets, what each reported, and what came of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_flopbudget.core.budgets import Budget
from pytest_flopbudget.core.judging import Context, judge_test
from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.report import Git, Report, TestOutcome, TestReport
from pytest_flopbudget.core.settings import ProjectSettings
from pytest_flopbudget.core.verdicts import Outcome, Verdict, failures
from pytest_flopbudget.session.testrun import named_measurements


@dataclass(slots=True)
class BudgetRun:
    """The tests of one run in collection order, filled in as their reports arrive."""

    settings: ProjectSettings
    mode: str
    machines: frozenset[str] = frozenset()
    """Names of the machines in the settings that this one counts as."""
    tests: dict[str, TestReport] = field(default_factory=dict)
    """By test id; planned tests stand here as not run until they report."""
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    late_failures: tuple[Verdict, ...] = ()
    """Broken ratios between tests, which no single test could fail for."""

    def plan(self, tests: Iterable[TestReport]) -> None:
        """Note the budgeted tests, in collection order; what was reported stays."""
        for test in tests:
            self.tests.setdefault(test.id, test)

    def receive(self, test: TestReport) -> None:
        """Take a test's report; a rerun replaces the earlier one."""
        self.tests[test.id] = test

    def fail_teardown(self, test_id: str) -> None:
        """Note that a test which had reported went wrong in its tear-down."""
        test = self.tests.get(test_id)
        if test is not None and test.outcome is TestOutcome.PASSED:
            self.tests[test_id] = replace(test, outcome=TestOutcome.ERROR)

    def learn(self, versions: Mapping[str, str], machine: Mapping[str, Any]) -> None:
        """Add what a process that ran tests knows of itself."""
        self.versions.update(versions)
        self.machine.update(machine)

    def resolve_ratios(self) -> None:
        """Judge the ratios to measurements of other tests, now that all have reported."""
        references, ambiguous = self._references()
        broken: list[Verdict] = []
        for test in self.tests.values():
            pending = {(v.region, v.metric) for v in test.verdicts if v.outcome is Outcome.PENDING}
            if not pending:
                continue
            own = named_measurements(test.budgets, test.measurements)
            context = Context(
                machines=self.machines, references={**references, **own}, is_final=True
            )
            budgets = tuple(
                replace(
                    budget,
                    limits=tuple(
                        limit for limit in budget.limits if (budget.region, limit.metric) in pending
                    ),
                    is_strict=False,
                )
                for budget in test.budgets
            )
            subject = test.id.rpartition("::")[2]
            judged = [
                _say_ambiguity(verdict, budgets, ambiguous)
                for verdict in judge_test(budgets, test.measurements, context, subject=subject)
                if (verdict.region, verdict.metric) in pending
            ]
            settled = [v for v in test.verdicts if v.outcome is not Outcome.PENDING]
            late = failures(judged)
            broken += late
            is_over = bool(late) and test.outcome is TestOutcome.PASSED and self.mode == "enforce"
            self.tests[test.id] = replace(
                test,
                verdicts=(*settled, *judged),
                outcome=TestOutcome.OVER_BUDGET if is_over else test.outcome,
            )
        self.late_failures = tuple(broken)

    def report(self, *, selection: Sequence[str], git: Git | None) -> Report:
        """The report of the whole run, as it stands."""
        tests = tuple(self.tests.values())
        return Report(
            machine=self.machine,
            versions=dict(sorted(self.versions.items())),
            git=git,
            settings=self.settings.as_report(self.mode),
            selection=tuple(selection),
            is_interrupted=any(test.outcome is TestOutcome.NOT_RUN for test in tests),
            tests=tests,
        )

    def _references(self) -> tuple[dict[str, Measurement], frozenset[str]]:
        """Measurements by name, and the names that several tests gave to theirs."""
        named: dict[str, Measurement] = {}
        uses: Counter[str] = Counter()
        for test in self.tests.values():
            for name, measurement in named_measurements(test.budgets, test.measurements).items():
                named[name] = measurement
                uses[name] += 1
        ambiguous = frozenset(name for name, count in uses.items() if count > 1)
        return {n: m for n, m in named.items() if n not in ambiguous}, ambiguous


def _say_ambiguity(
    verdict: Verdict, budgets: Sequence[Budget], ambiguous: frozenset[str]
) -> Verdict:
    """The verdict, with the true reason when several tests gave the name it refers to."""
    name = next(
        (
            limit.ratio_to
            for budget in budgets
            for limit in budget.limits
            if (budget.region, limit.metric) == (verdict.region, verdict.metric)
        ),
        None,
    )
    if verdict.outcome is not Outcome.NOT_MEASURED or name not in ambiguous:
        return verdict
    return replace(
        verdict,
        reason=f"{verdict.metric}: several tests name a measurement {name!r}; "
        "give the one that is meant a name of its own",
    )
