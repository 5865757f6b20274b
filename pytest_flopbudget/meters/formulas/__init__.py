"""The formulas of every operator that the counter knows, one file for each family."""

from __future__ import annotations

from pytest_flopbudget.meters.formulas import (
    attention,
    contractions,
    convolution,
    free,
    interpolation,
    losses,
    normalization,
    onednn,
    padding,
    pointwise,
    pooling,
    recurrent,
    reductions,
    sampling,
    windows,
)
from pytest_flopbudget.meters.formulas.registry import Formula, Work, register_formula

__all__ = ["Formula", "Work", "register_formula"]

FAMILIES = (
    attention,
    contractions,
    convolution,
    free,
    interpolation,
    losses,
    normalization,
    onednn,
    padding,
    pointwise,
    pooling,
    recurrent,
    reductions,
    sampling,
    windows,
)
"""The modules that fill the registry; importing them is what registers."""
