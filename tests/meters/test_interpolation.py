"""Interpolation counts its weighted sums, with windows where it is smooth."""

from __future__ import annotations

import math

import pytest
import torch
from torch._decomp import decomposition_table
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas.interpolation import _LANCZOS_TAPS, _windows

aten = torch.ops.aten
CONTEXTS = (torch.no_grad, torch.inference_mode, torch.enable_grad)

# The mode, the sizes, and what one element costs forward and backward.
MODES = [
    ("linear", (7,), (12,), (3, 2 * 2)),
    ("bilinear", (5, 7), (8, 6), (3 + 2 * 3, 4 * 3)),
    ("trilinear", (3, 5, 4), (4, 8, 7), (3 + 2 * 3 + 4 * 3, 8 * 4)),
    ("bicubic", (5, 7), (8, 6), (7 + 4 * 7, 16 * 3)),
]


@pytest.mark.parametrize(("mode", "size", "out", "costs"), MODES)
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("align", [False, True])
def test_each_element_is_a_weighted_sum_along_each_dimension(
    mode, size, out, costs, context, align
):
    x = torch.randn(2, 3, *size)
    with context():
        m = measure(functional.interpolate, x, out, mode=mode, align_corners=align)
    assert m.flops == costs[0] * 6 * math.prod(out)
    assert m.macs == 0
    assert m.uncounted == ()


@pytest.mark.parametrize(("mode", "size", "out", "costs"), MODES)
def test_backward_multiplies_by_the_weights_of_each_neighbour(mode, size, out, costs):
    x = torch.randn(2, 3, *size, requires_grad=True)
    m = measure(functional.interpolate, x, out, mode=mode, train=True)
    elements, (forward, backward) = 6 * math.prod(out), costs
    assert m.flops == forward * elements + (elements - 1) + backward * elements
    assert m.uncounted == ()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_scale_counts_as_the_size_that_it_gives(recompute):
    x = torch.randn(2, 3, 5, 7)
    m = measure(
        functional.interpolate,
        x,
        scale_factor=(1.6, 0.9),
        mode="bilinear",
        recompute_scale_factor=recompute,
    )
    assert m.output.shape == (2, 3, 8, 6)
    assert m.flops == 9 * 6 * 8 * 6
    assert m.uncounted == ()


OPERATORS = [
    (aten.upsample_linear1d, (7,), [12]),
    (aten.upsample_bilinear2d, (5, 7), [8, 6]),
    (aten.upsample_trilinear3d, (3, 5, 4), [4, 8, 7]),
]


@pytest.mark.parametrize(("op", "size", "out"), OPERATORS)
def test_decompositions_count_the_same_for_each_image(op, size, out):
    # They calculate the weights of every row and column too, once for all images.
    def flops(function, images):
        with FlopCounter() as counter:
            function(torch.randn(images, 1, *size), out, False)
        assert counter.uncounted == ()
        return counter.flops

    decomposed = decomposition_table[op.default]
    once = flops(decomposed, 2) - flops(decomposed, 1)
    assert once == flops(op, 1) > 0


def test_decomposition_of_bicubic_counts_the_same_for_each_image():
    decomposed = decomposition_table[aten.upsample_bicubic2d.default]

    def flops(images):
        with FlopCounter() as counter:
            decomposed(torch.randn(images, 1, 5, 7), [8, 6], False)
        return counter.flops

    assert flops(2) - flops(1) == 35 * 8 * 6


@pytest.mark.parametrize("name", ["nearest", "nearest-exact"])
@pytest.mark.parametrize(("size", "out"), [((7,), (12,)), ((5, 7), (8, 6)), ((3, 5, 4), (4, 8, 7))])
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_nearest_neighbour_is_a_copy(name, size, out, context):
    x = torch.randn(2, 3, *size)
    with context():
        m = measure(functional.interpolate, x, out, mode=name)
    assert (m.flops, m.int_ops, m.uncounted) == (0, 0, ())
    trained = measure(functional.interpolate, x.requires_grad_(), out, mode=name, train=True)
    elements = 6 * math.prod(out)
    assert trained.flops == (elements - 1) + elements  # the loss, and each gradient is added once
    assert trained.uncounted == ()


# Windows of bilinear: half a pixel around the support of 1, or 2, ... times the scale.
# 8 to 4: 0-2, 1-4, 3-6, 5-7. 9 to 3: 0-4, 2-7, 5-8. 4 to 6: 0, 0-1, 1-2, 1-2, 2-3, 3.
SHRINK_8_TO_4, SHRINK_9_TO_3, GROW_4_TO_6 = 3 + 4 + 4 + 3, 5 + 6 + 4, 1 + 2 + 2 + 2 + 2 + 1


@pytest.mark.parametrize(
    ("size", "out", "rows", "columns"),
    [
        ((8, 9), (4, 3), SHRINK_8_TO_4, SHRINK_9_TO_3),
        ((4, 8), (6, 4), GROW_4_TO_6, SHRINK_8_TO_4),
    ],
)
@pytest.mark.parametrize("context", CONTEXTS)
def test_antialiasing_sums_windows_along_the_width_and_then_along_the_height(
    size, out, rows, columns, context
):
    x = torch.randn(2, 3, *size)
    along_width = size[0] * (2 * columns - out[1])
    along_height = out[1] * (2 * rows - out[0])
    with context():
        m = measure(functional.interpolate, x, out, mode="bilinear", antialias=True)
    assert m.flops == 6 * (along_width + along_height)
    assert m.uncounted == ()
    trained = measure(
        functional.interpolate, x.requires_grad_(), out, mode="bilinear", antialias=True, train=True
    )
    loss = 6 * math.prod(out) - 1
    assert trained.flops == m.flops + loss + 6 * 3 * rows * columns
    assert trained.uncounted == ()


def test_wider_filters_have_wider_windows():
    # 6 to 3, bicubic: support 4 about 1, 3 and 5: 0-4, 0-5, 1-5. Lanczos, 6: all of them.
    x = torch.randn(1, 1, 6, 6)
    with FlopCounter() as cubic:
        aten._upsample_bicubic2d_aa(x, [3, 3], False)
    assert cubic.flops == 6 * (2 * 16 - 3) + 3 * (2 * 16 - 3)
    with FlopCounter() as lanczos:
        aten._upsample_lanczos2d_aa(x, [3, 3], False)
    assert lanczos.flops == 6 * (2 * 18 - 3) + 3 * (2 * 18 - 3)
    with FlopCounter() as backward:
        aten._upsample_bicubic2d_aa_backward(torch.randn(1, 1, 3, 3), [3, 3], [1, 1, 6, 6], False)
        aten._upsample_lanczos2d_aa_backward(torch.randn(1, 1, 3, 3), [3, 3], [1, 1, 6, 6], False)
    assert backward.flops == 3 * 16 * 16 + 3 * 18 * 18
    assert cubic.uncounted == lanczos.uncounted == backward.uncounted == ()


@pytest.mark.parametrize(("size", "count"), [(9, 4), (12, 5), (4, 11)])
@pytest.mark.parametrize("align", [False, True])
def test_windows_hold_every_element_that_has_a_weight(size, count, align):
    # The operator itself tells its weights: of one image for each element of a column.
    x = torch.eye(size, dtype=torch.double).view(size, 1, size, 1).repeat(1, 1, 1, 3)
    out = aten._upsample_lanczos2d_aa(x, [count, 3], align)[:, 0, :, 0]
    rows, _ = _windows(_LANCZOS_TAPS, [size, 3], [count, 3], align, [])
    # A window's outermost element may have a weight of zero.
    assert int((out != 0).sum()) <= rows <= int((out != 0).sum()) + count * 2


def test_windows_follow_the_scale_that_is_given():
    x = torch.randn(1, 1, 9, 9)
    given = measure(
        lambda: functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    )
    # 9 to 4 with a step of 2, not of 9/4: 0-2, 1-4, 3-6 and 5-8.
    taps = 3 + 4 + 4 + 4
    assert given.flops == 9 * (2 * taps - 4) + 4 * (2 * taps - 4)
    assert given.uncounted == ()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_tensors_without_data_count_the_same(mode):
    def run(x):
        smooth = functional.interpolate(x, (4, 3), mode=mode, antialias=True)
        functional.interpolate(smooth, (5, 6), mode=mode).sum().backward()

    real = measure(run, torch.randn(2, 3, 8, 9, requires_grad=True))
    meta = measure(run, torch.empty(2, 3, 8, 9, device="meta", requires_grad=True))
    with FakeTensorMode():
        fake = measure(run, torch.empty(2, 3, 8, 9, requires_grad=True))
    assert real.flops == meta.flops == fake.flops > 0
    assert real.uncounted == meta.uncounted == fake.uncounted == ()


def test_results_given_as_out_count_the_same():
    x, out = torch.randn(2, 3, 8, 9), torch.empty(2, 3, 4, 3)
    for op, flops in (
        (aten.upsample_bilinear2d, 9 * 6 * 12),
        (aten.upsample_bicubic2d, 35 * 6 * 12),
        (aten.upsample_nearest2d, 0),
        (aten._upsample_nearest_exact2d, 0),
    ):
        arguments = (x, [4, 3]) if "nearest" in op._qualified_op_name else (x, [4, 3], False)
        with FlopCounter() as counter:
            op.out(*arguments, out=out)
        assert (counter.flops, counter.uncounted) == (flops, ())
    with FlopCounter() as counter:
        aten.upsample_bilinear2d_backward.grad_input(
            out, [4, 3], [2, 3, 8, 9], False, grad_input=torch.empty_like(x)
        )
    assert (counter.flops, counter.uncounted) == (12 * 6 * 12, ())
