"""Fused scaled-dot-product attention, backward."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.attention import (
    Sizes,
    heads_last,
    packed_sizes_of,
    sizes_of,
)
from pytest_flopbudget.meters.formulas.registry import Work, formula

_PACKED: Final = 3
"""Dimensions of a query that holds sequences of any lengths, one behind the other."""


def backward(sizes: Sizes, *, biases: int = 0, has_dropout: bool = False) -> Work:
    """The work of its backward, which computes the scores again; see `attention_backward`."""
    scores, rows, depth, value_depth = sizes
    return Work(
        macs=scores * (3 * depth + 2 * value_depth),
        arithmetic=(6 + biases + 4 * has_dropout) * scores + rows * (2 * value_depth - 1),
    )


@formula("_scaled_dot_product_flash_attention_for_cpu_backward")
def attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _out: Tensor,
    _logsumexp: Tensor,
    dropout_p: float,
    *_args: Any,
    out: Any,
    attn_mask: Tensor | None = None,
    **_: Any,
) -> Work:
    """FLOPs of the backward of fused attention, which computes the scores again.

    grad: [b, h, s, dv], query: [b, h, s, d], key: [b, hk, t, d], value: [b, hk, t, dv]
    -> gradients of query, key and value
    Counts five products: Q K^T again, and those for V, the weights, Q and K:
    b*h*s*t*(3*d + 2*dv) multiply-accumulates. For each score: scale, add of a mask,
    subtraction of the row's logarithm and exponential (3 or 4), then subtraction,
    multiply and scale (3), and four multiplies of a dropout, two for the weights and two
    for their gradient. For each row dv multiplies and dv - 1 adds of grad * out.
    Source: Dao et al. 2022, FlashAttention, algorithm 4. The gradient of a mask is that
    of the scores before their scale: it takes nothing more.
    """
    return backward(
        sizes_of(query, key, value), biases=attn_mask is not None, has_dropout=dropout_p > 0
    )


@formula("_scaled_dot_product_flash_attention_backward")
def flash_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _out: Tensor,
    _logsumexp: Tensor,
    _cum_seq_q: Tensor | None,
    _cum_seq_k: Tensor | None,
    _max_q: int,
    _max_k: int,
    dropout_p: float,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of the backward of attention without a mask; as for `attention_backward`."""
    return backward(sizes_of(query, key, value), has_dropout=dropout_p > 0)


@formula("_scaled_dot_product_efficient_attention_backward")
def efficient_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    _out: Tensor,
    _logsumexp: Tensor,
    _philox_seed: Tensor,
    _philox_offset: Tensor,
    dropout_p: float,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of the backward of attention; as for `attention_backward`."""
    return backward(
        sizes_of(query, key, value), biases=attn_bias is not None, has_dropout=dropout_p > 0
    )


@formula("_scaled_dot_product_fused_attention_overrideable_backward")
def overrideable_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    _grad_input_mask: list[bool],
    _out: Tensor,
    _logsumexp: Tensor,
    _cum_seq_q: Tensor | None,
    _cum_seq_k: Tensor | None,
    _max_q: int,
    _max_k: int,
    dropout_p: float,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of the backward of attention; as for `attention_backward`."""
    return backward(
        sizes_of(query, key, value), biases=attn_bias is not None, has_dropout=dropout_p > 0
    )


@formula("_cudnn_attention_backward", "_scaled_dot_product_cudnn_attention_backward")
def cudnn_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _out: Tensor,
    _logsumexp: Tensor,
    _philox_seed: Tensor,
    _philox_offset: Tensor,
    attn_bias: Tensor | None,
    cum_seq_q: Tensor | None,
    _cum_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of the backward of attention, packed or not; as for `attention_backward`."""
    sizes = sizes_of(query, key, value)
    if cum_seq_q is not None and query.dim() == _PACKED:
        sizes = packed_sizes_of(query, key, value, max_q, max_k)
    return backward(sizes, biases=attn_bias is not None, has_dropout=dropout_p > 0)


@formula("_flash_attention_backward")
def flash_heads_last_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _out: Tensor,
    _logsumexp: Tensor,
    cum_seq_q: Tensor | None,
    _cum_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of the backward of attention with the heads behind the sequence.

    grad: the shape of query with dv, query: [b, s, h, d], key: [b, t, hk, d], value:
    [b, t, hk, dv], or packed, [total, h, d] -> gradients of query, key and value
    Counts as `attention_backward`, on the scores that the forward counts.
    Source: Dao et al. 2022, FlashAttention, algorithm 4.
    """
    is_packed = cum_seq_q is not None and query.dim() == _PACKED
    sizes = heads_last(query, key, value, is_packed, max_q, max_k)
    return backward(sizes, has_dropout=dropout_p > 0)


@formula("_efficient_attention_backward")
def efficient_heads_last_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    _out: Tensor,
    cu_seqlens_q: Tensor | None,
    _cu_seqlens_k: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    _logsumexp: Tensor,
    dropout_p: float,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work:
    """FLOPs of the backward of attention; as for `flash_heads_last_backward`."""
    sizes = heads_last(query, key, value, cu_seqlens_q is not None, max_seqlen_q, max_seqlen_k)
    return backward(sizes, biases=bias is not None, has_dropout=dropout_p > 0)
