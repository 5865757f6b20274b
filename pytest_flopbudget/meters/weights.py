"""Parameters and buffers of the modules that ran: how many, how large, whose."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from pytest_flopbudget.core.measurement import Counts
from pytest_flopbudget.meters.storages import BUFFER, PARAMETER, Site


class Weights:
    """The parameters and buffers of the roots that ran; shared storage is counted once."""

    def __init__(self) -> None:
        self.by_site: dict[Site, Counts] = {}
        self._seen: dict[tuple[Any, ...], weakref.ref[Any]] = {}
        self._labels: dict[int, tuple[weakref.ref[Any], Site]] = {}

    def learn(self, path: str, root: nn.Module) -> None:
        """Note whose the storages of a root module are."""
        for site, tensor in owned_tensors(path, root):
            storage = tensor.untyped_storage()
            self._labels.setdefault(storage._cdata, (weakref.ref(storage), site))

    def label(self, tensor: Tensor) -> Site | None:
        """The owner of the tensor's storage, if a root that was learnt owns it."""
        storage = tensor.untyped_storage()
        ref, site = self._labels.get(storage._cdata, (None, None))
        return site if ref is not None and ref() is storage else None

    def count(self, path: str, root: nn.Module) -> None:
        """Count the parameters and buffers of a root module, those seen before left out."""
        for site, tensor in owned_tensors(path, root):
            storage = tensor.untyped_storage()
            key = (storage._cdata, tensor.storage_offset(), tuple(tensor.shape))
            known = self._seen.get(key)
            if known is not None and known() is storage:
                continue
            self._seen[key] = weakref.ref(storage)
            elements = tensor.numel()
            is_parameter = site[1] == PARAMETER
            self.by_site[site] = self.by_site.get(site, Counts()) + Counts(
                params=elements if is_parameter else 0,
                trainable_params=elements if is_parameter and tensor.requires_grad else 0,
                model_size=elements * tensor.element_size(),
            )


def owned_tensors(path: str, root: nn.Module) -> Iterator[tuple[Site, Tensor]]:
    """Every parameter and buffer at and below a root, each with its owner's dotted path.

    Lazy parameters that have no shape yet are left out.
    """
    for name, module in root.named_modules():
        full = ".".join(part for part in (path, name) if part)
        for kind, tensors in ((PARAMETER, module._parameters), (BUFFER, module._buffers)):
            for tensor in tensors.values():
                if tensor is not None and not nn.parameter.is_lazy(tensor):
                    yield (full, kind), tensor
