"""Slices: a few calls of one callable at a time, timed by turns with another process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any, Final, final

from pytest_flopbudget.core.series import Slice
from pytest_flopbudget.meters.cuda import cuda_in_use
from pytest_flopbudget.meters.latency import quiet_process, synchronize
from pytest_flopbudget.meters.randomness import preserved_random_state

_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")
"""Of the thread: nanoseconds on a CPU, nanoseconds queued for one, and how often it had one.
Source: Documentation/scheduler/sched-stats.rst of the Linux kernel."""


@final
class SliceTimer:
    """One callable with its arguments, in a process made quiet for as long as the block lasts.

    torch has one thread in the block, the garbage collector is off, and the random state is
    afterwards as it was before.
    """

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._fn = fn
        self._args = args
        self._kwargs = kwargs
        self._block = ExitStack()
        self._schedstat: int | None = None

    def __enter__(self) -> SliceTimer:
        self._schedstat = _opened(_SCHEDSTAT)
        if self._schedstat is not None:
            self._block.callback(os.close, self._schedstat)
        self._block.enter_context(preserved_random_state())
        self._block.enter_context(quiet_process(threads=1))
        return self

    def __exit__(self, *_: object) -> None:
        self._block.close()

    def run(self, calls: int) -> Slice:
        """The time that so many calls take, by the wall's clock and by the process's."""
        fn, args, kwargs = self._fn, self._args, self._kwargs
        times = repeat(None, calls)
        synchronize()
        # The wall's clock is read first and last: a preemption between two readings is then
        # part of the wall time, whatever else it is part of.
        wall_s, queued_s, cpu_s = time.perf_counter(), self._queued_s(), time.process_time()
        for _ in times:
            fn(*args, **kwargs)
        synchronize()
        cpu_s = time.process_time() - cpu_s
        queued_s = self._queued_s() - queued_s
        wall_s = time.perf_counter() - wall_s
        return Slice(
            calls=calls,
            wall_s=wall_s,
            cpu_s=cpu_s,
            queued_s=queued_s,
            has_device=cuda_in_use() is not None,
        )

    def _queued_s(self) -> float:
        """Seconds for which this thread has waited for a CPU; 0 where the system does not tell."""
        if self._schedstat is None:
            return 0.0
        return int(os.pread(self._schedstat, 80, 0).split()[1]) / 1e9


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return None
