"""Operators that do no arithmetic: they look, allocate, copy, pick or draw.

Views are free by their schema and are not listed here.
"""

from __future__ import annotations

from typing import Final

from pytest_flopbudget.meters.formulas.registry import declare_free

ALLOCATIONS: Final = (
    "_empty_affine_quantized",
    "_empty_per_channel_affine_quantized",
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_quantized",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "resize",
    "resize_as",
    "set",
)
"""Get memory and touch none of it: no launch, no bytes."""

QUESTIONS: Final = (
    "_has_compatible_shallow_copy_type",
    "_has_same_storage_numel",
    "_linalg_check_errors",
    "_local_scalar_dense",
    "_nested_tensor_size",
    "dense_dim",
    "is_coalesced",
    "is_pinned",
    "is_same_size",
    "q_per_channel_axis",
    "q_per_channel_scales",
    "q_per_channel_zero_points",
    "q_scale",
    "q_zero_point",
    "qscheme",
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
    "_foreach_copy",
    "_pack_padded_sequence",
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

PACKING: Final = (
    "_convert_weight_to_int4pack",
    "_convert_weight_to_int4pack_for_cpu",
    "_dyn_quant_pack_4bit_weight",
    "_make_per_channel_quantized_tensor",
    "_make_per_tensor_quantized_tensor",
    "_quantized::conv2d_prepack",
    "_quantized::conv3d_prepack",
    "_quantized::conv_transpose1d_prepack",
    "_quantized::conv_transpose2d_prepack",
    "_quantized::conv_transpose3d_prepack",
    "_quantized::linear_prepack",
    "_quantized::linear_prepack_fp16",
    "_quantized::linear_prepack_fp16_legacy",
    "_quantized::linear_prepack_legacy",
    "_quantized::wrapped_fbgemm_pack_gemm_matrix_fp16",
    "fbgemm_pack_gemm_matrix_fp16",
    "fbgemm_pack_quantized_matrix",
    "int_repr",
    "onednn::linear_prepack_fp16",
    "onednn::qconv_prepack",
    "onednn::qlinear_prepack",
    "quantization::_Bfloat16QuantizedToFloat",
    "quantization::_FloatToBfloat16Quantized",
    "quantized::conv1d_prepack",
    "quantized::conv2d_prepack",
    "quantized::conv3d_prepack",
    "quantized::conv_prepack",
    "quantized::conv_transpose1d_prepack",
    "quantized::conv_transpose2d_prepack",
    "quantized::conv_transpose3d_prepack",
    "quantized::dropout",
    "quantized::embedding_bag_prepack",
    "quantized::linear_prepack",
    "quantized::linear_prepack_fp16",
    "quantized::linear_prepack_fp16_legacy",
    "quantized::linear_prepack_legacy",
    "quantized::linear_unpack",
    "quantized::linear_unpack_fp16",
    "quantized::make_quantized_cell_params",
    "quantized::make_quantized_cell_params_dynamic",
    "quantized_decomposed::convert_element_type",
)
"""Rearrange weights for a library, or say what integers stand for; dropout only evaluates."""

declare_free(*PACKING)
