"""Convolutions of one to three dimensions, plain, grouped, transposed, and their backward.

Each library's operator has its own order of arguments, and the same count.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    weights = weight.numel()
    taps = weights // weight.shape[0] if weights else 0
    return (x if is_transposed else out).numel() * taps * real_factor(out)


def _sums(tensor: Tensor, count: int) -> int:
    """FLOPs of this many adds of the tensor's numbers: a complex add is two real ones."""
    return count * (2 if tensor.is_complex() else 1)


@formula("convolution", "_convolution", "convolution_overrideable")
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
    adds = 0 if bias is None else _sums(out, out.numel())
    return Work(_forward_macs(x, weight, out, transposed), adds)


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Work:
    return convolution(x, weight, bias, None, None, None, False, out=out)


def _transposed(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Work:
    return convolution(x, weight, bias, None, None, None, True, out=out)


@formula(
    "mkldnn_convolution",
    "miopen_convolution",
    "miopen_depthwise_convolution",
    "_mps_convolution",
    "_nnpack_spatial_convolution",
)
def library_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, *_rest: Any, out: Tensor
) -> Work:
    """FLOPs of a plain convolution that was called by a library's own operator.

    Shapes, count and source as for `convolution`.
    """
    return _plain(x, weight, bias, out)


@formula(
    "_conv_depthwise2d",
    "conv_depthwise3d",
    "_slow_conv2d_forward",
    "slow_conv3d_forward",
    "slow_conv_dilated2d",
    "slow_conv_dilated3d",
)
def native_convolution(
    x: Tensor, weight: Tensor, _kernel: Any, bias: Tensor | None = None, *_rest: Any, out: Tensor
) -> Work:
    """FLOPs of a plain convolution that was called by one of torch's own kernels.

    Shapes, count and source as for `convolution`.
    """
    return _plain(x, weight, bias, out)


@formula("slow_conv_transpose2d", "slow_conv_transpose3d")
def native_transposed(
    x: Tensor, weight: Tensor, _kernel: Any, bias: Tensor | None = None, *_rest: Any, out: Tensor
) -> Work:
    """FLOPs of a transposed convolution that was called by one of torch's own kernels.

    Shapes, count and source as for `convolution`.
    """
    return _transposed(x, weight, bias, out)


@formula("miopen_convolution_transpose")
def miopen_transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, *_rest: Any, out: Tensor
) -> Work:
    """FLOPs of a transposed convolution with its bias that was called by MIOpen's operator.

    Shapes, count and source as for `convolution`.
    """
    return _transposed(x, weight, bias, out)


@formula("cudnn_convolution")
def cudnn_convolution(x: Tensor, weight: Tensor, *_rest: Any, out: Tensor) -> Work:
    """FLOPs of a plain convolution without bias that was called by cuDNN's operator.

    Shapes, count and source as for `convolution`.
    """
    return _plain(x, weight, None, out)


@formula("cudnn_convolution_transpose", "_mps_convolution_transpose")
def cudnn_transposed(x: Tensor, weight: Tensor, *_rest: Any, out: Tensor) -> Work:
    """FLOPs of a transposed convolution without bias that was called by a library's operator.

    Shapes, count and source as for `convolution`.
    """
    return _transposed(x, weight, None, out)


@formula("cudnn_convolution_relu", "miopen_convolution_relu")
def convolution_relu(
    x: Tensor, weight: Tensor, bias: Tensor | None, *_rest: Any, out: Tensor
) -> Work:
    """FLOPs of a convolution with its ReLU.

    x: [n, in_channels, *size], weight: [out_channels, in_channels/groups, *kernel]
    -> out: [n, out_channels, *out_size]
    Counts the convolution, and one comparison for each element of out.
    Source: the definitions of both.
    """
    return _plain(x, weight, bias, out) + Work(arithmetic=out.numel())


@formula("cudnn_convolution_add_relu", "miopen_convolution_add_relu")
def convolution_add_relu(
    x: Tensor,
    weight: Tensor,
    _z: Tensor,
    alpha: Any,
    bias: Tensor | None,
    *_rest: Any,
    out: Tensor,
) -> Work:
    """FLOPs of a convolution, to which a scaled tensor is added before its ReLU.

    x: [n, in_channels, *size], weight: [out_channels, in_channels/groups, *kernel],
    z: the shape of out -> out: [n, out_channels, *out_size]
    Counts the convolution, and for each element of out one add, one comparison, and a
    multiply when alpha is given and not 1.
    Source: `relu(conv(x) + alpha * z + bias)`, as torch calls cuDNN.
    """
    scale = alpha is not None and alpha != 1
    return _plain(x, weight, bias, out) + Work(arithmetic=(2 + scale) * out.numel())


@formula("conv_tbc")
def conv_tbc(x: Tensor, weight: Tensor, _bias: Tensor, _pad: int = 0, *, out: Tensor) -> Work:
    """FLOPs of a convolution along time, of [time, batch, channels].

    x: [t, n, in_channels], weight: [kernel, in_channels, out_channels]
    -> out: [out_t, n, out_channels]
    Counts kernel*in_channels multiply-accumulates and the add of the bias for each
    element of out. Its backward counts as the products that torch makes it of, which
    leave the padding out.
    Source: the definition in the documentation of torch.conv_tbc.
    """
    macs = out.numel() * weight.shape[0] * weight.shape[1] * real_factor(out)
    return Work(macs=macs, arithmetic=_sums(out, out.numel()))


def _backward(
    grad_out: Tensor, x: Tensor, weight: Tensor, is_transposed: bool, mask: Sequence[bool]
) -> Work:
    """One forward for each gradient of x and of weight, and the sum for the bias."""
    needs_x, needs_weight, needs_bias = (*mask, False)[:3]
    macs = _forward_macs(x, weight, grad_out, is_transposed) * (needs_x + needs_weight)
    channels = grad_out.shape[1 - weight.dim()]  # also where there is no batch
    sums = max(0, grad_out.numel() - channels) * needs_bias
    return Work(macs=macs, arithmetic=_sums(grad_out, sums))


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
    return _backward(grad_out, x, weight, transposed, output_mask)


@formula("convolution_backward_overrideable")
def overrideable_backward(
    grad_out: Tensor,
    x: Tensor,
    weight: Tensor,
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
    """FLOPs of the backward of a convolution on a device of another vendor.

    Shapes, count and source as for `convolution_backward`.
    """
    return _backward(grad_out, x, weight, transposed, output_mask)


@formula("_slow_conv2d_backward")
def native_backward(
    grad_out: Tensor,
    x: Tensor,
    weight: Tensor,
    _kernel: Any,
    _stride: Any,
    _padding: Any,
    output_mask: Sequence[bool] = (True, True, True),
    *,
    out: Any,
) -> Work:
    """FLOPs of the backward of a convolution in torch's own kernel.

    Shapes, count and source as for `convolution_backward`.
    """
    return _backward(grad_out, x, weight, False, output_mask)


@formula("mps_convolution_backward")
def mps_backward(x: Tensor, grad_out: Tensor, weight: Tensor, *rest: Any, out: Any) -> Work:
    """FLOPs of the backward of a convolution on Apple's devices.

    Shapes, count and source as for `convolution_backward`.
    """
    return _backward(grad_out, x, weight, False, rest[-1])


@formula("mps_convolution_transpose_backward")
def mps_transposed_backward(
    x: Tensor, grad_out: Tensor, weight: Tensor, *rest: Any, out: Any
) -> Work:
    """FLOPs of the backward of a transposed convolution on Apple's devices.

    Shapes, count and source as for `convolution_backward`.
    """
    return _backward(grad_out, x, weight, True, rest[-1])
