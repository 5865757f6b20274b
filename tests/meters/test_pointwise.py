"""Element-wise operators count their definition for each element, in every form."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas import FAMILIES
from pytest_flopbudget.meters.formulas.pointwise import PER_ELEMENT, PER_ELEMENT_WITHOUT_OPTIONS
from pytest_flopbudget.meters.plans import Road, plan_for

assert FAMILIES
aten = torch.ops.aten
N = 3 * 5

ONE = (
    # adds, multiplies, divisions
    "mul",
    "remainder",
    "fmod",
    "neg",
    "reciprocal",
    "square",
    "deg2rad",
    "rad2deg",
    # comparisons
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "relu",
    "abs",
    "sign",
    "sgn",
    "signbit",
    "isnan",
    "isinf",
    "isposinf",
    "isneginf",
    "clamp_min",
    "clamp_max",
    "angle",
    "copysign",
    "nextafter",
    "floor",
    "ceil",
    "trunc",
    # transcendentals
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfc",
    "erfinv",
    "sigmoid",
    "pow",
    # functions without an elementary definition
    "digamma",
    "lgamma",
    "i0",
    "igamma",
    "igammac",
    "special_airy_ai",
    "special_bessel_j0",
    "special_bessel_j1",
    "special_bessel_y0",
    "special_bessel_y1",
    "special_erfcx",
    "special_i0e",
    "special_i1",
    "special_i1e",
    "special_modified_bessel_i0",
    "special_modified_bessel_i1",
    "special_modified_bessel_k0",
    "special_modified_bessel_k1",
    "special_ndtri",
    "special_scaled_modified_bessel_k0",
    "special_scaled_modified_bessel_k1",
    "special_zeta",
    "_standard_gamma_grad",
)
BINARY = (
    "mul",
    "remainder",
    "fmod",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "clamp_min",
    "clamp_max",
    "copysign",
    "nextafter",
    "atan2",
    "pow",
    "igamma",
    "igammac",
    "special_zeta",
    "_standard_gamma_grad",
)


def _numbers():
    return torch.rand(3, 5) * 0.8 + 0.1


def _arguments(name):
    return (_numbers(), _numbers()) if name in BINARY else (_numbers(),)


@pytest.mark.parametrize("name", ONE)
def test_one_operation_is_one_flop_for_each_element(name):
    m = measure(getattr(aten, name), *_arguments(name))
    assert (m.flops, m.uncounted) == (N, ())


@pytest.mark.parametrize("name", ONE)
def test_in_place_and_out_forms_count_the_same(name):
    args = _arguments(name)
    result = getattr(aten, name)(*args)
    packet = getattr(aten, name)
    if "out" in {overload.rpartition("_")[2] for overload in packet.overloads()}:
        m = measure(packet, *args, out=torch.empty_like(result))
        assert (m.flops, m.uncounted) == (N, ())
    in_place = getattr(aten, f"{name}_", None)
    if in_place is not None:
        m = measure(in_place, *(arg.clone() for arg in args))
        assert (m.flops, m.uncounted) == (N, ())


@pytest.mark.parametrize(
    ("call", "each"),
    [
        (torch.floor_divide, 1 + 1),
        (lambda x, y: torch.frac(x), 1 + 1),
        (torch.heaviside, 2),
        (torch.ldexp, 1 + 1),
        (torch.hypot, 2 + 1 + 1),
        # comparison, difference, exponential, logarithm, sum
        (torch.logaddexp, 5),
        (torch.logaddexp2, 5 + 1),
        # pi x, comparison with 0, sine, division
        (lambda x, y: torch.sinc(x), 4),
        # two comparisons, a logarithm, a product
        (torch.xlogy, 4),
        (lambda x, y: torch.xlogy(x, 0.3), 4),
        (lambda x, y: torch.xlogy(0.3, y), 4),
        (torch.special.xlog1py, 4),
        (lambda x, y: torch.special.zeta(x + 2, 0.3), 1 + 1),
        # three comparisons, a negation, a logarithm, a product
        (lambda x, y: torch.special.entr(x), 6),
        # x / sqrt(2), erf, 1 +, half, logarithm
        (lambda x, y: torch.special.log_ndtr(x), 5),
        (lambda x, y: torch.special.ndtr(x), 4),
        (lambda x, y: torch.special.spherical_bessel_j0(x), 3),
        (lambda x, y: torch.special.expit(x), 1),
        (lambda x, y: torch.special.psi(x), 1),
        (torch.special.gammainc, 1),
        (lambda x, y: torch.logit(x), 3),
        (lambda x, y: torch.logit(x, 0.1), 3 + 2),
        (lambda x, y: torch.special.logit(x, eps=0.1), 3 + 2),
        (lambda x, y: torch.nan_to_num(x), 3),
        (lambda x, y: torch.frexp(x), 2),
        (lambda x, y: torch.polygamma(0, x), 1),
        (lambda x, y: torch.polygamma(1, x), 1),
        (lambda x, y: torch.polygamma(3, x), 2),
        # an offset and a function for each of 4, three sums and the constant
        (lambda x, y: torch.mvlgamma(x + 4, 4), 1 + 4 + 4 + 3 + 1),
        (lambda x, y: torch.lerp(x, y, 0.3), 3),
        (lambda x, y: torch.lerp(x, y, y), 3),
        (lambda x, y: torch.float_power(x, 3), 1),
        (lambda x, y: torch.round(x), 1),
        (lambda x, y: torch.round(x, decimals=2), 3),
        (lambda x, y: torch.special.round(x, decimals=2), 3),
        (torch.add, 1),
        (lambda x, y: torch.add(x, y, alpha=1.0), 1),
        (lambda x, y: torch.add(x, y, alpha=3), 2),
        (lambda x, y: torch.add(x, 2, alpha=3), 2),
        (lambda x, y: torch.sub(x, y, alpha=3), 2),
        (torch.rsub, 1),
        (lambda x, y: torch.rsub(x, y, alpha=3), 2),
        (lambda x, y: torch.rsub(x, 2, 3), 2),
        (lambda x, y: 2 - x, 1),
        (lambda x, y: x.clone().add_(y, alpha=3), 2),
        (lambda x, y: aten.add.Scalar(x, 2, 3), 2),
        (aten._add_relu, 2),
        (lambda x, y: aten._add_relu(x, y, alpha=3), 3),
        (torch.div, 1),
        (lambda x, y: torch.div(x, 2, rounding_mode=None), 1),
        (lambda x, y: torch.div(x, y, rounding_mode="floor"), 2),
        (lambda x, y: torch.div(x, 2, rounding_mode="trunc"), 2),
        (lambda x, y: x.clone().div_(y, rounding_mode="floor"), 2),
        (lambda x, y: torch.div(x, y, rounding_mode="floor", out=torch.empty(3, 5)), 2),
        (lambda x, y: 2 / x, 1 + 1),  # torch runs a reciprocal and a product
        (torch.true_divide, 1),
        (lambda x, y: torch.square(x), 1),
        # size, and the comparisons with infinity and with itself
        (lambda x, y: torch.isfinite(x), 3),
        (lambda x, y: torch.remainder(5, y), 1),
        (lambda x, y: torch.pow(2.0, y), 1),
        (lambda x, y: torch.addcmul(x, x, y), 2),
        (lambda x, y: torch.addcmul(x, x, y, value=3), 3),
        (lambda x, y: torch.addcdiv(x, x, y), 2),
        (lambda x, y: torch.addcdiv(x, x, y, value=3), 3),
        (lambda x, y: x.clone().addcdiv_(x, y, value=3), 3),
        (lambda x, y: torch.addcdiv(x, x, y, value=3, out=torch.empty(3, 5)), 3),
        (torch.clamp, 1),
        (lambda x, y: torch.clamp(x, y, y), 2),
        (lambda x, y: torch.clamp(x, max=y), 1),
        (lambda x, y: torch.clamp(x, 0.1, 0.2), 2),
        (lambda x, y: torch.clip(x, min=0.1), 1),
        (lambda x, y: torch.where(MASK, x, y), 0),
        (lambda x, y: x.masked_fill(MASK, 0.0), 0),
    ],
)
@pytest.mark.parametrize("context", [torch.enable_grad, torch.inference_mode])
def test_a_compound_counts_its_definition(call, each, context):
    with context():
        m = measure(call, _numbers(), _numbers())
    assert (m.flops, m.uncounted) == (each * N, ())


MASK = torch.tensor([True, False, True, True, False])


@pytest.mark.parametrize(
    ("name", "each"),
    [
        # t = acos(x); cos(n t)
        ("chebyshev_polynomial_t", 3),
        # t; n + 1, product, sine; sine, division
        ("chebyshev_polynomial_u", 6),
        # t; n + 1/2, product, cosine; half of t, cosine, division
        ("chebyshev_polynomial_v", 7),
        ("chebyshev_polynomial_w", 7),
        ("shifted_chebyshev_polynomial_t", 3 + 2),
        ("shifted_chebyshev_polynomial_u", 6 + 2),
        ("shifted_chebyshev_polynomial_v", 7 + 2),
        ("shifted_chebyshev_polynomial_w", 7 + 2),
    ],
)
def test_a_chebyshev_polynomial_counts_its_closed_form_at_any_degree(name, each):
    polynomial = getattr(torch.special, name)
    x = _numbers()
    for degree in (2, 9, torch.full((3, 5), 4)):
        m = measure(polynomial, x, degree)
        assert (m.flops, m.uncounted) == (each * N, ())
    m = measure(polynomial, 0.3, torch.full((3, 5), 4))
    assert (m.flops, m.uncounted) == (each * N, ())


@pytest.mark.parametrize(
    ("name", "first", "later"),
    [
        # 2x; then two products and a difference
        ("hermite_polynomial_h", 1, 3),
        ("hermite_polynomial_he", 0, 3),
        # 1 - x; then a difference, two products, a difference, a division
        ("laguerre_polynomial_l", 1, 5),
        # three products, a difference, a division
        ("legendre_polynomial_p", 0, 5),
    ],
)
def test_other_polynomials_count_their_recurrence_up_to_the_degree(name, first, later):
    polynomial = getattr(torch.special, name)
    x = _numbers()
    assert measure(polynomial, x, 0).flops == 0
    assert measure(polynomial, x, 1).flops == first * N
    m = measure(polynomial, x, 4)
    assert (m.flops, m.uncounted) == ((first + 3 * later) * N, ())
    # Degrees in a tensor are data: that is not counted, and said.
    m = measure(polynomial, x, torch.full((3, 5), 4))
    assert [row.operator for row in m.uncounted] == [f"aten.special_{name}.default"]


def test_integers_count_integer_operations():
    i, j = torch.arange(15).reshape(3, 5), torch.arange(15).reshape(3, 5) + 1
    assert measure(torch.gcd, i, j).int_ops == N
    # gcd, division, product, absolute value
    assert measure(torch.lcm, i, j).int_ops == 4 * N
    assert measure(lambda: i // j).int_ops == 2 * N
    assert measure(torch.nan_to_num, i).int_ops == 0  # a copy
    m = measure(lambda: (i << 2, i >> 1, i & j))
    assert (m.int_ops, m.flops, m.uncounted) == (0, 0, ())


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x.cauchy_(),
        lambda x: x.log_normal_(),
        lambda x: x.geometric_(0.5),
        lambda x: x.exponential_(),
        torch.poisson,
        lambda x: aten.binomial(HUNDREDS, x),
        aten._standard_gamma,
        aten._sample_dirichlet,
    ],
)
def test_drawing_random_numbers_is_free(draw):
    m = measure(draw, _numbers())
    assert (m.flops, m.uncounted) == (0, ())


HUNDREDS = torch.full((3, 5), 100.0)


def test_gradients_of_drawn_numbers_are_one_function():
    x = _numbers().requires_grad_()
    with FlopCounter() as counter:
        aten._standard_gamma(x).backward(torch.ones(3, 5))
    # the function, and its product with the gradient
    assert (counter.flops, counter.uncounted) == (2 * N, ())
    m = measure(aten._dirichlet_grad, _numbers(), _numbers(), _numbers())
    assert (m.flops, m.uncounted) == (N, ())


def test_fake_tensors_count_the_same():
    with FakeTensorMode(), FlopCounter() as counter:
        x = torch.rand(3, 5)
        torch.lgamma(x)
        torch.div(x, x, rounding_mode="floor")
        torch.special.legendre_polynomial_p(x, 4)
        torch._foreach_add([x, x], [x, x], alpha=2)
    assert counter.flops == (1 + 2 + 15 + 2 * 2) * N
    assert counter.uncounted == ()


def test_the_table_holds_whenever_the_result_is_one_tensor():
    """What multiplies the table's number by the elements of the result relies on it."""
    names = {*PER_ELEMENT, *PER_ELEMENT_WITHOUT_OPTIONS}
    seen = set()
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.removeprefix("aten::").partition(".")
        if name.removesuffix("_") in names:
            seen.add(name.removesuffix("_"))
            op = getattr(getattr(aten, name), overload or "default")
            assert [str(result.type) for result in op._schema.returns] == ["Tensor"], op
            assert plan_for(op).road is Road.COUNT, op
    assert seen == names


@pytest.mark.parametrize("name", PER_ELEMENT_WITHOUT_OPTIONS)
def test_the_short_table_holds_without_options(name):
    args = (_numbers(),) if name in ("round", "gelu") else (_numbers(), _numbers())
    m = measure(getattr(aten, name), *args)
    assert m.flops == PER_ELEMENT_WITHOUT_OPTIONS[name] * N
