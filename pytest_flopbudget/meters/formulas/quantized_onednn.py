"""oneDNN's own operators on integers, as compiled and exported programs call them.

They take integers with scales beside them, and give integers or floating-point numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas import batchnorm
from pytest_flopbudget.meters.formulas.quantizing import DEQUANTIZE, QUANTIZE, booked
from pytest_flopbudget.meters.formulas.registry import Formula, Work, formula

_ACTIVATIONS: Final[Mapping[str, int]] = {
    "none": 0,
    "relu": 1,
    "sigmoid": 1,
    "tanh": 1,
    "hardtanh": 2,
    "leaky_relu": 2,
    "swish": 2,
    "hardsigmoid": 4,
    "hardswish": 5,
    "gelu": 5,
}
"""What a fused activation costs for each element, as its own operator does."""
_GELU_BY_TANH: Final = 9
_LINEAR_BINARY: Final = 18
"""How many arguments a linear layer has that is joined with another tensor."""
_CONVOLUTION_BINARY: Final = 22
"""The same of a convolution."""


def _activation(name: str | None, algorithm: str | None) -> int | None:
    """What the activation of this name costs, or None for one that is not known."""
    if name == "gelu" and algorithm == "tanh":
        return _GELU_BY_TANH
    return _ACTIVATIONS.get(name or "none")


def _joined(other: Tensor | None, alpha: Any) -> int:
    """The add of another tensor, for each element: dequantised first, if it is integers."""
    if other is None:
        return 0
    return 1 + (0 if other.is_floating_point() else DEQUANTIZE) + (alpha not in (1, None))


def _finished(out: Tensor, macs: int, bias: Tensor | None, more: int | None) -> Work | None:
    """The products with what is done to each of their sums; None if that is not known."""
    if more is None:
        return None
    # Integers are rescaled, rounded and clamped; floating-point numbers are scaled alone.
    per_result = (bias is not None) + (1 if out.is_floating_point() else QUANTIZE) + more
    return booked(out, int_ops=2 * macs, arithmetic=out.numel() * per_result)


@formula("onednn::qlinear_pointwise")
def linear(x: Tensor, *args: Any, out: Tensor) -> Work | None:
    """Operations of a linear layer on integers, with what is fused to it.

    x: [..., k], weight: [n, k], packed; another tensor: the shape of out, or None
    -> out: [..., n], integers or floating-point
    Counts k integer multiply-accumulates for each element of out, and an add with a bias; to
    rescale the sum 5 for integers, else a multiply; the activation as its own operator; an
    add of the other tensor, which takes 2 to dequantise if it is integers.
    Source: the definition. It is all integer work if out is, else only the products are.
    """
    macs = out.numel() * x.shape[-1]
    if len(args) + 1 < _LINEAR_BINARY:
        *_scales, bias, _scale, _zero_point, _dtype, name, _scalars, algorithm = args
        return _finished(out, macs, bias, _activation(name, algorithm))
    _x_scale, _x_zero, _weight, _w_scale, _w_zero, other, bias, *_out, alpha, name, _, kind = args
    more = _activation(name, kind)
    return _finished(out, macs, bias, None if more is None else more + _joined(other, alpha))


@formula(
    "onednn::qconv_pointwise",
    "onednn::qconv1d_pointwise",
    "onednn::qconv2d_pointwise",
    "onednn::qconv3d_pointwise",
)
def convolution(x: Tensor, *args: Any, out: Tensor) -> Work | None:
    """Operations of a convolution on integers, with what is fused to it.

    x: [n, in_channels, *size], weight: [out_channels, in_channels/groups, *kernel], packed;
    another tensor: the shape of out, or None -> out: [n, out_channels, *out_size]
    Counts the integer multiply-accumulates of the definition, and all else as
    `onednn::qlinear_pointwise`.
    Source: the definition. It is all integer work if out is, else only the products are.
    """
    weight = args[2]
    macs = out.numel() * (math.prod(weight.shape) // out.shape[1])
    if len(args) + 1 < _CONVOLUTION_BINARY:
        return _finished(out, macs, args[5], _activation(args[13], args[15]))
    added, bias, alpha, name, algorithm = args[5], args[6], args[17], args[18], args[20]
    more = _activation(name, algorithm)
    return _finished(out, macs, bias, None if more is None else more + _joined(added, alpha))


def _elementwise(activation: int) -> Formula:
    def rule(_a: Tensor, *_args: Any, out: Tensor) -> Work:
        """Operations of adding or multiplying integers that stand for other numbers.

        a, b: the shape of out -> out: integers or floating-point
        Counts, for each element, 2 to dequantise each of both, the add or the multiply, a
        comparison with a ReLU, and 5 to quantise the result if it is integers.
        Source: the definition: dequantise, compute, quantise.
        """
        back = 0 if out.is_floating_point() else QUANTIZE
        return booked(out, arithmetic=(2 * DEQUANTIZE + 1 + activation + back) * out.numel())

    return rule


formula("onednn::qadd", "onednn::qmul")(_elementwise(0))
formula("onednn::qadd_relu")(_elementwise(1))


@formula("onednn::qbatch_norm2d")
def batch_norm(
    x: Tensor,
    _scale: float,
    _zero_point: int,
    weight: Tensor,
    bias: Tensor,
    *_args: Any,
    out: Tensor,
) -> Work:
    """Operations of batch normalisation of integers that stand for other numbers.

    x: [n, c, h, w], weight, bias and statistics: [c] -> out: the shape of x
    Counts as batch normalisation in evaluation, 2 for each element to dequantise it, and 5
    to quantise the result if it is integers.
    Source: the definition: dequantise, normalise, quantise.
    """
    back = 0 if out.is_floating_point() else QUANTIZE
    flops = batchnorm.batch_norm_no_training(x, weight, bias, out=out)
    return booked(out, arithmetic=flops + (DEQUANTIZE + back) * out.numel())
