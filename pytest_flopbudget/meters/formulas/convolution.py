"""Convolutions of one to three dimensions, plain, grouped, transposed, and their backward."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.contractions import real_factor
from pytest_flopbudget.meters.formulas.registry import Work, formula


def _forward_macs(x: Tensor, weight: Tensor, out: Tensor, is_transposed: bool) -> int:
    """Multiply-accumulates of one convolution.

    Plain: weight [out_channels, in_channels/groups, *kernel]; every element of out
    takes in_channels/groups * kernel. Transposed: weight [in_channels,
    out_channels/groups, *kernel]; every element of x gives out_channels/groups * kernel.
    Taps on the zero padding are counted, as every published figure does.
    """
    taps = math.prod(weight.shape[1:])
    return (x if is_transposed else out).numel() * taps * real_factor(out)


@formula("convolution", "_convolution")
def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    *_rest: Any,
    out: Tensor,
) -> Work:
    """FLOPs of a convolution.

    x: [n, in_channels, *size], weight: [out_channels, in_channels/groups, *kernel]
    -> out: [n, out_channels, *out_size]
    Counts the multiply-accumulates of the definition, and one add for each element
    of out when there is a bias.
    Source: the definition in the documentation of torch.nn.Conv2d; whatever algorithm
    the library picks (Winograd, FFT) counts the same.
    """
    adds = 0 if bias is None else out.numel() * (2 if out.is_complex() else 1)
    return Work(macs=_forward_macs(x, weight, out, transposed), arithmetic=adds)


@formula("mkldnn_convolution")
def mkldnn_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, *_rest: Any, out: Tensor
) -> Work:
    """FLOPs of a plain convolution that was called by oneDNN's own operator.

    Shapes, count and source as for `convolution`.
    """
    return convolution(x, weight, bias, None, None, None, False, out=out)


@formula("convolution_backward")
def convolution_backward(
    grad_out: Tensor,
    x: Tensor,
    weight: Tensor,
    _bias_sizes: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    output_mask: list[bool],
    *,
    out: Any,
) -> Work:
    """FLOPs of the backward of a convolution.

    grad_out: [n, out_channels, *out_size], x and weight as in the forward
    -> gradients of x, weight and bias, each only if its bit in output_mask is set.
    Counts one forward for each of the gradients of x and of weight, since each pairs
    the same elements, and for the bias the sum of grad_out by channel.
    Source: the chain rule on the definition; groups divide all three alike.
    """
    needs_x, needs_weight, needs_bias = output_mask
    macs = _forward_macs(x, weight, grad_out, transposed) * (needs_x + needs_weight)
    channels = grad_out.shape[1]
    sums = (grad_out.numel() - channels) * needs_bias * (2 if grad_out.is_complex() else 1)
    return Work(macs=macs, arithmetic=max(0, sums))
