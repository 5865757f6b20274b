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
    "resize_as_sparse",
    "set",
    "sparse_compressed_tensor",
    "sparse_coo_tensor",
    "sparse_resize",
    "sparse_resize_and_clear",
    "_sparse_compressed_tensor_with_dims",
    "_sparse_coo_tensor_with_dims",
    "_sparse_coo_tensor_with_dims_and_tensors",
)
"""Get memory, or join parts to a sparse tensor, and touch none of it: no launch, no bytes."""

QUESTIONS: Final = (
    "_dimI",
    "_dimV",
    "_has_compatible_shallow_copy_type",
    "_has_same_storage_numel",
    "_linalg_check_errors",
    "_local_scalar_dense",
    "_nested_tensor_size",
    "_nnz",
    "_validate_compressed_sparse_indices",
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
    "fft_fftfreq",
    "fft_rfftfreq",
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
    "lu_unpack",
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

SPARSE_PARTS: Final = (
    "_coalesced",
    "_convert_indices_from_coo_to_csr",
    "_convert_indices_from_csr_to_coo",
    "_cslt_compress",
    "_indices_copy",
    "_sparse_broadcast_to_copy",
    "_sparse_semi_structured_apply",
    "_sparse_semi_structured_apply_dense",
    "_sparse_sum_backward",
    "_spdiags",
    "_to_sparse_semi_structured",
    "_values_copy",
    "ccol_indices_copy",
    "col_indices_copy",
    "copy_sparse_to_sparse",
    "crow_indices_copy",
    "indices_copy",
    "row_indices_copy",
    "values_copy",
)
"""Copy or rearrange the parts of a sparse tensor, and do no arithmetic."""

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

for _names in (ALLOCATIONS, QUESTIONS, FILLS, RANDOM, COPIES, SPARSE_PARTS, LOGIC):
    declare_free(*_names)
