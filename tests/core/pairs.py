"""Synthetic pairs of processes, whose true ratio and noise are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

from pytest_flopbudget.core.series import Slice, Turn, TurnSeries
from pytest_flopbudget.core.stopping import Decision, Rules, State, decide

SLICE_S = 0.04
CALLS = 8


def piece(wall_s: float, cpu_s: float | None = None, calls: int = 1) -> Slice:
    """A slice that computed all the time, unless its CPU time is given."""
    return Slice(calls=calls, wall_s=wall_s, cpu_s=wall_s if cpu_s is None else cpu_s)


def pair_of(*times_s: tuple[float, float]) -> TurnSeries:
    """A pair with these times of base and head, turn by turn."""
    turns = tuple(Turn(base=piece(base), head=piece(head)) for base, head in times_s)
    return TurnSeries(turns=turns, is_steady=True)


def pairs_with(logs: Sequence[float]) -> list[TurnSeries]:
    """Pairs whose log-ratios are these."""
    return [pair_of((SLICE_S, SLICE_S * math.exp(log))) for log in logs]


Noise = Callable[[Random, int, float], TurnSeries]
"""Makes the pair that is launched at this position, with a head slower by this factor."""


def _pair(base: Sequence[Slice], head: Sequence[Slice]) -> TurnSeries:
    turns = tuple(Turn(base=b, head=h) for b, h in zip(base, head, strict=True))
    return TurnSeries(turns=turns, is_steady=True)


def _slice(seconds: float, *, robbed: float = 1.0) -> Slice:
    """So much CPU time, which took `robbed` times as long."""
    return Slice(calls=CALLS, wall_s=seconds * robbed, cpu_s=seconds)


def normal(spread: float) -> Noise:
    """Pairs whose log-ratios are normal with this standard deviation."""

    def make(source: Random, position: int, growth: float) -> TurnSeries:
        base, head = (SLICE_S * math.exp(source.gauss(0, spread / math.sqrt(2))) for _ in "bh")
        return _pair([_slice(base)], [_slice(head * growth)])

    return make


def two_modes(source: Random, position: int, growth: float) -> TurnSeries:
    """Every process is 30 % slower with probability 1/2, for all its life."""
    base, head = (
        SLICE_S * source.choice([1.0, 1.3]) * math.exp(source.gauss(0, 0.003)) for _ in "bh"
    )
    return _pair([_slice(base)], [_slice(head * growth)])


def heavy_tailed_processes(source: Random, position: int, growth: float) -> TurnSeries:
    """The cost of a process is log-normal, with rare processes at twice the usual."""
    base, head = (SLICE_S * (1 + 0.05 * source.lognormvariate(0, 1.2)) for _ in "bh")
    return _pair([_slice(base)], [_slice(head * growth)])


def launch_order(source: Random, position: int, growth: float) -> TurnSeries:
    """The process that is launched second, base and head by turns, is 2 % faster."""
    base, head = (SLICE_S * math.exp(source.gauss(0, 0.005)) for _ in "bh")
    base, head = (base * 0.98, head) if position % 2 else (base, head * 0.98)
    return _pair([_slice(base)], [_slice(head * growth)])


def shared_drift(source: Random, position: int, growth: float) -> TurnSeries:
    """The machine's speed wanders by 5 % from slice to slice, for both sides."""
    pace = SLICE_S
    sides: tuple[list[Slice], list[Slice]] = [], []
    base, head = (math.exp(source.gauss(0, 0.01)) for _ in "bh")
    factors = base, head * growth
    for turn in range(6):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            pace *= math.exp(source.gauss(0.01, 0.05))
            sides[side].append(_slice(pace * factors[side]))
    return _pair(*sides)


def spikes(source: Random, position: int, growth: float) -> TurnSeries:
    """Three slices of ten take longer by a Pareto factor that has no mean."""
    base, head = (SLICE_S * math.exp(source.gauss(0, 0.01)) for _ in "bh")

    def slices(seconds: float) -> list[Slice]:
        return [
            _slice(seconds * (source.paretovariate(0.9) if source.random() < 0.3 else 1.0))
            for _ in range(6)
        ]

    return _pair(slices(base), slices(head * growth))


def neighbour(source: Random, position: int, growth: float, cpu: float = 1.0) -> TurnSeries:
    """Bursts that rob half of some slices in a row, in any order of base and head."""
    sides: tuple[list[Slice], list[Slice]] = [], []
    base, head = (SLICE_S * math.exp(source.gauss(0, 0.01)) for _ in "bh")
    factors = base, head * growth
    is_there = source.random() < 0.5
    for turn in range(6):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            # It comes and goes every third slice, on average.
            is_there = is_there if source.random() < 2 / 3 else not is_there
            jitter = math.exp(source.gauss(0, 0.005))
            if is_there:
                robbed = source.uniform(1.5, 2.5)
                sides[side].append(_slice(factors[side] * jitter * cpu, robbed=robbed))
            else:
                sides[side].append(_slice(factors[side] * jitter))
    return _pair(*sides)


def neighbour_in_the_cache(source: Random, position: int, growth: float) -> TurnSeries:
    """The same, and what it evicts from the caches costs CPU time too."""
    return neighbour(source, position, growth, cpu=1.15)


class Machine:
    """One clock for both sides of a pair, and a neighbour whose bursts take half of the CPU.

    The bursts last 1 s on average, with 1.5 s between them.
    """

    def __init__(self, source: Random) -> None:
        self._source = source
        self._is_busy = source.random() < 0.4
        self._left_s = self._next_s()

    def _next_s(self) -> float:
        return self._source.expovariate(1 / 1.0 if self._is_busy else 1 / 1.5)

    def compute(self, cpu_s: float) -> float:
        """Seconds of wall time that so much CPU time takes from now on."""
        wall_s, rate = 0.0, 0.5 if self._is_busy else 1.0
        while cpu_s > self._left_s * rate:
            cpu_s -= self._left_s * rate
            wall_s += self._left_s
            self._is_busy = not self._is_busy
            self._left_s = self._next_s()
            rate = 0.5 if self._is_busy else 1.0
        self._left_s -= cpu_s / rate
        return wall_s + cpu_s / rate

    def wait(self, wall_s: float) -> float:
        """The same seconds: others' bursts go on, and do not lengthen a sleep."""
        slept_s = wall_s
        while wall_s > self._left_s:
            wall_s -= self._left_s
            self._is_busy = not self._is_busy
            self._left_s = self._next_s()
        self._left_s -= wall_s
        return slept_s


class Process:
    """A side on that machine: every call computes, and may sleep."""

    def __init__(
        self, machine: Machine, source: Random, cpu_s: float, sleep_s: float = 0.0
    ) -> None:
        self._machine = machine
        self._source = source
        self._cpu_s = cpu_s * math.exp(source.gauss(0, 0.01))
        self._sleep_s = sleep_s

    def run(self, calls: int) -> Slice:
        cpu_s = calls * self._cpu_s * math.exp(self._source.gauss(0, 0.01))
        wall_s = self._machine.compute(cpu_s) + self._machine.wait(calls * self._sleep_s)
        return Slice(calls=calls, wall_s=wall_s, cpu_s=cpu_s)


NOISES: dict[str, Noise] = {
    "normal, 2.3 %": normal(0.023),
    "two modes": two_modes,
    "heavy-tailed processes": heavy_tailed_processes,
    "launch order": launch_order,
    "shared drift": shared_drift,
    "spikes": spikes,
    "neighbour": neighbour,
    "neighbour in the cache": neighbour_in_the_cache,
}


def decided(noise: Noise, growth: float, rules: Rules, source: Random) -> Decision:
    """What is decided at the end of one series, run for as long as the rules ask."""
    series: list[TurnSeries] = []
    while True:
        series.append(noise(source, len(series), growth))
        if len(series) not in rules.looks:
            continue
        decision = decide(series, rules, is_last=False)
        if decision.state is not State.MORE:
            return decision


def most_successes(runs: int, rate: float, chance: float) -> int:
    """The least k with P(B > k) <= `chance`, B ~ Binomial(runs, rate): the sum, term by term."""
    tail, k = 1.0, -1
    while tail > chance:
        k += 1
        tail -= math.exp(
            math.lgamma(runs + 1)
            - math.lgamma(k + 1)
            - math.lgamma(runs - k + 1)
            + k * math.log(rate)
            + (runs - k) * math.log1p(-rate)
        )
    return k
