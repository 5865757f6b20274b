"""What is timed in one repetition, and how the processes are started that time it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "workloads"
WORKLOADS = ("w5", "w50")


@dataclass(frozen=True, slots=True)
class Case:
    """One test: the base's workload against one that is so many per cent longer."""

    workload: str
    growth: int
    copy: int
    """Several tests may ask the same, with models of their own."""

    @property
    def name(self) -> str:
        """The name that the tests have in their parameters."""
        return f"{self.workload}-{self.growth}-{self.copy}"

    @classmethod
    def named(cls, name: str) -> Case:
        """The case of this name."""
        workload, growth, copy = name.split("-")
        return cls(workload, int(growth), int(copy))


def cases_of(copies: Mapping[int, int], workloads: Sequence[str] = WORKLOADS) -> list[Case]:
    """All cases with so many copies of each growth in per cent; the first copies come first."""
    return [
        Case(workload, growth, copy)
        for workload in workloads
        for copy in range(max(copies.values()))
        for growth, count in copies.items()
        if copy < count
    ]


def environ(side: str, cases: Sequence[Case], pins: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a process of one side."""
    return {
        **{name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")},
        **pins,
        "POWER_SIDE": side,
        "POWER_CASES": " ".join(case.name for case in cases),
    }
