"""Strict reading of decoded JSON: every mistake is one line that names the file and the key."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, TypeVar

from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.quantity import LARGEST

EnumT = TypeVar("EnumT", bound=enum.Enum)

_SHOWN: Final = 40
"""Characters of a wrong value that a message repeats."""

LARGEST_NUMBER: Final = 1e300
"""Beyond it, shares of two whole numbers no longer fit a float."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value of the document, and the way that led to it."""

    value: object
    where: str
    """The file, as messages name it."""
    path: str = ""
    """Keys from the top, such as `tests[2].line`; empty for the document itself."""

    def error(self, problem: str) -> ReportError:
        """A complaint about this value, ready to be raised."""
        return ReportError(": ".join(filter(None, (self.where, self.path, problem))))

    def wrong(self, expected: str) -> ReportError:
        """A complaint that this value is not what it should be."""
        found = json.dumps(self.value, default=repr)
        if len(found) > _SHOWN:
            found = found[:_SHOWN] + "..."
        return self.error(f"expected {expected}, found {found}")

    def maybe(self, key: str) -> Node | None:
        """The value of a key that may be left out, or be null."""
        value = self._table().get(key)
        return None if value is None else Node(value, self.where, self._below(key))

    def __getitem__(self, key: str) -> Node:
        table = self._table()
        if key not in table:
            raise self.error(f"{key} is missing")
        return Node(table[key], self.where, self._below(key))

    def entries(self) -> Iterator[tuple[str, Node]]:
        """The keys and values of a table."""
        for key, value in self._table().items():
            yield key, Node(value, self.where, self._below(key))

    def items(self) -> Iterator[Node]:
        """The members of a list."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        for index, value in enumerate(self.value):
            yield Node(value, self.where, f"{self.path}[{index}]")

    def text(self) -> str:
        """A text."""
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(item.text() for item in self.items())

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def count(self) -> int:
        """A whole number, not below zero, and such as can be counted."""
        # A bool is an int to Python, and not to JSON.
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 0:
            raise self.wrong("a whole number, zero or more")
        if self.value > LARGEST:
            raise self.error(f"a count beyond {LARGEST:.0e}")
        return self.value

    def number(self) -> int | float:
        """A finite number, whole or not."""
        if not isinstance(self.value, (int, float)) or isinstance(self.value, bool):
            raise self.wrong("a number")
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise self.wrong("a finite number")
        if abs(self.value) > LARGEST_NUMBER:
            raise self.wrong("a number below 1e300")
        return self.value

    def real(self) -> float:
        """A finite number, as a float."""
        return float(self.number())

    def fraction(self) -> Fraction:
        """A finite number, as the decimal that was written."""
        value = self.number()
        return Fraction(value) if isinstance(value, int) else Fraction(repr(value))

    def member(self, kind: type[EnumT]) -> EnumT:
        """One of the words of an enumeration."""
        for member in kind:
            if member.value == self.value:
                return member
        raise self.wrong("one of " + ", ".join(str(member.value) for member in kind))

    def text_or_none(self, key: str) -> str | None:
        """The text under a key that may be left out, or be null."""
        item = self.maybe(key)
        return None if item is None else item.text()

    def plain(self) -> Any:
        """Whatever JSON can say, checked to hold no number that JSON cannot."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.entries()}
        if isinstance(self.value, (list, tuple)):
            return [
                Node(value, self.where, f"{self.path}[{index}]").plain()
                for index, value in enumerate(self.value)
            ]
        if self.value is None or isinstance(self.value, (str, bool)):
            return self.value
        return self.number()

    def _table(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise self.wrong("a table")
        return self.value

    def _below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def finite(value: float | None, where: str) -> int | float | None:
    """The same number, on its way out. Raises ReportError for one that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ReportError(f"{where}: {value} cannot stand in a report: it is not a finite number")
    return value
