"""How much of a table an operator touches that writes into it by index.

An index may name a place twice. It is counted as often as it is named, since its values are not
looked at; whoever asks takes no more than the whole table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What an operator touches of the table that it writes."""

    elements: int
    """How many its index names."""
    are_read: bool
    """Whether what stands there is read too, to be combined with what comes."""
    source: Tensor | None = None
    """Of what only as many elements are read, where that may be less than all of it."""


PlacesOf: TypeAlias = Callable[..., Places | None]
"""Takes an operator's arguments; returns None where their shapes do not tell."""


def _index_copy(_table: Tensor, _dim: int, _index: Tensor, source: Tensor) -> Places:
    return Places(elements=source.numel(), are_read=False)


def _index_fill(table: Tensor, dim: int, index: Tensor, _value: Any) -> Places:
    rest = math.prod(table.shape) // max(table.shape[dim], 1) if table.dim() else 1
    return Places(elements=index.numel() * rest, are_read=False)


def _index_add(_table: Tensor, _dim: int, _index: Tensor, source: Tensor, **_: Any) -> Places:
    return Places(elements=source.numel(), are_read=True)


def _index_reduce(
    _table: Tensor,
    _dim: int,
    _index: Tensor,
    source: Tensor,
    _reduce: str,
    *,
    include_self: bool = True,
) -> Places:
    return Places(elements=source.numel(), are_read=include_self)


def _scatter(
    _table: Tensor, _dim: int, index: Tensor, source: Any, *, reduce: str | None = None
) -> Places:
    """Of a source that is larger than the index, only as much is taken as the index has."""
    source = source if isinstance(source, Tensor) else None
    return Places(elements=index.numel(), are_read=reduce is not None, source=source)


def _scatter_add(_table: Tensor, _dim: int, index: Tensor, source: Tensor) -> Places:
    return Places(elements=index.numel(), are_read=True, source=source)


def _scatter_reduce(
    _table: Tensor,
    _dim: int,
    index: Tensor,
    source: Tensor,
    _reduce: str,
    *,
    include_self: bool = True,
) -> Places:
    return Places(elements=index.numel(), are_read=include_self, source=source)


def _put(_table: Tensor, index: Tensor, _source: Tensor, accumulate: bool = False) -> Places:
    return Places(elements=index.numel(), are_read=accumulate)


def _index_put(
    table: Tensor,
    indices: Sequence[Tensor | None],
    values: Tensor,
    accumulate: bool = False,
    _unsafe: bool = False,
) -> Places | None:
    elements = _indexed(table, indices, values)
    return None if elements is None else Places(elements=elements, are_read=accumulate)


def _embedding_renorm(table: Tensor, indices: Tensor, _max_norm: float, _type: float) -> Places:
    """Every row that is named might be scaled down."""
    return Places(elements=indices.numel() * table.shape[1], are_read=True)


def _indexed(table: Tensor, indices: Sequence[Tensor | None], values: Tensor) -> int | None:
    """How many elements of a table these indices name; None where only a mask's values tell.

    Masks stand for indices of one dimension, as long as they have truths. Where another index
    gives that length, or the values that are written do, it is known.
    """
    shapes: list[Sequence[int]] = []
    kept: list[int] = []  # sizes of the dimensions that are taken whole
    at, has_mask = 0, False
    for index in indices:
        if index is None:
            kept.append(table.shape[at])
        elif index.dtype in (torch.bool, torch.uint8):
            shapes.append((1,))
            has_mask = True
            at += index.dim() - 1
        else:
            shapes.append(index.shape)
        at += 1
    kept += table.shape[at:]
    named = torch.broadcast_shapes(*shapes)
    elements = int(math.prod(named)) * math.prod(kept)
    if not has_mask or named[-1] != 1:
        return elements
    # The dimension that the indices make stands where they stand, or first if they are apart.
    positions = [position for position, index in enumerate(indices) if index is not None]
    are_together = positions[-1] - positions[0] == len(positions) - 1
    length_at = len(kept) - (positions[0] if are_together else 0) + 1
    if values.dim() < length_at or values.shape[-length_at] == 1:
        return None
    return elements * int(values.shape[-length_at])


PLACES: Final[dict[str, PlacesOf]] = {
    "aten::_index_put_impl_": _index_put,
    "aten::embedding_renorm_": _embedding_renorm,
    "aten::index_add_": _index_add,
    "aten::index_copy_": _index_copy,
    "aten::index_fill_": _index_fill,
    "aten::index_put_": _index_put,
    "aten::index_reduce_": _index_reduce,
    "aten::put_": _put,
    "aten::scatter_": _scatter,
    "aten::scatter_add_": _scatter_add,
    "aten::scatter_reduce_": _scatter_reduce,
}
"""Operators that write into their first argument by index.

Those that return a new table copy all of it, and those that take a mask read all of that and may
write any part of the table: they are not here.
"""
