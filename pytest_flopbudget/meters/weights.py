"""Parameters and buffers of the modules that ran: how many, how large, whose."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from pytest_flopbudget.core.measurement import Counts
from pytest_flopbudget.meters.storages import BUFFER, PARAMETER, Site, storage_of

ORIGINALS: Final[Any] = WeakTensorKeyDictionary()
"""For fake tensors that stand in for real ones, a weak reference to the real one."""


class Weights:
    """The parameters and buffers of the roots that ran; shared storage is counted once."""

    def __init__(self) -> None:
        self.by_site: dict[Site, Counts] = {}
        self._seen: dict[tuple[Any, ...], weakref.ref[Any]] = {}
        self._labels: dict[int, tuple[weakref.ref[Any], Site]] = {}

    def learn(self, path: str, root: nn.Module) -> None:
        """Note whose the storages of a root module are."""
        for site, tensor in owned_tensors(path, root):
            storage = storage_of(tensor)
            if storage is not None:
                self._labels.setdefault(storage._cdata, (weakref.ref(storage), site))

    def label(self, tensor: Tensor) -> Site | None:
        """The owner of the tensor's storage, if a root that was learnt owns it."""
        original = ORIGINALS.get(tensor) if ORIGINALS else None
        named = tensor if original is None else original()
        storage = None if named is None else storage_of(named)
        if storage is None:
            return None
        ref, site = self._labels.get(storage._cdata, (None, None))
        return site if ref is not None and ref() is storage else None

    def count(self, path: str, root: nn.Module) -> None:
        """Count the parameters and buffers of a root module, those seen before left out."""
        for site, tensor in owned_tensors(path, root):
            if self._is_new(tensor):
                is_parameter = site[1] == PARAMETER
                elements = tensor.numel()
                self.by_site[site] = self.by_site.get(site, Counts()) + Counts(
                    params=elements if is_parameter else 0,
                    trainable_params=elements if is_parameter and tensor.requires_grad else 0,
                    model_size=_nbytes(tensor),
                )

    def _is_new(self, tensor: Tensor) -> bool:
        """Whether this stretch of memory is seen for the first time; notes it."""
        storage = storage_of(tensor)
        holder: Any = tensor if storage is None else storage
        key: tuple[Any, ...] = (id(tensor),)
        if storage is not None:
            key = (storage._cdata, tensor.storage_offset(), tuple(tensor.shape))
        known = self._seen.get(key)
        if known is not None and known() is holder:
            return False
        self._seen[key] = weakref.ref(holder)
        return True


def _nbytes(tensor: Tensor) -> int:
    """Bytes of the tensor's elements; of a sparse one, of its indices and values."""
    with _disable_current_modes():  # looking at the parts is no work of the region's
        if tensor.layout is torch.sparse_coo:
            parts = [tensor._indices(), tensor._values()]
        elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
            parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
        elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
            parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
        else:
            parts = [tensor]
        return sum(part.numel() * part.element_size() for part in parts)


def owned_tensors(path: str, root: nn.Module) -> Iterator[tuple[Site, Tensor]]:
    """Every parameter and buffer at and below a root, each with its owner's dotted path.

    Lazy parameters that have no shape yet are left out. Inside a transform such as vmap
    the tensor that the transform works on stands for its slice.
    """
    for name, module in root.named_modules():
        full = ".".join(part for part in (path, name) if part)
        for kind, tensors in ((PARAMETER, module._parameters), (BUFFER, module._buffers)):
            for tensor in tensors.values():
                if tensor is not None and not nn.parameter.is_lazy(tensor):
                    yield (full, kind), _unwrapped(tensor)


def _unwrapped(tensor: Tensor) -> Tensor:
    """The tensor under the wrappers of functorch."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor
