"""What of the tests that the user asks for is there on a side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_TAKE_A_VALUE: Final = frozenset({"-W", "-c", "-k", "-m", "-n", "-o", "-p", "-r"})
"""Options of pytest and pytest-xdist whose value may be the argument after them."""
_NOTHING: Final = "--ignore-glob=*"
"""Where no path is left: without any, pytest would run all tests."""


def missing_paths(arguments: Sequence[str], here: Path, other: Path) -> tuple[str, ...]:
    """The files and folders among pytest's arguments that are there, but not here.

    Those that are nowhere are not among them: that is for pytest to say.
    here, other: where pytest runs on this side and on the other.
    """
    return tuple(
        argument
        for argument in _positional(arguments)
        if (other / _file(argument)).exists() and not (here / _file(argument)).exists()
    )


def arguments_without(arguments: Sequence[str], missing: Sequence[str]) -> tuple[str, ...]:
    """Pytest's arguments without these paths; none of its tests where no other path is left."""
    if not missing:
        return tuple(arguments)
    kept = tuple(argument for argument in arguments if argument not in missing)
    return kept if list(_positional(kept)) else (*kept, _NOTHING)


def _positional(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments that are no options, and cannot be the value of one."""
    for before, argument in zip(("", *arguments), arguments, strict=False):
        is_value = before in _TAKE_A_VALUE or (before.startswith("--") and "=" not in before)
        if not argument.startswith("-") and not is_value:
            yield argument


def _file(argument: str) -> str:
    """The file of a test's id, such as `tests/test_it.py` of `tests/test_it.py::test_one`."""
    return argument.partition("::")[0]
