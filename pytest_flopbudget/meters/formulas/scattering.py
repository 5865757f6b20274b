"""Writing at indices, where what is written may be added to what is there, or multiplied."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula


@formula("scatter")
def scatter(
    x: Tensor, _dim: int, index: Tensor, _source: Any, *, reduce: str | None = None, out: Tensor
) -> int:
    """FLOPs of writing values at indices along one dimension.

    index: any shape -> out: the shape of the first argument
    Counts one add or multiply for each element of index when the values are reduced (two
    or six for complex numbers), else nothing.
    Source: the definition in the documentation of torch.Tensor.scatter_.
    """
    if reduce is None:
        return 0
    complex_cost = 2 if reduce == "add" else 6
    return index.numel() * (complex_cost if out.is_complex() else 1)


@formula("put")
def put(x: Tensor, _index: Tensor, source: Tensor, accumulate: bool = False, *, out: Tensor) -> int:
    """FLOPs of writing values at places of a tensor as if it had one dimension.

    source: any shape -> out: the shape of the first argument
    Counts one add for each element of source when they accumulate (two for complex
    numbers), else nothing.
    Source: the definition in the documentation of torch.Tensor.put_.
    """
    return source.numel() * (2 if out.is_complex() else 1) * accumulate


@formula("_unsafe_masked_index_put_accumulate")
def masked_put(x: Tensor, mask: Tensor, _indices: Any, values: Tensor, *, out: Tensor) -> int:
    """FLOPs of adding values at indices where a mask is set.

    mask, values: broadcast to the indexed shape -> out: the shape of the first argument
    Counts one add for each of them, as if the mask were set; two for complex numbers.
    Source: torch's decomposition, which adds zero in the other places.
    """
    added = math.prod(torch.broadcast_shapes(mask.shape, values.shape))
    return added * (2 if out.is_complex() else 1)
