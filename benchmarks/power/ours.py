"""One repetition of what `flopbudget ab` does: pairs of fresh workers, until all is decided."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from power.cases import FOLDER, Case, environ
from power.records import Series, written
from power.rules import decided, tolerances
from pytest_flopbudget.ab.conductor import Question, conduct
from pytest_flopbudget.ab.environment import pinned
from pytest_flopbudget.ab.side import Side, Sides
from pytest_flopbudget.core.turns import TurnPlan

ARGUMENTS = ("-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "test_turns.py")


def repeat_ours(cases: Sequence[Case], side_s: float) -> dict[str, Any]:
    """The series of every case, each of as many pairs as its rules asked for.

    side_s: how long each side is timed in one pair.
    """
    sides = Sides(base=_side("base", cases), head=_side("head", cases))
    found: dict[Case, Series] = {case: [] for case in cases}
    started_s = time.monotonic()
    pairs = 0
    while still := [case for case in cases if not _is_decided(case, found[case])]:
        questions = {_question(case): case for case in still}
        result = conduct(sides, list(questions), TurnPlan(side_s=side_s), head_leads=pairs % 2 == 1)
        if result.untimed or result.is_cut_short:
            raise RuntimeError(f"not timed: {result.untimed}")
        for question, series in result.series.items():
            found[questions[question]].append(series)
        pairs += 1
    return {
        "side_s": side_s,
        "pairs": pairs,
        "seconds": time.monotonic() - started_s,
        "tests": {case.name: written(series) for case, series in found.items()},
    }


def _side(name: str, cases: Sequence[Case]) -> Side:
    whole = environ(name, cases, {})
    pins = pinned(whole, allocator="warm")
    return Side(name=name, directory=FOLDER, environ={**whole, **pins}, arguments=ARGUMENTS)


def _question(case: Case) -> Question:
    test = f"test_turns.py::test_case[{case.name}]"
    return Question(base=test, head=test, region="")


def _is_decided(case: Case, series: Series) -> bool:
    return all(decided(series, allowed) is not None for allowed in tolerances(case))
