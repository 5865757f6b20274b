"""Puts the report of a base beside that of a head, and says what the change did."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pytest_flopbudget.core.compared import ComparedTest
from pytest_flopbudget.core.comparison import (
    BudgetChange,
    Comparison,
    Delta,
    Direction,
    FactChange,
    Rename,
    Standing,
    Timings,
)
from pytest_flopbudget.core.loosening import budget_changes
from pytest_flopbudget.core.machine import machine_difference, pace_difference
from pytest_flopbudget.core.metrics import METRICS
from pytest_flopbudget.core.pairing import Pair, is_whole, pair_tests
from pytest_flopbudget.core.presence import (
    entry_of,
    is_measured,
    left_out,
    new_entries,
    not_measured,
    what_is_missing,
)
from pytest_flopbudget.core.quantity import exact, ratio
from pytest_flopbudget.core.report import Report
from pytest_flopbudget.core.side_by_side import Timed
from pytest_flopbudget.core.timings import (
    timed_delta,
    timed_of,
    times_of_two_machines,
    timing_notes,
    usable_timings,
)
from pytest_flopbudget.core.verdicts import BROKEN, Outcome, Verdict

_UNDECIDED: Final = frozenset({Outcome.INCONCLUSIVE, Outcome.NOT_GATED, Outcome.NO_BASELINE})
_NO_BASELINE: Final = "no baseline"


def base_failed(exit_code: int) -> str:
    """The note that a head's report has where its base could not be measured."""
    return (
        f"{_NO_BASELINE}: the base's tests could not run (pytest ended with {exit_code}): "
        "what the change loosens was not looked for"
    )


def compare(base: Report | None, head: Report) -> Comparison:
    """What the head costs, allows and breaks, beside the base where there is one."""
    pairs = (
        pair_tests(base, head)
        if base is not None
        else tuple(Pair(base=None, head=test) for test in head.tests)
    )
    difference = "" if base is None else machine_difference(base.machine, head.machine)
    pace = "" if base is None else pace_difference(base, head)
    timings = usable_timings(base, head)
    timed = timed_of(timings)
    tests = [
        ComparedTest(pair, difference, not pace, _timed_regions(pair, timed)) for pair in pairs
    ]
    judged = [delta for test in tests for delta in test.judged()]
    over = [delta for delta in judged if delta.verdict and _fails(delta.verdict)]
    changed = [delta for test in tests for delta in test.deltas() if test.is_changed(delta)]
    measured = tuple(test.pair.test.id for test in tests if test.is_measured)
    faster = [d for test in tests for d in test.timed.values() if d.timed and d.timed.is_faster]
    touched = {delta.place.test for delta in (*over, *changed, *faster)}
    incomparable = tuple(d for test in tests for d in test.incomparable())
    side = _budgets_side(base, head, pairs)
    return replace(
        side,
        standing=_standing(over, len(measured)),
        over=tuple(sorted(over, key=how_far_over, reverse=True)),
        failed=tuple(delta for test in tests for delta in test.failed()),
        warned=tuple(d for d in judged if d.verdict and _only_warns(d.verdict)),
        undecided=tuple(d for d in judged if d.verdict and d.verdict.outcome in _UNDECIDED),
        changed=tuple(sorted(changed, key=weight, reverse=True)),
        incomparable=incomparable,
        timed=tuple(d for test in tests for d in test.timed.values()),
        timings=(Timings(run=replace(timings, tests=())),) if timings else (),
        uncounted=tuple(row for test in tests for row in test.uncounted()),
        unchanged=tuple(
            test.head.id
            for test in tests
            if test.head and test.is_measured_twice and test.head.id not in touched
        ),
        measured=measured,
        within=tuple(
            d.place
            for d in judged
            if d.verdict and d.verdict.outcome in (Outcome.WITHIN, Outcome.IMPROVED)
        ),
        notes=(*side.notes, *times_of_two_machines(incomparable, pace)),
    )


def _timed_regions(pair: Pair, timed: Mapping[str, Sequence[Timed]]) -> Mapping[str, Delta]:
    head = pair.head
    if head is None:
        return {}
    return {one.region: timed_delta(head, one) for one in timed.get(head.id, ())}


def _budgets_side(base: Report | None, head: Report, pairs: tuple[Pair, ...]) -> Comparison:
    """What can be said without looking at a single number: who is there, and what is allowed."""
    comparison = Comparison(
        standing=Standing.WITHIN,
        has_base=base is not None,
        head_git=head.git,
        not_measured=tuple(not_measured(pairs, base, head)),
        versions=tuple(f"{name} {version}" for name, version in head.versions.items()),
        notes=tuple(_notes(base, head)),
    )
    if base is None:
        return comparison
    changes = budget_changes(base, head, pairs)
    # A side that measured nothing has not asked torch for its part of the facts.
    are_told = any(map(is_measured, base.tests)) and any(map(is_measured, head.tests))
    return replace(
        comparison,
        base_git=base.git,
        loosened=_only(changes, Direction.LOOSENED),
        tightened=_only(changes, Direction.TIGHTENED),
        added=_only(changes, Direction.ADDED),
        new=tuple(new_entries(pairs, base, head)),
        removed=tuple(
            entry_of(pair.base, "removed")
            for pair in pairs
            if pair.head is None and pair.base is not None and is_whole(head, base)
        ),
        renamed=tuple(
            Rename(before=pair.base.id, after=pair.head.id)
            for pair in pairs
            if pair.base and pair.head and pair.is_renamed
        ),
        machine_changes=tuple(_fact_changes(base.machine, head.machine)) if are_told else (),
        version_changes=tuple(_fact_changes(base.versions, head.versions)) if are_told else (),
    )


def _only(changes: Iterable[BudgetChange], direction: Direction) -> tuple[BudgetChange, ...]:
    return tuple(change for change in changes if change.direction is direction)


def _notes(base: Report | None, head: Report) -> Iterator[str]:
    is_told = any(note.startswith(f"{_NO_BASELINE}: ") for note in head.notes)
    if base is None and head.side_by_side is None and not is_told:
        yield f"{_NO_BASELINE} yet: absolute budgets alone are judged"
    elif base is None and not is_told:
        yield "no report of the base: absolute budgets and the growth of times alone are judged"
    yield from what_is_missing(head)
    if base is not None and not is_whole(base, head):
        yield f"the base's run is not whole: {left_out(base)}"
    if base is not None and base.versions.get("torch") != head.versions.get("torch"):
        yield (
            f"torch is {head.versions.get('torch', 'unknown')} here and "
            f"{base.versions.get('torch', 'unknown')} on the base: "
            "exact counts may differ by the version alone"
        )
    yield from timing_notes(base, head)
    yield from head.notes


def _fact_changes(base: Mapping[str, Any], head: Mapping[str, Any]) -> Iterator[FactChange]:
    if not base or not head:
        return
    for name in {**base, **head}:
        before, after = base.get(name), head.get(name)
        if before != after:
            yield FactChange(name=name, before=_words(before), after=_words(after))


def _words(fact: object) -> str:
    if fact is None:
        return ""
    return fact if isinstance(fact, str) else json.dumps(fact)


def _standing(over: list[Delta], measured: int) -> Standing:
    if over:
        return Standing.OVER
    return Standing.WITHIN if measured else Standing.NOTHING_MEASURED


def _fails(verdict: Verdict) -> bool:
    return verdict.is_failure


def _only_warns(verdict: Verdict) -> bool:
    return verdict.outcome in BROKEN and not verdict.is_failure


def how_far_over(delta: Delta) -> float:
    """Orders broken limits by how far they are broken; a value that is missing comes first."""
    verdict = delta.verdict
    if verdict is None or verdict.value is None or not verdict.bound:
        return float("inf")
    return abs(ratio(exact(verdict.value) - exact(verdict.bound), verdict.bound))


def weight(delta: Delta) -> tuple[bool, bool, float, int]:
    """Orders changes: what a budget bounds first, then what got worse, then by size."""
    catalogue = list(METRICS)
    name = delta.place.metric
    at = catalogue.index(name) if name in METRICS else len(catalogue)
    return delta.is_budgeted, delta.growth > 0, abs(delta.growth), -at
