"""Embeddings and bags of them: the adds of a bag, gradients and the renorm of a table.

How many entries a bag has, which of them are padding and which repeat is data. Counted is
the sum over all bags together, which needs the number of entries and of bags alone: every
bag has an entry, none is padding, and no two are the same.
"""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula, sparse_formula

_SUM: Final = 0
_MEAN: Final = 1
_MAX: Final = 2


@formula("embedding_dense_backward")
def embedding_backward(
    grad: Tensor,
    _indices: Tensor,
    _num_weights: int,
    _padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    *,
    out: Tensor,
) -> int:
    """FLOPs of the gradient of an embedding table.

    grad: [..., d] -> out: [rows, d]
    Counts one add for each element of grad, summed into the row that it came from, and
    one multiply by the inverse frequency with `scale_grad_by_freq`.
    Source: the derivative of a look-up. Which entries are padding is data: none is.
    """
    return grad.numel() * (1 + scale_grad_by_freq)


@formula("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(
    weight: Tensor,
    indices: Tensor,
    _offsets: Tensor,
    _scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    _sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    *_rest: Any,
    out: Any,
) -> int:
    """FLOPs of a sum, mean or maximum over each bag of rows of a table.

    weight: [rows, d], indices: [n], per_sample_weights: [n] or None -> out: [bags, d]
    Counts (n - bags)*d adds, or comparisons for a maximum; n*d multiplies by the
    weights of the samples; bags*d divisions for a mean.
    Source: the definition in the documentation of torch.nn.EmbeddingBag. The sizes of
    bags are data: each is taken to have an entry, and none to be padding.
    """
    bags, width = out[0].shape
    entries = indices.numel()
    flops = max(entries - bags, 0)
    if per_sample_weights is not None:
        flops += entries
    if mode == _MEAN:
        flops += bags
    return int(flops * width)


@formula("_embedding_bag_dense_backward")
def embedding_bag_dense_backward(
    grad: Tensor,
    indices: Tensor,
    _offset2bag: Tensor,
    _bag_size: Tensor,
    _maximum_indices: Tensor,
    _num_weights: int,
    scale_grad_by_freq: bool,
    mode: int,
    per_sample_weights: Tensor | None,
    *_rest: Any,
    out: Any,
) -> int:
    """FLOPs of the gradient of the table, as a dense one.

    grad: [bags, d], indices: [n], per_sample_weights: [n] or None -> out: [rows, d]
    Counts n*d adds into the rows; for a maximum bags*d, since each comes from one row;
    bags*d divisions for a mean; n*d multiplies by the weights of the samples, and as
    many by the inverse frequencies.
    Source: the derivative of the definition, as `embedding_dense_backward` counts it.
    """
    added = grad.numel() if mode == _MAX else indices.numel() * grad.shape[1]
    return added + _scaled(grad, indices, scale_grad_by_freq, mode, per_sample_weights)


def _scaled(
    grad: Tensor,
    indices: Tensor,
    scale_grad_by_freq: bool,
    mode: int,
    per_sample_weights: Tensor | None,
) -> int:
    """Multiplies and divisions before the gradient is added to the rows of the table."""
    factors = scale_grad_by_freq + (per_sample_weights is not None)
    return factors * indices.numel() * grad.shape[1] + grad.numel() * (mode == _MEAN)


@formula("_embedding_bag_backward")
def embedding_bag_backward(
    grad: Tensor, indices: Tensor, _offsets: Tensor, *rest: Any, out: Any
) -> int:
    """FLOPs of the gradient of the table, as a dense one; see `embedding_bag_dense_backward`."""
    *same, _sparse, per_sample_weights = rest[:8]
    return embedding_bag_dense_backward(grad, indices, *same, per_sample_weights, out=out)


@sparse_formula("_embedding_bag_backward")
def embedding_bag_sparse_backward(
    grad: Tensor,
    indices: Tensor,
    _offsets: Tensor,
    _offset2bag: Tensor,
    _bag_size: Tensor,
    _maximum_indices: Tensor,
    _num_weights: int,
    scale_grad_by_freq: bool,
    mode: int,
    _sparse: bool,
    per_sample_weights: Tensor | None,
    *_rest: Any,
    out: Any,
) -> int:
    """FLOPs of the gradient of the table, as a sparse one with a row for each entry.

    grad: [bags, d], indices: [n], per_sample_weights: [n] or None -> out: [rows, d], n rows
    Counts bags*d divisions for a mean and n*d multiplies by the weights of the samples;
    nothing is added until the gradient is coalesced.
    Source: the derivative of the definition.
    """
    return _scaled(grad, indices, scale_grad_by_freq, mode, per_sample_weights)


@formula("_embedding_bag_per_sample_weights_backward")
def per_sample_weights_backward(
    grad: Tensor, _weight: Tensor, indices: Tensor, *_rest: Any, out: Any
) -> int:
    """FLOPs of the gradient of the weights of the samples.

    grad: [bags, d], weight: [rows, d], indices: [n] -> out: [n]
    Counts, for each entry, d multiplies and d - 1 adds: the inner product of its row
    with the gradient of its bag.
    Source: the derivative of the definition.
    """
    return indices.numel() * (2 * grad.shape[1] - 1)
