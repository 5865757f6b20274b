"""Matrices of which two of every four elements are zero, and are packed away."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.contractions import added
from pytest_flopbudget.meters.formulas.registry import Work, formula
from pytest_flopbudget.meters.formulas.scaled import ACTIVATIONS


@formula("_sparse_semi_structured_linear")
def semi_structured_linear(
    x: Tensor,
    weight: Tensor,
    _places: Tensor,
    *,
    out: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    **_: Any,
) -> Work:
    """FLOPs of a linear layer of whose weight every second element is zero, two of four.

    x: [..., k], weight: [n, k/2], packed -> out: [..., n]
    Counts k/2 multiply-accumulates for each element of out, an add with a bias, and the
    activation: 1 for relu, 2 for silu.
    Source: the definition: what is packed away is not multiplied.
    """
    arithmetic = out.numel() * ((bias is not None) + ACTIVATIONS[activation or "none"])
    return Work(macs=out.numel() * weight.shape[1], arithmetic=arithmetic)


@formula("_sparse_semi_structured_mm")
def semi_structured_mm(a: Tensor, _places: Tensor, b: Tensor, *, out: Tensor, **_: Any) -> Work:
    """FLOPs of a product with a matrix of which two of four elements are zero.

    a: [m, k/2], packed, b: [k, n] -> out: [m, n]
    Counts m*n*k/2 multiply-accumulates.
    Source: the definition: what is packed away is not multiplied.
    """
    return Work(macs=a.shape[0] * a.shape[1] * b.shape[1])


@formula("_sparse_semi_structured_addmm")
def semi_structured_addmm(
    _self: Tensor,
    a: Tensor,
    places: Tensor,
    b: Tensor,
    *,
    out: Tensor,
    alpha: Any = 1,
    beta: Any = 1,
    **_: Any,
) -> Work:
    """FLOPs of a product with a matrix of which two of four are zero, added to a matrix.

    self: broadcast to [m, n], a: [m, k/2], packed, b: [k, n] -> out: [m, n]
    Counts m*n*k/2 multiply-accumulates, m*n adds, and scalars as `addmm`.
    Source: the definition: what is packed away is not multiplied.
    """
    product = semi_structured_mm(a, places, b, out=out)
    return product + Work(arithmetic=added(out.numel(), False, beta, alpha))


@formula("_cslt_sparse_mm")
def cslt_mm(
    _a: Tensor,
    b: Tensor,
    bias: Tensor | None = None,
    alpha: Tensor | None = None,
    *_args: Any,
    out: Tensor,
    **_: Any,
) -> Work:
    """FLOPs of a product with a matrix of which two of four elements are zero, by cuSPARSELt.

    a: packed, b: [k, n] -> out: [m, n], or [n, m]
    Counts k/2 multiply-accumulates for each element of out, an add with a bias and a
    multiply with alpha.
    Source: the definition: what is packed away is not multiplied.
    """
    extras = (bias is not None) + (alpha is not None)
    return Work(macs=out.numel() * (b.shape[0] // 2), arithmetic=out.numel() * extras)
