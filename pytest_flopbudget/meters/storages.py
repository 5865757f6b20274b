"""The ledger of tensor storage: what was alive when, and who allocated it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

Site = tuple[str, str]
"""Module path and operator, or `parameter`, `buffer` or `input` for what was there before."""

PARAMETER: Final = "parameter"
BUFFER: Final = "buffer"
INPUT: Final = "input"


def storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    """The tensor's storage; None where it has none that can be told.

    So it is for sparse tensors, which are made of others, and for oneDNN's own layout.
    """
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None


@dataclass(slots=True)
class _Entry:
    """One storage that is alive."""

    ref: weakref.ref[torch.UntypedStorage]
    nbytes: int
    site: Site
    is_own: bool
    """Whether the region allocated it."""


class StorageLedger:
    """Books each storage once, however many tensors view it, until it dies.

    A storage that is first seen as an operator's argument was there before the region,
    and counts from the region's beginning. One that is first seen as a result was
    allocated by that operator. A callback books its death, also when C++ frees it.
    """

    def __init__(self, label: Callable[[Tensor], Site | None]) -> None:
        """`label` tells whose parameter or buffer a tensor is, where that is known."""
        self._label = label
        self._entries: dict[int, _Entry] = {}
        self._alive = 0
        self._own_alive = 0
        self.peak = 0
        """The most bytes alive at one time."""
        self.own_peak = 0
        """The bytes of that moment which the region allocated."""
        self._events: list[tuple[Site, int, bool]] = []
        self._peak_at = 0
        self._before: dict[Site, int] = {}
        self._is_open = True

    def touch(self, tensor: Tensor, path: str) -> None:
        """Book an argument's storage, if it is new, as one that was there before."""
        storage = storage_of(tensor)
        if storage is None:
            return
        key: int = storage._cdata
        if key not in self._entries:
            site = self._label(tensor) or (path, INPUT)
            nbytes = storage.nbytes()
            self._enter(key, storage, site, is_own=False)
            # It was alive at every earlier moment too, so every one of them was higher.
            self._before[site] = self._before.get(site, 0) + nbytes
            self._alive += nbytes
            self.peak += nbytes

    def produce(self, tensor: Tensor, site: Site) -> None:
        """Book a result's storage, if it is new, as allocated here; note a new size."""
        storage = storage_of(tensor)
        if storage is None:
            return
        key: int = storage._cdata
        entry = self._entries.get(key)
        nbytes = storage.nbytes()
        if entry is None:
            self._enter(key, storage, site, is_own=True)
            self._change(site, nbytes, is_own=True)
        elif entry.nbytes != nbytes:
            self._change(entry.site, nbytes - entry.nbytes, is_own=entry.is_own)
            entry.nbytes = nbytes

    def close(self) -> None:
        """Book nothing more, and let go of what is still alive."""
        self._is_open = False
        self._entries.clear()

    def at_peak(self) -> dict[Site, tuple[int, int]]:
        """Bytes alive at the peak by site, and the part of them that the region allocated."""
        alive = dict(self._before)
        own: dict[Site, int] = {}
        for site, change, is_own in self._events[: self._peak_at]:
            alive[site] = alive.get(site, 0) + change
            if is_own:
                own[site] = own.get(site, 0) + change
        return {site: (nbytes, own.get(site, 0)) for site, nbytes in alive.items() if nbytes}

    def _enter(self, key: int, storage: Any, site: Site, *, is_own: bool) -> None:
        def died(_ref: object) -> None:
            # The storage's address may be given to another one at once.
            entry = self._entries.get(key)
            if self._is_open and entry is not None and entry.ref is ref:
                del self._entries[key]
                self._change(entry.site, -entry.nbytes, is_own=entry.is_own)

        ref = weakref.ref(storage, died)
        self._entries[key] = _Entry(ref, storage.nbytes(), site, is_own)

    def _change(self, site: Site, change: int, *, is_own: bool) -> None:
        self._events.append((site, change, is_own))
        self._alive += change
        if is_own:
            self._own_alive += change
        if (self._alive, self._own_alive) > (self.peak, self.own_peak):
            self.peak, self.own_peak = self._alive, self._own_alive
            self._peak_at = len(self._events)
