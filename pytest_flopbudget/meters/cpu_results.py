"""What kernels of the CPU return, where torch's kernels for fake tensors return something else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

_ATEN: Final = torch.ops.aten
_GROUPED: Final = _ATEN._grouped_mm.default
_NO_REDUCTION: Final = 0
_MEAN: Final = 1
_SUM_OF_BAG: Final = 0
_MAX_OF_BAG: Final = 2
_BAG_DEFAULTS: Final = (False, _SUM_OF_BAG, False, None, False, -1)
"""Of what follows table, indices and offsets in the schema."""
_PICKED_DIRECTLY: Final = frozenset({torch.float32, torch.float16, torch.bfloat16})
"""Of a table of these dtypes bags are summed without noting which row is whose."""


def as_on_cpu(func: Any, args: Any, call: Callable[[], Any]) -> Any:
    """The result of an operator on fake tensors, as its kernel for the CPU gives it.

    call: runs torch's kernel for fake tensors, which gives most of them.
    """
    if func is _GROUPED and args[0].dtype is not torch.bfloat16 and _is_on_cpu(args[0]):
        return _grouped_product(*args)
    correct = _CORRECTIONS.get(func)
    return call() if correct is None or not _is_on_cpu(args[0]) else correct(args, call())


def _is_on_cpu(tensor: Tensor) -> bool:
    """Whether it stands for one there; a fake one says otherwise while it is worked on."""
    return getattr(tensor, "fake_device", tensor.device).type == "cpu"


def _grouped_product(
    one: Tensor,
    other: Tensor,
    ends: Tensor | None = None,
    _bias: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Products of groups of matrices, for which torch's own kernel wants bfloat16.

    Where neither operand has a dimension for the groups, the result has one.
    """
    groups: tuple[int, ...] = ()
    if one.dim() == other.dim():
        groups = (one.shape[0],) if ends is None else (ends.numel(),)
    sizes = (*groups, one.shape[-2], other.shape[-1])
    return one.new_empty(sizes, dtype=dtype or one.dtype)


def _norm_gradients(args: Any, result: Any) -> Any:
    """Those that the backward's mask asks for, with the channels last where the input's are."""
    pairs = zip(result, args[9], strict=True)
    wanted = [made if is_wanted else None for made, is_wanted in pairs]
    return _gradient_as_input(args, wanted)


def _with_steps_of_view(args: Any, result: Tensor) -> Tensor:
    """With the strides that the CPU gives dimensions of size one, which later kernels look at."""
    if 1 not in result.shape:
        return result
    given = args[0]
    with _disable_current_modes():
        plain = torch.empty_strided(given.shape, given.stride(), device="meta")
        strides = plain.view(args[1]).stride()
    if strides == result.stride():
        return result
    return result.as_strided(result.shape, strides, result.storage_offset())


def _in_element_buffer(reduction_at: int, args: Any, result: Tensor) -> Tensor:
    """With the buffer of every element's loss, which the mean or the sum is written into."""
    reduction = args[reduction_at] if len(args) > reduction_at else _MEAN
    if reduction != _NO_REDUCTION:
        elements = prod(torch.broadcast_shapes(args[0].shape, args[1].shape))
        hold(result, elements * result.element_size())
    return result


def _in_buffer_like_input(args: Any, result: Tensor) -> Tensor:
    """With a buffer of the input's size, which is made first and changed to the result's."""
    hold(result, args[0].numel() * result.element_size())
    return result


def _in_format_of_input(args: Any, result: Tensor) -> Tensor:
    """With the channels last, where the input's are."""
    return _in_format_of(args[0], result)


def _in_format_of(given: Tensor, made: Tensor) -> Tensor:
    last, is_image = torch.channels_last, made.dim() == len("nchw")
    is_last = is_image and given.is_contiguous(memory_format=last)
    if made.is_contiguous(memory_format=last if is_last else torch.contiguous_format):
        return made
    fresh = made.new_empty(made.shape)
    return fresh.to(memory_format=last) if is_last else fresh


def _gradient_as_input(args: Any, result: Any) -> Any:
    """With the input's gradient in the input's dtype and format, whatever parameters have."""
    gradient, *others = result
    if gradient is not None:
        if gradient.dtype != args[1].dtype:
            gradient = gradient.new_empty(gradient.shape, dtype=args[1].dtype)
        gradient = _in_format_of(args[1], gradient)
    return (gradient, *others)


def _gradient_in_one_piece(_args: Any, result: Any) -> Any:
    """With the input's gradient in one piece, whatever the gradient of the result is."""
    gradient, *others = result
    if gradient is not None and not gradient.is_contiguous():
        gradient = gradient.new_empty(gradient.shape)
    return (gradient, *others)


def _statistics_as_parameters(parameters: slice, args: Any, result: Any) -> Any:
    """With means and deviations in float32, where a parameter has another dtype than the input."""
    given = [other for other in args[parameters] if isinstance(other, Tensor)]
    if all(other.dtype == args[0].dtype for other in given):
        return result
    normed, *statistics = result
    wide = (made.new_empty(made.shape, dtype=torch.float32) for made in statistics)
    return (normed, *wide)


def _bags(args: Any, result: Any, *, is_forward_only: bool) -> Any:
    """What bags of embeddings return beside their sums: each row's bag, sizes, maxima."""
    given: tuple[Any, ...] = (*args, *_BAG_DEFAULTS[len(args) - 3 :])
    table, indices, offsets, _, mode, _, weights, has_end, padding = given
    sums = result[0]
    is_direct = (
        mode == _SUM_OF_BAG
        and table.dtype in _PICKED_DIRECTLY
        and table.stride(1) == 1
        and padding < 0
        and (weights is None or weights.stride(0) == 1)
    )
    whose = offsets.new_empty(0 if is_direct else indices.numel())
    if not is_direct:
        hold(whose, (indices.numel() + 1) * whose.element_size())
    keeps_end = is_forward_only and mode == _SUM_OF_BAG
    sizes = offsets.new_empty(offsets.numel() - (has_end and not keeps_end))
    hold(sizes, offsets.numel() * sizes.element_size())
    most = offsets.new_empty(sums.shape if mode == _MAX_OF_BAG else sizes.shape)
    return sums, whose, sizes, most


def hold(made: Tensor, nbytes: int) -> None:
    """Have the new tensor's storage be at least of that size."""
    storage = made.untyped_storage()
    if storage.nbytes() < nbytes:
        storage.resize_(nbytes)


_CORRECTIONS: Final[dict[Any, Callable[[Any, Any], Any]]] = {
    _ATEN.native_batch_norm_backward.default: _norm_gradients,
    _ATEN.view.default: _with_steps_of_view,
    _ATEN._unsafe_view.default: _with_steps_of_view,
    _ATEN.mse_loss.default: partial(_in_element_buffer, 2),
    _ATEN.smooth_l1_loss.default: partial(_in_element_buffer, 2),
    _ATEN.soft_margin_loss.default: partial(_in_element_buffer, 2),
    _ATEN.binary_cross_entropy.default: partial(_in_element_buffer, 3),
    _ATEN.col2im.default: _in_buffer_like_input,
    _ATEN.im2col.default: _in_buffer_like_input,
    _ATEN.max_unpool2d.default: _in_format_of_input,
    _ATEN.native_layer_norm.default: partial(_statistics_as_parameters, slice(2, 4)),
    _ATEN.native_layer_norm_backward.default: _gradient_in_one_piece,
    _ATEN.native_group_norm.default: partial(_statistics_as_parameters, slice(1, 3)),
    _ATEN.native_group_norm_backward.default: _gradient_as_input,
    _ATEN.native_batch_norm.default: partial(_statistics_as_parameters, slice(1, 5)),
    _ATEN._native_batch_norm_legit.default: partial(_statistics_as_parameters, slice(1, 5)),
    _ATEN._native_batch_norm_legit.no_stats: partial(_statistics_as_parameters, slice(1, 3)),
    _ATEN._embedding_bag.default: partial(_bags, is_forward_only=False),
    _ATEN._embedding_bag_forward_only.default: partial(_bags, is_forward_only=True),
}
