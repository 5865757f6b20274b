"""What two reports say beside each other: plain data, for renderers and other programs."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fractions import Fraction

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.attribution import Share
from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.measurement import Uncounted, Value
from pytest_flopbudget.core.metrics import Better, Metric, metric_named
from pytest_flopbudget.core.quantity import exact, ratio
from pytest_flopbudget.core.report import Git
from pytest_flopbudget.core.side_by_side import SideBySide, Timed
from pytest_flopbudget.core.verdicts import Outcome, Verdict


class Standing(enum.Enum):
    """The comparison in one word."""

    WITHIN = "within"
    OVER = "over"
    """At least one budget that fails a test is broken, or a metric regressed."""
    NOTHING_MEASURED = "nothing measured"
    ACCEPTED = "accepted"
    """Broken or loosened, and every such thing was accepted with a reason."""
    NEEDS_APPROVAL = "needs approval"
    """The change loosens or removes a budget, and nobody has accepted that yet."""
    INCOMPLETE = "incomplete"
    """An expected leg of the run is missing, so that nothing can be said of the whole."""

    @property
    def exit_code(self) -> int:
        """What a command or a job that judges ends with."""
        match self:
            case Standing.WITHIN | Standing.ACCEPTED:
                return 0
            case Standing.OVER | Standing.NEEDS_APPROVAL:
                return 1
            case Standing.INCOMPLETE:
                return 2
            case Standing.NOTHING_MEASURED:
                return 3


class Direction(enum.Enum):
    """What a change of budgets does to them."""

    LOOSENED = "loosened"
    """More is allowed than before, or what was bounded no longer is."""
    TIGHTENED = "tightened"
    ADDED = "added"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetChange:
    """One thing that head's budgets allow and base's did not, or the other way round."""

    direction: Direction
    what: str
    """Which part moved, such as `maximum`, `severity` or `limit`."""
    before: str
    after: str
    metric: str = ""
    """Empty where the change is not about one metric."""
    region: str = ""
    tests: tuple[str, ...] = ()
    """Ids of the tests it is about; empty where no test of the two runs shows it."""
    file: str = ""
    """Of the first of these tests, as its line."""
    line: int = 0
    source: str = ""
    """Where the budget is written now, or was until it was removed."""
    measured: int | float | None = None
    """What head measured, where the change is about a single test."""
    legs: tuple[str, ...] = ()
    """As those of a place."""
    bound: Fraction | None = None
    """What is allowed now, in the metric's base unit; None where nothing bounds it any more,
    or the change is about something else than an amount."""
    is_floor: bool = False
    """Whether the bound is the least that is allowed, and not the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a number belongs: a metric of a region of a test."""

    test: str
    file: str
    line: int
    region: str = ""
    metric: str = ""
    legs: tuple[str, ...] = ()
    """The legs of the run that it is about; empty where it is about all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """One metric of one region, as both sides measured it."""

    place: Place
    base: Value | None = None
    head: Value | None = None
    limit: Limit | None = None
    """The head's limit on it."""
    verdict: Verdict | None = None
    movers: tuple[Share, ...] = ()
    """What moved it, largest first; the first few."""
    spenders: tuple[Share, ...] = ()
    """What spends most of it on the head; the first few."""
    history: tuple[int | float, ...] = ()
    """What earlier commits of the base branch measured, oldest first; empty where none is kept."""
    timed: Timed | None = None
    """What running beside the base said; then the two amounts are of that run."""

    @property
    def is_budgeted(self) -> bool:
        """Whether the head puts a limit on it."""
        return self.limit is not None

    @property
    def metric(self) -> Metric:
        """The metric, with the direction that the test gave it."""
        known = self.head or self.base
        return metric_named(self.place.metric, known.better if known else None)

    @property
    def growth(self) -> float:
        """How much worse, as a share of the base; negative for an improvement."""
        if self.timed is not None:
            return 0.0 if self.timed.ratio is None else self.timed.ratio.estimate - 1
        if self.base is None or self.head is None or self.base.value == self.head.value:
            return 0.0
        worse = exact(self.head.value) - exact(self.base.value)
        if self.metric.better is Better.HIGHER:
            worse = -worse
        if self.base.value == 0:
            return float("inf") if worse > 0 else float("-inf")
        return ratio(worse, abs(self.base.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A test, or a region of one, that stands on one side only, and why."""

    place: Place
    reason: str
    budget: str = ""
    """Its budget in words; empty where it has none."""
    is_left_out: bool = False
    """Whether the run was not asked for it, or ended before it, though the base measured it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """A test that has another id on the head, and costs the same to the last digit."""

    before: str
    after: str
    legs: tuple[str, ...] = ()
    """As those of a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactChange:
    """A fact of the machine, or the version of a library, that is not the same on both sides."""

    name: str
    before: str
    """Empty where the side does not know it."""
    after: str
    legs: tuple[str, ...] = ()
    """As those of a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UncountedRow:
    """An operator with no formula that ran on the head."""

    place: Place
    operator: Uncounted


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How the times of one leg were taken beside those of the base."""

    run: SideBySide
    legs: tuple[str, ...] = ()
    """As those of a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One thing that would fail, and the line by which somebody accepted it."""

    acceptance: Acceptance
    delta: Delta | None = None
    """The broken limit; None where a changed budget was accepted."""
    change: BudgetChange | None = None
    """The loosened budget; None where a broken limit was accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two reports beside each other, the most important first."""

    standing: Standing
    has_base: bool
    base_git: Git | None = None
    head_git: Git | None = None
    loosened: tuple[BudgetChange, ...] = ()
    tightened: tuple[BudgetChange, ...] = ()
    added: tuple[BudgetChange, ...] = ()
    over: tuple[Delta, ...] = ()
    """Broken limits that fail: each with its verdict."""
    failed: tuple[Delta, ...] = ()
    """Limits of tests that failed before these were measured. They are not judged; a gate, which
    has to have an answer, does not let them pass."""
    warned: tuple[Delta, ...] = ()
    """Broken limits that only warn."""
    undecided: tuple[Delta, ...] = ()
    """Limits that could not be judged: inconclusive, not gated here, no baseline."""
    changed: tuple[Delta, ...] = ()
    """Metrics that moved, over budget or not, as far as two runs can compare them."""
    new: tuple[Entry, ...] = ()
    removed: tuple[Entry, ...] = ()
    not_measured: tuple[Entry, ...] = ()
    renamed: tuple[Rename, ...] = ()
    incomparable: tuple[Delta, ...] = ()
    """Sampled metrics of two separate runs, and those of two machines: for information,
    never a verdict."""
    timed: tuple[Delta, ...] = ()
    """Every region that ran beside the base, or should have; each with what came of it."""
    timings: tuple[Timings, ...] = ()
    """How they were taken."""
    uncounted: tuple[UncountedRow, ...] = ()
    unchanged: tuple[str, ...] = ()
    """Ids of the tests that cost the same, and are within budget."""
    machine_changes: tuple[FactChange, ...] = ()
    version_changes: tuple[FactChange, ...] = ()
    versions: tuple[str, ...] = ()
    """The head's libraries, such as `torch 2.13.0`."""
    measured: tuple[str, ...] = ()
    """Ids of the tests of which the head measured anything."""
    within: tuple[Place, ...] = ()
    """Where a limit holds."""
    notes: tuple[str, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    pre_existing: tuple[Delta, ...] = ()
    """Broken limits that the base breaks too, and no less: they are not the change's doing."""
    base_age: int = 0
    """How many commits older than the right base the one is that was compared with."""
    missing_legs: tuple[str, ...] = ()
    """Legs of the run that were expected and are not there."""

    @property
    def measured_tests(self) -> int:
        """How many tests were measured."""
        return len(self.measured)

    @property
    def limits_within(self) -> int:
        """How many limits hold."""
        return len(self.within)

    @property
    def regressed(self) -> tuple[Delta, ...]:
        """Those that fail because they grew against the base by more than is allowed."""
        return tuple(d for d in self.over if d.verdict and d.verdict.outcome is Outcome.REGRESSED)

    @property
    def improved(self) -> tuple[Delta, ...]:
        """What moved for the better."""
        return tuple(delta for delta in self.changed if delta.growth < 0)
