"""Linear algebra against the textbooks' counts, written out here from the sizes."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
import torch
from torch._subclasses import FakeTensorMode

from pytest_flopbudget import measure
from pytest_flopbudget.meters.formulas.registry import formula_for

aten = torch.ops.aten
MODES = (torch.no_grad, torch.inference_mode, torch.enable_grad)
M, N, K, BATCH = 7, 4, 3, 5


def _symmetric(size):
    """Positive definite, and far from singular."""
    a = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    return a @ a.mT + size * torch.eye(size)


SQUARE = _symmetric(M)
TALL = torch.randn(M, N, generator=torch.Generator().manual_seed(0))


def thirds(number):
    return floor(Fraction(number, 3))


def lu(m, n):
    short, long = sorted((m, n))
    return Fraction(3 * long * short**2 - short**3, 3)


def solves(n, k):
    return 2 * n**2 * k


def test_the_hand_values_of_the_research_hold_where_they_count_the_same_work():
    a = _symmetric(64)
    solve = measure(torch.linalg.solve, a, torch.randn(64))
    assert solve.flops == floor(Fraction(2, 3) * 64**3 + 2 * 64**2) == 182_954
    r_alone = measure(torch.linalg.qr, a, "r")
    assert r_alone.flops == floor(Fraction(4, 3) * 64**3) == 349_525
    with_q = measure(torch.linalg.qr, a)
    assert with_q.flops == floor(Fraction(8, 3) * 64**3) == 699_050
    gram = measure(lambda: torch.linalg.cholesky(a @ a.T))
    assert gram.flops == 2 * 64**3 + thirds(64**3) == 611_669
    # Singular values alone, by the cheaper algorithm; R-SVD would take 4n^3 = 1,048,576.
    values = measure(aten._linalg_svd.default, a, False, False)
    assert values.flops == floor(Fraction(8, 3) * 64**3) == 699_050
    assert measure(torch.linalg.svd, a).flops == 21 * 64**3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("call", "flops"),
    [
        (lambda: torch.linalg.cholesky(SQUARE), thirds(M**3)),
        (lambda: torch.cholesky_inverse(SQUARE), thirds(2 * M**3)),
        (lambda: torch.cholesky_solve(torch.randn(M, K), SQUARE), solves(M, K)),
        (lambda: torch.linalg.lu_factor(SQUARE), floor(lu(M, M))),
        (lambda: torch.linalg.lu(TALL), floor(lu(M, N))),
        (lambda: torch.linalg.lu(TALL.T), floor(lu(M, N))),
        (lambda: torch.linalg.ldl_factor(SQUARE), thirds(M**3)),
        (lambda: torch.linalg.solve(SQUARE, torch.randn(M)), floor(lu(M, M)) + solves(M, 1)),
        (lambda: torch.linalg.solve(SQUARE, torch.randn(M, K)), floor(lu(M, M)) + solves(M, K)),
        (
            lambda: torch.linalg.solve(SQUARE, torch.randn(K, M), left=False),
            floor(lu(M, M)) + solves(M, K),
        ),
        (lambda: torch.linalg.inv(SQUARE), floor(lu(M, M)) + solves(M, M)),
        (lambda: torch.linalg.det(SQUARE), floor(lu(M, M)) + M),
        (lambda: torch.linalg.slogdet(SQUARE), floor(lu(M, M)) + 5 * M - 1),
        (
            lambda: torch.linalg.tensorsolve(torch.eye(6).view(2, 3, 6), torch.randn(2, 3)),
            floor(lu(6, 6)) + solves(6, 1),
        ),
        (
            lambda: torch.linalg.solve_triangular(SQUARE, torch.randn(M, K), upper=True),
            M**2 * K,
        ),
        (
            lambda: torch.linalg.solve_triangular(
                SQUARE, torch.randn(K, M), upper=True, left=False, unitriangular=True
            ),
            M * (M - 1) * K,
        ),
        (
            lambda: aten.triangular_solve.default(torch.randn(M, K), SQUARE),
            M**2 * K,
        ),
        (
            lambda: aten.triangular_solve.default(torch.randn(M, K), SQUARE, True, False, True),
            M * (M - 1) * K,
        ),
        # R: 2mn^2 - 2n^3/3; the reduced Q as much again; all of Q 4(m^2 n - mn^2 + n^3/3).
        (lambda: torch.linalg.qr(TALL, "r"), thirds(6 * M * N**2 - 2 * N**3)),
        (lambda: torch.linalg.qr(TALL), thirds(12 * M * N**2 - 4 * N**3)),
        (
            lambda: torch.linalg.qr(TALL, "complete"),
            thirds(6 * M * N**2 - 2 * N**3 + 12 * (M**2 * N - M * N**2) + 4 * N**3),
        ),
        # A wide matrix has as many reflections as rows; Q is square: 4m^3/3.
        (lambda: torch.linalg.qr(TALL.T), thirds(6 * M * N**2 - 2 * N**3 + 4 * N**3)),
        (lambda: torch.geqrf(TALL), thirds(6 * M * N**2 - 2 * N**3)),
        (
            lambda: torch.linalg.householder_product(TALL, torch.randn(K)),
            thirds(12 * M * N * K - 6 * (M + N) * K**2 + 4 * K**3),
        ),
        (
            lambda: torch.ormqr(TALL, torch.randn(N), torch.randn(M, K)),
            4 * M * K * N - 2 * K * N**2,
        ),
        (
            lambda: torch.ormqr(TALL, torch.randn(N), torch.randn(K, M), left=False),
            4 * K * M * N - 2 * K * N**2,
        ),
        (lambda: torch.linalg.svd(TALL), 4 * M**2 * N + min(8 * M * N**2 + 9 * N**3, 22 * N**3)),
        (lambda: torch.linalg.svd(TALL, False), 6 * M * N**2 + 20 * N**3),
        (lambda: torch.linalg.svd(TALL.T, False), 6 * M * N**2 + 20 * N**3),
        (lambda: torch.linalg.eigh(SQUARE), 9 * M**3),
        (lambda: torch.linalg.eig(SQUARE), thirds(79 * M**3)),
        (
            # Each product of the two is 4sr, and a triangular solve r^2, of K columns.
            lambda: torch.linalg.lstsq(TALL, torch.randn(M, K)),
            thirds(6 * M * N**2 - 2 * N**3) + (4 * M * N - N**2) * K,
        ),
        (
            # gelsy, torch's default here, makes the triangle of a wide matrix square: xTZRZF
            # has N reflections of M - N + 1 elements, each on rows above it, 2 N^2 (M - N).
            lambda: torch.linalg.lstsq(TALL.T, torch.randn(N, K)),
            thirds(6 * M * N**2 - 2 * N**3) + 2 * N**2 * (M - N) + (4 * M * N - N**2) * K,
        ),
        (
            lambda: torch.linalg.lstsq(TALL.T, torch.randn(N, K), driver="gels"),
            thirds(6 * M * N**2 - 2 * N**3) + (4 * M * N - N**2) * K,
        ),
        (
            lambda: torch.linalg.lstsq(SQUARE, torch.randn(M, K), driver="gelsd"),
            thirds(8 * M**3) + 4 * M * M * K,
        ),
        (
            # More than 5/3 as tall as wide: a QR factorisation first, and its R is square.
            lambda: torch.linalg.lstsq(
                torch.randn(2 * N, N), torch.randn(2 * N, K), driver="gelsd"
            ),
            4 * N**3 + 2 * N**3 + (8 * N**2 + 2 * N**2) * K,
        ),
        (
            # Golub and Van Loan have 12 n^3 for a square one.
            lambda: torch.linalg.lstsq(SQUARE, torch.randn(M, K), driver="gelss"),
            12 * M**3 + 4 * M * M * K,
        ),
        (lambda: torch.linalg.matrix_exp(SQUARE), 5 * 2 * M**3),
        (lambda: torch.linalg.matrix_exp(torch.ones(BATCH, 1, 1)), BATCH),
        (lambda: torch.linalg.cross(torch.ones(BATCH, 3), torch.ones(BATCH, 3)), 9 * BATCH),
        (
            # tolerance, comparisons, reciprocals, scaled vectors, a product
            lambda: torch.linalg.pinv(TALL),
            6 * M * N**2 + 20 * N**3 + 2 + 2 * N + N * N + 2 * M * N * N,
        ),
        (
            lambda: torch.linalg.pinv(SQUARE, hermitian=True),
            9 * M**3 + 2 + 2 * M + (2 * M - 1) + M * M + 2 * M**3,
        ),
    ],
)
def test_each_algorithm_counts_what_its_textbook_says(call, flops, mode):
    with mode():
        m = measure(call)
    assert (m.macs, m.flops) == (0, flops)
    assert m.uncounted == ()


def test_out_variants_count_as_the_plain_ones():
    a, b = SQUARE, torch.randn(M, K)
    out = torch.empty(0)
    empty = [torch.empty(0), torch.empty(0, dtype=torch.int32), torch.empty(0, dtype=torch.int32)]
    solve = measure(torch.linalg.solve, a, b, out=out)
    assert solve.flops == floor(lu(M, M)) + solves(M, K)
    factor = measure(torch.linalg.lu_factor_ex, a, out=empty)
    assert factor.flops == floor(lu(M, M))
    qr = measure(torch.linalg.qr, a, out=(torch.empty(0), torch.empty(0)))
    assert qr.flops == thirds(8 * M**3)
    inverse = measure(torch.linalg.inv, a, out=torch.empty(0))
    assert inverse.flops == floor(lu(M, M)) + 2 * M**3
    for m in (solve, factor, qr, inverse):
        assert m.uncounted == ()


def test_a_batch_costs_a_multiple_of_one_matrix():
    a = SQUARE.expand(BATCH, M, M)
    assert measure(torch.linalg.cholesky, a).flops == BATCH * thirds(M**3)
    assert measure(torch.linalg.qr, a).flops == BATCH * thirds(8 * M**3)
    assert measure(torch.linalg.det, a).flops == BATCH * (floor(lu(M, M)) + M)
    # One matrix for all of the right-hand sides is factorised once.
    m = measure(torch.linalg.solve, SQUARE, torch.randn(BATCH, M, K))
    assert m.flops == floor(lu(M, M)) + BATCH * solves(M, K)
    m = measure(torch.linalg.lstsq, TALL.expand(BATCH, M, N), torch.randn(BATCH, M, K))
    one = thirds(6 * M * N**2 - 2 * N**3) + (4 * M * N - N**2) * K
    assert m.flops == BATCH * one


def test_complex_matrices_cost_four_times_as_much():
    a = SQUARE.cfloat()
    assert measure(torch.linalg.cholesky, a).flops == thirds(4 * M**3)
    assert measure(torch.linalg.eigh, a).flops == 4 * 9 * M**3
    right = torch.randn(M, K, dtype=torch.complex64)
    m = measure(torch.linalg.solve, a, right)
    assert m.flops == thirds(4 * 2 * M**3) + 4 * solves(M, K)
    m = measure(torch.linalg.det, a)
    assert m.flops == thirds(4 * 2 * M**3) + 6 * M
    m = measure(torch.linalg.cross, torch.ones(3).cfloat(), torch.ones(3).cfloat())
    assert m.flops == 3 * (2 * 6 + 2)
    assert m.uncounted == ()


def test_no_matrix_is_free_and_an_empty_one_is():
    one = torch.ones(1, 1)
    assert measure(torch.linalg.cholesky, one).flops == 1  # a third of a FLOP, rounded up
    assert measure(torch.linalg.lu_factor, one).flops == 1
    assert measure(torch.linalg.inv, one).flops == 1 + 2
    assert measure(torch.linalg.cholesky, torch.empty(0, 0)).flops == 0
    assert measure(torch.linalg.qr, torch.empty(0, 3)).flops == 0
    assert measure(torch.linalg.pinv, torch.empty(0, 3)).flops == 0


def test_values_alone_are_cheaper_than_with_their_vectors():
    singular = min(thirds(12 * M * N**2 - 4 * N**3), 2 * M * N**2 + 2 * N**3)
    for op, args, flops in (
        (aten._linalg_svd.default, (TALL, False, False), singular),
        (aten._linalg_eigh.default, (SQUARE, "L", False), thirds(4 * M**3)),
        (aten._linalg_eigvals.default, (SQUARE,), 10 * M**3),
    ):
        m = measure(op, *args)
        assert (m.flops, m.uncounted) == (flops, ())


@pytest.mark.parametrize("mode", MODES)
def test_under_a_counter_torch_computes_the_vectors_too(mode):
    """It takes a mode for a subclass of tensors; what it then runs is what is counted."""
    with mode():
        assert measure(torch.linalg.svdvals, SQUARE).flops == 21 * M**3


def test_the_cheaper_of_the_two_algorithms_for_singular_values_stands():
    # Golub-Reinsch for a square matrix, whose thin decomposition is the full one, R-SVD for
    # a tall one.
    assert measure(torch.linalg.svd, SQUARE, False).flops == 21 * M**3
    assert measure(torch.linalg.svd, SQUARE, True).flops == 21 * M**3
    long = 10 * N
    m = measure(torch.linalg.svd, torch.randn(long, N), False)
    assert m.flops == 6 * long * N**2 + 20 * N**3
    m = measure(torch.linalg.svd, torch.randn(long, N))
    assert m.flops == 4 * long**2 * N + 22 * N**3


def test_the_shapes_alone_decide():
    for name, args in (("qr", ()), ("svd", ()), ("eigh", ()), ("inv", ()), ("cholesky", ())):
        function = getattr(torch.linalg, name)
        real = measure(function, SQUARE, *args)
        meta = measure(function, torch.empty(M, M, device="meta"), *args)
        with FakeTensorMode():
            fake = measure(function, torch.empty(M, M), *args)
        assert real.flops == meta.flops == fake.flops > 0
        assert real.uncounted == meta.uncounted == fake.uncounted == ()


@pytest.mark.parametrize(
    ("call", "inner"),
    [
        # A product, and two triangular solves with n columns each.
        (torch.linalg.cholesky, thirds(M**3) + 2 * M**3 + 2 * M**3),
        # Two products.
        (torch.linalg.inv, floor(lu(M, M)) + 2 * M**3 + 2 * 2 * M**3),
        (lambda a: torch.linalg.eigh(a)[0], 9 * M**3 + 2 * M**3),
        (torch.linalg.svdvals, 21 * M**3 + 2 * M**3),
    ],
)
def test_the_backward_is_counted_operator_by_operator(call, inner):
    m = measure(call, SQUARE.clone().requires_grad_(), train=True)
    assert m.uncounted == ()
    assert 0 <= m.flops - inner < 8 * M**2, "what is left is element by element"


def test_a_linear_combination_of_matrices_is_a_product():
    m = measure(torch._compute_linear_combination, torch.ones(K, N, N), torch.ones(2, K))
    assert (m.macs, m.flops) == (2 * K * N * N, 2 * 2 * K * N * N)


def test_unpacking_is_free():
    m = measure(torch.lu_unpack, *torch.linalg.lu_factor(SQUARE))
    assert (m.flops, m.uncounted) == (0, ())


def test_older_forms_share_the_counts():
    a = SQUARE
    for name, flops in (("linalg_cholesky_ex", thirds(M**3)), ("cholesky", thirds(M**3))):
        assert formula_for(f"aten::{name}")(a, out=a) == flops
    helper = measure(aten._cholesky_solve_helper.default, torch.randn(M, K), a, False)
    assert helper.flops == solves(M, K)
    m = measure(torch.pinverse, TALL)
    assert m.flops == measure(torch.linalg.pinv, TALL).flops
    assert formula_for("aten::linalg_pinv")(a, 1e-15, True, out=a) == (
        formula_for("aten::linalg_pinv")(a, hermitian=True, out=a)
    )
