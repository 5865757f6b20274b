"""Why code does not run on fake tensors: which line of it, and what to write instead."""

from __future__ import annotations

import linecache
import logging
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

import pytest_flopbudget
from pytest_flopbudget.core.errors import MeasureError

_PYTHON: Final = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib")
)
_NOT_THE_USERS: Final = tuple(
    str(Path(package.__file__).resolve().parent)
    for package in (torch, pytest_flopbudget)
    if package.__file__ is not None
)
_INSTALLED: Final = ("site-packages", "dist-packages")

_NO_VALUES: Final = (
    "and fake tensors have no values: pass what it works out as an argument (a number, an "
    "explicit attention mask), move it out of the measured call, or measure without fake"
)


TO_NUMPY: Final = f"hands the data of a tensor to NumPy, {_NO_VALUES}"
NO_CUDA: Final = (
    "makes a fake tensor for CUDA, which this build of torch, without CUDA, cannot do; fake "
    "tensors stand for the CPU here: leave the device out"
)


def _no_kernel(operator: str) -> str:
    return (
        f"calls {operator}, which has no kernel for fake tensors; give it one with "
        "torch.library.register_fake, or measure without fake"
    )


_BY_MESSAGE: Final = {
    ".numpy() is not supported for tensor subclasses": TO_NUMPY,
    "no fake impl registered": _no_kernel("a custom operator"),
    "not linked with support for cuda": NO_CUDA,
    "Mixing fake modes": (
        "puts fake tensors of two FakeTensorModes together; make them all under "
        "pytest_flopbudget.fake()"
    ),
    "NestedTensorImpl doesn't support": (
        "makes a nested tensor, which a fake one cannot stand for; turn that off (for an "
        "encoder: enable_nested_tensor=False), or measure without fake"
    ),
    "tolist() shouldn't be called": f"reads the values of a tensor, {_NO_VALUES}",
    "Cannot access data pointer": f"reads the data of a tensor, {_NO_VALUES}",
    "its data is not allocated yet": f"reads or writes the data of a tensor, {_NO_VALUES}",
}
"""What torch says in exceptions that have no class of their own, and what the line does."""


class UnfakeableError(RuntimeError):
    """Something that a fake tensor cannot stand for; the message says what the line does."""


@contextmanager
def explained() -> Iterator[None]:
    """A block whose code runs on fake tensors; where it cannot, the error says which line.

    Raises MeasureError in place of torch's own exceptions of fake tensors. Any other
    exception propagates as it is.
    """
    try:
        yield
    except MeasureError:
        raise
    except Exception as error:
        does = _what_the_line_does(error)
        if does is None:
            raise
        raise MeasureError(f"{_place(error)} {does}") from error


def quiet(record: logging.LogRecord) -> bool:
    """Whether torch may log this; the errors that it also raises are told once."""
    return not record.getMessage().startswith("failed while attempting to run meta")


def _what_the_line_does(error: Exception) -> str | None:
    """What cannot be done on fake tensors; None when that is not why it failed."""
    said = str(error)
    if isinstance(error, UnfakeableError):
        return said
    if isinstance(error, DataDependentOutputException):
        return f"reads a value out of a tensor ({_name(error.func)}), {_NO_VALUES}"
    if isinstance(error, DynamicOutputShapeException):
        return f"makes a tensor whose size depends on values ({_name(error.func)}), {_NO_VALUES}"
    if isinstance(error, UnsupportedOperatorException):
        return _no_kernel(_name(error.func))
    if isinstance(error, UnsupportedFakeTensorException):
        return f"uses a tensor that cannot be fake ({error.reason}); measure without fake"
    return next((does for words, does in _BY_MESSAGE.items() if words in said), None)


def _name(func: object) -> str:
    return str(func).removesuffix(".default")


def _place(error: Exception) -> str:
    """File, line and text of the innermost line that is neither torch's nor ours.

    Where that is a library's, the innermost line of the user's own code as well.
    """
    inner = [_line_of(frame, at) for frame, at in traceback.walk_tb(error.__traceback__)]
    # What calls the block that failed is not in the traceback.
    outer = [_line_of(frame, at) for frame, at in traceback.walk_stack(None)]
    lines = [line for line in (*reversed(outer), *inner) if line.is_known]
    if not lines:
        return "the measured code"
    own = [line for line in lines if not line.is_installed]
    place = lines[-1].text
    if own and own[-1] is not lines[-1]:
        place += f" (called from {own[-1].position})"
    return place


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the running code."""

    file: Path
    number: int

    @property
    def is_known(self) -> bool:
        """Whether it is the user's or a library's: not ours, torch's or Python's own."""
        is_foreign = not any(self.file.is_relative_to(folder) for folder in _NOT_THE_USERS)
        is_python = any(self.file.is_relative_to(folder) for folder in _PYTHON)
        return is_foreign and (self.is_installed or not is_python)

    @property
    def is_installed(self) -> bool:
        """Whether it belongs to an installed package."""
        return not set(_INSTALLED).isdisjoint(self.file.parts)

    @property
    def position(self) -> str:
        """File and number; the file below the packages or below the working folder."""
        shown = str(self.file)
        for folder in _INSTALLED:
            if folder in self.file.parts:
                shown = shown.rpartition(f"/{folder}/")[2]
        if self.file.is_relative_to(Path.cwd()):
            shown = str(self.file.relative_to(Path.cwd()))
        return f"{shown}:{self.number}"

    @property
    def text(self) -> str:
        """Position and source."""
        source = linecache.getline(str(self.file), self.number).strip()
        return f"{self.position}: " + (f"`{source}`" if source else "this line")


def _line_of(frame: FrameType, number: int) -> _Line:
    return _Line(Path(frame.f_code.co_filename).resolve(), number)
