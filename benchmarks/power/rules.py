"""The rules that are held against each other: which of them flags a case, from what was timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from power.cases import Case
from power.records import Series
from pytest_flopbudget.core.stopping import Rules, State, decide

Peer: TypeAlias = Callable[[Mapping[str, float]], bool]

ALLOWED = (0.03, 0.05)
"""Growths that ours is asked about: the least that is sensible, and the default."""


def tolerances(case: Case) -> tuple[float, ...]:
    """What a case is asked about.

    The growths that are about as large as what is allowed take the most pairs, so that only the
    first copy is asked about the default, besides what has not grown.
    """
    return ALLOWED if case.copy == 0 or case.growth == 0 else ALLOWED[:1]


def decided(series: Series, allowed: float) -> tuple[State, int] | None:
    """What the rules of `flopbudget ab` say of these pairs, and after how many; None if open.

    They look after each pair, as the pairs came, and stop at their first decision.
    """
    rules = Rules(allowed=allowed)
    for pairs in range(1, len(series) + 1):
        state = decide(series[:pairs], rules, is_last=False).state
        if state is not State.MORE:
            return state, pairs
    return None


def exceeds(field: str, growth: float) -> Peer:
    """Flags where the head's value is more than so much above the base's, 0.05 for 5 %.

    pytest-benchmark's `--benchmark-compare-fail=FIELD:5%` does so. For pytest-benchmark's
    results github-action-benchmark divides calls per second, the reciprocals of the means.
    Sources: PercentageRegressionCheck of pytest-benchmark 5.3.1; alert-threshold in the
    README of benchmark-action/github-action-benchmark.
    """
    return lambda test: test[f"head_{field}"] / test[f"base_{field}"] > 1 + growth


PEERS: dict[str, Peer] = {
    "pytest-benchmark, min > 3 %": exceeds("min", 0.03),
    "pytest-benchmark, min > 5 %": exceeds("min", 0.05),
    "pytest-benchmark, mean > 3 %": exceeds("mean", 0.03),
    "pytest-benchmark, mean > 5 %": exceeds("mean", 0.05),
    "github-action-benchmark, 110 %": exceeds("mean", 0.10),
    "github-action-benchmark, 200 %": exceeds("mean", 1.00),
}
