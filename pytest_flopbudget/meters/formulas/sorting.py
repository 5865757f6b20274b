"""Sorting, selecting, searching and counting. One comparison is one operation.

How many comparisons an algorithm takes depends on the data, so that each operator counts
the leading order of a named algorithm, from sizes alone. Moving elements is free, and so
is keeping their positions.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula


def _sorting(n: int) -> int:
    """Comparisons of a merge sort of n elements."""
    return n * (n - 1).bit_length() if n > 0 else 0


def _selecting(n: int, k: int) -> int:
    """Comparisons that find the k-th smallest of n elements, and part the rest by it."""
    return n - 1 + min(k - 1, n - k) if 0 < k <= n else 0


def _searching(n: int) -> int:
    """Comparisons of a binary search among n elements for one of n + 1 places."""
    return n.bit_length()


def _rows(x: Tensor, dim: int) -> tuple[int, int]:
    """How many rows x has along `dim`, and how long they are."""
    size = x.shape[dim] if x.dim() else 1
    return (x.numel() // size if size else 0), size


@formula("sort")
def sort(x: Tensor, dim: int = -1, _descending: bool = False, *, out: Any, **_: Any) -> int:
    """Comparisons of sorting along one dimension.

    x: [..., n, ...] -> values and indices of the same shape
    Counts n * ceil(log2(n)) comparisons for each row.
    Source: merge sort to leading order (Knuth, The Art of Computer Programming, volume 3,
    5.2.4), stable or not.
    """
    rows, n = _rows(x, dim)
    return rows * _sorting(n)


@formula("kthvalue")
def kth_value(x: Tensor, k: int, dim: int = -1, *_args: Any, out: Any) -> int:
    """Comparisons of finding the k-th smallest along one dimension.

    x: [..., n, ...] -> values and indices [...]
    Counts n - 1 + min(k - 1, n - k) comparisons for each row.
    Source: Floyd and Rivest, Expected Time Bounds for Selection (1975), leading order.
    """
    rows, n = _rows(x, dim)
    return rows * _selecting(n, k)


def _median(x: Tensor, dim: int | None) -> int:
    """Comparisons of selecting the lower median of all elements, or along a dimension."""
    rows, n = (1, x.numel()) if dim is None else _rows(x, dim)
    return rows * _selecting(n, (n + 1) // 2)


@formula("median")
def median(x: Tensor, dim: int | None = None, *_args: Any, out: Any) -> int:
    """Comparisons of finding the median, of all elements or along one dimension.

    x: [..., n, ...] -> values and indices [...], or a scalar
    Counts n - 1 + floor((n - 1) / 2) comparisons for each row.
    Source: Floyd and Rivest, Expected Time Bounds for Selection (1975), leading order.
    """
    return _median(x, dim)


@formula("nanmedian")
def median_without_nan(x: Tensor, dim: int | None = None, *_args: Any, out: Any) -> int:
    """Comparisons of finding the median of what is a number.

    x: [..., n, ...] -> values and indices [...], or a scalar
    Counts what the median counts, and n comparisons for each row to leave out what is
    not a number.
    Source: Floyd and Rivest, Expected Time Bounds for Selection (1975), leading order.
    All elements are taken to be numbers, since the count must not depend on data.
    """
    return _median(x, dim) + x.numel()


@formula("mode")
def mode(x: Tensor, dim: int = -1, *_args: Any, out: Any) -> int:
    """Comparisons of finding the most frequent value along one dimension.

    x: [..., n, ...] -> values and indices [...]
    Counts sorting, n * ceil(log2(n)), and n - 1 comparisons of neighbours for each row.
    Source: the algorithm of torch's kernel.
    """
    rows, n = _rows(x, dim)
    return rows * (_sorting(n) + max(0, n - 1))


@formula("topk")
def top_k(
    x: Tensor,
    k: int,
    dim: int = -1,
    _largest: bool = True,
    is_sorted: bool = True,
    *,
    out: Any,
) -> int:
    """Comparisons of finding the k largest or smallest along one dimension.

    x: [..., n, ...] -> values and indices [..., k, ...]
    Counts, for each row, selecting: n - 1 + min(k - 1, n - k), and sorting what was
    selected unless `sorted` is off: k * ceil(log2(k)).
    Source: Floyd and Rivest, Expected Time Bounds for Selection (1975), leading order,
    and merge sort.
    """
    rows, n = _rows(x, dim)
    return rows * (_selecting(n, k) + (_sorting(k) if is_sorted else 0))


@formula("_unique", "_unique2")
def unique(x: Tensor, *_args: Any, out: Any, **_: Any) -> int:
    """Comparisons of finding the distinct elements.

    x: n elements -> one tensor of them, inverse and counts
    Counts sorting, n * ceil(log2(n)), and n - 1 comparisons of neighbours.
    Source: merge sort to leading order. The same where torch hashes, whose cost depends
    on the data.
    """
    n = x.numel()
    return _sorting(n) + max(0, n - 1)


@formula("unique_dim")
def unique_slices(x: Tensor, dim: int, *_args: Any, out: Any, **_: Any) -> int:
    """Comparisons of finding the distinct slices along one dimension.

    x: [..., m, ...] with m slices of n elements -> the distinct ones, inverse and counts
    Counts sorting the slices, n * m * ceil(log2(m)), and n * (m - 1) comparisons of
    neighbours.
    Source: merge sort to leading order. Slices are compared whole.
    """
    n, m = _rows(x, dim)
    return n * (_sorting(m) + max(0, m - 1))


@formula("unique_consecutive")
def unique_neighbours(
    x: Tensor, _inverse: bool = False, _counts: bool = False, dim: int | None = None, *, out: Any
) -> int:
    """Comparisons of leaving out what equals the element, or the slice, before it.

    x: n elements, or m slices of n elements along a dimension
    Counts n - 1 comparisons, or n * (m - 1) with a dimension.
    Source: the definition.
    """
    n, m = (1, x.numel()) if dim is None else _rows(x, dim)
    return n * max(0, m - 1)


@formula("unique_dim_consecutive")
def unique_neighbour_slices(x: Tensor, dim: int, *_args: Any, out: Any, **_: Any) -> int:
    """Comparisons of leaving out the slices that equal the one before.

    x: [..., m, ...] with m slices of n elements
    Counts n * (m - 1) comparisons.
    Source: the definition.
    """
    n, m = _rows(x, dim)
    return n * max(0, m - 1)


@formula("bucketize")
def bucketize(_values: Any, boundaries: Tensor, *, out: Tensor, **_: Any) -> int:
    """Comparisons of finding the bucket of each value.

    values: any shape or a number, boundaries: [n] -> out: the shape of values
    Counts ceil(log2(n + 1)) comparisons for each value.
    Source: binary search for one of n + 1 places.
    """
    return out.numel() * _searching(boundaries.numel())


@formula("searchsorted")
def search_sorted(sequence: Tensor, _values: Any, *, out: Tensor, **_: Any) -> int:
    """Comparisons of finding the place of each value in a sorted sequence.

    sequence: [..., n], values: [..., m] or a number -> out: the shape of values
    Counts ceil(log2(n + 1)) comparisons for each value.
    Source: binary search for one of n + 1 places.
    """
    return out.numel() * _searching(sequence.shape[-1])


@formula("bincount")
def count_bins(x: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """Operations of counting, or of adding up weights, by a number of a bin.

    x: [n] numbers of bins, weights: [n] or None -> out: [bins]
    Counts n adds.
    Source: the definition in the documentation of torch.bincount.
    """
    return x.numel()
