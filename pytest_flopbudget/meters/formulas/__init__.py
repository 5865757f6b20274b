"""The formulas of every operator that the counter knows, one file for each family."""

from __future__ import annotations

from pytest_flopbudget.meters.formulas import (
    attention,
    contractions,
    convolution,
    free,
    losses,
    normalization,
    pointwise,
    pooling,
    quantized,
    quantized_elementwise,
    quantized_onednn,
    quantized_recurrent,
    quantizing,
    recurrent,
    reductions,
)
from pytest_flopbudget.meters.formulas.registry import Formula, Work, register_formula

__all__ = ["Formula", "Work", "register_formula"]

FAMILIES = (
    attention,
    contractions,
    convolution,
    free,
    losses,
    normalization,
    pointwise,
    pooling,
    quantized,
    quantized_elementwise,
    quantized_onednn,
    quantized_recurrent,
    quantizing,
    recurrent,
    reductions,
)
"""The modules that fill the registry; importing them is what registers."""
