"""The formulas of every operator that the counter knows, one file for each family."""

from __future__ import annotations

from pytest_flopbudget.meters.formulas import (
    attention,
    batchnorm,
    contractions,
    convolution,
    ctc,
    free,
    histograms,
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
    scans,
    scatter,
    softmax,
    sorting,
    windows,
)
from pytest_flopbudget.meters.formulas.registry import Formula, Work, register_formula

__all__ = ["Formula", "Work", "register_formula"]

FAMILIES = (
    attention,
    batchnorm,
    contractions,
    convolution,
    ctc,
    free,
    histograms,
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
    scans,
    scatter,
    softmax,
    sorting,
    windows,
)
"""The modules that fill the registry; importing them is what registers."""
