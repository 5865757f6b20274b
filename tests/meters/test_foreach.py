"""Operators on lists count what a loop over the plain operator counts."""

from __future__ import annotations

import math

import pytest
import torch

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas.foreach import FOREACH
from pytest_flopbudget.meters.plans import Road, plan_for

aten = torch.ops.aten
SHAPES = ((3, 5), (7,), (2, 1, 2))
N = 15 + 7 + 4
UNARY = (
    "abs",
    "acos",
    "asin",
    "atan",
    "ceil",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "floor",
    "frac",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "max",
    "neg",
    "reciprocal",
    "round",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
)
REAL_ALONE = (
    "ceil",
    "erf",
    "erfc",
    "floor",
    "frac",
    "lgamma",
    "max",
    "round",
    "sign",
    "trunc",
)
WITH_OTHERS = (
    "add",
    "sub",
    "mul",
    "div",
    "maximum",
    "minimum",
    "clamp_max",
    "clamp_min",
    "pow",
)
SCALARS = [0.3, 0.4, 0.5]


def _lists(count, dtype=torch.float32):
    return [[torch.rand(shape, dtype=dtype) + 0.1 for shape in SHAPES] for _ in range(count)]


def _loop(op, *args, **kwargs):
    """The plain operator on each tensor; lists go along together."""
    with FlopCounter() as counter:
        for at in range(len(SHAPES)):
            op(*(value[at] if isinstance(value, list) else value for value in args), **kwargs)
    return counter


def _check(name, *args, **kwargs):
    """The functional and the in-place form against the loop."""
    loop = _loop(getattr(torch, name), *args, **kwargs)
    with FlopCounter() as fused:
        getattr(torch, f"_foreach_{name}")(*args, **kwargs)
    assert fused.flops == loop.flops > 0
    assert fused.uncounted == loop.uncounted == ()
    in_place = getattr(torch, f"_foreach_{name}_", None)
    is_size = name == "abs" and args[0][0].is_complex()  # its result is real: not in place
    if in_place and not is_size:
        with FlopCounter() as fused:
            in_place(*args, **kwargs)
        assert fused.flops == loop.flops
        assert fused.uncounted == ()
    return loop.flops


def test_the_names_are_those_that_take_a_plain_operators_place():
    assert {*UNARY, *WITH_OTHERS, "addcdiv", "addcmul", "lerp", "mm"} == set(FOREACH)


def test_every_operator_on_lists_is_known():
    names = {
        full.partition(".")[0]
        for full in torch._C._dispatch_get_all_op_names()
        if full.startswith("aten::_foreach_")
    }
    assert len(names) > 80
    for name in names:
        packet = getattr(aten, name.removeprefix("aten::"))
        for overload in packet.overloads():
            assert plan_for(getattr(packet, overload)).road in (Road.COUNT, Road.FREE), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("name", UNARY)
def test_of_one_list(name, dtype):
    if dtype.is_complex and name in REAL_ALONE:
        with pytest.raises(RuntimeError):
            getattr(torch, f"_foreach_{name}")(*_lists(1, dtype))
        return
    flops = _check(name, *_lists(1, dtype))
    if name == "max":
        assert flops == N - len(SHAPES)
    elif not dtype.is_complex:
        assert flops == N * (2 if name == "frac" else 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow"])
def test_of_a_list_with_a_list_a_number_or_numbers(name, dtype):
    x, y = _lists(2, dtype)
    _check(name, x, y)
    _check(name, x, 0.3)
    _check(name, x, SCALARS)


@pytest.mark.parametrize("name", ["maximum", "minimum", "clamp_max", "clamp_min"])
def test_comparisons_count_one_for_each_element(name):
    x, y = _lists(2)
    with FlopCounter() as counter:
        for other in (y, 0.3, SCALARS):
            getattr(torch, f"_foreach_{name}")(x, other)
    assert counter.flops == 3 * N
    assert counter.uncounted == ()


def test_a_factor_counts_a_multiply_unless_it_is_one():
    x, y, z = _lists(3)
    assert _check("add", x, y) == N
    assert _check("add", x, y, alpha=3) == 2 * N
    assert _check("sub", x, y, alpha=3) == 2 * N
    assert measure(torch._foreach_add, x, torch.tensor(2.0), alpha=3).flops == 2 * N
    assert _check("addcmul", x, y, z) == 2 * N
    assert _check("addcdiv", x, y, z) == 2 * N
    for of in (torch._foreach_addcmul, torch._foreach_addcdiv):
        assert measure(of, x, y, z, 3).flops == 3 * N
        # one factor for each tensor: 1 for the first, of 15 elements
        assert measure(of, x, y, z, [1, 2, 3]).flops == 3 * N - 15
        # factors in a tensor are data
        assert measure(of, x, y, z, torch.ones(3)).flops == 3 * N
    assert _check("lerp", x, y, 0.3) == 3 * N
    assert _check("lerp", x, y, z) == 3 * N
    assert measure(torch._foreach_lerp, x, y, SCALARS).flops == 3 * N


def test_a_number_to_the_powers_of_a_list_counts_them():
    m = measure(torch._foreach_pow, 2.0, *_lists(1))
    assert (m.flops, m.uncounted) == (N, ())


def test_lists_of_real_and_complex_tensors_count_each_by_its_own():
    x = [torch.rand(3), torch.rand(5, dtype=torch.complex64)]
    m = measure(torch._foreach_mul, x, x)
    assert (m.flops, m.uncounted) == (3 + 6 * 5, ())


def test_products_of_lists_are_contractions():
    a, b = [torch.rand(2, 3), torch.rand(5, 7)], [torch.rand(3, 4), torch.rand(7, 11)]
    m = measure(aten._foreach_mm, a, b)
    assert m.macs == 2 * 3 * 4 + 5 * 7 * 11
    assert (m.flops, m.uncounted) == (2 * m.macs, ())


def test_copies_of_lists_are_free():
    (x,) = _lists(1)
    m = measure(lambda: aten._foreach_clone(x))
    assert (m.flops, m.uncounted) == (0, ())


@pytest.mark.parametrize(
    ("order", "sums", "root"),
    [
        # for each tensor of n elements: what n elements cost, n - 1 adds, and the root
        (2, N + (N - 3), 3),
        (1, N + (N - 3), 0),
        (math.inf, N + (N - 3), 0),
        (0, N + (N - 3), 0),
        (3, 2 * N + (N - 3), 3),
        (0.5, 2 * N + (N - 3), 3),
        (-1, 2 * N + (N - 3), 3),
    ],
)
def test_a_norm_counts_powers_sums_and_a_root(order, sums, root):
    (x,) = _lists(1)
    m = measure(torch._foreach_norm, x, order)
    assert (m.flops, m.uncounted) == (sums + root, ())
    if order not in (math.inf, 0, -1):
        m = measure(aten._foreach_powsum, x, order)
        assert (m.flops, m.uncounted) == (sums, ())


def test_a_norm_of_complex_numbers_counts_their_sizes():
    (x,) = _lists(1, torch.complex64)
    # a * a + b * b, n - 1 adds, a root
    assert measure(torch._foreach_norm, x).flops == 3 * N + (N - 3) + 3
    assert measure(torch._foreach_norm, x, 1).flops == 4 * N + (N - 3)


def test_a_norm_of_nothing_is_a_root():
    assert measure(torch._foreach_norm, [torch.rand(0)]).flops == 1
    assert measure(torch._foreach_norm, [torch.rand(0)], 1).flops == 0


def test_lists_given_a_place_for_their_results_count_the_same():
    x, y, out = _lists(3)
    with FlopCounter() as counter:
        aten._foreach_exp.out(x, out=out)
        aten._foreach_add.List_out(x, y, alpha=3, out=out)
    assert counter.flops == N + 2 * N
    assert counter.uncounted == ()
