"""The gate's policy over a comparison: what is not the change's doing, and what was accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.bounds import Span, baseline_bound
from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.comparison import (
    Accepted,
    BudgetChange,
    Comparison,
    Delta,
    Standing,
)
from pytest_flopbudget.core.loosening import lost_test
from pytest_flopbudget.core.metrics import UNCOUNTED, Kind, metric_named
from pytest_flopbudget.core.pairing import limit_of, value_of
from pytest_flopbudget.core.quantity import exact, format_change, format_pair
from pytest_flopbudget.core.report import BROKEN_OFF, Report, TestOutcome, TestReport
from pytest_flopbudget.core.side_by_side import TimedOutcome
from pytest_flopbudget.core.timings import change_beside_base
from pytest_flopbudget.core.verdicts import Outcome, Verdict

_LONGEST_LINE: Final = 200


def settle(
    comparison: Comparison, base: Report | None, acceptances: Sequence[Acceptance]
) -> Comparison:
    """The comparison with what does not fail set apart, and the standing that is left.

    base: the report that it was made with. A limit that the base breaks too, and no less,
    is `pre_existing`. What an acceptance covers is `accepted`. A budgeted test that the
    head's run left out, and the base's did not, counts as loosened. One that failed before it
    was measured is over budget, unless the base's did so too.
    """
    sides = _Base.of(comparison, base)
    own: list[Delta] = []
    pre_existing: list[Delta] = []
    for delta in comparison.over:
        (pre_existing if sides.breaks_too(delta) else own).append(delta)
    for delta in comparison.failed:
        (pre_existing if sides.failed_too(delta) else own).append(delta)
    failed = {delta.place.test for delta in comparison.failed}
    book = _Book(acceptances=tuple(acceptances))
    over = tuple(delta for held in own for delta in book.settled_delta(held))
    loosened = tuple(
        left
        for change in (*comparison.loosened, *sides.left_out(comparison))
        for left in book.settled_change(change)
    )
    return replace(
        comparison,
        standing=_standing(comparison, bool(over), bool(loosened), bool(book.accepted)),
        over=over,
        failed=(),
        not_measured=tuple(e for e in comparison.not_measured if e.place.test not in failed),
        loosened=loosened,
        pre_existing=tuple(pre_existing),
        accepted=tuple(book.accepted),
        notes=(*comparison.notes, *book.notes, *book.idle()),
    )


def hold_open(comparison: Comparison, head: Report) -> Comparison:
    """The settled comparison, which does not pass where the head's run never reached its end.

    What is over budget is so whatever the rest would say; of all else nothing is known.
    """
    if not head.is_interrupted or comparison.standing is Standing.OVER:
        return comparison
    return replace(comparison, standing=Standing.INCOMPLETE)


def _standing(
    comparison: Comparison, is_over: bool, is_loosened: bool, is_accepted: bool
) -> Standing:
    if is_over:
        return Standing.OVER
    if is_loosened:
        return Standing.NEEDS_APPROVAL
    if is_accepted:
        return Standing.ACCEPTED
    return Standing.WITHIN if comparison.measured_tests else Standing.NOTHING_MEASURED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """The base's tests by the id that the head gives them, and what else is known of regions."""

    tests: Mapping[str, TestReport]
    uncounted: Mapping[tuple[str, str], frozenset[str]]
    """The head's operators that have no formula."""
    timed: Mapping[tuple[str, str], Delta]
    """What was timed beside the base."""

    @staticmethod
    def of(comparison: Comparison, base: Report | None) -> _Base:
        new_ids = {rename.before: rename.after for rename in comparison.renamed}
        uncounted: dict[tuple[str, str], frozenset[str]] = {}
        for row in comparison.uncounted:
            key = row.place.test, row.place.region
            uncounted[key] = uncounted.get(key, frozenset()) | {row.operator.operator}
        return _Base(
            tests={new_ids.get(test.id, test.id): test for test in base.tests} if base else {},
            uncounted=uncounted,
            timed={(d.place.test, d.place.region): d for d in comparison.timed},
        )

    def breaks_too(self, delta: Delta) -> bool:
        """Whether the base breaks this limit as well, and the head does so by no more."""
        test, now = self.tests.get(delta.place.test), delta.verdict
        if test is None or now is None or now.outcome is Outcome.REGRESSED:
            return False
        # Where its test was expected to fail, the base's break was held against nobody.
        if test.outcome is TestOutcome.XFAILED:
            return False
        key = delta.place.region, delta.place.metric
        then = test.verdict(*key)
        if then is None or not then.is_failure or then.outcome is not now.outcome:
            return self._broke_beside(delta, test, now)
        if delta.place.metric == UNCOUNTED.name:
            return self._uncounted_now(delta) <= _uncounted_then(test, delta.place.region)
        if now.outcome is Outcome.NOT_MEASURED:
            return True
        return _is_no_worse(delta, then, now) and not _has_regressed(delta, test)

    def _broke_beside(self, delta: Delta, test: TestReport, now: Verdict) -> bool:
        """Whether the base broke its bound on a time when it ran beside the head.

        A base that runs beside the head is not timed in its own run.
        """
        row = self.timed.get((delta.place.test, delta.place.region))
        limit = limit_of(test, delta.place.region, delta.place.metric)
        if row is None or row.timed is None or row.base is None or limit is None:
            return False
        is_other = row.place.metric != delta.place.metric or now.outcome is not Outcome.OVER
        is_slower = row.timed.outcome is TimedOutcome.REGRESSED
        is_lenient = limit.severity is Severity.WARN or limit.ratio_to is not None
        if is_other or is_slower or is_lenient or now.value is None or now.bound is None:
            return False
        is_above = exact(now.value) > exact(now.bound)
        bound = limit.maximum if is_above else limit.minimum
        sides = exact(row.base.value), _near_end(delta, exact(now.value), is_above=is_above)
        return bound is not None and all(
            _is_beyond(side, bound, is_above=is_above) for side in sides
        )

    def failed_too(self, delta: Delta) -> bool:
        """Whether the base's test failed before it measured this as well."""
        test = self.tests.get(delta.place.test)
        if test is None or test.outcome not in BROKEN_OFF:
            return False
        return test.verdict(delta.place.region, delta.place.metric) is None

    def _uncounted_now(self, delta: Delta) -> frozenset[str]:
        return self.uncounted.get((delta.place.test, delta.place.region), frozenset())

    def left_out(self, comparison: Comparison) -> Iterator[BudgetChange]:
        """The budgeted tests that the head's run did not come to, and nothing else tells of."""
        told = {t for change in comparison.loosened if change.what == "test" for t in change.tests}
        for entry in comparison.not_measured:
            test = self.tests.get(entry.place.test)
            if test is None or not entry.is_left_out or not test.budgets:
                continue
            if entry.place.test not in told:
                yield lost_test(test, replace(test, id=entry.place.test), entry.reason)


def _uncounted_then(test: TestReport, region: str) -> frozenset[str]:
    measurement = test.measurement(region)
    rows = () if measurement is None else measurement.uncounted
    return frozenset(row.operator for row in rows)


def _is_no_worse(delta: Delta, then: Verdict, now: Verdict) -> bool:
    """Whether the head is on the same side of its bound as the base, and no farther out.

    Timings of two runs cannot be held against each other: of those it is enough that both
    break their bound. A bound that was tightened must not be what breaks.
    """
    if None in (then.value, then.bound, now.value, now.bound):
        return False
    before, was = exact(then.value or 0), exact(then.bound or 0)
    after, bound = exact(now.value or 0), exact(now.bound or 0)
    is_above = after > bound
    if is_above != (before > was):
        return False
    if not _is_beyond(_near_end(delta, after, is_above=is_above), was, is_above=is_above):
        return False
    if delta.metric.kind is Kind.SAMPLED or (delta.metric.kind is Kind.MACHINE and not delta.base):
        return True
    if delta.limit is not None and delta.limit.ratio_to is not None:
        # What it is a share of may have moved: the shares are held against each other.
        before, after = before * bound, after * was
    return after <= before if is_above else after >= before


def _near_end(delta: Delta, value: Fraction, *, is_above: bool) -> Fraction:
    """The end of the head's interval that is nearest to what is allowed."""
    known = delta.head
    end = None if known is None else (known.low if is_above else known.high)
    return value if end is None else exact(end)


def _is_beyond(value: Fraction, bound: Fraction, *, is_above: bool) -> bool:
    return value > bound if is_above else value < bound


def _has_regressed(delta: Delta, test: TestReport) -> bool:
    """Whether the limit's bound on growth, which the absolute one hides, is broken as well."""
    allowed = None if delta.limit is None else delta.limit.vs_baseline
    before = value_of(test, delta.place.region, delta.place.metric)
    if allowed is None or before is None or delta.head is None or delta.base is None:
        return False
    if delta.metric.kind is Kind.SAMPLED:
        return False
    better = delta.metric.better
    bound = baseline_bound(exact(before.value), allowed, better)
    head = Span.point(exact(delta.head.value))
    return bound.outcome(head, better) is Outcome.REGRESSED


@dataclass(slots=True, kw_only=True)
class _Book:
    """The acceptances, and what each was good for."""

    acceptances: tuple[Acceptance, ...]
    accepted: list[Accepted] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    meant: set[Acceptance] = field(default_factory=set)
    """Those that speak of something that fails, whether or not it is within their cap."""

    def settled_delta(self, delta: Delta) -> Iterator[Delta]:
        """The delta, unless it is accepted; with what was accepted in vain in its sentence."""
        verdict, reached = delta.verdict, _Reached.of(delta)
        if verdict is None or reached is None:
            yield delta
            return
        short: Acceptance | None = None
        for acceptance in self._for(delta.place.test, delta.place.metric, reached):
            if _reaches(acceptance, reached.by(acceptance)):
                self.accepted.append(Accepted(acceptance=acceptance, delta=delta))
                return
            short = short or acceptance
        if short is not None:
            reason = f"{verdict.reason}; {_exceeded(short, reached.by(short), 'this')}"
            delta = replace(delta, verdict=replace(verdict, reason=reason))
        yield delta

    def settled_change(self, change: BudgetChange) -> Iterator[BudgetChange]:
        """What is left of the change once the tests that an acceptance covers are taken out."""
        covering: dict[Acceptance | None, list[str]] = {}
        for name in change.tests or (change.source,):
            covering.setdefault(self._covering(change, name), []).append(name)
        if None not in covering and len(covering) == 1:
            self.accepted.append(Accepted(acceptance=self._only(covering), change=change))
            return
        for acceptance, names in covering.items():
            part = _part_of(change, names)
            if acceptance is None:
                yield part
            else:
                self.accepted.append(Accepted(acceptance=acceptance, change=part))

    @staticmethod
    def _only(covering: Mapping[Acceptance | None, list[str]]) -> Acceptance:
        (acceptance,) = (one for one in covering if one is not None)
        return acceptance

    def idle(self) -> Iterator[str]:
        """A note for each acceptance that speaks of nothing that fails."""
        for acceptance in self.acceptances:
            if acceptance not in self.meant:
                yield f"accepts nothing: {_shortened(acceptance.line)}"

    def _covering(self, change: BudgetChange, name: str) -> Acceptance | None:
        """The acceptance of the change, as far as it is about this test."""
        if change.bound is None:
            return next(self._for(name, "", _Reached()), None)
        short: Acceptance | None = None
        reached = _Reached(amount=change.bound, is_floor=change.is_floor)
        for acceptance in self._for(name, change.metric, reached):
            if _reaches(acceptance, change.bound):
                return acceptance
            short = short or acceptance
        if short is not None:
            which = f"{name} {change.metric}"
            self.notes.append(f"{which}: {_exceeded(short, change.bound, 'the new limit')}")
        return None

    def _for(self, name: str, metric: str, reached: _Reached) -> Iterator[Acceptance]:
        for acceptance in self.acceptances:
            is_about = acceptance.metric == metric and reached.is_meant_by(acceptance)
            if is_about and acceptance.covers(name):
                self.meant.add(acceptance)
                yield acceptance


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """What a metric came to, in each way in which a cap can be written."""

    amount: Fraction = Fraction(0)
    """In the metric's base unit."""
    is_floor: bool = False
    """Whether less is worse."""
    change: Fraction | None = None
    """Against the base, as a share of it; only of what was timed beside the base."""

    @staticmethod
    def of(delta: Delta) -> _Reached | None:
        """What the delta came to; None where it has no value, which nothing accepts."""
        verdict = delta.verdict
        if verdict is None or verdict.value is None or verdict.bound is None:
            return None
        value = exact(verdict.value)
        is_floor = value < exact(verdict.bound)
        change = change_beside_base(delta)
        if change is None:
            return _Reached(amount=value, is_floor=is_floor)
        measured = value if delta.head is None else exact(delta.head.value)
        return _Reached(amount=measured, is_floor=is_floor, change=exact(change))

    def is_meant_by(self, acceptance: Acceptance) -> bool:
        """Whether the line is about this side of a bound, in a unit that is known here."""
        is_known = self.change is not None or not acceptance.is_change
        return is_known and acceptance.is_floor is self.is_floor

    def by(self, acceptance: Acceptance) -> Fraction:
        """What came of it, in the unit of the acceptance's cap."""
        return self.change if acceptance.is_change and self.change is not None else self.amount


def _reaches(acceptance: Acceptance, amount: Fraction) -> bool:
    if acceptance.cap is None:
        return False
    return amount >= acceptance.cap if acceptance.is_floor else amount <= acceptance.cap


def _exceeded(acceptance: Acceptance, amount: Fraction, what: str) -> str:
    """What was accepted, and that it is not enough."""
    cap = acceptance.cap or Fraction(0)
    if acceptance.is_change:
        texts = format_change(1, 1 + cap), format_change(1, 1 + amount)
    else:
        texts = format_pair(cap, amount, metric_named(acceptance.metric).dimension)
    way = "down" if acceptance.is_floor else "up"
    return f"accepted {way} to {texts[0]}, and {what} is {texts[1]}"


def _part_of(change: BudgetChange, tests: list[str]) -> BudgetChange:
    """The change as far as it is about these of its tests."""
    is_first = tests[:1] == list(change.tests[:1])
    meant = frozenset(tests)
    return replace(
        change,
        tests=tuple(test for test in change.tests if test in meant),
        file=change.file if is_first else tests[0].partition("::")[0],
        line=change.line if is_first else 0,
    )


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..."
