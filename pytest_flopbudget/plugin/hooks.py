"""The hooks that follow tests: each a few lines that call the session."""

from __future__ import annotations

import inspect
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.unittest import TestCaseFunction

from pytest_flopbudget.core.codec import decode_test, encode_test
from pytest_flopbudget.core.errors import FlopBudgetError, MeasureError
from pytest_flopbudget.core.markers import resolve_budgets
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport
from pytest_flopbudget.core.settings import ProjectSettings, load_settings
from pytest_flopbudget.core.verdicts import failures
from pytest_flopbudget.plugin.markers import marked_budgets
from pytest_flopbudget.plugin.options import is_worker, read_options, selection_of
from pytest_flopbudget.plugin.state import RUN
from pytest_flopbudget.session.run import BudgetRun
from pytest_flopbudget.session.testrun import Surroundings, TestRun

_SETTINGS_FILE: Final = "pyproject.toml"
_TEST: Final = "flopbudget_test"
_PLAN: Final = "flopbudget_plan"
"""Attributes of pytest's reports, which xdist carries from workers to the controller."""


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
                machines=self._surroundings.machines,
            )
        except FlopBudgetError as error:
            raise pytest.UsageError(str(error)) from None
        self._finished: dict[str, TestReport] = {}
        self._unsent_plan: list[str] = []
        self._report: Report | None = None

    # Which tests have budgets.

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Read the budgets of all tests; a mistake in one is a usage error."""
        self._plan(items, TestOutcome.NOT_RUN)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note budgeted tests that are left out, so that nobody takes them for removed."""
        self._plan(items, TestOutcome.DESELECTED)

    # One test.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give a budgeted test a fresh run, also when it is run again."""
        test = self._run.tests.get(item.nodeid)
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
            with _counted_method(item, run):
                result = yield
            is_complete = True
        finally:
            test = self._finished[item.nodeid] = run.finish(is_complete=is_complete)
        over = failures(test.verdicts)
        if over and self._options.mode == "enforce":
            self._finished[item.nodeid] = replace(test, outcome=TestOutcome.OVER_BUDGET)
            pytest.fail("\n".join(verdict.reason for verdict in over), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
        """Measure the call of a test that does not say itself what to measure."""
        run = pyfuncitem.stash.get(RUN, None)
        if run is None or "flopbudget" in pyfuncitem.fixturenames:
            return (yield)
        with run.counting():
            result = yield
        if run.wants_latency(""):
            self._repeat(pyfuncitem, run)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Send the test's record along with pytest's own report of it."""
        report = yield
        run = item.stash.get(RUN, None)
        if self._unsent_plan:
            setattr(report, _PLAN, self._unsent_plan)
            self._unsent_plan = []
        if run is None:
            return report
        if report.when == "call" or (report.when == "setup" and not report.passed):
            test = self._finished.pop(item.nodeid, None) or self._run.tests[item.nodeid]
            setattr(report, _TEST, encode_test(replace(test, outcome=_outcome(report, test))))
        elif report.when == "teardown":
            del item.stash[RUN]
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
        elif report.when == "teardown" and report.failed:
            self._run.fail_teardown(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker of xdist knows of its machine and libraries."""
        text = getattr(node, "workeroutput", {}).get("flopbudget")
        if text is not None:
            self._run.learn(**json.loads(text))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge what only the whole run can tell, and write the report."""
        if is_worker(self._config):
            output: dict[str, Any] = self._config.workeroutput  # type: ignore[attr-defined]  # set by xdist
            output["flopbudget"] = json.dumps(_facts())
            return
        self._run.resolve_ratios()
        is_enforced = self._options.mode == "enforce"
        if is_enforced and self._run.late_failures and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._report = self._whole_report()
        if self._options.json is not None:
            self._write(self._report, self._options.json, session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table of budgets."""
        from pytest_flopbudget.render.terminal import render_summary

        if self._report is None:
            return
        text = render_summary(self._report)
        if not text.strip():
            return
        terminalreporter.section("compute budgets")
        terminalreporter.write_line(text.rstrip("\n"))
        for verdict in self._run.late_failures:
            terminalreporter.write_line(verdict.reason, red=True)

    def _survey(self, settings: ProjectSettings) -> Surroundings:
        """What every test shares: the machine's names, the baseline."""
        machines: frozenset[str] = frozenset()
        if settings.machines:
            from pytest_flopbudget.meters.machine import machine_facts, matching_machines

            machines = matching_machines(machine_facts(), settings.machines)
        return Surroundings(
            latency=self._options.latency, machines=machines, baseline=self._baseline(settings)
        )

    def _baseline(self, settings: ProjectSettings) -> dict[str, TestReport] | None:
        from pytest_flopbudget.store.files import read_report

        path = self._options.baseline
        if path is None and settings.baseline is not None:
            default = self._config.rootpath / settings.baseline
            path = default if default.exists() else None
        if path is None:
            return None
        return {test.id: test for test in read_report(path).tests}

    def _plan(self, items: Sequence[pytest.Item], outcome: TestOutcome) -> None:
        planned: list[TestReport] = []
        mistakes: list[str] = []
        for item in items:
            try:
                test = self._planned(item, outcome)
            except FlopBudgetError as error:  # noqa: PERF203 - every mistake is told, not the first alone
                mistakes.append(str(error))
            else:
                if test is not None:
                    planned.append(test)
        if mistakes:
            raise pytest.UsageError("\n".join(dict.fromkeys(mistakes)))
        self._run.plan(planned)
        if is_worker(self._config):
            self._unsent_plan += [encode_test(test) for test in planned]

    def _planned(self, item: pytest.Item, outcome: TestOutcome) -> TestReport | None:
        marked = marked_budgets(item, self._run.settings)
        budgets = resolve_budgets(item.nodeid, marked, self._run.settings)
        if not budgets and "flopbudget" not in getattr(item, "fixturenames", ()):
            return None
        _, line, _ = item.location
        return TestReport(
            id=item.nodeid,
            file=item.nodeid.partition("::")[0],
            line=(line or 0) + 1,
            outcome=outcome,
            budgets=budgets,
        )

    def _repeat(self, item: pytest.Function, run: TestRun) -> None:
        """Time the test's own function, with the fixtures that it was called with."""
        if not inspect.iscoroutinefunction(item.obj):
            names = item._fixtureinfo.argnames  # noqa: SLF001 - pytest_pyfunc_call reads it too
            run.repeat(item.obj, {name: item.funcargs[name] for name in names})
        elif run.wants_latency("", is_asked_by_budget=True):
            raise MeasureError(
                f"{item.name}: an async test cannot be repeated, so it has no latency; "
                "measure a callable in it with the flopbudget fixture"
            )

    def _whole_report(self) -> Report:
        git = None
        if self._options.json is not None:
            from pytest_flopbudget.store.git import git_state

            self._run.learn(**_facts())
            git = git_state(self._config.rootpath)
        return self._run.report(selection=selection_of(self._config), git=git)

    def _write(self, report: Report, path: Path, session: pytest.Session) -> None:
        from pytest_flopbudget.store.files import write_report

        try:
            write_report(report, path)
        except FlopBudgetError as error:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            terminal = self._config.pluginmanager.getplugin("terminalreporter")
            if terminal is not None:
                terminal.write_line(f"ERROR: {error}", red=True)


@contextmanager
def _counted_method(item: pytest.Item, run: TestRun) -> Iterator[None]:
    """A block in which a unittest-style test measures its test method.

    pytest runs such a test with set-up and tear-down in one call, and never calls
    `pytest_pyfunc_call` for it.
    """
    if isinstance(item, TestCaseFunction):
        if run.wants_latency("", is_asked_by_budget=True):
            raise MeasureError(
                f"{item.name}: a unittest-style test cannot be repeated, so it has no latency; "
                "write it as a function that takes the flopbudget fixture"
            )
        # An async method is looked up on the instance, any other on the item.
        item.obj = _counted(item.obj, run)
        setattr(item.instance, item.name, item.obj)
    yield


def _counted(method: Any, run: TestRun) -> Any:
    """The test method, counted when it is called."""
    if inspect.iscoroutinefunction(method):

        async def counted_coroutine(*args: Any, **kwargs: Any) -> Any:
            with run.counting():
                return await method(*args, **kwargs)

        return counted_coroutine

    def counted(*args: Any, **kwargs: Any) -> Any:
        with run.counting():
            return method(*args, **kwargs)

    return counted


def _facts() -> dict[str, Any]:
    """What this process knows of its libraries and its machine."""
    from pytest_flopbudget.meters.machine import machine_facts
    from pytest_flopbudget.meters.versions import versions

    return {"versions": versions(), "machine": machine_facts()}


def _outcome(report: pytest.TestReport, test: TestReport) -> TestOutcome:
    """How the test ended, from pytest's own report of the phase that decided it."""
    if hasattr(report, "wasxfail"):
        return TestOutcome.XFAILED if report.skipped else TestOutcome.PASSED
    if report.skipped:
        return TestOutcome.SKIPPED
    if report.passed:
        return TestOutcome.PASSED
    if report.when == "setup":
        return TestOutcome.ERROR
    return test.outcome if test.outcome is TestOutcome.OVER_BUDGET else TestOutcome.FAILED
