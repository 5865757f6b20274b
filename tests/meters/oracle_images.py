"""The oracle's layers for images: convolutions, normalisations, pools."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .oracle import FLOAT_BYTES, INT64_BYTES, Flow, Layer, Mode, Tally, sum_over_rows, weigh


@dataclass(frozen=True, kw_only=True)
class Conv(Layer):
    """A convolution, plain or transposed; every tuple has one number for each dimension."""

    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    bias: bool = True
    transposed: bool = False
    extra: tuple[int, ...] = ()
    """`output_padding` of a transposed one."""

    def make(self) -> nn.Module:
        dims = len(self.kernel)
        kinds: dict[bool, list[Callable[..., nn.Module]]] = {
            False: [nn.Conv1d, nn.Conv2d, nn.Conv3d],
            True: [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d],
        }
        settings: dict[str, Any] = {"groups": self.groups, "bias": self.bias}
        settings |= {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        if self.transposed:
            settings["output_padding"] = self.extra
        return kinds[self.transposed][dims - 1](self.inputs, self.outputs, self.kernel, **settings)

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        settings = zip(
            shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=False
        )
        if self.transposed:
            sizes = [
                (size - 1) * s - 2 * p + d * (k - 1) + 1 + more
                for (size, k, s, p, d), more in zip(settings, self.extra, strict=True)
            ]
        else:
            sizes = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in settings]
        return (shape[0], self.outputs, *sizes)

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        # Each element of the result gathers a kernel of each channel of its group; with a
        # transposed convolution, each element of the input is scattered so.
        if self.transposed:
            macs = given.size * (self.outputs // self.groups) * math.prod(self.kernel)
        else:
            macs = result.size * (self.inputs // self.groups) * math.prod(self.kernel)
        tally.product(path, macs, given.needs, mode.records and not self.frozen)
        tally.arithmetic[path] += result.size * self.bias
        trains_bias = self.bias and self.frozen != "all"
        tally.differentiate(sum_over_rows(self.outputs, result.size) if trains_bias else 0)

    @property
    def weight(self) -> int:
        return self.inputs * self.outputs // self.groups * math.prod(self.kernel)

    @property
    def params(self) -> int:
        return self.weight + self.outputs * self.bias

    @property
    def trainable(self) -> int:
        return weigh(self.weight, self.outputs * self.bias, self.frozen)


@dataclass(frozen=True, kw_only=True)
class Norm(Layer):
    """Layer, group or batch normalisation; `channels` are normalised or scaled."""

    kind: str
    channels: int
    groups: int = 1
    dims: int = 2
    affine: bool = True
    extras = None

    def make(self) -> nn.Module:
        if self.kind == "layer":
            return nn.LayerNorm(self.channels, elementwise_affine=self.affine)
        if self.kind == "group":
            return nn.GroupNorm(self.groups, self.channels, affine=self.affine)
        batch = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[self.dims]
        return batch(self.channels, affine=self.affine)

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        each = 4 if self.affine else 2  # subtract, multiply, scale, shift
        if self.kind == "batch":
            statistics = self.channels
        elif self.kind == "layer":
            statistics = given.rows
        else:
            statistics = given.shape[0] * self.groups
        if self.kind != "batch" or mode.training:
            # mean: n - 1 adds and a division; variance: n subtractions, n squares, n - 1 adds
            # and a division
            each += 4
        flops = each * given.size + 2 * statistics  # add epsilon, take the inverse root
        if self.kind == "batch" and mode.training:
            # (1 - m) * running + m * new, for both; n / (n - 1) for the variance
            flops += 7 * self.channels
        tally.arithmetic[path] += flops
        tally.differentiate(None if result.needs else 0)

    @property
    def params(self) -> int:
        return 2 * self.channels * self.affine

    @property
    def trainable(self) -> int:
        weight = self.channels * self.affine
        return weigh(weight, weight, self.frozen)

    @property
    def buffer_bytes(self) -> int:
        if self.kind != "batch":
            return 0
        return 2 * self.channels * FLOAT_BYTES + INT64_BYTES  # and the count of batches


def window_sizes(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[int]:
    """Elements of the input in each window along one dimension, without the padding."""
    count = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    starts = [i * stride - padding for i in range(count)]
    return [sum(0 <= start + dilation * k < size for k in range(kernel)) for start in starts]


def adaptive_window_sizes(size: int, outputs: int) -> list[int]:
    """The same for adaptive pooling: from floor(i * size / outputs) to ceil((i + 1) * ...)."""
    return [-(-(i + 1) * size // outputs) - i * size // outputs for i in range(outputs)]


@dataclass(frozen=True, kw_only=True)
class Pool(Layer):
    """Maxima or means over windows; `adaptive` has the sizes of the result instead."""

    kind: str
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    adaptive: tuple[int, ...] = ()
    extras = None

    def make(self) -> nn.Module:
        dims = max(len(self.kernel), len(self.adaptive)) - 1
        if self.kind == "adaptive":
            kinds = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
            # One number for a result of one dimension; the others take tuples.
            return kinds[dims](self.adaptive if dims else self.adaptive[0])
        if self.kind == "mean":
            means = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
            return means[dims](self.kernel, self.stride, self.padding)
        maxima = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
        if dims == 0:
            one = (self.kernel[0], self.stride[0], self.padding[0], self.dilation[0])
            return nn.MaxPool1d(*one)
        return maxima[dims](self.kernel, self.stride, self.padding, self.dilation)

    def windows(self, shape: tuple[int, ...]) -> list[list[int]]:
        if self.kind == "adaptive":
            return [
                adaptive_window_sizes(*pair) for pair in zip(shape[2:], self.adaptive, strict=False)
            ]
        dilation = self.dilation or (1,) * len(self.kernel)
        settings = zip(shape[2:], self.kernel, self.stride, self.padding, dilation, strict=True)
        return [window_sizes(*one) for one in settings]

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:2], *map(len, self.windows(shape)))

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        taps = math.prod(given.shape[:2]) * math.prod(map(sum, self.windows(given.shape)))
        # A maximum of n takes n - 1 comparisons; a mean n - 1 additions and a division.
        tally.arithmetic[path] += taps - result.size if self.kind == "max" else taps
        tally.differentiate(None if result.needs else 0)
