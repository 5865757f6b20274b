"""Layer, group, RMS and weight normalisation, forward and backward."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula


def _forward(elements: int, groups: int, is_affine_scale: bool, is_affine_shift: bool) -> int:
    """FLOPs of normalising with the statistics of the data itself.

    The mean takes a division and n - 1 adds (n), the variance 3n, the inverse
    deviation an add and a square root for each group, and each element a subtraction
    and a multiply, then a multiply and an add for weight and bias.
    """
    return (6 + is_affine_scale + is_affine_shift) * elements + 2 * groups


@formula("native_layer_norm")
def layer_norm(
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    _eps: float,
    *,
    out: Any,
) -> int:
    """FLOPs of layer normalisation.

    x: [m, n] with n the normalised elements, weight and bias: [n] or None -> out: [m, n]
    Counts 8*m*n + 2*m with weight and bias: mean m*n, variance 3*m*n, inverse
    deviation 2*m, and four for each element, less those of a missing weight or bias.
    Source: the definition in the documentation of torch.nn.LayerNorm, in two passes.
    """
    return _forward(x.numel(), _outer(x, normalized_shape), weight is not None, bias is not None)


def _outer(x: Tensor, normalized_shape: Any) -> int:
    """How many independent rows layer normalisation has."""
    rows = 1
    for size in x.shape[: x.dim() - len(normalized_shape)]:
        rows *= size
    return rows


@formula("native_layer_norm_backward")
def layer_norm_backward(
    grad: Tensor,
    x: Tensor,
    normalized_shape: Any,
    _mean: Tensor,
    _rstd: Tensor,
    weight: Tensor | None,
    _bias: Tensor | None,
    output_mask: list[bool],
    *,
    out: Any,
) -> int:
    """FLOPs of the backward of layer normalisation.

    grad, x: [m, n], weight: [n] or None -> gradients of x, weight, bias by output_mask
    Counts, with xhat = (x - mean) * rstd (2mn) and g = grad * weight (mn, if weight):
    for x: n*g (mn), sum of g (mn - m), g*xhat (mn), its sum (mn - m), xhat times that
    (mn), two subtractions (2mn), rstd / n (m) and the multiply by it (mn); for weight
    grad*xhat (mn) and its sum (mn - n); for bias the sum of grad (mn - n).
    Source: the derivative, as torch's own decomposition writes it.
    """
    elements, rows = x.numel(), _outer(x, normalized_shape)
    inner = elements // rows if rows else 0
    needs_x, needs_weight, needs_bias = output_mask
    flops = 2 * elements if needs_x or needs_weight else 0
    if needs_x:
        flops += (8 + (weight is not None)) * elements - rows
    if needs_weight:
        flops += 2 * elements - inner
    if needs_bias:
        flops += elements - inner
    return flops


@formula("native_group_norm")
def group_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    batch: int,
    _channels: int,
    _inner: int,
    groups: int,
    _eps: float,
    *,
    out: Any,
) -> int:
    """FLOPs of group normalisation.

    x: [n, c, *size], weight and bias: [c] or None -> out: the shape of x
    Counts as layer normalisation over n * groups rows.
    Source: the definition in the documentation of torch.nn.GroupNorm, in two passes.
    """
    return _forward(x.numel(), batch * groups, weight is not None, bias is not None)


@formula("native_group_norm_backward")
def group_norm_backward(
    grad: Tensor,
    x: Tensor,
    _mean: Tensor,
    _rstd: Tensor,
    weight: Tensor | None,
    batch: int,
    channels: int,
    _inner: int,
    groups: int,
    output_mask: list[bool],
    *,
    out: Any,
) -> int:
    """FLOPs of the backward of group normalisation.

    grad, x: [n, c, *size] with e elements, weight: [c] or None -> gradients of x, weight,
    bias by output_mask
    Counts the sum of grad over each channel (e - n*c); for x or weight the sum of grad*x
    (2e - n*c); for x, with p = n * groups: both times weight and the inverse deviation
    too (3*n*c, if weight), their sums over each group (2*n*c - 2p), 11p for the two
    factors that they make, and grad, x and a constant combined (4e); for weight 4*n*c - c;
    for bias n*c - c.
    Source: the derivative, as torch's own decomposition writes it, but for what it does
    with a weight of ones where there is none.
    """
    elements, samples_channels, rows = x.numel(), batch * channels, batch * groups
    needs_x, needs_weight, needs_bias = output_mask
    flops = 0
    if needs_x or needs_weight or needs_bias:
        flops += elements - samples_channels
    if needs_x or needs_weight:
        flops += 2 * elements - samples_channels
    if needs_x:
        flops += 4 * elements + 2 * samples_channels + 9 * rows
        flops += 3 * samples_channels * (weight is not None)
    if needs_weight:
        flops += 4 * samples_channels - channels
    if needs_bias:
        flops += samples_channels - channels
    return flops


@formula("_fused_rms_norm")
def rms_norm(x: Tensor, normalized_shape: Any, weight: Tensor | None, *_args: Any, out: Any) -> int:
    """FLOPs of root-mean-square normalisation.

    x: [m, n], weight: [n] or None -> out: [m, n]
    Counts the mean of squares (2mn), an add and a square root for each row (2m), and
    one multiply for each element, two with a weight.
    Source: the definition in the documentation of torch.nn.RMSNorm.
    """
    return (3 + (weight is not None)) * x.numel() + 2 * _outer(x, normalized_shape)


@formula("_fused_rms_norm_backward")
def rms_norm_backward(
    grad: Tensor,
    x: Tensor,
    normalized_shape: Any,
    _rstd: Tensor,
    weight: Tensor | None,
    output_mask: list[bool],
    *,
    out: Any,
) -> int:
    """FLOPs of the backward of root-mean-square normalisation.

    grad, x: [m, n], weight: [n] or None -> gradients of x and weight by output_mask
    Counts, with xhat = x * rstd (mn): for x, grad*weight (mn, if weight), its product with
    xhat and the sum (2mn - m), xhat / n times that (2mn), a subtraction and the multiply by
    rstd (2mn); for weight grad*xhat and its sum (2mn - n).
    Source: the derivative, as torch's own decomposition writes it.
    """
    elements, rows = x.numel(), _outer(x, normalized_shape)
    if not elements:
        return 0
    needs_x, needs_weight = output_mask[0], output_mask[1] and weight is not None
    flops = elements if needs_x or needs_weight else 0
    if needs_x:
        flops += (6 + (weight is not None)) * elements - rows
    if needs_weight:
        flops += 2 * elements - elements // rows
    return flops


@formula("_weight_norm_interface")
def weight_norm(v: Tensor, g: Tensor, _dim: int = 0, *, out: Any) -> int:
    """FLOPs of a weight from its direction and its length.

    v: [m, n], one slice for each of m along `dim`, g: m lengths -> out: the shape of v
    Counts the 2-norm of each slice (2mn), m divisions g / norm, and m*n multiplies.
    Source: the definition in the documentation of torch.nn.utils.parametrizations.weight_norm.
    """
    return 3 * v.numel() + g.numel()


@formula("_weight_norm_interface_backward")
def weight_norm_backward(grad: Tensor, v: Tensor, g: Tensor, *_args: Any, out: Any) -> int:
    """FLOPs of the backward of a weight from its direction and its length.

    grad, v: [m, n], g: m lengths -> gradients of v and g
    Counts the sum of grad*v for each slice (2mn - m), its division by the norm (m), which
    is the gradient of g; for v the square of the norm, the sum divided by it and g / norm
    (3m), v times the former, the difference to grad and the multiply by the latter (3mn).
    Source: the derivative, as torch writes it where it is to be differentiated again.
    """
    return 5 * v.numel() + 3 * g.numel()
