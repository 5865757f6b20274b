"""The oracle's layers for sequences: embeddings, recurrent layers, attention, softmax."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .oracle import Flow, Layer, Mode, Tally, weigh


@dataclass(frozen=True, kw_only=True)
class Embedding(Layer):
    """A look-up, which is no arithmetic."""

    words: int
    width: int
    extras = None

    def make(self) -> nn.Module:
        return nn.Embedding(self.words, self.width)

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape, self.width)

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        tally.differentiate(result.size if result.needs else 0)

    @property
    def params(self) -> int:
        return self.words * self.width

    @property
    def trainable(self) -> int:
        return weigh(self.params, 0, self.frozen)


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


@dataclass(frozen=True, kw_only=True)
class MeanOverTime(Layer):
    extras = None

    def make(self) -> nn.Module:
        return _Mean()

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], *shape[2:])

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        tally.arithmetic[path] += given.size  # n - 1 additions and a division
        # The gradient is spread out, and then divided.
        tally.differentiate(given.size if given.needs else 0)


@dataclass(frozen=True, kw_only=True)
class Softmax(Layer):
    extras = None

    def make(self) -> nn.Module:
        return nn.Softmax(-1)

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        tally.arithmetic[path] += 5 * given.size - 2 * given.rows
        tally.differentiate(None if given.needs else 0)


class _Recurrent(nn.Module):
    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0]


@dataclass(frozen=True, kw_only=True)
class Recurrent(Layer):
    """RNN, GRU or LSTM over [batch, time, features]; `proj` is an LSTM's `proj_size`."""

    kind: str
    inputs: int
    hidden: int
    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    proj: int = 0
    extras = None

    def make(self) -> nn.Module:
        settings = {
            "num_layers": self.layers,
            "bidirectional": self.bidirectional,
            "bias": self.bias,
            "batch_first": True,
        }
        if self.kind == "lstm":
            return _Recurrent(nn.LSTM(self.inputs, self.hidden, proj_size=self.proj, **settings))
        if self.kind == "gru":
            return _Recurrent(nn.GRU(self.inputs, self.hidden, **settings))
        return _Recurrent(nn.RNN(self.inputs, self.hidden, nonlinearity=self.kind, **settings))

    @property
    def state(self) -> int:
        """Width of the hidden state that a step gives to the next one."""
        return self.proj or self.hidden

    @property
    def directions(self) -> int:
        return 1 + self.bidirectional

    @property
    def gates(self) -> int:
        return {"lstm": 4, "gru": 3}.get(self.kind, 1)

    @property
    def step_arithmetic(self) -> int:
        """FLOPs of one step beside its products, by the equations in torch's documentation."""
        # LSTM: both products added 4, sigmoids 3, tanhs 2, c = f * c + i * g 3, o * tanh(c) 1.
        # GRU: sums 2, sigmoids 2, n = tanh(x + r * h) 3, and h = (h - n) * z + n, which is
        # what torch makes of (1 - z) * n + z * h. RNN: a sum and the function.
        per_unit = {"lstm": 13, "gru": 10}.get(self.kind, 2)
        return (per_unit + 2 * self.gates * self.bias) * self.hidden

    def returns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:2], self.state * self.directions)

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        batch, time, _ = given.shape
        steps, here = batch * time, f"{path}.rnn" if path else "rnn"
        trains = mode.records and self.trains_anything
        width, needs = self.inputs, given.needs
        for _ in range(self.layers):
            gated = self.gates * self.hidden
            for _ in range(self.directions):
                tally.product(here, steps * gated * width, needs, trains)
                tally.product(here, steps * gated * self.state, trains)
                if needs or trains:
                    # The first state is zeros, of which nobody asks the gradient.
                    tally.backward[here] += (steps - batch) * gated * self.state
                if self.proj:
                    macs = steps * self.hidden * self.proj
                    tally.product(here, macs, needs or trains, trains)
            width, needs = self.state * self.directions, needs or trains
        tally.arithmetic[here] += steps * self.step_arithmetic * self.layers * self.directions
        tally.differentiate(None if result.needs else 0)

    @property
    def params(self) -> int:
        width, count = self.inputs, 0
        for _ in range(self.layers):
            rows = self.gates * self.hidden
            one = rows * (width + self.state) + 2 * rows * self.bias + self.proj * self.hidden
            count += one * self.directions
            width = self.state * self.directions
        return count

    @property
    def trainable(self) -> int:
        return 0 if self.frozen == "all" else self.params

    @property
    def is_fused(self) -> bool:
        """Whether the CPU has one operator for it."""
        return self.kind == "lstm" and not self.proj


class _SelfAttention(nn.Module):
    def __init__(self, attention: nn.MultiheadAttention, need_weights: bool) -> None:
        super().__init__()
        self.attention = attention
        self.need_weights = need_weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=self.need_weights)[0]


@dataclass(frozen=True, kw_only=True)
class Multihead(Layer):
    """`nn.MultiheadAttention` on itself, batch first."""

    width: int
    heads: int
    need_weights: bool = True
    extras = None

    def make(self) -> nn.Module:
        attention = nn.MultiheadAttention(self.width, self.heads, batch_first=True)
        return _SelfAttention(attention, self.need_weights)

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        here = f"{path}.attention" if path else "attention"
        batch, time, width = given.shape
        trains = mode.records and not self.frozen
        inner = given.needs or (mode.records and self.trains_anything)
        scores = batch * self.heads * time * time
        tally.product(here, given.size * 3 * width, given.needs, trains)  # q, k and v
        tally.product(here, given.size * width, inner, trains)  # the projection after it
        macs = scores * (width // self.heads)
        is_native = not (mode.training or inner) and self.heads % 2 == 0
        is_fused = not (is_native or self.need_weights)
        # Two products; each gives two gradients, and fused backward computes the scores again.
        tally.forward[here] += 2 * macs
        tally.backward[here] += (5 if is_fused else 4) * macs * inner
        # Biases of four projections, the scale (of the query, or, fused, of the scores).
        flops = 4 * given.size + (scores if is_fused else given.size)
        flops += 5 * scores - 2 * scores // time
        if self.need_weights:
            flops += scores  # the mean over the heads
        tally.arithmetic[here] += flops
        tally.differentiate(None if result.needs else 0)

    @property
    def params(self) -> int:
        return 4 * self.width * self.width + 4 * self.width

    @property
    def trainable(self) -> int:
        return {"": self.params, "weight": 4 * self.width, "all": 0}[self.frozen]


class _Grouped(nn.Module):
    def __init__(self, spec: Grouped) -> None:
        super().__init__()
        self.spec = spec
        inner, narrow = spec.heads * spec.head, spec.groups * spec.head
        self.q = nn.Linear(spec.width, inner, bias=False)
        self.k = nn.Linear(spec.width, narrow, bias=False)
        self.v = nn.Linear(spec.width, narrow, bias=False)
        self.out = nn.Linear(inner, spec.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spec, (batch, time, _) = self.spec, x.shape
        q, k, v = (
            layer(x).view(batch, time, -1, spec.head).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        if spec.road == "gqa":
            mixed = functional.scaled_dot_product_attention(
                q, k, v, is_causal=spec.causal, enable_gqa=True
            )
        else:
            k, v = (t.repeat_interleave(spec.heads // spec.groups, 1) for t in (k, v))
            if spec.road == "fused":
                mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=spec.causal)
            else:
                mixed = (q @ k.transpose(2, 3) * spec.head**-0.5).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, time, -1))


@dataclass(frozen=True, kw_only=True)
class Grouped(Layer):
    """Attention with grouped queries from four linear layers.

    `road`: "gqa" leaves the groups to torch, "fused" repeats the keys itself, and
    "written" writes the products out too. `frozen` names the layers that are.
    """

    width: int
    heads: int
    groups: int
    head: int
    road: str
    causal: bool = False
    extras = None

    def build(self) -> nn.Module:
        module = self.make()
        for name in self.frozen:
            module.get_submodule("out" if name == "o" else name).requires_grad_(False)
        return module

    def make(self) -> nn.Module:
        return _Grouped(self)

    def cost(self, given: Flow, result: Flow, path: str, mode: Mode, tally: Tally) -> None:
        batch, time, width = given.shape
        inner, narrow = self.heads * self.head, self.groups * self.head
        trains = {name: mode.records and name not in self.frozen for name in "qkvo"}
        needs = {name: given.needs or trains[name] for name in "qkv"}
        for name, outputs in (("q", inner), ("k", narrow), ("v", narrow)):
            where = f"{path}.{name}" if path else name
            tally.product(where, given.size * outputs, given.needs, trains[name])
        mixed = any(needs.values())
        out = f"{path}.out" if path else "out"
        tally.product(out, batch * time * inner * width, mixed, trains["o"])
        scores = batch * self.heads * time * time
        macs = scores * self.head
        tally.forward[path] += 2 * macs
        if self.road == "written":
            scored = needs["q"] or needs["k"]
            asked = (needs["k"], needs["q"], scored, needs["v"])
            tally.backward[path] += macs * sum(asked)
        else:
            tally.backward[path] += 5 * macs * mixed
        # The scale and a softmax.
        tally.arithmetic[path] += 6 * scores - 2 * scores // time
        tally.differentiate(None if result.needs else 0)

    @property
    def params(self) -> int:
        return 2 * self.width * self.head * (self.heads + self.groups)

    @property
    def trainable(self) -> int:
        heads = {"q": self.heads, "k": self.groups, "v": self.groups, "o": self.heads}
        free = sum(count for name, count in heads.items() if name not in self.frozen)
        return free * self.width * self.head
