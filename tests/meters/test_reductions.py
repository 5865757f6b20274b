"""Reductions, scans, softmax and scatters count what is done to each element, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from pytest_flopbudget import measure
from pytest_flopbudget.meters.formulas.registry import formula_for

aten = torch.ops.aten
M, N = 5, 7
X = torch.rand(M, N) + 0.5
Z = torch.rand(M, N, dtype=torch.complex64)
MASK = X > 1
INTS = torch.arange(M * N).view(M, N)

REDUCTIONS = [
    # n - 1 adds for each result, two FLOPs each for complex numbers
    ("sum", X.sum, M * N - 1),
    ("sum by row", lambda: X.sum(1), M * (N - 1)),
    ("sum by row, kept", lambda: X.sum(1, keepdim=True), M * (N - 1)),
    ("sum, complex", lambda: Z.sum(0), 2 * N * (M - 1)),
    ("sum, made complex", lambda: torch.sum(X, 1, dtype=torch.complex64), 2 * M * (N - 1)),
    ("sum of nothing", lambda: torch.rand(0, 3).sum(0), 0),
    ("nansum", lambda: X.nansum(1), M * N + M * (N - 1)),
    ("mean", lambda: X.mean(0), N * (M - 1) + N),
    ("mean, complex", lambda: Z.mean(0), 2 * N * (M - 1) + 2 * N),
    ("prod", X.prod, M * N - 1),
    ("prod by row, complex", lambda: Z.prod(1), 6 * M * (N - 1)),
    ("trace", X.trace, M - 1),
    ("trace, complex", Z.trace, 2 * (M - 1)),
    # comparisons
    ("amax", lambda: X.amax(0), N * (M - 1)),
    ("max by row", lambda: X.max(1), M * (N - 1)),
    ("maximum of two", lambda: torch.max(X, X), M * N),
    ("argmin", X.argmin, M * N - 1),
    ("aminmax", lambda: torch.aminmax(X, dim=0), 2 * N * (M - 1)),
    ("_aminmax", lambda: aten._aminmax(X), 2 * (M * N - 1)),
    ("_aminmax by row", lambda: aten._aminmax.dim(X, 1), 2 * M * (N - 1)),
    ("count_nonzero", X.count_nonzero, M * N + M * N - 1),
    ("count_nonzero by row", lambda: X.count_nonzero(1), M * N + M * (N - 1)),
    ("count_nonzero, complex", lambda: Z.count_nonzero(1), 2 * M * N + M * (N - 1)),
    # mean N, difference and square 2N, sum N - 1, division 1
    ("var", lambda: X.var(1), 4 * M * N),
    ("std", lambda: X.std(1), 4 * M * N + M),
    ("var_mean", lambda: torch.var_mean(X, 0), 4 * M * N),
    # mean 2N, difference 2N, re * re + im * im 3N, a real sum N - 1, division 1
    ("var, complex", lambda: Z.var(1), 8 * M * N),
    ("std_mean, complex", lambda: torch.std_mean(Z, 1), 8 * M * N + M),
    # sum N - 1, comparisons N - 1, differences N, exponentials N, logarithm, add
    ("logsumexp", lambda: X.logsumexp(1), M * (4 * N)),
    # comparisons N - 1, differences N, exponentials 5N, sum 2(N - 1), logarithm 6, add 1
    ("logsumexp, complex", lambda: Z.logsumexp(1), M * ((N - 1) + 6 * N + 2 * (N - 1) + 7)),
    # isclose is ten operations
    ("allclose", lambda: torch.allclose(X, X[0]), 10 * M * N),
    ("allclose, exactly", lambda: torch.allclose(X, X, rtol=0, atol=0), M * N),
    ("allclose, complex", lambda: torch.allclose(Z, Z), 19 * M * N),
]

NORMS = [
    # p, FLOPs of one real number, of one complex number, and whether there is a root
    (0, 1, 2, False),
    (1, 1, 4, False),
    (2, 1, 3, True),
    (3, 2, 5, True),
    (4, 2, 5, True),
    (0.5, 2, 5, True),
    (-1, 2, 5, True),
    (math.inf, 1, 4, False),
    (-math.inf, 1, 4, False),
]

SCANS = [
    ("cumsum", lambda: X.cumsum(1), M * (N - 1)),
    ("cumsum, complex", lambda: Z.cumsum(0), 2 * N * (M - 1)),
    ("cumsum in place", lambda: X.clone().cumsum_(1), M * (N - 1)),
    ("cumsum of a number", lambda: torch.rand(()).cumsum(0), 0),
    ("cumprod", lambda: X.cumprod(0), N * (M - 1)),
    ("cumprod, complex", lambda: Z.cumprod(1), 6 * M * (N - 1)),
    ("cummax", lambda: X.cummax(1), M * (N - 1)),
    ("cummin", lambda: X.cummin(0), N * (M - 1)),
    (
        "_cummax_helper",
        lambda: aten._cummax_helper(X, torch.empty(M, N), torch.empty(M, N, dtype=torch.long), 1),
        M * (N - 1),
    ),
    # max + log1p(exp(min - max)): 5
    ("logcumsumexp", lambda: X.logcumsumexp(1), 5 * M * (N - 1)),
    ("_logcumsumexp", lambda: aten._logcumsumexp(X, 0), 5 * N * (M - 1)),
    # 1 comparison, difference 2, exponential 5, add 1, logarithm 6, add 2
    ("logcumsumexp, complex", lambda: Z.logcumsumexp(1), 17 * M * (N - 1)),
]

SOFTMAXES = [
    ("softmax", lambda: X.softmax(1), M * (5 * N - 2)),
    ("softmax, out", lambda: torch.softmax(X, 1, out=torch.empty(M, N)), M * (5 * N - 2)),
    ("softmax, cast", lambda: X.softmax(0, dtype=torch.float64), N * (5 * M - 2)),
    ("log_softmax", lambda: X.log_softmax(0), N * (5 * M - 1)),
    (
        "log_softmax, out",
        lambda: torch.log_softmax(X, 1, out=torch.empty(M, N)),
        M * (5 * N - 1),
    ),
    ("_safe_softmax", lambda: aten._safe_softmax(X, 1), M * (5 * N - 2) + M * N),
    ("_masked_softmax", lambda: aten._masked_softmax(X, MASK, 0), N * (5 * M - 2)),
    ("_masked_softmax of rows", lambda: aten._masked_softmax(X, MASK), M * (5 * N - 2)),
    (
        "_masked_softmax_backward",
        lambda: aten._masked_softmax_backward(X, X, MASK),
        M * (4 * N - 1),
    ),
]


def _ids(cases):
    return [pytest.param(*case[1:], id=case[0]) for case in cases]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(("call", "flops"), _ids([*REDUCTIONS, *SCANS, *SOFTMAXES]))
def test_every_element_is_combined_as_its_definition_says(call, flops, context):
    with context():
        m = measure(call)
    assert (m.flops, m.macs, m.int_ops) == (flops, 0, 0)
    assert m.uncounted == ()


@pytest.mark.parametrize(("p", "real", "complex_", "has_root"), NORMS)
def test_a_norm_counts_by_its_order(p, real, complex_, has_root):
    for value, each in ((X, real), (Z, complex_)):
        rows = each * M * N + M * (N - 1) + M * has_root
        whole = each * M * N + M * N - 1 + has_root
        difference = (2 if value.is_complex() else 1) * M * N
        for call, flops in (
            (lambda v: torch.linalg.vector_norm(v, p, 1), rows),
            (lambda v: torch.linalg.vector_norm(v, p), whole),
            (lambda v: v.norm(p), whole),
            (lambda v: v.norm(p, 1, keepdim=True), rows),
            (lambda v: aten.norm.ScalarOpt_dim(v, p, [1]), rows),
            (lambda v: torch.norm(v, p, dim=1, out=torch.empty(M)), rows),
            (lambda v: torch.dist(v, v, p), difference + whole),
        ):
            m = measure(call, value)
            assert m.flops == flops
            assert m.uncounted == ()
    power_sum = measure(aten.linalg__powsum, X, p, [1]) if p > 0 and has_root else None
    if power_sum is not None:
        assert power_sum.flops == real * M * N + M * (N - 1)


def test_norms_of_other_devices_share_the_formula():
    on_meta = torch.empty(M, N, device="meta")
    result = torch.empty(M, device="meta")
    assert formula_for("aten::native_norm")(on_meta, 2, [1], False, None, out=result) == 2 * M * N


def test_a_mean_of_numbers_counts_them_as_integers():
    m = measure(X.nanmean, 1)
    # A nansum, 2N - 1 a row; x != x for each element; a division for each row.
    assert m.flops == M * (2 * N - 1) + M * N + M
    assert m.int_ops == M * (N - 1)
    assert m.uncounted == ()


@pytest.mark.parametrize(
    ("p", "norm"), [(1, 2 * N - 1), (2, 2 * N), (2.5, 3 * N), (math.inf, 2 * N - 1)]
)
def test_renorm_scales_every_slice(p, norm):
    # Compare the norm, add an epsilon, divide; and multiply each element.
    m = measure(torch.renorm, X, p, 0, 1.0)
    assert m.flops == M * (norm + 3 + N)
    assert measure(X.clone().renorm_, p, 0, 1.0).flops == m.flops
    assert m.uncounted == ()


def test_an_embedding_renorms_each_row_that_is_looked_up():
    table = torch.rand(9, 4)
    m = measure(functional.embedding, torch.tensor([1, 5, 7]), table, max_norm=1.0)
    assert m.flops == 3 * (2 * 4 + 3 + 4)
    assert m.uncounted == ()
    many = measure(functional.embedding, torch.zeros(20, dtype=torch.long), table, max_norm=1.0)
    assert many.flops == 9 * (2 * 4 + 3 + 4), "no more rows than there are"


@pytest.mark.parametrize(
    ("call", "int_ops"),
    [
        (lambda: INTS.sum(1), M * (N - 1)),
        (MASK.sum, M * N - 1),
        (lambda: MASK.count_nonzero(1), M * (N - 1)),
        (INTS.count_nonzero, 2 * M * N - 1),
        (lambda: INTS.prod(0), N * (M - 1)),
        (lambda: INTS.nansum(1), M * (N - 1)),
        (lambda: INTS.cumsum(1), M * (N - 1)),
        (lambda: MASK.cumsum(1), M * (N - 1)),
        (INTS.max, M * N - 1),
        (MASK.any, 0),
        (MASK.max, 0),
        (lambda: aten._is_all_true(MASK), 0),
        (lambda: aten._is_any_true(MASK), 0),
        (lambda: torch.hash_tensor(INTS), 0),
    ],
)
def test_integers_and_truth_values_cost_no_flops(call, int_ops):
    m = measure(call)
    assert (m.flops, m.int_ops) == (0, int_ops)
    assert m.uncounted == ()


@pytest.mark.parametrize(
    ("plain", "into"),
    [
        (lambda: X.sum(1), lambda: torch.sum(X, 1, out=torch.empty(M))),
        (lambda: X.mean(1), lambda: torch.mean(X, 1, out=torch.empty(M))),
        (lambda: X.prod(1), lambda: torch.prod(X, 1, out=torch.empty(M))),
        (lambda: X.std(1), lambda: torch.std(X, 1, out=torch.empty(M))),
        (lambda: X.nansum(1), lambda: torch.nansum(X, 1, out=torch.empty(M))),
        (X.trace, lambda: aten.trace.out(X, out=torch.empty(()))),
        (lambda: X.logsumexp(1), lambda: torch.logsumexp(X, 1, out=torch.empty(M))),
        (
            lambda: torch.aminmax(X, dim=1),
            lambda: aten.aminmax.out(X, dim=1, min=torch.empty(M), max=torch.empty(M)),
        ),
        (
            lambda: X.max(1),
            lambda: torch.max(X, 1, out=(torch.empty(M), torch.empty(M, dtype=torch.long))),
        ),
        (
            lambda: X.cummax(1),
            lambda: torch.cummax(X, 1, out=(torch.empty(M, N), torch.empty(M, N).long())),
        ),
        (lambda: X.cumsum(1), lambda: torch.cumsum(X, 1, out=torch.empty(M, N))),
        (lambda: X.logcumsumexp(1), lambda: torch.logcumsumexp(X, 1, out=torch.empty(M, N))),
        (
            lambda: X.count_nonzero(1),
            lambda: aten.count_nonzero.out(X, 1, out=torch.empty(M).long()),
        ),
        (lambda: torch.dist(X, X), lambda: aten.dist.out(X, X, out=torch.empty(()))),
        (lambda: X.renorm(2, 0, 1), lambda: torch.renorm(X, 2, 0, 1, out=torch.empty(M, N))),
        (
            lambda: aten._masked_softmax(X, MASK),
            lambda: aten._masked_softmax.out(X, MASK, out=torch.empty(M, N)),
        ),
    ],
)
def test_a_given_result_changes_no_count(plain, into):
    one, other = measure(plain), measure(into)
    assert one.flops == other.flops > 0
    assert one.uncounted == other.uncounted == ()


def test_fake_tensors_count_like_real_ones():
    def work(a):
        norm = torch.linalg.vector_norm(a, 3, 1)
        return a.cumsum(0), a.std(1), a.aminmax(), a.cummax(1), a.renorm(2, 0, 1.0), norm

    real = measure(work, X)
    with FakeTensorMode() as mode:
        fake = measure(work, mode.from_tensor(X))
    assert fake.flops == real.flops
    assert fake.uncounted == real.uncounted == ()


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.logsumexp(1),
        lambda t: t.prod(1),
        lambda t: t.cumsum(1),
        lambda t: t.cumprod(1),
        lambda t: t.cummax(1)[0],
        lambda t: t.logcumsumexp(1),
        lambda t: t.std(1),
        lambda t: t.nansum(1),
        lambda t: t.aminmax(dim=1)[0],
        lambda t: t.median(1)[0],
        lambda t: t.sort(1)[0],
        lambda t: t.topk(3)[0],
        lambda t: t.renorm(2, 0, 1.0),
        lambda t: torch.linalg.vector_norm(t, 3, 1),
        lambda t: t.norm(math.inf),
        lambda t: torch.dist(t, t.detach() + 1, 3),
        lambda t: t.trace(),
    ],
)
def test_no_reduction_leaves_its_backward_uncounted(call):
    m = measure(call, X.clone().requires_grad_(), train=True)
    assert m.uncounted == ()
