"""Which bytes of which storage were seen: what is stored once is counted once."""

from __future__ import annotations

import weakref
from itertools import product
from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.packed import stored_nbytes
from pytest_flopbudget.meters.storages import storage_of

_Interval = tuple[int, int]
"""From a byte of a storage up to another one."""


class SeenMemory:
    """The bytes that were counted, of every storage that is still alive."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[weakref.ref[Any], list[_Interval]]] = {}
        """By the id of the reference, which is kept: it stands for one storage alone."""

    def add_whole(self, ref: weakref.ref[Any], nbytes: int) -> int:
        """Bytes of a storage, given by a weak reference, that were not seen before; now all are.

        The reference has no callback, so that it is the same for one storage at all times.
        """
        if id(ref) in self._seen:
            return self._add(ref, [(0, nbytes)])
        self._seen[id(ref)] = (ref, [(0, nbytes)])
        return nbytes

    def add(self, tensor: Tensor) -> int:
        """Bytes of the tensor's elements that were not seen before; they now are.

        A tensor without a storage that can be told is seen as a whole.
        """
        storage = storage_of(tensor)
        if storage is None:
            return self._add(weakref.ref(tensor), [(0, stored_nbytes(tensor))])
        return self._add(weakref.ref(storage), list(_intervals(tensor)))

    def _add(self, ref: weakref.ref[Any], wanted: list[_Interval]) -> int:
        known = self._seen.get(id(ref), (ref, []))[1]
        union = _union([*known, *wanted])
        self._seen[id(ref)] = (ref, union)
        return _length(union) - _length(known)


def _intervals(tensor: Tensor) -> list[_Interval]:
    """The bytes of the tensor's elements in its storage, in as few intervals as may be."""
    if not tensor.numel():
        return []
    item = tensor.element_size()
    start = int(tensor.storage_offset()) * item
    dense = stored_nbytes(tensor)
    if tensor.is_contiguous() or dense < tensor.numel() * item:
        return [(start, start + dense)]
    # A step of 0 stands still; steps that fit into the run before lengthen it.
    run = item
    jumps: list[range] = []
    steps = zip(tensor.stride(), tensor.shape, strict=True)
    for step, size in sorted((step * item, size) for step, size in steps if step and size > 1):
        if step <= run and not jumps:
            run = step * (size - 1) + run
        else:
            jumps.append(range(0, step * size, step))
    return [(at, at + run) for at in (start + sum(jump) for jump in product(*jumps))]


def _union(intervals: list[_Interval]) -> list[_Interval]:
    merged: list[_Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _length(intervals: list[_Interval]) -> int:
    return sum(end - start for start, end in intervals)
