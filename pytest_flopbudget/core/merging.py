"""Puts the comparisons of several legs into one, in which what they agree on stands once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from pytest_flopbudget.core.comparing import how_far_over, weight
from pytest_flopbudget.core.comparison import (
    Accepted,
    BudgetChange,
    Comparison,
    Delta,
    Entry,
    FactChange,
    Place,
    Rename,
    Standing,
    UncountedRow,
)
from pytest_flopbudget.core.legs import Series, history_of

_T = TypeVar("_T")
_Changed = TypeVar("_Changed", BudgetChange, Rename, FactChange)
_Placed = TypeVar("_Placed", Entry, UncountedRow)

_WORST_FIRST: Final = (
    Standing.OVER,
    Standing.INCOMPLETE,
    Standing.NEEDS_APPROVAL,
    Standing.NOTHING_MEASURED,
    Standing.ACCEPTED,
    Standing.WITHIN,
)
"""A broken budget is certain, whatever a missing leg would say; a missing leg may hide
one, so nothing can be approved before it is there; and a leg that measured nothing
must not pass because another one did."""


def merge(comparisons: Mapping[str, Comparison], *, missing: Sequence[str] = ()) -> Comparison:
    """One comparison of all legs, each under its name, in the order of their names.

    What is the same on every leg stands once and names no leg; what differs, or stands on
    some legs alone, names those that agree on it. The standing is the worst of all legs,
    and INCOMPLETE where legs are missing and none is over budget. Counts are of distinct
    tests and limits; a limit that is broken on one leg is not within for holding on another.
    Differences of the base's commit are notes: the title has that of the nearest base.
    """
    if not comparisons:
        return _with_missing(_NOTHING, missing)
    legs = {name: comparisons[name] for name in sorted(comparisons)}
    if len(legs) == 1:
        return _with_missing(next(iter(legs.values())), missing)
    return _with_missing(_merged(legs), missing)


def with_history(comparison: Comparison, history: tuple[Series, ...]) -> Comparison:
    """The comparison with what earlier commits measured beside each number."""
    if not history:
        return comparison
    values = history_of(history)

    def remember(deltas: Iterable[Delta]) -> tuple[Delta, ...]:
        return tuple(
            replace(d, history=values.get((d.place.test, d.place.region, d.place.metric), ()))
            for d in deltas
        )

    return replace(
        comparison,
        over=remember(comparison.over),
        failed=remember(comparison.failed),
        warned=remember(comparison.warned),
        undecided=remember(comparison.undecided),
        changed=remember(comparison.changed),
        incomparable=remember(comparison.incomparable),
        pre_existing=remember(comparison.pre_existing),
        accepted=tuple(
            one if one.delta is None else replace(one, delta=remember([one.delta])[0])
            for one in comparison.accepted
        ),
    )


_NOTHING: Final = Comparison(standing=Standing.NOTHING_MEASURED, has_base=False)


def _with_missing(comparison: Comparison, missing: Sequence[str]) -> Comparison:
    if not missing:
        return comparison
    names = tuple(dict.fromkeys((*comparison.missing_legs, *missing)))
    return replace(
        comparison,
        standing=_worst((comparison.standing, Standing.INCOMPLETE)),
        missing_legs=names,
        notes=(
            *(f"leg {name} is missing: its job failed, or left no report" for name in names),
            *comparison.notes,
        ),
    )


def _merged(legs: Mapping[str, Comparison]) -> Comparison:
    every = legs.values()
    # A leg with no base, or with an older one, says so in a note.
    nearest = min(every, key=lambda c: (not c.has_base, c.base_age))
    over = _deltas(legs, lambda c: c.over)
    warned = _deltas(legs, lambda c: c.warned)
    changed = _deltas(legs, lambda c: c.changed)
    pre_existing = _deltas(legs, lambda c: c.pre_existing)
    accepted = _together(legs, lambda c: c.accepted, _key_of_accepted, _accepted_on)
    broken = [*over, *pre_existing, *(one.delta for one in accepted if one.delta)]
    not_within = {_anywhere(delta.place) for delta in (*broken, *warned)}
    touched = {delta.place.test for delta in (*broken, *changed)}
    return Comparison(
        standing=_worst(c.standing for c in every),
        has_base=any(c.has_base for c in every),
        base_git=nearest.base_git,
        head_git=next((c.head_git for c in every if c.head_git), None),
        base_age=nearest.base_age,
        loosened=_changes(legs, lambda c: c.loosened),
        tightened=_changes(legs, lambda c: c.tightened),
        added=_changes(legs, lambda c: c.added),
        over=tuple(sorted(over, key=how_far_over, reverse=True)),
        failed=_deltas(legs, lambda c: c.failed),
        warned=warned,
        undecided=_deltas(legs, lambda c: c.undecided),
        changed=tuple(sorted(changed, key=weight, reverse=True)),
        new=_placed(legs, lambda c: c.new),
        removed=_placed(legs, lambda c: c.removed),
        not_measured=_placed(legs, lambda c: c.not_measured),
        renamed=_changes(legs, lambda c: c.renamed),
        incomparable=_deltas(legs, lambda c: c.incomparable),
        timed=_deltas(legs, lambda c: c.timed),
        # Each leg has its own, as no two runs take the same time.
        timings=tuple(replace(one, legs=(name,)) for name, c in legs.items() for one in c.timings),
        uncounted=_placed(legs, lambda c: c.uncounted),
        unchanged=tuple(
            test for test in _distinct(c.unchanged for c in every) if test not in touched
        ),
        machine_changes=_changes(legs, lambda c: c.machine_changes),
        version_changes=_changes(legs, lambda c: c.version_changes),
        versions=_texts(legs, lambda c: c.versions),
        measured=_distinct(c.measured for c in every),
        within=tuple(
            place
            for place in _distinct(map(_anywhere, c.within) for c in every)
            if place not in not_within
        ),
        notes=(*_other_commits(legs, nearest), *_texts(legs, lambda c: c.notes)),
        accepted=accepted,
        pre_existing=pre_existing,
        missing_legs=_distinct(c.missing_legs for c in every),
    )


def _worst(standings: Iterable[Standing]) -> Standing:
    return min(standings, key=_WORST_FIRST.index)


def _together(
    legs: Mapping[str, Comparison],
    part: Callable[[Comparison], Iterable[_T]],
    key: Callable[[_T], Hashable],
    on: Callable[[_T, tuple[str, ...]], _T],
) -> tuple[_T, ...]:
    """The rows of all legs, equal ones once; the first leg's row stands for them."""
    rows: dict[Hashable, _T] = {}
    names: dict[Hashable, dict[str, None]] = {}
    for name, comparison in legs.items():
        for row in part(comparison):
            rows.setdefault(key(row), row)
            names.setdefault(key(row), {})[name] = None
    return tuple(
        on(row, () if len(names[at]) == len(legs) else tuple(names[at])) for at, row in rows.items()
    )


def _deltas(
    legs: Mapping[str, Comparison], part: Callable[[Comparison], Iterable[Delta]]
) -> tuple[Delta, ...]:
    return _together(legs, part, _key_of_delta, _delta_on)


def _placed(
    legs: Mapping[str, Comparison], part: Callable[[Comparison], Iterable[_Placed]]
) -> tuple[_Placed, ...]:
    return _together(
        legs, part, lambda row: row, lambda row, names: replace(row, place=_on(row.place, names))
    )


def _changes(
    legs: Mapping[str, Comparison], part: Callable[[Comparison], Iterable[_Changed]]
) -> tuple[_Changed, ...]:
    return _together(legs, part, lambda row: row, lambda row, names: replace(row, legs=names))


def _texts(
    legs: Mapping[str, Comparison], part: Callable[[Comparison], Iterable[str]]
) -> tuple[str, ...]:
    def on(text: str, names: tuple[str, ...]) -> str:
        return f"{', '.join(names)}: {text}" if names else text

    return _together(legs, part, lambda text: text, on)


def _key_of_delta(delta: Delta) -> Hashable:
    """What two legs must agree on: not the spenders and the history, which do not judge."""
    verdict = delta.verdict and (delta.verdict.outcome, delta.verdict.severity, delta.verdict.value)
    amounts = delta.base, delta.head, delta.timed
    return _anywhere(delta.place), amounts, delta.limit, verdict, delta.movers


def _key_of_accepted(one: Accepted) -> Hashable:
    return one.acceptance, one.delta and _key_of_delta(one.delta), one.change


def _delta_on(delta: Delta, names: tuple[str, ...]) -> Delta:
    return replace(delta, place=_on(delta.place, names))


def _accepted_on(one: Accepted, names: tuple[str, ...]) -> Accepted:
    return replace(
        one,
        delta=one.delta and _delta_on(one.delta, names),
        change=one.change and replace(one.change, legs=names),
    )


def _on(place: Place, names: tuple[str, ...]) -> Place:
    return replace(place, legs=names)


def _anywhere(place: Place) -> Place:
    return replace(place, legs=())


def _distinct(parts: Iterable[Iterable[Any]]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(one for part in parts for one in part))


def _other_commits(legs: Mapping[str, Comparison], nearest: Comparison) -> Iterable[str]:
    """What the title does not say of the commits, in a sentence for each leg."""
    head = next((c.head_git for c in legs.values() if c.head_git), None)
    for name, comparison in legs.items():
        if head and comparison.head_git and comparison.head_git.commit != head.commit:
            yield f"{name}: measured {comparison.head_git.commit[:9]}, which is another commit"
        base = comparison.base_git
        if base and nearest.base_git and base.commit != nearest.base_git.commit:
            commits = "commit" if comparison.base_age == 1 else "commits"
            age = f", {comparison.base_age} {commits} older" if comparison.base_age else ""
            yield f"{name}: compared with {base.commit[:9]}{age}"
