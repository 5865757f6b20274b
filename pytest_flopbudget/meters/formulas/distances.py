"""Distances between the rows of matrices."""

from __future__ import annotations

import math
from typing import Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Work, formula

_EUCLIDEAN: Final = 2
_FEW_ROWS: Final = 25
"""Up to so many rows on both sides `cdist` takes no matrix product, unless it is told to."""


def _pair(p: float, columns: int) -> int:
    """FLOPs of the p-distance of two rows: of each column, of their sum, of a root."""
    sums = max(0, columns - 1)  # adds, or comparisons for the largest
    if p in (0, 1, _EUCLIDEAN, math.inf):
        # A difference, and its comparison with 0, its absolute value or its square.
        return 2 * columns + sums + (1 if p == _EUCLIDEAN and columns else 0)
    # A difference, its absolute value and its power; a root of the sum.
    return 3 * columns + sums + (1 if columns else 0)


def _pair_backward(p: float, columns: int) -> int:
    """FLOPs of the gradient of the p-distance of two rows, before it is added up."""
    if p == 0:
        return 0  # it is constant
    if p == 1:
        return 3 * columns  # difference, sign, times the gradient
    if p == _EUCLIDEAN:
        return 3 * columns + 1  # difference * gradient / distance, unless that is 0
    if p == math.inf:
        # difference, absolute value, whether it is the largest, sign, two multiplies
        return 6 * columns
    # difference, absolute value, power, two multiplies, division by a power of the
    # distance, unless that is 0; below 2 the sign comes from a function of its own
    return (7 if p < _EUCLIDEAN else 6) * columns + 2


@formula("_euclidean_dist")
def euclidean_dist(x1: Tensor, x2: Tensor, *, out: Tensor) -> Work:
    """FLOPs of the Euclidean distances of two sets of many rows, by a matrix product.

    x1: [..., p, m], x2: [..., r, m] -> out: [..., p, r]
    Counts m + 2 multiply-accumulates for each element of out, a comparison with 0 and a
    root; the squared length of every row (2m - 1), and a doubling of x1 (m a row).
    Source: torch's decomposition, |a|^2 + |b|^2 - 2ab as one product of extended rows.
    """
    columns = x1.shape[-1]
    lengths = sum(2 * x.numel() - x.numel() // max(1, columns) for x in (x1, x2))
    return Work(
        macs=out.numel() * (columns + 2),
        arithmetic=lengths + x1.numel() + 2 * out.numel(),
    )


def _takes_product(mode: int | None, rows: int) -> bool:
    return mode == 1 or (not mode and rows > _FEW_ROWS)


@formula("_cdist_forward")
def cdist(x1: Tensor, x2: Tensor, p: float, mode: int | None = None, *, out: Tensor) -> Work:
    """FLOPs of the p-distances of every row of one set to every row of another.

    x1: [..., p, m], x2: [..., r, m] -> out: [..., p, r]
    Counts, for each pair, m differences, m absolute values (squares for p = 2,
    comparisons for p = 0, powers too for other p), m - 1 adds, and a root for p = 2 and
    other p. For p = 2 and more than 25 rows as `_euclidean_dist`, which then runs inside.
    Source: the definition of the norm; torch's rule of when to take a product.
    """
    rows = max(x1.shape[-2], x2.shape[-2])
    if p == _EUCLIDEAN and x1.numel() and out.numel() and _takes_product(mode, rows):
        return euclidean_dist(
            x1.expand(*out.shape[:-1], x1.shape[-1]),
            x2.expand(*out.shape[:-2], *x2.shape[-2:]),
            out=out,
        )
    return Work(arithmetic=out.numel() * _pair(p, x1.shape[-1]))


@formula("_cdist_backward")
def cdist_backward(
    grad: Tensor, x1: Tensor, _x2: Tensor, p: float, _cdist: Tensor, *, out: Tensor
) -> int:
    """FLOPs of the gradient of `cdist` to its first set; the second takes another call.

    grad: [..., p, r], x1: [..., p, m] -> out: [..., p, m]
    Counts, for each pair and column, 3 for p = 1 and 2, 7 for others below 2, and 6
    above; none for p = 0, whose gradient is 0. For each pair a comparison of the distance
    with 0 for p = 2, and a power of it too for others. Last the adds over the r rows.
    Source: torch's kernels, which take grad * (x1 - x2) / distance for p = 2.
    """
    if p == 0 or not grad.numel():
        return 0
    columns = x1.shape[-1]
    each = grad.numel() * _pair_backward(p, columns)
    return each + (grad.numel() - grad.numel() // grad.shape[-1]) * columns


@formula("_pdist_forward")
def pdist(x: Tensor, p: float = 2.0, *, out: Tensor) -> int:
    """FLOPs of the p-distances of every two rows of one set.

    x: [n, m] -> out: [n*(n - 1)/2]
    Counts each pair as `_cdist_forward` without a matrix product.
    Source: the definition of the norm.
    """
    return out.numel() * _pair(p, x.shape[-1])


@formula("_pdist_backward")
def pdist_backward(grad: Tensor, x: Tensor, p: float, _pdist: Tensor, *, out: Tensor) -> int:
    """FLOPs of the gradient of the p-distances of every two rows of one set.

    grad: [n*(n - 1)/2], x: [n, m] -> out: [n, m]
    Counts each pair as `_cdist_backward`, and n - 2 adds or subtractions for each element
    of out, since a pair gives to both of its rows.
    Source: torch's kernels.
    """
    if p == 0:
        return 0
    rows, columns = x.shape
    return grad.numel() * _pair_backward(p, columns) + max(0, rows - 2) * rows * columns
