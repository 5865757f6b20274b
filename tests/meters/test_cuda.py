"""CUDA with a stand-in for the device, as none is here, and on a real one where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from pytest_flopbudget.meters import cuda as cuda_module
from pytest_flopbudget.meters.cuda import CudaPeak, EventWatch, call_aside, cuda_devices
from pytest_flopbudget.meters.latency import LatencyTimer
from pytest_flopbudget.meters.measure import measure, time_call

on_device = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"
)


class Device:
    """Stands in for `torch.cuda`: one clock for all devices, and a log of what is asked."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.log: list[str] = []
        self.here = "main"

    def Event(self, *, enable_timing: bool) -> _Event:  # noqa: N802 - torch's name for it
        assert enable_timing
        return _Event(self)

    def Stream(self, device: str) -> _Stream:  # noqa: N802 - the same
        return _Stream(self, f"side of {device}")

    def current_stream(self, device: str) -> _Stream:
        return _Stream(self, f"{self.here} of {device}")

    @contextmanager
    def stream(self, stream: _Stream) -> Iterator[None]:
        self.here, before = stream.name, self.here
        yield
        self.here = before

    def synchronize(self, device: str | None) -> None:
        self.log.append(f"synchronize {device}")


class _Stream:
    def __init__(self, device: Device, name: str) -> None:
        self.name = name
        self._device = device

    def wait_stream(self, other: _Stream) -> None:
        self._device.log.append(f"{self.name} waits for {other.name}")


class _Event:
    def __init__(self, device: Device) -> None:
        self._device = device
        self.at_ms: float | None = None

    def record(self, stream: _Stream) -> None:
        self._device.log.append(f"record on {stream.name}")
        self.at_ms = self._device.now_ms

    def elapsed_time(self, end: _Event) -> float:
        assert self.at_ms is not None
        assert end.at_ms is not None
        assert self._device.log[-1].startswith("synchronize"), "the end may not be reached yet"
        return end.at_ms - self.at_ms


@pytest.fixture
def fakes() -> Iterator[None]:
    """A block in which tensors can be made on devices that are not there."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """The stand-in, as `torch.cuda`."""
    device = Device()
    for name in ("Event", "Stream", "current_stream", "stream", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, getattr(device, name))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", list)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda _states: None)
    return device


@dataclass
class Batch:
    images: object
    label: int = 3


class Buffered(nn.Module):
    def __init__(self, buffer: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", buffer)


class Weighted(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.inner = nn.ParameterList([weight])


@pytest.mark.usefixtures("fakes")
class TestDevices:
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda t: t,
            lambda t: [1, (t,)],
            lambda t: {"a": {"b": t}},
            lambda t: Batch(images=[t]),
            Buffered,
            lambda t: partial(print, t),
            lambda t: partial(print, end=t),
            lambda t: lambda: t,
            lambda t: nn.Sequential(Weighted(t)).forward,
        ],
    )
    def test_a_tensor_is_found_wherever_a_call_may_keep_it(
        self, wrap: Callable[[torch.Tensor], object]
    ) -> None:
        assert cuda_devices(wrap(torch.empty(2, device="cuda:1"))) == ("cuda:1",)

    def test_tensors_of_the_cpu_and_what_holds_none_have_no_device(self) -> None:
        ring: list[object] = [torch.empty(2), None, 3, "cuda:0", print, Batch]
        ring.append(ring)
        assert cuda_devices(ring) == ()

    def test_several_devices_are_told_in_order(self) -> None:
        values = [torch.empty(2, device=f"cuda:{n}") for n in (1, 0, 1)]
        assert cuda_devices(values) == ("cuda:0", "cuda:1")


def test_the_events_times_are_seconds_and_the_device_is_waited_for() -> None:
    device = Device()
    watch = EventWatch(device, "cuda:1")
    watch.start()
    device.now_ms += 0.25
    assert watch.stop() == 0.00025
    assert device.log == [
        "synchronize cuda:1",
        "record on main of cuda:1",
        "record on main of cuda:1",
        "synchronize cuda:1",
    ]


def test_the_first_calls_have_a_stream_of_their_own_and_the_rest_waits() -> None:
    device = Device()
    calls = iter("abcd")

    def call() -> str:
        device.log.append(f"called on {device.here}")
        return next(calls)

    assert call_aside(device, "cuda:0", call) == "c"
    assert device.log == [
        "side of cuda:0 waits for main of cuda:0",
        *["called on side of cuda:0"] * 3,
        "main of cuda:0 waits for side of cuda:0",
    ]


class Work:
    """A callable that takes the device 2 ms, and the host's clock 1 s."""

    def __init__(self, device: Device, result: object) -> None:
        self.host_s = 0.0
        self.streams: list[str] = []
        self._device = device
        self._result = result

    def __call__(self, *_args: object) -> object:
        self.host_s += 1.0
        self._device.now_ms += 2.0
        self.streams.append(self._device.here)
        return self._result

    def timer(self) -> LatencyTimer:
        return LatencyTimer(clock=lambda: self.host_s, time_limit_s=0.0)


@pytest.mark.usefixtures("fakes")
class TestTimer:
    def test_tensors_on_a_device_are_timed_by_its_clock(self, device: Device) -> None:
        work = Work(device, None)
        samples = work.timer().measure(work, torch.empty(2, device="cuda:0"))
        assert samples.device == "cuda:0"
        assert samples.median == samples.minimum == 0.002
        assert work.streams[:4] == ["side of cuda:0"] * 3 + ["main"]

    def test_what_comes_back_from_a_device_is_timed_by_its_clock_too(self, device: Device) -> None:
        work = Work(device, {"logits": torch.empty(2, device="cuda:1")})
        samples = work.timer().measure(work)
        assert (samples.device, samples.median) == ("cuda:1", 0.002)
        # Nothing said before its first call that it is on a device.
        assert set(work.streams) == {"main"}

    def test_two_devices_are_timed_by_the_hosts_clock_and_both_waited_for(
        self, device: Device
    ) -> None:
        work = Work(device, torch.empty(2, device="cuda:1"))
        samples = work.timer().measure(work, torch.empty(2, device="cuda:0"))
        assert (samples.device, samples.median) == ("cuda:0,cuda:1", 1.0)
        assert {"synchronize cuda:0", "synchronize cuda:1"} <= set(device.log)

    def test_tensors_of_the_cpu_are_timed_by_the_hosts_clock(self, device: Device) -> None:
        work = Work(device, torch.empty(2))
        samples = work.timer().measure(work, torch.empty(2))
        assert (samples.device, samples.median) == (None, 1.0)
        # As a device is in use, something unseen may run on it.
        assert set(device.log) == {"synchronize None"}


class Allocator:
    """Stands in for `torch.cuda`'s memory statistics of two devices."""

    def __init__(self) -> None:
        self.now = [0, 0]
        self.marks = [0, 0]

    def device_count(self) -> int:
        return 2

    def reset_peak_memory_stats(self, device: int) -> None:
        self.marks[device] = self.now[device]

    def max_memory_allocated(self, device: int) -> int:
        return self.marks[device]

    def use(self, device: int, nbytes: int) -> None:
        self.now[device] += nbytes
        self.marks[device] = max(self.marks[device], self.now[device])


class TestPeak:
    def test_it_is_the_highest_mark_of_any_device_since_the_start(self) -> None:
        memory = Allocator()
        memory.use(0, 100)
        memory.use(0, -90)
        peak = CudaPeak(lambda: memory)
        peak.start()
        memory.use(0, 5)
        memory.use(1, 40)
        memory.use(1, -40)
        peak.stop()
        memory.use(1, 1000)
        assert peak.peak == 40

    def test_what_lies_there_at_the_start_is_in_it(self) -> None:
        memory = Allocator()
        memory.use(0, 100)
        peak = CudaPeak(lambda: memory)
        peak.start()
        peak.stop()
        assert peak.peak == 100

    def test_a_region_within_another_leaves_that_its_peak(self) -> None:
        memory = Allocator()
        outer, inner = CudaPeak(lambda: memory), CudaPeak(lambda: memory)
        outer.start()
        memory.use(0, 70)
        memory.use(0, -60)
        inner.start()
        memory.use(0, 20)
        inner.stop()
        outer.stop()
        assert (outer.peak, inner.peak) == (70, 30)
        assert cuda_module._OPEN == []

    def test_a_device_that_is_taken_up_within_the_region_counts(self) -> None:
        memory = Allocator()
        found: list[Any] = [None]
        peak = CudaPeak(lambda: found[0])
        peak.start()
        found[0] = memory
        memory.use(0, 30)
        peak.stop()
        assert peak.peak == 30

    def test_without_a_device_there_is_none_and_a_reason(self) -> None:
        measured = measure(torch.ones, 3, process_memory=True)
        assert "cuda_peak_memory" not in measured.values
        assert measured.absent["cuda_peak_memory"] == "no CUDA device is in use"


@on_device
class TestRealDevice:
    def test_the_devices_clock_times_what_is_launched(self) -> None:
        a = torch.ones(512, 512, device="cuda")
        samples = LatencyTimer(time_limit_s=0.2)(torch.mm, a, a)
        assert samples.device == "cuda:0"
        assert 0 < samples.minimum <= samples.median <= samples.maximum

    def test_what_was_timed_can_be_captured_and_its_graph_be_timed(self) -> None:
        layer, x = nn.Linear(64, 64, device="cuda"), torch.ones(8, 64, device="cuda")
        with torch.no_grad():
            LatencyTimer(time_limit_s=0.1)(layer, x)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = layer(x)
            # The graph and what it writes are seen through the closure alone.
            samples = LatencyTimer(time_limit_s=0.1)(lambda: (graph.replay(), out))
        assert samples.device == "cuda:0"

    def test_the_peak_holds_what_was_allocated_and_let_go(self) -> None:
        before = torch.empty(2**18, device="cuda")
        measured = measure(lambda: before.new_empty(2**20).sum(), process_memory=True)
        # 4 bytes each: 1 MiB from before, and 4 MiB within.
        assert measured.values["cuda_peak_memory"].value >= 5 * 2**20

    def test_work_on_a_device_is_not_held_to_the_cpus_roof(self) -> None:
        a = torch.ones(64, 64, device="cuda")
        counted = measure(torch.mm, a, a)
        timer = LatencyTimer(time_limit_s=0.1)
        timed = time_call(counted, timer, torch.mm, (a, a), {}, has_utilization=True)
        assert timed.values["flops_per_second"].value > 0
        assert "the rate of float32 on cuda is not measured" in timed.absent["utilization"]
