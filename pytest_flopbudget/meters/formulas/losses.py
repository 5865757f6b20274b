"""Losses that run as one operator, forward and backward."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula

_NONE: Final = 0
_MEAN: Final = 1
"""torch's numbers for how a loss is reduced; 2 is the sum."""


def _reduced(elements: int, reduction: int) -> int:
    """FLOPs of reducing the losses of all elements to one number, or of leaving them."""
    if reduction == _NONE:
        return 0
    return elements if reduction == _MEAN else max(0, elements - 1)


def _pairs(x: Tensor, target: Tensor) -> int:
    """Elements that a loss compares; F.mse_loss makes the shapes equal, aten broadcasts them."""
    if x.shape == target.shape:
        return x.numel()
    return int(math.prod(torch.broadcast_shapes(x.shape, target.shape)))


@formula("nll_loss_forward", "nll_loss2d_forward", "nll_loss", "nll_loss2d")
def nll_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = _MEAN,
    _ignore: int = -100,
    *,
    out: Any,
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
    elements = _pairs(x, target)
    return 2 * elements + _reduced(elements, reduction)


@formula("mse_loss_backward")
def mse_loss_backward(grad: Tensor, x: Tensor, target: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a mean squared error.

    x: any shape -> out: the same shape
    Counts a subtraction, a multiply by 2 or 2 / n, and a multiply by grad.
    Source: the derivative of the definition.
    """
    return 3 * _pairs(x, target)


@formula("smooth_l1_loss", "huber_loss")
def smooth_l1_loss(
    x: Tensor, target: Tensor, reduction: int = _MEAN, _beta: float = 1.0, *, out: Tensor
) -> int:
    """FLOPs of a smooth L1 loss, or of a Huber loss.

    x, target: the same shape, n elements -> a scalar, or that shape
    Counts, for each element, difference, absolute value and comparison, and both
    branches: 0.5 * d * d / beta (3) and d - 0.5 * beta (1); for Huber 0.5 * d * d (2) and
    delta * (d - 0.5 * delta) (2): 7n; and the reduction.
    Source: the definition, as torch's own decomposition writes it: which branch an
    element takes depends on data.
    """
    elements = _pairs(x, target)
    return 7 * elements + _reduced(elements, reduction)


@formula("smooth_l1_loss_backward")
def smooth_l1_loss_backward(
    grad: Tensor, x: Tensor, target: Tensor, *_args: Any, out: Tensor
) -> int:
    """FLOPs of the backward of a smooth L1 loss.

    grad: g elements, one or n; x, target: the same shape, n elements -> out: that shape
    Counts, for each element, difference, absolute value and comparison, and both
    branches: grad * d / beta (2) and grad * sign(d) (2): 7n; and scaling grad by 1 / n
    or 1 (g).
    Source: the derivative, as torch's own decomposition writes it.
    """
    return 7 * _pairs(x, target) + grad.numel()


@formula("huber_loss_backward")
def huber_loss_backward(grad: Tensor, x: Tensor, target: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a Huber loss.

    grad: g elements, one or n; x, target: the same shape, n elements -> out: that shape
    Counts, for each element, a difference, two comparisons, and d times 1 / n or 1 times
    grad: 5n; and the same scale times grad times delta for both sides (4g).
    Source: the derivative, as torch's own decomposition writes it.
    """
    return 5 * _pairs(x, target) + 4 * grad.numel()


@formula("soft_margin_loss")
def soft_margin_loss(x: Tensor, target: Tensor, reduction: int = _MEAN, *, out: Tensor) -> int:
    """FLOPs of a soft margin loss.

    x, target: the same shape, n elements -> a scalar, or that shape
    Counts log1p(exp(-x * target)), 4n, and the reduction.
    Source: the definition in the documentation of torch.nn.SoftMarginLoss.
    """
    return 4 * x.numel() + _reduced(x.numel(), reduction)


@formula("soft_margin_loss_backward")
def soft_margin_loss_backward(
    grad: Tensor, x: Tensor, target: Tensor, reduction: int = _MEAN, *, out: Tensor
) -> int:
    """FLOPs of the backward of a soft margin loss.

    x, target: the same shape, n elements -> out: that shape
    Counts target * grad * (sigmoid(target * x) - 1), 5n, and n divisions for a mean.
    Source: the derivative, as torch's own decomposition writes it.
    """
    return (5 + (reduction == _MEAN)) * x.numel()


@formula("binary_cross_entropy")
def binary_cross_entropy(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = _MEAN,
    *,
    out: Tensor,
) -> int:
    """FLOPs of a binary cross entropy of probabilities.

    x, target: the same shape, n elements, weight: broadcast to it -> a scalar, or that shape
    Counts (target - 1) * max(log1p(-x), -100) - target * max(log(x), -100), 9n; n
    multiplies with weights; and the reduction.
    Source: the definition in the documentation of torch.nn.BCELoss.
    """
    return (9 + (weight is not None)) * x.numel() + _reduced(x.numel(), reduction)


@formula("binary_cross_entropy_backward")
def binary_cross_entropy_backward(
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = _MEAN,
    *,
    out: Tensor,
) -> int:
    """FLOPs of the backward of a binary cross entropy of probabilities.

    x, target: the same shape, n elements -> out: that shape
    Counts grad * (x - target) / max(x * (1 - x), 1e-12), 6n; n multiplies with weights;
    and n divisions for a mean.
    Source: the derivative, as torch's own decomposition writes it.
    """
    return (6 + (weight is not None) + (reduction == _MEAN)) * x.numel()


@formula("binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    positive_weight: Tensor | None = None,
    reduction: int = _MEAN,
    *,
    out: Tensor,
) -> int:
    """FLOPs of a binary cross entropy of logits.

    x, target: the same shape, n elements, weights: broadcast to it -> a scalar, or that shape
    Counts (1 - target) * x - logsigmoid(x), 9n, of which logsigmoid takes 6:
    min(x, 0) - log1p(exp(-abs(x))); for p positive weights (weight - 1) * target + 1 and
    the multiply by it, p + 3n; n multiplies with weights; and the reduction.
    Source: the definition, as torch's own decomposition writes it.
    """
    flops = (9 + (weight is not None)) * x.numel() + _reduced(x.numel(), reduction)
    if positive_weight is not None:
        flops += positive_weight.numel() + 3 * x.numel()
    return flops


def _classes(x: Tensor) -> tuple[int, int]:
    """Samples and classes of a margin loss; one sample may come without its dimension."""
    classes = x.shape[-1] if x.dim() else 1
    return (x.numel() // classes if classes else 0), classes


@formula("multi_margin_loss")
def multi_margin_loss(
    x: Tensor,
    target: Tensor,
    p: Any = 1,
    _margin: Any = 1,
    weight: Tensor | None = None,
    _reduction: int = _MEAN,
    *,
    out: Tensor,
) -> int:
    """FLOPs of a margin loss between the right class and each other.

    x: [n, c] or [c], target: [n] class numbers, weight: [c] or None -> a scalar or [n]
    Counts max(0, margin - x[target] + x), n + 2*n*c; n*c multiplies for p = 2; n*c with
    weights; and n*c for the reduction, which divides by c.
    Source: the definition, as torch's own decomposition writes it: for the right class too,
    whose part is then left out.
    """
    samples, classes = _classes(x)
    has_square = bool(p == 2)  # noqa: PLR2004 - the other exponent is 1
    return samples + (3 + has_square + (weight is not None)) * samples * classes


@formula("multi_margin_loss_backward")
def multi_margin_loss_backward(
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    p: Any,
    _margin: Any,
    weight: Tensor | None = None,
    _reduction: int = _MEAN,
    *,
    out: Tensor,
) -> int:
    """FLOPs of the backward of a margin loss between the right class and each other.

    x: [n, c] or [c], target: [n] class numbers, weight: [c] or None -> out: the shape of x
    Counts margin - x[target] + x and the comparison with zero, n + 2*n*c; n*c multiplies
    for p = 2; n*c with weights; n*c subtractions from the right class; and n*c multiplies
    by grad.
    Source: the derivative, as torch's kernel takes it; every class counts alike.
    """
    samples, classes = _classes(x)
    has_square = bool(p == 2)  # noqa: PLR2004 - the other exponent is 1
    return samples + (4 + has_square + (weight is not None)) * samples * classes


@formula("multilabel_margin_loss_forward")
def multilabel_margin_loss(x: Tensor, target: Tensor, reduction: int, *, out: Any) -> int:
    """FLOPs of a margin loss between every right class and every other.

    x: [n, c] or [c], target: the same shape -> a scalar or [n], and a mask
    Counts max(0, 1 - x[target] + x) / c for all pairs of classes, n*c + 3*n*c*c, and the
    sum of them, n*c*c - n, with a mean or a sum over the samples.
    Source: the definition, as torch's own decomposition writes it: how many classes are
    right depends on data, so all count as both.
    """
    samples, classes = _classes(x)
    pairs = samples * classes * classes
    reduced = {_NONE: pairs - samples, _MEAN: pairs}.get(reduction, pairs - 1)
    return samples * classes + 3 * pairs + max(0, reduced)


@formula("multilabel_margin_loss_backward")
def multilabel_margin_loss_backward(
    grad: Tensor, x: Tensor, target: Tensor, _reduction: int, _is_target: Tensor, *, out: Tensor
) -> int:
    """FLOPs of the backward of a margin loss between every right class and every other.

    x: [n, c] or [c], target: the same shape -> out: that shape
    Counts 1 - x[target] + x, the comparison with zero, and an add to either class of the
    pair, n*c + 4*n*c*c; and n*c multiplies by grad.
    Source: the derivative, as torch's kernel takes it, for all pairs of classes.
    """
    samples, classes = _classes(x)
    return 2 * samples * classes + 4 * samples * classes * classes
