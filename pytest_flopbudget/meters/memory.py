"""Tracking the tensor memory of a block of code."""

from __future__ import annotations

from types import TracebackType

from pytest_flopbudget.meters.counter import FlopCounter


class MemoryTracker:
    """Tracks tensor storage inside its `with` block; read the peak from it afterwards.

        with MemoryTracker() as memory:
            loss(model(x)).backward()
        memory.peak_memory, memory.activation_memory

    Bytes of tensor storage as the operators see it: scratch inside an operator and
    NumPy's own memory are not in it. With `process_memory` there are also `allocator_peak`
    and `rss_peak`, which have them, and are of this machine.
    """

    def __init__(self, *, process_memory: bool = False) -> None:
        self._counter = FlopCounter(process_memory=process_memory)

    def __enter__(self) -> MemoryTracker:
        self._counter.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._counter.__exit__(kind, error, traceback)

    @property
    def peak_memory(self) -> int:
        """The most bytes of tensor storage alive at one time.

        Holds what the block allocated, and the parameters, buffers and inputs that it
        touched.
        """
        return int(self._counter.measurement.peak_memory)

    @property
    def activation_memory(self) -> int:
        """The part of that peak, in bytes, which the block itself allocated."""
        return int(self._counter.measurement.activation_memory)

    @property
    def allocator_peak(self) -> int:
        """The most bytes that torch's CPU allocator handed out to the block at one time."""
        return int(self._counter.measurement.allocator_peak)

    @property
    def rss_peak(self) -> int:
        """The most bytes of the whole process that were resident during the block."""
        return int(self._counter.measurement.rss_peak)

    @property
    def at_peak(self) -> dict[tuple[str, str], int]:
        """Bytes alive at the peak, by module path and by the operator that allocated them.

        `parameter`, `buffer` and `input` stand for storage that was there before.
        """
        return {
            (module.path, row.operator): row.counts.peak_memory
            for module in self._counter.measurement.modules
            for row in module.operators
            if row.counts.peak_memory
        }
