"""Reductions into places that an index gives. Writing to them is free."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pytest_flopbudget.meters.formulas.reductions import adding, multiplying
from pytest_flopbudget.meters.formulas.registry import formula


def _into_places(elements: int, reduce: str | None, out: Tensor) -> int:
    """FLOPs of combining so many elements with what stands in their places.

    A mean adds up the elements and counts them, and divides every place by its count.
    """
    if reduce in ("prod", "multiply"):
        return multiplying(out) * elements
    if reduce == "mean":
        return (adding(out) + 1) * elements + adding(out) * out.numel()
    return adding(out) * elements if reduce is not None else 0


@formula("scatter")
def scatter(
    _x: Tensor, _dim: int, index: Tensor, _source: Any, *, out: Tensor, reduce: str | None = None
) -> int:
    """FLOPs of writing elements to places, or of combining them with what stands there.

    index: n elements, source: at least its shape, or a number
    Counts nothing without `reduce`, else n adds or multiplies; for complex numbers two
    and six each.
    Source: the definition in the documentation of torch.Tensor.scatter_.
    """
    return _into_places(index.numel(), reduce, out)


@formula("scatter_reduce")
def scatter_reduce(
    _x: Tensor, _dim: int, index: Tensor, _source: Tensor, reduce: str, *, out: Tensor, **_: Any
) -> int:
    """FLOPs of reducing elements into places.

    index: n elements, source: at least its shape -> out: the shape of the first argument
    Counts n adds, multiplies or comparisons; a mean takes n adds, n to count them and a
    division for each element of out. For complex numbers an add or a division is two, a
    multiply six.
    Source: the definition in the documentation of torch.Tensor.scatter_reduce_. The first
    element of a place counts as the others do, with include_self or without.
    """
    return _into_places(index.numel(), reduce, out)


@formula("index_reduce")
def index_reduce(
    _x: Tensor, _dim: int, _index: Tensor, source: Tensor, reduce: str, *, out: Tensor, **_: Any
) -> int:
    """FLOPs of reducing slices into slices by index.

    source: n elements -> out: the shape of the first argument
    Counts n multiplies or comparisons; a mean takes n adds, n to count them and a
    division for each element of out.
    Source: the definition in the documentation of torch.Tensor.index_reduce_. The first
    element of a place counts as the others do, with include_self or without.
    """
    return _into_places(source.numel(), reduce, out)


@formula("put")
def put(
    _x: Tensor, _index: Tensor, source: Tensor, accumulate: bool = False, *, out: Tensor
) -> int:
    """FLOPs of writing elements to places of the flattened tensor.

    index, source: n elements
    Counts n adds when they accumulate, two each for complex numbers; else nothing.
    Source: the definition in the documentation of torch.Tensor.put_.
    """
    return adding(out) * source.numel() if accumulate else 0


@formula("_unsafe_masked_index_put_accumulate")
def masked_index_put(
    _x: Tensor, mask: Tensor, _indices: Any, values: Tensor, *, out: Tensor
) -> int:
    """FLOPs of adding values at indices, where a mask allows it.

    mask, values: broadcast to n elements
    Counts n adds, two each for complex numbers.
    Source: the definition, as torch's own decomposition writes it: what is masked is zero.
    Clamping the indices is free, as indexing is.
    """
    return adding(out) * int(math.prod(torch.broadcast_shapes(mask.shape, values.shape)))


@formula("segment_reduce")
def segment_reduce(data: Tensor, reduce: str, *, out: Tensor, **_: Any) -> int:
    """FLOPs of reducing each segment along an axis.

    data: [..., n, ...] -> out: [..., segments, ...]
    Counts one add, multiply or comparison for each element of data, and for a mean a
    division for each element of out.
    Source: the algorithm of torch's kernel. A segment starts with its initial value, 0
    for a sum unless another is given, so that its first element counts like the rest.
    """
    return data.numel() + (out.numel() if reduce == "mean" else 0)


@formula("_segment_reduce_backward")
def segment_reduce_backward(
    grad: Tensor, output: Tensor, data: Tensor, reduce: str, *, out: Tensor, **_: Any
) -> int:
    """FLOPs of the backward of reducing each segment along an axis.

    grad, output: [..., segments, ...] with s elements, data: [..., n, ...] with e -> out: the
    shape of data
    Counts nothing for a sum; s divisions for a mean; s multiplies grad*output and e
    divisions by data for a product; e comparisons with the result, e adds that count the
    ties, and s divisions by that for a maximum or minimum.
    Source: the derivative of the definition, as torch's kernel takes it.
    """
    segments, elements = grad.numel(), data.numel()
    costs = {"sum": 0, "mean": segments, "prod": segments + elements}
    return costs.get(reduce, 2 * elements + segments)
