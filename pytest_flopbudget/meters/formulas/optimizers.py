"""Fused optimiser steps, and the scaling of losses in mixed precision.

Each counts, for every element of the parameters, what the plain loop of the same
optimiser in torch.optim runs. The few numbers of a step (bias corrections, step sizes)
are Python's in that loop and count nothing here.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.elementwise import real_parts
from pytest_flopbudget.meters.formulas.registry import formula


def _step(parameters: list[Tensor], per_element: int) -> int:
    """A step on all elements; a complex one is stepped as its two parts."""
    return per_element * sum(tensor.numel() * real_parts(tensor) for tensor in parameters)


def _times(factor: Any) -> int:
    """One multiply by a factor, unless it is the number 1."""
    return 0 if isinstance(factor, int | float) and factor == 1 else 1


def _gradient(maximize: bool, grad_scale: Tensor | None, weight_decay: float) -> int:
    """Its division by the loss scale, its negation, and `grad + weight_decay * parameter`."""
    decay = 1 + _times(weight_decay) if weight_decay != 0 else 0
    return (grad_scale is not None) + bool(maximize) + decay


@formula("_fused_sgd")
def fused_sgd(
    parameters: list[Tensor],
    *_lists: Any,
    out: Any,
    weight_decay: float,
    momentum: float,
    lr: Any,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
    grad_scale: Tensor | None = None,
    **_: Any,
) -> int:
    """FLOPs of a step of stochastic gradient descent.

    parameters, gradients: lists of tensors of any shapes
    Counts 2 for each element, `x - lr * grad`; with momentum 3 for the buffer
    `momentum * b + (1 - dampening) * grad` (2 with no dampening, none in the first step)
    and with nesterov 2 for `grad + momentum * b`; 2 for the weight decay, 1 to maximize
    and 1 for a loss scale.
    Source: the algorithm in the documentation of torch.optim.SGD, as its loop runs it.
    """
    cost = _gradient(maximize, grad_scale, weight_decay) + 1 + _times(lr)
    if momentum != 0:
        cost += 0 if is_first_step else 2 + _times(1 - dampening)
        cost += 1 + _times(momentum) if nesterov else 0
    return _step(parameters, cost)


@formula("_fused_adam")
def fused_adam(
    parameters: list[Tensor],
    *_lists: Any,
    out: Any,
    weight_decay: float,
    amsgrad: bool,
    maximize: bool,
    grad_scale: Tensor | None = None,
    **coefficients: Any,
) -> int:
    """FLOPs of a step of Adam.

    parameters, gradients: lists of tensors of any shapes
    Counts 13 for each element: 3 for the mean `m + (1 - beta1) * (grad - m)`, 4 for the
    square `beta2 * v + (1 - beta2) * grad * grad`, 3 for `sqrt(v) / correction + eps` and 3
    for `x - step * m / that`; with amsgrad 1 for the maximum; 2 for the weight decay, 1 to
    maximize and 1 for a loss scale.
    Source: the algorithm in the documentation of torch.optim.Adam, as its loop runs it.
    """
    return _step(
        parameters, _gradient(maximize, grad_scale, weight_decay) + _adam(amsgrad, coefficients)
    )


@formula("_fused_adamw")
def fused_adamw(
    parameters: list[Tensor],
    *_lists: Any,
    out: Any,
    weight_decay: float,
    amsgrad: bool,
    maximize: bool,
    grad_scale: Tensor | None = None,
    **coefficients: Any,
) -> int:
    """FLOPs of a step of AdamW.

    parameters, gradients: lists of tensors of any shapes
    Counts as `_fused_adam`, but 1 for the weight decay, which scales the parameter.
    Source: the algorithm in the documentation of torch.optim.AdamW, as its loop runs it.
    """
    cost = _gradient(maximize, grad_scale, weight_decay=0) + (weight_decay != 0)
    return _step(parameters, cost + _adam(amsgrad, coefficients))


def _adam(amsgrad: bool, coefficients: dict[str, Any]) -> int:
    """What Adam costs for each element besides its gradient."""
    return 12 + _times(1 - coefficients["beta2"]) + bool(amsgrad)


@formula("_fused_adagrad")
def fused_adagrad(
    parameters: list[Tensor],
    *_lists: Any,
    out: Any,
    weight_decay: float,
    maximize: bool,
    grad_scale: Tensor | None = None,
    **_: Any,
) -> int:
    """FLOPs of a step of Adagrad.

    parameters, gradients: lists of tensors of any shapes
    Counts 7 for each element: 2 for the sum `s + grad * grad`, 2 for `sqrt(s) + eps` and 3
    for `x - step * grad / that`; 2 for the weight decay, 1 to maximize and 1 for a loss
    scale.
    Source: the algorithm in the documentation of torch.optim.Adagrad, as its loop runs it.
    """
    return _step(parameters, _gradient(maximize, grad_scale, weight_decay) + 7)


@formula("_amp_foreach_non_finite_check_and_unscale")
def unscale(tensors: list[Tensor], *_args: Any, out: Any) -> int:
    """FLOPs of dividing gradients by the loss scale, with the check for infinities.

    tensors: any shapes, in place
    Counts one comparison and one multiply for each element.
    Source: the documentation of torch.amp.GradScaler.
    """
    return 2 * sum(math.prod(tensor.shape) for tensor in tensors)


@formula("_amp_update_scale")
def update_scale(scale: Tensor, *_args: Any, out: Any) -> int:
    """FLOPs of the next loss scale.

    scale: one number
    Counts 6: the questions whether an infinity was found, whether it is time to grow and
    whether the grown scale is finite, the step counted, and the multiplies of both ways.
    Source: the definition in the documentation of torch.amp.GradScaler.
    """
    return 6
