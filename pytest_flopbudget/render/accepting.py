"""The lines by which a pull request accepts what would fail, ready to be pasted.

Each is read back before it is offered. A test's name may be made to read as a line of its
own, with a pattern or a value that nobody would have accepted: then none is offered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice, takewhile
from typing import Final

from pytest_flopbudget.core.acceptance import KEY, parse_acceptances
from pytest_flopbudget.core.comparison import BudgetChange, Delta
from pytest_flopbudget.core.metrics import Better, Kind, metric_named
from pytest_flopbudget.core.quantity import exact, format_quantity
from pytest_flopbudget.render.words import clean

MOST_LINES: Final = 20
MOST_CHANGES: Final = 50
"""As many lines as are read of one pull request."""

_REASON: Final = "reason"
"""What is offered in the place of one, and is none."""
_SOME_REASON: Final = "it pays"
_LONGEST_NAME: Final = 600
_PLAIN: Final = frozenset("/._-:[]")
_DIGITS: Final = (4, 5, 6)
_ROOM: Final = Fraction(1, 100_000)
"""As a share of the amount: what six digits can round away, twice."""


def lines_for_change(change: BudgetChange, *, most: int = MOST_LINES) -> tuple[str, ...]:
    """The lines that accept a loosened budget: one for each test, or for many a pattern.

    most: how many lines there may be; with fewer than there are files, one pattern covers all.
    None where the change cannot be named in a line.
    """
    tests: Sequence[str] = change.tests or (change.source,)
    named = [_names(test) for test in tests]
    if len(tests) > most:
        files = list(_by_file(tests))
        named = [_patterns(together) for together in (files if len(files) <= most else [tests])]
    metric = "" if change.bound is None else change.metric
    lines = (_line(names, metric, change.bound, is_floor=change.is_floor) for names in named)
    return tuple(filter(None, lines))


def lines_for_over(deltas: Iterable[Delta]) -> tuple[str, ...]:
    """The lines that accept broken limits, each up to the worst of its values.

    At most 20; none for a limit on what was not measured.
    """
    caps: dict[tuple[str, str, bool, bool], Fraction] = {}
    for delta in deltas:
        verdict = delta.verdict
        if verdict is None or verdict.value is None or verdict.bound is None:
            continue
        is_floor = exact(verdict.value) < exact(verdict.bound)
        cap = _sure_change(delta)
        key = delta.place.test, delta.place.metric, is_floor, cap is not None
        if cap is None:
            cap = _sure_end(delta, exact(verdict.value), is_floor=is_floor)
        caps[key] = (min if is_floor else max)(caps.get(key, cap), cap)
    lines = (
        _line(_names(test), metric, cap, is_floor=is_floor, is_change=is_change)
        for (test, metric, is_floor, is_change), cap in caps.items()
    )
    return tuple(islice(filter(None, lines), MOST_LINES))


def _sure_end(delta: Delta, value: Fraction, *, is_floor: bool) -> Fraction:
    """The value, or the far end of a sample's interval, which the next run may well reach."""
    if delta.metric.kind is not Kind.SAMPLED or delta.head is None:
        return value
    end = delta.head.low if is_floor else delta.head.high
    return value if end is None else (min if is_floor else max)(value, exact(end))


def _sure_change(delta: Delta) -> Fraction | None:
    """In whole percent, the far end of a change beside the base; None where there is none.

    It holds on every machine, as the time itself does not.
    """
    ratio = None if delta.timed is None else delta.timed.ratio
    if ratio is None:
        return None
    if delta.metric.better is Better.HIGHER:
        return Fraction(math.floor((1 / exact(ratio.high) - 1) * 100), 100)
    return Fraction(math.ceil((exact(ratio.high) - 1) * 100), 100)


def _by_file(tests: Iterable[str]) -> Iterator[list[str]]:
    files: dict[str, list[str]] = {}
    for test in tests:
        files.setdefault(test.partition("::")[0], []).append(test)
    yield from files.values()


def _patterns(tests: Sequence[str]) -> tuple[str, ...]:
    """Ways to write a pattern that covers all of these."""
    if len(tests) == 1:
        return _names(tests[0])
    # Whatever the first and the last of a sorted list begin with, all between them do.
    pairs = zip(min(tests), max(tests), strict=False)
    common = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return tuple(f"{name}*" for name in _names(common))


def _names(test: str) -> tuple[str, ...]:
    """Ways to write the id of a test so that a line can hold it, the most telling first.

    What is not seen, or means something in a line, is a question mark: any one character.
    """
    is_clean = clean(test) == test
    seen = "".join(
        c if c != "*" and ((c.isascii() and c.isprintable()) or (is_clean and clean(c))) else "?"
        for c in test
    )
    plain = "".join(c if c.isascii() and (c.isalnum() or c in _PLAIN) else "?" for c in test)
    return tuple(dict.fromkeys((_shortened(seen), _shortened(plain))))


def _shortened(name: str) -> str:
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}*{name[-half:]}"


def _line(
    names: Iterable[str],
    metric: str,
    cap: Fraction | None,
    *,
    is_floor: bool,
    is_change: bool = False,
) -> str:
    """The line, under the first of the names with which it is read as it is meant."""
    if clean(metric) != metric:
        return ""
    for name in names:
        if cap is None:
            line = f"{KEY}: {name} removed - "
            if _is_read_as(line, name, "", None, is_floor=False):
                return f"{line}{_REASON}"
            continue
        percent = [f"{int(cap * 100):+d}%"]
        for text in percent if is_change else _amounts(cap, metric, is_floor=is_floor):
            line = f"{KEY}: {name} {metric} {'>=' if is_floor else '<='} {text} - "
            if _is_read_as(line, name, metric, cap, is_floor=is_floor):
                return f"{line}{_REASON}"
    return ""


def _amounts(cap: Fraction, metric: str, *, is_floor: bool) -> Iterator[str]:
    """The amount with few digits, with more, and rounded to the side where it is reached."""
    dimension = metric_named(metric).dimension
    for digits in _DIGITS:
        yield format_quantity(cap, dimension, digits)
    room = abs(cap) * _ROOM
    yield format_quantity(cap - room if is_floor else cap + room, dimension, _DIGITS[-1])
    # Below zero, which only what a test records can be, a number alone is read.
    yield repr(float(cap))


def _is_read_as(
    line: str, tests: str, metric: str, cap: Fraction | None, *, is_floor: bool
) -> bool:
    """Whether the line, once a reason stands behind it, says this."""
    found, _ = parse_acceptances(f"{line}{_SOME_REASON}")
    if len(found) != 1 or (found[0].tests, found[0].metric) != (tests, metric):
        return False
    if cap is None or found[0].cap is None:
        return cap is None and found[0].cap is None and found[0].reason == _SOME_REASON
    is_enough = found[0].cap <= cap if is_floor else found[0].cap >= cap
    return is_enough and found[0].is_floor is is_floor and found[0].reason == _SOME_REASON
