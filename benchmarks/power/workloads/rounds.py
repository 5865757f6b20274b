"""Stands in for pytest-benchmark where it is not installed, and measures as it does.

Rounds of one call each, for so long, five at least; no warm-up; the garbage collector is on.
The result has the form of pytest-benchmark's JSON, as far as latency_power.py reads it.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

FEWEST_ROUNDS = 5
RESULTS = pytest.StashKey[list[dict[str, object]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--benchmark-json", type=Path)
    parser.addoption("--benchmark-max-time", type=float)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--benchmark-json")
    if path is not None:
        results = {"benchmarks": session.config.stash[RESULTS]}
        path.write_text(json.dumps(results), encoding="utf-8")


@pytest.fixture
def benchmark(request: pytest.FixtureRequest) -> Callable[[Callable[[], object]], None]:
    limit_s = request.config.getoption("--benchmark-max-time")

    def measure(call: Callable[[], object]) -> None:
        rounds = max(FEWEST_ROUNDS, math.ceil(limit_s / timed(call)))
        times = [timed(call) for _ in range(rounds)]
        stats = {"min": min(times), "mean": statistics.fmean(times), "total": sum(times)}
        request.config.stash[RESULTS].append({"name": request.node.name, "stats": stats})

    return measure


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
