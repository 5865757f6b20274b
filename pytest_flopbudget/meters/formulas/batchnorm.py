"""Batch normalisation, whole and in the parts that training on several devices takes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula


def _channels(x: Tensor) -> int:
    shape = x.shape
    return shape[1] if len(shape) > 1 else shape[0]


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
    elements, channels = x.numel(), _channels(x)
    affine = (weight is not None) + (bias is not None)
    flops = (2 + affine) * elements + 2 * channels
    if training:
        flops += 4 * elements + 7 * channels * has_running
    return flops


@formula(
    "native_batch_norm",
    "_native_batch_norm_legit_functional",
    "cudnn_batch_norm",
    "miopen_batch_norm",
)
def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    _running_var: Tensor | None,
    training: bool,
    *_rest: Any,
    out: Any,
) -> int:
    """FLOPs of batch normalisation, told by its `training` argument; see `_batch_norm`.

    x: [n, c, *size] -> out: the shape of x.
    """
    return _batch_norm(x, weight, bias, training, running_mean is not None)


@formula("_native_batch_norm_legit")
def batch_norm_legit(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Any, out: Any
) -> int:
    """FLOPs of batch normalisation, of which one overload has no statistics; see `_batch_norm`.

    x: [n, c, *size] -> out: the shape of x.
    """
    # rest: running_mean and running_var unless the overload has none, training, momentum, eps
    if isinstance(rest[0], bool):
        return _batch_norm(x, weight, bias, rest[0], has_running=False)
    return _batch_norm(x, weight, bias, rest[2], rest[0] is not None)


@formula("_native_batch_norm_legit_no_training", "_batch_norm_no_update")
def batch_norm_no_training(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *_rest: Any, out: Any
) -> int:
    """FLOPs of batch normalisation in evaluation; see `_batch_norm`.

    x: [n, c, *size] -> out: the shape of x.
    """
    return _batch_norm(x, weight, bias, training=False, has_running=True)


@formula("_batch_norm_with_update", "_batch_norm_with_update_functional")
def batch_norm_with_update(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *_rest: Any, out: Any
) -> int:
    """FLOPs of batch normalisation in training; see `_batch_norm`.

    x: [n, c, *size] -> out: the shape of x.
    """
    return _batch_norm(x, weight, bias, training=True, has_running=True)


def _batch_norm_backward(
    x: Tensor, weight: Tensor | None, training: bool, output_mask: list[bool]
) -> int:
    """FLOPs of the backward of batch normalisation.

    grad, x: [n, c, *size], weight: [c] or None -> gradients of x, weight, bias by mask
    Counts, for e elements: sum of grad (e - c), grad * (x - mean) and its sum (3e - c);
    in training, for x: both sums divided by the count (2c), the second scaled by the
    squared inverse deviation (2c), (x - mean) times that (2e), two subtractions and a
    multiply (3e), and the scale (c, with a weight); in evaluation: the inverse deviation
    (2c), and for x the scale (c, with a weight) and a multiply (e). The gradient of
    weight takes c more.
    Source: the derivative, as torch's own decomposition writes it.
    """
    needs_x, needs_weight, needs_bias = output_mask
    elements, channels = x.numel(), _channels(x)
    flops = 0
    if training or needs_bias:
        flops += elements - channels
    if training or needs_weight:
        flops += 3 * elements - channels
    if not training and (needs_x or needs_weight):
        flops += 2 * channels
    if needs_x:
        flops += (5 * elements + 4 * channels) if training else elements
        flops += channels * (weight is not None)
    if needs_weight:
        flops += channels
    return flops


@formula("native_batch_norm_backward", "batch_norm_backward")
def batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    _running_mean: Tensor | None,
    _running_var: Tensor | None,
    _save_mean: Tensor | None,
    _save_invstd: Tensor | None,
    training: bool,
    _eps: float,
    output_mask: list[bool],
    *_reserve: Any,
    out: Any,
) -> int:
    """FLOPs of the backward of batch normalisation; see `_batch_norm_backward`.

    grad, x: [n, c, *size] -> gradients of x, weight, bias by mask.
    """
    return _batch_norm_backward(x, weight, training, output_mask)


@formula("cudnn_batch_norm_backward", "miopen_batch_norm_backward")
def batch_norm_backward_in_training(
    x: Tensor, grad: Tensor, weight: Tensor, *_args: Any, out: Any
) -> int:
    """FLOPs of the backward of batch normalisation in training; see `_batch_norm_backward`.

    grad, x: [n, c, *size] -> gradients of x, weight, bias.
    """
    return _batch_norm_backward(x, weight, training=True, output_mask=[True, True, True])


@formula("batch_norm_stats")
def statistics(x: Tensor, _eps: float, *, out: Any) -> int:
    """FLOPs of the mean and the inverse deviation of each channel.

    x: [n, c, *size] with e elements -> mean and inverse deviation: [c]
    Counts the mean (e), the variance (3e), an add and a root for each channel (2c).
    Source: the definition in the documentation of torch.nn.BatchNorm2d, in two passes.
    """
    return 4 * x.numel() + 2 * _channels(x)


@formula("batch_norm_update_stats")
def running_statistics(
    x: Tensor, running_mean: Tensor | None, _running_var: Tensor | None, *_args: Any, out: Any
) -> int:
    """FLOPs of the mean and the variance of each channel, and of updating the running ones.

    x: [n, c, *size] with e elements -> mean and variance: [c]
    Counts the mean (e), the variance (3e), and with running statistics 7c: two multiplies
    and an add for each of both, and one multiply for the unbiased variance.
    Source: the definition in the documentation of torch.nn.BatchNorm2d, in two passes.
    """
    return 4 * x.numel() + 7 * _channels(x) * (running_mean is not None)


@formula("batch_norm_elemt")
def normalize(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *_args: Any, out: Tensor
) -> int:
    """FLOPs of normalising with given statistics.

    x: [n, c, *size], mean, inverse deviation, weight and bias: [c] -> out: the shape of x
    Counts a subtraction and a multiply for each element, a multiply with a weight, an add
    with a bias.
    Source: the definition in the documentation of torch.nn.BatchNorm2d.
    """
    return (2 + (weight is not None) + (bias is not None)) * x.numel()


@formula("batch_norm_gather_stats", "batch_norm_gather_stats_with_counts")
def gather_statistics(
    _x: Tensor, mean: Tensor, _invstd: Tensor, running_mean: Tensor | None, *_args: Any, out: Any
) -> int:
    """FLOPs of combining the statistics of several devices.

    mean and inverse deviation: [devices, c] -> mean and inverse deviation: [c]
    Counts 18 for each device and channel: the sum of squares from the inverse deviation
    (4), the share of the device (2), the two sums of squares and that of the difference
    of means (7), and the mean (5); for each channel a division, an add and a root (3),
    and 7 to update running statistics.
    Source: Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm (1979), as
    torch's kernel has it.
    """
    channels = mean.shape[-1]
    return 18 * mean.numel() + (3 + 7 * (running_mean is not None)) * channels


@formula("batch_norm_backward_reduce")
def backward_sums(
    grad: Tensor,
    x: Tensor,
    _mean: Tensor,
    _invstd: Tensor,
    _weight: Tensor | None,
    needs_x: bool,
    needs_weight: bool,
    needs_bias: bool,
    *,
    out: Any,
) -> int:
    """FLOPs of the sums that the backward of batch normalisation needs.

    grad, x: [n, c, *size] with e elements -> sums of grad and of grad * (x - mean): [c], and
    the gradients of weight and bias
    Counts the sum of grad (e - c), for x or bias; grad * (x - mean) and its sum (3e - c), for
    x or weight; and the multiply by the inverse deviation (c), for weight.
    Source: the derivative of the definition.
    """
    elements, channels = x.numel(), _channels(x)
    flops = 0
    if needs_x or needs_bias:
        flops += elements - channels
    if needs_x or needs_weight:
        flops += 3 * elements - channels
    return flops + channels * needs_weight


@formula("batch_norm_backward_elemt")
def backward_of_elements(
    grad: Tensor,
    x: Tensor,
    _mean: Tensor,
    _invstd: Tensor,
    weight: Tensor | None,
    _sum_grad: Tensor,
    _sum_grad_x: Tensor,
    count: Tensor,
    *,
    out: Tensor,
) -> int:
    """FLOPs of the gradient that batch normalisation passes on, from its sums.

    grad, x: [n, c, *size] with e elements, count: [devices] -> out: the shape of x
    Counts both sums divided by the count (2c), the second scaled by the squared inverse
    deviation (2c), (x - mean) times that (2e), two subtractions and a multiply (3e), the
    scale (c, with a weight), and the sum of the counts of all devices.
    Source: the derivative of the definition.
    """
    channels = _channels(x)
    return 5 * x.numel() + (4 + (weight is not None)) * channels + max(0, count.numel() - 1)
