"""Softmax and log-softmax, forward and backward."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula


def _rows(x: Tensor, dim: int | None) -> int:
    """How many independent rows a softmax over `dim` has; the last one is the default."""
    size = x.shape[-1 if dim is None else dim] if x.dim() else 1
    return x.numel() // size if size else 0


@formula("_softmax", "softmax")
def softmax(x: Tensor, dim: int, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a softmax along one dimension.

    x: [..., n, ...] -> out: the same shape
    Counts, for each row, n - 1 comparisons, n subtractions, n exponentials,
    n - 1 adds and n divisions: 5n - 2.
    Source: the stable definition, with the maximum taken out.
    """
    return 5 * x.numel() - 2 * _rows(x, dim)


@formula("_safe_softmax")
def safe_softmax(x: Tensor, dim: int, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a softmax that gives zeros for a row that is masked whole.

    x: [..., n, ...] -> out: the same shape
    Counts, for each row, a softmax (5n - 2) and n comparisons with minus infinity.
    Source: the definition, as torch's own decomposition writes it.
    """
    return 6 * x.numel() - 2 * _rows(x, dim)


@formula("_masked_softmax")
def masked_softmax(
    x: Tensor, _mask: Tensor, dim: int | None = None, *_args: Any, out: Tensor
) -> int:
    """FLOPs of a softmax over what a mask leaves.

    x: [..., n, ...], mask: broadcast to it -> out: the shape of x
    Counts a softmax of whole rows: 5n - 2 for each.
    Source: the stable definition. What is masked counts like the rest, since the count
    must not depend on data.
    """
    return 5 * x.numel() - 2 * _rows(x, dim)


@formula("_log_softmax", "log_softmax")
def log_softmax(x: Tensor, dim: int, *_args: Any, out: Tensor, **_: Any) -> int:
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


@formula("_masked_softmax_backward")
def masked_softmax_backward(
    grad: Tensor, output: Tensor, _mask: Tensor, dim: int | None = None, *, out: Tensor
) -> int:
    """FLOPs of the backward of a softmax over what a mask leaves.

    grad, output: [..., n, ...], mask: broadcast to them -> out: their shape
    Counts the backward of a softmax of whole rows: 4n - 1 for each.
    Source: the derivative of the definition.
    """
    return 4 * grad.numel() - _rows(grad, dim)
