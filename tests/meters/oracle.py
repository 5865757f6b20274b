"""What small networks cost, worked out from the sizes of their layers alone.

Each layer says how it is built, what it returns and what it costs by its definition in
torch's documentation and the conventions in docs/counting.md. Nothing here runs a tensor
operation to find a count, and nothing is shared with the counter, which sees operators
and no layers. The layers with a state or a softmax are in `oracle_sequence.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import nn

FLOAT_BYTES, INT64_BYTES = 4, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How a network is run, as far as it decides which road torch takes."""

    training: bool = False
    records: bool = True
    """Whether autograd is on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A tensor on its way through a network."""

    shape: tuple[int, ...]
    needs: bool = False
    """Whether a gradient is asked for."""
    buffer: tuple[int, int] = (0, 0)
    """The storage, as a number of its own and bytes; the input of the network is no activation."""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def rows(self) -> int:
        return self.size // self.shape[-1]


@dataclass(slots=True)
class Tally:
    """What a walk through a network adds up, by module path."""

    forward: Counter[str] = field(default_factory=Counter)
    """MACs of the forward pass."""
    backward: Counter[str] = field(default_factory=Counter)
    """MACs of the backward pass."""
    arithmetic: Counter[str] = field(default_factory=Counter)
    """FLOPs of the forward pass beside its MACs."""
    derivative: int | None = 0
    """FLOPs of the backward pass beside its MACs, where all layers know theirs."""
    peak: int | None = 0
    """The most bytes of results alive, where all layers know what they allocate."""
    storages: int = 0

    def product(self, path: str, macs: int, *gradients: bool) -> None:
        """A contraction, and one as large again for each gradient that is asked for."""
        self.forward[path] += macs
        self.backward[path] += macs * sum(gradients)

    def differentiate(self, flops: int | None) -> None:
        """Arithmetic of a backward pass; None when the layer's is not worked out here."""
        known = self.derivative is not None and flops is not None
        self.derivative = self.derivative + flops if known else None

    def allocate(self, held: frozenset[tuple[int, int]], *sizes: int) -> tuple[int, int]:
        """New storages beside those that are held; the first of them is the result's."""
        made = []
        for size in sizes:
            self.storages += 1
            made.append((self.storages, size))
        if self.peak is not None:
            self.peak = max(self.peak, sum(size for _, size in {*held, *made}))
        return made[0]

    @property
    def macs(self) -> int:
        return self.forward.total()

    @property
    def flops(self) -> int:
        """FLOPs of the forward pass."""
        return 2 * self.macs + self.arithmetic.total()


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a network, with no tensors."""

    frozen: str = ""
    """"weight" or "all": which parameters ask for no gradient."""
    extras: ClassVar[int | None] = 0
    """Bytes allocated beside the result; None when they are not worked out here."""

    def build(self) -> nn.Module:
        module = self.make()
        for name, parameter in module.named_parameters():
            if self.frozen == "all" or (self.frozen == "weight" and "weight" in name):
                parameter.requires_grad_(False)
        return module

    def make(self) -> nn.Module:
        raise NotImplementedError

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the result."""
        return shape

    def walk(
        self,
        flow: Flow,
        path: str,
        mode: Mode,
        tally: Tally,
        held: frozenset[tuple[int, int]] = frozenset(),
    ) -> Flow:
        """The result, and what it cost added to the tally."""
        shape = self.returns(flow.shape)
        needs = mode.records and (flow.needs or self.trains_anything)
        result = Flow(shape=shape, needs=needs)
        self.cost(replace(flow, needs=mode.records and flow.needs), result, path, mode, tally)
        extras = self.allocates_beside(flow, result)
        if extras is None:
            tally.peak = None
        sizes = (FLOAT_BYTES * result.size, extras or 0)
        return replace(result, buffer=tally.allocate(held | {flow.buffer}, *sizes))

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        """Adds what the layer costs. A gradient is asked for only where a result needs one."""
        raise NotImplementedError

    def allocates_beside(self, given: Flow, result: Flow) -> int | None:
        return self.extras

    @property
    def params(self) -> int:
        return 0

    @property
    def buffer_bytes(self) -> int:
        return 0

    @property
    def trainable(self) -> int:
        """Elements of the parameters that ask for a gradient."""
        return 0

    @property
    def trains_anything(self) -> bool:
        return self.trainable > 0

    def contains(self, kind: type[Layer]) -> bool:
        return isinstance(self, kind)


def weigh(weight: int, bias: int, frozen: str) -> int:
    """Trainable elements of a weight and a bias."""
    return {"": weight + bias, "weight": bias, "all": 0}[frozen]


def sum_over_rows(features: int, size: int) -> int:
    """Adds of a bias's gradient: each of its elements is a sum over all rows."""
    return size - features


@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    inputs: int
    outputs: int
    bias: bool = True

    def make(self) -> nn.Module:
        return nn.Linear(self.inputs, self.outputs, self.bias)

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], self.outputs)

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        macs = given.rows * self.inputs * self.outputs
        tally.product(path, macs, given.needs, mode.records and not self.frozen)
        tally.arithmetic[path] += result.size * self.bias
        trains_bias = self.bias and self.frozen != "all"
        tally.differentiate(sum_over_rows(self.outputs, result.size) if trains_bias else 0)

    @property
    def params(self) -> int:
        return self.inputs * self.outputs + self.outputs * self.bias

    @property
    def trainable(self) -> int:
        return weigh(self.inputs * self.outputs, self.outputs * self.bias, self.frozen)


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
        settings = zip(shape[2:], self.kernel, self.stride, self.padding, self.dilation)
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
class Pointwise(Layer):
    """An activation: what it takes for each element, by its definition."""

    kind: str
    COSTS: ClassVar[dict[str, tuple[Callable[[], nn.Module], int]]] = {
        "relu": (nn.ReLU, 1),  # a comparison
        "sigmoid": (nn.Sigmoid, 1),
        "tanh": (nn.Tanh, 1),
        "silu": (nn.SiLU, 2),  # x * sigmoid(x)
        "gelu": (nn.GELU, 5),  # x / 2 * (1 + erf(x / sqrt(2)))
        # x / 2 * (1 + tanh(c * (x + a * x * x * x))): 3 for the cube, add, c, tanh, 1 +, 2
        "gelu_tanh": (lambda: nn.GELU("tanh"), 9),
    }

    def make(self) -> nn.Module:
        return self.COSTS[self.kind][0]()

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        tally.arithmetic[path] += self.COSTS[self.kind][1] * result.size
        # The gradient of a ReLU is that of its result where the comparison held.
        tally.differentiate(0 if not given.needs else given.size if self.kind == "relu" else None)


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
            return [adaptive_window_sizes(*pair) for pair in zip(shape[2:], self.adaptive)]
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


@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    def make(self) -> nn.Module:
        return nn.Flatten()

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], math.prod(shape[1:]))

    def walk(self, flow: Flow, path: str, mode: Mode, tally: Tally, held: Any = None) -> Flow:
        return replace(flow, shape=self.returns(flow.shape))


class _Patches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).transpose(1, 2)


@dataclass(frozen=True, kw_only=True)
class Patches(Flatten):
    """An image as a sequence of its places, which is not contiguous."""

    def make(self) -> nn.Module:
        return _Patches()

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], math.prod(shape[2:]), shape[1])

    def walk(self, flow: Flow, path: str, mode: Mode, tally: Tally, held: Any = None) -> Flow:
        # What follows may have to copy it.
        tally.peak = tally.derivative = None
        return replace(flow, shape=self.returns(flow.shape))


@dataclass(frozen=True, kw_only=True)
class Dropout(Layer):
    share: float = 0.25
    extras = None

    def make(self) -> nn.Module:
        return nn.Dropout(self.share)

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        # The mask is divided by the share that is kept, and multiplied in.
        tally.arithmetic[path] += 2 * given.size * mode.training
        tally.differentiate(given.size if given.needs and mode.training else 0)


@dataclass(frozen=True, kw_only=True)
class Group(Layer):
    """A layer made of others."""

    parts: tuple[Layer, ...]

    @property
    def params(self) -> int:
        return sum(part.params for part in self.parts)

    @property
    def trainable(self) -> int:
        return sum(part.trainable for part in self.parts)

    @property
    def buffer_bytes(self) -> int:
        return sum(part.buffer_bytes for part in self.parts)

    def contains(self, kind: type[Layer]) -> bool:
        return isinstance(self, kind) or any(part.contains(kind) for part in self.parts)


def below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@dataclass(frozen=True, kw_only=True)
class Chain(Group):
    """Layers one after the other, as in `nn.Sequential`."""

    def make(self) -> nn.Module:
        return nn.Sequential(*(part.build() for part in self.parts))

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for part in self.parts:
            shape = part.returns(shape)
        return shape

    def walk(
        self,
        flow: Flow,
        path: str,
        mode: Mode,
        tally: Tally,
        held: frozenset[tuple[int, int]] = frozenset(),
    ) -> Flow:
        # Whoever called this one holds its argument until it returns.
        held |= {flow.buffer}
        for number, part in enumerate(self.parts):
            flow = part.walk(flow, below(path, str(number)), mode, tally, held)
        return flow


class _Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


@dataclass(frozen=True, kw_only=True)
class Residual(Group):
    """A layer that keeps the shape, with its input added to its result."""

    def make(self) -> nn.Module:
        return _Residual(self.parts[0].build())

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def walk(
        self,
        flow: Flow,
        path: str,
        mode: Mode,
        tally: Tally,
        held: frozenset[tuple[int, int]] = frozenset(),
    ) -> Flow:
        held |= {flow.buffer}
        body = self.parts[0].walk(flow, below(path, "body"), mode, tally, held)
        assert body.shape == flow.shape
        tally.arithmetic[path] += flow.size
        if mode.records and flow.needs:
            tally.differentiate(flow.size)  # the gradients of both uses of x are added
        made = tally.allocate(held | {body.buffer}, FLOAT_BYTES * flow.size)
        return replace(body, needs=mode.records and (flow.needs or body.needs), buffer=made)


class _Twice(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.layer(x))


@dataclass(frozen=True, kw_only=True)
class Twice(Group):
    """One layer that keeps the shape, called on its own result."""

    def make(self) -> nn.Module:
        return _Twice(self.parts[0].build())

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def walk(
        self,
        flow: Flow,
        path: str,
        mode: Mode,
        tally: Tally,
        held: frozenset[tuple[int, int]] = frozenset(),
    ) -> Flow:
        held |= {flow.buffer}
        for _ in range(2):
            flow = self.parts[0].walk(flow, below(path, "layer"), mode, tally, held)
        if mode.records:
            tally.differentiate(self.trainable)  # the gradients of both uses are added
        return flow


def expected_bytes(layer: Layer) -> int:
    """The size of a float32 model with these layers."""
    return FLOAT_BYTES * layer.params + layer.buffer_bytes
