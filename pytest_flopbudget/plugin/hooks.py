"""The hooks that follow tests: each a few lines that call the session."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Collection, Generator, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from pytest_flopbudget.core.codec import decode_test, encode_test
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.markers import resolve_budgets
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport
from pytest_flopbudget.core.settings import ProjectSettings, load_settings
from pytest_flopbudget.core.verdicts import failures
from pytest_flopbudget.plugin.calls import (
    has_failed,
    measured_function,
    measured_item,
    must_not_pass,
)
from pytest_flopbudget.plugin.markers import marked_budgets
from pytest_flopbudget.plugin.options import (
    configured_mode,
    is_only_looking,
    is_worker,
    plain_id,
    read_options,
    selection_of,
    uncollected_of,
)
from pytest_flopbudget.plugin.state import RUN, TURNS
from pytest_flopbudget.session.run import BudgetRun
from pytest_flopbudget.session.testrun import Surroundings, TestRun

_SETTINGS_FILE: Final = "pyproject.toml"
_TEST: Final = "flopbudget_test"
_PLAN: Final = "flopbudget_plan"
"""Attributes of pytest's reports, which xdist carries from workers to the controller."""
_HANDED_OVER: Final = "flopbudget"
"""What a worker of xdist gives its controller at its end."""
_CUT_SHORT: Final = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)


class RunHooks:
    """Follows the tests of one pytest process, and reports at the end."""

    def __init__(self, config: pytest.Config) -> None:
        """Raise pytest.UsageError when settings or options are wrong."""
        self._config = config
        self._options = read_options(config)
        try:
            path = config.rootpath / _SETTINGS_FILE
            settings = load_settings(path if path.exists() else None, display=_SETTINGS_FILE)
            self._surroundings = self._survey(settings)
            self._run = BudgetRun(
                settings=settings,
                mode=self._options.mode,
                configured_mode=configured_mode(self._config),
            )
        except FlopBudgetError as error:
            raise pytest.UsageError(str(error)) from None
        self._finished: dict[str, TestReport] = {}
        self._unsent_plan: list[str] = []
        self._is_all_collected = True
        self._report: Report | None = None

    @property
    def settings(self) -> ProjectSettings:
        """The project's settings, as they were when the run began."""
        return self._run.settings

    @property
    def report(self) -> Report | None:
        """The report of the whole run, once it has ended."""
        return self._report

    # Which tests have budgets.

    def plan(self, session: pytest.Session, collected: Sequence[pytest.Item]) -> None:
        """Read the budgets of all tests that were collected, also of those then left out.

        A mistake in one is a usage error; a worker of xdist hands it to its controller,
        and runs nothing.
        """
        if session.testsfailed:
            self._is_all_collected = False
        kept = {item.nodeid for item in session.items}
        try:
            planned = self._planned(collected, kept)
        except pytest.UsageError as error:
            if not is_worker(self._config):
                raise
            session.items.clear()
            self._hand_over(mistakes=str(error))
            return
        self._run.plan(planned)
        if is_worker(self._config):
            self._unsent_plan = [encode_test(test) for test in planned]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note that the tests of a file are not known, so that nobody takes them for removed."""
        if report.failed:
            self._is_all_collected = False

    # One test.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give a budgeted test a fresh run, also when it is run again."""
        test = self._run.tests.get(plain_id(self._config, item.nodeid))
        if test is not None:
            planned = replace(test, measurements=(), verdicts=())
            item.stash[RUN] = TestRun(planned, item.name, self._surroundings)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Judge what the test measured, and fail it when it is over budget."""
        run = item.stash.get(RUN, None)
        if run is None:
            return (yield)
        is_complete = False
        try:
            with measured_item(item, run):
                result = yield
            is_complete = not has_failed(item)
        finally:
            test = self._finished[item.nodeid] = run.finish(is_complete=is_complete)
        over = failures(test.verdicts)
        # Not enforced, a budget fails no test: nor the one that must fail, and does for it.
        is_failing = self._options.mode == "enforce" or must_not_pass(item)
        if is_complete and over and is_failing:
            self._finished[item.nodeid] = replace(test, outcome=TestOutcome.OVER_BUDGET)
            pytest.fail("\n".join(verdict.reason for verdict in over), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
        """Measure the call of a test that does not say itself what to measure."""
        run = pyfuncitem.stash.get(RUN, None)
        if run is None:
            return (yield)
        return (yield from measured_function(pyfuncitem, run))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Send the test's record along with pytest's own report of it."""
        report = yield
        if call.excinfo is not None and isinstance(call.excinfo.value, FlopBudgetError):
            # The message names the place and the mend; torch's and our frames do not.
            report.longrepr = f"{item.nodeid}: {call.excinfo.value}"
        run = item.stash.get(RUN, None)
        if self._unsent_plan and report.when == "setup":
            setattr(report, _PLAN, self._unsent_plan)
            self._unsent_plan = []
        if run is None:
            return report
        test = None
        if report.when == "call":
            # A subtest has reports of its own, while its test has not finished.
            test = self._finished.pop(item.nodeid, None)
        elif report.when == "setup" and not report.passed:
            test = run.finish(is_complete=False)
        elif report.when == "teardown":
            del item.stash[RUN]
        if test is not None:
            setattr(report, _TEST, encode_test(_ended(test, _outcome(report, test))))
        return report

    # The whole run.

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's record, in the process that reports."""
        if is_worker(self._config):
            return
        self._run.plan(decode_test(text) for text in getattr(report, _PLAN, ()))
        text = getattr(report, _TEST, None)
        if text is not None:
            self._run.receive(decode_test(text))
        elif report.failed and report.when == "teardown":
            self._run.fail_teardown(plain_id(self._config, report.nodeid))
        elif report.failed and report.when != "setup":
            # A subtest, or what xdist says of a test that ended its worker.
            self._run.fail(plain_id(self._config, report.nodeid))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker of xdist hands over at its end.

        Raises pytest.UsageError for the mistakes that it found in markers.
        """
        handed: dict[str, Any] = getattr(node, "workeroutput", {}).get(_HANDED_OVER, {})
        if "mistakes" in handed:
            raise pytest.UsageError(handed["mistakes"])
        if handed:
            self._run.plan(decode_test(text) for text in handed["plan"])
            for text in handed["cut_off"]:
                self._run.receive(decode_test(text))
            self._run.learn(**json.loads(handed["facts"]))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge what only the whole run can tell, and write the report."""
        # Left here by Ctrl-C, which ends a test with no report of pytest's.
        cut_off = [replace(t, outcome=TestOutcome.NOT_RUN) for t in self._finished.values()]
        if is_worker(self._config):
            self._hand_over(
                plan=self._unsent_plan,
                cut_off=[encode_test(test) for test in cut_off],
                facts=json.dumps(_facts()),
            )
            return
        if is_only_looking(self._config) or session.exitstatus == pytest.ExitCode.USAGE_ERROR:
            return  # nothing was run, so that a report would only hide an earlier one
        for test in cut_off:
            self._run.receive(test)
        self._run.resolve_ratios(uncollected=uncollected_of(self._config))
        if self._late_failures() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._report = self._whole_report(session)
        if self._options.is_reported and self._surroundings.turns is None:
            self._write(self._report, session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table of budgets."""
        from pytest_flopbudget.render.terminal import WIDTH, render_summary

        if self._report is None:
            return
        text = render_summary(self._report)
        if not text.strip():
            return
        # The line of the last test may still be open, as after Ctrl-C.
        terminalreporter.ensure_newline()
        terminalreporter.section("compute budgets")
        terminalreporter.write_line(text.rstrip("\n"))
        for reason in self._late_failures():
            for line in textwrap.wrap(reason, WIDTH, subsequent_indent="  "):
                terminalreporter.write_line(line, red=True)

    def _late_failures(self) -> list[str]:
        """Why the run fails for what failed no test, where budgets are enforced."""
        if self._options.mode != "enforce":
            return []
        reasons = [verdict.reason for verdict in self._run.late_failures]
        if self._options.strict_latency:
            reasons += [
                f"{verdict.reason} (inconclusive fails the run: --flopbudget-strict-latency)"
                for verdict in self._run.inconclusive()
            ]
        return reasons

    def _survey(self, settings: ProjectSettings) -> Surroundings:
        """What every test shares: the machine's names, the baseline."""
        machines: frozenset[str] = frozenset()
        if settings.machines:
            from pytest_flopbudget.meters.machine import machines_here

            machines = machines_here(settings.machines)
        baseline = self._baseline(settings)
        return Surroundings(
            latency=self._options.latency,
            lines=self._options.lines,
            process_memory=self._options.process_memory,
            machines=machines,
            baseline=None if baseline is None else {test.id: test for test in baseline.tests},
            baseline_machine={} if baseline is None else baseline.machine,
            turns=self._config.stash.get(TURNS, None),
        )

    def _baseline(self, settings: ProjectSettings) -> Report | None:
        from pytest_flopbudget.store.files import read_report

        path = self._options.baseline
        if path is None:
            default = self._config.rootpath / settings.baseline
            path = default if default.exists() else None
        if path is None:
            return None
        return read_report(path)

    def _planned(self, items: Sequence[pytest.Item], kept: Collection[str]) -> list[TestReport]:
        """The tests with budgets among these, in their order."""
        planned: list[TestReport] = []
        mistakes: list[str] = []
        for item in items:
            outcome = TestOutcome.NOT_RUN if item.nodeid in kept else TestOutcome.DESELECTED
            try:
                test = self._budgeted(item, outcome)
            except FlopBudgetError as error:
                mistakes.append(str(error))
            else:
                if test is not None:
                    planned.append(test)
        if mistakes:
            raise pytest.UsageError("\n".join(dict.fromkeys(mistakes)))
        return planned

    def _budgeted(self, item: pytest.Item, outcome: TestOutcome) -> TestReport | None:
        marked = marked_budgets(item, self._run.settings)
        test_id = plain_id(self._config, item.nodeid)
        budgets = resolve_budgets(test_id, marked, self._run.settings)
        turns = self._surroundings.turns
        is_wanted = turns is not None and test_id in turns.tests
        if not (budgets or is_wanted or "flopbudget" in getattr(item, "fixturenames", ())):
            return None
        _, line, _ = item.location
        return TestReport(
            id=test_id,
            file=test_id.partition("::")[0],
            line=(line or 0) + 1,
            outcome=outcome,
            budgets=budgets,
        )

    def _hand_over(self, **what: Any) -> None:
        """Let a worker's controller have this when the worker ends; the first call counts."""
        output: dict[str, Any] = self._config.workeroutput  # type: ignore[attr-defined]  # set by xdist
        output.setdefault(_HANDED_OVER, what)

    def _whole_report(self, session: pytest.Session) -> Report:
        git = None
        if self._options.is_reported or self._options.update:
            from pytest_flopbudget.store.git import git_state

            self._run.learn(**_facts())
            git = git_state(self._config.rootpath)
        is_whole = self._is_all_collected and session.exitstatus not in _CUT_SHORT
        return self._run.report(
            selection=selection_of(self._config), git=git, is_interrupted=not is_whole
        )

    def _write(self, report: Report, session: pytest.Session) -> None:
        from pytest_flopbudget.render.html import render_html
        from pytest_flopbudget.store.files import write_report, write_text

        try:
            if self._options.json is not None:
                write_report(report, self._options.json)
            if self._options.html is not None:
                write_text(self._options.html, render_html(report))
        except FlopBudgetError as error:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            terminal = self._config.pluginmanager.getplugin("terminalreporter")
            if terminal is not None:
                terminal.write_line(f"ERROR: {error}", red=True)
            else:
                sys.stderr.write(f"ERROR: {error}\n")


def _facts() -> dict[str, Any]:
    """What this process knows of its libraries and its machine."""
    from pytest_flopbudget.meters.machine import machine_facts
    from pytest_flopbudget.meters.versions import versions

    return {"versions": versions(), "machine": machine_facts()}


def _ended(test: TestReport, outcome: TestOutcome) -> TestReport:
    """The test with its outcome. What a skip cut short is no measurement of anything."""
    measured = test.measurements
    if outcome is TestOutcome.SKIPPED:
        measured = tuple(m for m in measured if not m.is_partial)
    return replace(test, outcome=outcome, measurements=measured)


def _outcome(report: pytest.TestReport, test: TestReport) -> TestOutcome:
    """How the test ended, from pytest's own report of the phase that decided it."""
    if hasattr(report, "wasxfail"):
        # Where budgets are not enforced, it only seems to pass: they are why it should not.
        is_over = bool(failures(test.verdicts))
        return TestOutcome.XFAILED if report.skipped or is_over else TestOutcome.PASSED
    if report.skipped:
        return TestOutcome.SKIPPED
    if report.passed:
        return TestOutcome.PASSED
    if report.when == "setup":
        return TestOutcome.ERROR
    return test.outcome if test.outcome is TestOutcome.OVER_BUDGET else TestOutcome.FAILED
