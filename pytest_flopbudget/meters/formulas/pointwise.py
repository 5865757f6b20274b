"""Operators that work element by element: a table of costs, and what is like them.

Every add, subtract, multiply, divide, comparison and transcendental is one FLOP. A
fused operator costs what its definition in plain arithmetic costs. A function without
an elementary definition, such as gamma's or Bessel's, is one, however it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from pytest_flopbudget.meters.formulas.complex_numbers import (
    COMPLEX_BY_OPERANDS,
    COMPLEX_PER_ELEMENT,
)
from pytest_flopbudget.meters.formulas.elementwise import has_complex, result_numel
from pytest_flopbudget.meters.formulas.registry import formula

PER_ELEMENT: Final[Mapping[str, int]] = {
    # one add, subtraction, multiply or division
    "mul": 1,
    "remainder": 1,
    "fmod": 1,
    "neg": 1,
    "reciprocal": 1,
    "deg2rad": 1,
    "rad2deg": 1,
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
    "signbit": 1,
    "isnan": 1,
    "isinf": 1,
    "isposinf": 1,
    "isneginf": 1,
    "clamp_min": 1,
    "clamp_max": 1,
    # one look at the sign: 0 or pi
    "angle": 1,
    # one rounding, which is a comparison of bits
    "floor": 1,
    "ceil": 1,
    "trunc": 1,
    # one change of the sign, or by a unit in the last place
    "copysign": 1,
    "nextafter": 1,
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
    "asinh": 1,
    "acosh": 1,
    "atanh": 1,
    "erf": 1,
    "erfc": 1,
    "erfinv": 1,
    "sigmoid": 1,
    "pow": 1,
    # one function that has no elementary definition
    "digamma": 1,
    "i0": 1,
    "igamma": 1,
    "igammac": 1,
    "lgamma": 1,
    "special_airy_ai": 1,
    "special_bessel_j0": 1,
    "special_bessel_j1": 1,
    "special_bessel_y0": 1,
    "special_bessel_y1": 1,
    "special_erfcx": 1,
    "special_i0e": 1,
    "special_i1": 1,
    "special_i1e": 1,
    "special_modified_bessel_i0": 1,
    "special_modified_bessel_i1": 1,
    "special_modified_bessel_k0": 1,
    "special_modified_bessel_k1": 1,
    "special_ndtri": 1,
    "special_scaled_modified_bessel_k0": 1,
    "special_scaled_modified_bessel_k1": 1,
    "special_zeta": 1,
    "_dirichlet_grad": 1,
    "_standard_gamma_grad": 1,
    # sin(x) / x, 1 at 0
    "special_spherical_bessel_j0": 3,
    # one function: the steps of Euclid's algorithm depend on the numbers
    "gcd": 1,
    # |x / gcd(x, y) * y|
    "lcm": 4,
    # division and rounding
    "floor_divide": 2,
    # x - trunc(x)
    "frac": 2,
    # x < 0 ? 0 : x == 0 ? value : 1
    "heaviside": 2,
    # x * 2 ** y
    "ldexp": 2,
    # sqrt(x * x + y * y)
    "hypot": 4,
    # max + log1p(exp(min - max)), without the guards for infinities
    "logaddexp": 5,
    # max + log1p(exp2(min - max)) / log 2, without the guards for infinities
    "logaddexp2": 6,
    # sin(pi x) / (pi x), 1 at 0
    "sinc": 4,
    # x * log(y), and the comparisons of x with 0 and of y with nan
    "xlogy": 4,
    # x * log1p(y), and the comparisons of x with 0 and of y with nan
    "special_xlog1py": 4,
    # -x * log(x) where x > 0, and the comparisons with 0 and with nan
    "special_entr": 6,
    # log((1 + erf(x / sqrt(2))) / 2)
    "special_log_ndtr": 5,
    # cos(n t) with t = acos(x)
    "special_chebyshev_polynomial_t": 3,
    # sin((n + 1) t) / sin t with t = acos(x)
    "special_chebyshev_polynomial_u": 6,
    # cos((n + 1/2) t) / cos(t / 2) with t = acos(x)
    "special_chebyshev_polynomial_v": 7,
    # sin((n + 1/2) t) / sin(t / 2) with t = acos(x)
    "special_chebyshev_polynomial_w": 7,
    # the polynomial of 2x - 1, T
    "special_shifted_chebyshev_polynomial_t": 5,
    # the polynomial of 2x - 1, U
    "special_shifted_chebyshev_polynomial_u": 8,
    # the polynomial of 2x - 1, V or W
    "special_shifted_chebyshev_polynomial_v": 9,
    "special_shifted_chebyshev_polynomial_w": 9,
    # self + weight * (end - self)
    "lerp": 3,
    # x * sigmoid(x)
    "silu": 2,
    # two comparisons
    "hardtanh": 2,
    "hardshrink": 2,
    # x > 0 ? x : slope * x
    "leaky_relu": 2,
    "_prelu_kernel": 2,
    "rrelu_with_noise": 2,
    # clamp(x + 3, 0, 6) / 6
    "hardsigmoid": 4,
    # x * clamp(x + 3, 0, 6) / 6
    "hardswish": 5,
    # x > lambda ? x - lambda : x < -lambda ? x + lambda : 0
    "softshrink": 4,
    # x * tanh(log1p(exp(x))), and softplus's comparison with its threshold
    "mish": 5,
    # a * sigmoid(b) of the halves a and b
    "glu": 2,
    # da * s + glu * (db - s * db) with s = sigmoid(b)
    "glu_jvp": 6,
    # s * grad and (1 - s) * s * a * grad with s = sigmoid(b): 6 for each two elements
    "glu_backward": 3,
    # grad where x > threshold
    "threshold_backward": 1,
    # grad where low < x < high, or outside
    "hardtanh_backward": 2,
    "hardshrink_backward": 2,
    "softshrink_backward": 2,
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
    # grad / (x * (1 - x)) where low <= x <= high
    "logit_backward": 5,
    # t = tanh(softplus(x)) 4; grad * (t + x * sigmoid(x) * (1 - t * t))
    "mish_backward": 11,
    # a multiply by the mask and one by the scale
    "native_dropout_backward": 2,
    "_masked_scale": 2,
}
"""FLOPs for each element of the result, for real numbers; the result is one tensor.

What torch composes of others (`square`, `relu6`, `isfinite`, ...) is not here: it counts
as those, with gradients or without.
"""

PER_ELEMENT_WITHOUT_OPTIONS: Final[Mapping[str, int]] = {
    "add": 1,
    "sub": 1,
    "rsub": 1,
    "div": 1,
    "round": 1,
    "gelu": 5,
}
"""The same, but only for calls with no keyword and at most two positional arguments.

With more (an alpha, a rounding mode, ...) their formulas count more.
"""


def _elementwise(
    per_real: int | None,
    per_complex: int | Callable[..., int] | None,
    *args: Any,
    out: Any,
    **kwargs: Any,
) -> int | None:
    """FLOPs of an element-wise operator.

    args: broadcast to the shape of out, any shape.
    Counts the table's number for each element of out.
    Source: the operator's definition, spelled out beside its number.
    """
    cost = per_complex if has_complex(args, out) else per_real
    if callable(cost):
        cost = cost(*args, **kwargs)
    return None if cost is None else cost * result_numel(out)


def _register_tables() -> None:
    for name in {**PER_ELEMENT, **COMPLEX_PER_ELEMENT}:
        per_complex = COMPLEX_BY_OPERANDS.get(name, COMPLEX_PER_ELEMENT.get(name))
        formula(name)(partial(_elementwise, PER_ELEMENT.get(name), per_complex))


_register_tables()
