"""Which test of one report is which test of another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.measurement import Value
from pytest_flopbudget.core.metrics import Kind, metric_named
from pytest_flopbudget.core.report import Report, TestReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A test on both sides, or on one alone."""

    base: TestReport | None
    head: TestReport | None

    @property
    def is_renamed(self) -> bool:
        """Whether it has another id on the head."""
        return self.base is not None and self.head is not None and self.base.id != self.head.id

    @property
    def test(self) -> TestReport:
        """The head's test, or the base's where head has none."""
        found = self.head or self.base
        if found is None:
            raise ValueError("a pair holds at least one test")
        return found


def is_whole(report: Report, other: Report | None = None) -> bool:
    """Whether a test that is missing from the report is known to be gone.

    other: the report that it is held against. A run that was asked for the same part of
    the suite as the other is whole beside it.
    """
    if report.is_interrupted:
        return False
    if other is not None and report.selection:
        return report.selection == other.selection
    return not narrowing(report)


def narrowing(report: Report) -> tuple[str, ...]:
    """What left tests out of the run: options, ids and files.

    A folder alone says nothing: it is how most suites name the whole of themselves.
    """
    return tuple(
        text
        for text in report.selection
        if text.startswith("-") or "::" in text or text.endswith(".py")
    )


def pair_tests(base: Report, head: Report) -> tuple[Pair, ...]:
    """The tests of both reports: head's in their order, then those that only base has.

    Two tests of different ids are one that was renamed where they cost the same to
    the last digit, keep their name or their file, and no third test fits as well.
    """
    before = {test.id: test for test in base.tests}
    after = {test.id: test for test in head.tests}
    gone = [test for test in before.values() if test.id not in after]
    fresh = [test for test in after.values() if test.id not in before]
    renamed = _renames(gone, fresh) if is_whole(head, base) else {}
    was = {test.id: old for old in gone if (test := renamed.get(old.id)) is not None}
    pairs = [Pair(base=before.get(i) or was.get(i), head=test) for i, test in after.items()]
    pairs += [Pair(base=test, head=None) for test in gone if test.id not in renamed]
    return tuple(pairs)


def value_of(test: TestReport | None, region: str, metric: str) -> Value | None:
    """The value of the metric where the test measured it to the end."""
    # What a test records belongs to no region: it is kept with the test's call.
    home = "" if metric_named(metric).kind is Kind.RECORDED else region
    measurement = test.measurement(home) if test is not None else None
    return measurement.values.get(metric) if measurement is not None else None


def limit_of(test: TestReport, region: str, metric: str) -> Limit | None:
    """The limit that the test puts on the metric of the region."""
    return test.limit(region, metric)


def _renames(gone: list[TestReport], fresh: list[TestReport]) -> dict[str, TestReport]:
    """The new test for the id of each old one that was renamed."""
    renamed: dict[str, TestReport] = {}
    keys: tuple[Callable[[TestReport], str], ...] = (_name, lambda test: test.file)
    for key in keys:
        taken = {test.id for test in renamed.values()}
        old = _unique((t for t in gone if t.id not in renamed), key)
        new = _unique((t for t in fresh if t.id not in taken), key)
        renamed.update((test.id, new[at]) for at, test in old.items() if at in new)
    return renamed


def _unique(
    tests: Iterable[TestReport], key: Callable[[TestReport], str]
) -> dict[tuple[str, object], TestReport]:
    """The tests that no other resembles, by key and cost."""
    found: dict[tuple[str, object], list[TestReport]] = {}
    for test in tests:
        cost = _cost(test)
        if cost:
            found.setdefault((key(test), cost), []).append(test)
    return {at: same[0] for at, same in found.items() if len(same) == 1}


def _name(test: TestReport) -> str:
    return test.id.rpartition("::")[2]


def _cost(test: TestReport) -> frozenset[tuple[str, str, int | float]]:
    """Every exact value that is not zero, and where it was measured."""
    return frozenset(
        (m.name, name, value.value)
        for m in test.measurements
        if not m.is_partial
        for name, value in m.values.items()
        if value.value and metric_named(name).kind is Kind.EXACT
    )
