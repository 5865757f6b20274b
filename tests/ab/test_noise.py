"""Pairs of processes for the noise floor: how they are launched, and what ends them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from pytest_flopbudget.ab import noise
from pytest_flopbudget.ab.noise import measure_noise
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.series import TurnSeries
from pytest_flopbudget.core.turns import TurnPlan

# Says that it is there, and that each call takes a tenth of a second, half of it on a CPU.
ANSWERS = """
import os, sys
assert os.environ["OMP_NUM_THREADS"] == "1" and os.environ["MINE"] == "kept"
print("ready", flush=True)
for line in sys.stdin:
    print(int(line) * 0.1, int(line) * 0.05, 0.01, flush=True)
"""
ENVIRON = {**os.environ, "OMP_NUM_THREADS": "8", "MINE": "kept"}


def _command(script: str) -> list[str]:
    return [sys.executable, "-c", script]


class Workers:
    """Stands in for the processes, and notes which of them are paired, and how."""

    def __init__(self) -> None:
        self.launched = 0
        self.pairs: list[tuple[int, int, bool]] = []

    def worker(self, _command: object, environ: dict[str, str]) -> Any:
        assert environ["PYTHONHASHSEED"] == "0"
        self.launched += 1
        return _Worker(self.launched)

    def take_turns(self, base: Any, head: Any, _plan: TurnPlan, *, head_leads: bool) -> TurnSeries:
        assert base.is_there
        assert head.is_there
        self.pairs.append((base.number, head.number, head_leads))
        return TurnSeries(turns=(), is_steady=True)


class _Worker:
    def __init__(self, number: int) -> None:
        self.number = number
        self.is_there = False

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_there = False

    def wait(self) -> None:
        self.is_there = True


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    workers = Workers()
    monkeypatch.setattr(noise, "_Worker", workers.worker)
    monkeypatch.setattr(noise, "take_turns", workers.take_turns)
    return workers


def test_five_pairs_of_fresh_processes_change_who_is_launched_and_called_first(
    workers: Workers,
) -> None:
    assert len(measure_noise(environ={}, clock=lambda: 0.0)) == 5
    assert workers.pairs == [
        (1, 2, False),
        (4, 3, True),
        (5, 6, False),
        (8, 7, True),
        (9, 10, False),
    ]


@pytest.mark.parametrize(("step_s", "pairs"), [(2.0, 5), (2.1, 4), (2.5, 4), (2.6, 3), (100.0, 3)])
def test_a_slow_machine_gets_fewer_pairs_and_three_at_least(
    workers: Workers, step_s: float, pairs: int
) -> None:
    times: Iterator[int] = count()
    # The clock is read at the start and after each pair, so that a pair lasts one step, and n of
    # them n steps: ten seconds are enough for five of 2 s, and for four of 2.5 s.
    assert len(measure_noise(environ={}, clock=lambda: next(times) * step_s)) == pairs


def test_a_process_times_what_it_is_told_in_a_pinned_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(noise, "_FEWEST_PAIRS", 1)
    monkeypatch.setattr(noise, "_PAIRS", 1)
    (series,) = measure_noise(_command(ANSWERS), ENVIRON)
    slices = [piece for turn in series.turns for piece in (turn.base, turn.head)]
    # A call is longer than a slice, so that a slice is one call.
    times = {(piece.calls, piece.wall_s, piece.cpu_s, piece.queued_s) for piece in slices}
    assert times == {(1, 0.1, 0.05, 0.01)}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('no torch here')", "no torch here"),
        ("print('ready'); raise RuntimeError('out of memory')", "RuntimeError: out of memory"),
        ("print('ready', flush=True); import os; os._exit(1)", "it said nothing"),
    ],
)
def test_a_process_that_ends_is_an_error_with_its_last_words(script: str, said: str) -> None:
    with pytest.raises(MeasureError, match=f"a worker that was to be timed ended: {said}"):
        measure_noise(_command(script))


def test_the_real_worker_answers_with_times() -> None:
    with noise._Worker(noise._COMMAND, os.environ) as worker:
        worker.wait()
        piece = worker.run(2)
    assert piece.calls == 2
    assert piece.wall_s > 0
    assert piece.cpu_s > 0
    assert worker._process.returncode is not None
