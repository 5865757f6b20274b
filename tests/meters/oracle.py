"""What small networks cost, worked out from the sizes of their layers alone.

Each layer says how it is built, what it returns and what it costs by its definition in
torch's documentation and the conventions in docs/counting.md. Nothing here runs a tensor
operation to find a count, and nothing is shared with the counter, which sees operators
and no layers. Convolutions, norms and pools are in
`oracle_images.py`, the layers with a state or a softmax in `oracle_sequence.py`.
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
