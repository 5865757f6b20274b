"""The modules of a region by their names, and the call stacks of its threads."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import get_ident
from typing import Any

from torch import Tensor, nn

from pytest_flopbudget.meters.call_stack import FEW, IS_LIST, CallStack, Frame
from pytest_flopbudget.meters.eager import COMPILED
from pytest_flopbudget.meters.module_calls import listen, unlisten
from pytest_flopbudget.meters.weights import dotted


class ModulePaths:
    """Names the modules that are called from `start` to `stop`.

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
        self._on_root = on_root
        self._on_root_done = on_root_done
        self._owner = owner
        self.begun: dict[str, int] = {}
        """The roots whose first call has begun, each with how much was registered until then."""
        self.first_calls: set[str] = set()
        """Those of them whose first call is in progress."""
        self._registrations = 0
        self._roots: dict[str, weakref.ref[nn.Module]] = {}
        self._names: dict[int, tuple[weakref.ref[nn.Module], dict[int, str]]] = {}
        self._children: dict[int, tuple[weakref.ref[nn.Module], dict[int, str]]] = {}
        self.main = CallStack("", self)
        self._stacks: dict[int, CallStack] = {}
        """By the thread whose calls they follow."""
        self._all_stacks = [self.main]
        """Those of threads that have ended too."""
        if root is not None:
            self._add_root(root)

    def start(self) -> None:
        """Begin to follow the calls of this thread."""
        self._follow(self.main)

    def stop(self) -> None:
        """Follow no more calls, nor the end of those in progress; what was learnt stays."""
        for thread, stack in list(self._stacks.items()):  # other threads are forgotten meanwhile
            unlisten(thread, stack)
            stack.frames.clear()
        self._stacks.clear()

    def follow(self, base: str) -> CallStack:
        """The call stack of this thread from now on; `base` is what it works for."""
        stack = CallStack(base, self)
        self._all_stacks.append(stack)
        self._follow(stack)
        return stack

    def forget(self) -> None:
        """Follow this thread no longer."""
        thread = get_ident()
        stack = self._stacks.pop(thread, None)
        if stack is not None:
            unlisten(thread, stack)

    def _follow(self, stack: CallStack) -> None:
        thread = get_ident()
        self._stacks[thread] = stack
        listen(thread, stack)

    @property
    def roots(self) -> list[tuple[str, nn.Module]]:
        """The root modules that are still alive, by path, in the order of their first call."""
        return [
            (path, module) for path, ref in self._roots.items() if (module := ref()) is not None
        ]

    @property
    def called(self) -> dict[str, tuple[str, int]]:
        """By path, the class name of the first module called there, and how often one was."""
        called: dict[str, tuple[str, int]] = {}
        for stack in self._all_stacks:
            for path, kind in stack.kinds.items():
                name, calls = called.get(path, (kind.__name__, 0))
                called[path] = name, calls + 1 + stack.repeats.get(path, 0)
        return called

    def owner_of(self, node: Any) -> str:
        """The path of the module whose gradient this node adds up."""
        return self._owner(node.variable)

    def registered(self) -> None:
        """Some module has been given a parameter, a buffer or a module."""
        self._registrations += 1

    def find(self, module: nn.Module, frames: list[Frame]) -> str | None:
        """The path of a module that is called now; None where its call is not to be noted."""
        if type(module).__name__ == COMPILED:
            return None
        if frames:
            above, holder, _ = frames[-1]
            name = self._name_in(holder, module)
            if name is not None:
                return dotted(above, name)
        path = self._path_of(module, frames) if self._roots else self._add_root(module)
        root = self._roots.get(path)
        if root is not None and root() is module and path not in self.begun:
            self.begun[path] = self._registrations
            self.first_calls.add(path)
            self._on_root(path, module)
        return path

    def root_ended(self, path: str, module: nn.Module) -> None:
        """The first call of a root is over."""
        self.first_calls.discard(path)
        self._on_root_done(path, module, self.begun[path] != self._registrations)

    def _path_of(self, module: nn.Module, frames: list[Frame]) -> str:
        learnt = list(self._names)
        path = self._search(module, frames)
        if path is None and learnt:
            # It may have come in, deep below, since those names were learnt. Whether it is found
            # must not hang on its address, which may be that of the one whose place it took.
            for key in learnt:
                self._names.pop(key, None)  # unless another thread has just done so
            path = self._search(module, frames)
        return self._add_root(module) if path is None else path

    def _search(self, module: nn.Module, frames: list[Frame]) -> str | None:
        """The path of `module` below the modules in progress, the inner first, or a root."""
        for frame_path, above, _ in reversed(frames):
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
        if len(above._modules) > FEW and (key := self._key_among_many(above, module)) is not None:
            return key
        children: dict[str, Any] = above._modules
        for key, child in children.items():
            if child is module:
                return key
            if IS_LIST[child.__class__]:
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
        path = "" if not self._roots else type(module).__name__
        number = 2
        while path in self._roots:
            path = f"{type(module).__name__}#{number}"
            number += 1
        self._roots[path] = weakref.ref(module)
        return path


def _is_at(above: nn.Module, name: str, module: nn.Module) -> bool:
    """Whether the module still is where its name says."""
    at: nn.Module | None = above
    for part in name.split("."):
        at = None if at is None else at._modules.get(part)
    return at is module
