"""One of the two states of the source that are held against each other."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flopbudget.core.errors import FlopBudgetError


class SideError(FlopBudgetError):
    """A side cannot be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Where a side is, and how its processes are started."""

    name: str
    """`base` or `head`."""
    directory: Path
    """Where pytest runs: the project in the checkout of this side."""
    environ: Mapping[str, str]
    """The whole environment of its processes."""
    python: str = sys.executable
    arguments: Sequence[str] = ()
    """What the user gives pytest, as far as it is there on this side."""

    def pytest(self, options: Sequence[str]) -> list[str]:
        """The command that runs pytest on this side, with these options behind the user's."""
        return [self.python, "-m", "pytest", *self.arguments, *options]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What is held against what."""

    base: Side
    head: Side
