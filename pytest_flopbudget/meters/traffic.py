"""The bytes that an operator must read once and write once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor

from pytest_flopbudget.meters.places import Places
from pytest_flopbudget.meters.plans import Plan
from pytest_flopbudget.meters.storages import PLAIN, parts_of, storage_of

NO_TENSORS: Final = frozenset(
    {int, float, bool, complex, str, type(None)}
    | {torch.dtype, torch.device, torch.layout, torch.memory_format}
)
"""The usual types of other arguments: asking a type is cheaper than `isinstance`."""


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Every tensor among the values, and in lists and tuples among them."""
    tensors: list[Tensor] = []
    for value in values:
        kind = type(value)
        if kind in PLAIN:
            tensors.append(value)
        elif kind in NO_TENSORS:
            continue
        elif isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, (list, tuple)):
            tensors += tensors_in(value)
    return tensors


def arguments_in(plan: Plan, args: Any, kwargs: Any) -> list[Tensor]:
    """Every tensor among an operator's arguments; only those are looked at that may be one."""
    tensors = tensors_in(args[: plan.tensors_up_to])
    if kwargs and plan.has_tensor_keywords:
        tensors += tensors_in(kwargs.values())
    return tensors


def nbytes_of(tensors: list[Tensor]) -> int:
    """Bytes of tensors that share no memory; a dimension of stride 0 is counted once."""
    total = 0
    try:
        for tensor in tensors:
            total += tensor.nbytes if tensor.is_contiguous() else _nbytes(tensor)
    except RuntimeError:
        return _nbytes_once(tensors)  # some sparse layouts are not even asked
    return total


def bytes_moved(
    plan: Plan, args: Any, kwargs: Any, inputs: list[Tensor], outputs: list[Tensor]
) -> int:
    """Bytes that the operator must read and write, each stretch of memory once.

    A tensor that is given twice is read once; a dimension of stride 0 is read once; of
    a table that is picked from, as many bytes are read as are returned, and at most all; of one
    that is written by index, what the index names; of a tensor that only lends its shape, none.
    """
    if plan.reads_all_and_writes_its_result:
        return _nbytes_once(inputs) + _nbytes_once(outputs)
    if plan.places is not None and inputs[0].layout is torch.strided and not inputs[0].is_nested:
        places = plan.places(*args, **kwargs)
        if places is not None:
            return _bytes_at(places, inputs)
    picked = 0
    read: list[Tensor] = []
    written = list(outputs)
    for position, arg in enumerate(args):
        if position in plan.unread:
            continue
        tensors = tensors_in((arg,))
        if position in plan.written:
            written += tensors
        if position == plan.reads_rows:
            picked = min(_nbytes_once(tensors), _nbytes_once(outputs))
        elif position not in plan.written or plan.is_read_modify:
            read += tensors
    for name, value in kwargs.items():
        (written if name in plan.written_keywords else read).extend(tensors_in((value,)))
    return picked + _nbytes_once(read) + _nbytes_once(written)


def _bytes_at(places: Places, inputs: list[Tensor]) -> int:
    """Bytes that move where an operator writes into the first of its arguments by index."""
    table, *others = inputs
    source = places.source
    at_places = min(places.elements * table.element_size(), _nbytes(table))
    moved = 2 * at_places if places.are_read else at_places
    if source is not None:
        moved += min(places.elements * source.element_size(), _nbytes(source))
    return moved + _nbytes_once([tensor for tensor in others if tensor is not source])


def _nbytes_once(tensors: list[Tensor]) -> int:
    """Bytes of the tensors, those of one stretch of memory counted once."""
    sizes: dict[tuple[Any, ...], int] = {}
    for tensor in tensors:
        for part in parts_of(tensor):
            storage = storage_of(part)
            if storage is None:
                continue
            extent: tuple[Any, ...] = (id(storage),)
            if not part.is_nested:
                extent += (part.storage_offset(), part.shape, part.stride())
            sizes[extent] = _nbytes(part)
    return sum(sizes.values())


def _nbytes(tensor: Tensor) -> int:
    if tensor.is_nested:
        return tensor.numel() * tensor.element_size()
    if tensor.is_contiguous() or 0 not in tensor.stride():
        return tensor.nbytes
    sizes = [size for size, step in zip(tensor.shape, tensor.stride(), strict=True) if step]
    return math.prod(sizes) * tensor.element_size() if tensor.numel() else 0
