"""Compute budgets for PyTorch code: exact counts, honest timings, explained deltas.

Importing this package imports neither torch nor pytest; each name below is
loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pytest_flopbudget.core.measurement import Measurement
    from pytest_flopbudget.meters.counter import FlopCounter
    from pytest_flopbudget.meters.fake import fake
    from pytest_flopbudget.meters.formulas import Work, register_formula
    from pytest_flopbudget.meters.latency import LatencyTimer
    from pytest_flopbudget.meters.measure import measure
    from pytest_flopbudget.meters.memory import MemoryTracker

__all__ = [
    "FlopCounter",
    "LatencyTimer",
    "Measurement",
    "MemoryTracker",
    "Work",
    "fake",
    "measure",
    "register_formula",
]

_HOMES: Final = {
    "FlopCounter": "pytest_flopbudget.meters.counter",
    "LatencyTimer": "pytest_flopbudget.meters.latency",
    "Measurement": "pytest_flopbudget.core.measurement",
    "MemoryTracker": "pytest_flopbudget.meters.memory",
    "Work": "pytest_flopbudget.meters.formulas",
    "fake": "pytest_flopbudget.meters.fake",
    "measure": "pytest_flopbudget.meters.measure",
    "register_formula": "pytest_flopbudget.meters.formulas",
}


def __getattr__(name: str) -> Any:
    """The public name, from its module, imported at first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
