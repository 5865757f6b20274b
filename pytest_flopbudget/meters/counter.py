"""Counting a block of code: the context managers that the fixtures hand out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from torch import nn

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.metrics import METRICS
from pytest_flopbudget.meters.dispatch import DispatchPass
from pytest_flopbudget.meters.eager import pause, resume, uncompiled, uncompiled_here
from pytest_flopbudget.meters.fake import active_mode, stand_ins_for
from pytest_flopbudget.meters.region import new_region


class FlopCounter:
    """Counts what runs inside its `with` block; read the counts from it afterwards.

        with FlopCounter() as counter:
            model(x)
        counter.flops, counter.macs, counter.by_module["layer4"].flops

    All counts are plain integers in base units; memory is in bytes. Operators with no
    formula are in `counter.uncounted`. It can be entered again, and then starts anew.
    """

    @uncompiled
    def __init__(
        self,
        root: nn.Module | None = None,
        *,
        memory: bool = True,
        lines: bool = False,
        process_memory: bool = False,
    ) -> None:
        """A counter that has not counted yet.

        root: the module whose path is ``""``; without it, the first one called.
        memory: whether bytes, peak memory, parameters and size are measured as well;
        without them counting costs about two thirds.
        lines: whether the counts are also kept by source line, in `counter.by_line`.
        process_memory: whether to take `allocator_peak` and `rss_peak` of this machine too.
        """
        self._root = root
        self._has_memory = memory
        self._has_lines = lines
        self._has_process_memory = process_memory
        self._region: DispatchPass | None = None
        self._unread: DispatchPass | None = None
        self._is_partial = False
        self._measurement: Measurement | None = None
        self._stand_ins: AbstractContextManager[object] | None = None
        self._paused: Any = None

    @uncompiled_here
    def __enter__(self) -> FlopCounter:
        if self._region is not None:
            raise MeasureError("this FlopCounter is counting already; make a second one")
        paused = pause()
        region = None
        try:
            self._measurement = self._unread = None
            mode = active_mode()
            region = new_region(
                self._root,
                memory=self._has_memory,
                lines=self._has_lines,
                process_memory=self._has_process_memory,
            )
            region.__enter__()
            self._region = region
            if mode is not None:
                stand_ins = stand_ins_for(mode)
                stand_ins.__enter__()
                self._stand_ins = stand_ins
        except BaseException:  # whatever it is: no block follows in which nothing is compiled
            self._region = None
            if region is not None:
                region.__exit__()
            resume(paused)
            raise
        self._paused = paused
        return self

    @uncompiled_here
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        region = self._region
        if region is None:
            return
        try:
            if self._stand_ins is not None:
                self._stand_ins.__exit__(kind, error, traceback)
        finally:
            region.__exit__(kind, error, traceback)
            self._region = self._stand_ins = None
            resume(self._paused)
            # Put together when it is asked for: many a counter is only asked for one number.
            self._unread, self._is_partial = region, error is not None

    @property
    def measurement(self) -> Measurement:
        """Everything that was counted in the last `with` block."""
        if self._unread is not None:
            self._measurement = self._unread.measurement(is_partial=self._is_partial)
            self._unread = None
        if self._measurement is None:
            state = "is still counting" if self._region is not None else "has counted nothing yet"
            raise MeasureError(f"this FlopCounter {state}; read it after its `with` block")
        return self._measurement

    def __getattr__(self, name: str) -> Any:
        """A count of the last `with` block, such as `flops` or `by_module`."""
        if name not in METRICS and (name.startswith("_") or not hasattr(Measurement, name)):
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        return getattr(self.measurement, name)
