"""Which module an operator belongs to: by the call stack forward, by autograd backward."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import get_ident
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from pytest_flopbudget.meters.eager import is_compiled, untraced
from pytest_flopbudget.meters.storages import Site
from pytest_flopbudget.meters.weights import dotted, owned_and_lazy

_current_node: Final[Any] = torch._C._current_autograd_node
_next_sequence_nr: Final[Any] = torch._C._autograd._get_sequence_nr
_tracing_state: Final[Any] = torch._C._get_tracing_state
_ACCUMULATE: Final = (1 << 64) - 1
"""The sequence number of every AccumulateGrad node."""


@dataclass(slots=True)
class ModuleCalls:
    """One path that was called."""

    type: str
    calls: int = 0


class _Frame(NamedTuple):
    """One module call in progress."""

    path: str
    module: weakref.ref[nn.Module]
    backward_nr: int | None
    """The autograd node inside which the call began, as when a checkpoint is recomputed."""


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
        if self.frames and self.frames[-1].backward_nr == number:
            return self.path
        if number == _ACCUMULATE:
            return self._owner(node)
        return self._switch_paths[bisect_right(self._switch_nrs, number) - 1]

    def push(self, path: str, module: nn.Module, node: Any) -> None:
        """Note that a call has begun, inside this node of autograd's or none."""
        number = None if node is None else node._sequence_nr()
        self.frames.append(_Frame(path, weakref.ref(module), number))
        self.switch(path)

    def pop(self, module: nn.Module) -> bool:
        """Note that the module's call is over; false when it began before the region."""
        frames = self.frames
        if frames and frames[-1].module() is module:
            frames.pop()
        elif any(frame.module() is module for frame in frames):
            while frames.pop().module() is not module:
                pass  # calls that a raising hook of the user's own left open
        else:
            return False
        self.switch(frames[-1].path if frames else self.base)
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
        on_root: Callable[[list[tuple[Site, Tensor]]], None],
        on_root_done: Callable[[str, nn.Module], None],
    ) -> None:
        """What hears of roots.

        on_root: of what a new one owns; on_root_done: of each, when it first ran.
        """
        self.called: dict[str, ModuleCalls] = {}
        self._on_root = on_root
        self._on_root_done = on_root_done
        self._done: set[str] = set()
        self._lazy: set[str] = set()
        self._roots: list[tuple[str, weakref.ref[nn.Module]]] = []
        self._names: dict[int, tuple[weakref.ref[nn.Module], dict[int, str]]] = {}
        self._children: dict[
            int, tuple[weakref.ref[nn.Module], dict[int, tuple[Any, str, str]]]
        ] = {}
        self._owners: dict[int, tuple[weakref.ref[Any], str]] = {}
        self.main = CallStack("", self._owner)
        self._stacks: dict[int, CallStack] = {}
        self._handles: list[Any] = []
        if root is not None:
            self._add_root(root)

    def start(self) -> None:
        """Begin to follow the calls of this thread."""
        self._stacks[get_ident()] = self.main
        self._handles = [
            register_module_forward_pre_hook(self._before),
            register_module_forward_hook(self._after, always_call=True),
        ]

    def stop(self) -> None:
        """Follow no more calls; what was learnt stays."""
        for handle in self._handles:
            handle.remove()
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
        variable = node.variable
        ref, path = self._owners.get(id(variable), (None, ""))
        return path if ref is not None and ref() is variable else ""

    def _stack(self, node: Any) -> CallStack | None:
        stack = self._stacks.get(get_ident())
        return self.main if stack is None and node is not None else stack

    def _before(self, module: nn.Module, _args: Any) -> None:
        if _tracing_state() is None:
            self._begin(module)
        else:
            with untraced():
                self._begin(module)

    def _begin(self, module: nn.Module) -> None:
        node = _current_node()
        stack = self._stack(node)
        if stack is None or is_compiled(module):
            return
        path = self._path_of(module, stack)
        stack.push(path, module, node)
        entry = self.called.get(path)
        if entry is None:
            entry = self.called[path] = ModuleCalls(type(module).__name__)
        entry.calls += 1

    def _after(self, module: nn.Module, _args: Any, _output: Any) -> None:
        if _tracing_state() is None:
            self._end(module)
        else:
            with untraced():
                self._end(module)

    def _end(self, module: nn.Module) -> None:
        stack = self._stacks.get(get_ident()) or self._stack(_current_node())
        if stack is None or not stack.pop(module):
            return
        if stack.frames and len(self._done) == len(self._roots):
            return
        for path, root in self._roots:
            if root() is module and path not in self._done:
                self._done.add(path)
                if path in self._lazy:
                    # Again, since lazy parameters have come to be only now.
                    self._learn_owners(path, module)
                self._on_root_done(path, module)

    def _path_of(self, module: nn.Module, stack: CallStack) -> str:
        if stack.frames:
            # What nearly every call is: that of a child of the module in progress.
            frame = stack.frames[-1]
            above = frame.module()
            if above is not None and (child := self._child(above, module)) is not None:
                return dotted(frame.path, child)
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
        for frame in reversed(stack.frames):
            above = frame.module()
            if above is None:
                continue
            child = self._child(above, module)
            if child is not None:
                return dotted(frame.path, child)
            if (path := self._below(frame.path, above, module)) is not None:
                return path
        for root_path, root in self.roots:
            if (path := self._below(root_path, root, module)) is not None:
                return path
        return None

    def _child(self, above: nn.Module, module: nn.Module) -> str | None:
        """The name of `module` when it is a child of `above`, which is what most calls are to."""
        known = self._children.get(id(above))
        if known is None or known[0]() is not above:
            children = {
                id(child): (holder, key, name) for holder, key, name, child in _children(above)
            }
            known = self._children[id(above)] = (weakref.ref(above), children)
        found = known[1].get(id(module))
        if found is None:
            return None
        holder, key, name = found
        return name if holder._modules.get(key) is module else None

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
        self._learn_owners(path, module)
        return path

    def _learn_owners(self, root_path: str, root: nn.Module) -> None:
        """Note which module owns each parameter of the root, for its gradient."""
        owned, has_lazy = owned_and_lazy(root_path, root)
        for (path, _), tensor in owned:
            known = self._owners.get(id(tensor))
            if known is None or known[0]() is not tensor:
                # Unknown, or at the address of another one, which is gone.
                self._owners[id(tensor)] = (weakref.ref(tensor), path)
        if has_lazy:
            self._lazy.add(root_path)
        self._on_root(owned)


def _children(
    above: nn.Module, holder: nn.Module | None = None, prefix: str = ""
) -> Iterator[tuple[nn.Module, str, str, nn.Module]]:
    """Holder, key, dotted name and module of each child; those in lists and dicts as well.

    Of one that stands in two places the first comes last, so that it is what is kept.
    """
    holder = above if holder is None else holder  # an empty list of modules is false
    for key, child in reversed(holder._modules.items()):
        if child is not None:
            if isinstance(child, nn.ModuleList | nn.ModuleDict):
                yield from _children(above, child, f"{prefix}{key}.")
            yield holder, key, prefix + key, child


def _is_at(above: nn.Module, name: str, module: nn.Module) -> bool:
    """Whether the module still is where its name says."""
    at: nn.Module | None = above
    for part in name.split("."):
        at = None if at is None else at._modules.get(part)
    return at is module
