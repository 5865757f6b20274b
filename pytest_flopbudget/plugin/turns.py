"""The hooks of a worker of `flopbudget ab`: the tests it was given, in the order it was given."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import pytest

from pytest_flopbudget.plugin.options import plain_id
from pytest_flopbudget.plugin.state import RUN
from pytest_flopbudget.session.turns import Turns

_RAN_TO_ITS_END: Final = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)


class TurnHooks:
    """Runs the tests that are timed by turns, and tells how each ended."""

    def __init__(self, config: pytest.Config, turns: Turns) -> None:
        self._config = config
        self._turns = turns
        self._why = ""
        self._untimed: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Leave out every other test, after all others had their say."""
        yield
        places = {test_id: place for place, test_id in enumerate(self._turns.tests)}
        kept = [item for item in items if plain_id(self._config, item.nodeid) in places]
        rest = [item for item in items if plain_id(self._config, item.nodeid) not in places]
        items[:] = sorted(kept, key=lambda item: places[plain_id(self._config, item.nodeid)])
        self._config.hook.pytest_deselected(items=rest)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """All is imported by now: from here on the two sides share one core."""
        self._turns.share_core()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """Note why regions of this test cannot be timed."""
        run = item.stash.get(RUN, None)
        self._untimed = {} if run is None else dict(run.untimed)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the first thing that went wrong in the test, or that it was skipped."""
        if report.skipped:
            self._why = self._why or "it was skipped"
        elif report.failed:
            self._why = self._why or f"its {report.when} failed: {_first_line(report)}"

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Tell the conductor that the test has ended."""
        self._turns.end(plain_id(self._config, nodeid), why=self._why, untimed=self._untimed)
        self._why, self._untimed = "", {}

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Tell the conductor that no more tests come, where all of them had their turn."""
        if exitstatus in _RAN_TO_ITS_END:
            self._turns.finish()


def _first_line(report: pytest.TestReport) -> str:
    """What went wrong, in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text: str = report.longreprtext if crash is None else crash.message
    return text.strip().partition("\n")[0]
