"""How often the interval of a latency holds the true median, on simulated series.

The timer runs as it does on real code, with a clock that moves by the simulated times:

    python benchmarks/intervals.py --series 400
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Iterator

from pytest_flopbudget import LatencyTimer

MEDIAN_S = 0.005


def times(source: random.Random, correlation: float, spread: float) -> Iterator[float]:
    """Log-normal times whose logarithms are a first-order Markov chain."""
    value = source.gauss(0, 1)
    while True:
        yield MEDIAN_S * math.exp(spread * value)
        fresh = math.sqrt(1 - correlation**2) * source.gauss(0, 1)
        value = correlation * value + fresh


class SimulatedClock:
    """A clock, and a callable that moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.steps: Iterator[float] = iter(())

    def read(self) -> float:
        return self.now_s

    def work(self) -> None:
        self.now_s += next(self.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=400, help="series each (default: 400)")
    series = parser.parse_args().series
    clock = SimulatedClock()
    print("correlation  spread  median rounds  held  too high  too low")
    with LatencyTimer(clock=clock.read) as timer:
        for correlation, spread in [
            (0, 0.02),
            (0, 0.05),
            (0, 0.2),
            (0.3, 0.05),
            (0.6, 0.05),
            (0.6, 0.2),
            (0.9, 0.1),
        ]:
            rounds, high, low = [], 0, 0
            for seed in range(series):
                clock.steps = times(random.Random(seed), correlation, spread)
                samples = timer(clock.work)
                rounds.append(samples.rounds)
                high += samples.low > MEDIAN_S
                low += samples.high < MEDIAN_S
            print(
                f"{correlation:>11}{spread:>8.0%}{statistics.median(rounds):>15.0f}"
                f"{1 - (high + low) / series:>6.0%}{high / series:>10.1%}{low / series:>9.1%}"
            )


if __name__ == "__main__":
    main()
