"""Losses that run as one operator, forward and backward."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula

_NONE: Final = 0
_MEAN: Final = 1
"""torch's numbers for how a loss is reduced; 2 is the sum."""


def _reduced(elements: int, reduction: int) -> int:
    """FLOPs of reducing the losses of all elements to one number, or of leaving them."""
    if reduction == _NONE:
        return 0
    return elements if reduction == _MEAN else elements - 1


@formula("nll_loss_forward", "nll_loss2d_forward", "nll_loss", "nll_loss2d")
def nll_loss(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, _ignore: int, *, out: Any
) -> int:
    """FLOPs of a negative log-likelihood.

    x: [n, c, ...], target: [n, ...] class numbers, weight: [c] or None -> a scalar or [n, ...]
    Counts one negation for each target, one multiply with class weights, and the
    reduction; a weighted mean also sums the weights.
    Source: the definition in the documentation of torch.nn.NLLLoss. Targets equal to
    the ignored class count like the others, since the count must not depend on data.
    """
    targets = target.numel()
    flops = targets + _reduced(targets, reduction)
    if weight is not None:
        flops += targets + (targets - 1 if reduction == _MEAN else 0)
    return flops


@formula("nll_loss_backward", "nll_loss2d_backward")
def nll_loss_backward(
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    *_args: Any,
    out: Any,
) -> int:
    """FLOPs of the backward of a negative log-likelihood.

    target: [n, ...] -> out: the shape of x, zero but for one element a target
    Counts one negation for each target, one multiply with class weights, and one
    division of grad by the count for a mean.
    Source: the derivative of the definition.
    """
    return target.numel() * (1 + (weight is not None)) + (reduction == _MEAN)


@formula("mse_loss")
def mse_loss(x: Tensor, target: Tensor, reduction: int = _MEAN, *, out: Tensor) -> int:
    """FLOPs of a mean squared error.

    x, target: the same shape -> a scalar, or that shape
    Counts a subtraction and a multiply for each element, and the reduction.
    Source: the definition in the documentation of torch.nn.MSELoss.
    """
    return 2 * x.numel() + _reduced(x.numel(), reduction)


@formula("mse_loss_backward")
def mse_loss_backward(grad: Tensor, x: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a mean squared error.

    x: any shape -> out: the same shape
    Counts a subtraction, a multiply by 2 or 2 / n, and a multiply by grad.
    Source: the derivative of the definition.
    """
    return 3 * x.numel()
