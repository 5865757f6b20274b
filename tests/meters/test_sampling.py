"""Reading an image at points counts each point's coordinates once, and each channel's sums."""

from __future__ import annotations

import pytest
import torch
from torch._decomp.decompositions import _grid_sampler_2d
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas.registry import Work, formula_for

aten = torch.ops.aten
CONTEXTS = (torch.no_grad, torch.inference_mode, torch.enable_grad)

IMAGE, GRID = (2, 3, 7, 8), (2, 4, 5, 2)
POINTS = 2 * 4 * 5
VOLUME, GRID_3D = (2, 3, 5, 6, 7), (2, 3, 4, 5, 3)
POINTS_3D = 2 * 3 * 4 * 5
CHANNELS = 3

# Two or three coordinates are scaled and shifted, 2 each, and rounded, 1 each. Linear: the
# distance to both sides, 2 each, and 4 products of two or 8 of three.
LINEAR, LINEAR_3D = 4 + 2 + 4 + 4, 6 + 3 + 6 + 8 * 2
NEAREST, NEAREST_3D = 4 + 2, 6 + 3
# A distance each, and four weights: 5 + 5 + 6 + 6 and the three other distances.
BICUBIC = 4 + 2 + 2 * (1 + 25)
BORDERS = {"zeros": 0, "border": 2, "reflection": 9}


def _sample(mode, padding, *tensors, align=False):
    return functional.grid_sample(*tensors, mode=mode, padding_mode=padding, align_corners=align)


@pytest.mark.parametrize(
    ("mode", "point", "element", "brought_inside"),
    [("bilinear", LINEAR, 7, 2), ("nearest", NEAREST, 0, 2), ("bicubic", BICUBIC, 7 + 4 * 7, 8)],
)
@pytest.mark.parametrize("padding", BORDERS)
@pytest.mark.parametrize("context", CONTEXTS)
def test_an_image_costs_its_points_and_its_sums(
    mode, point, element, brought_inside, padding, context
):
    for align in (False, True):
        with context():
            m = measure(_sample, mode, padding, torch.randn(IMAGE), torch.rand(GRID), align=align)
        at_point = point + brought_inside * BORDERS[padding]
        assert m.flops == POINTS * (at_point + CHANNELS * element)
        assert (m.macs, m.uncounted) == (0, ())


@pytest.mark.parametrize(
    ("mode", "point", "element"), [("bilinear", LINEAR_3D, 15), ("nearest", NEAREST_3D, 0)]
)
@pytest.mark.parametrize("padding", BORDERS)
def test_a_volume_costs_its_points_and_its_sums(mode, point, element, padding):
    with torch.no_grad():
        m = measure(_sample, mode, padding, torch.randn(VOLUME), torch.rand(GRID_3D))
    assert m.flops == POINTS_3D * (point + 3 * BORDERS[padding] + CHANNELS * element)
    assert m.uncounted == ()


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_decomposition_counts_the_same_for_each_channel(padding):
    # For each point it compares the corners with the borders besides, which are indices.
    def flops(channels):
        with FlopCounter() as counter:
            _grid_sampler_2d(
                torch.randn(2, channels, 7, 8), torch.rand(GRID), 0, padding, _expand_grid=False
            )
        return counter.flops

    assert flops(2) - flops(1) == 7 * POINTS


# For x, a multiply and an add for each neighbour. For the grid, for each coordinate: half as
# many differences as there are corners, weighted and added up, times grad, and added.
BACKWARD = {
    "bilinear": ("bilinear", IMAGE, GRID, (LINEAR, 0, 4 * 2, 2 * (2 + 2 + 1 + 1 + 1))),
    # Three directions have four weights of two factors each.
    "trilinear": (
        "bilinear",
        VOLUME,
        GRID_3D,
        (LINEAR_3D, 3 * 4, 8 * 2, 3 * (4 + 4 + 3 + 1 + 1)),
    ),
    # Slopes: 3 + 3 + 4 + 4 and four distances; three multiplies and an add for each neighbour.
    "bicubic": ("bicubic", IMAGE, GRID, (BICUBIC, 2 * 18, 16 * 3, 2 * 16 * 4)),
}


@pytest.mark.parametrize("case", BACKWARD)
@pytest.mark.parametrize("mask", [(True, True), (True, False), (False, True)])
def test_backward_counts_each_gradient_that_is_asked_for(case, mask):
    mode, image, grid, (point, slopes, for_x, for_grid) = BACKWARD[case]
    x = torch.randn(image, requires_grad=mask[0])
    places = torch.rand(grid, requires_grad=mask[1])
    forward = measure(_sample, mode, "zeros", torch.randn(image), torch.rand(grid))
    m = measure(_sample, mode, "zeros", x, places, train=True)
    points, dims = places.numel() // grid[-1], grid[-1]
    elements = points * CHANNELS
    # The coordinates are found again; each gradient of one is scaled once.
    at_point = point + mask[1] * (slopes + dims)
    at_element = mask[0] * for_x + mask[1] * for_grid
    assert m.flops == forward.flops + (elements - 1) + points * at_point + elements * at_element
    assert m.uncounted == ()


def test_the_nearest_pixel_gives_its_gradient_and_the_grid_none():
    x, grid = torch.randn(IMAGE, requires_grad=True), torch.rand(GRID)
    m = measure(_sample, "nearest", "border", x, grid, train=True)
    at_point = NEAREST + 2 * 2
    elements = POINTS * CHANNELS
    assert m.flops == POINTS * at_point + (elements - 1) + POINTS * at_point + elements
    with FlopCounter() as counter:
        aten.grid_sampler_2d_backward(
            torch.randn(2, 3, 4, 5), x.detach(), grid, 1, 1, False, [False, True]
        )
    assert counter.flops == 0
    assert m.uncounted == counter.uncounted == ()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensors_without_data_count_the_same(device):
    def run(x, grid):
        _sample("bilinear", "reflection", x, grid).sum().backward()

    shapes = (IMAGE, GRID)
    real = measure(run, *(torch.rand(shape, requires_grad=True) for shape in shapes))
    if device == "meta":
        tensors = [torch.empty(shape, device="meta", requires_grad=True) for shape in shapes]
        other = measure(run, *tensors)
    else:
        with FakeTensorMode():
            other = measure(run, *(torch.empty(shape, requires_grad=True) for shape in shapes))
    assert other.flops == real.flops > 0
    assert other.uncounted == real.uncounted == ()


def test_other_operators_for_sampling_count_the_same():
    x, grid, out = torch.randn(IMAGE), torch.rand(GRID), torch.empty(2, 3, 4, 5)
    with FlopCounter() as plain:
        aten.grid_sampler_2d(x, grid, 0, 0, True)
    with FlopCounter() as fallback:
        aten._grid_sampler_2d_cpu_fallback(x, grid, 0, 0, True)
    with FlopCounter() as backward:
        aten.grid_sampler_2d_backward(out, x, grid, 0, 0, True, [True, True])
    with FlopCounter() as fallback_backward:
        aten._grid_sampler_2d_cpu_fallback_backward(out, x, grid, 0, 0, True)
    assert plain.flops == fallback.flops == POINTS * (LINEAR + 7 * CHANNELS)
    assert backward.flops == fallback_backward.flops
    assert formula_for("aten::cudnn_grid_sampler")(x, grid, out=out) == plain.flops
    assert (
        formula_for("aten::cudnn_grid_sampler_backward")(x, grid, out, out=None) == backward.flops
    )


@pytest.mark.parametrize(
    ("dims", "size", "points"), [(2, (5, 3, 4, 6), 4 * 6), (3, (5, 3, 4, 6, 7), 4 * 6 * 7)]
)
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_grid_of_an_affine_map_is_a_matrix_product(dims, size, points, align, context):
    theta = torch.randn(5, dims, dims + 1)
    with context():
        m = measure(functional.affine_grid, theta, size, align_corners=align)
    assert m.macs == 5 * points * dims * (dims + 1)
    assert (m.flops, m.uncounted) == (2 * m.macs, ())
    trained = measure(
        functional.affine_grid, theta.requires_grad_(), size, align_corners=align, train=True
    )
    assert trained.macs == 2 * m.macs
    assert trained.uncounted == ()


def test_cudnns_grid_of_an_affine_map_counts_the_same():
    theta, grid = torch.empty(5, 2, 3), torch.empty(5, 4, 6, 2)
    macs = 5 * 4 * 6 * 2 * 3
    assert formula_for("aten::cudnn_affine_grid_generator")(theta, 5, 3, 4, 6, out=grid) == Work(
        macs
    )
    assert formula_for("aten::cudnn_affine_grid_generator_backward")(
        grid, 5, 3, 4, 6, out=theta
    ) == Work(macs)
