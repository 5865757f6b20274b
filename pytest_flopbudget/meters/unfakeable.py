"""Why code does not run on fake tensors: which line of it, and what to write instead."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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

_LIBRARY: Final = tuple(
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


def _what_the_line_does(error: Exception) -> str | None:  # noqa: PLR0911 - one for each kind
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
    if ".numpy() is not supported for tensor subclasses" in said:
        return f"hands the data of a tensor to NumPy, {_NO_VALUES}"
    if "no fake impl registered" in said:
        return _no_kernel("a custom operator")
    if "Mixing fake modes" in said:
        return (
            "puts fake tensors of two FakeTensorModes together; make them all under "
            "pytest_flopbudget.fake()"
        )
    if "Cannot access data pointer" in said:
        return f"reads the data of a tensor, {_NO_VALUES}"
    return None


def _no_kernel(operator: str) -> str:
    return (
        f"calls {operator}, which has no kernel for fake tensors; give it one with "
        "torch.library.register_fake, or measure without fake"
    )


def _name(func: object) -> str:
    return str(func).removesuffix(".default")


def _place(error: Exception) -> str:
    """File, line and text of the innermost line that is neither torch's nor ours.

    Where that is a library's, the innermost line of the user's own code as well.
    """
    frames = [
        (str(Path(frame.f_code.co_filename).resolve()), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    foreign = [frame for frame in frames if not _is_below(frame[0], _NOT_THE_USERS)]
    foreign = [frame for frame in foreign if _is_installed(frame[0]) or not _is_stdlib(frame[0])]
    if not foreign:
        return "the measured code"
    file, line = foreign[-1]
    text = linecache.getline(file, line).strip()
    place = f"{_short(file)}:{line}:" + (f" `{text}`" if text else " this line")
    own = [frame for frame in foreign if not _is_installed(frame[0])]
    if own and _is_installed(file):
        place += f" (called from {_short(own[-1][0])}:{own[-1][1]})"
    return place


def _is_below(file: str, folders: tuple[str, ...]) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in folders)


def _is_stdlib(file: str) -> bool:
    return _is_below(file, _LIBRARY)


def _is_installed(file: str) -> bool:
    return not set(_INSTALLED).isdisjoint(Path(file).parts)


def _short(file: str) -> str:
    """The path below the folder of installed packages or below the working folder."""
    for folder in _INSTALLED:
        if folder in Path(file).parts:
            return file.rpartition(f"/{folder}/")[2]
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
