"""Matrix products in every form: their multiply-accumulates by hand, and torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from pytest_flopbudget import measure
from pytest_flopbudget.meters.formulas.registry import formula_for

aten = torch.ops.aten
MODES = (torch.no_grad, torch.inference_mode, torch.enable_grad)
M, K, N, B = 5, 7, 3, 2


def ones(*shape):
    return torch.ones(shape)


def imaginary(*shape):
    return torch.ones(shape, dtype=torch.complex64)


@pytest.mark.filterwarnings("ignore:torch.chain_matmul is deprecated")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("call", "macs", "arithmetic"),
    [
        (lambda t: t(M, K) @ t(K, N), M * K * N, 0),
        (lambda t: t(B, M, K) @ t(K, N), B * M * K * N, 0),
        (lambda t: t(B, M, K) @ t(B, K, N), B * M * K * N, 0),
        (lambda t: t(M, K) @ t(K), M * K, 0),
        (lambda t: t(K) @ t(K), K, 0),
        (lambda t: torch.vdot(t(K), t(K)), K, 0),
        (lambda t: torch.inner(t(M, K), t(N, K)), M * K * N, 0),
        (lambda t: torch.mm(t(M, K), t(K, N), out=t(M, N)), M * K * N, 0),
        (lambda t: torch.bmm(t(B, M, K), t(B, K, N), out=t(B, M, N)), B * M * K * N, 0),
        (lambda t: torch.tensordot(t(M, B, K), t(B, K, N), 2), M * B * K * N, 0),
        (lambda t: torch.einsum("mk,kn->nm", t(M, K), t(K, N)), M * K * N, 0),
        (lambda t: torch.linalg.matrix_power(t(M, M), 4), 2 * M**3, 0),
        # (5x7 7x3) 3x5 is shorter than 5x7 (7x3 3x5)
        (lambda t: torch.linalg.multi_dot([t(M, K), t(K, N), t(N, M)]), M * K * N + M * N * M, 0),
        (lambda t: torch.chain_matmul(t(M, K), t(K, N), t(N, M)), M * K * N + M * N * M, 0),
        (lambda t: torch._foreach_mm([t(M, K), t(K, N)], [t(K, N), t(N, M)]), M * K * N * 2, 0),
        (lambda t: functional.linear(t(B, M, K), t(N, K)), B * M * K * N, 0),
    ],
)
def test_every_product_counts_its_terms_and_four_times_as_many_for_complex_numbers(
    call, macs, arithmetic, mode
):
    with mode():
        real, complex_ = measure(call, ones), measure(call, imaginary)
    assert (real.macs, real.flops) == (macs, 2 * macs + arithmetic)
    assert (complex_.macs, complex_.flops) == (4 * macs, 8 * macs + arithmetic)
    assert real.uncounted == complex_.uncounted == ()


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


ADDED = M * N  # elements of the result


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("call", "macs", "adds", "multiplies", "products"),
    [
        # multiplies: by a real scalar; products: of two elements that are not summed up
        (lambda t: torch.addmm(t(N), t(M, K), t(K, N)), M * K * N, ADDED, 0, 0),
        (lambda t: t(M, N).addmm_(t(M, K), t(K, N)), M * K * N, ADDED, 0, 0),
        (lambda t: torch.addmm(t(N), t(M, K), t(K, N), beta=0), M * K * N, 0, 0, 0),
        (
            lambda t: torch.addmm(t(N), t(M, K), t(K, N), beta=2, alpha=3, out=t(M, N)),
            M * K * N,
            ADDED,
            2 * ADDED,
            0,
        ),
        (
            lambda t: t(B, M, N).baddbmm_(t(B, M, K), t(B, K, N), alpha=3),
            B * M * K * N,
            B * ADDED,
            B * ADDED,
            0,
        ),
        (lambda t: t(M, N).addbmm_(t(B, M, K), t(B, K, N)), B * M * K * N, ADDED, 0, 0),
        (lambda t: t(M).addmv_(t(M, K), t(K), beta=2), M * K, M, M, 0),
        (lambda t: torch.addr(t(M, N), t(M), t(N)), 0, ADDED, 0, ADDED),
        (lambda t: t(M, N).addr_(t(M), t(N), beta=3), 0, ADDED, ADDED, ADDED),
        (lambda t: torch.addr(t(N), t(M), t(N), out=t(M, N), alpha=5), 0, ADDED, ADDED, ADDED),
        (lambda t: torch.outer(t(M), t(N)), 0, 0, 0, ADDED),
    ],
)
def test_what_is_added_to_a_product_is_counted_beside_its_terms(
    call, macs, adds, multiplies, products, mode
):
    with mode():
        real, complex_ = measure(call, ones), measure(call, imaginary)
    assert real.flops == 2 * macs + adds + multiplies + products
    assert complex_.flops == 8 * macs + 2 * adds + 2 * multiplies + 6 * products
    assert (real.macs, complex_.macs) == (macs, 4 * macs)
    assert real.uncounted == complex_.uncounted == ()


def test_a_complex_scalar_costs_a_complex_multiply():
    call = (imaginary(N), imaginary(M, K), imaginary(K, N))
    m = measure(torch.addmm, *call, alpha=1j)
    assert m.flops == 8 * M * K * N + (2 + 6) * M * N


@pytest.mark.parametrize(
    ("call", "forward"),
    [
        (lambda a, b: a @ b, M * K * N),
        (lambda a, b: torch.einsum("mk,kn->", a, b), None),
        (lambda a, b: torch.addmm(torch.ones(N), a, b), M * K * N),
    ],
)
def test_each_gradient_of_a_product_costs_one_forward(call, forward):
    a, b = ones(M, K).requires_grad_(), ones(K, N).requires_grad_()
    with FlopCounterMode(display=False) as second_opinion:
        call(a, b).sum().backward()
    m = measure(call, a, b, train=True)
    if forward is not None:
        assert m.macs == 3 * forward
    assert 2 * m.macs == second_opinion.get_total_flops()
    assert m.uncounted == ()


def test_an_overload_with_a_dtype_of_its_own_counts_as_the_plain_one():
    a, b, bias = meta(M, K, dtype=torch.half), meta(K, N, dtype=torch.half), meta(N)
    assert measure(torch.mm, a, b, out_dtype=torch.float32).macs == M * K * N
    m = measure(torch.addmm, bias, a, b, out_dtype=torch.float32)
    assert (m.macs, m.flops) == (M * K * N, 2 * M * K * N + M * N)
    m = measure(torch.bmm, a[None], b[None], out_dtype=torch.float32)
    assert m.macs == M * K * N
    # torch has no such form of this one without a GPU.
    work = formula_for("aten::baddbmm")(bias, a[None], b[None], torch.float32, out=meta(1, M, N))
    assert (work.macs, work.arithmetic) == (M * K * N, M * N)


def test_an_integer_product_is_integer_work():
    a, b = torch.ones(32, 64, dtype=torch.int8), torch.ones(64, 64, dtype=torch.int8)
    m = measure(torch._int_mm, a, b)
    assert (m.flops, m.macs, m.int_ops) == (0, 0, 2 * 32 * 64 * 64)
    assert m.int_ops == 262_144


def test_an_activation_fused_to_a_product_is_counted():
    call = (ones(N), ones(M, K), ones(K, N))
    assert measure(torch._addmm_activation, *call).flops == 2 * M * K * N + 2 * M * N
    gelu = measure(torch._addmm_activation, *call, use_gelu=True)
    assert gelu.flops == 2 * M * K * N + (1 + 5) * M * N


BATCH, LEFT, RIGHT, OUT = 8, 20, 30, 40


@pytest.mark.parametrize("mode", MODES)
def test_a_bilinear_layer_takes_the_left_product_first(mode):
    with mode():
        m = measure(
            functional.bilinear,
            ones(BATCH, LEFT),
            ones(BATCH, RIGHT),
            ones(OUT, LEFT, RIGHT),
            ones(OUT),
        )
    # x1 with the weight: [8, 20] x [20, 30] for each of 40; then [8, 30] with x2.
    assert m.macs == BATCH * OUT * (LEFT * RIGHT + RIGHT)
    assert m.flops == 2 * m.macs + BATCH * OUT
    assert m.uncounted == ()


def test_the_backward_of_a_bilinear_layer_counts_the_contractions_that_torch_runs():
    x1, x2 = ones(BATCH, LEFT), ones(BATCH, RIGHT)
    weight = ones(OUT, LEFT, RIGHT)
    tensors = [t.requires_grad_() for t in (x1, x2, weight)]
    m = measure(functional.bilinear, *tensors, train=True)
    forward = BATCH * OUT * (LEFT * RIGHT + RIGHT)
    # Of x1: grad with the weight element by element, then with x2 over RIGHT.
    # Of the weight: x1 with grad element by element, then with x2 over BATCH.
    # Of x2: x1 with the weight over LEFT, then with grad element by element.
    contracted = 3 * BATCH * OUT * LEFT * RIGHT
    multiplies = BATCH * OUT * (LEFT * RIGHT + LEFT + RIGHT)
    assert m.macs == forward + contracted
    slices = (OUT - 1) * BATCH * (LEFT + RIGHT)  # of the gradients of x1 and x2
    seed = BATCH * OUT - 1  # the loss is a sum
    assert m.flops == 2 * m.macs + multiplies + slices + seed
    assert m.uncounted == ()


def test_an_axis_that_one_factor_has_alone_is_added_up_before():
    # sum over i and j of a[b, i] * w[i] * c[b, j]: c is summed over j first.
    factors = (ones(B, M), ones(M), ones(B, K))
    layout = ([2], [0, 2], [1], [1, 2], 0)
    m = measure(aten._trilinear.default, *factors, *layout)
    # One slice for each b: i is summed with the weight, j in c alone, and they multiply.
    assert m.macs == B * M
    assert m.flops == 2 * m.macs + B * (K - 1) + B
    complex_ = measure(aten._trilinear.default, *(x.cfloat() for x in factors), *layout)
    assert complex_.flops == 8 * m.macs + 2 * B * (K - 1) + 6 * B


def linear_backward(op, mask):
    rule = formula_for(f"aten::{op}")
    return rule(meta(B, M, K), meta(B, M, N), meta(N, K), mask, out=None)


@pytest.mark.parametrize("op", ["linear_backward", "mkldnn_linear_backward"])
@pytest.mark.parametrize(
    ("mask", "macs", "arithmetic"),
    [
        ([True, True, True], 2 * B * M * K * N, (B * M - 1) * N),
        ([False, True, False], B * M * K * N, 0),
        ([False, False, True], 0, (B * M - 1) * N),
    ],
)
def test_a_linear_backward_counts_the_gradients_that_are_asked_for(op, mask, macs, arithmetic):
    work = linear_backward(op, mask)
    assert (work.macs, work.arithmetic) == (macs, arithmetic)


def test_a_linear_layer_in_the_layout_of_onednn_counts_forward_and_backward():
    x = ones(M, K).requires_grad_()
    weight, bias = ones(N, K).requires_grad_(), ones(N).requires_grad_()

    def call():
        return torch._C._nn.mkldnn_linear(x.to_mkldnn(), weight, bias).to_dense()

    with torch.no_grad():
        m = measure(call)
    assert (m.macs, m.flops) == (M * K * N, 2 * M * K * N + M * N)
    assert m.uncounted == ()
    m = measure(call, train=True)
    assert m.macs == 3 * M * K * N
    # Adding the bias, its gradient, and the loss, which is a sum.
    assert m.flops == 2 * m.macs + M * N + (M - 1) * N + (M * N - 1)
    assert m.uncounted == ()


def test_the_parts_of_that_backward_count_alone():
    out, weight = meta(M, N), meta(N, K)
    of_x = formula_for("aten::mkldnn_linear_backward_input")([M, K], out, weight, out=None)
    parts = formula_for("aten::mkldnn_linear_backward_weights")
    of_weight = parts(out, meta(M, K), weight, True, out=None)
    assert (of_x.macs, of_x.arithmetic) == (M * K * N, 0)
    assert (of_weight.macs, of_weight.arithmetic) == (M * K * N, (M - 1) * N)


def test_a_product_backward_adds_up_what_was_broadcast():
    rule = formula_for("aten::matmul_backward")
    grad, a, b = meta(B, M, N), meta(B, M, K), meta(K, N)
    work = rule(grad, a, b, [True, True], out=None)
    assert (work.macs, work.arithmetic) == (2 * B * M * K * N, (B - 1) * K * N)
    assert rule(grad, a, b, [True, False], out=None).macs == B * M * K * N


@pytest.mark.parametrize(
    ("a", "b", "offsets", "macs"),
    [
        ((12, 16), (3, 16, 8), [4, 8, 12], 12 * 16 * 8),  # groups of rows
        ((3, 12, 16), (16, 24), [8, 16, 24], 12 * 16 * 24),  # groups of columns
        ((12, 32), (32, 8), [16, 32], 12 * 32 * 8),  # groups of terms
        ((3, 12, 16), (3, 16, 8), None, 3 * 12 * 16 * 8),  # a plain batch
    ],
)
def test_grouped_products_count_all_their_rows_columns_and_terms(a, b, offsets, macs):
    left = torch.ones(a, dtype=torch.bfloat16)
    right = torch.ones(b, dtype=torch.bfloat16).transpose(-1, -2).contiguous().transpose(-1, -2)
    ends = torch.tensor(offsets, dtype=torch.int32) if offsets else None
    m = measure(torch._grouped_mm, left, right, ends)
    assert (m.macs, m.flops) == (macs, 2 * macs)
    assert m.uncounted == ()


def float8(*shape):
    return torch.ones(shape).to(torch.float8_e4m3fn)


def test_a_scaled_product_multiplies_each_element_by_each_scale():
    a, b = float8(32, 48), float8(64, 48).t()
    one = torch.tensor(1.0)
    m = measure(torch._scaled_mm, a, b, one, one, out_dtype=torch.bfloat16)
    assert m.macs == 32 * 48 * 64 == 98_304
    assert m.flops == 2 * m.macs + 2 * 32 * 64
    bias = torch.ones(64, dtype=torch.bfloat16)
    with_bias = measure(torch._scaled_mm, a, b, one, one, bias, out_dtype=torch.bfloat16)
    assert with_bias.flops == 2 * m.macs + 3 * 32 * 64
    assert m.uncounted == with_bias.uncounted == ()


def test_scales_of_blocks_are_multiplied_once_for_each_block():
    rule = formula_for("aten::_scaled_mm")
    a, b, out = meta(32, 256, dtype=torch.float8_e4m3fn), meta(256, 64), meta(32, 64)
    rows = rule(a, b, meta(32, 1), meta(1, 64), out=out)
    assert (rows.macs, rows.arithmetic) == (32 * 256 * 64, 2 * 32 * 64)
    blocks = rule(a, b, meta(32, 2), meta(2, 1), out=out)  # 256 terms in blocks of 128
    assert blocks.arithmetic == (2 + 2) * 32 * 64
    mx = meta(512, dtype=torch.float8_e8m0fnu)  # 256 terms in blocks of 32
    assert rule(a, b, mx, mx, out=out).arithmetic == (8 + 8) * 32 * 64
    result = rule(a, b, meta(1), meta(1), None, meta(1), out=out)
    assert result.arithmetic == 3 * 32 * 64
    # Two float4 are packed into one element: 512 terms, in blocks of 16.
    packed = meta(32, 256, dtype=torch.float4_e2m1fn_x2)
    scale = meta(1024, dtype=torch.float8_e4m3fn)
    work = rule(packed, b, scale, scale, out=out)
    assert (work.macs, work.arithmetic) == (32 * 512 * 64, 2 * 32 * 32 * 64)


def test_recipes_say_how_often_is_scaled():
    a, b, out = meta(32, 256, dtype=torch.float8_e4m3fn), meta(256, 64), meta(32, 64)
    recipes = functional.ScalingType
    whole, rows = recipes.TensorWise.value, recipes.RowWise.value
    narrow, block = recipes.BlockWise1x32.value, recipes.BlockWise1x128.value
    for name, more in (("_scaled_mm_v2", ()), ("_scaled_grouped_mm_v2", (None,))):
        rule = formula_for(f"aten::{name}")
        plain = rule(a, b, [], [whole], [], [], [rows], [], *more, out=out)
        assert (plain.macs, plain.arithmetic) == (32 * 256 * 64, 2 * 32 * 64)
        mixed = rule(a, b, [], [narrow], [], [], [block, whole], [], *more, meta(64), out=out)
        assert mixed.arithmetic == (8 + 2 + 1 + 1) * 32 * 64


def test_scaled_groups_count_as_groups_with_scales():
    rule = formula_for("aten::_scaled_grouped_mm")
    a, b = meta(12, 16, dtype=torch.float8_e4m3fn), meta(3, 16, 8)
    work = rule(a, b, meta(12), meta(3, 8), meta(3), out=meta(12, 8))
    assert (work.macs, work.arithmetic) == (12 * 16 * 8, 2 * 12 * 8)


def test_a_linear_layer_of_mixed_types_scales_its_weight():
    rule = formula_for("aten::_mixed_dtypes_linear")
    work = rule(meta(M, K), meta(K, N), meta(N), bias=meta(N), activation="silu", out=meta(M, N))
    assert (work.macs, work.arithmetic) == (M * K * N, K * N + M * N + 2 * M * N)


@pytest.mark.parametrize("mode", MODES)
def test_sums_over_products_of_elements_are_no_products_of_matrices(mode):
    x, y = ones(M, K), ones(M, K)
    with mode():
        vecdot = measure(torch.linalg.vecdot, x, y)
        similarity = measure(functional.cosine_similarity, x, y)
        trapezoid = measure(torch.trapezoid, x)
        kron = measure(torch.kron, x, ones(B, N))
        vander = measure(torch.vander, ones(M))
    assert vecdot.flops == M * (2 * K - 1)
    # Two norms of 2k, each made no smaller than eps; the divisions of both; their vecdot.
    assert similarity.flops == 2 * M * 2 * K + 2 * M + 2 * M * K + M * (2 * K - 1)
    # The sum, less half of the first and the last: an add, a multiply, and dx.
    assert trapezoid.flops == M * (K - 1) + M * (1 + 1 + 1 + 1)
    assert kron.flops == M * K * B * N
    assert vander.flops == M * (M - 2)
    for m in (vecdot, similarity, trapezoid, kron, vander):
        assert (m.macs, m.uncounted) == (0, ())
