"""CUDA devices: which one a call's tensors live on, its clock, and its allocator's peak.

Nothing here imports torch, or takes a device up that is not in use. `torch.cuda` is handed
in, so that what is done with it can be tested where there is no device.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

_WARM_UP_CALLS: Final = 3
"""On a stream of their own, before any other: as many as torch's notes on CUDA graphs take."""
_MS: Final = 1e-3
_OPEN: Final[list[CudaPeak]] = []
"""Those between start and stop: resetting the mark for one loses it for those around it."""


def cuda_in_use() -> Any:
    """`torch.cuda` once this process uses a device, else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def cuda_devices(values: object) -> tuple[str, ...]:
    """The CUDA devices on which tensors among the values live, such as `("cuda:0",)`.

    Looks at tensors, the parameters and buffers of modules, what containers, dataclasses and
    `functools.partial` hold, the object of a bound method, and what a function has closed over.
    """
    found = {str(tensor.device) for tensor in _tensors(values, set())}
    return tuple(sorted(device for device in found if device.startswith("cuda")))


def _tensors(value: object, seen: set[int]) -> Iterator[Any]:
    """The tensors in the value, each object looked at once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    torch = sys.modules["torch"]
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, torch.nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    else:
        for part in _parts(value):
            yield from _tensors(part, seen)


def _parts(value: object) -> Iterable[object]:
    """What the value is made of, as far as tensors may be in it."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, partial):
        return (value.func, value.args, value.keywords)
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, part.name, None) for part in fields(value)]
    if isinstance(value, MethodType):
        return (value.__self__, value.__func__)
    cells = value.__closure__ if isinstance(value, FunctionType) else None
    return [_content(cell) for cell in cells or ()]


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None


def call_aside(cuda: Any, device: str, call: Callable[[], _T]) -> _T:
    """The last result of a few calls on a stream of their own, and all else waits for them.

    A capture into a CUDA graph wants what it captures to have run so before: libraries
    are loaded and workspaces allocated then, and not within the capture. Source: torch's
    notes on CUDA semantics, "Whole-network capture".
    """
    stream = cuda.Stream(device)
    stream.wait_stream(cuda.current_stream(device))
    with cuda.stream(stream):
        for _ in range(_WARM_UP_CALLS - 1):
            call()
        result = call()
    cuda.current_stream(device).wait_stream(stream)
    return result


class EventWatch:
    """Times what is launched between start and stop by the device's own clock.

    Of the device's current stream, at some 0.5 us: launches that the host makes too slowly
    are in it, as the device then waits. Work that the code leaves on another stream, without
    making the current one wait for it, is not.
    """

    def __init__(self, cuda: Any, device: str) -> None:
        self.device = device
        self._cuda = cuda
        self._begin = cuda.Event(enable_timing=True)
        self._end = cuda.Event(enable_timing=True)

    def start(self) -> None:
        """Begin, once the device has done what it was given before."""
        self._cuda.synchronize(self.device)
        self._begin.record(self._cuda.current_stream(self.device))

    def stop(self) -> float:
        """Seconds since the start, once the device is done."""
        self._end.record(self._cuda.current_stream(self.device))
        self._cuda.synchronize(self.device)
        return float(self._begin.elapsed_time(self._end)) * _MS


class CudaPeak:
    """From `start` to `stop`, the most bytes that torch's CUDA allocator had handed out.

    On the device that had the most, with all that was there at the start. It resets torch's
    own peak statistics.
    """

    def __init__(self, cuda: Callable[[], Any] = cuda_in_use) -> None:
        self.peak: int | None = None
        """Bytes at the peak; None where no device was in use at the end."""
        self.why_absent = "no CUDA device is in use"
        self._cuda = cuda

    def start(self) -> None:
        """Set every device's mark to what is allocated now."""
        for outer in _OPEN:
            outer.note()
        cuda = self._cuda()
        if cuda is not None:
            for device in range(cuda.device_count()):
                cuda.reset_peak_memory_stats(device)
        _OPEN.append(self)

    def stop(self) -> None:
        """Read the marks."""
        if self in _OPEN:
            _OPEN.remove(self)
            self.note()

    def note(self) -> None:
        """Take the highest mark as it stands, where it is higher than what was noted before."""
        cuda = self._cuda()
        if cuda is None:
            return
        marks = [cuda.max_memory_allocated(device) for device in range(cuda.device_count())]
        self.peak = max(self.peak or 0, *marks)
