"""Pairs of fresh processes that run the same code, as far apart as this machine drives them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from pytest_flopbudget.ab.environment import pinned
from pytest_flopbudget.ab.probe import READY
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.series import Slice, TurnSeries
from pytest_flopbudget.core.turns import TurnPlan, take_turns
from pytest_flopbudget.session.cores import core_of_pair

_COMMAND: Final = (sys.executable, "-m", "pytest_flopbudget.ab.probe")
_PAIRS: Final = 5
_FEWEST_PAIRS: Final = 3
_TIME_LIMIT_S: Final = 10.0
"""Once there are three, no pair is begun that would last beyond it, as long as the last did."""
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
    order alternates. Takes ten seconds at most where three pairs can be had in that.
    Raises MeasureError where a process does not come to answer.
    """
    variables = {**environ, **pinned(environ, allocator="warm")}
    start_s = begun_s = clock()
    last_s = 0.0
    series: list[TurnSeries] = []
    while len(series) < _FEWEST_PAIRS or (
        len(series) < _PAIRS and begun_s + last_s - start_s <= _TIME_LIMIT_S
    ):
        series.append(_pair(command, variables, is_odd=len(series) % 2 == 1))
        now_s = clock()
        begun_s, last_s = now_s, now_s - begun_s
    return tuple(series)


def _pair(command: Sequence[str], environ: Mapping[str, str], *, is_odd: bool) -> TurnSeries:
    core = core_of_pair(int(is_odd))
    shared = command if core is None else (*command, str(core))
    with ExitStack() as stack:
        sides = [stack.enter_context(_Worker(shared, environ)) for _ in range(2)]
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
