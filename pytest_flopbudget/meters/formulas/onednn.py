"""Convolutions and linear layers that oneDNN or MKL fuse with what comes after them.

`mkldnn_prepacked::conv2d_run` has no formula: its pack does not tell its activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.pointwise import PER_ELEMENT
from pytest_flopbudget.meters.formulas.registry import Work, formula

_ACTIVATIONS: Final = {
    "none": 0,
    "relu": PER_ELEMENT["relu"],
    "sigmoid": PER_ELEMENT["sigmoid"],
    "tanh": PER_ELEMENT["tanh"],
    "swish": PER_ELEMENT["silu"],
    "hardswish": PER_ELEMENT["hardswish"],
    "hardsigmoid": PER_ELEMENT["hardsigmoid"],
    "hardtanh": PER_ELEMENT["hardtanh"],
    "leaky_relu": PER_ELEMENT["leaky_relu"],
}
"""FLOPs for each element of what oneDNN computes in place after a layer, by its name."""

_GELU: Final = {"none": 5, "tanh": 9}
"""The same for a GELU, by its approximation; see `_gelu` of `pointwise`."""

_BINARY: Final = frozenset({"add", "sub", "mul", "div"})


def _activation(name: str | None, algorithm: str | None) -> int | None:
    """FLOPs for each element of an activation, or None for one that is not known here."""
    if name == "gelu":
        return _GELU[algorithm or "none"]
    return _ACTIVATIONS.get(name or "none")


def _layer(macs: int, bias: Tensor | None, out: Tensor, *after: int | None) -> Work | None:
    """A layer with its bias and what comes after it, each of the latter by element."""
    costs = [cost for cost in after if cost is not None]
    if len(costs) < len(after):
        return None
    return Work(macs=macs, arithmetic=((bias is not None) + sum(costs)) * out.numel())


def _binary(name: str, alpha: Any) -> int | None:
    """One operation for each element, and a multiply when alpha is given and not 1."""
    return 1 + (alpha is not None and alpha != 1) if name in _BINARY else None


def _convolution(
    weight: Tensor, bias: Tensor | None, out: Tensor, *after: int | None
) -> Work | None:
    # A reordered weight may have split its groups off, so it is read by its elements.
    macs = out.numel() * (weight.numel() // max(1, out.shape[1]))
    return _layer(macs, bias, out, *after)


@formula("mkldnn::_convolution_pointwise")
def pointwise_convolution(x: Tensor, *args: Any, out: Tensor) -> Work | None:
    """FLOPs of a convolution with an activation, or an element-wise operator, fused to it.

    x: [n, in_channels, *size], weight: [out_channels, in_channels/groups, *kernel]
    -> out: [n, out_channels, *out_size]
    Counts the multiply-accumulates of the convolution, one add for each element of out
    when there is a bias, and what the fused operators cost by themselves.
    Source: the definitions of the parts. Assumes the activations that torch's compiler fuses.
    """
    if isinstance(args[2], Sequence):  # weight, bias, padding, stride, dilation, groups, ...
        weight, bias, _padding, _stride, _dilation, _groups, name, _scalars, algorithm = args
        return _convolution(weight, bias, out, _activation(name, algorithm))
    _other, weight, bias, _padding, _stride, _dilation, _groups, binary, alpha, *unary = args
    after = (_binary(binary, alpha), _activation(unary[0], unary[2]))
    return _convolution(weight, bias, out, *after)


@formula("mkldnn::_convolution_pointwise_")
def pointwise_convolution_in_place(
    other: Tensor, x: Tensor, *args: Any, out: Tensor
) -> Work | None:
    """FLOPs of a convolution that is added to another tensor in place.

    Shapes, count and source as for `pointwise_convolution`.
    """
    return pointwise_convolution(x, other, *args, out=out)


@formula("mkldnn::_convolution_transpose_pointwise")
def pointwise_transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, *args: Any, out: Tensor
) -> Work | None:
    """FLOPs of a transposed convolution with an activation fused to it.

    x: [n, in_channels, *size], weight: [in_channels, out_channels/groups, *kernel]
    -> out: [n, out_channels, *out_size]
    Counts the multiply-accumulates of the convolution, one add for each element of out
    when there is a bias, and what the activation costs by itself.
    Source: the definitions of the parts. Assumes the activations that torch's compiler fuses.
    """
    name, _scalars, algorithm = args[-3:]
    macs = x.numel() * (weight.numel() // max(1, x.shape[1]))
    return _layer(macs, bias, out, _activation(name, algorithm))


@formula("mkldnn::_linear_pointwise")
def pointwise_linear(x: Tensor, *args: Any, out: Tensor) -> Work | None:
    """FLOPs of a linear layer with an activation, or an element-wise operator, fused to it.

    x: [..., k], weight: [m, k] -> out: [..., m]
    Counts k multiply-accumulates for each element of out, one add when there is a bias,
    and what the fused operator costs by itself.
    Source: the definitions of the parts. Assumes the activations that torch's compiler fuses.
    """
    macs = out.numel() * x.shape[-1]
    if isinstance(args[2], str):  # weight, bias, activation, its scalars, its algorithm
        _weight, bias, name, _scalars, algorithm = args
        return _layer(macs, bias, out, _activation(name, algorithm))
    _other, _weight, bias, binary = args
    return _layer(macs, bias, out, _binary(binary, None))


@formula("mkl::_mkl_linear")
def mkl_linear(
    x: Tensor, _packed: Tensor, _weight: Tensor, bias: Tensor | None, _batch: int, *, out: Tensor
) -> Work | None:
    """FLOPs of a linear layer whose weight MKL has packed.

    x: [..., k], weight: [m, k] -> out: [..., m]
    Counts k multiply-accumulates for each element of out, and one add when there is a bias.
    Source: the definition in the documentation of torch.nn.Linear.
    """
    return _layer(out.numel() * x.shape[-1], bias, out)
