"""The source line that an operator comes from: the user's own, forward and backward."""

from __future__ import annotations

import sys
import sysconfig
from bisect import bisect_right
from pathlib import Path
from types import FrameType
from typing import Any, Final

import torch

_current_node: Final[Any] = torch._C._current_autograd_node
_next_sequence_nr: Final[Any] = torch._C._autograd._get_sequence_nr
_NOT_THE_USERS: Final = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parents[1]),
    sysconfig.get_path("stdlib") + "/contextlib",
    sysconfig.get_path("stdlib") + "/threading",
    sysconfig.get_path("stdlib") + "/concurrent",
    sysconfig.get_path("purelib") + "/_pytest",
    sysconfig.get_path("purelib") + "/pluggy",
    sysconfig.get_path("scripts"),
    "<",
)
"""Where code lives that only passes calls on: torch, this package, pytest, and their like."""


class SourceLines:
    """Tells the line of the operator that is being dispatched, such as `model.py:12`.

    It is the innermost line that is neither torch's nor ours. An operator of a backward
    pass belongs to the line that ran the forward; a gradient's accumulation to the line
    that started the backward.
    """

    def __init__(self) -> None:
        # From which number on the nodes that autograd made belong to which line.
        self._nrs: list[int] = [-1]
        self._lines: list[str] = [""]
        self._next_nr = _next_sequence_nr()
        self._names: dict[str, bool] = {}

    def current(self) -> str:
        """The line as `PATH:NUMBER`; empty where no code of the user's is running."""
        node = _current_node()
        if node is not None and (number := node._sequence_nr()) < 1 << 63:
            return self._lines[bisect_right(self._nrs, number) - 1]
        line = self._calling_line()
        if node is None:
            # An operator comes here after its node was made, and after those of no other.
            if line != self._lines[-1]:
                self._nrs.append(self._next_nr)
                self._lines.append(line)
            self._next_nr = _next_sequence_nr()
        return line

    def _calling_line(self) -> str:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            is_passing = self._names.get(name)
            if is_passing is None:
                is_passing = self._names[name] = name.startswith(_NOT_THE_USERS)
            if not is_passing:
                return f"{name}:{frame.f_lineno}"
            frame = frame.f_back
        return ""


def shortened(line: str) -> str:
    """The line with its path relative to the working folder, or to where it is imported from."""
    path, _, number = line.rpartition(":")
    for root in (str(Path.cwd()), *sorted(sys.path, key=len, reverse=True)):
        if root and Path(path).is_relative_to(root):
            return f"{Path(path).relative_to(root).as_posix()}:{number}"
    return line
