"""Everything else on quantised tensors: sums, activations, normalisation and look-ups.

Most of it is defined on what the numbers stand for: it goes there (2 for each number that is
read), does its arithmetic, and comes back (5 for each result). All of that is booked as
integer operations, since quantised numbers come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas import batchnorm, normalization
from pytest_flopbudget.meters.formulas.quantizing import DEQUANTIZE, QUANTIZE, booked
from pytest_flopbudget.meters.formulas.registry import Formula, Work, formula


def _binary(activation: int) -> Formula:
    def rule(a: Any, b: Any, *_args: Any, out: Tensor) -> Work:
        """Integer operations of adding or multiplying quantised tensors.

        a, b: broadcast to the shape of out; one of them may be a number
        Counts, for each element of out, 2 for each of a and b that is quantised, the add or
        the multiply, 5 to quantise the result, and a comparison with a ReLU.
        Source: the definition: dequantise, compute, quantise.
        """
        quantised = sum(isinstance(value, Tensor) and value.is_quantized for value in (a, b))
        per_element = DEQUANTIZE * quantised + 1 + activation + QUANTIZE
        return booked(out, arithmetic=per_element * out.numel())

    return rule


def _register_binary() -> None:
    plain, with_relu = _binary(0), _binary(1)
    for name in ("add", "mul"):
        for form in (name, f"{name}_scalar"):
            formula(f"quantized::{form}", f"quantized::{form}_out")(plain)
            formula(f"quantized::{form}_relu", f"quantized::{form}_relu_out")(with_relu)
    formula("_quantized::add")(plain)


_register_binary()


def _unary(count: Callable[..., int]) -> Formula:
    """A formula from what one element costs between dequantising and quantising."""

    def rule(x: Tensor, *args: Any, out: Tensor, **keywords: Any) -> Work:
        per_element = DEQUANTIZE + count(*args, **keywords) + QUANTIZE
        return booked(out, arithmetic=per_element * out.numel())

    return rule


def _sigmoid(*_args: Any) -> int:
    """A sigmoid: 1, and 7 to dequantise and quantise."""
    return 1


def _hardswish(*_args: Any) -> int:
    """`x * clamp(x + 3, 0, 6) / 6`: 5, and 7 to dequantise and quantise."""
    return 5


def _leaky_relu(*_args: Any) -> int:
    """`x > 0 ? x : slope * x`: 2, and 7 to dequantise and quantise."""
    return 2


def _elu(
    _scale: float, _zero_point: int, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1
) -> int:
    """`x > 0 ? scale * x : scale * alpha * (exp(input_scale * x) - 1)`, and 7.

    A comparison, an exponential, a subtraction, and a multiply for each factor that is
    not 1; 7 to dequantise and quantise.
    """
    return 3 + sum(bool(factor != 1) for factor in (alpha, scale, input_scale))


def _celu(_scale: float, _zero_point: int, alpha: Any = 1) -> int:
    """`x > 0 ? x : alpha * (exp(x / alpha) - 1)`: 3, or 5 unless alpha is 1; and 7."""
    return 3 if alpha == 1 else 5


formula("quantized::sigmoid")(_unary(_sigmoid))
formula("quantized::hardswish")(_unary(_hardswish))
formula("quantized::leaky_relu", "quantized::prelu")(_unary(_leaky_relu))
formula("quantized::elu")(_unary(_elu))
formula("quantized::celu")(_unary(_celu))


@formula("quantized::clamp")
def clamp(x: Tensor, low: Any = None, high: Any = None, *, out: Tensor) -> Work:
    """Integer operations of clamping quantised numbers, whose scale stays as it is.

    x: any shape -> out: the same shape
    Counts one comparison for each bound that is given.
    Source: the definition.
    """
    return booked(out, arithmetic=((low is not None) + (high is not None)) * x.numel())


@formula("quantized::relu6")
def relu6(x: Tensor, *_args: Any, out: Tensor) -> Work:
    """Integer operations of clamping quantised numbers to what stands for 0 and 6.

    x: any shape -> out: the same shape
    Counts two comparisons for each element.
    Source: the definition.
    """
    return booked(out, arithmetic=2 * x.numel())


@formula("quantized::threshold")
def threshold(x: Tensor, *_args: Any, out: Tensor) -> Work:
    """Integer operations of replacing quantised numbers that are too low.

    x: any shape -> out: the same shape
    Counts one comparison for each element.
    Source: the definition.
    """
    return booked(out, arithmetic=x.numel())


def _concatenation(activation: int) -> Formula:
    def rule(_tensors: list[Tensor], *_args: Any, out: Tensor, **_: Any) -> Work:
        """Integer operations of joining quantised tensors, each with its own scale.

        tensors: shapes that fit -> out: all of them
        Counts, for each element, 2 to dequantise and 5 to quantise it by the common scale,
        and a comparison with a ReLU.
        Source: the definition: dequantise, join, quantise.
        """
        return booked(out, arithmetic=(DEQUANTIZE + activation + QUANTIZE) * out.numel())

    return rule


formula("quantized::cat", "quantized::cat_out")(_concatenation(0))
formula("quantized::cat_relu", "quantized::cat_relu_out")(_concatenation(1))


@formula("quantized::softmax")
def softmax(x: Tensor, dim: int, *_args: Any, out: Tensor) -> Work:
    """Integer operations of a softmax of quantised numbers.

    x: [..., n, ...] -> out: the same shape
    Counts 5n - 2 for each row, as a softmax does, and 7 for each element to dequantise and
    quantise it.
    Source: the definition: dequantise, softmax, quantise.
    """
    rows = x.numel() // x.shape[dim] if x.numel() else 0
    return booked(out, arithmetic=(5 + DEQUANTIZE + QUANTIZE) * x.numel() - 2 * rows)


def _around(out: Tensor, flops: int, activation: int = 0) -> Work:
    """The arithmetic of a norm, with what dequantises its input and quantises its result."""
    per_element = DEQUANTIZE + activation + QUANTIZE
    return booked(out, arithmetic=flops + per_element * out.numel())


def _batch_norm(activation: int) -> Formula:
    def rule(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, *_args: Any, out: Tensor
    ) -> Work:
        """Integer operations of batch normalisation of quantised numbers.

        x: [n, c, *size], weight, bias and statistics: [c] or None -> out: the shape of x
        Counts as batch normalisation in evaluation, 7 for each element to dequantise and
        quantise it, and a comparison with a ReLU.
        Source: the definition: dequantise, normalise, quantise.
        """
        flops = batchnorm.batch_norm_no_training(x, weight, bias, out=out)
        return _around(out, flops, activation)

    return rule


_BATCH_NORMS = ("batch_norm", "batch_norm1d", "batch_norm2d", "batch_norm3d")
formula("quantized_batch_norm", *(f"quantized::{name}" for name in _BATCH_NORMS))(_batch_norm(0))
formula(*(f"quantized::{name}_relu" for name in _BATCH_NORMS))(_batch_norm(1))


@formula("quantized::layer_norm")
def layer_norm(
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *_args: Any,
    out: Tensor,
) -> Work:
    """Integer operations of layer normalisation of quantised numbers.

    x: [m, n] with n the normalised elements, weight and bias: [n] or None -> out: [m, n]
    Counts as layer normalisation, and 7 for each element to dequantise and quantise it.
    Source: the definition: dequantise, normalise, quantise.
    """
    return _around(out, normalization.layer_norm(x, normalized_shape, weight, bias, eps, out=out))


@formula("quantized::group_norm")
def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *_args: Any,
    out: Tensor,
) -> Work:
    """Integer operations of group normalisation of quantised numbers.

    x: [n, c, *size], weight and bias: [c] or None -> out: the shape of x
    Counts as group normalisation, and 7 for each element to dequantise and quantise it.
    Source: the definition: dequantise, normalise, quantise.
    """
    batch, channels = x.shape[:2]
    flops = normalization.group_norm(x, weight, bias, batch, channels, 0, groups, eps, out=out)
    return _around(out, flops)


@formula("quantized::instance_norm")
def instance_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, *args: Any, out: Tensor
) -> Work:
    """Integer operations of instance normalisation of quantised numbers.

    x: [n, c, *size], weight and bias: [c] or None -> out: the shape of x
    Counts as group normalisation with a group for each channel, and 7 for each element to
    dequantise and quantise it.
    Source: the definition: dequantise, normalise, quantise.
    """
    return group_norm(x, x.shape[1], weight, bias, eps, *args, out=out)


@formula("quantized::embedding_byte", "quantized::embedding_4bit")
def embedding(_packed: Any, _indices: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of looking rows up in a quantised table.

    table: [rows, d], packed with a scale and an offset for each row -> out: [..., d]
    Counts a multiply and an add for each element of out.
    Source: the definition: q * scale + offset.
    """
    return 2 * out.numel()


@formula(
    "quantized::embedding_bag_byte",
    "quantized::embedding_bag_4bit",
    "quantized::embedding_bag_byte_rowwise_offsets",
    "quantized::embedding_bag_4bit_rowwise_offsets",
    "quantized::embedding_bag_2bit_rowwise_offsets",
)
def embedding_bag(
    _table: Any,
    indices: Tensor,
    _offsets: Tensor | None = None,
    _scale_grad: bool = False,
    mode: int = 0,
    _pruned: bool = False,
    per_sample_weights: Tensor | None = None,
    *_args: Any,
    out: Tensor,
) -> int:
    """FLOPs of adding up rows of a quantised table.

    table: [rows, d], packed with a scale and an offset for each row; indices: n in all
    -> out: [bags, d]
    Counts a multiply and an add for each of the n*d elements to dequantise them, (n - bags)*d
    adds, n*d multiplies by the weights of the samples, and bags*d divisions for a mean.
    Source: the definition of torch.nn.EmbeddingBag. The sizes of bags are data: each is
    taken to have an entry, and no row to be pruned.
    """
    bags, width = out.shape
    entries = indices.numel()
    per_entry = 2 + (per_sample_weights is not None)
    return width * (per_entry * entries + max(0, entries - bags) + (bags if mode == 1 else 0))


def _pack_rows(weight: Tensor, per_element: int, per_row: int) -> int:
    rows = weight.numel() // weight.shape[-1] if weight.numel() else 0
    return per_element * weight.numel() + per_row * rows


@formula("quantized::embedding_bag_byte_prepack")
def pack_bytes(weight: Tensor, *, out: Tensor) -> int:
    """FLOPs of quantising a table by the range of each row.

    weight: [rows, d] -> out: [rows, packed]
    Counts, for each row, 2d - 2 comparisons for minimum and maximum, a subtraction and two
    divisions for the scale and its inverse, and for each element a subtraction, a multiply and
    a rounding: 5d + 1.
    Source: FBGEMM's algorithm, as ATen writes it.
    """
    return _pack_rows(weight, 5, 1)


@formula("quantized::embedding_bag_byte_prepack_with_rowwise_min_max")
def pack_bytes_in_range(weight: Tensor, _ranges: Tensor, *, out: Tensor) -> int:
    """FLOPs of quantising a table whose rows have known ranges.

    weight: [rows, d], ranges: [rows, 2] -> out: [rows, packed]
    Counts, for each row, 3 for the scale and its inverse and 3 for each element.
    Source: FBGEMM's algorithm, as ATen writes it.
    """
    return _pack_rows(weight, 3, 3)


@formula(
    "quantized::embedding_bag_byte_unpack",
    "quantized::embedding_bag_4bit_unpack",
    "quantized::embedding_bag_2bit_unpack",
)
def unpack_rows(_table: Tensor, *, out: Tensor) -> int:
    """FLOPs of going back from a table that is quantised by rows.

    table: [rows, packed] -> out: [rows, d]
    Counts a multiply and an add for each element of out.
    Source: the definition: q * scale + offset.
    """
    return 2 * out.numel()


@formula("quantized::embedding_bag_4bit_prepack", "quantized::embedding_bag_2bit_prepack")
def pack_bits(
    weight: Tensor, optimized_qparams: bool = False, *_args: Any, out: Tensor
) -> int | None:
    """FLOPs of quantising a table to a few bits by the range of each row.

    weight: [rows, d] -> out: [rows, packed]
    Counts, for each row, 5d + 1 as for bytes, and two comparisons more for each element,
    which is clamped: 7d + 1. The search for the best range is not counted.
    Source: FBGEMM's algorithm, as ATen writes it.
    """
    return None if optimized_qparams else _pack_rows(weight, 7, 1)


@formula(
    "quantized::embedding_bag_4bit_prepack_with_rowwise_min_max",
    "quantized::embedding_bag_2bit_prepack_with_rowwise_min_max",
)
def pack_bits_in_range(
    weight: Tensor, _ranges: Tensor, optimized_qparams: bool = False, *_args: Any, out: Tensor
) -> int | None:
    """FLOPs of quantising a table to a few bits, whose rows have known ranges.

    weight: [rows, d], ranges: [rows, 2] -> out: [rows, packed]
    Counts, for each row, 3 for the scale and its inverse and 5 for each element. The
    search for the best range is not counted.
    Source: FBGEMM's algorithm, as ATen writes it.
    """
    return None if optimized_qparams else _pack_rows(weight, 5, 3)
