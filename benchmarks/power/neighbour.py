"""A busy neighbour: one or two processes that compute in bursts, in the same way for a seed."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

MEAN_ON_S = 1.0
MEAN_OFF_S = 1.5
MOST = 2


@contextmanager
def busy_neighbour(seed: int) -> Iterator[None]:
    """Bursts of one or two processes while the block lasts."""
    context = multiprocessing.get_context("spawn")
    start_s = time.time()
    processes = [
        context.Process(target=burn, args=(seed, place, start_s, os.getpid()), daemon=True)
        for place in range(MOST)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def bursts(seed: int) -> Iterator[tuple[float, float, int]]:
    """Start and end of each burst, in seconds, and how many processes burn in it."""
    source = random.Random(seed)
    end_s = 0.0
    while True:
        start_s = end_s + source.expovariate(1 / MEAN_OFF_S)
        end_s = start_s + source.expovariate(1 / MEAN_ON_S)
        yield start_s, end_s, source.randint(1, MOST)


def burn(seed: int, place: int, start_s: float, parent: int) -> None:
    """Compute in the bursts that need this many processes, as long as the parent lives."""
    for from_s, until_s, count in bursts(seed):
        if os.getppid() != parent:
            return
        time.sleep(max(0.0, start_s + from_s - time.time()))
        while place < count and time.time() < start_s + until_s:
            sum(range(10_000))
