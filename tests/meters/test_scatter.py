"""Reductions into places count one operation for each element that is combined."""

from __future__ import annotations

import pytest
import torch

from pytest_flopbudget import measure

# torch warns once of each: scatter's `reduce` is to go, index_reduce is new.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter:UserWarning"),
    pytest.mark.filterwarnings("ignore:index_reduce.* is in beta:UserWarning"),
]
aten = torch.ops.aten
M, N = 5, 7
X = torch.rand(M, N)
Z = torch.rand(M, N, dtype=torch.complex64)
SOURCE = torch.rand(6, 9)
INDEX = torch.randint(0, M, (3, 4))
"""Smaller than the source, as it may be: 12 elements are combined."""
ROWS = torch.tensor([0, 2, 2])
THREE = torch.rand(3, N)
LENGTHS = torch.tensor([2, 3])

CASES = [
    ("scatter", lambda: X.scatter(0, INDEX, SOURCE), 0),
    ("scatter a number", lambda: X.scatter(0, INDEX, 2.0), 0),
    ("scatter, add", lambda: X.scatter(0, INDEX, SOURCE, reduce="add"), 12),
    ("scatter, add a number", lambda: X.scatter(0, INDEX, 2.0, reduce="add"), 12),
    ("scatter, in place", lambda: X.clone().scatter_(0, INDEX, SOURCE, reduce="multiply"), 12),
    (
        "scatter, complex",
        lambda: Z.scatter(0, INDEX, SOURCE.to(Z.dtype), reduce="multiply"),
        6 * 12,
    ),
    ("scatter_reduce, sum", lambda: X.scatter_reduce(0, INDEX, SOURCE, "sum"), 12),
    ("scatter_reduce, prod", lambda: X.scatter_reduce(0, INDEX, SOURCE, "prod"), 12),
    ("scatter_reduce, amax", lambda: X.scatter_reduce(0, INDEX, SOURCE, "amax"), 12),
    (
        "scatter_reduce, amin alone",
        lambda: X.scatter_reduce(0, INDEX, SOURCE, "amin", include_self=False),
        12,
    ),
    # 12 adds, 12 to count them, and a division for each place
    ("scatter_reduce, mean", lambda: X.scatter_reduce(0, INDEX, SOURCE, "mean"), 24 + M * N),
    (
        "scatter_reduce, in place",
        lambda: X.clone().scatter_reduce_(0, INDEX, SOURCE, "mean"),
        24 + M * N,
    ),
    ("index_reduce, prod", lambda: X.index_reduce(0, ROWS, THREE, "prod"), 3 * N),
    ("index_reduce, mean", lambda: X.index_reduce(0, ROWS, THREE, "mean"), 6 * N + M * N),
    ("index_reduce, in place", lambda: X.clone().index_reduce_(0, ROWS, THREE, "amax"), 3 * N),
    ("index_copy", lambda: X.index_copy(0, ROWS, THREE), 0),
    ("take", lambda: X.take(INDEX), 0),
    ("put", lambda: X.put(INDEX, SOURCE[:3, :4]), 0),
    ("put, accumulate", lambda: X.put(INDEX, SOURCE[:3, :4], accumulate=True), 12),
    ("put, in place", lambda: X.clone().put_(INDEX, SOURCE[:3, :4], accumulate=True), 12),
    (
        "put, complex",
        lambda: Z.put(INDEX, SOURCE[:3, :4].to(Z.dtype), accumulate=True),
        2 * 12,
    ),
    ("_unsafe_masked_index", lambda: aten._unsafe_masked_index(X, ROWS > 0, [ROWS, ROWS], 0.0), 0),
    (
        "_unsafe_masked_index_put_accumulate",
        lambda: aten._unsafe_masked_index_put_accumulate(X, ROWS > 0, [ROWS, ROWS], THREE[:, 0]),
        3,
    ),
    # segments start at their initial value: one operation for each element
    ("segment_reduce", lambda: torch.segment_reduce(X, "sum", lengths=LENGTHS), M * N),
    ("segment_reduce, max", lambda: torch.segment_reduce(X, "max", lengths=LENGTHS), M * N),
    (
        "segment_reduce, mean",
        lambda: torch.segment_reduce(X, "mean", lengths=LENGTHS),
        M * N + 2 * N,
    ),
    (
        "segment_reduce by offsets",
        lambda: torch.segment_reduce(X, "prod", offsets=torch.tensor([0, 2, 5])),
        M * N,
    ),
]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    ("call", "flops"), [pytest.param(call, flops, id=name) for name, call, flops in CASES]
)
def test_each_element_is_combined_once(call, flops, context):
    with context():
        m = measure(call)
    # A mask made of integers is integer work.
    assert (m.flops, m.macs) == (flops, 0)
    assert m.uncounted == ()


@pytest.mark.parametrize(
    ("reduce", "backward"),
    [
        ("sum", 0),
        # one division for each segment
        ("mean", 2 * N),
        # grad * output for each segment, and a division by each element
        ("prod", 2 * N + M * N),
        # a comparison and a count for each element, and a division for each segment
        ("max", 2 * M * N + 2 * N),
        ("min", 2 * M * N + 2 * N),
    ],
)
def test_segments_pass_their_gradient_on(reduce, backward):
    output = torch.segment_reduce(X, reduce, lengths=LENGTHS)
    m = measure(aten._segment_reduce_backward, output, output, X, reduce, lengths=LENGTHS)
    assert m.flops == backward
    assert m.uncounted == ()
    trained = measure(
        lambda t: torch.segment_reduce(t, reduce, lengths=LENGTHS),
        X.clone().requires_grad_(),
        train=True,
    )
    assert trained.by_operator["aten._segment_reduce_backward"].flops == backward
    assert trained.uncounted == ()


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
def test_scattering_leaves_no_backward_uncounted(reduce):
    def scattered(x, source):
        return x.scatter_reduce(0, INDEX, source, reduce)

    # torch differentiates only what has the shape of the index.
    leaves = X.clone().requires_grad_(), SOURCE[:3, :4].clone().requires_grad_()
    m = measure(scattered, *leaves, train=True)
    assert m.uncounted == ()


def test_integers_are_integer_work():
    m = measure(torch.arange(35).view(M, N).scatter, 0, INDEX, INDEX, reduce="add")
    assert (m.flops, m.int_ops) == (0, 12)


def test_a_given_result_changes_no_count():
    plain = measure(X.scatter_reduce, 0, INDEX, SOURCE, "mean")
    into = measure(torch.scatter_reduce, X, 0, INDEX, SOURCE, "mean", out=torch.empty(M, N))
    assert plain.flops == into.flops
    reduced = measure(torch.scatter, X, 0, INDEX, SOURCE, reduce="add", out=torch.empty(M, N))
    assert reduced.flops == 12
    assert plain.uncounted == into.uncounted == reduced.uncounted == ()
