"""Interpolation of images to another size, and its backward.

Where an element of the result lies in the input, and the weights of its neighbours,
depend on sizes alone: they are index computations of each row and column, as pooling
has them too, and are not counted. The nearest neighbour is a copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula

_LINEAR_TAPS: Final = 2
_CUBIC_TAPS: Final = 4
_LANCZOS_TAPS: Final = 6


def _separable(taps: int, dims: int) -> int:
    """FLOPs of one interpolation: along the last dimension, then along the one before, ...

    A weighted sum of `taps` values takes 2*taps - 1, and every value of it is one too but
    in the last dimension.
    """
    neighbours: int = taps**dims
    # 1 + taps + taps^2 + ... sums of `taps` values
    return (2 * taps - 1) * (neighbours - 1) // (taps - 1)


@formula("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
def upsample_linear(x: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of a linear interpolation of one to three dimensions.

    x: [n, channels, *size] -> out: [n, channels, *out_size]
    Counts, for each element of out, three for each pair that is joined: 3, 9 or 21.
    Source: `a + (b - a) * weight`, or `a * (1 - weight) + b * weight`, dimension by
    dimension, as in torch's decomposition and in its kernel.
    """
    return out.numel() * _separable(_LINEAR_TAPS, x.dim() - 2)


@formula("upsample_bicubic2d")
def upsample_bicubic(x: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of a bicubic interpolation.

    x: [n, channels, h, w] -> out: [n, channels, oh, ow]
    Counts, for each element of out, five weighted sums of four, 7 each: 35.
    Source: the definition, along rows and then along the column, as in torch's
    decomposition and in its kernel.
    """
    return out.numel() * _separable(_CUBIC_TAPS, 2)


@formula(
    "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_trilinear3d_backward"
)
def upsample_linear_backward(grad: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a linear interpolation of one to three dimensions.

    grad: [n, channels, *out_size] -> out: [n, channels, *size]
    Counts, for each element of grad and each of its 2, 4 or 8 neighbours, a multiply for
    the weight of each dimension and one add: 4, 12 or 32.
    Source: the derivative, as in torch's kernel.
    """
    dims = grad.dim() - 2
    neighbours: int = _LINEAR_TAPS**dims
    return grad.numel() * neighbours * (dims + 1)


@formula("upsample_bicubic2d_backward")
def upsample_bicubic_backward(grad: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a bicubic interpolation.

    grad: [n, channels, oh, ow] -> out: [n, channels, h, w]
    Counts, for each element of grad and each of its 16 neighbours, two multiplies by
    weights and one add: 48.
    Source: the derivative, as in torch's kernel.
    """
    return grad.numel() * _CUBIC_TAPS**2 * 3


@formula(
    "upsample_nearest1d_backward",
    "upsample_nearest2d_backward",
    "upsample_nearest3d_backward",
    "_upsample_nearest_exact1d_backward",
    "_upsample_nearest_exact2d_backward",
    "_upsample_nearest_exact3d_backward",
)
def upsample_nearest_backward(grad: Tensor, *_args: Any, out: Tensor) -> int:
    """FLOPs of the backward of a nearest-neighbour interpolation.

    grad: [n, channels, *out_size] -> out: [n, channels, *size]
    Counts one add for each element of grad, into the place that it came from.
    Source: the derivative of a copy.
    """
    return grad.numel()


@lru_cache(maxsize=1024)
def _window_sizes(size: int, count: int, scale: Fraction, taps: int) -> int:
    """Elements of one dimension of the input in the windows of all `count` results.

    Window i has its centre at scale * (i + 1/2), and reaches taps/2 to each side, or
    that many times the scale where the image shrinks. It is clipped at the borders.
    """
    support = Fraction(taps, 2) * max(scale, Fraction(1))
    half = Fraction(1, 2)
    most = 2 * math.ceil(support) + 1
    total = 0
    for i in range(count):
        centre = scale * (i + half)
        first = max(math.floor(centre - support + half), 0)
        behind = min(math.floor(centre + support + half), size)
        total += min(max(behind - first, 0), most)
    return total


def _step(size: int, count: int, align_corners: bool, scale: float | None) -> Fraction:
    """How far one step in the result is in the input, as torch has it."""
    if align_corners:
        return Fraction(size - 1, count - 1) if count > 1 else Fraction(0)
    return 1 / Fraction(scale) if scale is not None and scale > 0 else Fraction(size, count)


def _windows(
    taps: int, shape: Sequence[int], out: Sequence[int], align_corners: bool, given: Sequence[Any]
) -> list[int]:
    """Elements of height, and of width, in the windows of all rows, and of all columns.

    given: the scales of height and width, in a list of their own or not, or nothing.
    """
    if len(given) == 1 and not isinstance(given[0], float):
        given = given[0] or ()
    scales = (*given, None, None)[:2]
    return [
        _window_sizes(size, count, _step(size, count, align_corners, scale), taps)
        for size, count, scale in zip(shape[-2:], out[-2:], scales, strict=True)
    ]


def _smooth(taps: int, x: Tensor, args: Sequence[Any], out: Tensor) -> int:
    _size, align_corners, *given = args
    images = math.prod(x.shape[:-2])
    rows, columns = _windows(taps, x.shape, out.shape, align_corners, given)
    height, (out_height, out_width) = x.shape[-2], out.shape[-2:]
    along_width = height * (2 * columns - out_width)
    along_height = out_width * (2 * rows - out_height)
    return images * (along_width + along_height)


def _smooth_backward(taps: int, grad: Tensor, args: Sequence[Any], out: Tensor) -> int:
    _size, _input_size, align_corners, *given = args
    rows, columns = _windows(taps, out.shape, grad.shape, align_corners, given)
    return 3 * math.prod(grad.shape[:-2]) * rows * columns


@formula("_upsample_bilinear2d_aa")
def smooth_bilinear(x: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of an interpolation with antialiasing.

    x: [n, channels, h, w] -> out: [n, channels, oh, ow]
    Counts a weighted sum along the width for each element of [n, channels, h, ow], and
    then one along the height for each of out; a window of k elements takes k multiplies
    and k - 1 adds. Windows grow as the image shrinks, and end at the borders.
    Source: the windows of PIL, as torch's kernel for the CPU has them, with the support of the
    filter (1 for bilinear, 2 for bicubic, 3 for lanczos) on each side.
    """
    return _smooth(_LINEAR_TAPS, x, args, out)


@formula("_upsample_bicubic2d_aa")
def smooth_bicubic(x: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of a bicubic interpolation with antialiasing; see `smooth_bilinear`."""
    return _smooth(_CUBIC_TAPS, x, args, out)


@formula("_upsample_lanczos2d_aa")
def smooth_lanczos(x: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of Lanczos' interpolation with antialiasing; see `smooth_bilinear`."""
    return _smooth(_LANCZOS_TAPS, x, args, out)


@formula("_upsample_bilinear2d_aa_backward")
def smooth_bilinear_backward(grad: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of the backward of an interpolation with antialiasing.

    grad: [n, channels, oh, ow] -> out: [n, channels, h, w]
    Counts two multiplies by weights and one add for each element of grad and each element
    of out in its window, which is a box: not one dimension after the other.
    Source: the derivative, as in torch's kernel for the CPU.
    """
    return _smooth_backward(_LINEAR_TAPS, grad, args, out)


@formula("_upsample_bicubic2d_aa_backward")
def smooth_bicubic_backward(grad: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of the backward of the bicubic one; see `smooth_bilinear_backward`."""
    return _smooth_backward(_CUBIC_TAPS, grad, args, out)


@formula("_upsample_lanczos2d_aa_backward")
def smooth_lanczos_backward(grad: Tensor, *args: Any, out: Tensor) -> int:
    """FLOPs of the backward of Lanczos' one; see `smooth_bilinear_backward`."""
    return _smooth_backward(_LANCZOS_TAPS, grad, args, out)
