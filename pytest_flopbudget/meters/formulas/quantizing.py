"""To quantised numbers and back, and the training that pretends to do so."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Work, formula

QUANTIZE: Final = 5
"""clamp(round(x / scale) + zero_point, low, high): so too an accumulator that is rescaled."""
DEQUANTIZE: Final = 2
"""(q - zero_point) * scale."""
RANGE_TO_SCALE: Final = 9
"""From the lowest and the highest number to a scale and a zero point.

Both compared with 0 (2), their difference by the number of steps (2), the zero point
round(low - lowest / scale) (3), clamped (2).
"""
_IN_RANGE: Final = 2
"""The mask of what was not clamped: two comparisons."""


def dynamic(elements: int, calls: int = 1) -> int:
    """FLOPs of quantising tensors of so many elements in all, each by its own range.

    Minimum and maximum take elements - 1 each, then come the scale and the quantising.
    """
    if not elements:
        return 0
    return 2 * (elements - calls) + RANGE_TO_SCALE * calls + QUANTIZE * elements


def booked(out: Tensor, *, int_ops: int = 0, arithmetic: int = 0) -> Work:
    """Integer products, and the arithmetic around them.

    That is floating-point work where the result is floating-point, and integer work
    where it is quantised, whatever the dtypes of scales and biases.
    """
    if out.is_floating_point():
        return Work(int_ops=int_ops, arithmetic=arithmetic)
    return Work(int_ops=int_ops + arithmetic)


def _numel(tensors: Any) -> int:
    return sum(t.numel() for t in ([tensors] if isinstance(tensors, Tensor) else tensors))


@formula(
    "quantize_per_tensor",
    "quantize_per_channel",
    "quantized_decomposed::quantize_per_tensor",
    "quantized_decomposed::quantize_per_channel",
    "quantized_decomposed::quantize_per_channel_group",
    "quantized_decomposed::quantize_per_token",
)
def quantize(x: Any, *_args: Any, out: Any, **_: Any) -> int:
    """FLOPs of quantising with a scale and a zero point that are given.

    x: any shape, or several -> out: the same shapes
    Counts 5 for each element: a division, a rounding, an add and two comparisons.
    Source: the definition in the documentation of torch.quantize_per_tensor.
    """
    return QUANTIZE * _numel(x)


@formula("quantize_per_tensor_dynamic")
def quantize_dynamic(x: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of quantising by the range of the data.

    x: [n] in any shape -> out: the same shape
    Counts n - 1 comparisons for the minimum, as many for the maximum, 9 for the scale and
    the zero point, and 5 for each element: 7n + 7.
    Source: the definition; the scale is ATen's ChooseQuantizationParams.
    """
    return dynamic(x.numel())


@formula("dequantize")
def dequantize(x: Any, *_args: Any, out: Any, **_: Any) -> int:
    """FLOPs of going back from quantised numbers.

    x: any shape, or several -> out: the same shapes
    Counts a subtraction and a multiply for each element that is quantised; of others it
    is a cast, and nothing.
    Source: the definition in the documentation of torch.Tensor.dequantize.
    """
    tensors = [x] if isinstance(x, Tensor) else x
    return DEQUANTIZE * sum(tensor.numel() for tensor in tensors if tensor.is_quantized)


@formula(
    "quantized_decomposed::dequantize_per_tensor",
    "quantized_decomposed::dequantize_per_channel",
    "quantized_decomposed::dequantize_per_channel_group",
    "quantized_decomposed::dequantize_per_token",
)
def dequantize_integers(
    x: Tensor, _scales: Any, zero_points: Any = None, *_args: Any, out: Tensor, **_: Any
) -> int:
    """FLOPs of going back from integers that an exported program keeps as such.

    x: any shape -> out: the same shape
    Counts a subtraction, unless there are no zero points, and a multiply for each element.
    Source: torch's own implementation in torch.ao.quantization.fx.
    """
    return (DEQUANTIZE if zero_points is not None else 1) * x.numel()


@formula("quantized_decomposed::choose_qparams", "quantized_decomposed::choose_qparams_symmetric")
def choose_scale(x: Tensor, *_args: Any, out: Any) -> int:
    """FLOPs of finding a scale and a zero point from the range of the data.

    x: [n] in any shape -> out: two numbers
    Counts n - 1 comparisons for the minimum, as many for the maximum, and 9.
    Source: the definition; the scale is ATen's ChooseQuantizationParams.
    """
    return 2 * (x.numel() - 1) + RANGE_TO_SCALE


@formula(
    "quantized_decomposed::choose_qparams_per_token",
    "quantized_decomposed::choose_qparams_per_token_asymmetric",
)
def choose_scale_per_token(x: Tensor, *_args: Any, out: Any) -> int:
    """FLOPs of finding a scale and a zero point for each row.

    x: [m, n] -> out: [m, 1] twice
    Counts, for each row, n - 1 comparisons for the minimum, as many for the maximum, and 9.
    Source: the definition; the scale is ATen's ChooseQuantizationParams.
    """
    rows = int(out[0].numel())
    return 2 * (x.numel() - rows) + RANGE_TO_SCALE * rows


@formula("choose_qparams_optimized")
def choose_best_range(
    x: Tensor, numel: int, n_bins: int, ratio: float, bit_width: int, *, out: Any
) -> int:
    """FLOPs of the greedy search for the range that loses least.

    x: [n] -> out: two numbers
    Counts the minimum and the maximum (2n - 2), and for 1 + 2*n_bins*ratio ranges the
    loss: quantised without a zero point (5n), back (2n), the difference, its square and
    the sum (3n).
    Source: the algorithm of ATen. Rounding may end its loop one step earlier or later.
    """
    steps = n_bins - int(n_bins * (1.0 - ratio))
    return 2 * (numel - 1) + 10 * numel * (1 + 2 * steps)


@formula("_saturate_weight_to_fp16")
def saturate(weight: Tensor, *, out: Tensor) -> int:
    """FLOPs of clamping to what half precision can hold.

    weight: any shape -> out: the same shape
    Counts two comparisons for each element.
    Source: the definition.
    """
    return 2 * weight.numel()


@formula(
    "fake_quantize_per_tensor_affine_cachemask",
    "fake_quantize_per_channel_affine_cachemask",
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
)
def fake_quantize(x: Tensor, *_args: Any, out: Any) -> int:
    """FLOPs of quantising and going back, with the mask for the backward.

    x: any shape -> out: the same shape, and the mask
    Counts 9 for each element: 5 to quantise, 2 back, and two comparisons for the mask.
    Source: the definition in the documentation of torch.fake_quantize_per_tensor_affine.
    Counted as if switched on, where a tensor can switch it off.
    """
    return (QUANTIZE + DEQUANTIZE + _IN_RANGE) * x.numel()


@formula(
    "_fake_quantize_learnable_per_tensor_affine", "_fake_quantize_learnable_per_channel_affine"
)
def fake_quantize_learnable(
    x: Tensor, _scale: Tensor, zero_point: Tensor, *_args: Any, out: Tensor
) -> int:
    """FLOPs of quantising and going back with a scale that is learnt.

    x: [n] in any shape, scale and zero point: [k] -> out: the shape of x
    Counts 7 for each element, and a rounding and two comparisons for each zero point.
    Source: the definition, as for torch.fake_quantize_per_tensor_affine.
    """
    return (QUANTIZE + DEQUANTIZE) * x.numel() + 3 * zero_point.numel()


@formula(
    "_fake_quantize_learnable_per_tensor_affine_backward",
    "_fake_quantize_learnable_per_channel_affine_backward",
)
def fake_quantize_learnable_backward(
    _grad: Tensor, x: Tensor, scale: Tensor, *_args: Any, out: Any
) -> int:
    """FLOPs of the gradients of the input, the scale and the zero point.

    grad, x: [n] in any shape, scale and zero point: [k] -> out: the three gradients
    Counts, for each element, the level again (3), whether it is in range (2), the input's
    gradient (1); ((q - zero_point) * scale - x) / scale * grad * factor (6) for the scale;
    grad * -scale * factor (3) for the zero point; and n - k adds for each of those two.
    Source: the derivative, with the rounding passed over, as ATen computes it.
    """
    return 15 * x.numel() + 2 * (x.numel() - scale.numel())


@formula("_fused_moving_avg_obs_fq_helper", "_fused_moving_avg_obs_fq_helper_functional")
def observe_and_fake_quantize(
    x: Tensor,
    _observer_on: Tensor,
    _fake_quant_on: Tensor,
    running_min: Tensor,
    _running_max: Tensor,
    _scale: Tensor,
    _zero_point: Tensor,
    _averaging_const: float,
    _quant_min: int,
    _quant_max: int,
    ch_axis: int,
    per_row_fake_quant: bool = False,
    _symmetric_quant: bool = False,
    *,
    out: Any,
) -> int:
    """FLOPs of following the range of the data and pretending to quantise by it.

    x: [n] in any shape, with k channels, or k = 1 -> out: the shape of x, and the mask
    Counts the minimum and the maximum (2n - 2k), both moving averages (6k), the scales (9k)
    and 9 for each element to quantise it, go back, and make the mask.
    Source: ATen's algorithm. Counted as if both were on: tensors can switch them off.
    """
    channels = x.shape[ch_axis] if per_row_fake_quant else 1
    observed = 2 * (x.numel() - channels) + (6 + RANGE_TO_SCALE) * channels
    return observed + (QUANTIZE + DEQUANTIZE + _IN_RANGE) * x.numel()
