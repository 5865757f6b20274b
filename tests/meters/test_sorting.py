"""Sorting, searching and counting take the comparisons of named algorithms, from sizes alone."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from pytest_flopbudget import measure

aten = torch.ops.aten
M, N = 5, 11
"""Rows and columns of x: 4 is the number of halvings of 11, and 3 of 5."""
X = torch.rand(M, N)
INTS = torch.randint(0, 4, (M, N))
TRUTH = X > 0.5
EDGES = torch.linspace(0, 1, 6)

ROWS = [
    # merge sort: n * ceil(log2(n))
    ("sort", X.sort, M * N * 4),
    ("sort by column", lambda: X.sort(0), N * M * 3),
    ("sort by column, stable", lambda: torch.sort(X, dim=0, stable=True), N * M * 3),
    ("sort, downwards", lambda: X.sort(1, descending=True), M * N * 4),
    ("sort of eight", lambda: torch.rand(8).sort(), 8 * 3),
    ("sort of nine", lambda: torch.rand(9).sort(), 9 * 4),
    ("sort of one", lambda: torch.rand(1).sort(), 0),
    ("sort of a number", lambda: torch.rand(()).sort(), 0),
    ("sort of nothing", lambda: torch.rand(0).sort(), 0),
    ("argsort", lambda: X.argsort(0), N * M * 3),
    ("msort", X.msort, N * M * 3),
    # selection: n - 1 + min(k - 1, n - k)
    ("kthvalue, first", lambda: X.kthvalue(1), M * (N - 1)),
    ("kthvalue", lambda: X.kthvalue(4), M * (N - 1 + 3)),
    ("kthvalue, high", lambda: X.kthvalue(9, 1), M * (N - 1 + 2)),
    ("kthvalue by column", lambda: X.kthvalue(2, 0), N * (M - 1 + 1)),
    # the median of 11 is the 6th, that of 4 the 2nd, that of 55 the 28th
    ("median by row", lambda: X.median(1), M * (N - 1 + 5)),
    ("median of four", lambda: X[:4].median(0), N * (4 - 1 + 1)),
    ("median of all", X.median, M * N - 1 + 27),
    ("nanmedian of all", X.nanmedian, M * N + M * N - 1 + 27),
    ("nanmedian by row", lambda: X.nanmedian(1), M * (N + N - 1 + 5)),
    # sorting, and comparing neighbours
    ("mode", X.mode, M * (N * 4 + N - 1)),
    ("mode by column", lambda: X.mode(0), N * (M * 3 + M - 1)),
    # selecting, and sorting what was selected
    ("topk, one", lambda: X.topk(1), M * (N - 1)),
    ("topk", lambda: X.topk(3), M * (N - 1 + 2 + 3 * 2)),
    ("topk, unsorted", lambda: X.topk(3, sorted=False), M * (N - 1 + 2)),
    ("topk by column", lambda: X.topk(2, 0, largest=False), N * (M - 1 + 1 + 2 * 1)),
    ("topk of all", lambda: X.topk(N), M * (N - 1 + 0 + N * 4)),
    ("unique", X.unique, 55 * 6 + 54),
    ("_unique", lambda: aten._unique(X), 55 * 6 + 54),
    ("unique, unsorted", lambda: torch.unique(X, sorted=False, return_counts=True), 55 * 6 + 54),
    # M slices of N elements: each comparison is N
    ("unique by row", lambda: X.unique(dim=0), N * (M * 3 + M - 1)),
    ("unique_consecutive", X.unique_consecutive, 54),
    ("unique_consecutive by row", lambda: X.unique_consecutive(dim=0), N * (M - 1)),
    ("unique_dim_consecutive", lambda: aten.unique_dim_consecutive(X, 0), N * (M - 1)),
    # a place among six edges takes three comparisons, one among seven too, eight take four
    ("bucketize", lambda: torch.bucketize(X, EDGES), M * N * 3),
    ("bucketize of seven", lambda: torch.bucketize(X, torch.linspace(0, 1, 7)), M * N * 3),
    ("bucketize of eight", lambda: torch.bucketize(X, torch.linspace(0, 1, 8)), M * N * 4),
    ("bucketize a number", lambda: torch.bucketize(0.5, EDGES), 3),
    ("searchsorted", lambda: torch.searchsorted(EDGES, X), M * N * 3),
    ("searchsorted by row", lambda: torch.searchsorted(X, X[:, :2].contiguous()), M * 2 * 4),
    ("searchsorted, a number", lambda: torch.searchsorted(EDGES, 0.5), 3),
    # two comparisons, subtract, multiply, divide, add; and the range, if it is not given
    ("histc", lambda: torch.histc(X, 4, 0, 1), 6 * M * N),
    ("histc, range of the data", lambda: torch.histc(X), 6 * M * N + 2 * (M * N - 1)),
    ("histogram", lambda: torch.histogram(X, 4, range=(0.0, 1.0)), 6 * M * N),
    ("histogram, data's range", lambda: X.histogram(4), 6 * M * N + 2 * (M * N - 1)),
    ("histogram, weighted", lambda: X.histogram(4, range=(0.0, 1.0), weight=X), 6 * M * N),
    ("histogram between edges", lambda: torch.histogram(X, EDGES), M * N * (3 + 1)),
    # five bins: their sum 4, and 5 each for dividing, the widths, and dividing by them
    ("histogram, density", lambda: X.histogram(EDGES, density=True), M * N * 4 + 4 + 3 * 5),
    # points of two dimensions: 2 * 5 + 1 each, and twice the range of the data
    (
        "histogramdd",
        lambda: torch.histogramdd(X[:, :2], [3, 4]),
        M * (2 * 5 + 1) + 2 * (2 * 2 * (M - 1)),
    ),
    (
        "histogramdd, range",
        lambda: torch.histogramdd(X[:, :2], [3, 4], range=[0.0, 1.0, 0.0, 1.0]),
        M * (2 * 5 + 1),
    ),
    # six edges take 3 comparisons, four edges 3
    ("histogramdd, edges", lambda: torch.histogramdd(X[:, :2], [EDGES, EDGES[:4]]), M * 7),
    (
        "histogramdd, density",
        lambda: torch.histogramdd(X[:, :2], [EDGES, EDGES[:4]], density=True),
        # 5 * 3 bins: sum and division 14 + 15; widths and division 5 + 15 and 3 + 15
        M * 7 + 29 + 20 + 18,
    ),
    ("bincount, weighted", lambda: torch.bincount(INTS[0], X[0]), N),
    ("nonzero_static", lambda: torch.nonzero_static(X, size=3), 0),
]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    ("call", "flops"), [pytest.param(call, flops, id=name) for name, call, flops in ROWS]
)
def test_comparisons_are_those_of_the_algorithm_that_the_formula_names(call, flops, context):
    with context():
        m = measure(call)
    assert (m.flops, m.macs, m.int_ops) == (flops, 0, 0)
    assert m.uncounted == ()


@pytest.mark.parametrize(
    ("call", "int_ops"),
    [
        (INTS.sort, M * N * 4),
        (TRUTH.sort, M * N * 4),
        (INTS.unique, 55 * 6 + 54),
        (lambda: torch.bincount(INTS[0]), N),
        (lambda: torch.bucketize(INTS, torch.arange(6)), M * N * 3),
        (lambda: INTS.topk(3), M * (N - 1 + 2 + 6)),
    ],
)
def test_comparisons_of_integers_are_integer_work(call, int_ops):
    m = measure(call)
    assert (m.flops, m.int_ops) == (0, int_ops)
    assert m.uncounted == ()


def test_counts_do_not_depend_on_the_data():
    same, ordered = torch.zeros(13), torch.arange(13.0)
    for call in (torch.sort, torch.unique, torch.median, torch.mode):
        assert measure(call, same).flops == measure(call, ordered).flops > 0


@pytest.mark.parametrize(
    ("plain", "into"),
    [
        (
            lambda: X.sort(0),
            lambda: torch.sort(X, 0, out=(torch.empty(M, N), torch.empty(M, N).long())),
        ),
        (
            lambda: X.sort(0),
            lambda: torch.sort(
                X, dim=0, stable=True, out=(torch.empty(M, N), torch.empty(M, N).long())
            ),
        ),
        (
            lambda: X.topk(3),
            lambda: torch.topk(X, 3, out=(torch.empty(M, 3), torch.empty(M, 3).long())),
        ),
        (
            lambda: X.kthvalue(3, 1),
            lambda: torch.kthvalue(X, 3, 1, out=(torch.empty(M), torch.empty(M).long())),
        ),
        (
            lambda: X.median(0),
            lambda: torch.median(X, 0, out=(torch.empty(N), torch.empty(N).long())),
        ),
        (X.nanmedian, lambda: aten.nanmedian.out(X, out=torch.empty(()))),
        (
            lambda: X.mode(0),
            lambda: torch.mode(X, 0, out=(torch.empty(N), torch.empty(N).long())),
        ),
        (
            lambda: torch.bucketize(X, EDGES),
            lambda: torch.bucketize(X, EDGES, out=torch.empty(M, N).long()),
        ),
        (
            lambda: torch.searchsorted(EDGES, X),
            lambda: torch.searchsorted(EDGES, X, out=torch.empty(M, N).long()),
        ),
        (lambda: torch.histc(X, 4), lambda: torch.histc(X, 4, out=torch.empty(4))),
        (
            lambda: torch.histogram(X, 4),
            lambda: torch.histogram(X, 4, out=(torch.empty(4), torch.empty(5))),
        ),
        (
            lambda: torch.histogram(X, EDGES, density=True),
            lambda: torch.histogram(X, EDGES, density=True, out=(torch.empty(5), torch.empty(6))),
        ),
    ],
)
def test_a_given_result_changes_no_count(plain, into):
    one, other = measure(plain), measure(into)
    assert one.flops == other.flops > 0
    assert one.uncounted == other.uncounted == ()


def test_fake_tensors_count_like_real_ones():
    def work(a):
        return a.sort(0), a.topk(3), a.kthvalue(2), a.median(1), a.mode(), torch.histc(a, 4)

    real = measure(work, X)
    with FakeTensorMode() as mode:
        fake = measure(work, mode.from_tensor(X))
    assert fake.flops == real.flops > 0
    assert fake.uncounted == real.uncounted == ()
