"""The formulas of every operator that the counter knows, one file for each family."""

from __future__ import annotations

from pytest_flopbudget.meters.formulas import (
    activations,
    arithmetic,
    attention,
    contractions,
    convolution,
    foreach,
    free,
    indexing,
    losses,
    normalization,
    optimizers,
    pointwise,
    pooling,
    recurrent,
    reductions,
    sparse_pointwise,
)
from pytest_flopbudget.meters.formulas.registry import Formula, Work, register_formula

__all__ = ["Formula", "Work", "register_formula"]

FAMILIES = (
    activations,
    arithmetic,
    attention,
    contractions,
    convolution,
    foreach,
    free,
    indexing,
    losses,
    normalization,
    optimizers,
    pointwise,
    pooling,
    recurrent,
    reductions,
    sparse_pointwise,
)
"""The modules that fill the registry; importing them is what registers."""
