"""The formulas of every operator that the counter knows, one file for each family."""

from __future__ import annotations

from pytest_flopbudget.meters.formulas import (
    activations,
    arithmetic,
    attention,
    batchnorm,
    contractions,
    convolution,
    ctc,
    foreach,
    free,
    histograms,
    indexing,
    interpolation,
    losses,
    normalization,
    onednn,
    optimizers,
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
    sparse_pointwise,
    windows,
)
from pytest_flopbudget.meters.formulas.registry import Formula, Work, register_formula

__all__ = ["Formula", "Work", "register_formula"]

FAMILIES = (
    activations,
    arithmetic,
    attention,
    batchnorm,
    contractions,
    convolution,
    ctc,
    foreach,
    free,
    histograms,
    indexing,
    interpolation,
    losses,
    normalization,
    onednn,
    optimizers,
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
    sparse_pointwise,
    windows,
)
"""The modules that fill the registry; importing them is what registers."""
