"""The timer against a clock that moves only when the timed code says so."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, cycle, repeat

import numpy as np
import pytest
import torch

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.meters.latency import LatencyTimer, samples_to_values

from ..builders import sampled


class FakeClock:
    """Seconds that pass only while a timed callable runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = 0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: Iterator[float]) -> Callable[[], None]:
        """A callable whose n-th call takes the n-th of the times."""

        def call() -> None:
            self.calls += 1
            self.now += next(seconds)

        return call


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_constant_callable_is_measured_exactly(clock: FakeClock) -> None:
    samples = LatencyTimer(clock=clock).measure(clock.work(repeat(0.25)))
    assert samples.median == samples.low == samples.high == samples.p99 == 0.25
    assert samples.is_steady
    assert samples.calls_per_round == 1


def test_rounds_end_as_soon_as_the_interval_is_narrow(clock: FakeClock) -> None:
    samples = LatencyTimer(clock=clock).measure(clock.work(repeat(2**-10)))
    assert samples.rounds == LatencyTimer().min_rounds == 40
    assert samples.confidence >= 0.95


def test_rounds_go_on_until_the_time_is_spent_when_the_interval_stays_wide(
    clock: FakeClock,
) -> None:
    samples = LatencyTimer(clock=clock, time_limit_s=1.5).measure(clock.work(cycle([2**-7, 2**-6])))
    assert (samples.low, samples.high) == (2**-7, 2**-6)
    # Two rounds take 3 * 2^-7 s, so that 64 of them take the 1.5 s.
    assert samples.rounds == 128


def test_six_rounds_are_taken_even_when_the_time_is_spent(clock: FakeClock) -> None:
    samples = LatencyTimer(clock=clock, time_limit_s=2.0).measure(clock.work(repeat(8.0)))
    assert samples.rounds == 6
    assert samples.warmup_rounds == 2
    assert samples.confidence == 1 - 2 / 2**6


def test_fewer_rounds_when_asked_for_say_what_they_attain(clock: FakeClock) -> None:
    timer = LatencyTimer(clock=clock, time_limit_s=2.0, min_rounds=2)
    samples = timer.measure(clock.work(cycle([8.0, 9.0])))
    assert samples.rounds == 2
    assert (samples.low, samples.high) == (8.0, 9.0)
    assert samples.confidence == 0.5


def test_a_slow_start_is_left_to_the_warm_up(clock: FakeClock) -> None:
    # Halves towards 1 ms: within 2 % of it after log2(50 * 15) = 10 calls.
    falling = (2**-10 * (1 + 15 * 0.5**n) for n in range(40))
    samples = LatencyTimer(clock=clock).measure(clock.work(chain(falling, repeat(2**-10))))
    assert samples.is_steady
    assert samples.maximum < 1.02 * 2**-10


def test_a_first_call_that_compiles_does_not_use_up_the_warm_up(clock: FakeClock) -> None:
    times = chain([64.0], [2**-9] * 10, repeat(2**-10))
    samples = LatencyTimer(clock=clock).measure(clock.work(times))
    assert samples.warmup_rounds > 10
    assert samples.maximum == 2**-10


def test_warm_up_goes_on_while_the_series_falls(clock: FakeClock) -> None:
    falling = [2**-9 - 2**-16 * n for n in range(50)]
    samples = LatencyTimer(clock=clock).measure(clock.work(chain(falling, repeat(2**-10))))
    assert samples.is_steady
    assert samples.warmup_rounds > 50
    assert samples.maximum == 2**-10


def test_a_series_that_never_settles_is_said_to_be_unsteady(clock: FakeClock) -> None:
    rising = (0.01 * 1.02**n for n in range(10_000))
    samples = LatencyTimer(clock=clock, time_limit_s=1.0).measure(clock.work(rising))
    assert not samples.is_steady


def test_a_heavy_tail_moves_the_percentiles_and_not_the_median(clock: FakeClock) -> None:
    one_in_ten = cycle([0.01] * 9 + [0.1])
    samples = LatencyTimer(clock=clock).measure(clock.work(one_in_ten))
    assert samples.median == pytest.approx(0.01)
    assert samples.p95 == pytest.approx(0.1)


@pytest.mark.parametrize(("rounds", "has_p95", "has_p99"), [(71, 0, 0), (72, 1, 0), (368, 1, 1)])
def test_percentiles_have_an_interval_only_with_enough_rounds(
    clock: FakeClock, rounds: int, has_p95: bool, has_p99: bool
) -> None:
    # 0.95^72 and 0.99^368 are the first powers below 0.025. The calls alternate, so that
    # neighbours are never more alike than chance would have them.
    timer = LatencyTimer(clock=clock, min_rounds=rounds, target=1.0, time_limit_s=100.0)
    samples = timer.measure(clock.work(cycle([2**-7, 2**-6])))
    assert samples.rounds == rounds
    assert (samples.p95_high is not None) == has_p95
    assert (samples.p99_high is not None) == has_p99


def test_a_short_callable_is_called_often_enough_for_the_clock(clock: FakeClock) -> None:
    samples = LatencyTimer(clock=clock).measure(clock.work(repeat(2.0**-20)))
    # 2^-20 s is 0.95 us: 105 calls make the 100 us of a round, and twice as many may be made.
    assert 105 <= samples.calls_per_round <= 210
    assert samples.median == pytest.approx(2.0**-20)


def test_one_slow_first_call_does_not_pass_for_a_slow_callable(clock: FakeClock) -> None:
    samples = LatencyTimer(clock=clock).measure(clock.work(chain([0.05], repeat(2.0**-20))))
    assert samples.calls_per_round >= 105


def test_a_clock_too_coarse_for_the_callable_ends_in_zero_and_not_in_a_loop() -> None:
    now = iter(range(10**9))
    timer = LatencyTimer(clock=lambda: next(now) // 40 * 0.01, time_limit_s=0.05)
    assert timer.measure(lambda: None).rounds >= 6


def _bursts(source: random.Random) -> Iterator[float]:
    """Times with a median of 5 ms, a spread of 5 %, and lag-1 correlation 0.6."""
    value = source.gauss(0, 1)
    while True:
        value = 0.6 * value + 0.8 * source.gauss(0, 1)
        yield 0.005 * math.exp(0.05 * value)


def test_stopping_at_a_narrow_interval_keeps_most_of_its_promise(clock: FakeClock) -> None:
    # Looking again and again at what is nominally 95 % costs some of it: 200 runs, sigma 2 %.
    hits = 0
    with LatencyTimer(clock=clock) as timer:
        for seed in range(200):
            samples = timer(clock.work(_bursts(random.Random(seed))))
            assert samples.high - samples.low <= 2 * 0.02 * samples.median
            hits += samples.low <= 0.005 <= samples.high
    assert hits / 200 >= 0.86


def test_arguments_reach_the_callable() -> None:
    seen: list[tuple[int, int]] = []
    LatencyTimer(time_limit_s=0.0)(lambda a, *, b: seen.append((a, b)), 1, b=2)
    assert set(seen) == {(1, 2)}


def test_the_random_state_is_left_as_it_was_found() -> None:
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    expected = (random.Random(1).random(), np.random.RandomState(2).rand())
    expected_torch = torch.rand(2, generator=torch.Generator().manual_seed(3))

    def draw() -> None:
        random.random()
        np.random.rand()
        torch.rand(1)

    LatencyTimer(time_limit_s=0.0).measure(draw)
    assert (random.random(), np.random.rand()) == expected
    assert torch.equal(torch.rand(2), expected_torch)


def test_threads_and_garbage_collection_hold_in_the_rounds_and_are_restored() -> None:
    before = torch.get_num_threads()
    seen: set[tuple[int, bool]] = set()
    try:
        torch.set_num_threads(2)
        samples = LatencyTimer(threads=1, time_limit_s=0.0).measure(
            lambda: seen.add((torch.get_num_threads(), gc.isenabled()))
        )
        assert seen == {(1, False)}
        assert samples.threads == 1
        assert torch.get_num_threads() == 2
        assert gc.isenabled()
    finally:
        torch.set_num_threads(before)


def test_a_round_on_a_device_ends_when_the_device_is_done(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stand-in for CUDA: launching takes no time, and waiting takes the time of what was
    # launched. Its random state is asked for and given back like the CPU's.
    launched: list[float] = []
    restored: list[list[str]] = []

    def wait(device: str | None) -> None:
        assert device is None  # the current one, as no tensor is to be seen
        clock.now += sum(launched)
        launched.clear()

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: ["state"])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.append)
    launched.append(64.0)  # from before: not to be charged to the first round
    samples = LatencyTimer(clock=clock)(lambda: launched.append(2**-10))
    assert samples.median == samples.maximum == 2**-10
    assert restored == [["state"]]


def test_every_measurement_is_within_what_keeps_it_alone(clock: FakeClock) -> None:
    log: list[str] = []

    @contextmanager
    def alone() -> Iterator[None]:
        log.append("alone")
        yield
        log.append(f"{clock.calls} calls")

    timer = LatencyTimer(clock=clock, exclusive=alone, time_limit_s=0.0)
    timer.measure(clock.work(repeat(1.0)))
    assert log == ["alone", f"{clock.calls} calls"]


def test_a_with_block_holds_the_settings_between_measurements() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with LatencyTimer(threads=1, time_limit_s=0.0) as timer:
            timer(lambda: None)
            assert torch.get_num_threads() == 1
            assert not gc.isenabled()
        assert torch.get_num_threads() == 2
        assert gc.isenabled()
    finally:
        torch.set_num_threads(before)


def test_an_exception_of_the_code_propagates_with_everything_restored() -> None:
    torch.manual_seed(4)
    random.seed(4)
    expected = random.Random(4).random()
    before = torch.get_num_threads()
    calls = iter([None] * 12)

    def fails_late() -> None:
        random.random()
        if next(calls, "over") == "over":
            raise ZeroDivisionError("thirteenth call")

    with pytest.raises(ZeroDivisionError, match="thirteenth"):
        LatencyTimer(threads=before + 1).measure(fails_late)
    assert torch.get_num_threads() == before
    assert gc.isenabled()
    assert random.random() == expected


def test_a_percentage_for_confidence_is_a_mistake_that_says_what_to_write() -> None:
    with pytest.raises(MeasureError, match=r"confidence is 95; write a share, such as 0\.95"):
        LatencyTimer(confidence=95)


def test_throughput_is_the_inverse_of_latency_and_so_is_its_interval() -> None:
    values = samples_to_values(sampled(0.25, 0.125, 0.5))
    assert (values["latency"].low, values["latency"].high) == (0.125, 0.5)
    throughput = values["throughput"]
    assert (throughput.value, throughput.low, throughput.high) == (4.0, 2.0, 8.0)
    assert values["latency_p95"].low is None


def test_a_time_of_zero_has_no_throughput() -> None:
    assert "throughput" not in samples_to_values(sampled(0.0, 0.0, 0.5))


def test_a_real_clock_agrees_with_itself_on_a_real_operator() -> None:
    a = torch.zeros(64, 64)
    samples = LatencyTimer(time_limit_s=0.2)(torch.mm, a, a)
    assert 0 < samples.minimum <= samples.low <= samples.median <= samples.high
    assert samples.high <= samples.maximum
