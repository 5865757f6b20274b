"""What is known of a base."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flopbudget.core.legs import Series
from pytest_flopbudget.core.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The report of a base, or why there is none."""

    report: Report | None = None
    age: int = 0
    """How many commits older than the right base the one is that was measured."""
    history: tuple[Series, ...] = ()
    missing: str = ""
    """Why there is no report."""
