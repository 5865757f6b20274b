"""The ledger of tensor storage: what was alive when, and who allocated it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from pytest_flopbudget.meters.detours import REGIONS, Detour

Site = tuple[str, str]
"""Module path and operator, or `parameter`, `buffer` or `input` for what was there before."""

PLAIN: Final = frozenset({Tensor, nn.Parameter, nn.Buffer})
"""The types of tensors that nobody has made a class of their own from."""
PARAMETER: Final = "parameter"
BUFFER: Final = "buffer"
INPUT: Final = "input"


class _Storage(weakref.ref["torch.UntypedStorage"]):
    """A storage that the region allocated: its bytes, and who made it."""

    __slots__ = ("nbytes", "site")

    nbytes: int
    site: Site
    is_own = True


class _Earlier(_Storage):
    """A storage that was there before the region."""

    __slots__ = ()
    is_own = False


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


def _stored(tensors: list[Tensor]) -> list[Tensor]:
    """Those of the tensors that have a storage."""
    return [tensor for tensor in tensors if storage_of(tensor) is not None]


class StorageLedger:
    """Books each storage once, however many tensors view it, until it dies.

    A storage that is first seen as an operator's argument was there before the region,
    and counts from the region's beginning. One that is first seen as a result was
    allocated by that operator. A callback books its death, also when C++ frees it, and
    its change of size, also when no operator makes it.
    """

    lock = threading.RLock()
    """To be held while booking when several threads do; one for all ledgers, as they are many."""

    def __init__(
        self,
        labels: Mapping[int, tuple[Any, ...]],
        label: Callable[[Tensor, torch.UntypedStorage], Site | None],
    ) -> None:
        """Whose parameter or buffer a storage is.

        labels: by the id of the storage, a weak reference to it and whose it is, where that is
        known. label: is asked for what is not there.
        """
        self._labels = labels
        self._label = label
        self._entries: dict[int, _Storage] = {}
        """By the id of the storage's Python object, which lives as long as the storage.

        One that has died stays until another one is at its address.
        """
        self._events: list[tuple[Site, int, bool] | _Storage] = []
        """Every change of what is alive, in order: whose, by how many bytes, of the region.

        A storage stands for its death: the list's own `append` hears of it, and no Python runs.
        """
        self._on_death: Any = self._events.append
        self._before: list[tuple[Site, int]] = []
        """Whose storages were there before, and their bytes when they were first seen."""

    def close(self) -> None:
        """Book nothing more, and let go of what is still alive."""
        self._entries.clear()

    def touch(self, tensors: list[Tensor], path: str) -> list[int] | None:
        """Book the arguments' storages, those that are new as ones that were there before.

        Returns their ids, or None if some tensor has none.
        """
        entries, labels = self._entries, self._labels
        ids = []
        try:
            for tensor in tensors:
                storage = tensor.untyped_storage()
                key = id(storage)
                ids.append(key)
                entry = entries.get(key)
                if entry is None or entry() is not storage:
                    known = labels.get(key)
                    if known is not None and known[0]() is storage:
                        site = known[1]
                    else:
                        site = self._label(tensor, storage) or (path, INPUT)
                    nbytes = storage.nbytes()
                    entry = entries[key] = _Earlier(storage, self._on_death)
                    entry.site = site
                    entry.nbytes = nbytes
                    # It was alive at every earlier moment too, so every one of them was higher.
                    self._before.append((site, nbytes))
        except RuntimeError:  # a sparse tensor has no storage to tell, nor has one of oneDNN's
            for tensor in tensors:
                self.touch(_stored(parts_of(tensor)), path)
            return None
        return ids

    def produce(self, tensors: list[Tensor], site: Site) -> bool:
        """Book the results' storages, those that are new as allocated here; note a new size.

        False if some tensor has no storage of its own.
        """
        entries = self._entries
        try:
            for tensor in tensors:
                storage = tensor.untyped_storage()
                nbytes = storage.nbytes()
                key = id(storage)
                entry = entries.get(key)
                if entry is None or entry() is not storage:
                    entry = entries[key] = _Storage(storage, self._on_death)
                    entry.site = site
                    entry.nbytes = nbytes
                    self._events.append((site, nbytes, True))
                elif entry.nbytes != nbytes:
                    self.resized(storage)
        except RuntimeError:  # a sparse tensor has no storage to tell, nor has one of oneDNN's
            for tensor in tensors:
                self.produce(_stored(parts_of(tensor)), site)
            return False
        return True

    def resized(self, storage: torch.UntypedStorage) -> None:
        """Book a change of size, also one that no operator makes."""
        with self.lock:
            entry = self._entry(storage)
            if entry is None:
                return  # no operator has touched it yet
            nbytes = storage.nbytes()
            self._events.append((entry.site, nbytes - entry.nbytes, entry.is_own))
            entry.nbytes = nbytes

    def at_peak(self) -> dict[Site, tuple[int, int]]:
        """Bytes alive at the peak by site, and the part of them that the region allocated.

        The peak is the moment at which the most bytes were alive, and of several such moments
        the first at which the most of them were the region's.
        """
        now = most = own_now = own_most = at = 0
        events = [
            (event.site, -event.nbytes, event.is_own) if isinstance(event, _Storage) else event
            for event in self._events
        ]
        for number, (_, change, is_own) in enumerate(events, 1):
            now += change
            if is_own:
                own_now += change
            if now > most or (now == most and own_now > own_most):
                most, own_most, at = now, own_now, number
        alive: dict[Site, int] = {}
        for site, nbytes in self._before:
            alive[site] = alive.get(site, 0) + nbytes
        own: dict[Site, int] = {}
        for site, change, is_own in events[:at]:
            alive[site] = alive.get(site, 0) + change
            if is_own:
                own[site] = own.get(site, 0) + change
        return {site: (nbytes, own.get(site, 0)) for site, nbytes in alive.items() if nbytes}

    def _entry(self, storage: torch.UntypedStorage) -> _Storage | None:
        entry = self._entries.get(id(storage))
        return entry if entry is not None and entry() is storage else None


def _resizing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around `UntypedStorage.resize_`, which is no operator."""

    def resize_(storage: torch.UntypedStorage, nbytes: int) -> Any:
        result = original(storage, nbytes)
        for region in REGIONS.open:
            if region.ledger is not None:
                region.ledger.resized(storage)
        return result

    return resize_


DETOURS: Final = (Detour(torch.UntypedStorage, "resize_", _resizing),)
