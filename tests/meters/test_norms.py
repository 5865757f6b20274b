"""Every normalisation counts its definition, forward and backward, on each of its roads."""

from __future__ import annotations

import inspect
from itertools import product

import pytest
import torch
from torch import nn
from torch._decomp import decomposition_table
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, parametrizations

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas.registry import formula_for

aten = torch.ops.aten
N, C, H, W = 3, 4, 5, 7
E = N * C * H * W
IMAGE = torch.randn(N, C, H, W)
SCALE = torch.rand(C)
MEAN, VAR = torch.zeros(C), torch.ones(C)
MASKS = [list(mask) for mask in product((True, False), repeat=3)]

NORMS = {
    "BatchNorm1d": (C, (N, C, H)),
    "BatchNorm2d": (C, (N, C, H, W)),
    "BatchNorm3d": (C, (N, C, 2, H, W)),
    "InstanceNorm1d": (C, (N, C, H)),
    "InstanceNorm2d": (C, (N, C, H, W)),
    "InstanceNorm3d": (C, (N, C, 2, H, W)),
    "LazyBatchNorm1d": (None, (N, C, H)),
    "LazyBatchNorm2d": (None, (N, C, H, W)),
    "LazyBatchNorm3d": (None, (N, C, 2, H, W)),
    "LazyInstanceNorm1d": (None, (N, C, H)),
    "LazyInstanceNorm2d": (None, (N, C, H, W)),
    "LazyInstanceNorm3d": (None, (N, C, 2, H, W)),
    "LayerNorm": ((H, W), (N, C, H, W)),
    "RMSNorm": (W, (N, C, H, W)),
    "GroupNorm": ((2, C), (N, C, H, W)),
    "LocalResponseNorm": (3, (N, C, H, W)),
    "SyncBatchNorm": (C, (N, C, H, W)),
}


def _norm(name, is_affine, has_running):
    size, _ = NORMS[name]
    make = getattr(nn, name)
    if name == "LocalResponseNorm":
        return make(size)
    if name in ("LayerNorm", "RMSNorm"):
        return make(size, elementwise_affine=is_affine)
    if name == "GroupNorm":
        return make(*size, affine=is_affine)
    sizes = () if size is None else (size,)
    return make(*sizes, affine=is_affine, track_running_stats=has_running)


def test_every_norm_of_torch_is_tried():
    named = {name for name, _ in inspect.getmembers(nn, inspect.isclass) if "Norm" in name}
    assert named == set(NORMS)


# A lazy norm without parameters never learns its size, and says so.
@pytest.mark.filterwarnings("ignore:input.s size at dim=1:UserWarning")
@pytest.mark.parametrize("has_running", [True, False])
@pytest.mark.parametrize("is_affine", [True, False])
@pytest.mark.parametrize("name", NORMS)
def test_no_norm_leaves_anything_uncounted(name, is_affine, has_running):
    norm = _norm(name, is_affine, has_running)
    x = torch.randn(NORMS[name][1])
    if name.startswith("Lazy"):
        norm(x)
    for is_training in (True, False):
        if name == "SyncBatchNorm" and (is_training or not has_running):
            continue  # torch runs it on accelerators alone; its parts are tried below
        norm.train(is_training)
        trained = measure(norm, x.clone().requires_grad_(), train=True)
        with torch.inference_mode():
            evaluated = measure(norm, x)
        with torch.no_grad():
            plain = measure(norm, x)
        assert trained.uncounted == evaluated.uncounted == plain.uncounted == ()
        assert evaluated.flops == plain.flops > 0
        assert trained.flops > plain.flops


@pytest.mark.parametrize("weight", [SCALE, None])
@pytest.mark.parametrize("mask", MASKS)
def test_group_norm_backward_counts_what_its_mask_asks_for(mask, weight):
    needs_x, needs_weight, needs_bias = mask
    if weight is None and (needs_weight or needs_bias):
        return  # torch refuses
    groups = 2
    _, mean, rstd = aten.native_group_norm(IMAGE, weight, weight, N, C, H * W, groups, 1e-5)
    m = measure(
        aten.native_group_norm_backward,
        *(IMAGE, IMAGE, mean, rstd, weight, N, C, H * W, groups, mask),
    )
    flops = 0
    if any(mask):
        flops += E - N * C  # sum of grad
    if needs_x or needs_weight:
        flops += E + E - N * C  # sum of grad * x
    if needs_x:
        if weight is not None:
            flops += 3 * N * C  # both sums and the inverse deviation times weight
        flops += 2 * (N * C - N * groups)  # both sums over each group
        flops += 6 * N * groups  # (sum of grad * mean - sum of grad * x) * rstd**3 / n
        flops += 5 * N * groups  # -that * mean - sum of grad * rstd / n
        flops += 4 * E  # grad * a + x * b + c
    if needs_weight:
        flops += 3 * N * C + (N * C - C)  # (sum of grad * x - sum of grad * mean) * rstd
    if needs_bias:
        flops += N * C - C
    assert m.flops == flops
    assert m.uncounted == ()


def test_group_norm_backward_counts_what_its_decomposition_counts():
    _, mean, rstd = aten.native_group_norm(IMAGE, SCALE, SCALE, N, C, H * W, 2, 1e-5)
    args = (IMAGE, IMAGE, mean, rstd, SCALE, N, C, H * W, 2, [True] * 3)
    op = aten.native_group_norm_backward.default
    with FlopCounter() as fused:
        op(*args)
    with FlopCounter() as decomposed:
        decomposition_table[op](*args)
    assert fused.flops == decomposed.flops > 0
    assert fused.uncounted == decomposed.uncounted == ()


@pytest.mark.parametrize("weight", [torch.rand(W), None])
@pytest.mark.parametrize("mask", [[True, True], [True, False], [False, True], [False, False]])
def test_rms_norm_backward_counts_what_its_decomposition_counts(mask, weight):
    # It runs on accelerators alone; the CPU takes it apart.
    x = IMAGE.view(N * C * H, W)
    rstd = torch.rand(N * C * H, 1)
    on_meta = [None if t is None else t.to("meta") for t in (x, x, rstd, weight)]
    grad, meta_x, meta_rstd, meta_weight = on_meta
    rule = formula_for("aten::_fused_rms_norm_backward")
    flops = rule(grad, meta_x, [W], meta_rstd, meta_weight, mask, out=(grad, meta_weight))
    rows = N * C * H
    expected = E if mask[0] or (mask[1] and weight is not None) else 0  # x * rstd
    if mask[0]:
        # grad * weight; times xhat, its sum, xhat / n, times that, subtract, times rstd
        expected += (0 if weight is None else E) + 6 * E - rows
    if mask[1] and weight is not None:
        expected += 2 * E - W
    assert flops == expected
    if all(mask):
        op = aten._fused_rms_norm_backward.default
        with FlopCounter() as decomposed:
            decomposition_table[op](x, x, [W], rstd, weight, mask)
        assert decomposed.flops == flops
        assert decomposed.uncounted == ()


def test_fused_rms_norm_counts_what_the_cpu_does_in_steps():
    x, weight = torch.randn(5, 7), torch.rand(7)
    fused = formula_for("aten::_fused_rms_norm")(x, [7], weight, 1e-6, out=(x, x))
    with torch.no_grad():
        assert measure(functional.rms_norm, x, (7,), weight, 1e-6).flops == fused


TRAINED = 8 * E + 2 * C + 7 * C
"""Mean E, variance 3E, inverse deviation 2C, four an element; running statistics 7C."""
EVALUATED = 4 * E + 2 * C


@pytest.mark.parametrize(
    ("call", "flops"),
    [
        (lambda: aten.native_batch_norm(IMAGE, SCALE, SCALE, MEAN, VAR, True, 0.1, 1e-5), TRAINED),
        (
            lambda: aten.native_batch_norm(IMAGE, SCALE, SCALE, MEAN, VAR, False, 0.1, 1e-5),
            EVALUATED,
        ),
        (
            lambda: aten._native_batch_norm_legit_functional(
                IMAGE, SCALE, SCALE, MEAN, VAR, True, 0.1, 1e-5
            ),
            TRAINED,
        ),
        (
            lambda: aten._native_batch_norm_legit_functional(
                IMAGE, SCALE, SCALE, MEAN, VAR, False, 0.1, 1e-5
            ),
            EVALUATED,
        ),
        (
            lambda: aten._native_batch_norm_legit.no_stats(IMAGE, SCALE, SCALE, True, 0.1, 1e-5),
            TRAINED - 7 * C,
        ),
        (lambda: aten._batch_norm_with_update(IMAGE, SCALE, SCALE, MEAN, VAR, 0.1, 1e-5), TRAINED),
        (
            lambda: aten._batch_norm_with_update_functional(
                IMAGE, SCALE, SCALE, MEAN, VAR, 0.1, 1e-5
            ),
            TRAINED,
        ),
        (lambda: aten._batch_norm_no_update(IMAGE, SCALE, SCALE, MEAN, VAR, 0.1, 1e-5), EVALUATED),
        (
            lambda: aten._native_batch_norm_legit_no_training(
                IMAGE, None, None, MEAN, VAR, 0.1, 1e-5
            ),
            EVALUATED - 2 * E,
        ),
        (lambda: aten.batch_norm_update_stats(IMAGE, MEAN, VAR, 0.1), 4 * E + 7 * C),
        (lambda: aten.batch_norm_update_stats(IMAGE, None, None, 0.1), 4 * E),
    ],
)
def test_every_road_of_batch_norm_counts_its_definition(call, flops):
    m = measure(call)
    assert m.flops == flops
    assert m.uncounted == ()


TRAINED_BACK = (E - C) + (3 * E - C) + 5 * E + 4 * C + C + C
"""Both sums; for x 5E + 4C and the scale C; for weight C."""


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("mask", MASKS)
def test_batch_norm_backward_counts_what_its_mask_asks_for(mask, is_training):
    needs_x, needs_weight, needs_bias = mask
    statistics = (SCALE, MEAN, VAR, MEAN, VAR)
    m = measure(aten.native_batch_norm_backward, IMAGE, IMAGE, *statistics, is_training, 1e-5, mask)
    flops = C if needs_weight else 0
    if is_training:
        flops += (E - C) + (3 * E - C) + (5 * E + 5 * C if needs_x else 0)
    else:
        flops += (E - C if needs_bias else 0) + (3 * E - C if needs_weight else 0)
        flops += (2 * C if needs_x or needs_weight else 0) + (E + C if needs_x else 0)
    assert m.flops == flops
    assert m.uncounted == ()


def on_meta(*shapes):
    return [torch.empty(shape, device="meta") for shape in shapes]


@pytest.mark.parametrize("name", ["cudnn_batch_norm_backward", "miopen_batch_norm_backward"])
def test_batch_norm_backward_of_a_library_is_that_of_training(name):
    x, grad, c = on_meta((N, C, H, W), (N, C, H, W), (C,))
    # The libraries take the input before the gradient, and no mask.
    flops = formula_for(f"aten::{name}")(x, grad, c, c, c, c, c, 1e-5, out=(x, c, c))
    assert flops == TRAINED_BACK


def test_the_parts_of_synchronised_batch_norm_add_up():
    x, c, gathered, counts = on_meta((N, C, H, W), (C,), (2, C), (2,))

    def flops(name, *args):
        return formula_for(f"aten::{name}")(*args, out=None)

    assert flops("batch_norm_stats", x, 1e-5) == 4 * E + 2 * C
    assert flops("batch_norm_elemt", x, c, c, c, c, 1e-5) == 4 * E
    assert flops("batch_norm_elemt", x, None, None, c, c, 1e-5) == 2 * E
    gather = (x, gathered, gathered)
    # Two devices, 18 for each of their channels; 3 and 7 for a channel of the result.
    with_running = flops("batch_norm_gather_stats_with_counts", *gather, c, c, 0.1, 1e-5, counts)
    assert with_running == 18 * 2 * C + 10 * C
    without = flops("batch_norm_gather_stats", *gather, None, None, 0.1, 1e-5, 105)
    assert without == 18 * 2 * C + 3 * C
    reduce = flops("batch_norm_backward_reduce", x, x, c, c, c, True, True, True)
    assert reduce == (E - C) + (3 * E - C) + C
    assert flops("batch_norm_backward_reduce", x, x, c, c, c, False, False, True) == E - C
    elements = flops("batch_norm_backward_elemt", x, x, c, c, c, c, c, counts)
    assert elements == 5 * E + 5 * C + 1
    # One device's parts are the whole backward, and the sum of one count is none.
    assert reduce + elements - 1 == TRAINED_BACK


def test_weight_norm_counts_lengths_and_directions():
    v, g = torch.randn(5, 7), torch.rand(5, 1)
    m = measure(aten._weight_norm_interface, v, g, 0)
    # The norm of each row is 7 squares, 6 adds and a root; g / norm; and a product.
    assert m.flops == 5 * 14 + 5 + 35
    back = measure(aten._weight_norm_interface_backward, v, v, g, torch.rand(5, 1), 0)
    # Sum of grad * v, and / norm; norm**2, the sum over it, g / norm; and three an element.
    assert back.flops == (70 - 5) + 5 + 3 * 5 + 3 * 35
    assert m.uncounted == back.uncounted == ()
    trained = measure(torch._weight_norm, v.requires_grad_(), g.requires_grad_(), 0, train=True)
    assert trained.by_operator["aten._weight_norm_interface_backward"].flops == back.flops
    assert trained.uncounted == ()


@pytest.mark.parametrize(
    "parametrize", [parametrizations.weight_norm, parametrizations.spectral_norm]
)
def test_parametrized_weights_leave_nothing_uncounted(parametrize):
    layer = parametrize(nn.Linear(5, 7))
    x = torch.randn(3, 5, requires_grad=True)
    for is_training in (True, False):
        layer.train(is_training)
        trained = measure(layer, x, train=True)
        with torch.inference_mode():
            evaluated = measure(layer, x.detach())
        assert trained.uncounted == evaluated.uncounted == ()
        assert evaluated.macs >= 3 * 5 * 7


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("wrap", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_older_parametrizations_leave_nothing_uncounted(wrap):
    m = measure(wrap(nn.Linear(5, 7)), torch.randn(3, 5, requires_grad=True), train=True)
    assert m.uncounted == ()


@pytest.mark.parametrize("is_foreach", [True, False])
def test_clipping_gradients_leaves_nothing_uncounted(is_foreach):
    model = nn.Linear(5, 7)
    model(torch.randn(3, 5)).sum().backward()
    m = measure(clip_grad_norm_, model.parameters(), 1.0, foreach=is_foreach)
    # Norms of 35 and 7 gradients, the norm of both norms; an epsilon, a reciprocal and a
    # product for the scale, its bound, and a product for each gradient.
    assert m.flops == 2 * (35 + 7) + 2 * 2 + 4 + 35 + 7
    value = measure(clip_grad_value_, model.parameters(), 0.5, foreach=is_foreach)
    assert value.flops == 2 * (35 + 7)
    assert m.uncounted == value.uncounted == ()
