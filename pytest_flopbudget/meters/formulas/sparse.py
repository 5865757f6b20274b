"""Sparse layouts: what is stored counts, zeros that are stored too, and nothing else.

The structure of a sparse tensor (where its values stand) is data, like the values. What
depends on it, and not on how many values there are, has a convention.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from pytest_flopbudget.meters.formulas.contractions import added, real_factor, times
from pytest_flopbudget.meters.formulas.registry import (
    Formula,
    Work,
    sparse_formula,
)

_F = TypeVar("_F", bound=Formula)

_COMPRESSED: Final = frozenset(
    {torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}
)


def is_sparse(tensor: Tensor) -> bool:
    """Whether only some of the elements are stored."""
    return tensor.layout is torch.sparse_coo or tensor.layout in _COMPRESSED


def stored(tensor: Tensor) -> int:
    """How many elements are stored; blocks and dense dimensions whole."""
    if tensor.layout is torch.sparse_coo:
        return tensor._values().numel()
    if tensor.layout in _COMPRESSED:
        return tensor.values().numel()
    return tensor.numel()


def hides_what_it_stores(value: Any) -> bool:
    """Whether this is a fake sparse tensor of which nothing is known but its shape.

    torch cannot tell how much a fake dense tensor stores once it is sparse, and says none.
    """
    if not isinstance(value, Tensor) or not is_sparse(value) or not value.numel():
        return False
    from torch._subclasses import FakeTensor

    return (value.is_meta or isinstance(value, FakeTensor)) and not stored(value)


def _by_what_is_stored(*names: str) -> Callable[[_F], _F]:
    """Register a formula for sparse layouts, unless a tensor hides what it stores."""

    def register(count: _F) -> _F:
        @sparse_formula(*names)
        @wraps(count)
        def known(*args: Any, out: Any, **kwargs: Any) -> Work | int | None:
            results = out if isinstance(out, tuple) else (out,)
            if any(map(hides_what_it_stores, (*args, *results))):
                return None
            return count(*args, out=out, **kwargs)

        return count

    return register


def _add(tensor: Tensor) -> int:
    return 2 if tensor.is_complex() else 1


def _product_terms(a: Tensor, b: Tensor, out: Tensor) -> int:
    """Multiply-accumulates of a product in which something is sparse.

    Each stored element meets a row or a column of a dense matrix whole. Of two sparse
    ones each element of the one is taken to meet as many of the other as that has on
    average in a row; and a product belongs to each element of the result at least.
    """
    terms = a.shape[-1]
    if not terms:
        return 0
    if is_sparse(a) and is_sparse(b):
        # The batch of both is the same, and each matrix has its share.
        expected = stored(a) * stored(b) // (terms * _batch(a))
        return max(expected, stored(out) if is_sparse(out) else 0)
    if is_sparse(a):
        return stored(a) * (b.shape[-1] if b.dim() > 1 else 1)
    if is_sparse(b):
        return stored(b) * (a.shape[-2] if a.dim() > 1 else 1)
    return stored(out) * terms


def _batch(a: Tensor) -> int:
    count = 1
    for size in a.shape[:-2]:
        count *= size
    return max(1, count)


@_by_what_is_stored("mm", "bmm", "mv", "hspmm", "_sparse_sparse_matmul")
def sparse_product(a: Tensor, b: Tensor, *_args: Any, out: Tensor, **_: Any) -> Work:
    """FLOPs of a product with a sparse matrix.

    a: [..., m, k], b: [..., k, n] or [k], at least one sparse -> out: [..., m, n] or [m]
    Counts n multiply-accumulates for each element that a stores, or m for each of b; of
    two sparse ones nnz(a)*nnz(b)/k, rounded down, but at least nnz(out).
    Source: the definition. The average for two sparse ones is a convention, exact when
    the elements of one of them are spread evenly.
    """
    return Work(macs=_product_terms(a, b, out) * real_factor(out))


@_by_what_is_stored(
    "addmm", "baddbmm", "addmv", "_sparse_addmm", "sspaddmm", "sparse_sampled_addmm"
)
def sparse_added_product(
    self: Tensor,
    a: Tensor,
    b: Tensor,
    *_args: Any,
    out: Tensor,
    beta: Any = 1,
    alpha: Any = 1,
    **_: Any,
) -> Work:
    """FLOPs of a product with a sparse matrix, added to a matrix.

    self: broadcast to out, a: [..., m, k], b: [..., k, n] or [k] -> out: [..., m, n] or [m]
    Counts the product as `mm`, k for each element of out when that alone is sparse, as
    `sparse_sampled_addmm` has it; one add for each element that self stores when beta is
    not 0, and one multiply for each of beta and alpha that is not 1.
    Source: the definition in the documentation of torch.sparse.addmm.
    """
    numel = stored(self) if is_sparse(self) else out.numel()
    scaled = stored(out) if is_sparse(out) else out.numel()
    arithmetic = added(numel, out.is_complex(), beta, 1) + scaled * times(alpha, out.is_complex())
    return sparse_product(a, b, out=out) + Work(arithmetic=arithmetic)


@_by_what_is_stored("triangular_solve")
def sparse_triangular_solve(
    b: Tensor,
    a: Tensor,
    _upper: bool = True,
    _transpose: bool = False,
    unitriangular: bool = False,
    *,
    out: Any,
    **_: Any,
) -> int:
    """FLOPs of solving a system whose sparse matrix is triangular.

    b: [n, k], a: [n, n] -> out: [n, k]
    Counts, for each right-hand side, a multiply and a subtraction for each stored element
    beside the diagonal, and n divisions unless the diagonal is ones.
    Source: the definition. All elements are taken to stand in the triangle.
    """
    size = a.shape[-1]
    rest = max(0, stored(a) - (0 if unitriangular else size))
    each = 2 * rest + (0 if unitriangular else size)
    return each * (b.numel() // max(1, size)) * real_factor(b)


@_by_what_is_stored("_sparse_mm_reduce_impl")
def sparse_mm_reduce(a: Tensor, b: Tensor, reduce: str, *, out: Any) -> Work:
    """FLOPs of a product whose terms are reduced to their sum, mean, product or extreme.

    a: [m, k] sparse, b: [k, n] -> out: [m, n], and where an extreme stood
    Counts n multiply-accumulates for each element that a stores, and a division for each
    element of out for the mean; other reductions take a multiply and a comparison or
    another multiply for each.
    Source: the definition in the documentation of torch.sparse.mm.
    """
    terms = stored(a) * b.shape[-1]
    if reduce not in ("sum", "mean"):
        return Work(arithmetic=2 * terms)
    return Work(macs=terms, arithmetic=out[0].numel() if reduce == "mean" else 0)


@_by_what_is_stored("_sparse_mm_reduce_impl_backward")
def sparse_mm_reduce_backward(
    a: Tensor,
    grad: Tensor,
    _weight: Tensor,
    reduce: str,
    _places: Tensor,
    mask: list[bool],
    *,
    out: Any,
) -> Work:
    """FLOPs of the backward of a product with a reduction of its terms.

    a: [m, k] sparse, grad: [m, n] -> out: gradients of a and of the dense matrix
    Counts, for each gradient that is asked for, n multiply-accumulates for each element
    that a stores, and a division of it for the mean; for an extreme, whose gradient goes
    to one element, one for each element of grad.
    Source: the derivative of the definition.
    """
    asked = sum(bool(one) for one in mask)
    if reduce not in ("sum", "mean"):
        return Work(macs=asked * grad.numel())
    divisions = asked * stored(a) if reduce == "mean" else 0
    return Work(macs=asked * stored(a) * grad.shape[-1], arithmetic=divisions)


@_by_what_is_stored("_sparse_sum", "_sparse_csr_sum", "_sparse_csr_prod", "sum")
def sparse_sum(a: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of adding up some dimensions of a sparse tensor.

    a: any shape -> out: without some dimensions, sparse or not
    Counts an add (or a multiply) for each element that a stores more than out.
    Source: the definition.
    """
    return max(0, stored(a) - stored(out)) * _add(a)


@_by_what_is_stored("norm")
def sparse_norm(a: Tensor, p: Any = 2, *_args: Any, out: Tensor, **_: Any) -> int | None:
    """FLOPs of the 2-norm of a sparse tensor.

    a: any shape -> out: []
    Counts a square for each element that is stored, their adds, and a root.
    Source: the definition. Other orders are not counted.
    """
    if p not in (2, None) or a.is_complex():
        return None
    return 2 * stored(a)


@_by_what_is_stored("coalesce", "_coalesce")
def coalesce(a: Tensor, *, out: Tensor) -> int:
    """FLOPs of adding up the values that stand in one place.

    a: sparse -> out: the same shape
    Counts an add for each element that a stores more than out.
    Source: the definition. Sorting their places is no arithmetic.
    """
    return max(0, stored(a) - stored(out)) * _add(a)


@sparse_formula(
    "_to_sparse", "_to_sparse_bsc", "_to_sparse_bsr", "_to_sparse_csc", "_to_sparse_csr"
)
def to_sparse(a: Tensor, *_args: Any, out: Tensor, **_: Any) -> int | None:
    """FLOPs of another layout of a tensor.

    a: any shape, dense or sparse -> out: the same shape
    Counts none, but those of `coalesce` when values that stand in one place meet.
    Source: the definition.
    """
    if not _has_duplicates(a):
        return 0
    return None if hides_what_it_stores(a) else coalesce(a, out=out)


@sparse_formula("_to_dense", "sparse_mask", "_sparse_mask_projection")
def to_dense(a: Tensor, *_args: Any, out: Tensor, **_: Any) -> int | None:
    """FLOPs of writing out the elements of a sparse tensor, or those of a mask's places.

    a: sparse, or dense with a mask -> out: the same shape
    Counts none when a is coalesced, else an add for each element that it stores.
    Source: what torch runs: it adds each of them to a zero or to another.
    """
    if not _has_duplicates(a):
        return 0
    return None if hides_what_it_stores(a) else stored(a) * _add(a)


def _has_duplicates(a: Tensor) -> bool:
    return a.layout is torch.sparse_coo and not a.is_coalesced()


def _softmax_rows(a: Tensor, dim: int) -> int:
    """How many rows a softmax over a dimension of a sparse tensor has at most."""
    dim %= max(1, a.dim())
    size = max(1, a.shape[dim])
    if dim >= a.sparse_dim():
        return stored(a) // size
    return min(stored(a), a.numel() // size)


@_by_what_is_stored("_sparse_softmax")
def sparse_softmax(a: Tensor, dim: int, *_args: Any, out: Tensor) -> int:
    """FLOPs of a softmax over the stored elements along one dimension.

    a: [..., n, ...], sparse -> out: the same shape
    Counts 5 for each element that is stored, less 2 for each row, as `_softmax`.
    Source: the stable definition. Every row is taken to store something, as long as
    there are enough elements: that is data, so it is a convention.
    """
    return 5 * stored(a) - 2 * _softmax_rows(a, dim)


@_by_what_is_stored("_sparse_log_softmax")
def sparse_log_softmax(a: Tensor, dim: int, *_args: Any, out: Tensor) -> int:
    """FLOPs of a log-softmax over the stored elements along one dimension.

    a: [..., n, ...], sparse -> out: the same shape
    Counts 5 for each element that is stored, less 1 for each row, as `_log_softmax`.
    Source: the stable definition, with rows as a sparse softmax takes them.
    """
    return 5 * stored(a) - _softmax_rows(a, dim)


@_by_what_is_stored("_sparse_softmax_backward_data", "_sparse_log_softmax_backward_data")
def sparse_softmax_backward(
    _grad: Tensor, output: Tensor, dim: int, _self: Tensor, *, out: Tensor
) -> int:
    """FLOPs of the backward of a softmax over the stored elements along one dimension.

    grad, output: [..., n, ...], sparse -> out: the same shape
    Counts 4 for each element that is stored, less 1 for each row: as
    `_softmax_backward_data`.
    Source: the derivative of the definition, with rows as the forward takes them.
    """
    return 4 * stored(output) - _softmax_rows(output, dim)
