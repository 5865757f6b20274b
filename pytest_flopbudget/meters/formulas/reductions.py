"""Reductions and softmax. Adding n numbers takes n - 1 adds, and so do comparisons."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula


def _numel(result: Any) -> int:
    """Elements of the first tensor of a result; `max` by dimension returns two."""
    first = result if isinstance(result, Tensor) else result[0]
    return int(first.numel())


@formula("sum", "nansum", "amax", "amin", "max", "min", "argmax", "argmin", "prod")
def reduction(x: Tensor, *args: Any, out: Any, **_: Any) -> int | None:
    """FLOPs of reducing some dimensions to one number each.

    x: [..., n, ...] -> out: [...]
    Counts n - 1 adds, multiplies or comparisons for each element of out.
    Source: the definition. With two tensors `max` and `min` compare them by element.
    """
    if x.is_complex():
        return None
    if args and isinstance(args[0], Tensor):
        return _numel(out)
    return max(0, x.numel() - _numel(out))


@formula("mean")
def mean(x: Tensor, *_args: Any, out: Tensor, **_: Any) -> int | None:
    """FLOPs of a mean over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts n - 1 adds and one division for each element of out.
    Source: the definition.
    """
    return None if x.is_complex() else x.numel()


@formula("var", "var_mean")
def variance(x: Tensor, *_args: Any, out: Any, **_: Any) -> int | None:
    """FLOPs of a variance over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts the mean (n), subtract and square (2n), n - 1 adds and one division.
    Source: the definition, in two passes.
    """
    return None if x.is_complex() else 4 * x.numel()


@formula("std", "std_mean")
def deviation(x: Tensor, *_args: Any, out: Any, **_: Any) -> int | None:
    """FLOPs of a standard deviation over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts the variance and one square root for each element of out.
    Source: the definition, in two passes.
    """
    return None if x.is_complex() else 4 * x.numel() + _numel(out)


@formula("linalg_vector_norm", "norm")
def vector_norm(x: Tensor, p: Any = 2, *_args: Any, out: Tensor, **_: Any) -> int | None:
    """FLOPs of a 2-norm over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts n squares, n - 1 adds and one square root for each element of out.
    Source: the definition. Other orders are not counted.
    """
    if p not in (2, None) or x.is_complex():
        return None
    return 2 * x.numel()


@formula("cumsum", "cumprod")
def scan(x: Tensor, dim: int, *_args: Any, out: Tensor, **_: Any) -> int | None:
    """FLOPs of a running sum or product along one dimension.

    x: [..., n, ...] -> out: the same shape
    Counts n - 1 adds or multiplies along the dimension.
    Source: the definition.
    """
    return None if x.is_complex() else x.numel() - _rows(x, dim)


@formula("logsumexp")
def logsumexp(x: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of the logarithm of a sum of exponentials over some dimensions.

    x: [..., n, ...] -> out: [...]
    Counts n - 1 comparisons, n subtractions, n exponentials, n - 1 adds, a logarithm
    and an add for each element of out.
    Source: the stable definition, with the maximum taken out.
    """
    return 4 * x.numel()


def _rows(x: Tensor, dim: int) -> int:
    """How many independent rows a softmax over `dim` has."""
    size = x.shape[dim] if x.dim() else 1
    return x.numel() // size if size else 0


@formula("_softmax", "_safe_softmax")
def softmax(x: Tensor, dim: int, *_args: Any, out: Tensor) -> int:
    """FLOPs of a softmax along one dimension.

    x: [..., n, ...] -> out: the same shape
    Counts, for each row, n - 1 comparisons, n subtractions, n exponentials,
    n - 1 adds and n divisions: 5n - 2.
    Source: the stable definition, with the maximum taken out.
    """
    return 5 * x.numel() - 2 * _rows(x, dim)


@formula("_log_softmax")
def log_softmax(x: Tensor, dim: int, *_args: Any, out: Tensor) -> int:
    """FLOPs of a log-softmax along one dimension.

    x: [..., n, ...] -> out: the same shape
    Counts, for each row, n - 1 comparisons, n subtractions, n exponentials,
    n - 1 adds, one logarithm and n subtractions: 5n - 1.
    Source: the stable definition, with the maximum taken out.
    """
    return 5 * x.numel() - _rows(x, dim)


@formula("_softmax_backward_data", "_log_softmax_backward_data")
def softmax_backward(grad: Tensor, output: Tensor, dim: int, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a softmax or log-softmax along one dimension.

    grad, output: [..., n, ...] -> out: the same shape
    Counts, for each row of a softmax, n multiplies grad*output, n - 1 adds,
    n multiplies and n subtractions: 4n - 1; of a log-softmax n - 1 adds of grad,
    n exponentials, n multiplies and n subtractions: the same.
    Source: the derivative of the definition.
    """
    return 4 * grad.numel() - _rows(grad, dim)
