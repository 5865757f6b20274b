"""Fused scaled-dot-product attention, forward and backward."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Work, formula


@formula(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *args: Any,
    out: Any,
    attn_mask: Tensor | None = None,
    **_: Any,
) -> Work:
    """FLOPs of softmax(scale * Q K^T + mask) V.

    query: [b, h, s, d], key: [b, hk, t, d], value: [b, hk, t, dv] -> out: [b, h, s, dv]
    Counts b*h*s*t*(d + dv) multiply-accumulates, and for each of the b*h*s*t scores
    one multiply by the scale, one add of a mask and a softmax (5, less 2 a row).
    Source: the definition. The whole matrix is counted, causal or masked or not, as
    papers do; with grouped queries by the heads of the query.
    """
    batch, heads, rows, depth = query.shape
    columns, value_depth = key.shape[-2], value.shape[-1]
    scores = batch * heads * rows * columns
    bias = (
        attn_mask
        if attn_mask is not None
        else next((arg for arg in args if isinstance(arg, Tensor)), None)
    )
    return Work(
        macs=scores * (depth + value_depth),
        arithmetic=(6 + (bias is not None)) * scores - 2 * batch * heads * rows,
    )


@formula(
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    "_scaled_dot_product_flash_attention_backward",
)
def attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
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
    multiply and scale (3). For each row dv multiplies and dv - 1 adds of grad * out.
    Source: Dao et al. 2022, FlashAttention, algorithm 4.
    """
    batch, heads, rows, depth = query.shape
    columns, value_depth = key.shape[-2], value.shape[-1]
    scores = batch * heads * rows * columns
    return Work(
        macs=scores * (3 * depth + 2 * value_depth),
        arithmetic=(6 + (attn_mask is not None)) * scores
        + batch * heads * rows * (2 * value_depth - 1),
    )


@formula("_transform_bias_rescale_qkv")
def bias_and_scale(qkv: Tensor, bias: Tensor, heads: int, *, out: Any) -> int:
    """FLOPs of the step between projection and scores in the fused multi-head attention.

    qkv: [b, t, 3*d], bias: [3*d] -> query, key and value: [b, heads, t, d / heads] each
    Counts one add for each element of qkv and one multiply for each of the query.
    Source: the name, and the kernel that it stands for.
    """
    return qkv.numel() + qkv.numel() // 3
