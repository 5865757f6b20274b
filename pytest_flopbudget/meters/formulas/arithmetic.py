"""Element-wise arithmetic whose cost depends on its arguments: a factor, a mode, a degree."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas import complex_numbers
from pytest_flopbudget.meters.formulas.elementwise import (
    is_complex,
    per_element,
    real_parts,
    result_numel,
)
from pytest_flopbudget.meters.formulas.registry import formula


def _factor(factor: Any, operand: Any) -> int:
    """Multiplying an operand by a factor, which is nothing when it is the number 1."""
    if isinstance(factor, int | float | complex) and factor == 1:
        return 0
    return complex_numbers.multiply(factor, operand)


@formula("add")
def add(x: Any, y: Any, scalar_alpha: Any = 1, *, out: Any, alpha: Any = 1) -> int:
    """FLOPs of `self + alpha * other`.

    self, other: broadcast to the shape of out.
    Counts one add for each element, and one multiply when alpha is not 1; for complex
    numbers two and six, with a real alpha two and two.
    Source: the definition in the documentation of torch.add.
    """
    # The scalar forms take alpha as third argument.
    cost = complex_numbers.add(x, y) + _factor(scalar_alpha, y) + _factor(alpha, y)
    return cost * result_numel(out)


@formula("sub")
def sub(x: Any, y: Any, scalar_alpha: Any = 1, *, out: Any, alpha: Any = 1) -> int:
    """FLOPs of `self - alpha * other`.

    self, other: broadcast to the shape of out.
    Counts as `add` does.
    Source: the definition in the documentation of torch.sub.
    """
    cost = complex_numbers.subtract(x, y) + _factor(scalar_alpha, y) + _factor(alpha, y)
    return cost * result_numel(out)


@formula("rsub")
def rsub(x: Any, y: Any, scalar_alpha: Any = 1, *, out: Any, alpha: Any = 1) -> int:
    """FLOPs of `other - alpha * self`.

    self, other: broadcast to the shape of out.
    Counts as `add` does.
    Source: the definition in the documentation of torch.rsub.
    """
    return sub(y, x, scalar_alpha, out=out, alpha=alpha)


@formula("_add_relu")
def add_relu(*args: Any, out: Any, **kwargs: Any) -> int:
    """FLOPs of `relu(self + alpha * other)`.

    self, other: broadcast to the shape of out.
    Counts as `add`, and one comparison for each element.
    Source: the definitions of both.
    """
    return add(*args, out=out, **kwargs) + result_numel(out)


@formula("div")
def div(x: Any, y: Any, *, out: Any, rounding_mode: str | None = None) -> int:
    """FLOPs of a division.

    self, other: broadcast to the shape of out.
    Counts one division for each element, and one rounding in the modes "trunc" and
    "floor"; for complex numbers 11, by a real number 2, of a real number 8.
    Source: the definition in the documentation of torch.div.
    """
    return (complex_numbers.divide(x, y) + (rounding_mode is not None)) * result_numel(out)


@formula("addcmul")
def addcmul(x: Any, a: Any, b: Any, value: Any = 1, *, out: Any, **keyword: Any) -> int:
    """FLOPs of `self + value * tensor1 * tensor2`.

    self, tensor1, tensor2: broadcast to the shape of out.
    Counts one multiply and one add for each element, and one multiply when value is not
    1; for complex numbers six, two and six, with a real value two.
    Source: the definition in the documentation of torch.addcmul.
    """
    return _scaled_add(x, (a, b), complex_numbers.multiply(a, b), keyword.get("value", value), out)


@formula("addcdiv")
def addcdiv(x: Any, a: Any, b: Any, value: Any = 1, *, out: Any, **keyword: Any) -> int:
    """FLOPs of `self + value * tensor1 / tensor2`.

    self, tensor1, tensor2: broadcast to the shape of out.
    Counts one division and one add for each element, and one multiply when value is not
    1; for complex numbers eleven, two and six, with a real value two.
    Source: the definition in the documentation of torch.addcdiv.
    """
    return _scaled_add(x, (a, b), complex_numbers.divide(a, b), keyword.get("value", value), out)


def _scaled_add(x: Any, operands: tuple[Any, Any], combining: int, value: Any, out: Any) -> int:
    """`x + value * c`, where combining two operands to c costs so much."""
    combined = next((operand for operand in operands if is_complex(operand)), operands[0])
    scaled = value if is_complex(value) else combined
    cost = combining + _factor(value, combined) + complex_numbers.add(x, scaled)
    return cost * result_numel(out)


@formula("round")
@per_element
def _round(_x: Tensor, *, decimals: int = 0) -> int:
    """One rounding; to other decimals than 0 also a multiply by `10 ** decimals` and a division."""
    return 1 if decimals == 0 else 3


@formula("clamp")
@per_element
def _clamp(_x: Tensor, low: Any = None, high: Any = None, **keywords: Any) -> int:
    """One comparison for each bound that is given."""
    low = keywords.get("min", low)
    high = keywords.get("max", high)
    return (low is not None) + (high is not None)


@formula("logit")
@per_element
def _logit(_x: Tensor, eps: float | None = None) -> int:
    """`log(x / (1 - x))`: 3, and two comparisons when eps is given."""
    return 3 if eps is None else 5


@formula("nan_to_num")
def nan_to_num(x: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of replacing what is no finite number.

    x: any shape -> out: the same shape
    Counts three comparisons for each element, six where it is complex; integers are copied.
    Source: the definition in the documentation of torch.nan_to_num.
    """
    is_copied = not (x.is_floating_point() or x.is_complex())
    return 0 if is_copied else 3 * real_parts(x) * result_numel(out)


@formula("frexp")
@per_element
def _frexp(_x: Tensor) -> int:
    """The exponent, and the division of x by its power of two: 2, as IEEE 754's logB and scaleB."""
    return 2


@formula("polygamma")
@per_element
def _polygamma(n: int, _x: Tensor) -> int:
    """One function; from n = 2 on `(-1) ** (n + 1) * n! * zeta(n + 1, x)`, one more multiply."""
    return 1 if n < 2 else 2  # noqa: PLR2004 - digamma and trigamma are functions of their own


@formula("mvlgamma")
@per_element
def _mvlgamma(_x: Tensor, p: int) -> int:
    """`c + sum(lgamma(x + (1 - j) / 2) for j = 1 ... p)`: p offsets, p functions, p adds."""
    return 3 * p


def _terms(degree: Any, first: int, step: int) -> int | None:
    """The cost of a three-term recurrence: p1 costs `first`, each later one `step`.

    None for a tensor of degrees, which are data.
    """
    if isinstance(degree, Tensor):
        return None
    return first + step * (int(degree) - 1) if degree >= 1 else 0


@formula("special_hermite_polynomial_h")
@per_element
def _hermite_h(_x: Any, n: Any) -> int | None:
    """2x, then `2x * h[k] - 2k * h[k - 1]` to degree n: 3n - 2. A tensor n is not counted."""
    return _terms(n, first=1, step=3)


@formula("special_hermite_polynomial_he")
@per_element
def _hermite_he(_x: Any, n: Any) -> int | None:
    """`x * h[k] - k * h[k - 1]` from x to degree n: 3n - 3. A tensor n is not counted."""
    return _terms(n, first=0, step=3)


@formula("special_laguerre_polynomial_l")
@per_element
def _laguerre(_x: Any, n: Any) -> int | None:
    """1 - x, then `((2k + 1 - x) * l[k] - k * l[k - 1]) / (k + 1)` to degree n: 5n - 4.

    A tensor n is not counted.
    """
    return _terms(n, first=1, step=5)


@formula("special_legendre_polynomial_p")
@per_element
def _legendre(_x: Any, n: Any) -> int | None:
    """`((2k + 1) * x * p[k] - k * p[k - 1]) / (k + 1)` from x to degree n: 5n - 5.

    A tensor n is not counted.
    """
    return _terms(n, first=0, step=5)
