"""A region while it runs: the counting pass and, where it is asked for, the process's memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from pytest_flopbudget.core.measurement import Measurement, Value
from pytest_flopbudget.core.metrics import METRICS
from pytest_flopbudget.meters.allocator import AllocatorTrace
from pytest_flopbudget.meters.cuda import CudaPeak
from pytest_flopbudget.meters.dispatch import DispatchPass
from pytest_flopbudget.meters.resident import ResidentPeak


def new_region(
    root: nn.Module | None = None,
    *,
    memory: bool = True,
    lines: bool = False,
    process_memory: bool = False,
) -> DispatchPass:
    """What measures a block that it is entered for; read its `measurement` afterwards.

    root, memory, lines: as `DispatchPass` takes them.
    process_memory: whether to take `allocator_peak`, `rss_peak` and `cuda_peak_memory` of this
    machine too.
    Counting makes no tensors, so that all are the same as without it.
    """
    kind = ProcessRegion if process_memory else DispatchPass
    return kind(root, memory=memory, lines=lines)


class ProcessRegion(DispatchPass):
    """The counting pass, and the peaks of the process's memory beside it."""

    has_process_memory = True

    def __init__(
        self, root: nn.Module | None = None, *, memory: bool = True, lines: bool = False
    ) -> None:
        super().__init__(root, memory=memory, lines=lines)
        self._process = AllocatorTrace(), ResidentPeak(), CudaPeak()

    def __enter__(self) -> ProcessRegion:
        super().__enter__()
        allocator, resident, cuda = self._process
        try:
            cuda.start()
            resident.start()
            allocator.start()
        except BaseException:  # an interrupt: nothing of the region is to be left
            self.__exit__()
            raise
        return self

    def _leave(self) -> None:
        try:
            allocator, resident, cuda = self._process
            # First, as what the trace holds is read into memory when it stops.
            resident.stop()
            allocator.stop()
            cuda.stop()
        finally:
            super()._leave()

    def measurement(
        self, name: str = "", *, is_partial: bool = False, output: Any = None
    ) -> Measurement:
        """Everything that was measured, and of what was asked for beside it, why it is absent."""
        counted = super().measurement(name, is_partial=is_partial, output=output)
        allocator, resident, cuda = self._process
        found = {
            "allocator_peak": (allocator.peak, allocator.why_absent),
            "rss_peak": (resident.peak, resident.why_absent),
            "cuda_peak_memory": (cuda.peak, cuda.why_absent),
        }
        if self.is_threaded:
            found["allocator_peak"] = (None, "torch does not tell what its other threads take")
        known = {name: Value(value=peak) for name, (peak, _) in found.items() if peak is not None}
        absent = {name: why for name, (peak, why) in found.items() if peak is None}
        values = {**counted.values, **known}
        # Memory stands together, as in the catalogue.
        ordered = {name: values[name] for name in METRICS if name in values}
        return replace(counted, values=ordered, absent={**counted.absent, **absent})
