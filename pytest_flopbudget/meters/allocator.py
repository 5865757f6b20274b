"""What torch's CPU allocator hands out: every block, scratch inside operators included."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import wraps
from typing import Any, ClassVar, Final

import torch
from torch.autograd import profiler

from pytest_flopbudget.core.errors import MeasureError

Block = tuple[int, int]
"""Address and bytes of what was handed out; of what was given back the bytes are negative."""

_LOG_LEVEL: Final = "KINETO_LOG_LEVEL"
_SILENCE: Final = "6"
"""One above the highest level at which torch's profiler library writes to standard error."""
_ONE: Final = "and torch can run one at a time"
_STARTS: Final = ("_prepare_profiler", "_enable_profiler")
"""What `torch.autograd.profiler` starts a profiler with."""


def peak_of(blocks: Iterable[Block]) -> int:
    """The most bytes of these blocks alive at one time.

    Only what is given back of these blocks counts. The profiler also tells of blocks from
    before, and of their sizes it may remember wrong ones: an address is used again, and the
    table that knows the sizes is not kept up to date while nobody profiles.
    """
    alive: dict[int, int] = {}
    now = peak = 0
    for address, nbytes in blocks:
        # What is handed out again was given back, where that was not seen by another thread.
        now -= alive.pop(address, 0)
        if nbytes > 0:
            alive[address] = nbytes
            now += nbytes
            peak = max(peak, now)
    return peak


class AllocatorTrace:
    """From `start` to `stop`, notes what this thread takes from torch's CPU allocator.

    torch tells of it through its profiler alone, of which a process can run one at a time:
    code that starts one meanwhile gets it, and a second trace does too, and there is no peak
    then. Neither is there one where a profiler runs already, or where this torch has none.
    """

    _running: ClassVar[AllocatorTrace | None] = None

    def __init__(self) -> None:
        self.peak: int | None = None
        """Bytes handed out at the peak, above what was alive at the start."""
        self.why_absent = ""
        """Why there is no peak."""
        self._thread = 0
        self._exits = ExitStack()

    def start(self) -> None:
        """Begin to note."""
        outer = AllocatorTrace._running
        if outer is not None and outer._thread == threading.get_ident():
            outer._end("a region within it has a peak of its own")
        elif outer is not None or _is_profiled():
            self.why_absent = f"a profiler is running, {_ONE}"
            return
        try:
            _start_profiler()
        except (ImportError, AttributeError, TypeError, RuntimeError) as error:
            self.why_absent = f"torch {torch.__version__} does not tell: {error}"
            return
        self._thread = threading.get_ident()
        AllocatorTrace._running = self
        for name in _STARTS:
            original = getattr(profiler, name)
            setattr(profiler, name, self._giving_way(original))
            self._exits.callback(setattr, profiler, name, original)

    def stop(self) -> None:
        """Note no further, and work out the peak."""
        if AllocatorTrace._running is not self:
            return
        AllocatorTrace._running = None
        self._exits.close()
        try:
            self.peak = peak_of(_stop_profiler())
        except (AttributeError, TypeError, RuntimeError) as error:
            self.why_absent = f"torch {torch.__version__} does not tell: {error}"

    def _end(self, why: str) -> None:
        """Stop early, so that there is no peak."""
        self.stop()
        self.peak, self.why_absent = None, why

    def _giving_way(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Starts the profiler of the code's own, when this one has ended."""

        @wraps(original)
        def start(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread:
                # Both would go on, and torch then ends the process when they stop.
                raise MeasureError(
                    "a thread starts torch's profiler while the allocator is traced with it; "
                    "measure the process's memory without that profiler"
                )
            self._end(f"the code starts a profiler, {_ONE}")
            return original(*args, **kwargs)

        return start


def _is_profiled() -> bool:
    # The first is of any thread, the second also of profilers that were started otherwise.
    return profiler._is_profiler_enabled or torch._C._autograd._profiler_enabled()


def _start_profiler() -> None:
    """Start torch's profiler with memory alone: of operators it is to note nothing."""
    from torch._C._profiler import (
        ProfilerActivity,
        ProfilerConfig,
        ProfilerState,
        RecordScope,
        _ExperimentalConfig,
    )

    config = ProfilerConfig(
        state=ProfilerState.KINETO,
        report_input_shapes=False,
        profile_memory=True,
        with_stack=False,
        with_flops=False,
        with_modules=False,
        experimental_config=_ExperimentalConfig(),
    )
    activities = {ProfilerActivity.CPU}
    # Read when a profiler is first started; otherwise each start and stop is announced.
    is_free = _LOG_LEVEL not in os.environ
    if is_free:
        os.environ[_LOG_LEVEL] = _SILENCE
    try:
        torch._C._autograd._prepare_profiler(config, activities)
    finally:
        if is_free:
            del os.environ[_LOG_LEVEL]
    # An empty set would mean every scope; nothing runs in the lite interpreter's.
    scopes = {RecordScope.LITE_INTERPRETER}
    torch._C._autograd._enable_profiler(config, activities, scopes)  # type: ignore[call-arg]  # the stub has two


def _stop_profiler() -> list[Block]:
    """What was noted of the CPU's memory, in order."""
    from torch._C._profiler import _EventType

    noted: list[tuple[int, Block]] = []
    waiting = torch._C._autograd._disable_profiler().experimental_event_tree()
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag == _EventType.Allocation:
            fields: Any = event.extra_fields
            if fields.device.type == "cpu":
                noted.append((event.start_time_ns, (fields.ptr, fields.alloc_size)))
    noted.reverse()  # so that what has one time stays in the order it was noted in
    return [block for _, block in sorted(noted, key=lambda item: item[0])]
