"""Histograms. A value is put into its bin by arithmetic where bins are even, else by search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula

_EVEN_BIN: Final = 5
"""FLOPs of finding an even bin: two comparisons with the range, and a subtraction, a multiply
and a division."""


def _density(bins: Sequence[int]) -> int:
    """FLOPs of dividing all bins by their sum, and by their width in each dimension.

    The widths of a dimension are the differences of its edges.
    """
    all_bins = math.prod(bins)
    return 2 * all_bins - 1 + sum(size + all_bins for size in bins)


def _range(points: int, dims: int) -> int:
    """Comparisons of finding the least and the greatest value of each dimension."""
    return 2 * dims * max(0, points - 1)


@formula("histc")
def histc(
    x: Tensor, _bins: int = 100, low: Any = 0, high: Any = 0, *, out: Tensor, **_: Any
) -> int:
    """FLOPs of a histogram with even bins.

    x: n elements -> out: [bins]
    Counts 6n: two comparisons with the range, a subtraction, a multiply and a division
    for the number of the bin, and the add to it; and 2(n - 1) comparisons for the range
    where the arguments give none.
    Source: the definition in the documentation of torch.histc.
    """
    n = x.numel()
    return (_EVEN_BIN + 1) * n + (_range(n, 1) if low == high else 0)


@formula("histogram")
def histogram(
    x: Tensor,
    bins: int | Tensor = 100,
    *,
    out: Any,
    range: list[float] | None = None,  # noqa: A002 - the operator's own name
    weight: Tensor | None = None,
    density: bool = False,
) -> int:
    """FLOPs of a histogram with even bins, or with given edges.

    x: n elements, bins: a number or [edges] -> out: [bins] and their edges
    Counts, with even bins, 6n: two comparisons with the range, a subtraction, a multiply
    and a division for the number of the bin, and the add to it; and 2(n - 1) comparisons
    for the range where the arguments give none. With edges ceil(log2(edges + 1))
    comparisons and an add for each element. A density takes 4 * bins - 1 more: the sum
    of all bins, the division by it, the width of each bin and the division by that.
    Source: the definition in the documentation of torch.histogram.
    """
    n = x.numel()
    flops = n + (_density([out[0].numel()]) if density else 0)
    if isinstance(bins, Tensor):
        return flops + n * bins.numel().bit_length()
    return flops + _EVEN_BIN * n + (_range(n, 1) if range is None else 0)


@formula("_histogramdd_bin_edges")
def histogram_edges(
    x: Tensor,
    bins: list[int],
    *,
    out: Any,
    range: list[float] | None = None,  # noqa: A002 - the operator's own name
    **_: Any,
) -> int:
    """FLOPs of finding the edges of the bins of a histogram in several dimensions.

    x: [n, d] -> out: d tensors of edges
    Counts 2(n - 1) comparisons for each dimension where the arguments give no range.
    Source: the definition in the documentation of torch.histogramdd. Edges at even steps
    are free, as `linspace` is.
    """
    return _range(x.numel() // len(bins), len(bins)) if range is None else 0


@formula("_histogramdd_from_bin_cts")
def histogram_of_points(
    x: Tensor,
    bins: list[int],
    *,
    out: Tensor,
    range: list[float] | None = None,  # noqa: A002 - the operator's own name
    density: bool = False,
    **_: Any,
) -> int:
    """FLOPs of a histogram with even bins in several dimensions.

    x: [n, d], bins: d numbers -> out: [b1, ..., bd]
    Counts 5 for each point and dimension (two comparisons with the range, a subtraction,
    a multiply and a division) and an add for each point; 2(n - 1) comparisons for the
    range of each dimension where the arguments give none. With b the product of all
    bins, a density takes 2b - 1 for the sum and the division by it, and for each
    dimension its widths and b divisions.
    Source: the definition in the documentation of torch.histogramdd.
    """
    points, dims = x.numel() // len(bins), len(bins)
    flops = points * (_EVEN_BIN * dims + 1) + (_density(bins) if density else 0)
    return flops + (_range(points, dims) if range is None else 0)


@formula("_histogramdd_from_bin_tensors")
def histogram_between_edges(
    x: Tensor, bins: list[Tensor], *, out: Tensor, density: bool = False, **_: Any
) -> int:
    """FLOPs of a histogram between given edges in several dimensions.

    x: [n, d], bins: d tensors [edges] -> out: [b1, ..., bd]
    Counts ceil(log2(edges + 1)) comparisons for each point and dimension, and an add for
    each point. With b the product of all bins, a density takes 2b - 1 for the sum and
    the division by it, and for each dimension its widths and b divisions.
    Source: binary search, and the definition in the documentation of torch.histogramdd.
    """
    points = x.numel() // len(bins)
    searching = sum(edges.numel().bit_length() for edges in bins)
    return points * (searching + 1) + (_density(list(out.shape)) if density else 0)
