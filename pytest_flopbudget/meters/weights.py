"""Parameters and buffers of the modules that ran: how many, how large, whose."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from pytest_flopbudget.core.measurement import Counts
from pytest_flopbudget.meters.extents import SeenMemory
from pytest_flopbudget.meters.packed import (
    is_packed,
    scales_nbytes,
    stored_nbytes,
    tensors_in_package,
)
from pytest_flopbudget.meters.storages import BUFFER, PARAMETER, Site, storage_of
from pytest_flopbudget.meters.storages import parts_of as plain_parts_of

_NO_NAMES: Final = ("", "_orig_mod")
_SCRIPTED_NAMES: Final = (
    "_packed_params",
    "_packed_weight",
    "_packed_weight_ih",
    "_packed_weight_hh",
    "param",
)
"""Where torch.ao's modules keep weights; a scripted module does not list its attributes."""

ORIGINALS: Final[Any] = WeakTensorKeyDictionary()
"""For fake tensors that stand in for real ones, a weak reference to the real one."""


_PLAIN: Final = frozenset({Tensor, nn.Parameter, nn.Buffer})
_Modules: TypeAlias = list[tuple[str, nn.Module]]
"""Dotted path and module of a root and of every module below it."""


class Weights:
    """The parameters and buffers of the roots that ran; shared storage is counted once.

    Also the weights that quantised modules keep elsewhere, packed for a library.
    """

    def __init__(self) -> None:
        self._sums: dict[Site, list[int]] = {}
        self.packed: dict[Site, int] = {}
        """Bytes that no tensor shows: they are alive all the time."""
        self._seen = SeenMemory()
        self._packages: dict[tuple[int, str], weakref.ref[Any]] = {}
        self._labels: dict[int, tuple[weakref.ref[Any], Site]] = {}

    @property
    def by_site(self) -> dict[Site, Counts]:
        """What was counted, by module and whether it is a parameter or a buffer."""
        return {
            site: Counts(params=elements, trainable_params=trainable, model_size=nbytes)
            for site, (elements, trainable, nbytes) in self._sums.items()
        }

    def learn(self, owned: list[tuple[Site, Tensor]]) -> None:
        """Note whose the storages of these parameters and buffers are."""
        labels = self._labels
        for site, tensor in owned:
            for part in _parts(tensor):
                storage = storage_of(part)
                if storage is None:
                    continue
                known = labels.get(storage._cdata)
                if known is None or known[0]() is not storage:
                    # Unknown, or at the address of another one, which is gone.
                    labels[storage._cdata] = (weakref.ref(storage), site)

    def label(self, tensor: Tensor, storage: torch.UntypedStorage) -> Site | None:
        """The owner of the tensor's storage, if a root that was learnt owns it."""
        if ORIGINALS and (original := ORIGINALS.get(tensor)) is not None:
            named = original()
            known = None if named is None else storage_of(named)
            if known is None:
                return None
            storage = known
        ref, site = self._labels.get(storage._cdata, (None, None))
        return site if ref is not None and ref() is storage else None

    def count(self, path: str, root: nn.Module) -> None:
        """Count the parameters and buffers of a root module, those seen before left out."""
        modules = _modules(path, root)
        for site, tensor in _owned(modules):
            if type(tensor) in _PLAIN and (nbytes := self._seen.add_whole(tensor)):
                is_trainable = site[1] == PARAMETER and tensor.requires_grad
                self._add(site, tensor.numel(), nbytes, is_trainable=is_trainable)
            else:
                with _disable_current_modes():
                    self._count_tensor(site, tensor)
        for site, package in _packages(modules):
            if self._is_new(package):
                for tensor, nbytes in tensors_in_package(package.content):
                    self._add(site, tensor.numel(), nbytes)
                    self.packed[site] = self.packed.get(site, 0) + nbytes

    def _count_tensor(self, site: Site, tensor: Tensor) -> None:
        is_trainable = site[1] == PARAMETER and tensor.requires_grad
        parts = [tensor] if _is_plain(tensor) else parts_of(tensor)
        new = [self._seen.add(part) for part in parts]
        if not any(new):
            return
        if parts[0] is not tensor:
            elements = _numel(tensor)
        elif new[0] == tensor.nbytes and not tensor.is_quantized:
            elements = tensor.numel()
        else:
            # Two tensors may share a part of their memory: that counts for the first.
            elements = tensor.numel() * new[0] // stored_nbytes(tensor)
        self._add(site, elements, sum(new) + scales_nbytes(tensor), is_trainable=is_trainable)

    def _add(self, site: Site, elements: int, nbytes: int, *, is_trainable: bool = False) -> None:
        sums = self._sums.get(site)
        if sums is None:
            sums = self._sums[site] = [0, 0, 0]
        sums[0] += elements if site[1] == PARAMETER else 0
        sums[1] += elements if is_trainable else 0
        sums[2] += nbytes

    def _is_new(self, package: _Package) -> bool:
        """Whether this package is seen for the first time; notes it."""
        known = self._packages.get(package.key)
        if known is not None and known() is package.holder:
            return False
        self._packages[package.key] = weakref.ref(package.holder)
        return True


def _parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that hold the data; asking a plain one for itself calls no operator."""
    if _is_plain(tensor):
        return [tensor]
    with _disable_current_modes():  # looking is no work of the region's
        return parts_of(tensor)


def _owned(modules: _Modules) -> Iterator[tuple[Site, Tensor]]:
    is_transformed = torch._C._functorch.peek_interpreter_stack() is not None
    for full, module in modules:
        for kind, tensors in ((PARAMETER, module._parameters), (BUFFER, module._buffers)):
            for tensor in tensors.values():
                if tensor is None:
                    continue
                if type(tensor) in _PLAIN and not is_transformed:
                    yield (full, kind), tensor
                elif not nn.parameter.is_lazy(tensor):
                    yield (full, kind), _unwrapped(tensor)


def owned_and_lazy(path: str, root: nn.Module) -> tuple[list[tuple[Site, Tensor]], bool]:
    """Every parameter and buffer at and below a root, each with its owner's dotted path.

    Lazy ones that have no shape yet are left out, and the second result says whether there
    are any. Inside a transform such as vmap the tensor that the transform works on stands
    for its slice.
    """
    modules = _modules(path, root)
    owned = list(_owned(modules))
    tensors = sum(
        tensor is not None
        for _, module in modules
        for tensor in (*module._parameters.values(), *module._buffers.values())
    )
    return owned, tensors > len(owned)


@lru_cache(maxsize=16384)
def dotted(*names: str) -> str:
    """The path made of these parts, without the wrapper that `torch.compile` puts around."""
    kept = [name for name in names if name not in _NO_NAMES]
    path = ".".join(kept)
    if "_orig_mod" in path:
        return ".".join(part for part in path.split(".") if part not in _NO_NAMES)
    return path


def parts_of(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that hold a tensor's data: itself, or what it is made of.

    A sparse tensor is made of indices and values, and a subclass such as torchao's names
    its parts itself.
    """
    if hasattr(type(tensor), "__tensor_flatten__"):
        names, _context = tensor.__tensor_flatten__()  # type: ignore[attr-defined]  # asked for above
        inner = [getattr(tensor, name) for name in names]
        return [part for value in inner if isinstance(value, Tensor) for part in parts_of(value)]
    if tensor.is_nested:
        return [tensor.values()]
    return plain_parts_of(tensor) or [tensor]


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor holds its data itself."""
    return type(tensor) in _PLAIN and tensor.layout is torch.strided and not tensor.is_nested


def _numel(tensor: Tensor) -> int:
    """Elements of a tensor that is made of others: of a sparse one, those that it stores."""
    is_subclass = hasattr(type(tensor), "__tensor_flatten__")
    if tensor.layout is torch.strided or is_subclass or tensor.is_nested:
        return int(tensor.numel())
    return parts_of(tensor)[-1].numel()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package:
    """Packed weights, and by whose life they can be told from others."""

    content: Any
    holder: Any
    name: str = ""

    @property
    def key(self) -> tuple[int, str]:
        return id(self.holder), self.name


def _packages(modules: _Modules) -> Iterator[tuple[Site, _Package]]:
    """Every package of quantised weights of the modules, with its owner's path."""
    for full, module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            # Each look at an attribute makes a new object, so the module stands for it.
            for name in _SCRIPTED_NAMES:
                value = getattr(module, name, None)
                if is_packed(value):
                    package = _Package(content=value, holder=module, name=name)
                    yield (full, PARAMETER), package
        else:
            values = vars(module).values()
            if torch.ScriptObject not in map(type, values):
                continue
            for value in values:
                if type(value) is torch.ScriptObject and is_packed(value):
                    yield (full, PARAMETER), _Package(content=value, holder=value)


def _modules(path: str, root: nn.Module) -> _Modules:
    """The root and every module below it, once, each with its dotted path, parents first."""
    found: _Modules = []
    seen: set[int] = set()
    waiting = [(path, root)]
    while waiting:
        at, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        found.append((at, module))
        # The last is taken up first: so the order is that of `named_modules`.
        for name, child in reversed(module._modules.items()):
            if child is not None:
                waiting.append((dotted(at, name), child))
    return found


def _unwrapped(tensor: Tensor) -> Tensor:
    """The tensor under the wrappers of functorch."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor
