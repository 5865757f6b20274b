"""Complex functions count their definitions, which are run here in real arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas.complex_numbers import COMPLEX_PER_ELEMENT
from pytest_flopbudget.meters.formulas.pointwise import PER_ELEMENT

LN2, LN10 = math.log(2), math.log(10)
N = 3 * 5
MASK = torch.tensor([True, False, True, True, False])

# Complex numbers as pairs of real tensors; conjugation is a choice of signs, and free.


def times(z, w):
    (a, b), (c, d) = z, w
    return a * c - b * d, a * d + b * c


def plus(z, w):
    return z[0] + w[0], z[1] + w[1]


def minus(z, w):
    return z[0] - w[0], z[1] - w[1]


def one_plus(z):
    return z[0] + 1, z[1]


def one_minus(z):
    return 1 - z[0], -z[1]


def scaled(z, factor):
    return z[0] * factor, z[1] * factor


def times_i(z):
    return -z[1], z[0]


def size(z):
    return (z[0] * z[0] + z[1] * z[1]).sqrt()


def over(z, w):
    (a, b), (c, d) = z, w
    # z * conj(w) in the six operations of a product.
    real, imaginary = a * c + b * d, b * c - a * d
    square = c * c + d * d
    return real / square, imaginary / square


def reciprocal(z):
    square = z[0] * z[0] + z[1] * z[1]
    return z[0] / square, -z[1] / square


def exp(z):
    growth = z[0].exp()
    return growth * z[1].cos(), growth * z[1].sin()


def expm1(z):
    growth, turn = exp(z)
    return growth - 1, turn


def log(z):
    return size(z).log(), torch.atan2(z[1], z[0])


def sqrt(z):
    r = size(z)
    return ((r + z[0]) / 2).sqrt(), torch.copysign(((r - z[0]) / 2).sqrt(), z[1])


def sigmoid(z):
    return reciprocal(one_plus(exp((-z[0], -z[1]))))


def asin(z):
    root = sqrt(one_minus(times(z, z)))
    u, v = log(plus(times_i(z), root))
    return v, -u


def acos(z):
    u, v = asin(z)
    return math.pi / 2 - u, -v


def atan(z):
    iz = times_i(z)
    u, v = minus(log(one_minus(iz)), log(one_plus(iz)))
    u, v = u / 2, v / 2
    return -v, u


def tan(z):
    a, b = 2 * z[0], 2 * z[1]
    below = a.cos() + b.cosh()
    return a.sin() / below, b.sinh() / below


def tanh(z):
    a, b = 2 * z[0], 2 * z[1]
    below = a.cosh() + b.cos()
    return a.sinh() / below, b.sin() / below


def acosh(z):
    roots = times(sqrt((z[0] + 1, z[1])), sqrt((z[0] - 1, z[1])))
    return log(plus(z, roots))


def sgn(z):
    r = size(z)
    at_zero = r == 0
    return (
        torch.where(at_zero, r, z[0] / r),
        torch.where(at_zero, r, z[1] / r),
    )


def sinc(z):
    pz = scaled(z, math.pi)
    assert not ((pz[0] == 0) & (pz[1] == 0)).any()
    return over((pz[0].sin() * pz[1].cosh(), pz[0].cos() * pz[1].sinh()), pz)


DEFINITIONS = {
    "neg": lambda z: (-z[0], -z[1]),
    "abs": size,
    "angle": lambda z: torch.atan2(z[1], z[0]),
    "sgn": sgn,
    "square": lambda z: times(z, z),
    "reciprocal": reciprocal,
    "exp": exp,
    "exp2": lambda z: exp(scaled(z, LN2)),
    "expm1": expm1,
    "log": log,
    "log2": lambda z: scaled(log(z), 1 / LN2),
    "log10": lambda z: scaled(log(z), 1 / LN10),
    "log1p": lambda z: log(one_plus(z)),
    "sqrt": sqrt,
    "rsqrt": lambda z: reciprocal(sqrt(z)),
    "sin": lambda z: (z[0].sin() * z[1].cosh(), z[0].cos() * z[1].sinh()),
    "cos": lambda z: (z[0].cos() * z[1].cosh(), -(z[0].sin() * z[1].sinh())),
    "tan": tan,
    "sinh": lambda z: (z[0].sinh() * z[1].cos(), z[0].cosh() * z[1].sin()),
    "cosh": lambda z: (z[0].cosh() * z[1].cos(), z[0].sinh() * z[1].sin()),
    "tanh": tanh,
    "asin": asin,
    "acos": acos,
    "atan": atan,
    "asinh": lambda z: log(plus(z, sqrt(one_plus(times(z, z))))),
    "acosh": acosh,
    "atanh": lambda z: scaled(minus(log(one_plus(z)), log(one_minus(z))), 0.5),
    "sigmoid": sigmoid,
    "silu": lambda z: times(z, sigmoid(z)),
    "sinc": sinc,
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_complex_function_is_and_counts_its_definition(name):
    a, b = torch.rand(3, 5, dtype=torch.float64) + 0.1, torch.rand(3, 5, dtype=torch.float64) + 0.1
    z = torch.complex(a, b)
    with FlopCounter() as real:
        expected = DEFINITIONS[name]((a, b))
    m = measure(getattr(torch.ops.aten, name), z)
    assert m.flops == real.flops == COMPLEX_PER_ELEMENT.get(name, 6) * N
    assert m.uncounted == real.uncounted == ()
    value = m.output if isinstance(expected, torch.Tensor) else torch.view_as_real(m.output)
    if not isinstance(expected, torch.Tensor):
        expected = torch.stack(expected, -1)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(
    ("call", "each"),
    [
        # real and imaginary parts are added; a real operand has one part
        (lambda z, x: z + z, 2),
        (lambda z, x: z + x, 1),
        (lambda z, x: x + z, 1),
        (lambda z, x: z + 2.5, 1),
        (lambda z, x: z - x, 1),
        (lambda z, x: x - z, 2),  # its imaginary part is negated
        (lambda z, x: 2.5 - z, 2),
        (lambda z, x: torch.add(z, z, alpha=2), 2 + 2),
        (lambda z, x: torch.add(z, z, alpha=2j), 2 + 6),
        (lambda z, x: torch.add(z, x, alpha=2), 1 + 1),
        (lambda z, x: torch.sub(z, z, alpha=2), 2 + 2),
        (lambda z, x: z * z, 6),
        (lambda z, x: z * x, 2),
        (lambda z, x: x * z, 2),
        (lambda z, x: z * 2.5, 2),
        (lambda z, x: x * 2.5j, 2),
        (lambda z, x: z / z, 6 + 3 + 2),
        (lambda z, x: z / x, 2),
        (lambda z, x: x / z, 2 + 1 + 3 + 2),
        (lambda z, x: z / 2.5, 2),
        (lambda z, x: z**2, 6),
        (lambda z, x: z**2.5, 6 + 2 + 5),
        (lambda z, x: z**z, 6 + 6 + 5),
        (lambda z, x: z**x, 6 + 2 + 5),
        (lambda z, x: x**z, 1 + 2 + 5),
        (lambda z, x: torch.pow(2.5, z), 1 + 2 + 5),
        (lambda z, x: torch.lerp(z, z, 0.3), 2 + 2 + 2),
        (lambda z, x: torch.lerp(z, z, z), 2 + 6 + 2),
        (lambda z, x: torch.addcmul(z, z, z), 6 + 2),
        (lambda z, x: torch.addcmul(z, z, z, value=3), 6 + 2 + 2),
        (lambda z, x: torch.addcdiv(z, z, z), 11 + 2),
        (lambda z, x: torch.addcdiv(z, z, z, value=3j), 11 + 6 + 2),
        (torch.ldexp, 1 + 2),
        (lambda z, x: torch.polar(x, x), 4),
        (lambda z, x: torch.logaddexp(z, z), 1 + 2 + 5 + 7 + 2),
        (lambda z, x: torch.eq(z, 3), 2),
        (lambda z, x: z.isnan(), 2),
        # size, and two comparisons, of each part
        (lambda z, x: z.isfinite(), 2 * 3),
        (lambda z, x: torch.nan_to_num(z), 2 * 3),
        (lambda z, x: torch.equal(z, z), 2),
        (lambda z, x: torch.complex(x, x), 0),
        (lambda z, x: torch.conj_physical(z), 0),
        (lambda z, x: z.conj().clone(), 0),
        (lambda z, x: torch.ops.aten.sigmoid_backward(z, z), 2 + 6 + 6),
        (lambda z, x: torch.ops.aten.tanh_backward(z, z), 6 + 2 + 6),
        (lambda z, x: torch.ops.aten.silu_backward(z, z), 14 + 2 + 6 + 1 + 6 + 6),
        (lambda z, x: torch.native_dropout(z, 0.5, True), 2 * 2),
        (lambda z, x: torch.ops.aten.native_dropout_backward(z, MASK, 2.0), 2 * 2),
        (lambda z, x: z.index_add(0, torch.tensor([0, 0, 1]), z), 2),
        (lambda z, x: z.index_add(0, torch.tensor([0, 0, 1]), z, alpha=3), 2 + 2),
    ],
)
def test_complex_arithmetic_counts_the_real_arithmetic_of_its_operands(call, each):
    z = torch.rand(3, 5, dtype=torch.complex64)
    m = measure(call, z, torch.rand(3, 5))
    assert m.flops == each * N
    assert m.uncounted == ()


@pytest.mark.parametrize("name", sorted(set(PER_ELEMENT) - set(COMPLEX_PER_ELEMENT)))
def test_what_has_no_complex_cost_does_not_run_on_complex_numbers(name):
    op = getattr(torch.ops.aten, name)
    z = torch.rand(3, 5, dtype=torch.complex64)
    by_operands = {"mul", "pow", "lerp", "ldexp"}
    for args in ((z,), (z, z), (z, z, z), (z, 0.5), (z, z, 0.5), (z, 0.0, 1.0), (z, z, 0.1, 0.2)):
        try:
            op(*args)
        except (RuntimeError, TypeError, NotImplementedError):
            continue
        assert name in by_operands, f"{name} runs on complex numbers, and is not counted"


def test_through_autograd_complex_functions_are_counted():
    z = torch.rand(3, 5, dtype=torch.complex64, requires_grad=True)
    with FlopCounter() as counter:
        torch.tanh(z).backward(torch.ones_like(z))
    assert counter.flops == (9 + 14) * N
    assert counter.uncounted == ()
