"""Strided nested tensors: the work of their parts, which differ in size.

The sizes of the parts are kept beside the data, so counts depend on shapes here too.
"""

from __future__ import annotations

import math
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas import (
    attention,
    attention_backward,
    pointwise,
)
from pytest_flopbudget.meters.formulas.registry import (
    Work,
    formula,
    formula_for,
    nested_formula,
)


def parts_of(nested: Tensor) -> list[tuple[int, ...]]:
    """The shape of every part of a nested tensor, in order."""
    return [tuple(sizes) for sizes in nested._nested_tensor_size().tolist()]


ELEMENTWISE: Final = (
    *pointwise.PER_ELEMENT,
    *pointwise.PER_ELEMENT_WITHOUT_OPTIONS,
    "gelu_backward",
    "native_dropout",
)
"""Operators whose formula asks for nothing but the number of elements."""

for _name in ELEMENTWISE:
    _rule = formula_for(f"aten::{_name}")
    if _rule is not None:
        nested_formula(_name)(_rule)


@nested_formula("_transform_bias_rescale_qkv")
def bias_and_scale(qkv: Tensor, bias: Tensor, heads: int, *, out: Any) -> int:
    """FLOPs of the step between projection and scores, which pads the parts to one length.

    qkv: parts [t_i, 3*d] -> query, key and value: [b, heads, t, d / heads] each
    Counts as on plain tensors, padding and all.
    Source: the kernel, which works on the padded tensor.
    """
    return attention.bias_and_scale(qkv, bias, heads, out=out)


@nested_formula("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor) -> Work:
    """FLOPs of a linear layer on every part.

    x: parts [t_i, k], weight: [n, k], bias: [n] or None -> out: parts [t_i, n]
    Counts n*k multiply-accumulates for each row of each part, and n adds with a bias.
    Source: the definition of torch.nn.Linear.
    """
    return Work(
        macs=out.numel() * weight.shape[1], arithmetic=out.numel() if bias is not None else 0
    )


@nested_formula("linear_backward")
def linear_backward(
    x: Tensor, grad: Tensor, weight: Tensor, output_mask: list[bool], *, out: Any
) -> Work:
    """FLOPs of the backward of a linear layer on every part.

    x: parts [t_i, k], grad: parts [t_i, n], weight: [n, k] -> gradients by output_mask
    Counts the products of the forward once for x and once for the weight, and a sum over
    all rows of all parts for the bias.
    Source: the derivative of the definition.
    """
    needs_x, needs_weight, needs_bias = output_mask
    products = grad.numel() * weight.shape[1]
    return Work(
        macs=products * (needs_x + needs_weight),
        arithmetic=(grad.numel() - weight.shape[0]) * needs_bias,
    )


def _products(a: Tensor, b: Tensor) -> int:
    """Multiply-accumulates of the products of all parts: [..., m, k] with [..., k, n]."""
    pairs = zip(parts_of(a), parts_of(b), strict=True)
    return sum(math.prod(left) * right[-1] for left, right in pairs)


@nested_formula("bmm", "matmul")
def matmul(a: Tensor, b: Tensor, *, out: Tensor) -> Work | None:
    """FLOPs of the products of the parts of two nested tensors.

    a: parts [..., m_i, k_i], b: parts [..., k_i, n_i] -> out: parts [..., m_i, n_i]
    Counts m_i*k_i*n_i multiply-accumulates for each product.
    Source: the definition. A product of a nested and a plain tensor is not counted.
    """
    return Work(macs=_products(a, b)) if a.is_nested and b.is_nested else None


@nested_formula("matmul_backward")
def matmul_backward(
    grad: Tensor, a: Tensor, b: Tensor, mask: list[bool], *, out: Any
) -> Work | None:
    """FLOPs of the backward of the products of the parts of two nested tensors.

    grad: parts [..., m_i, n_i], a: parts [..., m_i, k_i], b: parts [..., k_i, n_i]
    -> gradients of a and b by mask
    Counts the products of the forward once for each of both gradients.
    Source: the derivative of the definition.
    """
    return Work(macs=_products(a, b) * sum(mask)) if a.is_nested and b.is_nested else None


def _rows(nested: Tensor, dim: int) -> int:
    """Rows along one dimension of every part, which the dimension of the parts precedes."""
    at = dim % nested.dim() - 1
    return sum(math.prod(part) // part[at] for part in parts_of(nested) if part[at])


@nested_formula("_softmax")
def softmax(x: Tensor, dim: int, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a softmax along one dimension of every part.

    x: parts [..., n_i, ...] -> out: the same shapes
    Counts 5*n_i - 2 for each row of each part.
    Source: the stable definition, as for plain tensors.
    """
    return 5 * x.numel() - 2 * _rows(x, dim)


@nested_formula("_softmax_backward_data")
def softmax_backward(grad: Tensor, output: Tensor, dim: int, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a softmax along one dimension of every part.

    grad, output: parts [..., n_i, ...] -> out: the same shapes
    Counts 4*n_i - 1 for each row of each part.
    Source: the derivative of the definition, as for plain tensors.
    """
    return 4 * grad.numel() - _rows(grad, dim)


@nested_formula("_nested_tensor_softmax_with_shape")
def softmax_with_shape(scores: Tensor, query: Tensor, *, out: Tensor) -> int:
    """FLOPs of a softmax of padded scores over the real lengths of the query.

    scores: [b, heads, t, t], query: parts [t_i, d] -> out: the shape of scores
    Counts, for each head, 5*t_i - 2 for each of the t_i rows of each part.
    Source: the kernel for the CPU, which leaves the padding out.
    """
    heads = scores.shape[1]
    return int(heads * sum((5 * part[0] - 2) * part[0] for part in parts_of(query) if part[0]))


@nested_formula("native_layer_norm")
def layer_norm(
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    _eps: float,
    *,
    out: Any,
) -> int:
    """FLOPs of layer normalisation of every row of every part.

    x: parts [t_i, n], weight and bias: [n] or None -> out: the same shapes
    Counts, as on plain tensors, for each element 6, one more with a weight and one with a
    bias, and 2 for each row.
    Source: the definition in the documentation of torch.nn.LayerNorm, in two passes.
    """
    rows = x.numel() // int(math.prod(normalized_shape))
    return (6 + (weight is not None) + (bias is not None)) * x.numel() + 2 * rows


@nested_formula("sum")
def total(x: Tensor, dim: Any = None, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of sums along a dimension of every part, or over everything.

    x: parts of any shapes -> out: one element less than x for each sum
    Counts the elements of x less those of the result.
    Source: the definition.
    """
    return x.numel() - out.numel()


def _heads_first(query: Tensor, key: Tensor, value: Tensor) -> list[attention.Sizes] | None:
    """Sizes of the attention of each part: [h, s_i, d], [h, t_i, d] and [h, t_i, dv]."""
    if not (query.is_nested and key.is_nested and value.is_nested):
        return None
    parts = zip(parts_of(query), parts_of(key), parts_of(value), strict=True)
    return [
        (heads * rows * columns, heads * rows, depth, value_depth)
        for (heads, rows, depth), (_, columns, _), (_, _, value_depth) in parts
    ]


@nested_formula("_scaled_dot_product_flash_attention")
def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work | None:
    """FLOPs of attention within every part.

    query: parts [h, s_i, d], key: parts [h, t_i, d], value: parts [h, t_i, dv]
    -> out: parts [h, s_i, dv]
    Counts as on plain tensors, part by part: nothing is padded.
    Source: the definition.
    """
    sizes = _heads_first(query, key, value)
    if sizes is None:
        return None
    return sum((attention.forward(part, has_dropout=dropout_p > 0) for part in sizes), Work())


@nested_formula("_scaled_dot_product_cudnn_attention", "_scaled_dot_product_efficient_attention")
def efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _bias: Tensor | None,
    _compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    *_args: Any,
    out: Any,
    **_: Any,
) -> Work | None:
    """FLOPs of attention within every part; as for `flash`."""
    return flash(query, key, value, dropout_p, out=out)


@nested_formula("_scaled_dot_product_flash_attention_backward")
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
) -> Work | None:
    """FLOPs of the backward of attention within every part.

    grad: parts [h, s_i, dv], query, key, value as in the forward -> their gradients
    Counts as on plain tensors, part by part.
    Source: Dao et al. 2022, FlashAttention, algorithm 4.
    """
    sizes = _heads_first(query, key, value)
    if sizes is None:
        return None
    works = (attention_backward.backward(part, has_dropout=dropout_p > 0) for part in sizes)
    return sum(works, Work())


@formula("_nested_tensor_from_mask_left_aligned")
def is_left_aligned(_t: Tensor, mask: Tensor, *, out: bool) -> Work:
    """Integer operations of asking whether a mask has its padding behind alone.

    t: [b, t, d], mask: [b, t] -> a truth value
    Counts, for each row, t comparisons for the first gap, t - 1 adds of what is kept and
    one comparison of both: 2*t.
    Source: the kernel.
    """
    return Work(int_ops=2 * mask.numel())


@formula("_nested_tensor_from_mask")
def from_mask(_t: Tensor, mask: Tensor, mask_check: bool = True, *, out: Tensor) -> Work:
    """Integer operations of making a nested tensor of what a mask keeps.

    t: [b, t, d], mask: [b, t] -> parts [t_i, d]
    Counts as `_nested_tensor_from_mask_left_aligned`, less the comparison of both when it
    is not asked for.
    Source: the kernel.
    """
    return Work(int_ops=2 * mask.numel() - (0 if mask_check else mask.shape[0]))
