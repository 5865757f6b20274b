"""Bytes of operators that do not read all that they are given, and write only a part."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopbudget import FlopCounter, fake, measure
from pytest_flopbudget.meters.formulas.free import ALLOCATIONS
from pytest_flopbudget.meters.plans import Road, plan_for

aten = torch.ops.aten
F32, I64 = 4, 8
# A cache of 8 heads and 4096 places of 64; one place of all heads is 2048 bytes.
CACHE = 8 * 4096 * 64 * F32
ROW = 8 * 64 * F32


def _moved(call, *shapes):
    """Bytes that a call moves, with real tensors and with fake ones."""
    with torch.no_grad():
        tensors = [torch.zeros(shape) for shape in shapes]
        places = torch.tensor([7])
        real = measure(call, *tensors, places)
        with fake():
            faked = measure(call, *tensors, places)
    assert real.uncounted == faked.uncounted == ()
    assert real.bytes_moved == faked.bytes_moved
    assert real.ops == faked.ops == 1
    return real.bytes_moved


def test_every_operator_that_makes_a_tensor_like_another_does_not_read_that():
    registered = torch._C._dispatch_get_all_op_names()
    names = {name.partition("::")[2].partition(".")[0] for name in registered if "aten::" in name}
    likes = [name for name in names if name.endswith("_like") or name.startswith("new_")]
    assert len(likes) >= 12
    for packet in [getattr(aten, name) for name in likes]:
        for overload in packet.overloads():
            plan = plan_for(getattr(packet, overload))
            allocates = plan.name.removeprefix("aten.") in ALLOCATIONS
            assert plan.road is (Road.VIEW if allocates else Road.FREE), plan.overload
            assert allocates or plan.unread == (0,), plan.overload


@pytest.mark.parametrize(
    ("make", "written"),
    [
        (torch.zeros_like, 1000 * 4),
        (torch.ones_like, 1000 * 4),
        (lambda x: torch.ones_like(x, dtype=torch.float64), 1000 * 8),
        (lambda x: torch.full_like(x, 2.0), 1000 * 4),
        (torch.rand_like, 1000 * 4),
        (torch.randn_like, 1000 * 4),
        (lambda x: torch.randint_like(x, 9), 1000 * 4),
        (lambda x: torch.randint_like(x, 2, 9), 1000 * 4),
        (torch.empty_like, 0),
        (lambda x: x.new_zeros(30), 30 * 4),
        (lambda x: x.new_ones(30), 30 * 4),
        (lambda x: x.new_full((30,), 2.0), 30 * 4),
        (lambda x: x.new_empty(30), 0),
        (lambda x: x.new_empty_strided((30,), (1,)), 0),
        (lambda x: torch.ones_like(x[::2]), 500 * 4),
        (aten.zero, 1000 * 4),
        (lambda x: aten.fill(x, 2.0), 1000 * 4),
        (lambda x: aten.bernoulli.p(x, 0.5), 1000 * 4),
        # what they draw from is read
        (lambda x: aten.copy(x, x.new_empty(1000)), 2 * 1000 * 4),
        (torch.bernoulli, 2 * 1000 * 4),
    ],
)
def test_a_tensor_that_lends_its_shape_is_not_read(make, written):
    with torch.no_grad():
        x = torch.zeros(1000)
        assert measure(make, x).bytes_moved == written
        with fake():
            assert measure(make, x).bytes_moved == written


def test_a_shape_that_is_lent_is_not_read_where_the_result_is_given_either():
    x, out = torch.zeros(1000), torch.empty(1000)
    assert measure(aten.ones_like.out, x, out=out).bytes_moved == 1000 * 4


def test_the_bound_of_random_integers_is_read():
    m = measure(aten.randint_like.Tensor, torch.zeros(1000), torch.tensor(9))
    assert m.bytes_moved == 1000 * 4 + 8


def test_a_shape_is_lent_by_a_tensor_that_is_in_memory():
    assert measure(torch.ones_like, torch.zeros(1000)).peak_memory == 2 * 1000 * 4


@pytest.mark.filterwarnings("ignore:index_reduce.. is in beta:UserWarning")
@pytest.mark.parametrize(
    ("call", "moved"),
    [
        # the index, the rows that come, and the rows that are written
        (lambda c, k, at: c.index_copy_(2, at, k), I64 + 2 * ROW),
        (lambda c, k, at: aten.index_put_(c, [None, None, at], k), I64 + 2 * ROW),
        (lambda c, k, at: aten._index_put_impl_(c, [None, None, at], k), I64 + 2 * ROW),
        # what they are added to or compared with is read too
        (lambda c, k, at: c.index_add_(2, at, k), I64 + 3 * ROW),
        (lambda c, k, at: c.index_add_(2, at, k, alpha=2), I64 + 3 * ROW),
        (lambda c, k, at: aten.index_put_(c, [None, None, at], k, True), I64 + 3 * ROW),
        (lambda c, k, at: c.index_reduce_(2, at, k, "amax"), I64 + 3 * ROW),
        (
            lambda c, k, at: c.index_reduce_(2, at, k, "amax", include_self=False),
            I64 + 2 * ROW,
        ),
        # a number is no tensor; one in a tensor is
        (lambda c, k, at: c.index_fill_(2, at, 1.0), I64 + ROW),
        (lambda c, k, at: c.index_fill_(2, at, k.view(-1)[0]), I64 + F32 + ROW),
        # one value for the whole row is read once
        (lambda c, k, at: aten.index_put_(c, [None, None, at], k[0, 0, 0, :1]), I64 + F32 + ROW),
        # those that return a table copy it
        (lambda c, k, at: c.index_copy(2, at, k), I64 + ROW + 2 * CACHE),
        (lambda c, k, at: c.index_add(2, at, k), I64 + ROW + 2 * CACHE),
        (lambda c, k, at: c.index_fill(2, at, 1.0), I64 + 2 * CACHE),
        (lambda c, k, at: aten.index_put(c, [None, None, at], k), I64 + ROW + 2 * CACHE),
        (lambda c, k, at: aten._unsafe_index_put(c, [None, None, at], k), I64 + ROW + 2 * CACHE),
        # picked elements: the index, one read, one written
        (lambda c, k, at: c.take(at), I64 + 2 * F32),
        (lambda c, k, at: c.index_select(2, at), I64 + 2 * ROW),
    ],
)
def test_of_a_table_what_the_index_names_is_moved(call, moved):
    assert _moved(call, (1, 8, 4096, 64), (1, 8, 1, 64)) == moved


def test_a_cache_that_is_assigned_to_moves_the_place_that_is_written():
    cache, key, at = torch.zeros(1, 8, 4096, 64), torch.ones(1, 8, 1, 64), torch.tensor([7])

    def assign(cache, key, at):
        cache[:, :, at] = key

    assert measure(assign, cache, key, at).bytes_moved == 8 + 2048 + 2048 == 4104


@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter:UserWarning")
@pytest.mark.parametrize(
    ("call", "moved"),
    [
        # 6 elements by an index of 6; of a source of 20, 6 are read
        (lambda x, s, i: x.scatter_(0, i, s), 6 * I64 + 2 * 6 * F32),
        (lambda x, s, i: x.scatter_(0, i, 1.0), 6 * I64 + 6 * F32),
        (lambda x, s, i: x.scatter_(0, i, s, reduce="add"), 6 * I64 + 3 * 6 * F32),
        (lambda x, s, i: x.scatter_(0, i, 2.0, reduce="multiply"), 6 * I64 + 2 * 6 * F32),
        (lambda x, s, i: x.scatter_add_(0, i, s), 6 * I64 + 3 * 6 * F32),
        (lambda x, s, i: x.scatter_reduce_(0, i, s, "amax"), 6 * I64 + 3 * 6 * F32),
        (
            lambda x, s, i: x.scatter_reduce_(0, i, s, "amax", include_self=False),
            6 * I64 + 2 * 6 * F32,
        ),
        # one number for all of them
        (lambda x, s, i: x.scatter_(0, i, s[:1, :1].expand(2, 3)), 6 * I64 + F32 + 6 * F32),
        (lambda x, s, i: x.put_(i, s[:2, :3]), 6 * I64 + 2 * 6 * F32),
        (lambda x, s, i: x.put_(i, s[:2, :3], accumulate=True), 6 * I64 + 3 * 6 * F32),
        # pairs of an index of rows and one of columns
        (lambda x, s, i: aten.index_put_(x, [i, i], s[:2, :3]), 6 * I64 + 2 * 6 * F32),
        # rows of 50
        (lambda x, s, i: x.index_fill_(0, i.view(-1), 1.0), 6 * I64 + 6 * 50 * F32),
        (lambda x, s, i: x.index_fill_(1, i.view(-1), 1.0), 6 * I64 + 6 * 90 * F32),
        # rows that might be scaled down
        (lambda x, s, i: aten.embedding_renorm_(x, i, 1.0, 2.0), 6 * I64 + 2 * 6 * 50 * F32),
        # those that return a table copy it
        (lambda x, s, i: x.scatter(0, i, s[:2, :3]), 6 * I64 + 6 * F32 + 2 * 90 * 50 * F32),
        (lambda x, s, i: x.put(i, s[:2, :3]), 6 * I64 + 6 * F32 + 2 * 90 * 50 * F32),
    ],
)
def test_of_a_table_the_elements_that_an_index_names_are_moved(call, moved):
    with torch.no_grad():
        x, source = torch.ones(90, 50), torch.ones(4, 5)
        index = torch.tensor([[3, 1, 2], [0, 4, 5]])
        assert measure(call, x, source, index).bytes_moved == moved
        with fake():
            assert measure(call, x, source, index).bytes_moved == moved


def test_a_view_is_a_table_of_its_own():
    whole, rows = torch.zeros(100, 64), torch.ones(2, 32)
    at = torch.tensor([1, 4])
    m = measure(lambda t: t[10:50, ::2].index_copy_(0, at, rows), whole)
    assert m.bytes_moved == 2 * 8 + 2 * (2 * 32 * 4)
    # All of the view, of 40 rows of 32, is written by 100 rows.
    many, hundred = torch.zeros(100, dtype=torch.long), torch.ones(100, 32)
    m = measure(lambda t: t[10:50, ::2].index_copy_(0, many, hundred), whole)
    assert m.bytes_moved == 100 * 8 + 100 * 32 * 4 + 40 * 32 * 4


@pytest.mark.parametrize(("rows", "written"), [(2, 2), (3, 3), (4, 3)])
def test_rows_count_as_often_as_they_are_named_up_to_the_whole_table(rows, written):
    table, source = torch.zeros(3, 16), torch.ones(rows, 16)
    at = torch.zeros(rows, dtype=torch.long)
    m = measure(table.index_add_, 0, at, source)
    assert m.bytes_moved == rows * (8 + 16 * 4) + 2 * written * 16 * 4


def test_an_index_that_names_nothing_moves_nothing():
    at = torch.zeros(0, dtype=torch.long)
    assert measure(torch.zeros(3, 16).index_fill_, 0, at, 1.0).bytes_moved == 0
    assert measure(torch.zeros(0, 16).index_fill_, 0, at, 1.0).bytes_moved == 0
    assert measure(torch.tensor(2.0).index_fill_, 0, torch.tensor([0]), 1.0).bytes_moved == 8 + 4


MASK = torch.tensor([True, False, True, True, False] * 4)  # 12 of 20
TABLE = 20 * 6 * 3 * F32


@pytest.mark.parametrize(
    ("indices", "shape", "moved"),
    [
        # The values say how many rows of 6 by 3 the mask picks.
        ([MASK], (12, 6, 3), 20 + 2 * 12 * 18 * F32),
        ([MASK], (12, 1, 3), 20 + 12 * 3 * F32 + 12 * 18 * F32),
        ([MASK, None, torch.tensor([1])], (12, 6), 20 + I64 + 2 * 12 * 6 * F32),
        ([MASK, torch.tensor([1])], (12, 3), 20 + I64 + 2 * 12 * 3 * F32),
        ([None, MASK[:6]], (20, 4, 3), 6 + 2 * 20 * 4 * 3 * F32),
        ([MASK[:, None].expand(20, 6)], (72, 3), 20 + 2 * 72 * 3 * F32),
        # The other index says how many, or the values do for each row of the other index.
        ([MASK, torch.zeros(12, dtype=torch.long)], (3,), 20 + 12 * I64 + 3 * F32 + 12 * 3 * F32),
        ([MASK, torch.tensor([[0], [1]])], (12, 1), 20 + 2 * I64 + 12 * F32 + 2 * 12 * 3 * F32),
        # One value for all rows does not: the table is read and written, as with masked_fill_.
        ([MASK], (6, 3), 20 + 6 * 3 * F32 + 2 * TABLE),
        ([MASK], (1, 6, 3), 20 + 6 * 3 * F32 + 2 * TABLE),
        ([MASK], (), 20 + F32 + 2 * TABLE),
    ],
)
def test_what_a_mask_picks_is_known_where_the_values_tell(indices, shape, moved):
    table, values = torch.zeros(20, 6, 3), torch.ones(shape)
    assert measure(aten.index_put_, table, indices, values).bytes_moved == moved
    assert measure(aten.index_put_, table, indices, values, True).bytes_moved == (
        moved if moved > 2 * TABLE else moved + _written(table, indices, values)
    )


def _written(table, indices, values):
    """Bytes of the elements that get a value, found by writing them."""
    return aten.index_put(torch.zeros_like(table), indices, values).count_nonzero().item() * F32


def test_filling_by_a_mask_reads_the_mask_and_counts_the_whole_table():
    table = torch.zeros(20, 6)
    assert measure(table.masked_fill_, MASK[:, None], 1.0).bytes_moved == 20 + 2 * 20 * 6 * F32


def test_arithmetic_alone_is_as_with_memory():
    table, rows, at = torch.zeros(9, 4), torch.ones(2, 4), torch.tensor([1, 5])
    for memory in (True, False):
        with FlopCounter(memory=memory) as counter:
            table.index_add_(0, at, rows)
            torch.ones_like(table)
        assert (counter.flops, counter.ops, counter.uncounted) == (2 * 4, 2, ())


def test_a_cache_of_a_module_counts_whole_in_memory_and_its_place_as_moved():
    class Cache(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("keys", torch.zeros(4096, 64))

        def forward(self, at, key):
            return self.keys.index_copy_(0, at, key)

    m = measure(Cache(), torch.tensor([7]), torch.ones(1, 64))
    assert m.bytes_moved == 8 + 2 * 64 * 4
    assert m.peak_memory == 4096 * 64 * 4 + 8 + 64 * 4


@pytest.mark.parametrize(
    ("pick", "moved"),
    [
        # 100 rows of a table of 4 rows of 8: no more is read than the 32 elements that there are
        (lambda table, at: table[at], 100 * I64 + 32 * F32 + 100 * 8 * F32),
        (lambda table, at: table.index_select(0, at), 100 * I64 + 32 * F32 + 100 * 8 * F32),
        (
            lambda table, at: nn.functional.embedding(at, table),
            100 * I64 + 32 * F32 + 100 * 8 * F32,
        ),
        (lambda table, at: table.take(at), 100 * I64 + 32 * F32 + 100 * F32),
        # 2 of 4 rows, and 3 of 32 elements
        (lambda table, at: table[at[:2]], 2 * I64 + 2 * 2 * 8 * F32),
        (lambda table, at: table.take(at[:3]), 3 * I64 + 2 * 3 * F32),
    ],
    ids=["index", "index_select", "embedding", "take", "index of few", "take of few"],
)
def test_no_more_is_read_than_the_table(pick, moved):
    table, at = torch.zeros(4, 8), torch.arange(100) % 4
    assert measure(pick, table, at).bytes_moved == moved


@pytest.mark.parametrize(
    ("copy", "elements"),
    [
        (lambda x: aten.select_copy(x, 0, 1), 20),
        (lambda x: aten.slice_copy(x, 0, 1, 3), 2 * 20),
        (lambda x: aten.narrow_copy(x, 1, 0, 3), 30 * 3),
        (aten.diagonal_copy, 20),
        (lambda x: aten.as_strided_copy(x, (5, 2), (20, 1)), 10),
    ],
    ids=["select", "slice", "narrow", "diagonal", "as_strided"],
)
def test_copy_of_a_part_reads_the_part(copy, elements):
    assert measure(copy, torch.zeros(30, 20)).bytes_moved == 2 * elements * F32


def test_copy_of_windows_that_overlap_reads_what_they_are_cut_from_once():
    # 9 windows of 4 elements, at every second of 20.
    assert measure(aten.unfold_copy, torch.zeros(20), 0, 4, 2).bytes_moved == (20 + 9 * 4) * F32


IMAGE, VOLUME, ROWS = (2, 3, 8, 8), (2, 3, 4, 4, 4), torch.arange(6) % 4
# Each makes a result of an input of the shape; what its backward has beside the gradients is told
# by how many elements of the result there are: indices of 8 bytes, or nothing.
WITH_INDICES = {
    "adaptive_max_pool2d": (lambda x: nn.functional.adaptive_max_pool2d(x, 3), IMAGE),
    "adaptive_max_pool3d": (lambda x: nn.functional.adaptive_max_pool3d(x, 3), VOLUME),
    "fractional_max_pool2d": (
        lambda x: nn.functional.fractional_max_pool2d(x, 2, 3, _random_samples=SAMPLES),
        IMAGE,
    ),
    "max_pool2d": (lambda x: nn.functional.max_pool2d(x, 2), IMAGE),
    "max_pool3d": (lambda x: nn.functional.max_pool3d(x, 2), VOLUME),
}
SAMPLES = torch.full((2, 3, 2), 0.5)
WITHOUT = {
    "adaptive_avg_pool2d": (lambda x: nn.functional.adaptive_avg_pool2d(x, 3), IMAGE),
    "adaptive_avg_pool3d": (lambda x: nn.functional.adaptive_avg_pool3d(x, 3), VOLUME),
    "avg_pool2d": (lambda x: nn.functional.avg_pool2d(x, 2), IMAGE),
    "avg_pool3d": (lambda x: nn.functional.avg_pool3d(x, 2), VOLUME),
    **{
        f"{mode}_pad{dims}d": (
            lambda x, dims=dims, mode=mode: nn.functional.pad(x, (1, 1) * dims, mode=mode),
            (2, 3, *(4,) * dims),
        )
        for mode, name in (("reflect", "reflection"), ("replicate", "replication"))
        for dims in (1, 2, 3)
    },
}


@pytest.mark.parametrize("name", [*WITH_INDICES, *WITHOUT])
def test_backward_that_takes_its_input_for_the_shape_does_not_read_it(name):
    call, shape = {**WITH_INDICES, **WITHOUT}[name]
    x = torch.randn(shape, requires_grad=True)
    y = call(x)
    (expected,) = torch.autograd.grad(y, x, torch.ones_like(y), retain_graph=True)
    x.data.fill_(float("nan"))  # and nobody can tell
    with FlopCounter() as counter:
        (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert torch.equal(gradient, expected)
    (moved,) = [
        counts.bytes_moved
        for operator, counts in counter.by_operator.items()
        if operator.endswith("_backward")
    ]
    index = I64 if name in WITH_INDICES else 0
    assert moved == y.numel() * (F32 + index) + x.numel() * F32


@pytest.mark.parametrize(
    ("shape", "targets"), [((6, 4), (6,)), ((2, 4, 3, 3), (2, 3, 3))], ids=["rows", "images"]
)
def test_backward_of_the_likelihood_does_not_read_it_again(shape, targets):
    x, target = torch.randn(shape, requires_grad=True), torch.zeros(targets, dtype=torch.int64)
    loss = nn.functional.nll_loss(x, target)
    x.data.fill_(float("nan"))
    with FlopCounter() as counter:
        (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.sum() == pytest.approx(-1)
    name = "aten.nll_loss_backward" if len(targets) == 1 else "aten.nll_loss2d_backward"
    # The gradient of the loss, the targets and the sum of their weights; the gradient is written.
    read = F32 + target.numel() * I64 + F32
    assert counter.by_operator[name].bytes_moved == read + x.numel() * F32


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_of_what_is_not_in_one_piece_copies_it_in_every_mode(mode, has_bias):
    # A weight that needs a gradient makes torch copy the input, and compute one product.
    model = nn.Linear(4, 5, bias=has_bias)
    x = torch.rand(2, 4, 300).transpose(1, 2)
    with mode(), FlopCounter() as counter:
        model(x)
    sizes = [2 * 300 * 4 * F32, 4 * 5 * F32, 2 * 300 * 5 * F32]
    given, weight, result = sizes
    copy, product = 2 * given, given + weight + result
    bias = 2 * result + 5 * F32 if has_bias else 0
    assert counter.by_operator["aten.clone"].bytes_moved == copy
    assert counter.bytes_moved == copy + product + bias


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_what_is_made_of_others_moves_their_bytes_in_every_mode(mode):
    x, mask = torch.rand(10), torch.arange(10) > 4
    with mode(), FlopCounter() as counter:
        torch.where(mask, 1.0, x)
    # The number is written as a tensor and read from there; what is picked is written.
    assert counter.bytes_moved == F32 + (10 + F32 + 10 * F32) + 10 * F32
    assert counter.activation_memory == F32 + 10 * F32
    with mode(), FlopCounter() as counter:
        torch.conj_physical(x)
    assert counter.bytes_moved == 0  # it is real, and is given back
    with mode(), FlopCounter() as counter:
        x.repeat_interleave(3)
    assert counter.bytes_moved == 10 * F32 + 30 * F32
