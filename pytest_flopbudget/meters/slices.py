"""Slices: a few calls of one callable at a time, timed by turns with another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import repeat
from typing import Any, final

from pytest_flopbudget.core.turns import Slice
from pytest_flopbudget.meters.latency import quiet_process, synchronize
from pytest_flopbudget.meters.randomness import preserved_random_state


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

    def __enter__(self) -> SliceTimer:
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
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        for _ in times:
            fn(*args, **kwargs)
        synchronize()
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        return Slice(calls=calls, wall_s=wall_s, cpu_s=cpu_s)
