"""Reductions. Adding n numbers takes n - 1 adds, and so do comparisons."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula

_COMPLEX_ABS: Final = 4
"""`sqrt(re * re + im * im)`: two multiplies, an add and a root."""
_COMPLEX_EXP: Final = 5
"""`exp(re) * (cos(im), sin(im))`: three functions and two multiplies."""
_COMPLEX_LOG: Final = 6
"""`(log(abs(z)), atan2(im, re))`: an absolute value and two functions."""


def _first(result: Any) -> Tensor:
    """The first tensor of a result; `max` by dimension returns two."""
    return result if isinstance(result, Tensor) else result[0]


def adding(x: Tensor) -> int:
    """FLOPs of adding two numbers such as those of x."""
    return 2 if x.is_complex() else 1


def multiplying(x: Tensor) -> int:
    """FLOPs of multiplying two numbers such as those of x."""
    return 6 if x.is_complex() else 1


def _broadcast(a: Tensor, b: Tensor) -> int:
    """Elements of what two tensors broadcast to."""
    return int(math.prod(torch.broadcast_shapes(a.shape, b.shape)))


def _combinations(x: Tensor, result: Any) -> int:
    """How often two numbers become one when x is reduced to the result."""
    return max(0, x.numel() - _first(result).numel())


@formula("sum", "amax", "amin", "max", "min", "argmax", "argmin")
def reduction(x: Tensor, *args: Any, out: Any, **_: Any) -> int:
    """FLOPs of reducing some dimensions to one number each.

    x: [..., n, ...] -> out: [...]
    Counts n - 1 adds or comparisons for each element of out; for complex numbers an add
    is two.
    Source: the definition. With two tensors `max` and `min` compare them by element.
    """
    if args and isinstance(args[0], Tensor):
        return _first(out).numel()
    return _combinations(x, out) * adding(_first(out))


@formula("nansum")
def sum_without_nan(x: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a sum over some dimensions that takes what is not a number for zero.

    x: [..., n, ...] -> out: [...]
    Counts n - 1 adds for each element of out, and n comparisons for floating point.
    Source: the definition, as torch's own decomposition writes it.
    """
    return _combinations(x, out) + x.numel() * x.is_floating_point()


@formula("prod")
def product(x: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a product over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts n - 1 multiplies for each element of out; for complex numbers each is six.
    Source: the definition.
    """
    return _combinations(x, out) * multiplying(out)


@formula("trace")
def trace(x: Tensor, *, out: Tensor) -> int:
    """FLOPs of adding up the diagonal of a matrix.

    x: [m, n] -> a scalar
    Counts min(m, n) - 1 adds; for complex numbers each is two.
    Source: the definition.
    """
    return max(0, min(x.shape) - 1) * adding(x)


@formula("aminmax", "_aminmax")
def both_extremes(x: Tensor, *_args: Any, out: Any, **_: Any) -> int:
    """FLOPs of the minimum and the maximum over some dimensions.

    x: [..., n, ...] -> two tensors [...]
    Counts n - 1 comparisons for each element of both.
    Source: the definition, as torch's own decomposition writes it.
    """
    return 2 * _combinations(x, out)


@formula("count_nonzero")
def count_nonzero(x: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """Operations of counting what is not zero over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts n comparisons with zero (none for truth values, 2n for complex numbers) and
    n - 1 adds for each element of out.
    Source: the definition, as torch's own decomposition writes it.
    """
    comparisons = 0 if x.dtype is torch.bool else x.numel() * adding(x)
    return comparisons + _combinations(x, out)


@formula("mean")
def mean(x: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a mean over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts n - 1 adds and one division for each element of out; for complex numbers each
    is two.
    Source: the definition.
    """
    return x.numel() * adding(out)


@formula("var", "var_mean")
def variance(x: Tensor, *_args: Any, out: Any, **_: Any) -> int:
    """FLOPs of a variance over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts the mean (n), subtract and square (2n), n - 1 adds and one division: 4n. For
    complex numbers the mean (2n), subtract (2n), the square of the absolute value (3n),
    n - 1 adds and one division: 8n.
    Source: the definition, in two passes.
    """
    return (8 if x.is_complex() else 4) * x.numel()


@formula("std", "std_mean")
def deviation(x: Tensor, *_args: Any, out: Any, **_: Any) -> int:
    """FLOPs of a standard deviation over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts the variance and one square root for each element of out.
    Source: the definition, in two passes.
    """
    return (8 if x.is_complex() else 4) * x.numel() + _first(out).numel()


def _to_the(p: float, is_complex: bool) -> int:
    """FLOPs of `abs(x) ** p` for one number, as its p-norm needs it."""
    absolute = _COMPLEX_ABS if is_complex else 1
    if p == 0:
        return 2 if is_complex else 1  # it is compared with zero
    if p == 1 or math.isinf(p):
        return absolute
    if p == 2:  # noqa: PLR2004 - a square needs no absolute value
        return 3 if is_complex else 1
    return absolute + 1


def power_sum(elements: int, results: int, p: Any, *, is_complex: bool) -> int:
    """FLOPs of `sum(abs(x) ** p)` of so many elements to so many results."""
    power = _to_the(2.0 if p is None else float(p), is_complex)
    return power * elements + max(0, elements - results)


def p_norm(elements: int, results: int, p: Any, *, is_complex: bool) -> int:
    """FLOPs of the p-norms of so many elements to so many results."""
    has_root = p is None or not (p in (0, 1) or math.isinf(p))
    return power_sum(elements, results, p, is_complex=is_complex) + results * has_root


@formula("linalg_vector_norm", "norm", "native_norm")
def vector_norm(x: Tensor, p: Any = 2, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a p-norm over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts for each element of x: a multiply for p = 2, an absolute value for 1 and
    infinity, a comparison for 0, else an absolute value and a power; for each element of
    out: n - 1 adds or comparisons, and a root but for 0, 1 and infinity. For complex
    numbers an absolute value is 4, its square 3, the comparison 2.
    Source: the definition in the documentation of torch.linalg.vector_norm. torch's own
    decomposition takes powers and roots of 1 too, and no absolute value for an even p.
    """
    return p_norm(x.numel(), out.numel(), p, is_complex=x.is_complex())


@formula("linalg__powsum")
def vector_power_sum(x: Tensor, p: Any = 2, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a sum of p-th powers over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts what the p-norm counts, but no root.
    Source: the definition.
    """
    return power_sum(x.numel(), out.numel(), p, is_complex=x.is_complex())


@formula("dist")
def distance(a: Tensor, b: Tensor, p: Any = 2, *, out: Tensor) -> int:
    """FLOPs of the p-norm of a difference.

    a, b: broadcast to n elements -> a scalar
    Counts n subtractions, twice that for complex numbers, and the p-norm of n elements.
    Source: the definition in the documentation of torch.dist.
    """
    elements = _broadcast(a, b)
    is_complex = a.is_complex() or b.is_complex()
    norm = p_norm(elements, 1, p, is_complex=is_complex)
    return (2 if is_complex else 1) * elements + norm


@formula("renorm")
def renorm(x: Tensor, p: Any, dim: int, _max_norm: Any, *, out: Tensor) -> int:
    """FLOPs of scaling down the slices whose p-norm is too large.

    x: [..., m, ...] in m slices -> out: the same shape
    Counts the p-norms of the slices; for each slice a comparison, an add and a division;
    and one multiply for each element, two for a complex one.
    Source: the documentation of torch.renorm. Every slice is scaled, since counts must not
    depend on data.
    """
    slices = x.shape[dim]
    norms = p_norm(x.numel(), slices, p, is_complex=x.is_complex())
    return norms + 3 * slices + x.numel() * adding(x)


@formula("embedding_renorm")
def embedding_renorm(
    table: Tensor, indices: Tensor, _max_norm: float, p: float, *, out: Tensor
) -> int:
    """FLOPs of scaling down the rows of a table that are looked up, if they are too long.

    table: [rows, d], indices: any shape -> the table
    Counts renorm of one row for each index, but of no more rows than the table has.
    Source: the documentation of max_norm in torch.nn.Embedding. Every index is taken to
    be another row, and every row to be too long, since counts must not depend on data.
    """
    rows = min(indices.numel(), table.shape[0])
    elements = rows * table.shape[1]
    return p_norm(elements, rows, p, is_complex=False) + 3 * rows + elements


@formula("allclose")
def allclose(
    a: Tensor,
    b: Tensor,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
    *,
    out: bool,
) -> int:
    """FLOPs of asking whether two tensors are close to each other.

    a, b: broadcast to n elements
    Counts 10n: a comparison of both, difference and absolute value, the tolerance
    (a multiply, an absolute value and an add), the comparison with it, and three for
    whether the difference is finite; n without tolerances; 2n more with equal_nan. For
    complex numbers 19n, with comparisons, a difference and a multiply by a real number
    of 2 and absolute values of 4; 2n without tolerances; 4n more with equal_nan.
    Source: torch.isclose, as torch composes it; without an early return.
    """
    is_complex = a.is_complex() or b.is_complex()
    comparison = 2 if is_complex else 1
    each = (1 + 2 * equal_nan) * comparison
    if rtol != 0 or atol != 0:
        each += 17 if is_complex else 9
    return each * _broadcast(a, b)


@formula("logsumexp")
def logsumexp(x: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of the logarithm of a sum of exponentials over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts n - 1 comparisons, n subtractions, n exponentials, n - 1 adds, a logarithm
    and an add for each element of out: 4n. For complex numbers the maximum is that of the
    real parts, an exponential 5, an add of two of them 2 and the logarithm 6: 9n + 4.
    Source: the stable definition, with the maximum taken out.
    """
    if not x.is_complex():
        return 4 * x.numel()
    # n - 1 comparisons, n subtractions, 2(n - 1) adds; the maximum is added back
    each = 1 + 1 + _COMPLEX_EXP + 2
    return each * x.numel() + (_COMPLEX_LOG + 1 - 3) * out.numel()
