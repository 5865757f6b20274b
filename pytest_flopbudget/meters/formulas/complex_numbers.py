"""Element-wise functions of complex numbers, each by its definition in real arithmetic.

z is a + bi and w is c + di; a, b, c and d are real. An operand that is real by its dtype
stays real: it has no imaginary part to add to or to multiply by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pytest_flopbudget.meters.formulas.elementwise import is_complex

COMPLEX_PER_ELEMENT: Final[Mapping[str, int]] = {
    # one negation or comparison for each part
    "neg": 2,
    "eq": 2,
    "ne": 2,
    "isnan": 2,
    "isinf": 2,
    # |z| = sqrt(a * a + b * b)
    "abs": 4,
    # atan2(b, a)
    "angle": 1,
    # z / |z| where z is not 0: |z| 4, two divisions, the comparison
    "sgn": 7,
    # r * cos(t) + r * sin(t) i, of a real r and t
    "polar": 4,
    # conj(z) / |z|^2: |z|^2 3, two divisions, a negation
    "reciprocal": 6,
    # exp(a) * (cos b + i sin b)
    "exp": 5,
    # exp(z * log 2)
    "exp2": 7,
    # exp(z) - 1
    "expm1": 6,
    # log|z| + i atan2(b, a): |z| 4
    "log": 6,
    # log(z) / log 2
    "log2": 8,
    # log(z) / log 10
    "log10": 8,
    # log(1 + z)
    "log1p": 7,
    # sqrt((|z| + a) / 2) + i copysign(sqrt((|z| - a) / 2), b): |z| 4
    "sqrt": 11,
    # 1 / sqrt(z)
    "rsqrt": 17,
    # sin a * cosh b + i cos a * sinh b
    "sin": 6,
    # cos a * cosh b - i sin a * sinh b
    "cos": 7,
    # (sin 2a + i sinh 2b) / (cos 2a + cosh 2b)
    "tan": 9,
    # sinh a * cos b + i cosh a * sin b
    "sinh": 6,
    # cosh a * cos b + i sinh a * sin b
    "cosh": 6,
    # (sinh 2a + i sin 2b) / (cosh 2a + cos 2b)
    "tanh": 9,
    # -i log(iz + sqrt(1 - z * z)): z * z 6, 1 - z * z 2, sqrt 11, iz 1, sum 2, log 6, -i 1
    "asin": 29,
    # pi / 2 - asin(z)
    "acos": 31,
    # i / 2 * (log(1 - iz) - log(1 + iz)): iz 1, 1 - iz 2, 1 + iz 1, logs 12, difference 2, i / 2 3
    "atan": 21,
    # log(z + sqrt(z * z + 1)): z * z 6, add 1, sqrt 11, sum 2, log 6
    "asinh": 26,
    # log(z + sqrt(z + 1) * sqrt(z - 1)): adds 2, roots 22, product 6, sum 2, log 6
    "acosh": 38,
    # (log(1 + z) - log(1 - z)) / 2: 1 + z 1, 1 - z 2, logs 12, difference 2, half 2
    "atanh": 19,
    # 1 / (1 + exp(-z)): negation 2, exp 5, add 1, reciprocal 6
    "sigmoid": 14,
    # z * sigmoid(z)
    "silu": 20,
    # sin(pi z) / (pi z), 1 at 0: product 2, comparison 2, sin 6, division 11
    "sinc": 21,
    # max + log1p(exp(min - max)) by the real parts: comparison 1, difference 2, 5, 7, sum 2
    "logaddexp": 17,
    # grad * conj((1 - y) * y): 2, 6, 6
    "sigmoid_backward": 14,
    # grad * conj(1 - y * y): 6, 2, 6
    "tanh_backward": 14,
    # s = sigmoid(z); grad * conj(s * (1 + z * (1 - s))): 14, 2, 6, 1, 6, 6
    "silu_backward": 35,
    # a multiply by the mask and one by the scale, of both parts
    "native_dropout_backward": 4,
    "_masked_scale": 4,
}
"""FLOPs for each element where an operand or the result is complex; conjugation is free."""


def add(x: Any, y: Any) -> int:
    """Real additions in `x + y`: both parts of two complex numbers, one with a real one."""
    return 2 if is_complex(x) and is_complex(y) else 1


def subtract(x: Any, y: Any) -> int:
    """Real operations in `x - y`; a complex y from a real x has a part to negate."""
    return 2 if is_complex(y) else 1


def multiply(x: Any, y: Any) -> int:
    """Real operations in `x * y`: (ac - bd) + (ad + bc)i is 6, by a real number 2."""
    return {0: 1, 1: 2, 2: 6}[is_complex(x) + is_complex(y)]


def divide(x: Any, y: Any) -> int:
    """Real operations in `x / y`.

    z * conj(w) 6, |w|^2 3, two divisions: 11. By a real number 2. A real number by w:
    x * conj(w) 2 and a negation in place of the 6, so 8.
    """
    if not is_complex(y):
        return 2 if is_complex(x) else 1
    return 11 if is_complex(x) else 8


def power(x: Any, y: Any) -> int:
    """Real operations in `x ** y`, which is `exp(y * log(x))`.

    log 6, product 6, exp 5: 17. To a real power the product is 2: 13. Of a real number
    the logarithm is 1 and the product 2: 8. To the power of the number 2 it is z * z: 6.
    """
    if not is_complex(x) and not is_complex(y):
        return 1
    if isinstance(y, int | float) and y == 2:  # noqa: PLR2004 - a square
        return multiply(x, x)
    log = COMPLEX_PER_ELEMENT["log"] if is_complex(x) else 1
    return log + multiply(x, y) + COMPLEX_PER_ELEMENT["exp"]


def interpolate(start: Any, end: Any, weight: Any) -> int:
    """Real operations in `start + weight * (end - start)`: 10, with a real weight 6."""
    difference = start if is_complex(start) else end
    return subtract(end, start) + multiply(weight, difference) + add(start, difference)


def scale_by_power_of_two(x: Any, exponent: Any) -> int:
    """Real operations in `x * 2 ** exponent`: 3, of a complex power of two 13."""
    return multiply(x, exponent) + (COMPLEX_PER_ELEMENT["exp2"] if is_complex(exponent) else 1)


COMPLEX_BY_OPERANDS: Final[Mapping[str, Callable[..., int]]] = {
    "mul": multiply,
    "pow": power,
    "lerp": interpolate,
    "ldexp": scale_by_power_of_two,
}
"""The same for operators whose cost depends on which of their operands are complex."""
