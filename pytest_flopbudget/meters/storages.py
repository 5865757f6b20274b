"""The ledger of tensor storage: what was alive when, and who allocated it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

Site = tuple[str, str]
"""Module path and operator, or `parameter`, `buffer` or `input` for what was there before."""

PARAMETER: Final = "parameter"
BUFFER: Final = "buffer"
INPUT: Final = "input"

_Entry: TypeAlias = tuple["weakref.ref[torch.UntypedStorage]", int, Site, bool]
"""One storage that is alive: itself, its bytes, who made it, and whether the region did."""


def storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    """The tensor's storage; None where it has none that can be told.

    So it is for sparse tensors, which are made of others, and for oneDNN's own layout.
    """
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None


def parts_of(tensor: Tensor) -> list[Tensor]:
    """The tensors that hold its data: itself, or indices and values of a sparse one.

    None where its data cannot be told, as in oneDNN's own layout.
    """
    layout = tensor.layout
    if layout is torch.strided:
        return [tensor]
    if layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []


class StorageLedger:
    """Books each storage once, however many tensors view it, until it dies.

    A storage that is first seen as an operator's argument was there before the region,
    and counts from the region's beginning. One that is first seen as a result was
    allocated by that operator. A callback books its death, also when C++ frees it, and
    its change of size, also when no operator makes it.
    """

    def __init__(self, label: Callable[[Tensor, torch.UntypedStorage], Site | None]) -> None:
        """`label` tells whose parameter or buffer a tensor's storage is, where that is known."""
        self._label = label
        self.entries: dict[int, _Entry] = {}
        """By the id of the storage's Python object, which lives as long as the storage."""
        self._keys: dict[int, int] = {}
        self._opaque: dict[int, weakref.ref[Tensor]] = {}
        self._alive = 0
        self._own_alive = 0
        self.peak = 0
        """The most bytes alive at one time."""
        self.own_peak = 0
        """The bytes of that moment which the region allocated."""
        self._events: list[tuple[Site, int, bool]] = []
        self._peak_at = 0
        self._before: dict[Site, int] = {}
        self._is_open = False
        self._on_death = self._died  # bound once
        self.lock = threading.RLock()
        """To be held while booking when several threads do."""

    def open(self) -> None:
        """Begin to hear of deaths and of changes of size."""
        self._is_open = True
        _RESIZES.hear(self._resized)

    def close(self) -> None:
        """Book nothing more, and let go of what is still alive."""
        self._is_open = False
        _RESIZES.forget(self._resized)
        self.entries.clear()
        self._keys.clear()

    def touch(self, tensor: Tensor, path: str) -> None:
        """Book an argument's storage, if it is new, as one that was there before."""
        for part in parts_of(tensor):
            storage = storage_of(part)
            if storage is not None and id(storage) not in self.entries:
                self.touch_storage(tensor, storage, path)

    def touch_storage(self, tensor: Tensor, storage: torch.UntypedStorage, path: str) -> None:
        """Book an argument's storage, which is not booked yet, as one that was there before."""
        self.enter_before(storage, self._label(tensor, storage) or (path, INPUT))

    def enter_before(self, storage: torch.UntypedStorage, site: Site) -> None:
        """Book a storage that was there before the region."""
        nbytes = storage.nbytes()
        self._enter(storage, nbytes, site, is_own=False)
        # It was alive at every earlier moment too, so every one of them was higher.
        self._before[site] = self._before.get(site, 0) + nbytes
        self._alive += nbytes
        self.peak += nbytes

    def produce(self, tensor: Tensor, site: Site) -> None:
        """Book a result's storage, if it is new, as allocated here; note a new size."""
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):
            parts = [part for part in parts_of(tensor) if part is not tensor]
            for part in parts:
                self.produce(part, site)
            if not parts:
                self._opaque[id(tensor)] = weakref.ref(tensor)
            return
        nbytes = storage.nbytes()
        entry = self.entries.get(id(storage))
        if entry is None:
            self._enter(storage, nbytes, site, is_own=True)
            self._change(site, nbytes, True)
        elif entry[1] != nbytes:
            self._resized(storage)

    def has_produced(self, tensor: Tensor) -> bool:
        """Whether this tensor without a storage was the result of an operator that was seen."""
        ref = self._opaque.get(id(tensor))
        return ref is not None and ref() is tensor

    def at_peak(self) -> dict[Site, tuple[int, int]]:
        """Bytes alive at the peak by site, and the part of them that the region allocated."""
        alive = dict(self._before)
        own: dict[Site, int] = {}
        for site, change, is_own in self._events[: self._peak_at]:
            alive[site] = alive.get(site, 0) + change
            if is_own:
                own[site] = own.get(site, 0) + change
        return {site: (nbytes, own.get(site, 0)) for site, nbytes in alive.items() if nbytes}

    def _enter(self, storage: Any, nbytes: int, site: Site, *, is_own: bool) -> None:
        ref = weakref.ref(storage, self._on_death)
        key = id(storage)
        self.entries[key] = (ref, nbytes, site, is_own)
        self._keys[id(ref)] = key

    def _died(self, ref: weakref.ref[torch.UntypedStorage]) -> None:
        if not self._is_open:
            return
        with self.lock:
            key = self._keys.pop(id(ref))
            _, nbytes, site, is_own = self.entries.pop(key)
            self._change(site, -nbytes, is_own)

    def _resized(self, storage: torch.UntypedStorage) -> None:
        with self.lock:
            entry = self.entries.get(id(storage))
            if entry is None:
                return  # no operator has touched it yet
            ref, before, site, is_own = entry
            nbytes = storage.nbytes()
            self.entries[id(storage)] = (ref, nbytes, site, is_own)
            self._change(site, nbytes - before, is_own)

    def _change(self, site: Site, change: int, is_own: bool) -> None:
        self._events.append((site, change, is_own))
        self._alive = alive = self._alive + change
        if is_own:
            self._own_alive += change
        if alive > self.peak or (alive == self.peak and self._own_alive > self.own_peak):
            self.peak, self.own_peak = alive, self._own_alive
            self._peak_at = len(self._events)


class _Resizes:
    """Tells of every `UntypedStorage.resize_`, which is no operator, while somebody listens."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[torch.UntypedStorage], None]] = []

    def hear(self, listener: Callable[[torch.UntypedStorage], None]) -> None:
        if not self._listeners:
            torch.UntypedStorage.resize_ = self._telling()  # type: ignore[method-assign]  # until forget
        self._listeners.append(listener)

    def forget(self, listener: Callable[[torch.UntypedStorage], None]) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
            if not self._listeners:
                del torch.UntypedStorage.resize_  # the inherited one is there again

    def _telling(self) -> Callable[..., Any]:
        listeners = self._listeners

        def resize_(storage: torch.UntypedStorage, nbytes: int) -> Any:
            result = super(torch.UntypedStorage, storage).resize_(nbytes)
            for listener in listeners:
                listener(storage)
            return result

        return resize_


_RESIZES: Final = _Resizes()
