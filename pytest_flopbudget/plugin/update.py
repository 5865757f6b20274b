"""--flopbudget-update: what it refuses, and the hooks that act when the run has ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.pairing import narrowing
from pytest_flopbudget.plugin.options import Options
from pytest_flopbudget.session.update import refusal, update_project

if TYPE_CHECKING:
    from pytest_flopbudget.plugin.hooks import RunHooks

_RAN_TO_ITS_END: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


def check_update(options: Options) -> None:
    """Raise pytest.UsageError where an update must not be."""
    fault = refusal(options.mode, os.environ)
    if fault is not None:
        raise pytest.UsageError(fault)


class UpdateHooks:
    """Updates budgets and baseline from the report of the run, and says what changed."""

    def __init__(self, config: pytest.Config, followed: RunHooks) -> None:
        self._config = config
        self._followed = followed
        self._said: tuple[str, ...] = ()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Act after the run's own hooks, which come first and make the report."""
        report = self._followed.report
        if report is None:
            return  # a worker of xdist, whose controller has the report, or nothing was run
        if session.exitstatus not in _RAN_TO_ITS_END:
            self._said = ("the run did not come to its end, so that nothing is changed",)
            return
        is_whole = (
            session.exitstatus == pytest.ExitCode.OK
            and not narrowing(report)
            and not report.is_interrupted
            and _names_the_whole_suite(self._config)
        )
        try:
            self._said = update_project(
                report, self._followed.settings, root=self._config.rootpath, is_whole=is_whole
            )
        except FlopBudgetError as error:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            self._said = (f"ERROR: {error}",)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say every change, below the table of budgets."""
        if self._said:
            terminalreporter.section("budget update")
            for line in self._said:
                terminalreporter.write_line(line)


def _names_the_whole_suite(config: pytest.Config) -> bool:
    """Whether the arguments leave nothing out: none but the root, or the settings' own."""
    if config.option.ignore or config.option.ignore_glob:
        return False
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return True
    start = config.invocation_params.dir
    return any((start / argument).resolve() == config.rootpath for argument in config.args)
