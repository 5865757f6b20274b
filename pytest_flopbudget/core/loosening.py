"""How head's budgets differ from base's: what is allowed now that was not, and what no longer is.

A budget that is raised together with the cost it bounds passes every check but this one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from pytest_flopbudget.core.bounds import baseline_bound
from pytest_flopbudget.core.budgets import Limit, Severity
from pytest_flopbudget.core.comparison import BudgetChange, Direction
from pytest_flopbudget.core.errors import SettingsError
from pytest_flopbudget.core.limits import parse_limit
from pytest_flopbudget.core.machine import machine_difference
from pytest_flopbudget.core.measurement import Value
from pytest_flopbudget.core.metrics import UNCOUNTED, Better, Kind, Metric, metric_named
from pytest_flopbudget.core.pairing import Pair, is_whole, limit_of, value_of
from pytest_flopbudget.core.quantity import exact, format_pair, format_quantity
from pytest_flopbudget.core.report import Report, Settings, TestOutcome, TestReport
from pytest_flopbudget.core.verdicts import Outcome

_NONE: Final = "none"
_EVERYWHERE: Final = "every machine"
_GONE: Final = {
    TestOutcome.SKIPPED: "skipped",
    TestOutcome.XFAILED: "expected to fail",
    TestOutcome.DESELECTED: "deselected",
    TestOutcome.NOT_RUN: "not run",
}
"""Ends of a test that let a broken budget pass."""


def budget_changes(base: Report, head: Report, pairs: Iterable[Pair]) -> tuple[BudgetChange, ...]:
    """Every difference between the budgets of the two reports; equal ones of many tests once."""
    is_same_machine = not machine_difference(base.machine, head.machine)
    found = [
        change
        for pair in pairs
        for change in _of_pair(pair, is_whole(head, base), is_same_machine=is_same_machine)
    ]
    better_of = _directions(head)
    named = _of_settings(base.settings, head.settings, better_of)
    shown = {(change.metric, _table_of(change.source)) for change in found}
    is_strict_shown = any(change.what == "strict" for change in found)
    return (
        *_grouped(found),
        *(c for c in named if not _is_shown(c, shown, is_strict_shown=is_strict_shown)),
    )


def describe_limit(limit: Limit) -> str:
    """The limit in words, such as `at most 3.7 GFLOP`."""
    parts = []
    if limit.maximum is not None:
        parts.append(f"at most {_amount(limit.maximum, limit)}")
    if limit.minimum is not None:
        parts.append(f"at least {_amount(limit.minimum, limit)}")
    if limit.equals is not None:
        parts.append(f"exactly {_amount(limit.equals, limit)}{_allowance(limit)}")
    if limit.vs_baseline is not None:
        parts.append(f"{_percent(limit.vs_baseline)} against the baseline")
    return " and ".join(parts) or _NONE


def describe_budget(test: TestReport) -> str:
    """All limits of the test in words, such as `flops at most 1 GFLOP, ops at most 9`."""
    return ", ".join(
        f"{limit.metric} {describe_limit(limit)}"
        for budget in test.budgets
        for limit in budget.limits
    )


def lost_test(base: TestReport, now: TestReport, why: str) -> BudgetChange:
    """The loosening of a test that is no longer held to the budget that it had."""
    return BudgetChange(
        direction=Direction.LOOSENED,
        what="test",
        before=describe_budget(base) or "budgeted",
        after=why,
        tests=(now.id,),
        file=now.file,
        line=now.line,
    )


def _of_pair(pair: Pair, is_head_whole: bool, *, is_same_machine: bool) -> Iterator[BudgetChange]:
    base, head = pair.base, pair.head
    if base is None or not base.budgets:
        if head is not None and base is not None:
            yield from _of_limits(base, head)
        return
    lost = _lost(base, head, is_head_whole)
    if lost:
        yield lost_test(base, pair.test, lost)
    if head is not None and (head.budgets or not lost):
        yield from _of_limits(base, head)
        if is_same_machine:
            yield from _no_longer_gated(base, head)


def _lost(base: TestReport, head: TestReport | None, is_head_whole: bool) -> str:
    """How a test that was held to its budget no longer is; empty where it still is."""
    if base.outcome in _GONE:
        return ""
    if head is None:
        return "removed" if is_head_whole else ""
    if head.outcome in (TestOutcome.DESELECTED, TestOutcome.NOT_RUN) and not is_head_whole:
        return ""
    return _GONE.get(head.outcome, "")


def _of_limits(base: TestReport, head: TestReport) -> Iterator[BudgetChange]:
    before, after = _limits(base), _limits(head)
    for region, metric in {**before, **after}:
        old, new = before.get((region, metric)), after.get((region, metric))
        value = value_of(head, region, metric)
        better = value.better if value else None
        edge = _edge(head, region, metric)
        before_value = value_of(base, region, metric)
        for change in _steps(old, new, metric_named(metric, better)):
            bound, is_floor = _allowed(change.what, new, metric_named(metric, better))
            if new is not None and change.what == "growth" and new.vs_baseline is not None:
                bound = _grown(before_value, new.vs_baseline, metric_named(metric, better))
            elif new is not None and new.ratio_to is not None:
                bound = edge
            yield replace(
                change,
                bound=bound,
                is_floor=is_floor,
                region=region,
                tests=(head.id,),
                file=head.file,
                line=head.line,
                measured=value.value if value else None,
            )
    strict_before = {budget.region for budget in base.budgets if budget.is_strict}
    strict_after = {budget.region: budget.is_strict for budget in head.budgets}
    for region, is_strict in strict_after.items():
        if not is_strict and region in strict_before:
            yield BudgetChange(
                direction=Direction.LOOSENED,
                what="strict",
                before="no uncounted operator",
                after="any",
                metric=UNCOUNTED.name,
                region=region,
                tests=(head.id,),
                file=head.file,
                line=head.line,
            )


def _no_longer_gated(base: TestReport, head: TestReport) -> Iterator[BudgetChange]:
    """Limits on a machine that this runner counted as on the base, and no longer does."""
    judged = {(v.region, v.metric) for v in base.verdicts if v.outcome is not Outcome.NOT_GATED}
    for verdict in head.verdicts:
        key = verdict.region, verdict.metric
        old, new = limit_of(base, *key), limit_of(head, *key)
        if verdict.outcome is not Outcome.NOT_GATED or key not in judged or old is None:
            continue
        if new is not None and old.on == new.on:
            change = _change(new, "machine", ("judged here", "not here"), Direction.LOOSENED)
            yield replace(change, region=key[0], tests=(head.id,), file=head.file, line=head.line)


def _allowed(what: str, new: Limit | None, metric: Metric) -> tuple[Fraction | None, bool]:
    """What the new limit allows where the change is about an amount, and whether it is a floor."""
    is_floor = metric.better is Better.HIGHER
    if new is None or new.ratio_to is not None:
        return None, new is not None and new.maximum is None
    if what in ("maximum", "minimum"):
        is_floor = what == "minimum"
    elif what not in ("equals", "tolerance", "growth"):
        return None, False
    return (_lowest(new) if is_floor else _highest(new)), is_floor


def _grown(before: Value | None, allowed: Fraction, metric: Metric) -> Fraction | None:
    """What the base's value may become; None where the base has none."""
    if before is None or metric.kind is Kind.SAMPLED:
        return None
    return baseline_bound(exact(before.value), allowed, metric.better).edge


def _edge(test: TestReport, region: str, metric: str) -> Fraction | None:
    """The bound of a ratio in the metric's unit, where the limit has a single one."""
    limit = limit_of(test, region, metric)
    if limit is None or (limit.maximum is not None and limit.minimum is not None):
        return None
    verdict = test.verdict(region, metric)
    return None if verdict is None or verdict.bound is None else exact(verdict.bound)


def _limits(test: TestReport) -> dict[tuple[str, str], Limit]:
    return {(b.region, limit.metric): limit for b in test.budgets for limit in b.limits}


def _steps(old: Limit | None, new: Limit | None, metric: Metric) -> Iterator[BudgetChange]:
    """The changes that lead from the one limit to the other."""
    if old is None or new is None:
        limit = old or new
        if limit is not None:
            text = describe_limit(limit)
            yield _change(
                limit,
                "limit",
                (text, _NONE) if new is None else (_NONE, text),
                Direction.LOOSENED if new is None else Direction.ADDED,
            )
        return
    if old.ratio_to != new.ratio_to:
        # Shares of two different things: nothing says which allows more.
        texts = describe_limit(old), describe_limit(new)
        yield _change(new, "ratio", texts, Direction.LOOSENED)
    elif old.equals is not None and new.equals is not None:
        yield from _equals_steps(old, new, metric)
        yield from _end_step(old, new, "maximum", (old.maximum, new.maximum))
        yield from _end_step(old, new, "minimum", (old.minimum, new.minimum))
    else:
        yield from _end_step(old, new, "maximum", (_highest(old), _highest(new)))
        yield from _end_step(old, new, "minimum", (_lowest(old), _lowest(new)))
    yield from _baseline_step(old, new, metric)
    if old.on != new.on:
        texts = old.on or _EVERYWHERE, new.on or _EVERYWHERE
        yield _change(new, "machine", texts, _loosened(new.on is not None))
    if old.severity is not new.severity:
        texts = old.severity.value, new.severity.value
        yield _change(new, "severity", texts, _loosened(new.severity is Severity.WARN))


def _equals_steps(old: Limit, new: Limit, metric: Metric) -> Iterator[BudgetChange]:
    if old.equals is None or new.equals is None:
        return
    if old.equals != new.equals:
        is_more = new.equals > old.equals
        is_worse = is_more == (metric.better is Better.LOWER)
        yield _change(new, "equals", _pair(old, new, old.equals, new.equals), _loosened(is_worse))
    shares = [limit.tolerance for limit in (old, new) if limit.tolerance is not None]
    if all(tolerance.is_relative for tolerance in shares):
        widths = [
            limit.tolerance.amount if limit.tolerance else Fraction(0) for limit in (old, new)
        ]
    else:
        widths = [_width(old), _width(new)]
    if widths[0] != widths[1]:
        texts = _allowance(old).strip() or _NONE, _allowance(new).strip() or _NONE
        yield _change(new, "tolerance", texts, _loosened(widths[1] > widths[0]))


def _end_step(
    old: Limit, new: Limit, what: str, ends: tuple[Fraction | None, Fraction | None]
) -> Iterator[BudgetChange]:
    before, after = ends
    if before == after:
        return
    if before is None or after is None:
        texts = (
            _NONE if before is None else _amount(before, old),
            _NONE if after is None else _amount(after, new),
        )
        yield _change(new, what, texts, _loosened(after is None))
        return
    is_wider = after > before if what == "maximum" else after < before
    yield _change(new, what, _pair(old, new, before, after), _loosened(is_wider))


def _baseline_step(old: Limit, new: Limit, metric: Metric) -> Iterator[BudgetChange]:
    before, after = old.vs_baseline, new.vs_baseline
    if before == after:
        return
    texts = (
        _NONE if before is None else _percent(before),
        _NONE if after is None else _percent(after),
    )
    if before is None or after is None:
        is_looser = after is None
    elif metric.better is Better.LOWER:
        is_looser = after > before
    else:
        # Where more is better, both +2 % and -2 % allow a drop of so much.
        is_looser = abs(after) > abs(before)
    yield _change(new, "growth", texts, _loosened(is_looser))


def _of_settings(
    base: Settings, head: Settings, better_of: Mapping[str, Better]
) -> Iterator[BudgetChange]:
    """Changes of the settings themselves, which the tests of a run may not all show."""
    # What the command line of one run says is no change of the project.
    if base.configured_mode == "enforce" and head.configured_mode != "enforce":
        yield BudgetChange(
            direction=Direction.LOOSENED,
            what="mode",
            before=base.configured_mode,
            after=head.configured_mode,
            source="addopts of pytest",
        )
    if base.strict and not head.strict:
        yield BudgetChange(
            direction=Direction.LOOSENED,
            what="strict",
            before="no uncounted operator",
            after="any",
            metric=UNCOUNTED.name,
            source=f"{head.file}: tool.flopbudget.strict",
        )
    tables = {f"budgets.{name}": table for name, table in base.budgets.items()}
    for name, table in {**tables, "defaults": base.defaults}.items():
        now = head.defaults if name == "defaults" else head.budgets.get(name[8:], {})
        for metric, raw in _entries(table):
            where = f"{head.file}: tool.flopbudget.{name}"
            after = dict(_entries(now)).get(metric)
            if raw != after:
                yield from _of_raw(metric_named(metric, better_of.get(metric)), raw, after, where)


def _of_raw(metric: Metric, raw: object, after: object, where: str) -> Iterator[BudgetChange]:
    old, new = _parsed(metric, raw, where), _parsed(metric, after, where)
    if old is None or (new is None and after is not None):
        # Written by a version that reads more than this one: seen, but not understood.
        texts = json.dumps(raw), _NONE if after is None else json.dumps(after)
        yield BudgetChange(
            direction=Direction.LOOSENED,
            what="limit",
            before=texts[0],
            after=texts[1],
            metric=metric.name,
            source=where,
        )
        return
    for change in _steps(old, new, metric):
        bound, is_floor = _allowed(change.what, new, metric)
        if change.what == "growth" and new is not None and new.vs_baseline is not None:
            bound = None  # No test shows from what it may grow.
        yield replace(change, bound=bound, is_floor=is_floor)


def _parsed(metric: Metric, raw: object, where: str) -> Limit | None:
    if raw is None:
        return None
    machine = raw.get("on") if isinstance(raw, dict) else None
    machines = [machine] if isinstance(machine, str) else []
    try:
        return parse_limit(metric.name, raw, where=where, machines=machines)
    except SettingsError:
        return None


def _entries(table: Any) -> list[tuple[str, object]]:
    return list(table.items()) if isinstance(table, Mapping) else []


def _directions(report: Report) -> dict[str, Better]:
    """The direction that the tests gave to the metrics they recorded."""
    return {
        name: value.better
        for test in report.tests
        for m in test.measurements
        for name, value in m.values.items()
        if value.better is not None
    }


def _is_shown(
    change: BudgetChange, shown: Collection[tuple[str, str]], *, is_strict_shown: bool
) -> bool:
    """Whether some test shows the same change of a table of the settings."""
    if not change.metric:
        return False
    if change.what == "strict":
        return is_strict_shown
    return (change.metric, _table_of(change.source)) in shown


def _table_of(source: str) -> str:
    """The table that a limit is written in, without the name of the file."""
    return source.partition(": ")[2].replace('"', "")


def _grouped(found: Iterable[BudgetChange]) -> Iterator[BudgetChange]:
    """One change for many tests that share it, as those under one named budget do."""
    groups: dict[BudgetChange, list[BudgetChange]] = {}
    for change in found:
        key = replace(change, tests=(), file="", line=0, measured=None, bound=None)
        groups.setdefault(key, []).append(change)
    for same in groups.values():
        if len(same) == 1:
            yield same[0]
        else:
            tests = tuple(test for one in same for test in one.tests)
            bounds = [one.bound for one in same if one.bound is not None]
            loosest = min if same[0].is_floor else max
            bound = loosest(bounds) if len(bounds) == len(same) else None
            yield replace(same[0], tests=tests, measured=None, bound=bound)


def _change(limit: Limit, what: str, texts: tuple[str, str], direction: Direction) -> BudgetChange:
    return BudgetChange(
        direction=direction,
        what=what,
        before=texts[0],
        after=texts[1],
        metric=limit.metric,
        source=limit.source,
    )


def _loosened(is_looser: bool) -> Direction:
    return Direction.LOOSENED if is_looser else Direction.TIGHTENED


def _width(limit: Limit) -> Fraction:
    """The allowed distance from `equals`, in the metric's base unit."""
    if limit.tolerance is None or limit.equals is None:
        return Fraction(0)
    amount = limit.tolerance.amount
    return amount * abs(limit.equals) if limit.tolerance.is_relative else amount


def _highest(limit: Limit) -> Fraction | None:
    ends = [limit.maximum, None if limit.equals is None else limit.equals + _width(limit)]
    return min((end for end in ends if end is not None), default=None)


def _lowest(limit: Limit) -> Fraction | None:
    ends = [limit.minimum, None if limit.equals is None else limit.equals - _width(limit)]
    return max((end for end in ends if end is not None), default=None)


def _pair(old: Limit, new: Limit, before: Fraction, after: Fraction) -> tuple[str, str]:
    if new.ratio_to is not None:
        return _amount(before, old), _amount(after, new)
    return format_pair(before, after, metric_named(new.metric).dimension)


def _amount(amount: Fraction, limit: Limit) -> str:
    if limit.ratio_to is not None:
        return f"{float(amount):.6g} of {limit.ratio_to}"
    return format_quantity(amount, metric_named(limit.metric).dimension)


def _allowance(limit: Limit) -> str:
    if limit.tolerance is None:
        return ""
    amount = limit.tolerance.amount
    if limit.tolerance.is_relative:
        return f" ± {float(amount * 100):.6g} %"
    return f" ± {format_quantity(amount, metric_named(limit.metric).dimension)}"


def _percent(share: Fraction) -> str:
    return f"{float(share * 100):+.6g} %"
