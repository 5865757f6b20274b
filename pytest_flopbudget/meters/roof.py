"""The roof of this machine: how fast it multiplies matrices, and how fast it reads and writes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.meters.latency import quiet_process
from pytest_flopbudget.meters.machine import last_level_cache_bytes, machine_memory_bytes

RATED: Final = ("float64", "float32", "bfloat16", "float16", "int8")
"""The dtypes whose rate is measured, by torch's names."""
_SIZES: Final = (128, 256, 512, 1024, 2048)
"""Of square matrices: the small ones fit the caches, the large ones fill the pipelines."""
_GEMM_LIMIT_S: Final = 0.08
"""For one dtype. The five of them and the bandwidth then take under a second."""
_FEWEST_CALLS: Final = 3
_TRIADS: Final = 6
"""Of which the first is left out, as STREAM does it."""
_CACHES: Final = 4
"""STREAM's rule: each array is at least four times as large as the last cache."""
_SMALLEST_ARRAY: Final = 32 * 2**20
_LARGEST_SHARE: Final = 24
"""Three arrays together take no more than an eighth of the memory."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """What one core of this machine reaches at best, through torch."""

    rates: Mapping[str, float]
    """By dtype, FLOP/s of a matrix product; for int8, integer operations per second."""
    absent: Mapping[str, str]
    """By dtype, why there is no rate."""
    bandwidth: float
    """B/s of STREAM's triad."""
    array_bytes: int
    """Size of each of the triad's three arrays."""
    cache_bytes: int | None
    """Of the last cache; None where the system does not tell."""
    threads: int

    @property
    def is_beyond_caches(self) -> bool:
        """Whether the arrays were as large as STREAM's rule asks for."""
        return self.cache_bytes is not None and self.array_bytes >= _CACHES * self.cache_bytes


def measure_roof(
    *, threads: int = 1, root: Path = Path("/"), clock: Clock = time.perf_counter
) -> Roof:
    """The roof with so many threads, in under a second where nothing else runs.

    root: below which `proc` and `sys` are.
    """
    rates: dict[str, float] = {}
    absent: dict[str, str] = {}
    with quiet_process(threads):
        for name in RATED:
            rate = _rate_or_why(getattr(torch, name), clock)
            if isinstance(rate, str):
                absent[name] = rate
            else:
                rates[name] = rate
        cache_bytes = last_level_cache_bytes(root)
        array_bytes = _array_bytes(cache_bytes, machine_memory_bytes(root))
        bandwidth = triad_bandwidth(array_bytes, clock=clock)
    return Roof(
        rates=rates,
        absent=absent,
        bandwidth=bandwidth,
        array_bytes=array_bytes,
        cache_bytes=cache_bytes,
        threads=threads,
    )


@cache
def rate_of(dtype: str, threads: int) -> float:
    """The best rate of a matrix product in this dtype, in FLOP/s; measured once in a process.

    dtype: torch's name, such as `float32`. Raises MeasureError where there is none.
    """
    if dtype not in RATED:
        raise MeasureError(
            f"the rate of {dtype} is not measured, but of {', '.join(RATED)} on the CPU"
        )
    with quiet_process(threads):
        return gemm_rate(getattr(torch, dtype))


def gemm_rate(
    dtype: torch.dtype,
    *,
    clock: Clock = time.perf_counter,
    multiply: Callable[[Any, Any], object] | None = None,
    time_limit_s: float = _GEMM_LIMIT_S,
) -> float:
    """The highest rate at which any of several square products was done, per second.

    [n, n] by [n, n] is 2*n^3 operations. A roof is the best, and not the usual: what slowed a
    call down was something else than the arithmetic. Sizes grow as far as the time allows,
    and each but the last has three calls. Raises MeasureError where torch cannot multiply
    such matrices.
    """
    product = multiply or (torch._int_mm if dtype is torch.int8 else torch.mm)
    start = clock()
    best = 0.0
    for size in _SIZES:
        a = torch.ones(size, size, dtype=dtype)
        try:
            product(a, a)  # the first call may choose, or compile, its kernel
        except RuntimeError as error:
            raise MeasureError(str(error).partition("\n")[0]) from error
        fastest_s = _fastest(lambda: product(a, a), clock, start + time_limit_s)  # noqa: B023 - called in this round alone
        if fastest_s > 0:
            best = max(best, 2 * size**3 / fastest_s)
        left_s = start + time_limit_s - clock()
        # Twice the size takes eight times as long, and has a first call and three more.
        if 8 * (_FEWEST_CALLS + 1) * fastest_s > left_s:
            break
    if not best:
        raise MeasureError("the clock is too coarse to see a product")
    return best


def triad_bandwidth(array_bytes: int, *, clock: Clock = time.perf_counter) -> float:
    """Bytes per second of STREAM's triad, a[i] = b[i] + q * c[i], the best of five.

    Counts three arrays, as STREAM does: that the old content of `a` may be read before it is
    written over is not in it. Source: McCalpin, STREAM, https://www.cs.virginia.edu/stream/ref.html
    """
    count = array_bytes // 4
    # Written, as memory that was never written to is one page of zeros, and in the cache.
    a, b, c = (torch.full((count,), 1.0, dtype=torch.float32) for _ in range(3))
    fastest_s = math.inf
    for n in range(_TRIADS):
        start = clock()
        torch.add(b, c, alpha=3.0, out=a)
        spent_s = clock() - start
        if n:
            fastest_s = min(fastest_s, spent_s)
    if fastest_s <= 0:
        raise MeasureError("the clock is too coarse to see a triad")
    return 3 * 4 * count / fastest_s


def _rate_or_why(dtype: torch.dtype, clock: Clock) -> float | str:
    """The dtype's rate, or else why there is none."""
    try:
        return gemm_rate(dtype, clock=clock)
    except MeasureError as error:
        return str(error)


def _fastest(call: Callable[[], object], clock: Clock, deadline: float) -> float:
    """Seconds of the fastest of three calls, or of one where the time is up."""
    fastest_s = math.inf
    for _ in range(_FEWEST_CALLS):
        start = clock()
        call()
        end = clock()
        fastest_s = min(fastest_s, end - start)
        if end >= deadline:
            break
    return fastest_s


def _array_bytes(cache_bytes: int | None, memory_bytes: int | None) -> int:
    """Large enough for STREAM's rule, as far as the memory allows."""
    wanted = max(_SMALLEST_ARRAY, _CACHES * (cache_bytes or 0))
    most = wanted if memory_bytes is None else memory_bytes // _LARGEST_SHARE
    return min(wanted, most)
