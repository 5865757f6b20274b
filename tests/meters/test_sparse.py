"""Sparse layouts by the elements that they store, with the numbers written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.meters.formulas.registry import formula_for

aten = torch.ops.aten
MODES = (torch.no_grad, torch.inference_mode, torch.enable_grad)
M, K, N = 6, 8, 5
NNZ = 11
LAYOUTS = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)

pytestmark = pytest.mark.filterwarnings("ignore:Sparse:UserWarning")


def dense_with_eleven_elements(dtype=torch.float32):
    a = torch.zeros(M, K, dtype=dtype)
    places = [
        (0, 0),
        (0, 3),
        (1, 1),
        (1, 2),
        (2, 7),
        (3, 0),
        (3, 4),
        (4, 4),
        (4, 5),
        (5, 6),
        (5, 7),
    ]
    for row, column in places:
        a[row, column] = row + column + 1
    return a


def sparse(layout=torch.sparse_coo, dtype=torch.float32):
    return dense_with_eleven_elements(dtype).to_sparse(layout=layout)


def test_the_traps_of_the_research_count_four_thousand_and_not_64_times_as_many():
    eye, b = torch.eye(64), torch.randn(64, 32)
    for layout in LAYOUTS:
        m = measure(torch.mm, eye.to_sparse(layout=layout), b)
        assert (m.macs, m.flops) == (64 * 32, 4_096)
        assert m.uncounted == ()
    m = measure(torch.sparse.mm, eye.to_sparse(), b)
    assert (m.flops, m.uncounted) == (4_096, ())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("call", "macs", "arithmetic"),
    [
        (lambda a: a @ torch.ones(K, N), NNZ * N, 0),
        (lambda a: torch.ones(N, M) @ a, N * NNZ, 0),
        (lambda a: a @ torch.ones(K), NNZ, 0),
        (lambda a: torch.mm(a, torch.ones(K, N), out=torch.ones(M, N)), NNZ * N, 0),
        (lambda a: torch.sparse.mm(a, torch.ones(K, N)), NNZ * N, 0),
        (lambda a: torch.addmm(torch.ones(M, N), a, torch.ones(K, N)), NNZ * N, M * N),
        (
            lambda a: torch.addmm(torch.ones(M, N), a, torch.ones(K, N), beta=2, alpha=3),
            NNZ * N,
            3 * M * N,
        ),
        (
            lambda a: torch.sparse.addmm(torch.ones(M, N), a, torch.ones(K, N), beta=0),
            NNZ * N,
            0,
        ),
    ],
)
def test_a_product_counts_what_is_stored_in_every_layout(call, layout, macs, arithmetic, mode):
    a = sparse(layout)
    with mode():
        m = measure(call, a)
    assert (m.macs, m.flops) == (macs, 2 * macs + arithmetic)
    assert m.uncounted == ()


@pytest.mark.parametrize("mode", MODES)
def test_compressed_layouts_have_products_of_their_own(mode):
    a = sparse(torch.sparse_csr)
    with mode():
        added = measure(torch.addmv, torch.ones(M), a, torch.ones(K))
        linear = measure(functional.linear, torch.ones(N, K), a, torch.ones(M))
        sampled = measure(torch.sparse.sampled_addmm, a, torch.ones(M, 3), torch.ones(3, K))
    assert (added.macs, added.flops) == (NNZ, 2 * NNZ + M)
    assert (linear.macs, linear.flops) == (N * NNZ, 2 * N * NNZ + N * M)
    # Only where the sparse matrix stores something: three terms each, and it is added.
    assert (sampled.macs, sampled.flops) == (3 * NNZ, 2 * 3 * NNZ + NNZ)
    assert added.uncounted == linear.uncounted == sampled.uncounted == ()


def test_a_stored_block_counts_whole():
    a = dense_with_eleven_elements().to_sparse_bsr((2, 2))
    blocks = a.values().shape[0]
    assert blocks == 2 + 3 + 2  # of each two rows
    m = measure(torch.mm, a, torch.ones(K, N))
    assert (m.macs, m.uncounted) == (blocks * 4 * N, ())
    assert measure(torch.mv, a, torch.ones(K)).macs == blocks * 4


def test_complex_elements_cost_four_times_as_much():
    a = sparse(dtype=torch.complex64)
    b = torch.ones(K, N, dtype=torch.complex64)
    assert measure(torch.mm, a, b).macs == 4 * NNZ * N
    m = measure(torch.addmm, torch.ones(M, N, dtype=torch.complex64), a, b)
    assert m.flops == 8 * NNZ * N + 2 * M * N


def test_a_batch_of_sparse_matrices_counts_all_their_elements():
    a = torch.stack([dense_with_eleven_elements()] * 3).to_sparse()
    m = measure(torch.bmm, a, torch.ones(3, K, N))
    assert (m.macs, m.uncounted) == (3 * NNZ * N, ())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_sparse_matrices_count_the_average_of_their_meetings(layout):
    a, b = sparse(layout), sparse(layout).t()
    m = measure(torch.mm, a, b)
    stored = m.output._nnz()
    # Each of 11 elements meets as many as 11 elements in 8 rows have on average.
    assert m.macs == max(NNZ * NNZ // K, stored)
    assert m.uncounted == ()


def test_the_average_of_meetings_is_exact_when_they_are_spread_evenly():
    # Every row of b stores 3 elements, and every element of a meets one row.
    b = torch.zeros(K, N)
    for row in range(K):
        b[row, [row % N, (row + 1) % N, (row + 2) % N]] = 1
    assert b.count_nonzero() == 3 * K
    m = measure(torch.mm, sparse(), b.to_sparse())
    assert m.macs == 3 * NNZ


def test_every_element_of_a_sparse_result_is_a_product_at_least():
    # A column times a row of four: the average is 16/2, and 16 elements come out.
    a, b = torch.zeros(4, 2), torch.zeros(2, 4)
    a[:, 0] = b[0] = 1
    assert measure(torch.mm, a.to_sparse(), b.to_sparse()).macs == 16


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_the_gradients_of_a_sparse_product_count_what_runs(layout):
    a = sparse(layout).requires_grad_()
    b = torch.ones(K, N, requires_grad=True)
    m = measure(torch.mm, a, b, train=True)
    # Forward, the gradient of b with what a stores; that of a is a dense product.
    assert m.macs == NNZ * N + NNZ * N + M * K * N
    assert m.uncounted == ()
    a, b = sparse(layout).requires_grad_(), torch.ones(K, N, requires_grad=True)
    m = measure(torch.sparse.mm, a, b, train=True)
    sampled = NNZ * N if layout is torch.sparse_csr else M * K * N
    assert m.macs == NNZ * N + NNZ * N + sampled
    assert m.uncounted == ()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("reduce", "macs", "arithmetic"),
    [
        ("sum", NNZ * N, 0),
        ("mean", NNZ * N, M * N),
        ("amax", 0, 2 * NNZ * N),
        ("amin", 0, 2 * NNZ * N),
    ],
)
def test_a_product_with_a_reduction_counts_it(reduce, macs, arithmetic, mode):
    a, b = sparse(torch.sparse_csr), torch.ones(K, N)
    with mode():
        m = measure(torch.sparse.mm, a, b, reduce)
    assert (m.macs, m.flops) == (macs, 2 * macs + arithmetic)
    assert m.uncounted == ()


@pytest.mark.parametrize(
    ("reduce", "macs", "arithmetic"),
    [("sum", 2 * NNZ * N, 0), ("mean", 2 * NNZ * N, 2 * NNZ), ("amax", 2 * M * N, 0)],
)
def test_the_gradients_of_a_reduced_product(reduce, macs, arithmetic):
    a, b = sparse(torch.sparse_csr).requires_grad_(), torch.ones(K, N, requires_grad=True)
    forward = measure(torch.sparse.mm, a, b, reduce)
    m = measure(torch.sparse.mm, a, b, reduce, train=True)
    assert m.macs - forward.macs == macs
    assert m.flops - forward.flops == 2 * macs + arithmetic + (M * N - 1)  # the loss is a sum
    assert m.uncounted == ()


def uncoalesced():
    """Seven elements in five places."""
    places = torch.tensor([[0, 0, 1, 2, 2, 2, 3], [1, 1, 0, 2, 2, 3, 0]])
    return torch.sparse_coo_tensor(places, torch.ones(7), (4, 4))


@pytest.mark.parametrize("mode", MODES)
def test_values_that_stand_in_one_place_are_added_up(mode):
    with mode():
        a = uncoalesced()
        once = measure(a.coalesce)
        dense = measure(a.to_dense)
        again = measure(measure(a.coalesce).output.coalesce)
        rows = torch.sparse_coo_tensor(torch.tensor([[0, 2, 2]]), torch.ones(3, 5), (4, 5))
        hybrid = measure(rows.coalesce)
    assert (once.flops, once.uncounted) == (2, ())
    assert (dense.flops, dense.uncounted) == (7, ())  # each is added to what is there
    assert (again.flops, again.uncounted) == (0, ())
    assert (hybrid.flops, hybrid.uncounted) == (5, ())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "call",
    [
        lambda a, s: a.to_sparse(),
        lambda a, s: a.to_sparse_csr(),
        lambda a, s: a.to_sparse_csc(),
        lambda a, s: a.to_sparse_bsr((2, 2)),
        lambda a, s: a.to_sparse_bsc((2, 2)),
        lambda a, s: s.to_sparse_csr(),
        lambda a, s: s.to_dense(),
        lambda a, s: a.sparse_mask(s),
        lambda a, s: (s.indices(), s.values(), s.clone()),
        lambda a, s: torch.sparse_coo_tensor(s.indices(), s.values(), s.shape),
        lambda a, s: torch.sparse_csr_tensor(
            torch.tensor([0, 1, 2]), torch.tensor([0, 1]), torch.ones(2), (2, 2)
        ),
        lambda a, s: torch.sparse.spdiags(torch.ones(2, 4), torch.tensor([0, 1]), (4, 4)),
        lambda a, s: torch.cat([s, s]),
        lambda a, s: aten.copy_sparse_to_sparse_.default(s.clone(), s),
    ],
)
def test_changing_the_layout_is_no_arithmetic(call, mode):
    a = dense_with_eleven_elements()
    s = a.to_sparse()
    with mode():
        m = measure(call, a, s)
    assert (m.flops, m.int_ops, m.uncounted) == (0, 0, ())


@pytest.mark.parametrize("mode", MODES)
def test_sums_of_sparse_tensors_add_what_they_store(mode):
    a = sparse()
    with mode():
        everything = measure(torch.sparse.sum, a)
        rows = measure(torch.sparse.sum, a, 0)
        plain = measure(torch.sum, sparse(torch.sparse_csr), 1, keepdim=True)
        direct = measure(aten._sparse_csr_prod.dim_dtype, sparse(torch.sparse_csr), [0], True)
        norm = measure(torch.norm, a)
    assert (everything.flops, everything.uncounted) == (NNZ - 1, ())
    assert (rows.flops, rows.uncounted) == (NNZ - 8, ())  # every column stores something
    assert (plain.flops, plain.uncounted) == (NNZ - 6, ())
    assert (direct.flops, direct.uncounted) == (NNZ - 8, ())
    assert (norm.flops, norm.uncounted) == (2 * NNZ, ())  # squares, adds, a root


def test_the_backward_of_a_sum_copies():
    a = sparse().requires_grad_()
    with FlopCounter() as counter:
        out = torch.sparse.sum(a, 0)
        forward = NNZ - 8
        torch.autograd.backward(out, out.detach())
    assert counter.uncounted == ()
    assert counter.flops == forward


@pytest.mark.parametrize("mode", MODES)
def test_a_softmax_works_on_what_is_stored(mode):
    a = sparse()
    with mode():
        soft = measure(torch.sparse.softmax, a, 1)
        log = measure(torch.sparse.log_softmax, a, 1)
    # Six rows: comparisons, subtractions, exponentials, adds, divisions.
    assert (soft.flops, soft.uncounted) == (5 * NNZ - 2 * M, ())
    assert (log.flops, log.uncounted) == (5 * NNZ - M, ())


@pytest.mark.parametrize("function", [torch.sparse.softmax, torch.sparse.log_softmax])
def test_the_backward_of_a_sparse_softmax(function):
    a = sparse().requires_grad_()
    forward = measure(function, a, 1)
    out = forward.output
    with FlopCounter() as counter:
        torch.autograd.backward(out, out.detach())
    assert counter.flops == 4 * NNZ - M
    assert counter.uncounted == ()


def test_a_triangular_system_counts_what_the_matrix_stores():
    a = torch.eye(4)
    a[0, 1:] = 2
    m = measure(aten.triangular_solve.default, torch.ones(4, 3), a.to_sparse_csr())
    # Four divisions, and three multiplies and subtractions, for each of three columns.
    assert (m.flops, m.uncounted) == (3 * (4 + 2 * 3), ())


def test_older_products_of_sparse_and_dense():
    a = sparse()
    m = measure(torch.hspmm, a, torch.ones(K, N))
    assert (m.macs, m.uncounted) == (NNZ * N, ())
    added = torch.ones(M, N).to_sparse()
    for mode in MODES:
        with mode():
            m = measure(torch.sspaddmm, added, a, torch.ones(K, N))
        assert (m.macs, m.flops, m.uncounted) == (NNZ * N, 2 * NNZ * N + M * N, ())


def test_a_sparse_gradient_of_an_embedding_is_a_copy():
    embedding = nn.Embedding(7, 3, sparse=True)
    tokens = torch.tensor([1, 2, 2])
    m = measure(embedding, tokens, train=True)
    assert (m.flops, m.uncounted) == (3 * 3 - 1, ())  # the loss is a sum
    assert embedding.weight.grad.layout is torch.sparse_coo


def test_a_step_of_sparse_adam_works_on_the_rows_that_have_a_gradient():
    embedding = nn.Embedding(70, 3, sparse=True)
    embedding(torch.tensor([1, 2, 2])).sum().backward()
    optimiser = torch.optim.SparseAdam(embedding.parameters())
    m = measure(optimiser.step)
    merged, rows = 3, 2 * 3  # one row of three is merged, two rows remain
    # Two moments (2 and 3), a root, a quotient and the rate.
    steps = rows * (2 + 3 + 1 + 1 + 1)
    # Beside adds, of which those to dense tensors belong to element-wise formulas.
    assert m.flops - m.by_operator["aten.add_"].flops == merged + steps
    assert {item.operator for item in m.uncounted} <= {"aten.add_.Tensor"}


def test_what_a_fake_tensor_stores_is_not_guessed():
    with FakeTensorMode():
        hidden = torch.eye(4).to_sparse()
        with pytest.raises(MeasureError, match=r"layout torch\.sparse_coo"):
            measure(torch.mm, hidden, torch.ones(4, 3))
    nothing = torch.zeros(4, 4).to_sparse()
    m = measure(torch.mm, nothing, torch.ones(4, 3))
    assert (m.macs, m.uncounted) == (0, ()), "a real tensor may store nothing"


def meta(*shape):
    return torch.empty(shape, device="meta")


def test_two_of_four_zeros_halve_the_products():
    linear = formula_for("aten::_sparse_semi_structured_linear")
    x, packed, places = meta(2, M, K), meta(N, K // 2), meta(1)
    work = linear(x, packed, places, bias=meta(N), activation="relu", out=meta(2, M, N))
    assert (work.macs, work.arithmetic) == (2 * M * N * K // 2, 2 * (2 * M * N))
    mm = formula_for("aten::_sparse_semi_structured_mm")
    assert mm(meta(M, K // 2), places, meta(K, N), out=meta(M, N)).macs == M * K // 2 * N
    addmm = formula_for("aten::_sparse_semi_structured_addmm")
    work = addmm(meta(M), meta(M, K // 2), places, meta(K, N), beta=2, out=meta(M, N))
    assert (work.macs, work.arithmetic) == (M * K // 2 * N, 2 * M * N)
    cslt = formula_for("aten::_cslt_sparse_mm")
    work = cslt(meta(9), meta(K, N), meta(M), meta(1), out=meta(M, N))
    assert (work.macs, work.arithmetic) == (M * N * K // 2, 2 * M * N)
