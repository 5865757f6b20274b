"""Products of scaled, grouped or packed matrices, as low-precision layers take them."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Work, formula

ACTIVATIONS: Final = {"none": 0, "relu": 1, "silu": 2}
"""FLOPs for each element of the activations that a fused linear layer may end with."""

_MX_BLOCK, _NV_BLOCK, _FLOAT_BLOCK = 32, 16, 128
"""Elements along the contraction that share one scale: of OCP MX, of NVFP4, of float32."""

_RECIPE_BLOCKS: Final = {
    2: _NV_BLOCK,
    3: _MX_BLOCK,
    4: _FLOAT_BLOCK,
    5: _FLOAT_BLOCK,
}
"""The same by the number of torch.nn.functional.ScalingType: 0 and 1 are whole rows."""


def contracted(tensor: Tensor, dim: int = -1) -> int:
    """The size of a dimension that is contracted, two for each packed pair of float4."""
    pairs = 2 if tensor.dtype is torch.float4_e2m1fn_x2 else 1
    return tensor.shape[dim] * pairs


def _grouped_macs(a: Tensor, b: Tensor, out: Tensor) -> int:
    if out.dim() > max(a.dim(), b.dim()):
        # Each group has its own share of the contraction, and its own matrix as result.
        return a.shape[0] * contracted(a) * b.shape[1]
    return out.numel() * contracted(a)


def _ends(out: Tensor, bias: Tensor | None, scale_result: Tensor | None = None) -> int:
    """FLOPs of what is done to the result: an add of a bias, a multiply by a scale."""
    return out.numel() * sum(extra is not None for extra in (bias, scale_result))


def _steps(scale: Tensor, terms: int, dim: int) -> int:
    """How often an element of the result is scaled by this: once for each block of terms."""
    if scale.dtype is torch.float8_e8m0fnu:
        return -(-terms // _MX_BLOCK)
    if scale.dtype is torch.float8_e4m3fn:
        return -(-terms // _NV_BLOCK)
    return scale.shape[dim] if scale.dim() > 1 else 1


def _recipe_steps(recipes: list[int], terms: int) -> int:
    return sum(
        -(-terms // _RECIPE_BLOCKS[recipe]) if recipe in _RECIPE_BLOCKS else 1 for recipe in recipes
    )


@formula("_scaled_mm")
def scaled_mm(
    a: Tensor,
    b: Tensor,
    scale_a: Tensor,
    scale_b: Tensor,
    bias: Tensor | None = None,
    scale_result: Tensor | None = None,
    *_args: Any,
    out: Tensor,
    **_: Any,
) -> Work:
    """FLOPs of a product of two scaled matrices, such as float8 ones.

    a: [m, k], b: [k, n], a scale of each -> out: [m, n]
    Counts m*k*n multiply-accumulates; for each element of out a multiply for each scale,
    again for each block of k that has a scale of its own, and an add with a bias. A
    packed pair of float4 is two terms.
    Source: the definition, scaling sums and not terms.
    """
    terms = contracted(a)
    steps = _steps(scale_a, terms, 1) + _steps(scale_b, terms, 0)
    arithmetic = out.numel() * steps + _ends(out, bias, scale_result)
    return Work(macs=out.numel() * terms, arithmetic=arithmetic)


@formula("_scaled_mm_v2")
def scaled_mm_v2(
    a: Tensor,
    b: Tensor,
    _scale_a: list[Tensor],
    recipe_a: list[int],
    _swizzle_a: list[int],
    _scale_b: list[Tensor],
    recipe_b: list[int],
    _swizzle_b: list[int],
    bias: Tensor | None = None,
    *_args: Any,
    out: Tensor,
    **_: Any,
) -> Work:
    """FLOPs of a product of two scaled matrices, whose recipes say how they are scaled.

    a: [m, k], b: [k, n], lists of scales of each -> out: [m, n]
    Counts as `_scaled_mm`: a recipe of blocks scales once for each block of k.
    Source: the definition, scaling sums and not terms.
    """
    terms = contracted(a)
    steps = _recipe_steps(recipe_a, terms) + _recipe_steps(recipe_b, terms)
    return Work(macs=out.numel() * terms, arithmetic=out.numel() * steps + _ends(out, bias))


@formula("_grouped_mm")
def grouped_mm(
    a: Tensor,
    b: Tensor,
    _offsets: Tensor | None = None,
    bias: Tensor | None = None,
    *_args: Any,
    out: Tensor,
    **_: Any,
) -> Work:
    """FLOPs of matrix products of groups of rows, columns or terms, as experts take them.

    a: [m, k] or [g, m, k], b: [k, n] or [g, k, n] -> out: [m, n], or [g, m, n]
    Counts m*k*n multiply-accumulates in all, g*m*k*n where both have a dimension of groups.
    Source: the definition. Where the groups end is data: they are taken to cover all.
    """
    return Work(macs=_grouped_macs(a, b, out), arithmetic=_ends(out, bias))


@formula("_scaled_grouped_mm")
def scaled_grouped_mm(
    a: Tensor,
    b: Tensor,
    scale_a: Tensor,
    scale_b: Tensor,
    _offsets: Tensor | None = None,
    bias: Tensor | None = None,
    scale_result: Tensor | None = None,
    *_args: Any,
    out: Tensor,
    **_: Any,
) -> Work:
    """FLOPs of products of groups of two scaled matrices.

    a: [m, k] or [g, m, k], b: [k, n] or [g, k, n] -> out: [m, n], or [g, m, n]
    Counts as `_grouped_mm`, and a multiply of each element of out for each scale, again
    for each block of k that has a scale of its own.
    Source: the definition, scaling sums and not terms.
    """
    terms = contracted(a)
    steps = sum(
        _steps(scale, terms, 0) if scale.element_size() == 1 else 1 for scale in (scale_a, scale_b)
    )
    arithmetic = out.numel() * steps + _ends(out, bias, scale_result)
    return Work(macs=_grouped_macs(a, b, out), arithmetic=arithmetic)


@formula("_scaled_grouped_mm_v2")
def scaled_grouped_mm_v2(
    a: Tensor,
    b: Tensor,
    _scale_a: list[Tensor],
    recipe_a: list[int],
    _swizzle_a: list[int],
    _scale_b: list[Tensor],
    recipe_b: list[int],
    _swizzle_b: list[int],
    _offsets: Tensor | None = None,
    bias: Tensor | None = None,
    *_args: Any,
    out: Tensor,
    **_: Any,
) -> Work:
    """FLOPs of products of groups of two scaled matrices, with recipes of the scales.

    a: [m, k] or [g, m, k], b: [k, n] or [g, k, n] -> out: [m, n], or [g, m, n]
    Counts as `_grouped_mm`, and the scales as `_scaled_mm_v2`.
    Source: the definition, scaling sums and not terms.
    """
    terms = contracted(a)
    steps = _recipe_steps(recipe_a, terms) + _recipe_steps(recipe_b, terms)
    arithmetic = out.numel() * steps + _ends(out, bias)
    return Work(macs=_grouped_macs(a, b, out), arithmetic=arithmetic)


@formula("_mixed_dtypes_linear")
def mixed_dtypes_linear(
    x: Tensor,
    weight: Tensor,
    _scale: Tensor,
    *,
    out: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
) -> Work:
    """FLOPs of a linear layer whose weight is integers with a scale for each column.

    x: [..., k], weight: k rows of n integers, packed or not -> out: [..., n]
    Counts k multiply-accumulates for each element of out, a multiply for each of the k*n
    weights, an add with a bias, and the activation: 1 for relu, 2 for silu.
    Source: the definition; the kernel scales the weight.
    """
    terms, columns = x.shape[-1], out.shape[-1]
    arithmetic = terms * columns + _ends(out, bias)
    arithmetic += out.numel() * ACTIVATIONS[activation or "none"]
    return Work(macs=out.numel() * terms, arithmetic=arithmetic)
