"""What moves data is free, what only seems to is counted, and nothing is both."""

from __future__ import annotations

import math

import pytest
import torch
from torch._decomp import decomposition_table
from torch.nn import functional

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas import free
from pytest_flopbudget.meters.formulas.registry import _FORMULAS, _FREE

aten = torch.ops.aten
OPERATORS = {name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names()}
X = torch.randn(3, 4, 6)
SQUARE = torch.randn(5, 5)


def test_every_free_operator_is_one_of_torchs_and_is_listed_once():
    # Two namespaces are registered when torch.ao's export and FSDP are first used.
    late = ("quantized_decomposed::", "fsdp::")
    names = [name for name in _FREE if not name.startswith(late)]
    unknown = [name for name in names if name not in OPERATORS and f"{name}_" not in OPERATORS]
    assert unknown == []
    lists = (
        free.ALLOCATIONS, free.QUESTIONS, free.FILLS, free.RANDOM, free.COPIES, free.LOGIC,
        free.PACKING, free.MESSAGES,
    )  # fmt: skip
    listed = [name for names in lists for name in names]
    assert len(listed) == len(set(listed))


def test_no_operator_is_both_free_and_counted():
    assert _FREE.isdisjoint(_FORMULAS)


COPIES = {
    "alias_copy": (X,),
    "as_strided_copy": (X, [2, 3], [1, 2]),
    "detach_copy": (X,),
    "diagonal_copy": (SQUARE,),
    "expand_copy": (X, [2, 3, 4, 6]),
    "lift_fresh_copy": (X,),
    "narrow_copy": (X, 1, 1, 2),
    "permute_copy": (X, [2, 0, 1]),
    "select_copy.int": (X, 0, 1),
    "slice_copy.Tensor": (X, 1, 0, 3),
    "split_copy.Tensor": (X, 2, 1),
    "split_with_sizes_copy": (X, [1, 3], 1),
    "squeeze_copy": (X,),
    "t_copy": (SQUARE,),
    "transpose_copy.int": (X, 0, 1),
    "unbind_copy.int": (X,),
    "unfold_copy": (X, 1, 2, 1),
    "unsqueeze_copy": (X, 0),
    "view_as_complex_copy": (torch.randn(3, 2),),
    "view_as_real_copy": (torch.randn(3, dtype=torch.cfloat),),
    "view_copy": (X, [12, 6]),
    "view_copy.dtype": (X, torch.int32),
    "_reshape_alias_copy": (X, [12, 6], [6, 1]),
    "as_strided_scatter": (X, torch.randn(2, 3), [2, 3], [6, 1]),
    "diagonal_scatter": (SQUARE, torch.randn(5)),
    "select_scatter": (X, torch.randn(4, 6), 0, 1),
    "slice_scatter": (X, torch.randn(1, 4, 6), 0, 0, 1),
    "diagonal_backward": (torch.randn(5), [5, 5], 0, 0, 1),
    "select_backward": (torch.randn(4, 6), [3, 4, 6], 0, 1),
    "slice_backward": (torch.randn(2, 4, 6), [3, 4, 6], 0, 0, 2, 1),
    "index_copy": (X, 0, torch.tensor([1, 0]), torch.randn(2, 4, 6)),
    "take": (X, torch.tensor([1, 5])),
    "scatter.src": (X, 0, torch.zeros(1, 4, 6, dtype=torch.long), torch.randn(1, 4, 6)),
    "scatter.value": (X, 0, torch.zeros(1, 4, 6, dtype=torch.long), 2.0),
    "masked_scatter_backward": (X, torch.ones(3, 4, 6, dtype=torch.bool), [72]),
    "complex": (X, X),
    "rot90": (X,),
    "roll": (X, [1], [0]),
    "flip": (X, [0]),
    "diag_embed": (X,),
    "block_diag": ([SQUARE, SQUARE],),
    "_stack": ([X, X],),
    "_chunk_cat": ([X, X], 0, 2),
    "channel_shuffle": (torch.randn(2, 6, 4, 4), 3),
    "pixel_shuffle": (torch.randn(2, 8, 3, 4), 2),
    "pixel_unshuffle": (torch.randn(2, 2, 6, 4), 2),
    "im2col": (torch.randn(2, 3, 7, 8), [2, 3], [1, 1], [0, 0], [1, 1]),
    "reflection_pad1d": (X, [1, 2]),
    "reflection_pad3d": (torch.randn(2, 3, 4, 5, 6), [1] * 6),
    "replication_pad3d": (torch.randn(2, 3, 4, 5, 6), [1] * 6),
    "triu_indices": (3, 4),
    "cartesian_prod": ([torch.randn(3), torch.randn(2)],),
    "meshgrid": ([torch.randn(3), torch.randn(2)],),
    "_foreach_clone": ([X, SQUARE],),
    "_unsafe_masked_index": (SQUARE[0], SQUARE[0] > 0, [torch.arange(5)], 0),
    "range": (0, 5),
    "arange": (5,),
    "linspace": (0, 1, 7),
    "cauchy": (X,),
    "log_normal": (X,),
    "poisson": (X.abs(),),
    "binomial": (X.abs().round(), torch.full_like(X, 0.5)),
    "_standard_gamma": (X.abs() + 1,),
    "_sample_dirichlet": (X.abs() + 1,),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_moving_data_is_no_arithmetic(name, context):
    packet, _, overload = name.partition(".")
    call = getattr(getattr(aten, packet), overload or "default")
    with context(), FlopCounter() as counter:
        call(*COPIES[name])
    assert (counter.flops, counter.int_ops, counter.uncounted) == (0, 0, ())


def test_finding_nonzeros_with_a_fixed_size_is_free():
    m = measure(torch.nonzero_static, X, size=5)
    assert (m.flops, m.int_ops, m.uncounted) == (0, 0, ())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_combinations_compare_their_indices_and_do_no_more(context):
    with context():
        m = measure(torch.combinations, torch.randn(5), 2)
    assert (m.flops, m.int_ops, m.uncounted) == (0, 5 * 5, ())


def test_a_copy_costs_its_bytes():
    with FlopCounter() as counter:
        aten.view_copy(X, [12, 6])
    assert counter.bytes_moved == 2 * X.nbytes
    assert counter.ops == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda: aten._assert_async(torch.tensor(True)),
        lambda: aten._assert_scalar(True, "no"),
        lambda: aten._assert_tensor_metadata(X, [3, 4, 6]),
        lambda: aten._functional_assert_async.msg(torch.tensor(True), "no", torch.empty(0)),
        lambda: aten.is_set_to(X, X),
        lambda: aten._fused_sdp_choice(*[torch.empty(1, 2, 3, 4)] * 3),
        lambda: aten._nnz(torch.empty(2, 3, layout=torch.sparse_coo)),
        lambda: aten._dimI(torch.empty(2, 3, layout=torch.sparse_coo)),
        lambda: aten._coalesced_(torch.empty(2, 3, layout=torch.sparse_coo), True),
        lambda: aten.sym_constrain_range(3, min=1, max=5),
        lambda: aten._print(""),
        lambda: aten._resize_output_(torch.empty(0, device="meta"), [2], torch.device("meta")),
        aten._make_dep_token,
    ],
)
def test_questions_and_allocations_cost_nothing(ask):
    with FlopCounter() as counter:
        ask()
    assert (counter.flops, counter.int_ops, counter.ops, counter.bytes_moved) == (0, 0, 0, 0)
    assert counter.uncounted == ()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_questions_about_quantised_tensors_cost_nothing():
    q = torch.quantize_per_tensor(X, 0.1, 0, torch.quint8)
    with FlopCounter() as counter:
        assert q.q_scale() == pytest.approx(0.1)
        assert q.q_zero_point() == 0
        assert q.qscheme() is torch.per_tensor_affine
        raw = q.int_repr()
    assert raw.dtype is torch.uint8
    assert (counter.flops, counter.int_ops, counter.uncounted) == (0, 0, ())


@pytest.mark.parametrize("kind", ["reflect", "replicate"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_backward_of_padding_adds_each_gradient_to_its_place(kind, dims):
    x = torch.randn(2, 3, *range(4, 4 + dims), requires_grad=True)
    m = measure(lambda t: functional.pad(t, [1, 2] * dims, mode=kind), x, train=True)
    padded = 6 * math.prod(size + 3 for size in range(4, 4 + dims))
    assert m.output.numel() == padded
    assert m.flops == (padded - 1) + padded
    assert m.uncounted == ()


@pytest.mark.parametrize("mode", ["constant", "circular"])
def test_other_padding_is_free_and_circular_padding_adds_what_it_copied(mode):
    x = torch.randn(2, 3, 7, requires_grad=True)
    m = measure(lambda t: functional.pad(t, [1, 2], mode=mode), x, train=True)
    loss = 2 * 3 * 10 - 1
    # Circular: both ends are copied from the padded result, so that each adds to its gradient.
    added = {"constant": 0, "circular": 2 * (2 * 3 * 10)}[mode]
    assert m.flops == loss + added
    assert m.uncounted == ()


def test_complex_gradients_are_added_in_two_parts():
    grad = torch.randn(2, 3, 9, dtype=torch.cfloat)
    with FlopCounter() as counter:
        aten.reflection_pad1d_backward(grad, grad[..., :6], [1, 2])
    assert counter.flops == 2 * grad.numel()


def test_sliding_windows_are_views_and_their_gradients_are_added():
    x = torch.randn(3, 9, requires_grad=True)
    m = measure(lambda t: t.unfold(1, 4, 2), x, train=True)
    windows = 3 * 3 * 4
    assert m.flops == (windows - 1) + windows
    assert m.uncounted == ()


def test_folding_adds_every_column_that_does_not_fall_onto_the_padding():
    # Rows -1, 1, 3, 5 and columns -1, 2, 5 start windows of three by two; 7 by 7 elements.
    rows, columns = 2 + 3 + 3 + 2, 1 + 2 + 2
    options = {"output_size": (7, 7), "kernel_size": (3, 2), "padding": 1, "stride": (2, 3)}
    x = torch.randn(2, 4 * 6, 4 * 3)
    m = measure(functional.fold, x, **options)
    assert m.flops == 2 * 4 * rows * columns
    trained = measure(functional.fold, x.requires_grad_(), **options, train=True)
    assert trained.flops == m.flops + 2 * 4 * 7 * 7 - 1  # its backward copies columns
    assert m.uncounted == trained.uncounted == ()
    unfolded = measure(
        functional.unfold, torch.randn(2, 4, 7, 7, requires_grad=True), (3, 2), padding=1,
        stride=(2, 3), train=True,
    )  # fmt: skip
    assert unfolded.flops == (2 * 24 * 12 - 1) + m.flops


def test_folding_without_padding_counts_what_torchs_decomposition_counts():
    arguments = (torch.randn(2, 4 * 6, 5 * 4), [7, 5], [3, 2], [1, 1], [0, 0], [1, 1])
    with FlopCounter() as fused:
        aten.col2im(*arguments)
    with FlopCounter() as decomposed:
        decomposition_table[aten.col2im.default](*arguments)
    assert fused.flops == decomposed.flops == arguments[0].numel()
    assert fused.uncounted == decomposed.uncounted == ()


@pytest.mark.parametrize(
    ("window", "cost"),
    [
        (torch.hann_window, 4),
        (torch.hamming_window, 4),
        (torch.blackman_window, 2 * 3 + 2),
        (torch.bartlett_window, 4),
        (torch.kaiser_window, 8),
    ],
)
@pytest.mark.parametrize("periodic", [True, False])
def test_windows_of_signals_count_their_definition(window, cost, periodic):
    m = measure(window, 13, periodic)
    assert (m.flops, m.uncounted) == (cost * 13, ())


def test_a_logarithmic_spacing_counts_a_power_for_each_element():
    assert measure(torch.logspace, 0, 2, 7).flops == 7
    assert measure(torch.logspace, 0, 2, 7, out=torch.empty(0)).flops == 7
