"""Which module an operator belongs to: by the call stack forward, by autograd backward."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from threading import get_ident
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from pytest_flopbudget.meters.eager import COMPILED
from pytest_flopbudget.meters.weights import dotted

_current_node: Final[Any] = torch._C._current_autograd_node
_next_sequence_nr: Final[Any] = torch._C._autograd._get_sequence_nr
_ACCUMULATE: Final = (1 << 64) - 1
"""The sequence number of every AccumulateGrad node."""
_FEW: Final = 24
"""How many children of a module are looked at one after the other."""


_Frame: TypeAlias = tuple[str, nn.Module, int | None]
"""One module call in progress: path, module, and the autograd node inside which it began.

There is one where a checkpoint is recomputed.
"""
_NO_FRAME: Final = ("", None, None)


class CallStack:
    """The module calls in progress on one thread, and the path of its current operator.

    Autograd numbers its nodes, in each thread, as the forward makes them; the two lists of
    switches say from which number on which path was making them.
    """

    def __init__(self, base: str, owner: Callable[[Any], str]) -> None:
        """`base`: the path of code under no module; `owner`: whose gradient a node adds up."""
        self.base = base
        self.path = base
        self._owner = owner
        self.frames: list[_Frame] = []
        """The calls in progress, the inner last."""
        self._switch_nrs: list[int] = [-1]
        self._switch_paths: list[str] = [base]

    def current(self) -> str:
        """The path that the operator now dispatched belongs to."""
        node = _current_node()
        if node is None:
            return self.path
        number = node._sequence_nr()
        if self.frames and self.frames[-1][2] == number:
            return self.path
        if number == _ACCUMULATE:
            return self._owner(node)
        return self._switch_paths[bisect_right(self._switch_nrs, number) - 1]

    def pop(self, module: nn.Module) -> bool:
        """Note that the module's call is over; false when it began before the region."""
        frames = self.frames
        if not frames or frames[-1][1] is not module:
            return False
        frames.pop()
        self.switch(frames[-1][0] if frames else self.base)
        return True

    def switch(self, path: str) -> None:
        """Book what follows on this path, and the backward of it."""
        self.path = path
        number = _next_sequence_nr()
        if self._switch_nrs[-1] == number:
            self._switch_paths[-1] = path
        else:
            self._switch_nrs.append(number)
            self._switch_paths.append(path)


class ModulePaths:
    """Follows module calls from `start` to `stop`, and names the path of the current operator.

    The first module that is called is the root, and its path is ``""``; the modules
    below it have their dotted names. Another root, such as a loss, has its class name.
    Operators of a backward pass belong to the module that ran the forward; the
    accumulation of a gradient belongs to the module that owns the parameter.

    Each thread has a call stack of its own. What a thread runs that has none, as autograd's
    own threads do, belongs to the thread that started the region and now waits for it.
    """

    def __init__(
        self,
        root: nn.Module | None = None,
        *,
        on_root: Callable[[str, nn.Module], None],
        on_root_done: Callable[[str, nn.Module, bool], None],
        owner: Callable[[Tensor], str],
    ) -> None:
        """What hears of roots, and what knows whose a parameter is.

        on_root: called as the first call of one begins; on_root_done: as that call ends, with
        whether a module, a parameter or a buffer was registered meanwhile.
        owner: the path of the module that owns a parameter.
        """
        self.called: dict[str, tuple[str, int]] = {}
        """The class name of the module at each path that was called, and how often it was."""
        self._on_root = on_root
        self._on_root_done = on_root_done
        self._owner_of = owner
        self.begun: dict[str, int] = {}
        """The roots whose first call has begun, each with how much was registered until then."""
        self._done: set[str] = set()
        self._registrations = 0
        self._roots: list[tuple[str, weakref.ref[nn.Module]]] = []
        self._names: dict[int, tuple[weakref.ref[nn.Module], dict[int, str]]] = {}
        self._children: dict[int, tuple[weakref.ref[nn.Module], dict[int, str]]] = {}
        self.main = CallStack("", self._owner)
        self._stacks: dict[int, CallStack] = {}
        if root is not None:
            self._add_root(root)

    def start(self) -> None:
        """Begin to follow the calls of this thread."""
        self._stacks[get_ident()] = self.main

    def stop(self) -> None:
        """Follow no more calls; what was learnt stays."""
        self._stacks.clear()

    def follow(self, base: str) -> CallStack:
        """The call stack of this thread from now on; `base` is what it works for."""
        stack = self._stacks[get_ident()] = CallStack(base, self._owner)
        return stack

    def forget(self) -> None:
        """Follow this thread no longer."""
        self._stacks.pop(get_ident(), None)

    @property
    def roots(self) -> list[tuple[str, nn.Module]]:
        """The root modules that are still alive, by path, in the order of their first call."""
        return [(path, module) for path, ref in self._roots if (module := ref()) is not None]

    def _owner(self, node: Any) -> str:
        return self._owner_of(node.variable)

    def registered(self) -> None:
        """Some module has been given a parameter, a buffer or a module."""
        self._registrations += 1

    def begin(self, module: nn.Module) -> None:
        """A module's call begins."""
        kind = type(module).__name__
        node = _current_node()
        stack = self._stacks.get(get_ident())
        if stack is None:
            if node is None:
                return
            stack = self.main
        if kind == COMPILED:
            return
        # What nearly every call is: that of a child of the module in progress.
        above, holder, _ = stack.frames[-1] if stack.frames else _NO_FRAME
        name = None if holder is None else self._name_in(holder, module)
        if name is not None:
            path = f"{above}.{name}" if above else name
        else:
            path = self._path_of(module, stack)
            self._begin_root(path, module)
        stack.frames.append((path, module, None if node is None else node._sequence_nr()))
        stack.switch(path)
        known = self.called.get(path)
        self.called[path] = (kind, 1) if known is None else (known[0], known[1] + 1)

    def end(self, module: nn.Module) -> None:
        """A module's call is over, also when it raised."""
        stack = self._stacks.get(get_ident())
        if stack is None:
            if _current_node() is None:
                return
            stack = self.main
        if not stack.pop(module) or (stack.frames and len(self._done) == len(self._roots)):
            return
        for path, root in self._roots:
            if root() is module and path not in self._done:
                self._done.add(path)
                self._on_root_done(path, module, self.begun.get(path) != self._registrations)

    def _begin_root(self, path: str, module: nn.Module) -> None:
        """Tell of a root's first call, where this is one."""
        if path not in self.begun and any(
            path == known and root() is module for known, root in self._roots
        ):
            self.begun[path] = self._registrations
            self._on_root(path, module)

    def _path_of(self, module: nn.Module, stack: CallStack) -> str:
        learnt = list(self._names)
        path = self._search(module, stack)
        if path is None and learnt:
            # It may have come in, deep below, since those names were learnt. Whether it is found
            # must not hang on its address, which may be that of the one whose place it took.
            for key in learnt:
                self._names.pop(key, None)  # unless another thread has just done so
            path = self._search(module, stack)
        return self._add_root(module) if path is None else path

    def _search(self, module: nn.Module, stack: CallStack) -> str | None:
        """The path of `module` below the modules in progress, the inner first, or a root."""
        for frame_path, above, _ in reversed(stack.frames):
            name = self._name_in(above, module)
            if name is not None:
                return dotted(frame_path, name)
            if (path := self._below(frame_path, above, module)) is not None:
                return path
        for root_path, root in self.roots:
            if (path := self._below(root_path, root, module)) is not None:
                return path
        return None

    def _name_in(self, above: nn.Module, module: nn.Module) -> str | None:
        """The name of `module` as a child of `above`, or in a list or dict of modules of its.

        Of one that stands in two places, that of the first.
        """
        if len(above._modules) > _FEW and (key := self._key_among_many(above, module)) is not None:
            return key
        children: dict[str, Any] = above._modules
        for key, child in children.items():
            if child is module:
                return key
            if child is not None and child._modules and _is_list(child.__class__):
                name = self._name_in(child, module)
                if name is not None:
                    return f"{key}.{name}"
        return None

    def _key_among_many(self, above: nn.Module, module: nn.Module) -> str | None:
        """The name of a child where looking at one after the other would take long."""
        known = self._children.get(id(above))
        if known is None or known[0]() is not above:
            children = {id(child): key for key, child in reversed(above._modules.items())}
            known = self._children[id(above)] = (weakref.ref(above), children)
        key = known[1].get(id(module))
        return key if key is not None and above._modules.get(key) is module else None

    def _below(self, path: str, above: nn.Module, module: nn.Module) -> str | None:
        """The path of `module` when it is `above` or lies below it."""
        if module is above:
            return path
        if not above._modules:
            return None
        ref, names = self._names.get(id(above), (None, {}))
        if ref is None or ref() is not above:
            # A module that stands in two places has the name of the first.
            names = {id(m): name for name, m in above.named_modules()}
            self._names[id(above)] = (weakref.ref(above), names)
        name = names.get(id(module))
        if name is None or not _is_at(above, name, module):
            # It may have been added, or have taken another's place, since.
            name = next((n for n, child in above._modules.items() if child is module), None)
        if name is None:
            return None
        return dotted(path, name)

    def _add_root(self, module: nn.Module) -> str:
        taken = {path for path, _ in self._roots}
        path = "" if not taken else type(module).__name__
        number = 2
        while path in taken:
            path = f"{type(module).__name__}#{number}"
            number += 1
        self._roots.append((path, weakref.ref(module)))
        return path


@cache
def _is_list(kind: type) -> bool:
    """Whether modules of this kind hold others in a row, which are called one by one too."""
    return issubclass(kind, nn.ModuleList | nn.ModuleDict | nn.Sequential)


def _is_at(above: nn.Module, name: str, module: nn.Module) -> bool:
    """Whether the module still is where its name says."""
    at: nn.Module | None = above
    for part in name.split("."):
        at = None if at is None else at._modules.get(part)
    return at is module
