"""Operators that do no arithmetic: they look, allocate, copy, pick or draw.

Views are free by their schema and are not listed here.
"""

from __future__ import annotations

from typing import Final

from pytest_flopbudget.meters.formulas.registry import declare_free

ALLOCATIONS: Final = (
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "resize",
    "resize_as",
    "set",
)
"""Get memory and touch none of it: no launch, no bytes."""

QUESTIONS: Final = (
    "_fused_sdp_choice",
    "_has_compatible_shallow_copy_type",
    "_has_same_storage_numel",
    "_linalg_check_errors",
    "_local_scalar_dense",
    "_nested_tensor_size",
    "_nested_tensor_storage_offsets",
    "_nested_tensor_strides",
    "dense_dim",
    "is_coalesced",
    "is_pinned",
    "is_same_size",
    "record_stream",
    "sparse_dim",
    "stride",
    "sym_is_contiguous",
    "sym_numel",
    "sym_size",
    "sym_storage_offset",
    "sym_stride",
)
"""Ask about a tensor, or bring one number to Python: no launch."""

FILLS: Final = (
    "arange",
    "eye",
    "fill",
    "full",
    "full_like",
    "linspace",
    "new_full",
    "new_ones",
    "new_zeros",
    "ones",
    "ones_like",
    "scalar_tensor",
    "zero",
    "zeros",
    "zeros_like",
    "_efficientzerotensor",
    "_foreach_zero",
)
"""Write numbers that do not depend on any input."""

RANDOM: Final = (
    "_cudnn_init_dropout_state",
    "_fill_mem_eff_dropout_mask",
    "bernoulli",
    "exponential",
    "geometric",
    "multinomial",
    "normal",
    "normal_functional",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "random",
    "randperm",
    "uniform",
)
"""Draw random numbers."""

COPIES: Final = (
    "_copy_from",
    "_cudnn_rnn_flatten_weight",
    "_foreach_copy",
    "_jagged_to_padded_dense_forward",
    "_nested_from_padded",
    "_nested_from_padded_and_nested_example",
    "_nested_select_backward",
    "_nested_sum_backward",
    "_nested_tensor_from_tensor_list",
    "_pack_padded_sequence",
    "_padded_dense_to_jagged_forward",
    "_to_copy",
    "_unsafe_index",
    "cat",
    "clone",
    "constant_pad_nd",
    "copy",
    "embedding",
    "flip",
    "gather",
    "im2col",
    "index",
    "index_fill",
    "index_select",
    "masked_fill",
    "masked_scatter",
    "masked_select",
    "mkldnn::_reorder_mkldnn_rnn_layer_weight",
    "nonzero",
    "one_hot",
    "pixel_shuffle",
    "pixel_unshuffle",
    "reflection_pad1d",
    "reflection_pad2d",
    "repeat",
    "repeat_interleave",
    "replication_pad1d",
    "replication_pad2d",
    "roll",
    "scatter",
    "select_backward",
    "select_scatter",
    "slice_backward",
    "slice_scatter",
    "split_with_sizes_copy",
    "stack",
    "to_dense",
    "to_mkldnn",
    "to_padded_tensor",
    "tril",
    "tril_indices",
    "triu",
    "triu_indices",
    "unfold_backward",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "where",
)
"""Copy, cast, pick or rearrange elements; a selection is no arithmetic."""

LOGIC: Final = (
    "__and__",
    "__or__",
    "__xor__",
    "all",
    "any",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
)
"""Work on truth values or bits, not on numbers."""

for _names in (ALLOCATIONS, QUESTIONS, FILLS, RANDOM, COPIES, LOGIC):
    declare_free(*_names)
