"""Fused scaled-dot-product attention, forward."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Work, formula

Sizes: TypeAlias = tuple[int, int, int, int]
"""Scores of all heads together, rows of scores, features of a key, features of a value."""


def sizes_of(query: Tensor, key: Tensor, value: Tensor) -> Sizes:
    """query: [..., s, d], key: [..., t, d], value: [..., t, dv], heads by those of the query."""
    rows = query.numel() // query.shape[-1] if query.shape[-1] else 0
    return rows * key.shape[-2], rows, query.shape[-1], value.shape[-1]


def forward(sizes: Sizes, *, biases: int = 0, has_dropout: bool = False) -> Work:
    """The work of softmax(scale * Q K^T + bias) V; see `attention`."""
    scores, rows, depth, value_depth = sizes
    return Work(
        macs=scores * (depth + value_depth),
        arithmetic=(6 + biases + 2 * has_dropout) * scores - 2 * rows if scores else 0,
    )


@formula("_scaled_dot_product_flash_attention_for_cpu")
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    *_args: Any,
    out: Any,
    attn_mask: Tensor | None = None,
    **_: Any,
) -> Work:
    """FLOPs of softmax(scale * Q K^T + mask) V.

    query: [b, h, s, d], key: [b, hk, t, d], value: [b, hk, t, dv] -> out: [b, h, s, dv]
    Counts b*h*s*t*(d + dv) multiply-accumulates, and for each of the b*h*s*t scores
    one multiply by the scale, one add of a mask, a softmax (5, less 2 a row) and two
    multiplies of a dropout.
    Source: the definition. The whole matrix is counted, causal, masked, in a window or
    not, as papers do; with grouped queries by the heads of the query.
    """
    return forward(
        sizes_of(query, key, value), biases=attn_mask is not None, has_dropout=dropout_p > 0
    )


@formula("_scaled_dot_product_flash_attention")
def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of attention without a mask; as for `attention`."""
    return forward(sizes_of(query, key, value), has_dropout=dropout_p > 0)


@formula("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention")
def efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    _compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of attention; as for `attention`."""
    return forward(
        sizes_of(query, key, value), biases=attn_bias is not None, has_dropout=dropout_p > 0
    )


@formula(
    "_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math_for_mps"
)
def overrideable(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None = None,
    dropout_p: float = 0.0,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of attention; as for `attention`."""
    return forward(
        sizes_of(query, key, value), biases=attn_bias is not None, has_dropout=dropout_p > 0
    )


@formula("_cudnn_attention_forward")
def cudnn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    _compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of attention, on sequences of one length or packed.

    query: [b, h, s, d], key: [b, hk, t, d], value: [b, hk, t, dv]; or packed, with
    cum_seq_q and cum_seq_k, [total, h, d] -> out: the shape of query with dv
    Counts as `attention`, packed sequences on the scores of `_flash_attention_forward`.
    Source: the definition.
    """
    sizes = sizes_of(query, key, value)
    if cum_seq_q is not None:
        sizes = packed_sizes_of(query, key, value, max_q, max_k)
    return forward(sizes, biases=attn_bias is not None, has_dropout=dropout_p > 0)


def packed_sizes_of(query: Tensor, key: Tensor, value: Tensor, max_q: int, max_k: int) -> Sizes:
    """query: [total_q, h, d], key: [total_k, hk, d], value: [total_k, hk, dv].

    The lengths of packed sequences are data; their sum and the longest are known. Scores
    are the lesser of total_q * max_k and max_q * total_k for each head: no less than there
    are, and exact where the queries, or the keys, are equally long.
    """
    heads, depth = query.shape[-2:]
    total_q = query.numel() // (heads * depth) if heads * depth else 0
    total_k = key.numel() // (key.shape[-2] * depth) if key.shape[-2] * depth else 0
    scores = heads * min(total_q * max_k, max_q * total_k)
    return scores, heads * total_q, depth, value.shape[-1]


def heads_last(
    query: Tensor, key: Tensor, value: Tensor, is_packed: bool, max_q: int, max_k: int
) -> Sizes:
    """query: [b, s, h, d], key: [b, t, hk, d], value: [b, t, hk, dv], or packed."""
    if is_packed:
        return packed_sizes_of(query, key, value, max_q, max_k)
    return sizes_of(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))


@formula("_flash_attention_forward")
def flash_heads_last(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    _is_causal: bool,
    _return_debug_mask: bool,
    *descales: Tensor | None,
    out: Any,
    alibi_slopes: Tensor | None = None,
    block_table: Tensor | None = None,
    **_: Any,
) -> Work:
    """FLOPs of attention with the heads behind the sequence, of one length or packed.

    query: [b, s, h, d], key: [b, t, hk, d], value: [b, t, hk, dv], or packed with
    cum_seq_q, [total, h, d] -> out: the shape of query with dv
    Counts as `attention`; packed sequences have total_q*max_k or max_q*total_k scores a
    head, whichever is less: exact where the queries, or the keys, are equally long, and
    else no less than there are. With slopes (ALiBi) two more for each score; with scales
    of quantised arguments a multiply for each scale, and one for each element of out.
    Source: the definition.
    """
    if block_table is not None:
        # The keys lie in pages of one pool: how many there are is not in their shape.
        depth = query.shape[-1]
        rows = query.numel() // depth
        sizes = (rows * max_k, rows, depth, value.shape[-1])
    else:
        sizes = heads_last(query, key, value, cum_seq_q is not None, max_q, max_k)
    work = forward(sizes, biases=2 if alibi_slopes is not None else 0, has_dropout=dropout_p > 0)
    scales = [scale.numel() for scale in descales if scale is not None]
    if scales:
        work += Work(arithmetic=sum(scales) + sizes[1] * sizes[3])
    return work


@formula("_flash_attention_forward_no_dropout_inplace")
def flash_into(_destination: Tensor, *args: Any, out: Any, **kwargs: Any) -> Work:
    """FLOPs of attention into a tensor that is given; as for `flash_heads_last`."""
    return flash_heads_last(*args, out=out, **kwargs)


@formula("_efficient_attention_forward")
def efficient_heads_last(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    max_seqlen_q: int | None,
    max_seqlen_k: int | None,
    dropout_p: float,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of attention with the heads behind the sequence; as for `flash_heads_last`."""
    sizes = heads_last(
        query,
        key,
        value,
        cu_seqlens_q is not None,
        max_seqlen_q or query.shape[1],
        max_seqlen_k or key.shape[1],
    )
    return forward(sizes, biases=bias is not None, has_dropout=dropout_p > 0)


@formula("_triton_scaled_dot_attention")
def triton(query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0, *, out: Any) -> Work:
    """FLOPs of softmax(Q K^T) V, whose query is scaled already.

    query: [b, h, s, d], key: [b, h, t, d], value: [b, h, t, dv] -> out: [b, h, s, dv]
    Counts as `attention`, less the multiply by the scale.
    Source: the definition.
    """
    return forward(sizes_of(query, key, value), biases=-1, has_dropout=dropout_p > 0)


@formula("_triton_multi_head_attention")
def triton_multi_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: Tensor,
    *_args: Any,
    out: Any,
) -> Work:
    """FLOPs of attention with the projections before and behind it.

    query, key, value: [b, t, d], weights: [3*d, d] and [d, d], biases: [3*d] and [d]
    -> out: [b, t, d]
    Counts 4*b*t*d*d multiply-accumulates of the projections; an add of a bias for each of
    the 4*b*t*d, and a multiply by the scale for each element of the query; and
    softmax(Q K^T) V of num_head heads as `_triton_scaled_dot_attention`.
    Source: the definition, in the steps of `_native_multi_head_attention`.
    """
    tokens = query.shape[0] * query.shape[1]
    depth = embed_dim // num_head
    rows = num_head * tokens
    heads = forward((rows * key.shape[1], rows, depth, depth), biases=-1)
    projections = Work(
        macs=tokens * (qkv_weight.numel() + embed_dim * embed_dim),
        arithmetic=5 * tokens * embed_dim,
    )
    return heads + projections


@formula("_transform_bias_rescale_qkv")
def bias_and_scale(_qkv: Tensor, _bias: Tensor, _heads: int, *, out: Any) -> int:
    """FLOPs of the step between projection and scores in the fused multi-head attention.

    qkv: [b, t, 3*d], bias: [3*d] -> query, key and value: [b, heads, t, d / heads] each
    Counts one add for each element of the three and one multiply for each of the query.
    Source: the name, and the kernel that it stands for.
    """
    return 4 * int(out[0].numel())
