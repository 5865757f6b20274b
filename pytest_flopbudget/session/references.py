"""What `ratio_to` can name over a whole run, and the last word on ratios left pending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_flopbudget.core.budgets import Budget, Limit
from pytest_flopbudget.core.judging import Context, judge_test
from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.report import TestReport
from pytest_flopbudget.core.verdicts import Outcome, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The measurements of a run by the names that its tests give them."""

    measured: Mapping[str, Measurement] = field(default_factory=dict)
    """Those whose name is one test's alone."""
    ambiguous: frozenset[str] = frozenset()
    """Names that several tests gave to theirs."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """By name, why a test that gives it to a measurement did not come to that."""
    uncollected: Sequence[str] = ()
    """The options that kept tests, and so perhaps names, from being collected."""

    def settled(self, verdict: Verdict, test: TestReport) -> Verdict:
        """The verdict on a pending ratio, now that no further measurement will come.

        A ratio to what this run left out stays pending, and says so; one to a name that
        no test has, or several, is broken.
        """
        budget, limit = _source(verdict, test)
        name = limit.ratio_to or ""
        done = verdict.reason.rpartition("; ")[0]
        if name in self.ambiguous:
            return replace(
                verdict,
                outcome=Outcome.NOT_MEASURED,
                reason=f"{done}; several tests name a measurement '{name}': "
                "give the one that is meant a name of its own",
            )
        why = self._why_missing(name)
        if why:
            return replace(verdict, reason=f"{done}; its ratio to '{name}' was not judged: {why}")
        alone = replace(budget, limits=(limit,))
        context = Context(references=self.measured, is_final=True, machines=_machines(limit))
        subject = test.id.rpartition("::")[2]
        return judge_test([alone], test.measurements, context, subject=subject)[0]

    def _why_missing(self, name: str) -> str:
        if name in self.measured:
            return ""
        if name in self.absent:
            return self.absent[name]
        if self.uncollected:
            return f"its test is not in this run ({' '.join(self.uncollected)})"
        return ""


def find_references(tests: Iterable[TestReport], uncollected: Sequence[str]) -> References:
    """What the tests of a run, now ended, measured under names."""
    named: dict[str, Measurement] = {}
    absent: dict[str, str] = {}
    uses: Counter[str] = Counter()
    for test in tests:
        found = named_measurements(test.budgets, test.measurements)
        named.update(found)
        uses.update(found.keys())
        for name in _names(test.budgets) - found.keys():
            absent[name] = f"{test.id} was {test.outcome.value} and did not measure it"
    ambiguous = frozenset(name for name, count in uses.items() if count > 1)
    return References(
        measured={name: m for name, m in named.items() if name not in ambiguous},
        ambiguous=ambiguous,
        absent=absent,
        uncollected=uncollected,
    )


def named_measurements(
    budgets: Iterable[Budget], measurements: Iterable[Measurement]
) -> dict[str, Measurement]:
    """The complete measurements that `ratio_to` can name: by region, and by marker name."""
    complete = {m.name: m for m in measurements if not m.is_partial}
    named = {name: m for name, m in complete.items() if name}
    for budget in budgets:
        if budget.name is not None and budget.region in complete:
            named[budget.name] = complete[budget.region]
    return named


def _names(budgets: Iterable[Budget]) -> frozenset[str]:
    """The names that budgets promise a measurement under."""
    names = {name for budget in budgets for name in (budget.name, budget.region)}
    return frozenset(name for name in names if name)


def _source(verdict: Verdict, test: TestReport) -> tuple[Budget, Limit]:
    """The limit that a verdict comes from, and its budget: a budget has one for each metric."""
    return next(
        (budget, limit)
        for budget in test.budgets
        if budget.region == verdict.region
        for limit in budget.limits
        if limit.metric == verdict.metric
    )


def _machines(limit: Limit) -> frozenset[str]:
    """The limit's own machine: it was judged to be this one, or nothing would be pending."""
    return frozenset() if limit.on is None else frozenset({limit.on})
