"""Parameters and buffers of the modules that ran: how many, how large, whose."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from pytest_flopbudget.meters.extents import SeenMemory
from pytest_flopbudget.meters.modes import unheard
from pytest_flopbudget.meters.packed import (
    is_packed,
    scales_nbytes,
    stored_nbytes,
    tensors_in_package,
)
from pytest_flopbudget.meters.storages import BUFFER, PARAMETER, PLAIN, Site, storage_of
from pytest_flopbudget.meters.storages import parts_of as plain_parts_of

# Looked up once: a root is looked through with cold caches, between two kernels.
_tracing_state: Final = torch._C._get_tracing_state
_function_depth: Final = torch._C._len_torch_function_stack
_transforms: Final = torch._C._functorch.peek_interpreter_stack
_has_graph: Final = torch.is_grad_enabled
_SCRIPT_OBJECT: Final = torch.ScriptObject
_IMAGES: Final = 4
"""Dimensions of what can have its channels last."""
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

_Modules: TypeAlias = list[tuple[str, nn.Module]]
"""Dotted path and module of a root and of every module below it."""
_Whole: TypeAlias = tuple[Any, Site, int, int, bool]
"""A parameter or buffer that has its storage for itself, in one piece.

A weak reference to the storage, whose it is, elements, bytes, and whether it is trained.
"""


class Weights:
    """The parameters and buffers of the roots that ran; shared storage is counted once.

    Also the weights that quantised modules keep elsewhere, packed for a library.

    A root is looked through once where all that it owns is plain: that counts as it is when its
    first call begins. What is not, and a root in which something was registered during that call,
    is looked through again at its end, and counts as it is then.
    """

    def __init__(self) -> None:
        self._sums: dict[Site, tuple[int, int, int]] = {}
        self.packed: dict[Site, int] = {}
        """Bytes that no tensor shows: they are alive all the time."""
        self._seen = SeenMemory()
        self._packages: dict[tuple[int, str], weakref.ref[Any]] = {}
        self.labels: dict[int, _Whole] = {}
        """Whose a storage is, by the id of its Python object, which lives as long as itself."""
        self._owners: dict[int, tuple[weakref.ref[nn.Module], str]] = {}
        """By the id of a parameter, the module that holds it, and its path.

        No reference to the parameter itself: one that has any cannot be swapped for another, as
        torch does when it converts some models.
        """
        self._whole: dict[str, list[_Whole]] = {}
        """By root: what is yet to be added to the sums."""
        self._odd: set[str] = set()
        """The roots that own something else too."""
        self._expected: dict[str, weakref.ref[nn.Module]] = {}
        """The roots that are to be looked through when the first question comes."""

    @property
    def by_site(self) -> Mapping[Site, tuple[int, int, int]]:
        """What was counted, by module and whether it is a parameter or a buffer.

        `params`, `trainable_params` and `model_size`, in this order.
        """
        self._add_whole()
        return self._sums

    def expect(self, path: str, root: nn.Module) -> None:
        """Look through a root only once somebody asks about what it owns."""
        self._expected[path] = weakref.ref(root)

    def learn(self, path: str, root: nn.Module) -> None:
        """Note what a root owns: whose each storage is, and what there is to count."""
        if _tracing_state() is None and not _function_depth():
            self._learn(path, root)
            return
        with unheard():
            self._learn(path, root)

    def settle(self, path: str, root: nn.Module, has_changed: bool) -> None:
        """Count a root whose first call is over, where what was noted is not all."""
        if not has_changed and path not in self._odd:
            return
        with unheard():
            self._learn(path, root)
            if path in self._odd:
                self._add_whole()
                self._count(path, root)

    def label(self, tensor: Tensor, storage: torch.UntypedStorage) -> Site | None:
        """The owner of the tensor's storage, if a root owns it."""
        if self._expected:
            self._learn_expected()
        if type(tensor) not in PLAIN and (original := ORIGINALS.get(tensor)) is not None:
            named = original()
            known = None if named is None else storage_of(named)
            if known is None:
                return None
            storage = known
        whole = self.labels.get(id(storage))
        return whole[1] if whole is not None and whole[0]() is storage else None

    def owner(self, parameter: Tensor) -> str | None:
        """The path of the module that owns a parameter, if a root does."""
        if self._expected:
            self._learn_expected()
        if (path := self._noted_owner(parameter)) is not None:
            return path
        storage = storage_of(parameter)
        site = None if storage is None else self.label(parameter, storage)
        return None if site is None else site[0]

    def _noted_owner(self, parameter: Tensor) -> str | None:
        known = self._owners.get(id(parameter))
        module = None if known is None else known[0]()
        if known is None or module is None:
            return None
        held = (*module._parameters.values(), *module._buffers.values())
        return known[1] if any(tensor is parameter for tensor in held) else None

    def _learn_expected(self) -> None:
        for path, ref in list(self._expected.items()):
            if (root := ref()) is not None:
                self.learn(path, root)
        self._expected.clear()

    def _learn(self, path: str, root: nn.Module) -> None:
        """Look through a root once: all that is asked of each tensor is asked here."""
        self._expected.pop(path, None)
        modules = _modules(path, root)
        whole: list[_Whole] = []
        try:
            is_plain = self._learn_plain(modules, whole)
        except (NotImplementedError, RuntimeError):
            is_plain = False  # such as a sparse tensor, which has no storage of its own
        if is_plain:
            self._odd.discard(path)
            self._whole[path] = whole
        else:
            self._odd.add(path)
            self._whole[path] = []
            with unheard():
                self._learn_odd(modules)

    def _learn_plain(self, modules: _Modules, whole: list[_Whole]) -> bool:
        """Note what the modules own, up to the first that is not alone in its storage.

        False where there is one. It may be a tensor of any kind, or a weight that is packed; or
        the modules may run within a transform such as vmap.
        """
        if _transforms() is not None:
            return False
        if any(map(_may_have_packages, modules)):
            return False
        labels, has_graph = self.labels, _has_graph()
        for module, site, tensor in _tensors(modules):
            if type(tensor) not in PLAIN:
                return False
            is_trained = tensor.requires_grad
            storage = tensor.untyped_storage()
            nbytes = storage.nbytes()
            if (
                tensor.nbytes != nbytes
                or not nbytes
                or not (tensor.is_contiguous() or _has_channels_last(tensor))
                or (not is_trained and tensor.is_quantized)  # what is trained is no integer
            ):
                return False
            ref = weakref.ref(storage)
            entry = (ref, site, tensor.numel(), nbytes, is_trained)
            whole.append(entry)
            known = labels.get(id(storage))
            if known is None or known[0] is not ref:
                # Unknown, or at the address of another one, which is gone.
                labels[id(storage)] = entry
            if is_trained and has_graph:
                self._note_owner(module, tensor, site[0])
        return True

    def _note_owner(self, module: nn.Module, tensor: Tensor, path: str) -> None:
        if self._noted_owner(tensor) is None:
            self._owners[id(tensor)] = (weakref.ref(module), path)

    def _learn_odd(self, modules: _Modules) -> None:
        """Note whose each storage is where not all tensors are plain."""
        for module, site, tensor in _owned(modules):
            self._note_owner(module, tensor, site[0])
            for part in _parts(tensor):
                storage = storage_of(part)
                if storage is None:
                    continue
                ref = weakref.ref(storage)
                known = self.labels.get(id(storage))
                if known is None or known[0] is not ref:
                    self.labels[id(storage)] = (ref, site, 0, 0, False)

    def _add_whole(self) -> None:
        """Add what was noted of plain roots to the sums."""
        for whole in self._whole.values():
            for ref, site, elements, nbytes, is_trained in whole:
                if new := self._seen.add_whole(ref, nbytes):
                    is_trainable = is_trained and site[1] == PARAMETER
                    self._add(site, elements * new // nbytes, new, is_trainable=is_trainable)
        self._whole.clear()

    def _count(self, path: str, root: nn.Module) -> None:
        """Count the parameters and buffers of a root module, those seen before left out."""
        modules = _modules(path, root)
        for _, site, tensor in _owned(modules):
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
        params, trainable, size = self._sums.get(site, (0, 0, 0))
        if site[1] == PARAMETER:
            params += elements
        if is_trainable:
            trainable += elements
        self._sums[site] = params, trainable, size + nbytes

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


def _tensors(modules: _Modules) -> Iterator[tuple[nn.Module, Site, Tensor]]:
    """Every parameter and buffer, each with its owner and that one's dotted path."""
    for full, module in modules:
        for kind, tensors in ((PARAMETER, module._parameters), (BUFFER, module._buffers)):
            if tensors:
                site = full, kind
                for tensor in tensors.values():
                    if tensor is not None:
                        yield module, site, tensor


def _owned(modules: _Modules) -> Iterator[tuple[nn.Module, Site, Tensor]]:
    """The same with lazy ones that have no shape yet left out.

    Inside a transform such as vmap the tensor that the transform works on stands for its slice.
    """
    for module, site, tensor in _tensors(modules):
        if not nn.parameter.is_lazy(tensor):
            yield module, site, _unwrapped(tensor)


def _has_channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == _IMAGES and tensor.is_contiguous(memory_format=torch.channels_last)


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
    return type(tensor) in PLAIN and tensor.layout is torch.strided and not tensor.is_nested


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


@cache
def _is_scripted(kind: type) -> bool:
    return issubclass(kind, torch.jit.ScriptModule)


def _may_have_packages(at: tuple[str, Any]) -> bool:
    """Whether the module may have quantised weights that are packed."""
    _, module = at
    return _SCRIPT_OBJECT in map(type, vars(module).values()) or _is_scripted(module.__class__)


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
            if _SCRIPT_OBJECT not in map(type, values):
                continue
            for value in values:
                if type(value) is _SCRIPT_OBJECT and is_packed(value):
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
