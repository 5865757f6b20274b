"""Sampling of images at points of a grid, the grids of affine maps, and their backward.

Where the points lie is data here, so their coordinates and weights are counted, once for
each point: unlike those of `interpolation`, which sizes alone decide. Tests of an index
against the border are index computations, and are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Work, formula

_BILINEAR, _NEAREST, _BICUBIC = 0, 1, 2
"""Numbers of the ways to interpolate, as torch's operators take them."""
_ZEROS = 0
"""Number of the padding that leaves coordinates alone."""

_INTO_BORDERS: Final = {_ZEROS: 0, 1: 2, 2: 9}
"""FLOPs that bring one coordinate inside, by the number of the padding.

border: two comparisons. reflection: from a distance (2) its remainder (1), its quotient (1)
and the latter's rounding (1), both ways of measuring from a side (1 + 1), and the border.
"""
_CUBIC_WEIGHTS: Final = 25
"""FLOPs of four cubic weights: two of 5, two of 6, and the three other distances."""
_CUBIC_SLOPES: Final = 18
"""FLOPs of their derivatives: two of 3, two of 4, and four signed distances."""


def _points(grid: Tensor) -> tuple[int, int]:
    """How many points the grid has, and of how many coordinates."""
    dims = grid.shape[-1]
    return math.prod(grid.shape[:-1]), dims


def _cost_of_place(mode: int, padding: int, dims: int) -> int:
    """FLOPs for one point: its coordinates in the image and the weights of its neighbours."""
    to_pixels = 2 * dims
    rounding = dims
    borders = _INTO_BORDERS[padding]
    if mode == _NEAREST:
        return to_pixels + dims * borders + rounding
    if mode == _BICUBIC:
        # The distance to the pixel below, then weights; 4 rows and 4 columns are brought inside.
        return to_pixels + rounding + dims * (1 + _CUBIC_WEIGHTS) + dims * 4 * borders
    # Distances to both sides, then the product of one for each dimension, for each corner.
    weights: int = 2 * dims + 2**dims * (dims - 1)
    return to_pixels + dims * borders + rounding + weights


def _sample(x: Tensor, grid: Tensor, mode: int, padding: int, out: Tensor) -> int:
    points, dims = _points(grid)
    corners = {_BILINEAR: 2**dims, _NEAREST: 1, _BICUBIC: 4}[mode]
    sums = 5 if mode == _BICUBIC else 1  # four rows, and a column of them
    return points * _cost_of_place(mode, padding, dims) + out.numel() * sums * (
        2 * corners - 1 if corners > 1 else 0
    )


@formula("grid_sampler_2d", "grid_sampler_3d", "_grid_sampler_2d_cpu_fallback")
def grid_sampler(
    x: Tensor, grid: Tensor, mode: int, padding: int, _align_corners: bool, *, out: Tensor
) -> int:
    """FLOPs of reading an image at the points of a grid.

    x: [n, channels, *size], grid: [n, *out_size, d], d = 2 or 3
    -> out: [n, channels, *out_size]
    Counts, for each point, a multiply and an add for each coordinate, d roundings, and the
    weights: none for the nearest pixel, 2d + (d - 1)*2^d for (tri)linear, 26d for bicubic.
    Border padding adds 2 for each coordinate, reflection 9; for bicubic, which brings its
    four rows and columns inside, four times that. For each element of out, the sum of its
    weighted neighbours: 0 for nearest, 2*2^d - 1 for (tri)linear, 35 for bicubic.
    Source: the definition in the documentation of torch.nn.functional.grid_sample, as in
    torch's kernel for the CPU; its decomposition compares indices with the borders too.
    """
    return _sample(x, grid, mode, padding, out)


@formula("cudnn_grid_sampler")
def cudnn_grid_sampler(x: Tensor, grid: Tensor, *, out: Tensor) -> int:
    """FLOPs of reading an image at the points of a grid with cuDNN: linear, zeros outside.

    Shapes, count and source as for `grid_sampler`.
    """
    return _sample(x, grid, _BILINEAR, _ZEROS, out)


def _sample_backward(
    grad: Tensor, grid: Tensor, mode: int, padding: int, mask: Sequence[bool]
) -> int:
    points, dims = _points(grid)
    needs_x, needs_grid = mask
    if not (needs_x or needs_grid):
        return 0
    place = _cost_of_place(mode, padding, dims)
    if mode == _NEAREST:
        # The nearest pixel stays the same: no gradient reaches the grid.
        return (points * place + grad.numel()) * needs_x
    if mode == _BICUBIC:
        slopes, for_x, for_grid = dims * _CUBIC_SLOPES, 16 * 3, 16 * 4 * dims
    else:
        # Along one dimension the corners are pairs: their differences, weighted by the others.
        pairs = 2 ** (dims - 1)
        slopes = dims * pairs * (dims - 2)
        for_x, for_grid = 2**dims * 2, dims * (3 * pairs + 1)
    per_point = place + needs_grid * (slopes + dims)
    return points * per_point + grad.numel() * (needs_x * for_x + needs_grid * for_grid)


@formula(
    "grid_sampler_2d_backward", "grid_sampler_3d_backward", "_grid_sampler_2d_cpu_fallback_backward"
)
def grid_sampler_backward(
    grad: Tensor,
    x: Tensor,
    grid: Tensor,
    mode: int,
    padding: int,
    _align_corners: bool,
    output_mask: Sequence[bool] = (True, True),
    *,
    out: Any,
) -> int:
    """FLOPs of the backward of reading an image at the points of a grid.

    grad: [n, channels, *out_size], x and grid as in the forward -> gradients of x and of
    grid, each only if its bit in output_mask is set
    Counts, for each point, its coordinates and weights again. For each element of grad, for
    the gradient of x a weighting and an add for each neighbour: 1 for nearest, 2*2^d for
    (tri)linear, 48 for bicubic. For the gradient of grid: nothing for nearest; for
    (tri)linear, along each dimension, 2^(d - 1) differences, their weighted sum, a
    multiply by grad and an add: 14 for d = 2, 39 for d = 3; for bicubic three multiplies
    and an add for each neighbour and dimension: 128. Each point has d multiplies more for
    the scale of its coordinates, and the weights of those differences: 12 for d = 3, 36
    for bicubic.
    Source: the derivative, as in torch's kernels for the CPU.
    """
    return _sample_backward(grad, grid, mode, padding, output_mask)


@formula("cudnn_grid_sampler_backward")
def cudnn_grid_sampler_backward(x: Tensor, grid: Tensor, grad: Tensor, *, out: Any) -> int:
    """FLOPs of the backward of reading an image with cuDNN: linear, zeros outside.

    Shapes, count and source as for `grid_sampler_backward`.
    """
    return _sample_backward(grad, grid, _BILINEAR, _ZEROS, (True, True))


@formula("affine_grid_generator", "cudnn_affine_grid_generator")
def affine_grid(theta: Tensor, *_args: Any, out: Tensor) -> Work:
    """FLOPs of the grid of points that an affine map sends an image's points to.

    theta: [n, d, d + 1] -> out: [n, *size, d], d = 2 or 3
    Counts d + 1 multiply-accumulates for each element of out: a product of the points with
    theta. The points themselves depend on sizes alone, and are free.
    Source: the definition in the documentation of torch.nn.functional.affine_grid; torch
    calculates it as a batched matrix product, and so is its backward counted.
    """
    return Work(macs=out.numel() * theta.shape[-1])


@formula("cudnn_affine_grid_generator_backward")
def affine_grid_backward(grad: Tensor, *_args: Any, out: Tensor) -> Work:
    """FLOPs of the gradient of an affine map from that of its grid.

    grad: [n, h, w, 2] -> out: [n, 2, 3]
    Counts three multiply-accumulates for each element of grad: the points' product with grad.
    Source: the derivative of a product.
    """
    return Work(macs=grad.numel() * out.shape[-1])
