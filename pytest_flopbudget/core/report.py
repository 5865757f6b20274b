"""One run's report: what was measured, what was allowed, and what came of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pytest_flopbudget.core.budgets import Budget, Limit
from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.side_by_side import SideBySide
from pytest_flopbudget.core.verdicts import Verdict

SCHEMA_VERSION: Final = 1


class TestOutcome(enum.Enum):
    """How a budgeted test ended."""

    __test__ = False  # pytest would otherwise take the name for a test class

    PASSED = "passed"
    FAILED = "failed"
    """The test's own code failed."""
    OVER_BUDGET = "over budget"
    ERROR = "error"
    """Set-up or tear-down failed."""
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    DESELECTED = "deselected"
    NOT_RUN = "not run"
    """Collected, but the run ended before its turn."""


BROKEN_OFF: Final = frozenset({TestOutcome.FAILED, TestOutcome.ERROR, TestOutcome.OVER_BUDGET})
"""How a test ends that pytest fails, of which not every limit may have been judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestReport:
    """One budgeted test."""

    __test__ = False  # as above

    id: str
    """pytest's node id, relative to the root of the run."""
    file: str
    """Path relative to the root of the run, with forward slashes."""
    line: int
    """Line of the test's definition, counted from 1; of its marker where that is known."""
    outcome: TestOutcome
    measurements: tuple[Measurement, ...] = ()
    budgets: tuple[Budget, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    # Found by key: who looks for each of many regions must not look through all of them.
    _measured: Mapping[str, Measurement] = field(init=False, repr=False, compare=False)
    _limits: Mapping[tuple[str, str], Limit] = field(init=False, repr=False, compare=False)
    _judged: Mapping[tuple[str, str], Verdict] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Backwards, for of two under one key the first is meant.
        measured = {m.name: m for m in reversed(self.measurements) if not m.is_partial}
        limits = {
            (budget.region, limit.metric): limit
            for budget in reversed(self.budgets)
            for limit in reversed(budget.limits)
        }
        judged = {(v.region, v.metric): v for v in reversed(self.verdicts)}
        for name, value in (("_measured", measured), ("_limits", limits), ("_judged", judged)):
            object.__setattr__(self, name, value)

    def measurement(self, name: str) -> Measurement | None:
        """The complete measurement of this name, if there is one."""
        return self._measured.get(name)

    def limit(self, region: str, metric: str) -> Limit | None:
        """The limit on the metric of the region."""
        return self._limits.get((region, metric))

    def verdict(self, region: str, metric: str) -> Verdict | None:
        """The verdict on the metric of the region."""
        return self._judged.get((region, metric))


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """The state of the source that was measured."""

    commit: str
    branch: str | None
    is_dirty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The budgets as they stood in the settings file when the run began."""

    mode: str = "enforce"
    """Of this run, by whatever set it."""
    configured_mode: str = "enforce"
    """That the project's own configuration sets, which a command line may overrule."""
    strict: bool = True
    file: str | None = None
    """The settings file, relative to the root of the run."""
    budgets: Mapping[str, Any] = field(default_factory=dict)
    """The named budgets as they were written: name to metric to value."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    match: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run, complete or not."""

    schema_version: int = SCHEMA_VERSION
    machine: Mapping[str, Any] = field(default_factory=dict)
    """Facts that must match before latencies are compared."""
    versions: Mapping[str, str] = field(default_factory=dict)
    git: Git | None = None
    settings: Settings = field(default_factory=Settings)
    selection: tuple[str, ...] = ()
    """The options and paths that say which tests to run, such as ``-k resnet`` or ``tests``;
    empty for a run that was asked for everything."""
    is_interrupted: bool = False
    tests: tuple[TestReport, ...] = ()
    """In collection order."""
    notes: tuple[str, ...] = ()
    """What a reader must know, such as a latency taken with two threads."""
    side_by_side: SideBySide | None = None
    """How the tests' times compare with those of a base that ran beside them, if one did."""

    def test(self, test_id: str) -> TestReport | None:
        """The test of this id, if it is in the report."""
        return next((test for test in self.tests if test.id == test_id), None)
