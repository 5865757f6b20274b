"""Operators that find, compare and accumulate elements by index."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pytest_flopbudget.meters.formulas.complex_numbers import add, multiply
from pytest_flopbudget.meters.formulas.elementwise import real_parts
from pytest_flopbudget.meters.formulas.registry import formula


@formula("isin")
def isin(elements: Any, tests: Any, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of asking of each element whether it is among others.

    elements: any shape, tests: any shape -> out: the shape of elements
    Counts one comparison for each pair of an element and a test.
    Source: the definition in the documentation of torch.isin, without sorting.
    """
    return out.numel() * (tests.numel() if isinstance(tests, Tensor) else 1)


@formula("equal")
def equal(a: Tensor, b: Tensor, *, out: bool) -> int:
    """FLOPs of asking whether two tensors are equal.

    a, b: the same shape
    Counts one comparison for each element, two where it is complex.
    Source: the definition, without its early return.
    """
    return a.numel() * real_parts(a)


@formula("index_add")
def index_add(
    _x: Tensor, _dim: int, _index: Tensor, source: Tensor, *, out: Tensor, alpha: Any = 1
) -> int:
    """FLOPs of adding the slices of a tensor to others by index.

    source: any shape -> out: the shape of the first argument
    Counts one add for each element of source, and one multiply when alpha is not 1; of
    complex numbers as `add` does.
    Source: the definition in the documentation of torch.Tensor.index_add_.
    """
    scaling = multiply(alpha, source) if alpha != 1 else 0
    return int(source.numel()) * (add(out, source) + scaling)


@formula("scatter_add")
def scatter_add(_x: Tensor, _dim: int, index: Tensor, _source: Tensor, *, out: Tensor) -> int:
    """FLOPs of adding the elements of a tensor to others by index.

    index: any shape, at most that of the source -> out: the shape of the first argument
    Counts one add for each element of index, two where it is complex.
    Source: the definition in the documentation of torch.Tensor.scatter_add_.
    """
    return index.numel() * real_parts(out)


@formula("index_put", "_index_put_impl", "_unsafe_index_put")
def index_put(
    x: Tensor, indices: Any, values: Tensor, accumulate: bool = False, *_args: Any, out: Tensor
) -> int | None:
    """FLOPs of writing values at indices.

    values: broadcast to the indexed shape.
    Counts one add for each indexed element when they accumulate, two where it is
    complex, else nothing. Where a mask takes the place of indices: for each value.
    Source: the definition in the documentation of torch.Tensor.index_put_. One value for
    all elements that a mask picks is not counted: how many they are is in the mask.
    """
    if not accumulate:
        return 0
    given = [index for index in indices if index is not None]
    if all(index.dtype not in (torch.bool, torch.uint8) for index in given):
        picked = math.prod(torch.broadcast_shapes(*(index.shape for index in given)))
        whole = [
            size for dim, size in enumerate(x.shape) if dim >= len(indices) or indices[dim] is None
        ]
        return int(picked) * math.prod(whole) * real_parts(x)
    return values.numel() * real_parts(x) if values.numel() > 1 else None
