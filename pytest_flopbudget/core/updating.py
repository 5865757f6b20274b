"""Which budgets of the settings file become what, after a run that measured.

Rewritten are the absolute bounds of exact metrics in named budgets. What is sampled,
recorded, relative, of a machine, a default or written at a test is told, not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from pytest_flopbudget.core.bounds import Span, absolute_bounds
from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.metrics import UNCOUNTED, Dimension, Kind, Metric, metric_named
from pytest_flopbudget.core.quantity import exact, format_quantity, parse_quantity
from pytest_flopbudget.core.reasons import who
from pytest_flopbudget.core.report import TestOutcome, TestReport
from pytest_flopbudget.core.settings import ProjectSettings
from pytest_flopbudget.core.verdicts import BROKEN, Outcome, Verdict

Written = str | int | float
"""A quantity as TOML has it."""

USABLE: Final = frozenset({TestOutcome.PASSED, TestOutcome.OVER_BUDGET})
"""Outcomes of tests whose measurements may become budgets."""

_FEWEST_DIGITS: Final = 4
_MOST_DIGITS: Final = 9
"""What needs more is easier to read in the base unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One value of the settings file to be replaced."""

    path: tuple[str, ...]
    """Keys from the root of the document to the value."""
    where: str
    """File and key path, as messages name them."""
    old: Written
    new: Written
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What to rewrite, and one sentence for each limit or test that asks for more."""

    edits: tuple[Edit, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """One limit as it bounds one region of one test."""

    test: TestReport
    region: str
    limit: Limit
    value: Fraction | None
    """None where the test gave no value that counts."""

    @property
    def who(self) -> str:
        return who(self.test.id.rpartition("::")[2], self.region)

    @property
    def verdict(self) -> Verdict | None:
        """What makes the limit broken, if it is."""
        return next(
            (
                verdict
                for verdict in self.test.verdicts
                if verdict.outcome in BROKEN - {Outcome.NOT_MEASURED}
                and (verdict.region, verdict.metric) == (self.region, self.limit.metric)
            ),
            None,
        )


def plan_update(
    settings: ProjectSettings, tests: Sequence[TestReport], others: Iterable[TestReport] = ()
) -> Update:
    """What the measurements of the tests make of the budgets.

    others: tests that the run left out, as an earlier report knows them. A budget that
    bounds one of those, or a test that gave no value, is never tightened: it might not
    leave room for what was not measured.
    """
    uses: dict[tuple[str, str], list[_Use]] = {}
    found = [use for test in tests for use in _uses(test, is_of_this_run=True)]
    found += [use for test in others for use in _uses(test, is_of_this_run=False)]
    for use in found:
        uses.setdefault((use.limit.source, use.limit.metric), []).append(use)
    plan = _Plan()
    plan.left += [sentence for test in tests for sentence in _unused(test)]
    homes = {
        (limit.source, limit.metric): (name, limit)
        for name, limits in settings.budgets.items()
        for limit in limits
    }
    for key, used in uses.items():
        why = _why_left(used[0].limit)
        if why is not None:
            plan.leave(used, why)
        elif key in homes:
            name, limit = homes[key]
            raw = settings.written["budgets"][name][limit.metric]
            plan.rewrite(_Case.of(limit, used), name, raw)
        else:
            plan.advise(used)
    return Update(edits=tuple(plan.edits), left=tuple(plan.left))


def _uses(test: TestReport, *, is_of_this_run: bool) -> Iterator[_Use]:
    undercounted = {v.region for v in test.verdicts if v.metric == UNCOUNTED.name and v.is_failure}
    for budget in test.budgets:
        measurement = test.measurement(budget.region)
        is_usable = is_of_this_run and test.outcome in USABLE and budget.region not in undercounted
        for limit in budget.limits:
            found = measurement.values.get(limit.metric) if measurement and is_usable else None
            yield _Use(
                test=test,
                region=budget.region,
                limit=limit,
                value=None if found is None else exact(found.value),
            )


def _unused(test: TestReport) -> Iterator[str]:
    """Why measurements of this test are not used, where it has some."""
    if test.outcome not in USABLE:
        if test.measurements or test.outcome in (TestOutcome.FAILED, TestOutcome.ERROR):
            yield f"{test.id}: {test.outcome.value}, so what it measured is not used"
        return
    for measurement in test.measurements:
        if measurement.is_partial:
            region = f" of region {measurement.name!r}" if measurement.name else ""
            yield f"{test.id}: the measurement{region} is partial, so it is not used"
    for verdict in test.verdicts:
        if verdict.metric == UNCOUNTED.name and verdict.is_failure:
            yield f"{test.id}: not used, as {verdict.reason}"


def _why_left(limit: Limit) -> str | None:
    """Why a limit of this kind is never rewritten; None where it may be."""
    kind = metric_named(limit.metric).kind
    reasons = (
        (kind is Kind.SAMPLED, "it is sampled"),
        (kind is Kind.MACHINE, "it depends on the machine"),
        (kind is Kind.RECORDED, "the test records it itself"),
        (limit.ratio_to is not None, "it is a ratio"),
        (limit.vs_baseline is not None, "it is held against the baseline"),
        (limit.on is not None, f"it is of the machine {limit.on!r}"),
    )
    return next((why for is_so, why in reasons if is_so), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One limit, and all that was measured under it."""

    limit: Limit
    metric: Metric
    measured: tuple[_Use, ...]
    missing: tuple[_Use, ...]

    @staticmethod
    def of(limit: Limit, uses: Iterable[_Use]) -> _Case:
        every = tuple(uses)
        return _Case(
            limit=limit,
            metric=metric_named(limit.metric),
            measured=tuple(use for use in every if use.value is not None),
            missing=tuple(use for use in every if use.value is None),
        )

    @property
    def values(self) -> tuple[Fraction, ...]:
        return tuple(use.value for use in self.measured if use.value is not None)

    def bounds(self) -> Iterator[_Bound]:
        """The bounds that the limit has, where there is a value to hold to them."""
        if self.values:
            for key, amount in (
                ("max", self.limit.maximum),
                ("min", self.limit.minimum),
                ("equals", self.limit.equals),
            ):
                if amount is not None:
                    yield _Bound(case=self, key=key, amount=amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """One bound of a case, and what it should become."""

    case: _Case
    key: str
    amount: Fraction

    @property
    def target(self) -> Fraction:
        """The measured amount that the bound should be, as nearly as it can be written."""
        least, most = min(self.case.values), max(self.case.values)
        return {"max": most, "min": least, "equals": (least + most) / 2}[self.key]

    @property
    def is_held(self) -> bool:
        """Whether all that was measured is within the bound as it is."""
        return self.holds(self.amount)

    def holds(self, amount: Fraction) -> bool:
        """Whether all that was measured would be within this bound at this amount."""
        limit = Limit(
            metric=self.case.metric.name,
            maximum=amount if self.key == "max" else None,
            minimum=amount if self.key == "min" else None,
            equals=amount if self.key == "equals" else None,
            tolerance=self.case.limit.tolerance,
        )
        return all(
            bound.outcome(Span.point(value), self.case.metric.better) is Outcome.WITHIN
            for bound in absolute_bounds(limit, self.case.metric, None)
            for value in self.case.values
        )

    def rewritten(self, old: Written) -> Written | None:
        """The target in the form of the old value, with so few digits as still hold.

        None where no one value holds, which only tests that differ can do to `equals`.
        """
        for new in _spellings(self.target, self.case.metric.dimension, old):
            if self.holds(parse_quantity(new, self.case.metric.dimension)):
                return new
        return None

    def is_tighter(self, new: Written) -> bool:
        """Whether a held maximum or minimum comes nearer to what was measured."""
        amount = parse_quantity(new, self.case.metric.dimension)
        return amount < self.amount if self.key == "max" else amount > self.amount

    @property
    def verb(self) -> str:
        """What a rewrite does to the bound."""
        if self.key == "equals":
            return "set"
        return "tightened" if self.is_held else "loosened"

    @property
    def evidence(self) -> str:
        """What the test measured that decides."""
        uses, values = self.case.measured, self.case.values
        if self.key == "equals":
            return self._measured(uses[[value != self.amount for value in values].index(True)])
        extreme = {"max": "most", "min": "least"}[self.key]
        decider = self._measured(uses[values.index(self.target)])
        return f"{decider}, the {extreme} of {len(values)}" if len(values) > 1 else decider

    def _measured(self, use: _Use) -> str:
        value = Fraction(0) if use.value is None else use.value
        return f"{use.who} measured {format_quantity(value, self.case.metric.dimension)}"


@dataclass(slots=True)
class _Plan:
    """The edits and sentences that have come together so far."""

    edits: list[Edit] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def leave(self, uses: Iterable[_Use], why: str) -> None:
        """Tell of the broken ones among limits that are never rewritten."""
        for use in uses:
            if use.verdict is not None:
                place = f"{use.limit.source}.{use.limit.metric}"
                self.left.append(f"{place}: left alone, as {why}: {use.verdict.reason}")

    def advise(self, uses: Iterable[_Use]) -> None:
        """Tell what to write where the limit is a default, or stands at a test."""
        case = _Case.of(next(iter(uses)).limit, uses)
        for bound in case.bounds():
            if bound.is_held:
                continue
            new = bound.rewritten("")
            advice = _NO_ONE_VALUE if new is None else f"write {_quoted(new)} as {bound.key}"
            where = f"{case.limit.source}.{case.metric.name}"
            self.left.append(f"{where}: not rewritten; {advice} ({bound.evidence})")

    def rewrite(self, case: _Case, name: str, raw: Any) -> None:
        """Rewrite each bound of a limit in a named budget that is not what was measured."""
        for bound in case.bounds():
            is_table = isinstance(raw, Mapping)
            keys = (case.metric.name, bound.key) if is_table else (case.metric.name,)
            old: Written = raw[bound.key] if is_table else raw
            where = ".".join((case.limit.source, *keys))
            if bound.is_held and bound.key == "equals":
                continue
            new = bound.rewritten(old)
            if new is None:
                self.left.append(f"{where}: left alone: {_NO_ONE_VALUE}")
            elif bound.is_held and not bound.is_tighter(new):
                continue
            elif bound.is_held and case.missing:
                blocker = case.missing[0].test.id
                self.left.append(f"{where}: not tightened, as {blocker} was not measured")
            else:
                path = ("tool", "flopbudget", "budgets", name, *keys)
                self.edits.append(
                    Edit(
                        path=path,
                        where=where,
                        old=old,
                        new=new,
                        why=f"{bound.verb}; {bound.evidence}",
                    )
                )


_NO_ONE_VALUE: Final = "the tests that it bounds differ, and no one value holds for all"


def _spellings(amount: Fraction, dimension: Dimension, like: Written) -> Iterator[Written]:
    """The amount in the form of another value: from few digits to all of them."""
    number = int(amount) if amount.denominator == 1 else float(amount)
    if not isinstance(like, str):
        yield number
        return
    for digits in range(_FEWEST_DIGITS, _MOST_DIGITS + 1):
        yield format_quantity(amount, dimension, digits)
    yield f"{number!r} {dimension.unit}" if dimension is not Dimension.ONE else repr(number)


def _quoted(value: Written) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
