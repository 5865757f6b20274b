"""Scans along one dimension. Every element but the first of a row takes one step."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.reductions import adding, multiplying
from pytest_flopbudget.meters.formulas.registry import formula

_LOG_ADD_EXP: Final = 5
"""`max(a, b) + log1p(exp(min(a, b) - max(a, b)))`: a comparison and four operations."""
_COMPLEX_LOG_ADD_EXP: Final = 17
"""The same by real part: a comparison, a difference of 2, an exponential of 5, an add
of 1, a logarithm of 6, and an add of 2."""


def _steps(x: Tensor, dim: int) -> int:
    """Elements of x that are not the first of their row along `dim`."""
    size = x.shape[dim] if x.dim() else 1
    return x.numel() - x.numel() // size if size else 0


@formula("cumsum")
def running_sum(x: Tensor, dim: int, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a running sum along one dimension.

    x: [..., n, ...] -> out: the same shape
    Counts n - 1 adds for each row; for complex numbers each is two.
    Source: the definition.
    """
    return _steps(x, dim) * adding(out)


@formula("cumprod")
def running_product(x: Tensor, dim: int, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a running product along one dimension.

    x: [..., n, ...] -> out: the same shape
    Counts n - 1 multiplies for each row; for complex numbers each is six.
    Source: the definition.
    """
    return _steps(x, dim) * multiplying(out)


@formula("cummax", "cummin")
def running_extreme(x: Tensor, dim: int, *, out: Any) -> int:
    """FLOPs of a running maximum or minimum along one dimension.

    x: [..., n, ...] -> two tensors of the same shape
    Counts n - 1 comparisons for each row.
    Source: the definition.
    """
    return _steps(x, dim)


@formula("_cummax_helper", "_cummin_helper")
def running_extreme_into(
    x: Tensor, _values: Tensor, _indices: Tensor, dim: int, *, out: Any
) -> int:
    """FLOPs of a running maximum or minimum that is written to given tensors.

    x: [..., n, ...], values and indices: the same shape, written
    Counts n - 1 comparisons for each row.
    Source: the definition.
    """
    return _steps(x, dim)


@formula("logcumsumexp", "_logcumsumexp")
def running_logsumexp(x: Tensor, dim: int, *, out: Tensor) -> int:
    """FLOPs of the logarithm of a running sum of exponentials along one dimension.

    x: [..., n, ...] -> out: the same shape
    Counts n - 1 times max + log1p(exp(min - max)) for each row: a comparison and four
    operations; for complex numbers, by their real parts, 17.
    Source: the stable definition, step by step as torch's kernel does it.
    """
    return _steps(x, dim) * (_COMPLEX_LOG_ADD_EXP if x.is_complex() else _LOG_ADD_EXP)
