"""The roof from scripted clocks, and once from the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate, chain
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.meters import roof
from pytest_flopbudget.meters.roof import (
    RATED,
    gemm_rate,
    measure_roof,
    rate_of,
    triad_bandwidth,
)

MIB = 2**20


class Multiplier:
    """A product of square matrices that takes 2 n^3 operations by the rate of its size."""

    def __init__(self, rate: Callable[[int], float], first_s: float = 0.0) -> None:
        self.now = 0.0
        self.sizes: list[int] = []
        self._rate = rate
        self._first_s = first_s

    def clock(self) -> float:
        return self.now

    def __call__(self, a: Tensor, b: Tensor) -> None:
        size = a.shape[0]
        assert a.shape == b.shape == (size, size)
        self.now += 2 * size**3 / self._rate(size)
        if size not in self.sizes:
            self.now += self._first_s
        self.sizes.append(size)


def _rate(product: Multiplier, time_limit_s: float) -> float:
    return gemm_rate(
        torch.float32, clock=product.clock, multiply=product, time_limit_s=time_limit_s
    )


def test_the_rate_is_the_best_of_all_sizes() -> None:
    product = Multiplier({128: 1e9, 256: 4e9, 512: 2e9, 1024: 3e9, 2048: 1e9}.__getitem__)
    assert _rate(product, time_limit_s=1e3) == pytest.approx(4e9)
    assert set(product.sizes) == {128, 256, 512, 1024, 2048}


def test_the_first_call_of_each_size_does_not_count() -> None:
    product = Multiplier(lambda _size: 1e9, first_s=5.0)
    assert _rate(product, time_limit_s=1e3) == pytest.approx(1e9)


def test_sizes_grow_no_further_than_the_time_allows() -> None:
    # 128: 4.2 ms a call, 16.8 for four. The next size takes 8 times that, 134 ms.
    enough = Multiplier(lambda _size: 1e9)
    _rate(enough, time_limit_s=0.152)
    assert enough.sizes == [128] * 4 + [256] * 4
    short = Multiplier(lambda _size: 1e9)
    _rate(short, time_limit_s=0.150)
    assert short.sizes == [128] * 4


def test_a_dtype_without_fast_kernels_costs_two_calls() -> None:
    slow = Multiplier(lambda _size: 1e6)
    assert _rate(slow, time_limit_s=0.1) == pytest.approx(1e6)
    assert slow.sizes == [128] * 2


def test_what_torch_cannot_multiply_has_no_rate_and_says_why() -> None:
    def refuse(_a: Tensor, _b: Tensor) -> None:
        raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'\nand a trace")

    with pytest.raises(MeasureError, match=r"""^"addmm_impl_cpu_" not implemented for 'Half'$"""):
        gemm_rate(torch.float16, multiply=refuse)


def test_a_clock_that_sees_nothing_gives_no_rate() -> None:
    with pytest.raises(MeasureError, match="too coarse to see a product"):
        gemm_rate(torch.float32, clock=lambda: 0.0, multiply=lambda _a, _b: None)
    with pytest.raises(MeasureError, match="too coarse to see a triad"):
        triad_bandwidth(400, clock=lambda: 0.0)


def _readings(*durations: float) -> Iterator[float]:
    """A clock that passes so long from each first to each second look at it."""
    return accumulate(chain.from_iterable((1.0, duration) for duration in durations))


def test_the_triad_counts_three_arrays_in_the_best_of_the_calls_after_the_first() -> None:
    readings = _readings(0.0625, 0.5, 0.25, 0.5, 0.5, 0.5)
    # 400 bytes are 100 numbers; 3 arrays of 400 bytes in 0.25 s.
    assert triad_bandwidth(400, clock=lambda: next(readings)) == 1200 / 0.25


@pytest.mark.parametrize(
    ("cache", "memory", "array"),
    [
        (None, None, 32 * MIB),
        (2 * MIB, 65536 * MIB, 32 * MIB),
        (32 * MIB, 65536 * MIB, 128 * MIB),
        # A 24th of the memory, so that all three take an eighth.
        (32 * MIB, 2400 * MIB, 100 * MIB),
    ],
)
def test_an_array_is_four_times_the_cache_where_the_memory_allows(
    cache: int | None, memory: int | None, array: int
) -> None:
    assert roof._array_bytes(cache, memory) == array


def _machine(root: Path, cache_kib: int, memory_kib: int) -> Path:
    cache = root / "sys/devices/system/cpu/cpu0/cache"
    for n, size in enumerate((32, 1024, cache_kib)):
        (cache / f"index{n}").mkdir(parents=True)
        (cache / f"index{n}/size").write_text(f"{size}K\n", encoding="utf-8")
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(f"MemTotal: {memory_kib} kB\n", encoding="utf-8")
    return root


def test_the_roof_is_measured_on_one_thread_and_says_what_it_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rate(dtype: torch.dtype, *, clock: Callable[[], float]) -> float:
        assert torch.get_num_threads() == 1
        if dtype is torch.float16:
            raise MeasureError("not implemented for 'Half'")
        return float(torch.empty(0, dtype=dtype).element_size())

    monkeypatch.setattr(roof, "gemm_rate", rate)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        # 24 MiB of memory leave an array of one, which is less than four times 8 MiB.
        found = measure_roof(root=_machine(tmp_path, cache_kib=8192, memory_kib=24 * 1024))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found.rates == {"float64": 8.0, "float32": 4.0, "bfloat16": 2.0, "int8": 1.0}
    assert found.absent == {"float16": "not implemented for 'Half'"}
    assert (found.array_bytes, found.cache_bytes, found.threads) == (MIB, 8 * MIB, 1)
    assert not found.is_beyond_caches
    assert found.bandwidth > 0


def test_the_arrays_are_beyond_the_caches_from_four_times_their_size() -> None:
    def beyond(array: int, cache: int | None) -> bool:
        found = roof.Roof(
            rates={}, absent={}, bandwidth=1.0, array_bytes=array, cache_bytes=cache, threads=1
        )
        return found.is_beyond_caches

    assert [beyond(array, 10) for array in (39, 40, 41)] == [False, True, True]
    assert not beyond(40, None)


def test_a_real_product_is_rated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rate_of.cache_clear()
    found = rate_of("float32", 1)
    # Slower than any processor that torch runs on, and faster than any core.
    assert 1e6 < found < 1e14
    monkeypatch.setattr(roof, "gemm_rate", None)
    assert rate_of("float32", 1) == found


def test_a_dtype_that_is_not_rated_is_named() -> None:
    assert "complex64" not in RATED
    with pytest.raises(MeasureError, match="the rate of complex64 is not measured"):
        rate_of("complex64", 1)
