"""A region while it runs: the counting pass and, where it is asked for, the process's memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.measurement import Measurement, Value
from pytest_flopbudget.core.metrics import METRICS
from pytest_flopbudget.meters.allocator import AllocatorTrace
from pytest_flopbudget.meters.cuda import CudaPeak
from pytest_flopbudget.meters.dispatch import DispatchPass
from pytest_flopbudget.meters.resident import ResidentPeak


class Region:
    """Measures what runs between enter and exit; read the measurement afterwards.

    root, memory, lines: as `DispatchPass` takes them.
    process_memory: whether to take `allocator_peak`, `rss_peak` and `cuda_peak_memory` of this
    machine too.
    Counting makes no tensors, so that all are the same as without it.
    """

    def __init__(
        self,
        root: nn.Module | None = None,
        *,
        memory: bool = True,
        lines: bool = False,
        process_memory: bool = False,
    ) -> None:
        self._counting = DispatchPass(root, memory=memory, lines=lines)
        self._process = (AllocatorTrace(), ResidentPeak(), CudaPeak()) if process_memory else None

    @property
    def has_process_memory(self) -> bool:
        """Whether it takes the machine's peaks as well."""
        return self._process is not None

    def __enter__(self) -> Region:
        self._counting.__enter__()
        if self._process is not None:
            allocator, resident, cuda = self._process
            try:
                cuda.start()
                resident.start()
                allocator.start()
            except BaseException:  # an interrupt: nothing of the region is to be left
                self.__exit__()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._stop()
        except MeasureError:  # everything is stopped, and it says what the code did wrong
            raise
        except BaseException:  # an interrupt, which may have come between any two steps
            self._stop()
            raise

    def _stop(self) -> None:
        """Measure no more; what has been stopped already stays so."""
        try:
            if self._process is not None:
                allocator, resident, cuda = self._process
                # First, as what the trace holds is read into memory when it stops.
                resident.stop()
                allocator.stop()
                cuda.stop()
        finally:
            self._counting.__exit__()

    def measurement(
        self, name: str = "", *, is_partial: bool = False, output: Any = None
    ) -> Measurement:
        """Everything that was measured, and of what was asked for beside it, why it is absent."""
        counted = self._counting.measurement(name, is_partial=is_partial, output=output)
        if self._process is None:
            return counted
        allocator, resident, cuda = self._process
        found = {
            "allocator_peak": (allocator.peak, allocator.why_absent),
            "rss_peak": (resident.peak, resident.why_absent),
            "cuda_peak_memory": (cuda.peak, cuda.why_absent),
        }
        if self._counting.is_threaded:
            found["allocator_peak"] = (None, "torch does not tell what its other threads take")
        known = {name: Value(value=peak) for name, (peak, _) in found.items() if peak is not None}
        absent = {name: why for name, (peak, why) in found.items() if peak is None}
        values = {**counted.values, **known}
        # Memory stands together, as in the catalogue.
        ordered = {name: values[name] for name in METRICS if name in values}
        return replace(counted, values=ordered, absent={**counted.absent, **absent})
