"""Fourier transforms: 5 N log2 N for N complex numbers, half of it for real ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal, localcontext
from functools import cache
from typing import Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula

_DIGITS: Final = 50
"""Of a logarithm: decimal numbers are the same on every machine, as floats may not be."""


@cache
def _log2(size: int) -> Decimal:
    if size & (size - 1) == 0:
        return Decimal(size.bit_length() - 1)
    with localcontext() as context:
        context.prec = _DIGITS
        return Decimal(size).ln() / Decimal(2).ln()


def transform(numel: int, size: int, *, halves: int = 2) -> int:
    """FLOPs of transforms of `size` points each, over `numel` numbers in all.

    halves: of 5 N log2 N; two for complex numbers, one for real ones.
    """
    if not numel:
        return 0
    with localcontext() as context:
        context.prec = _DIGITS
        return int(5 * halves * numel * _log2(size) / 2)


def _points(shape: Iterable[int], dims: Iterable[int]) -> int:
    sizes = list(shape)
    return math.prod(sizes[dim] for dim in dims)


@formula("_fft_c2c")
def c2c(x: Tensor, dim: list[int], normalization: int, _forward: bool, *, out: Tensor) -> int:
    """FLOPs of a complex Fourier transform over some dimensions, of N points in all.

    x: [..., n1, n2, ...] -> out: the same shape
    Counts 5 N log2 N for each transform, rounded down over the whole call, whether or not
    N is a power of two; and 2 for each element of out when the result is scaled.
    Source: the radix-2 algorithm of Cooley and Tukey, and the measure of FFTW's benchFFT.
    """
    if not dim:
        return 0
    scaling = 2 * out.numel() if normalization else 0
    return transform(x.numel(), _points(x.shape, dim)) + scaling


@formula("_fft_r2c")
def r2c(x: Tensor, dim: list[int], normalization: int, onesided: bool, *, out: Tensor) -> int:
    """FLOPs of a Fourier transform of real numbers, of N points in all.

    x: [..., n] -> out: [..., n//2 + 1], or [..., n] when it is not one-sided
    Counts 2.5 N log2 N for each transform, rounded down over the whole call; and 2 for
    each element of the half that is computed when the result is scaled.
    Source: that of `_fft_c2c`; real numbers take half. The other half is copied by symmetry.
    """
    if not x.numel():
        return 0
    last = x.shape[dim[-1]]
    scaling = 2 * (x.numel() // last) * (last // 2 + 1) if normalization else 0
    return transform(x.numel(), _points(x.shape, dim), halves=1) + scaling


@formula("_fft_c2r")
def c2r(x: Tensor, dim: list[int], normalization: int, _last: int, *, out: Tensor) -> int:
    """FLOPs of a Fourier transform to real numbers, of N points in all.

    x: [..., n//2 + 1] -> out: [..., n]
    Counts 2.5 N log2 N for each transform, rounded down over the whole call; and 1 for
    each element of out when the result is scaled.
    Source: that of `_fft_c2c`; real numbers take half.
    """
    scaling = out.numel() if normalization else 0
    return transform(out.numel(), _points(out.shape, dim), halves=1) + scaling
