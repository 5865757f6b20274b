"""Gradients of padding and of windows, which meet in the elements that were read twice."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.pooling import _per_dim, clipped_taps
from pytest_flopbudget.meters.formulas.registry import formula


def _adds(tensor: Tensor, count: int) -> int:
    """FLOPs of this many adds of the tensor's numbers: a complex add is two real ones."""
    return count * (2 if tensor.is_complex() else 1)


@formula(
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
    "replication_pad1d_backward",
    "replication_pad2d_backward",
    "replication_pad3d_backward",
)
def pad_backward(grad: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of padding with elements of the input.

    grad: the padded shape -> out: the shape of the input
    Counts one add for each element of grad, into the place that it came from; two for
    complex numbers.
    Source: the derivative of a copy.
    """
    return _adds(grad, grad.numel())


@formula("unfold_backward")
def unfold_backward(grad: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of sliding windows along one dimension.

    grad: [..., windows, ..., size] -> out: the shape of the input
    Counts one add for each element of grad, into the place that it came from; two for
    complex numbers.
    Source: the derivative of a view, whose windows may overlap.
    """
    return _adds(grad, grad.numel())


@formula("col2im")
def col2im(
    x: Tensor,
    output_size: Any,
    kernel: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
    *,
    out: Tensor,
) -> int:
    """FLOPs of adding up the columns that sliding windows have been written out in.

    x: [..., channels * kernel, windows] -> out: [..., channels, h, w]
    Counts one add for each element of x that does not fall onto the padding; two for
    complex numbers.
    Source: the definition in the documentation of torch.nn.Fold.
    """
    strides, paddings, dilations, kernels = (
        _per_dim(value, 2) for value in (stride, padding, dilation, kernel)
    )
    counts = [
        (size + 2 * pad - step * (width - 1) - 1) // stride_of + 1
        for size, pad, step, width, stride_of in zip(
            out.shape[-2:], paddings, dilations, kernels, strides, strict=True
        )
    ]
    return _adds(x, clipped_taps(out.shape, counts, kernels, strides, paddings, dilations))
