"""Latency: how long a call takes, sampled until its median is known well enough."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final, final

from pytest_flopbudget.core import statistics
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.measurement import Samples, Value
from pytest_flopbudget.meters.cuda import EventWatch, call_aside, cuda_devices, cuda_in_use
from pytest_flopbudget.meters.randomness import preserved_random_state

_SHORTEST_ROUND_S: Final = 100e-6
"""A thousand times what reading the clock costs, which is about 0.1 us. A callable below it
is called several times a round, enough for twice as long."""
_MOST_CALLS_PER_ROUND: Final = 10_000
"""Enough for 20 ns a call, which is less than Python takes to call anything."""
_WARMUP_ROUNDS: Final = 20
_WARMUP_S: Final = 0.3
"""The first call takes 1.4 to 3.5 times as long as later ones; after 20 calls or 0.3 s
they were within 5 % of steady in the transformer and the CNN that were tried."""
_DRIFT_ROUNDS: Final = 10
"""The last rounds of the warm-up, over which it must be steady."""
_FEWEST_ROUNDS: Final = 6
"""With fewer, no interval of the median attains 95 %, and no drift shows."""
_LOOK_AGAIN: Final = 1.2
"""Growth of the series between two looks at its interval. Looking after every round would
cost more than the round, and stop at the first narrow interval that chance provides."""


@final
@dataclass(slots=True, kw_only=True)
class LatencyTimer:
    """Times a callable until the confidence interval of its median is narrow enough.

    As a context manager it keeps the threads set and the garbage collector off
    for several measurements; without `with`, each measurement does so for itself.
    """

    threads: int = 1
    """Threads that torch may use within one operator."""
    confidence: float = 0.95
    target: float = 0.02
    """Half of the interval's width, as a share of the median, at which rounds end."""
    time_limit_s: float = 2.0
    """Time for the rounds, and once more at most for the warm-up. Six rounds are taken
    even when they take longer."""
    min_rounds: int = 40
    """Rounds taken however narrow the interval, as far as the time allows."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds since any moment."""
    exclusive: Callable[[], AbstractContextManager[object]] = nullcontext
    """Entered around every measurement, such as what keeps other processes from timing."""
    _quiet: ExitStack = field(default_factory=ExitStack, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise MeasureError(
                f"LatencyTimer: confidence is {self.confidence}; write a share, such as 0.95"
            )

    def __enter__(self) -> LatencyTimer:
        self._quiet.enter_context(quiet_process(self.threads))
        return self

    def __exit__(self, *_: object) -> None:
        self._quiet.close()

    def __call__(self, fn: Callable[..., object], /, *args: Any, **kwargs: Any) -> Samples:
        """The same as `measure`."""
        return self.measure(fn, *args, **kwargs)

    def measure(self, fn: Callable[..., object], /, *args: Any, **kwargs: Any) -> Samples:
        """The summary of many timed calls of `fn`, in seconds for one call.

        Calls it at least eight times: the effects of the code happen again, except on
        the random state. An exception of the code ends the measurement and
        propagates; threads, garbage collector and random state are restored.
        """
        series = _Series(fn, args, kwargs, self.clock)
        with self.exclusive(), preserved_random_state(), quiet_process(self.threads):
            warmup, is_steady = self._warm_up(series)
            rounds = self._take_rounds(series)
        return self._summary(series, rounds, warmup_rounds=warmup, is_steady=is_steady)

    def _warm_up(self, series: _Series) -> tuple[int, bool]:
        """The number of rounds run before the ones that count, and whether it was enough."""
        # The first call may compile, and take longer than all others: it has no say in
        # when there were enough.
        series.first_calls()
        start = self.clock()
        times = series.calibrate(min(_WARMUP_S, self.time_limit_s))
        while True:
            spent = self.clock() - start
            is_spent = spent >= self.time_limit_s
            is_enough = spent >= _WARMUP_S and len(times) >= _FEWEST_ROUNDS
            if is_enough or is_spent or len(times) >= _WARMUP_ROUNDS:
                is_steady = not statistics.is_drifting(times[-_DRIFT_ROUNDS:], self.target)
                if is_steady or is_spent:
                    return 1 + len(times), is_steady
            times.append(series.round())

    def _take_rounds(self, series: _Series) -> list[float]:
        """Seconds per call of each round, until the interval is narrow or the time is spent."""
        start = self.clock()
        times: list[float] = []
        next_look = max(self.min_rounds, 1)
        while True:
            times.append(series.round())
            if len(times) >= next_look:
                if self._is_narrow(times):
                    return times
                next_look = math.ceil(next_look * _LOOK_AGAIN)
            is_enough = len(times) >= min(self.min_rounds, _FEWEST_ROUNDS)
            if is_enough and self.clock() - start >= self.time_limit_s:
                return times

    def _is_narrow(self, times: list[float]) -> bool:
        interval = self._interval(times)
        centre = statistics.median(times)
        width = statistics.relative_half_width(interval, centre)
        return interval.confidence >= self.confidence and width <= self.target

    def _interval(self, times: list[float]) -> statistics.Interval:
        return statistics.median_interval(times, self.confidence, statistics.dependence(times))

    def _summary(
        self, series: _Series, times: list[float], *, warmup_rounds: int, is_steady: bool
    ) -> Samples:
        interval = self._interval(times)
        p95 = self._tail_interval(times, 0.95)
        p99 = self._tail_interval(times, 0.99)
        return Samples(
            rounds=len(times),
            warmup_rounds=warmup_rounds,
            threads=self.threads,
            median=statistics.median(times),
            low=interval.low,
            high=interval.high,
            confidence=interval.confidence,
            p95=statistics.percentile(times, 0.95),
            p99=statistics.percentile(times, 0.99),
            minimum=min(times),
            maximum=max(times),
            is_steady=is_steady,
            calls_per_round=series.calls_per_round,
            device=series.device,
            p95_low=p95.low if p95 else None,
            p95_high=p95.high if p95 else None,
            p99_low=p99.low if p99 else None,
            p99_high=p99.high if p99 else None,
        )

    def _tail_interval(self, times: list[float], share: float) -> statistics.Interval | None:
        worth = statistics.dependence(times)
        return statistics.percentile_interval(times, share, self.confidence, worth)


class _HostWatch:
    """Times what runs between start and stop by the host's clock, to the end on the device.

    devices: those that the work is known to run on; without any, and with CUDA in use, the
    current one is waited for, as a closure may hold its tensors and launches alone take
    almost no time.
    """

    def __init__(self, clock: Callable[[], float], devices: tuple[str, ...] = ()) -> None:
        self.device = ",".join(devices) or None
        self._clock = clock
        self._devices = devices or (None,)
        self._start = 0.0

    def start(self) -> None:
        synchronize(self._devices)
        self._start = self._clock()

    def stop(self) -> float:
        synchronize(self._devices)
        return self._clock() - self._start


class _Series:
    """One callable with its arguments, timed round by round."""

    def __init__(
        self,
        fn: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        clock: Callable[[], float],
    ) -> None:
        self.calls_per_round = 1
        self._fn = fn
        self._args = args
        self._kwargs = kwargs
        self._clock = clock
        self._watch: _HostWatch | EventWatch = _HostWatch(clock)

    @property
    def device(self) -> str | None:
        """The CUDA device on which it was timed, or several; None for none that is known."""
        return self._watch.device

    def first_calls(self) -> None:
        """Call it before any round, and find out on which device its tensors live.

        One call, which may compile; on a device a few, so that its code may capture graphs.
        """
        cuda = cuda_in_use()
        known = () if cuda is None else cuda_devices((self._fn, self._args, self._kwargs))
        is_alone = len(known) == 1
        result = call_aside(cuda, known[0], self._call) if is_alone else self._call()
        # What the code itself made, or closed over in a way that cannot be seen, may be there.
        cuda = cuda_in_use()
        if cuda is None:
            return
        devices = tuple(sorted({*known, *cuda_devices(result)}))
        if len(devices) == 1:
            self._watch = EventWatch(cuda, devices[0])
        else:
            self._watch = _HostWatch(self._clock, devices)

    def _call(self) -> object:
        return self._fn(*self._args, **self._kwargs)

    def round(self) -> float:
        """Seconds per call over one round."""
        fn, args, kwargs = self._fn, self._args, self._kwargs
        calls = repeat(None, self.calls_per_round)
        self._watch.start()
        for _ in calls:
            fn(*args, **kwargs)
        return self._watch.stop() / self.calls_per_round

    def calibrate(self, time_limit_s: float) -> list[float]:
        """Grow the rounds of a short callable until the clock resolves them.

        Returns the seconds per call of the rounds that it took.
        """
        times: list[float] = []
        start = self._clock()
        while True:
            # The best of three: a slow first call must not pass for a slow callable.
            for _ in range(3):
                times.append(self.round())
                if self._clock() - start >= time_limit_s:
                    return times
            call_s, calls = min(times[-3:]), self.calls_per_round
            if call_s * calls >= _SHORTEST_ROUND_S or calls == _MOST_CALLS_PER_ROUND:
                return times
            # A step at a time: a clock too coarse to see one call says nothing of how many
            # are enough.
            self.calls_per_round = min(100 * calls, _calls_for(2 * _SHORTEST_ROUND_S, call_s))


def samples_to_values(samples: Samples) -> dict[str, Value]:
    """The sampled metrics, in seconds and calls per second, with their intervals.

    A percentile has no interval when there were too few rounds for one.
    """
    values = {
        "latency": Value(value=samples.median, low=samples.low, high=samples.high),
        "latency_p95": Value(value=samples.p95, low=samples.p95_low, high=samples.p95_high),
        "latency_p99": Value(value=samples.p99, low=samples.p99_low, high=samples.p99_high),
    }
    # A time of zero, from a clock too coarse for the callable, has no rate.
    if samples.low > 0:
        values["throughput"] = Value(
            value=1 / samples.median, low=1 / samples.high, high=1 / samples.low
        )
    return values


def _calls_for(round_s: float, call_s: float) -> int:
    if call_s <= 0:
        return _MOST_CALLS_PER_ROUND
    return min(_MOST_CALLS_PER_ROUND, math.ceil(round_s / call_s))


@contextmanager
def quiet_process(threads: int) -> Iterator[None]:
    """A block with so many torch threads, and no garbage collection in the middle of a round."""
    was_collecting = gc.isenabled()
    torch = sys.modules.get("torch")
    threads_before = torch.get_num_threads() if torch is not None else threads
    if was_collecting:
        gc.collect()
        gc.disable()
    try:
        if torch is not None and threads_before != threads:
            torch.set_num_threads(threads)
        yield
    finally:
        if was_collecting:
            gc.enable()
        if torch is not None and threads_before != threads:
            torch.set_num_threads(threads_before)


def synchronize(devices: Iterable[str | None] = (None,)) -> None:
    """Wait for what was launched on these CUDA devices, by default on the current one.

    Wherever CUDA is in use, not only where an argument is on it: a model, or a closure,
    may hold the device's tensors, and launches alone take almost no time.
    """
    cuda = cuda_in_use()
    if cuda is not None:
        for device in devices:
            cuda.synchronize(device)
