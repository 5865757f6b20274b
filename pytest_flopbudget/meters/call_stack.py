"""The module calls in progress on one thread, and whose the current operator is."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final, Protocol, TypeAlias

import torch
from torch import nn

from pytest_flopbudget.meters.eager import COMPILED

_current_node: Final[Any] = torch._C._current_autograd_node
_next_sequence_nr: Final[Any] = torch._C._autograd._get_sequence_nr
_ACCUMULATE: Final = (1 << 64) - 1
"""The sequence number of every AccumulateGrad node."""

FEW: Final = 24
"""How many children of a module are looked at one after the other."""

Frame: TypeAlias = tuple[str, nn.Module, int | None]
"""One module call in progress: path, module, and the autograd node inside which it began.

There is one where a checkpoint is recomputed.
"""


class _Lists(dict[type, bool]):
    """Whether modules of a kind hold others in a row, which are called one by one too."""

    def __missing__(self, kind: type) -> bool:
        is_list = self[kind] = issubclass(kind, nn.ModuleList | nn.ModuleDict | nn.Sequential)
        return is_list


IS_LIST: Final = _Lists()


class Names(Protocol):
    """What knows the modules by their names."""

    first_calls: set[str]
    """The paths of the roots whose first call is in progress."""

    def find(self, module: nn.Module, frames: list[Frame]) -> str | None:
        """The path of a module that is called now; None where its call is not to be noted."""

    def root_ended(self, path: str, module: nn.Module) -> None:
        """The first call of a root is over."""

    def owner_of(self, node: Any) -> str:
        """The path of the module whose gradient this node adds up."""


class CallStack:
    """The module calls in progress on one thread, and the path of its current operator.

    Autograd numbers its nodes, in each thread, as the forward makes them; the two lists of
    switches say from which number on which path was making them.
    """

    def __init__(self, base: str, names: Names) -> None:
        """`base`: the path of code under no module."""
        self.base = base
        self.path = base
        """Where the operators belong that are no part of a backward pass."""
        self.kinds: dict[str, type] = {}
        """By path, the class of the first module that was called there."""
        self.repeats: dict[str, int] = {}
        """By path, how many calls came after the first."""
        self._names = names
        self._first_calls = names.first_calls
        self.frames: list[Frame] = []
        """The calls in progress, the inner last."""
        self._switched = -1
        """The last of the numbers."""
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
            return self._names.owner_of(node)
        return self._switch_paths[bisect_right(self._switch_nrs, number) - 1]

    def begin(self, module: nn.Module) -> None:
        """A module's call begins."""
        # One function, as is `end`: in a model of many small modules there is a call for each
        # operator, and calling functions is what listening costs.
        frames = self.frames
        path = None
        if frames:
            # What nearly every call is: that of a child of the module in progress.
            above, holder, _ = frames[-1]
            children: dict[str, Any] = holder._modules
            if len(children) <= FEW:
                for name, child in children.items():
                    if child is module and (
                        not child._modules or child.__class__.__name__ != COMPILED
                    ):
                        path = f"{above}.{name}" if above else name
                        break
                    if IS_LIST[child.__class__]:
                        break  # of two places that it stands in, the first may be in there
        if path is None and (path := self._names.find(module, frames)) is None:
            return
        node = _current_node()
        frames.append((path, module, None if node is None else node._sequence_nr()))
        if path in self.kinds:
            self.repeats[path] = self.repeats.get(path, 0) + 1
        else:
            self.kinds[path] = module.__class__
        self.path = path
        number = _next_sequence_nr()
        if number == self._switched:
            self._switch_paths[-1] = path
        else:
            self._switch(number, path)

    def end(self, module: nn.Module) -> None:
        """A module's call is over, also when it raised."""
        frames = self.frames
        if not frames or frames[-1][1] is not module:
            return  # it began before the region, or is not to be noted
        ended = frames.pop()[0]
        path = self.path = frames[-1][0] if frames else self.base
        number = _next_sequence_nr()
        if number == self._switched:
            self._switch_paths[-1] = path
        else:
            self._switch(number, path)
        if ended in self._first_calls:
            self._names.root_ended(ended, module)

    def _switch(self, number: int, path: str) -> None:
        """Book the backward of what follows on this path."""
        self._switched = number
        self._switch_nrs.append(number)
        self._switch_paths.append(path)
