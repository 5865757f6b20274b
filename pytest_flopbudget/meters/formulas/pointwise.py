"""Operators that work element by element: a table of costs, and the few that need their arguments.

Every add, subtract, multiply, divide, comparison and transcendental is one FLOP. A
fused operator costs what its definition in plain arithmetic costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Formula, formula

PER_ELEMENT: Final[Mapping[str, int]] = {
    # one add, subtraction, multiply or division
    "mul": 1,
    "div": 1,
    "true_divide": 1,
    "floor_divide": 1,
    "remainder": 1,
    "fmod": 1,
    "neg": 1,
    "reciprocal": 1,
    "square": 1,
    # one comparison
    "eq": 1,
    "ne": 1,
    "lt": 1,
    "le": 1,
    "gt": 1,
    "ge": 1,
    "maximum": 1,
    "minimum": 1,
    "fmax": 1,
    "fmin": 1,
    "relu": 1,
    "threshold": 1,
    "abs": 1,
    "sign": 1,
    "sgn": 1,
    "isnan": 1,
    "isinf": 1,
    "isfinite": 1,
    "clamp_min": 1,
    "clamp_max": 1,
    # one rounding, which is a comparison of bits
    "round": 1,
    "floor": 1,
    "ceil": 1,
    "trunc": 1,
    # one transcendental
    "exp": 1,
    "exp2": 1,
    "expm1": 1,
    "log": 1,
    "log2": 1,
    "log10": 1,
    "log1p": 1,
    "sqrt": 1,
    "rsqrt": 1,
    "sin": 1,
    "cos": 1,
    "tan": 1,
    "asin": 1,
    "acos": 1,
    "atan": 1,
    "atan2": 1,
    "sinh": 1,
    "cosh": 1,
    "tanh": 1,
    "erf": 1,
    "erfc": 1,
    "erfinv": 1,
    "sigmoid": 1,
    "pow": 1,
    # x * sigmoid(x)
    "silu": 2,
    # two comparisons
    "hardtanh": 2,
    "relu6": 2,
    # x > 0 ? x : slope * x
    "leaky_relu": 2,
    # clamp(x + 3, 0, 6) / 6
    "hardsigmoid": 4,
    # x * clamp(x + 3, 0, 6) / 6
    "hardswish": 5,
    # self + weight * (end - self)
    "lerp": 3,
    # grad where x > threshold
    "threshold_backward": 1,
    # grad where low < x < high
    "hardtanh_backward": 2,
    # x > 0 ? grad : slope * grad
    "leaky_relu_backward": 2,
    # grad * (1 - y) * y
    "sigmoid_backward": 3,
    # grad * (1 - y * y)
    "tanh_backward": 3,
    # s = sigmoid(x); grad * s * (1 + x * (1 - s))
    "silu_backward": 6,
    # grad / 6 where -3 < x < 3
    "hardsigmoid_backward": 3,
    # -3 < x < 3 ? grad * (x / 3 + 0.5), with both comparisons
    "hardswish_backward": 5,
}
"""FLOPs for each element of the result, for real numbers."""

COMPLEX_PER_ELEMENT: Final[Mapping[str, int]] = {
    # four multiplies and two adds
    "mul": 6,
    # two negations
    "neg": 2,
}
"""FLOPs for each element of a complex result, where the definition is plain arithmetic."""


def _result_numel(out: Any, args: tuple[Any, ...]) -> int:
    """Elements that an element-wise operator works on: those of its result.

    The `_foreach_` operators take lists of tensors; those in place return nothing.
    """
    if isinstance(out, Tensor):
        return out.numel()
    tensors = out if out is not None else args[0]
    return sum(tensor.numel() for tensor in tensors)


def _is_complex(out: Any, args: tuple[Any, ...]) -> bool:
    if isinstance(out, Tensor) and out.is_complex():
        return True
    for value in args:
        if isinstance(value, Tensor):
            if value.is_complex():
                return True
        elif isinstance(value, list | tuple) and _is_complex(None, tuple(value)):
            return True
    return False


def _elementwise(
    per_element: int, per_complex: int | None, *args: Any, out: Any, **_: Any
) -> int | None:
    """FLOPs of an element-wise operator.

    args: broadcast to the shape of out, any shape.
    Counts the table's number for each element of out.
    Source: the operator's definition, spelled out beside its number.
    """
    if _is_complex(out, args):
        return None if per_complex is None else per_complex * _result_numel(out, args)
    return per_element * _result_numel(out, args)


def _register_table() -> None:
    for name, cost in PER_ELEMENT.items():
        rule: Formula = partial(_elementwise, cost, COMPLEX_PER_ELEMENT.get(name))
        formula(name, f"_foreach_{name}")(rule)


_register_table()


def _per_result(count: Callable[..., int]) -> Formula:
    """A formula for real numbers from the cost of one element, given the arguments."""

    def rule(*args: Any, out: Any, **kwargs: Any) -> int | None:
        if _is_complex(out, args):
            return None
        return count(*args, **kwargs) * _result_numel(out, args)

    return rule


@formula("add", "sub", "rsub", "_foreach_add", "_foreach_sub")
def add(*args: Any, out: Any, alpha: Any = 1) -> int:
    """FLOPs of `self + alpha * other`, or of the difference.

    self, other: broadcast to the shape of out.
    Counts one add for each element, and one multiply when alpha is not 1; for complex
    numbers two and six.
    Source: the definition in the documentation of torch.add.
    """
    # The scalar forms take alpha as third argument.
    if len(args) > 2:  # noqa: PLR2004 - self, other, alpha
        alpha = args[2]
    one_add, one_multiply = (2, 6) if _is_complex(out, args) else (1, 1)
    return (one_add + (one_multiply if alpha != 1 else 0)) * _result_numel(out, args)


def _scaled_add(*args: Any, value: Any = 1) -> int:
    """One multiply or division, one add, and one multiply when value is not 1."""
    given = args[3] if len(args) > 3 else value  # noqa: PLR2004 - self, two factors, value
    return 2 if isinstance(given, int | float) and given == 1 else 3


formula("addcmul", "addcdiv", "_foreach_addcmul", "_foreach_addcdiv")(_per_result(_scaled_add))


def _clamp(_x: Any, low: Any = None, high: Any = None, **keywords: Any) -> int:
    """One comparison for each bound that is given."""
    low = keywords.get("min", low)
    high = keywords.get("max", high)
    return (low is not None) + (high is not None)


formula("clamp")(_per_result(_clamp))


def _gelu(_x: Tensor, *, approximate: str = "none") -> int:
    """`x / 2 * (1 + erf(x / sqrt(2)))`: 5.

    With tanh of `c * (x + 0.044715 * x * x * x)` in erf's place: 9.
    """
    return 5 if approximate == "none" else 9


def _gelu_backward(_grad: Tensor, _x: Tensor, *, approximate: str = "none") -> int:
    """`grad * (cdf + x * pdf)`, 4 for each of cdf and pdf: 11; for tanh 18.

    tanh: the argument 5, tanh 1, `x / 2` and `1 + tanh` 2, half of it 1,
    `1 - tanh * tanh` 2, the argument's derivative 3, their product 2, sum and grad 2.
    """
    return 11 if approximate == "none" else 18


formula("gelu")(_per_result(_gelu))
formula("gelu_backward")(_per_result(_gelu_backward))


def _softplus(_x: Tensor, beta: Any = 1, _threshold: Any = 20) -> int:
    """`log1p(exp(beta * x)) / beta` and the comparison with the threshold: 3, and 2 for beta."""
    return 3 if beta == 1 else 5


formula("softplus")(_per_result(_softplus))


def _elu(_x: Tensor, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> int:
    """`x > 0 ? scale * x : scale * alpha * (exp(input_scale * x) - 1)`.

    A comparison, an exponential, a subtraction, and a multiply for each factor that is
    not 1.
    """
    return 3 + sum(bool(factor != 1) for factor in (alpha, scale, input_scale))


formula("elu")(_per_result(_elu))


def _dropout(_x: Tensor, _p: float, train: bool | None) -> int:
    """A multiply by the mask and one by `1 / (1 - p)`, in training alone."""
    return 2 if train in (True, None) else 0


@formula("native_dropout")
def native_dropout(x: Tensor, p: float, train: bool | None, *, out: Any) -> int:
    """FLOPs of dropout.

    x: any shape -> out: the same shape, and the mask
    Counts two multiplies for each element in training; drawing the mask is free.
    Source: the definition in the documentation of torch.nn.Dropout.
    """
    return _dropout(x, p, train) * int(out[0].numel())


@formula("native_dropout_backward")
def native_dropout_backward(grad: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of dropout.

    grad: any shape -> out: the same shape
    Counts a multiply by the mask and one by the scale for each element.
    Source: the derivative of the definition.
    """
    return 2 * grad.numel()


@formula("_foreach_norm")
def foreach_norm(tensors: list[Tensor], p: Any = 2, *_args: Any, out: Any, **_: Any) -> int | None:
    """FLOPs of the 2-norm of each tensor of a list.

    tensors: any shapes -> out: a scalar for each
    Counts n squares, n - 1 adds and a square root for a tensor of n elements.
    Source: the definition. Other orders are not counted.
    """
    return 2 * sum(tensor.numel() for tensor in tensors) if p in (2, None) else None


@formula("isin")
def isin(elements: Any, tests: Any, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of asking of each element whether it is among others.

    elements: any shape, tests: any shape -> out: the shape of elements
    Counts one comparison for each pair of an element and a test.
    Source: the definition in the documentation of torch.isin, without sorting.
    """
    return out.numel() * (tests.numel() if isinstance(tests, Tensor) else 1)


@formula("equal")
def equal(a: Tensor, b: Tensor, *, out: bool) -> int:
    """FLOPs of asking whether two tensors are equal.

    a, b: the same shape
    Counts one comparison for each element.
    Source: the definition, without its early return.
    """
    return a.numel()


@formula("index_add", "scatter_add")
def index_add(
    _x: Tensor, _dim: int, _index: Tensor, source: Tensor, *, out: Tensor, alpha: Any = 1
) -> int | None:
    """FLOPs of adding the slices of a tensor to others by index.

    source: any shape -> out: the shape of the first argument
    Counts one add for each element of source, and one multiply when alpha is not 1.
    Source: the definition in the documentation of torch.Tensor.index_add_.
    """
    return None if out.is_complex() else source.numel() * (1 + (alpha != 1))


@formula("index_put", "_index_put_impl", "_unsafe_index_put")
def index_put(
    x: Tensor, _indices: Any, values: Tensor, accumulate: bool = False, *_args: Any, out: Tensor
) -> int:
    """FLOPs of writing values at indices.

    values: broadcast to the indexed shape.
    Counts one add for each element of values when they accumulate, else nothing.
    Source: the definition in the documentation of torch.Tensor.index_put_.
    """
    return values.numel() if accumulate else 0


@formula("_amp_foreach_non_finite_check_and_unscale")
def unscale(tensors: list[Tensor], *_args: Any, out: Any) -> int:
    """FLOPs of dividing gradients by the loss scale, with the check for infinities.

    tensors: any shapes, in place
    Counts one comparison and one multiply for each element.
    Source: the documentation of torch.amp.GradScaler.
    """
    return 2 * sum(math.prod(tensor.shape) for tensor in tensors)
