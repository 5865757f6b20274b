"""A Llama in plain torch, what it costs by hand, and a script that measures one without memory."""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a Llama; the defaults are those of Llama 3 70B."""

    layers: int = 80
    hidden: int = 8192
    heads: int = 64
    kv_heads: int = 8
    inner: int = 28_672
    vocabulary: int = 128_256

    @property
    def kv_hidden(self) -> int:
        return self.hidden // self.heads * self.kv_heads

    @property
    def params(self) -> int:
        """Query, key, value, output and three projections, two norms a layer; the two tables."""
        projections = 2 * self.hidden**2 + 2 * self.hidden * self.kv_hidden
        layer = projections + 3 * self.hidden * self.inner + 2 * self.hidden
        return self.layers * layer + 2 * self.vocabulary * self.hidden + self.hidden

    def linear_macs(self, tokens: int) -> int:
        """Every weight of a projection, and the head on every token."""
        norms = (2 * self.layers + 1) * self.hidden
        table = self.vocabulary * self.hidden
        return tokens * (self.params - norms - table)

    def attention_macs(self, tokens: int) -> int:
        """Queries by keys and weights by values, the whole square of tokens."""
        return 2 * self.layers * tokens**2 * self.hidden

    def forward_macs(self, tokens: int) -> int:
        return self.linear_macs(tokens) + self.attention_macs(tokens)

    def training_macs(self, tokens: int) -> int:
        """One forward for each of two gradients; fused attention has five products backward."""
        return 3 * self.linear_macs(tokens) + self.attention_macs(tokens) * 7 // 2

    def forward_flops(self, tokens: int) -> int:
        """Two for each MAC, and all the rest that the model below does."""
        wide, narrow, inner = tokens * self.hidden, tokens * self.kv_hidden, tokens * self.inner
        # square; n - 1 additions and a division a row; add of eps; root; two products
        norm = wide + wide + tokens + tokens + wide + wide
        # half of it changes sign; two products and a sum
        rotary = (wide + narrow) // 2 + 3 * (wide + narrow)
        scores = self.heads * tokens**2
        softmax = 6 * scores - 2 * self.heads * tokens  # with the scale before it
        gate = 2 * inner + inner  # x * sigmoid(x), times the other projection
        layer = 2 * norm + rotary + softmax + gate + 2 * wide  # two additions to the stream
        return 2 * self.forward_macs(tokens) + self.layers * layer + norm


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads = shape.heads, shape.kv_heads
        self.attention_norm, self.norm = Norm(shape.hidden), Norm(shape.hidden)
        self.q = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k = nn.Linear(shape.hidden, shape.kv_hidden, bias=False)
        self.v = nn.Linear(shape.hidden, shape.kv_hidden, bias=False)
        self.o = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.gate = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.up = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, shape.hidden, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attend(self.attention_norm(x), cos, sin)
        normed = self.norm(x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed))

    def attend(self, x, cos, sin):
        q, k, v = (
            projected.unflatten(-1, (heads, -1)).transpose(1, 2)
            for projected, heads in (
                (self.q(x), self.heads),
                (self.k(x), self.kv_heads),
                (self.v(x), self.kv_heads),
            )
        )
        q, k = (t * cos + rotated(t) * sin for t in (q, k))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o(mixed.transpose(1, 2).flatten(2))


def rotated(x):
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


class Llama(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden)
        self.head = nn.Linear(shape.hidden, shape.vocabulary, bias=False)

    def forward(self, ids, cos, sin):
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(self.norm(x))


def inputs(shape: Shape, tokens: int):
    angles = (1, 1, tokens, shape.hidden // shape.heads)
    return torch.zeros(1, tokens, dtype=torch.long), torch.ones(angles), torch.ones(angles)


def from_transformers(shape: Shape, tokens: int):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            max_position_embeddings=tokens,
            tie_word_embeddings=False,
            use_cache=False,
            attn_implementation="sdpa",
        )
    )


METRICS = (
    "flops", "macs", "int_ops", "bytes_moved", "ops", "params", "trainable_params",
    "model_size", "peak_memory", "activation_memory",
)  # fmt: skip


def main(which: str, tokens: int) -> None:
    """Measure the 70B shape, forward and training step, and print that with the memory used."""
    from pytest_flopbudget import fake, measure

    shape = Shape()
    found = {}
    with fake():
        if which == "plain":
            model, arguments = Llama(shape).to(torch.bfloat16), inputs(shape, tokens)
            arguments = (arguments[0], *(t.to(torch.bfloat16) for t in arguments[1:]))
        else:
            model = from_transformers(shape, tokens).to(torch.bfloat16)
            arguments = (torch.zeros(1, tokens, dtype=torch.long),)
        with torch.no_grad():
            forward = measure(model, *arguments)
        training = measure(model, *arguments, train=True)
    for name, m in (("forward", forward), ("training", training)):
        found[name] = {metric: getattr(m, metric) for metric in METRICS}
        found[name]["uncounted"] = [u.operator for u in m.uncounted]
    found["rss_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
