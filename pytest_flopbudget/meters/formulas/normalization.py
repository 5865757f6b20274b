"""Batch, layer, group and RMS normalisation, forward and backward."""

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


@formula("_fused_rms_norm")
def rms_norm(x: Tensor, normalized_shape: Any, weight: Tensor | None, *_args: Any, out: Any) -> int:
    """FLOPs of root-mean-square normalisation.

    x: [m, n], weight: [n] or None -> out: [m, n]
    Counts the mean of squares (2mn), an add and a square root for each row (2m), and
    one multiply for each element, two with a weight.
    Source: the definition in the documentation of torch.nn.RMSNorm.
    """
    return (3 + (weight is not None)) * x.numel() + 2 * _outer(x, normalized_shape)


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, has_running: bool
) -> int:
    """FLOPs of batch normalisation.

    x: [n, c, *size], weight, bias and statistics: [c] or None -> out: the shape of x
    Evaluation: the inverse deviation (2c), and for each element a subtraction and a
    multiply, a multiply with a weight, an add with a bias. Training: the mean and the
    variance of the data (4 for each element) come first, and the running statistics
    are updated: two multiplies and an add for each of both, and one multiply for the
    unbiased variance (7c).
    Source: the definition in the documentation of torch.nn.BatchNorm2d, in two passes.
    """
    channels = x.shape[1] if x.dim() > 1 else x.shape[0]
    affine = (weight is not None) + (bias is not None)
    flops = (2 + affine) * x.numel() + 2 * channels
    if training:
        flops += 4 * x.numel() + 7 * channels * has_running
    return flops


@formula("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "miopen_batch_norm")
def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Any, out: Any, **_: Any
) -> int:
    """FLOPs of batch normalisation, told by its `training` argument; see `_batch_norm`.

    x: [n, c, *size] -> out: the shape of x.
    """
    # rest: running_mean and running_var unless the overload has none, training, momentum, eps
    statistics = [value for value in rest if value is None or isinstance(value, Tensor)]
    training = next(value for value in rest if isinstance(value, bool))
    has_running = bool(statistics) and statistics[0] is not None
    return _batch_norm(x, weight, bias, training, has_running)


@formula("_native_batch_norm_legit_no_training")
def batch_norm_no_training(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *_rest: Any, out: Any
) -> int:
    """FLOPs of batch normalisation in evaluation; see `_batch_norm`.

    x: [n, c, *size] -> out: the shape of x.
    """
    return _batch_norm(x, weight, bias, training=False, has_running=True)


@formula("_batch_norm_with_update")
def batch_norm_with_update(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *_rest: Any, out: Any
) -> int:
    """FLOPs of batch normalisation in training; see `_batch_norm`.

    x: [n, c, *size] -> out: the shape of x.
    """
    return _batch_norm(x, weight, bias, training=True, has_running=True)


@formula("native_batch_norm_backward", "cudnn_batch_norm_backward", "batch_norm_backward")
def batch_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor | None, *rest: Any, out: Any
) -> int | None:
    """FLOPs of the backward of batch normalisation.

    grad, x: [n, c, *size], weight: [c] or None -> gradients of x, weight, bias by mask
    Counts, for e elements: sum of grad (e - c), grad * (x - mean) and its sum (3e - c);
    in training, for x: both sums divided by the count (2c), the second scaled by the
    squared inverse deviation (2c), (x - mean) times that (2e), two subtractions and a
    multiply (3e), and the scale (c, with a weight); in evaluation, for x: the inverse
    deviation (2c), the scale (c, with a weight) and a multiply (e). The gradient of
    weight takes c more.
    Source: the derivative, as torch's own decomposition writes it.
    """
    mask = next((value for value in reversed(rest) if isinstance(value, list | tuple)), None)
    training = next((value for value in rest if isinstance(value, bool)), None)
    if mask is None or training is None:
        return None
    needs_x, needs_weight, needs_bias = mask
    elements, channels = x.numel(), x.shape[1]
    has_weight = weight is not None
    flops = 0
    if training or needs_bias:
        flops += elements - channels
    if training or needs_weight:
        flops += 3 * elements - channels
    if needs_x:
        flops += (5 * elements + 4 * channels) if training else (elements + 2 * channels)
        flops += channels * has_weight
    if needs_weight:
        flops += channels
    return flops
