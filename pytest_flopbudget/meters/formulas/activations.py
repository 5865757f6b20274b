"""Activations and dropout whose cost depends on their arguments, forward and backward."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.elementwise import per_element, real_parts
from pytest_flopbudget.meters.formulas.registry import formula


@formula("gelu")
@per_element
def _gelu(_x: Tensor, *, approximate: str = "none") -> int:
    """`x / 2 * (1 + erf(x / sqrt(2)))`: 5.

    With tanh of `c * (x + 0.044715 * x * x * x)` in erf's place: 9.
    """
    return 5 if approximate == "none" else 9


@formula("gelu_backward")
@per_element
def _gelu_backward(_grad: Tensor, _x: Tensor, *, approximate: str = "none") -> int:
    """`grad * (cdf + x * pdf)`, 4 for each of cdf and pdf: 11; for tanh 18.

    tanh: the argument 5, tanh 1, `x / 2` and `1 + tanh` 2, half of it 1,
    `1 - tanh * tanh` 2, the argument's derivative 3, their product 2, sum and grad 2.
    """
    return 11 if approximate == "none" else 18


@formula("softplus")
@per_element
def _softplus(_x: Tensor, beta: Any = 1, _threshold: Any = 20) -> int:
    """`log1p(exp(beta * x)) / beta` and the comparison with the threshold: 3, and 2 for beta."""
    return 3 if beta == 1 else 5


@formula("softplus_backward")
@per_element
def _softplus_backward(_grad: Tensor, _x: Tensor, beta: Any, _threshold: Any) -> int:
    """`grad * z / (z + 1)` with `z = exp(beta * x)` and the comparison with the threshold.

    5, and 1 for beta.
    """
    return 5 if beta == 1 else 6


@formula("elu")
@per_element
def _elu(_x: Tensor, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> int:
    """`x > 0 ? scale * x : scale * alpha * (exp(input_scale * x) - 1)`.

    A comparison, an exponential, a subtraction, and a multiply for each factor that is
    not 1.
    """
    return 3 + sum(bool(factor != 1) for factor in (alpha, scale, input_scale))


@formula("celu")
@per_element
def _celu(_x: Tensor, alpha: Any = 1) -> int:
    """`x > 0 ? x : alpha * (exp(x / alpha) - 1)`: 5, without alpha 3."""
    return 3 if alpha == 1 else 5


@formula("elu_backward")
@per_element
def _elu_backward(
    _grad: Tensor, alpha: Any, scale: Any, input_scale: Any, is_result: bool, _x: Tensor
) -> int:
    """`x > 0 ? scale * grad : input_scale * scale * alpha * exp(input_scale * x) * grad`.

    A comparison, an exponential, a multiply, and one for each factor that is not 1 (two
    for input_scale). From the result y: `input_scale * (y + scale * alpha) * grad`, an
    add in place of the exponential and of alpha's multiply, and one for input_scale.
    """
    factors = (scale, input_scale) if is_result else (scale, alpha, input_scale, input_scale)
    return 3 + sum(bool(factor != 1) for factor in factors)


@formula("log_sigmoid_forward")
@per_element
def _log_sigmoid(_x: Tensor) -> int:
    """`min(0, x) - log1p(exp(-abs(x)))`: 6."""
    return 6


@formula("log_sigmoid_backward")
@per_element
def _log_sigmoid_backward(_grad: Tensor, _x: Tensor, buffer: Tensor) -> int:
    """`grad * (m - s * z / (1 + z))` with the forward's `z = exp(-abs(x))`, m and s by x < 0: 6.

    Where the forward has not kept z, as on CUDA: 9.
    """
    return 6 if buffer.numel() else 9


@formula("glu_backward_jvp")
def glu_backward_jvp(_grad_x: Tensor, grad: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the tangent of a gated linear unit's backward.

    grad: [..., n, ...] -> out: [..., 2n, ...]
    Counts 15 for each element of grad: with s = sigmoid(b) 1, `g = a * s` 1 and
    `d = db - db * s` 2, the tangent of the first half `dgrad * s + grad_a * d` 3, and of
    the second half the products and differences of those 8.
    Source: what torch's kernel of the operator calls.
    """
    return 15 * grad.numel()


@formula("_prelu_kernel_backward")
@per_element
def _prelu_backward(_grad: Tensor, _x: Tensor, _weight: Tensor) -> int:
    """`x > 0 ? grad : weight * grad` and, for the weight, `x > 0 ? 0 : x * grad`: 4."""
    return 4


@formula("rrelu_with_noise_functional")
@per_element
def _rrelu(_x: Tensor, *_args: Any, **_: Any) -> int:
    """`x > 0 ? x : slope * x`: 2. Drawing the slopes is free."""
    return 2


@formula("rrelu_with_noise_backward")
@per_element
def _rrelu_backward(
    _grad: Tensor,
    _x: Tensor,
    _noise: Tensor,
    lower: float,
    upper: float,
    training: bool,
    _is_result: bool,
) -> int:
    """`noise * grad` in training: 1; else, and where the bounds are one, leaky relu's 2."""
    is_drawn = training and upper - lower > 1e-6  # noqa: PLR2004 - the kernel's own bound
    return 1 if is_drawn else 2


@formula("native_dropout")
def native_dropout(x: Tensor, p: float, train: bool | None, *, out: Any) -> int:
    """FLOPs of dropout.

    x: any shape -> out: the same shape, and the mask
    Counts two multiplies for each element in training, by the mask and by `1 / (1 - p)`;
    four where it is complex. Drawing the mask is free, and so is evaluation.
    Source: the definition in the documentation of torch.nn.Dropout. A p of 0 or 1 costs
    the same, as in torch's kernel.
    """
    return 2 * x.numel() * real_parts(x) if train in (True, None) else 0


@formula("_fused_dropout")
def fused_dropout(x: Tensor, p: float, *_args: Any, out: Any) -> int:
    """FLOPs of dropout in training, in torch's older operator.

    x: any shape -> out: the same shape, and the mask
    Counts as `native_dropout` in training.
    Source: the definition in the documentation of torch.nn.Dropout.
    """
    return native_dropout(x, p, True, out=out)
