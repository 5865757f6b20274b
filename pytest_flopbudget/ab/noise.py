"""Pairs of fresh processes that run the same code, as far apart as this machine drives them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from pytest_flopbudget.ab.cores import one_core
from pytest_flopbudget.ab.environment import pinned
from pytest_flopbudget.ab.probe import READY
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.series import Slice, TurnSeries
from pytest_flopbudget.core.turns import TurnPlan, take_turns

_COMMAND: Final = (sys.executable, "-m", "pytest_flopbudget.ab.probe")
_PAIRS: Final = 5
_FEWEST_PAIRS: Final = 3
_TIME_LIMIT_S: Final = 10.0
"""After which no pair is begun, once there are three."""
_PLAN: Final = TurnPlan(warmup_s=0.1, warmup_limit_s=0.5, side_s=0.3)
"""Shorter than that of `ab`, and otherwise the same: about a second for each pair, and one
for its processes to start."""


def measure_noise(
    command: Sequence[str] = _COMMAND,
    environ: Mapping[str, str] = os.environ,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[TurnSeries, ...]:
    """What five pairs of fresh processes measured, of one call that is the same on both sides.

    As in `ab`, the environment is pinned, the sides of a pair take turns, and the launch
    order alternates. Takes about ten seconds; on a machine that is slower, three or four pairs.
    Raises MeasureError where a process does not come to answer.
    """
    variables = {**environ, **pinned(environ, allocator="warm")}
    start = clock()
    series: list[TurnSeries] = []
    while len(series) < _PAIRS:
        is_late = clock() - start >= _TIME_LIMIT_S
        if is_late and len(series) >= _FEWEST_PAIRS:
            break
        series.append(_pair(command, variables, is_odd=len(series) % 2 == 1))
    return tuple(series)


def _pair(command: Sequence[str], environ: Mapping[str, str], *, is_odd: bool) -> TurnSeries:
    with ExitStack() as stack:
        with one_core(int(is_odd)):
            sides = [stack.enter_context(_Worker(command, environ)) for _ in range(2)]
        for side in sides:
            side.wait()
        if is_odd:
            sides.reverse()
        base, head = sides
        return take_turns(base, head, _PLAN, head_leads=is_odd)


class _Worker:
    """One process of a pair, from enter to exit."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, with a module of ours
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            text=True,
        )

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait(self) -> None:
        """Wait until it has made what it times."""
        if self._answer() != READY:
            raise self._failure()

    def run(self, calls: int) -> Slice:
        """What so many calls took."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            self._process.stdin.write(f"{calls}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        answer = self._answer()
        if not answer:
            raise self._failure()
        wall_s, cpu_s, queued_s = map(float, answer.split())
        return Slice(calls=calls, wall_s=wall_s, cpu_s=cpu_s, queued_s=queued_s)

    def _answer(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        return self._process.stdout.readline().strip()

    def _failure(self) -> MeasureError:
        self._process.kill()
        _, said = self._process.communicate()
        last = next(reversed(said.strip().splitlines()), "it said nothing")
        return MeasureError(f"a worker that was to be timed ended: {last}")
