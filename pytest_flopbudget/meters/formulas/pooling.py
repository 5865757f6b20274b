"""Pooling: sums and comparisons over windows, clipped at the borders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula


def _per_dim(values: Any, dims: int) -> list[int]:
    """One value a dimension; a single one stands for all."""
    listed = [values] if isinstance(values, int) else list(values)
    return listed * dims if len(listed) == 1 else listed


def clipped_taps(
    shape: Sequence[int],
    counts: Sequence[int],
    kernels: Sequence[int],
    strides: Sequence[int],
    paddings: Sequence[int],
    dilations: Sequence[int],
) -> int:
    """Elements of a tensor of this shape that all windows read, the padding left out.

    counts: windows along each of the last dimensions. The windows are boxes, so the number
    is a product of one sum for each dimension.
    """
    dims = len(counts)
    taps = math.prod(shape[: len(shape) - dims])
    for d, size in enumerate(shape[len(shape) - dims :]):
        taps *= sum(
            0 <= o * strides[d] - paddings[d] + k * dilations[d] < size
            for o in range(counts[d])
            for k in range(kernels[d])
        )
    return taps


def _taps(
    x: Tensor, out: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, dims: int
) -> int:
    """Elements of x that all windows of a pooling read."""
    kernels = _per_dim(kernel, dims)
    strides = _per_dim(stride, dims) if stride else kernels
    paddings, dilations = _per_dim(padding, dims), _per_dim(dilation, dims)
    return clipped_taps(x.shape, out.shape[-dims:], kernels, strides, paddings, dilations)


def _max_pool(dims: int, x: Tensor, args: Sequence[Any], out: Tensor) -> int:
    kernel, stride, padding, dilation = [*args, *([], 0, 1, False)[max(0, len(args) - 1) :]][:4]
    return _taps(x, out, kernel, stride, padding, dilation, dims) - out.numel()


def _first(out: Any) -> Tensor:
    """The values of a maximum pooling, which may come with their indices."""
    return out if isinstance(out, Tensor) else out[0]


@formula("quantized_max_pool1d", "quantized::max_pool1d")
def max_pool1d(x: Tensor, *args: Any, out: Any) -> int:
    """Comparisons of a one-dimensional maximum pooling; see `max_pool2d`.

    x: [..., w] -> out: [..., ow]. Without quantisation it is one of two dimensions.
    """
    return _max_pool(1, x, args, out)


@formula(
    "max_pool2d_with_indices", "mkldnn_max_pool2d", "quantized_max_pool2d", "quantized::max_pool2d"
)
def max_pool2d(x: Tensor, *args: Any, out: Any) -> int:
    """Comparisons of a two-dimensional maximum pooling.

    x: [..., h, w] -> out: [..., oh, ow]
    Counts, for each window, one comparison less than the elements of x in it.
    Source: the definition; padding is never compared.
    """
    return _max_pool(2, x, args, _first(out))


@formula("max_pool3d_with_indices", "mkldnn_max_pool3d", "quantized_max_pool3d")
def max_pool3d(x: Tensor, *args: Any, out: Any) -> int:
    """Comparisons of a three-dimensional maximum pooling; see `max_pool2d`.

    x: [..., d, h, w] -> out: [..., od, oh, ow].
    """
    return _max_pool(3, x, args, _first(out))


@formula("fractional_max_pool2d", "fractional_max_pool3d")
def fractional_max_pool(x: Tensor, kernel: Any, *_args: Any, out: Any) -> int:
    """Comparisons of a maximum pooling over windows at random places.

    x: [..., *size] -> out: [..., *out_size]
    Counts, for each window, one comparison less than it has elements; every window lies
    whole in x. Where the windows start is an index computation, which is not counted.
    Source: the definition in the documentation of torch.nn.FractionalMaxPool2d.
    """
    values = _first(out)
    return values.numel() * (math.prod(_per_dim(kernel, values.dim() - 2)) - 1)


@formula(
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d_backward",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward",
    "max_pool2d_backward",
    "max_pool2d_with_indices_backward",
    "max_pool3d_with_indices_backward",
    "mkldnn_max_pool2d_backward",
    "mkldnn_max_pool3d_backward",
)
def max_pool_backward(grad: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a maximum pooling.

    grad: the shape of the forward's result -> out: the shape of its input
    Counts one add for each element of grad, into the place that it came from.
    Source: the derivative; windows may overlap.
    """
    return grad.numel()


@formula("avg_pool1d")
def avg_pool1d(x: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of a one-dimensional average pooling; see `avg_pool2d`.

    x: [..., w] -> out: [..., ow].
    """
    return _avg_pool(1, x, args, out)


def _avg_pool(dims: int, x: Tensor, args: Sequence[Any], out: Tensor) -> int:
    kernel, stride, padding = [*args, *([], 0)[max(0, len(args) - 1) :]][:3]
    return _taps(x, out, kernel, stride, padding, 1, dims)


@formula("avg_pool2d")
def avg_pool2d(x: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of a two-dimensional average pooling.

    x: [..., h, w] -> out: [..., oh, ow]
    Counts, for each window of n elements of x, n - 1 adds and one division, whatever
    it divides by.
    Source: the definition; padding is never added.
    """
    return _avg_pool(2, x, args, out)


@formula("avg_pool3d")
def avg_pool3d(x: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of a three-dimensional average pooling; see `avg_pool2d`.

    x: [..., d, h, w] -> out: [..., od, oh, ow].
    """
    return _avg_pool(3, x, args, out)


@formula("avg_pool2d_backward")
def avg_pool2d_backward(grad: Tensor, x: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a two-dimensional average pooling.

    grad: [..., oh, ow], x: [..., h, w] -> out: the shape of x
    Counts, for each window of n elements of x, one division and n adds.
    Source: the derivative.
    """
    return grad.numel() + _avg_pool(2, x, args, grad)


@formula("avg_pool3d_backward")
def avg_pool3d_backward(grad: Tensor, x: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a three-dimensional average pooling; see `avg_pool2d_backward`.

    grad: [..., od, oh, ow], x: [..., d, h, w] -> out: the shape of x.
    """
    return grad.numel() + _avg_pool(3, x, args, grad)


def _adaptive_taps(x: Tensor, out: Tensor, dims: int) -> int:
    """Elements of x in all windows: window i runs from floor(i*n/o) to ceil((i+1)*n/o)."""
    taps = math.prod(x.shape[:-dims])
    for d in range(-dims, 0):
        size, count = x.shape[d], out.shape[d]
        taps *= sum(-(-(i + 1) * size // count) - i * size // count for i in range(count))
    return taps


@formula("adaptive_avg_pool1d")
def adaptive_avg_pool1d(x: Tensor, _size: Any, *, out: Tensor) -> int:
    """FLOPs of a one-dimensional adaptive average pooling; see `adaptive_avg_pool2d`.

    x: [..., w] -> out: [..., ow].
    """
    return _adaptive_taps(x, out, 1)


@formula("_adaptive_avg_pool2d", "adaptive_avg_pool2d", "mkldnn_adaptive_avg_pool2d")
def adaptive_avg_pool2d(x: Tensor, _size: Any, *, out: Tensor) -> int:
    """FLOPs of a two-dimensional adaptive average pooling.

    x: [..., h, w] -> out: [..., oh, ow]
    Counts, for each window of n elements, n - 1 adds and one division.
    Source: the definition of the windows in the documentation of
    torch.nn.AdaptiveAvgPool2d.
    """
    return _adaptive_taps(x, out, 2)


@formula("_adaptive_avg_pool3d", "adaptive_avg_pool3d")
def adaptive_avg_pool3d(x: Tensor, _size: Any, *, out: Tensor) -> int:
    """FLOPs of a three-dimensional adaptive average pooling; see `adaptive_avg_pool2d`.

    x: [..., d, h, w] -> out: [..., od, oh, ow].
    """
    return _adaptive_taps(x, out, 3)


@formula("_adaptive_avg_pool2d_backward", "mkldnn_adaptive_avg_pool2d_backward")
def adaptive_avg_pool2d_backward(grad: Tensor, x: Tensor, *, out: Tensor) -> int:
    """FLOPs of the backward of a two-dimensional adaptive average pooling.

    grad: [..., oh, ow], x: [..., h, w] -> out: the shape of x
    Counts, for each window of n elements, one division and n adds.
    Source: the derivative.
    """
    return grad.numel() + _adaptive_taps(x, grad, 2)


@formula("_adaptive_avg_pool3d_backward", "adaptive_avg_pool3d_backward")
def adaptive_avg_pool3d_backward(grad: Tensor, x: Tensor, *, out: Tensor) -> int:
    """FLOPs of the backward of a 3-d adaptive average pooling; see `adaptive_avg_pool2d_backward`.

    grad: [..., od, oh, ow], x: [..., d, h, w] -> out: the shape of x.
    """
    return grad.numel() + _adaptive_taps(x, grad, 3)


@formula("adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(x: Tensor, size: Any, *, out: Any) -> int:
    """Comparisons of an adaptive maximum pooling.

    x: [..., *size] -> out: [..., *out_size]
    Counts, for each window of n elements, n - 1 comparisons.
    Source: the definition of the windows in the documentation of
    torch.nn.AdaptiveAvgPool2d, which are the same.
    """
    values = _first(out)
    return _adaptive_taps(x, values, len(size)) - values.numel()
