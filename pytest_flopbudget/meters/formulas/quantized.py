"""Products of quantised numbers: linear layers, convolutions and matrix products.

Their integer multiply-accumulates are integer operations, two each. Corrections for zero
points, which depend on the library, are not counted.
"""

from __future__ import annotations

import math
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.quantizing import DEQUANTIZE, QUANTIZE, booked, dynamic
from pytest_flopbudget.meters.formulas.registry import Formula, Work, formula
from pytest_flopbudget.meters.packed import convolution_in, has_bias


def _linear_macs(x: Tensor, out: Tensor) -> int:
    """Multiply-accumulates of a linear layer: the features of x for each element of out."""
    return out.numel() * x.shape[-1]


def _linear(activation: int) -> Formula:
    def rule(x: Tensor, packed: Any, *_args: Any, out: Tensor) -> Work:
        """Integer operations of a quantised linear layer.

        x: [..., k], quantised weight: [n, k], packed -> out: [..., n], quantised
        Counts k multiply-accumulates, and for each element of out an add with a bias, 5 to
        rescale the sum (multiply, round, add, two comparisons), and a fused activation:
        1 (ReLU, hyperbolic tangent) or 2 (leaky ReLU).
        Source: the definition of torch.ao.nn.quantized.Linear.
        """
        per_result = has_bias(packed) + QUANTIZE + activation
        return booked(out, int_ops=2 * _linear_macs(x, out), arithmetic=out.numel() * per_result)

    return rule


formula("quantized::linear", "_quantized::linear")(_linear(0))
formula("quantized::linear_relu", "quantized::linear_tanh")(_linear(1))
formula("quantized::linear_leaky_relu")(_linear(2))


def _dynamic_linear(activation: int) -> Formula:
    def rule(x: Tensor, packed: Any, *_args: Any, out: Tensor) -> Work:
        """Operations of a linear layer that quantises its input as it comes.

        x: [..., k], quantised weight: [n, k], packed -> out: [..., n]
        Counts k integer multiply-accumulates for each element of out; in floating point
        7e + 7 to quantise the e elements of x, and for each element of out a multiply by
        the scales, an add with a bias, and a comparison with a ReLU.
        Source: the definition of torch.ao.nn.quantized.dynamic.Linear.
        """
        per_result = 1 + has_bias(packed) + activation
        return booked(
            out,
            int_ops=2 * _linear_macs(x, out),
            arithmetic=dynamic(x.numel()) + out.numel() * per_result,
        )

    return rule


formula("quantized::linear_dynamic", "_quantized::linear_dynamic")(_dynamic_linear(0))
formula("quantized::linear_relu_dynamic")(_dynamic_linear(1))


def _linear_on_scales(activation: int) -> Formula:
    def rule(x: Tensor, _scale: float, _zero_point: int, packed: Any, *, out: Tensor) -> Work:
        """Operations of a linear layer with a floating-point input and a scale for it.

        x: [..., k], quantised weight: [n, k], packed -> out: [..., n]
        Counts k integer multiply-accumulates for each element of out; in floating point 5
        for each element of x, and for each of out a multiply by the scales, an add with
        a bias, and a comparison with a ReLU.
        Source: the definition; as with a dynamic one, the range being known.
        """
        per_result = 1 + has_bias(packed) + activation
        return booked(
            out,
            int_ops=2 * _linear_macs(x, out),
            arithmetic=QUANTIZE * x.numel() + out.numel() * per_result,
        )

    return rule


formula("quantized::linear_with_input_q_dq_qweight_dq_output_fp32")(_linear_on_scales(0))
formula("quantized::linear_with_input_q_dq_qweight_dq_relu_output_fp32")(_linear_on_scales(1))


@formula("fbgemm_linear_int8_weight", "fbgemm_linear_int8_weight_fp32_activation")
def linear_legacy(x: Tensor, *_args: Any, out: Tensor) -> Work:
    """Operations of a linear layer that quantises its input, in its oldest form.

    x: [..., k], weight: [n, k], packed -> out: [..., n]
    Counts k integer multiply-accumulates for each element of out; in floating point
    7e + 7 to quantise the e elements of x, and for each of out a multiply and an add.
    Source: the definition. It is seen under inference_mode alone.
    """
    return booked(
        out,
        int_ops=2 * _linear_macs(x, out),
        arithmetic=dynamic(x.numel()) + 2 * out.numel(),
    )


@formula("fbgemm_linear_quantize_weight")
def quantize_weight_legacy(weight: Tensor, *, out: Any) -> Work:
    """Operations of quantising a weight and adding up its rows.

    weight: [n, k] -> out: [n, k], the sums [n], and a scale and a zero point
    Counts 7nk + 7 in floating point, and n*(k - 1) integer adds.
    Source: the definition. It is seen under inference_mode alone.
    """
    rows = weight.shape[0]
    return Work(arithmetic=dynamic(weight.numel()), int_ops=weight.numel() - rows)


@formula("_quantized::_wrapped_linear_prepack", "_wrapped_linear_prepack")
def wrapped_linear_prepack(weight: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of quantising a weight and packing it.

    weight: any shape -> out: the package
    Counts 5 for each element of the weight.
    Source: the definition, as for torch.quantize_per_tensor.
    """
    return QUANTIZE * weight.numel()


@formula("_quantized::_wrapped_quantized_linear_prepacked", "_wrapped_quantized_linear_prepacked")
def wrapped_linear(x: Tensor, *_args: Any, out: Tensor) -> Work:
    """Operations of a quantised linear layer between two floating-point tensors.

    x: [..., k], weight: [n, k], packed -> out: [..., n]
    Counts k integer multiply-accumulates for each element of out; in floating point 5 for
    each element of x, and 8 for each of out: an add of the bias, 5 to rescale, 2 back.
    Source: the definition: quantise, quantised linear layer, dequantise.
    """
    return booked(
        out,
        int_ops=2 * _linear_macs(x, out),
        arithmetic=QUANTIZE * x.numel() + out.numel() * (1 + QUANTIZE + DEQUANTIZE),
    )


@formula("_quantized::wrapped_quantized_linear")
def wrapped_linear_unpacked(
    x: Tensor, _scale: Tensor, _zero_point: Tensor, weight: Tensor, *_args: Any, out: Tensor
) -> Work:
    """Operations of a quantised linear layer between floating-point tensors.

    x: [..., k], weight: [n, k] -> out: [..., n]
    Counts as `_quantized::_wrapped_quantized_linear_prepacked`, and 5 for each element of
    the weight.
    Source: the definition: the weight is quantised at every call.
    """
    return wrapped_linear(x, out=out) + Work(arithmetic=QUANTIZE * weight.numel())


def _half_linear(activation: int) -> Formula:
    def rule(x: Tensor, packed: Any, *_args: Any, out: Tensor) -> Work:
        """FLOPs of a linear layer with a packed weight of half precision.

        x: [..., k], weight: [n, k], packed -> out: [..., n]
        Counts k multiply-accumulates for each element of out, an add with a bias, and a
        comparison with a ReLU: all in floating point.
        Source: the definition of torch.nn.Linear.
        """
        return Work(
            macs=_linear_macs(x, out), arithmetic=out.numel() * (has_bias(packed) + activation)
        )

    return rule


formula("quantized::linear_dynamic_fp16")(_half_linear(0))
formula("quantized::linear_relu_dynamic_fp16")(_half_linear(1))


@formula(
    "quantized::linear_dynamic_fp16_unpacked_weight",
    "onednn::linear_dynamic_fp16",
    "fbgemm_linear_fp16_weight",
    "fbgemm_linear_fp16_weight_fp32_activation",
    "_quantized::wrapped_fbgemm_linear_fp16_weight",
)
def half_linear(
    x: Tensor, _weight: Tensor, bias: Tensor | None = None, *_args: Any, out: Tensor
) -> Work:
    """FLOPs of a linear layer with a weight of half precision.

    x: [..., k], weight: [n, k] in any layout, bias: [n] or None -> out: [..., n]
    Counts k multiply-accumulates for each element of out, and an add with a bias.
    Source: the definition of torch.nn.Linear.
    """
    return Work(macs=_linear_macs(x, out), arithmetic=out.numel() * (bias is not None))


@formula("onednn::linear_relu_dynamic_fp16")
def half_linear_relu(x: Tensor, weight: Tensor, bias: Tensor | None, *, out: Tensor) -> Work:
    """FLOPs of a linear layer with a weight of half precision, and a ReLU.

    x: [..., k], weight: [n, k] in any layout, bias: [n] or None -> out: [..., n]
    Counts as `onednn::linear_dynamic_fp16`, and a comparison for each element of out.
    Source: the definition of torch.nn.Linear.
    """
    return half_linear(x, weight, bias, out=out) + Work(arithmetic=out.numel())


def _convolution_work(x: Tensor, packed: Any, out: Tensor, per_result: int) -> Work:
    """The products of a convolution, its bias, and so much for each element of out."""
    weight, bias, is_transposed = convolution_in(packed)
    # As in floating point: by the elements of the result, or of the input if transposed.
    macs = (x if is_transposed else out).numel() * math.prod(weight.shape[1:])
    per_result += bias is not None
    return booked(out, int_ops=2 * macs, arithmetic=out.numel() * per_result)


def _convolution(activation: int) -> Formula:
    def rule(x: Tensor, packed: Any, *_args: Any, out: Tensor) -> Work:
        """Integer operations of a quantised convolution, plain or transposed.

        x: [n, in_channels, *size], quantised weight: [out_channels, in_channels/groups,
        *kernel], packed -> out: [n, out_channels, *out_size], quantised
        Counts the multiply-accumulates of the definition, and for each element of out an
        add with a bias, 5 to rescale the sum, and a comparison with a ReLU.
        Source: the definition of torch.ao.nn.quantized.Conv2d.
        """
        return _convolution_work(x, packed, out, QUANTIZE + activation)

    return rule


def _convolution_and_sum(activation: int) -> Formula:
    def rule(x: Tensor, added: Tensor, packed: Any, *_args: Any, out: Tensor) -> Work:
        """Integer operations of a quantised convolution whose result is added to a tensor.

        x, weight and out as for a convolution without it; added: the shape of out
        Counts as a quantised convolution, and for each element of out 2 to dequantise what
        is added, an add, and a comparison with a ReLU.
        Source: the definition.
        """
        return _convolution_work(x, packed, out, QUANTIZE + DEQUANTIZE + 1 + activation)

    return rule


def _in_both(*names: str) -> list[str]:
    """The names in the namespace and in the one that mobile builds use."""
    return [f"{space}::{name}" for name in names for space in ("quantized", "_quantized")]


_PLAIN: Final = ("conv1d", "conv2d", "conv3d")
_TRANSPOSED: Final = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
formula(*_in_both(*_PLAIN, *_TRANSPOSED))(_convolution(0))
formula(*_in_both(*(f"{name}_relu" for name in _PLAIN)))(_convolution(1))
formula("quantized::conv2d_add")(_convolution_and_sum(0))
formula("quantized::conv2d_add_relu")(_convolution_and_sum(1))


@formula(*(f"quantized::{name}_dynamic" for name in _PLAIN + _TRANSPOSED))
def dynamic_convolution(x: Tensor, packed: Any, *_args: Any, out: Tensor) -> Work:
    """Operations of a convolution that quantises its input as it comes.

    x: [n, in_channels, *size], quantised weight: [out_channels, in_channels/groups,
    *kernel], packed -> out: [n, out_channels, *out_size]
    Counts the multiply-accumulates of the definition as integer ones; in floating point
    7e + 7 to quantise the e elements of x, and for each element of out a multiply by the
    scales and an add with a bias.
    Source: the definition of torch.ao.nn.quantized.dynamic.Conv2d.
    """
    return _convolution_work(x, packed, out, 1) + Work(arithmetic=dynamic(x.numel()))


@formula("quantized::matmul")
def matmul(a: Tensor, b: Tensor, *_args: Any, out: Tensor) -> Work:
    """Integer operations of a product of quantised matrices.

    a: [..., m, k], b: [..., k, n] -> out: [..., m, n]
    Counts k multiply-accumulates, and 5 to rescale the sum, for each element of out.
    Source: the definition of the product.
    """
    return booked(out, int_ops=2 * out.numel() * a.shape[-1], arithmetic=QUANTIZE * out.numel())


@formula("_weight_int8pack_mm")
def weight_int8(x: Tensor, weight: Tensor, _scales: Tensor, *, out: Tensor) -> Work:
    """FLOPs of a linear layer whose weight alone is quantised, to 8 bits.

    x: [m, k], weight: [n, k] in int8, scales: [n] -> out: [m, n]
    Counts m*n*k multiply-accumulates in floating point, as which the weight is read, and
    m*n multiplies by the scales.
    Source: the definition: a product with weight * scale, the scale taken out of the sum.
    """
    return Work(macs=_linear_macs(x, out), arithmetic=out.numel())


@formula(
    "_weight_int4pack_mm",
    "_weight_int4pack_mm_for_cpu",
    "_weight_int4pack_mm_with_scales_and_zeros",
    "quantized::int4mm_packed_weight_cpu",
)
def weight_int4(x: Tensor, *_args: Any, out: Tensor) -> Work:
    """FLOPs of a linear layer whose weight alone is quantised, to 4 bits by groups.

    x: [m, k], weight: [n, k], packed; scales and zero points: [k / group, n] -> out: [m, n]
    Counts m*n*k multiply-accumulates in floating point, and n*k times 3 to dequantise
    the weight once: (q - 8) * scale + zero.
    Source: the definition, in the documentation of torchao.
    """
    features = out.shape[-1] * x.shape[-1]
    return Work(macs=_linear_macs(x, out), arithmetic=3 * features)


@formula("_dyn_quant_matmul_4bit")
def dynamic_int4(
    x: Tensor, _packed: Tensor, block_size: int, in_features: int, out_features: int, *, out: Tensor
) -> Work:
    """Operations of a linear layer with a 4-bit weight that quantises its input by rows.

    x: [m, k], weight: [n, k], packed in blocks of b -> out: [m, n]
    Counts m*n*k integer multiply-accumulates; in floating point 7k + 7 to quantise each
    row, and for each element of out a multiply by the scales of each of k/b blocks and the
    adds of the blocks: 2k/b - 1.
    Source: the definition. Whether a bias is in the package cannot be told: none is counted.
    """
    blocks = in_features // block_size
    return booked(
        out,
        int_ops=2 * _linear_macs(x, out),
        arithmetic=dynamic(x.numel(), x.numel() // in_features) + out.numel() * (2 * blocks - 1),
    )
