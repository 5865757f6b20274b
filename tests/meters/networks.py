"""Random small networks for the oracle, drawn layer by layer so that shapes always fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from .oracle import Chain, Dropout, Flatten, Layer, Linear, Patches, Pointwise, Residual, Twice
from .oracle_images import Conv, Norm, Pool
from .oracle_sequence import Embedding, Grouped, MeanOverTime, Multihead, Recurrent, Softmax

Draw = Callable[[st.SearchStrategy[Any]], Any]
FROZEN = st.sampled_from(["", "", "", "weight", "all"])
MOST_ELEMENTS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network, and what it is called with."""

    layer: Chain
    shape: tuple[int, ...]
    words: int = 0
    """Above 0 for input of whole numbers below it."""
    asks: bool = False
    """Whether a gradient of the input is asked for."""


def _linear(draw: Draw, shape: tuple[int, ...], outputs: int | None = None) -> Layer:
    width = draw(st.integers(1, 9)) if outputs is None else outputs
    return Linear(inputs=shape[-1], outputs=width, bias=draw(st.booleans()), frozen=draw(FROZEN))


def _pointwise(draw: Draw, shape: tuple[int, ...]) -> Layer:
    return Pointwise(kind=draw(st.sampled_from(sorted(Pointwise.COSTS))))


def _divisors(draw: Draw, *numbers: int) -> int:
    common = math.gcd(*numbers)
    return draw(st.sampled_from([n for n in range(1, common + 1) if common % n == 0]))


def _norm(draw: Draw, shape: tuple[int, ...]) -> Layer:
    affine, frozen = draw(st.booleans()), draw(FROZEN)
    if len(shape) == 3 and draw(st.booleans()):
        return Norm(kind="layer", channels=shape[-1], affine=affine, frozen=frozen)
    channels, per_channel = shape[1], math.prod(shape) // shape[1]
    # Batch statistics take more than one value in training, and so do those of groups.
    kinds = ["batch"] if per_channel > 1 else []
    groups = _divisors(draw, channels)
    if len(shape) > 2 and shape[0] * channels // groups * math.prod(shape[2:]) > shape[0]:
        kinds.append("group")
    if not kinds:
        return Pointwise(kind="relu")
    dims = len(shape) - 2
    kind = draw(st.sampled_from(kinds))
    return Norm(
        kind=kind, channels=channels, groups=groups, dims=dims, affine=affine, frozen=frozen
    )


def _conv(draw: Draw, shape: tuple[int, ...], *, keeps: bool = False) -> Layer:
    channels, sizes = shape[1], shape[2:]
    transposed = draw(st.booleans()) and not keeps
    depthwise = draw(st.integers(0, 3)) == 0
    outputs = channels if keeps else channels * 2 if depthwise else draw(st.integers(1, 8))
    groups = channels if depthwise else _divisors(draw, channels, outputs)
    kernel, stride, padding, dilation, extra = [], [], [], [], []
    for size in sizes:
        d = draw(st.integers(1, 2))
        k = draw(st.sampled_from([1, 3] if keeps else [1, 2, 3]))
        p = d * (k - 1) // 2 if keeps else draw(st.integers(0, 2))
        if not transposed and size + 2 * p < d * (k - 1) + 1:
            k = 1
        if transposed:  # at least one element has to be left
            p = min(p, (d * (k - 1)) // 2)
        s = 1 if keeps else draw(st.integers(1, 3))
        kernel.append(k)
        stride.append(s)
        padding.append(p)
        dilation.append(d)
        extra.append(draw(st.integers(0, max(s, d) - 1)))
    return Conv(
        inputs=channels,
        outputs=outputs,
        kernel=tuple(kernel),
        stride=tuple(stride),
        padding=tuple(padding),
        dilation=tuple(dilation),
        groups=groups,
        bias=draw(st.booleans()),
        transposed=transposed,
        extra=tuple(extra) if transposed else (),
        frozen=draw(FROZEN),
    )


def _pool(draw: Draw, shape: tuple[int, ...]) -> Layer:
    kind = draw(st.sampled_from(["max", "mean", "adaptive"]))
    if kind == "adaptive" and len(shape) < 5:  # in three dimensions it has a test of its own
        return Pool(kind=kind, adaptive=tuple(draw(st.integers(1, n)) for n in shape[2:]))
    kind = "mean" if kind == "adaptive" else kind
    kernel = tuple(draw(st.integers(1, min(3, n))) for n in shape[2:])
    dilation: tuple[int, ...] = ()
    if kind == "max":
        dilation = tuple(draw(st.integers(1, 2)) for _ in kernel)
        # The span of the taps has to fit.
        dilation = tuple(
            d if d * (k - 1) < n else 1
            for d, k, n in zip(dilation, kernel, shape[2:], strict=False)
        )
    return Pool(
        kind=kind,
        kernel=kernel,
        stride=tuple(draw(st.integers(1, 3)) for _ in kernel),
        padding=tuple(draw(st.integers(0, k // 2)) for k in kernel),
        dilation=dilation,
    )


def _recurrent(draw: Draw, shape: tuple[int, ...], *, keeps: bool = False) -> Layer:
    hidden = shape[-1] if keeps else draw(st.integers(2, 6))
    kind = draw(st.sampled_from(["lstm", "gru", "tanh", "relu"]))
    bidirectional = draw(st.booleans())
    if keeps and bidirectional:
        bidirectional = hidden % 2 == 0
        hidden = hidden // 2 if bidirectional else hidden
    return Recurrent(
        kind=kind,
        inputs=shape[-1],
        hidden=hidden,
        layers=draw(st.integers(1, 2)),
        bidirectional=bidirectional,
        bias=draw(st.booleans()),
        proj=draw(st.sampled_from([0, 0, 1])) if kind == "lstm" and not keeps else 0,
        frozen=draw(st.sampled_from(["", "", "all"])),
    )


def _attention(draw: Draw, shape: tuple[int, ...]) -> Layer:
    width = shape[-1]
    if draw(st.booleans()):
        return Multihead(
            width=width,
            heads=_divisors(draw, width),
            need_weights=draw(st.booleans()),
            frozen=draw(FROZEN),
        )
    groups = draw(st.integers(1, 2))
    return Grouped(
        width=width,
        heads=groups * draw(st.integers(1, 3)),
        groups=groups,
        head=draw(st.integers(1, 5)),
        road=draw(st.sampled_from(["gqa", "fused", "written"])),
        causal=draw(st.booleans()),
        frozen=draw(st.sampled_from(["", "", "q", "kv", "qkvo", "v"])),
    )


def _keeping(draw: Draw, shape: tuple[int, ...]) -> Layer:
    """A layer that gives back the shape that it gets."""
    kinds: list[Callable[[], Layer]] = [
        lambda: _pointwise(draw, shape),
        lambda: _norm(draw, shape),
        Dropout,
    ]
    if len(shape) == 2 or len(shape) == 3:
        kinds.append(lambda: _linear(draw, shape, shape[-1]))
    if len(shape) == 3:
        kinds += 2 * [lambda: _attention(draw, shape)]
        kinds.append(lambda: _recurrent(draw, shape, keeps=True))
    if len(shape) > 2:
        kinds.append(lambda: _conv(draw, shape, keeps=True))
    return draw(st.sampled_from(kinds))()


def _changing(draw: Draw, shape: tuple[int, ...]) -> Layer:
    """A layer that may give another shape."""
    kinds: list[Callable[[], Layer]] = []
    if len(shape) == 2 or len(shape) == 3:
        kinds += [lambda: _linear(draw, shape), Softmax]
    if len(shape) == 3:
        kinds += [lambda: _recurrent(draw, shape), MeanOverTime]
    if len(shape) > 2:
        kinds += [
            lambda: _conv(draw, shape),
            lambda: _pool(draw, shape),
            Flatten,
            Patches,
        ]
    return draw(st.sampled_from(kinds))()


def _any(draw: Draw, shape: tuple[int, ...], depth: int) -> Layer:
    choice = draw(st.integers(0, 9))
    if choice < 4:
        return _changing(draw, shape)
    if choice < 7 or depth == 0:
        return _keeping(draw, shape)
    if choice == 7:
        return _chain(draw, shape, depth - 1)
    inner = _keeping(draw, shape)
    if choice == 8:
        return Residual(parts=(Chain(parts=(inner, _keeping(draw, shape))),))
    return Twice(parts=(inner,))


def _chain(draw: Draw, shape: tuple[int, ...], depth: int) -> Chain:
    parts: list[Layer] = []
    for _ in range(draw(st.integers(1, 4))):
        part = _any(draw, shape, depth)
        after = part.returns(shape)
        if math.prod(after) > MOST_ELEMENTS:
            continue
        parts.append(part)
        shape = after
    return Chain(parts=tuple(parts) or (Pointwise(kind="relu"),))


@st.composite
def networks(draw: Draw) -> Network:
    batch = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["sequence", "image", "words", "vector"]))
    asks = draw(st.booleans())
    if kind == "words":
        embedding = Embedding(words=11, width=draw(st.integers(1, 6)), frozen=draw(FROZEN))
        shape = (batch, draw(st.integers(1, 6)))
        rest = _chain(draw, embedding.returns(shape), 2)
        return Network(layer=Chain(parts=(embedding, rest)), shape=shape, words=11)
    if kind == "vector":
        shape = (batch, draw(st.integers(1, 9)))
    elif kind == "sequence":
        shape = (batch, draw(st.integers(1, 6)), draw(st.integers(1, 8)))
    else:
        dims = draw(st.sampled_from([2, 2, 1, 3]))
        largest = 5 if dims == 3 else 9
        sizes = draw(st.lists(st.integers(3, largest), min_size=dims, max_size=dims))
        shape = (batch, draw(st.integers(1, 6)), *sizes)
    return Network(layer=_chain(draw, shape, 2), shape=shape, asks=asks)


def _derived(draw: Draw, shape: tuple[int, ...]) -> Layer:
    """One of the layers whose backward pass the oracle knows to the last FLOP."""

    def keeping() -> Layer:
        if draw(st.booleans()):
            return Pointwise(kind="relu")
        if len(shape) == 2:
            return _linear(draw, shape, shape[-1])
        return _conv(draw, shape, keeps=True)

    kinds: list[Callable[[], Layer]] = [
        keeping,
        lambda: Residual(parts=(keeping(),)),
        lambda: Twice(parts=(keeping(),)),
        lambda: _linear(draw, shape) if len(shape) == 2 else _conv(draw, shape),
        Flatten,
    ]
    return draw(st.sampled_from(kinds))()


@st.composite
def derived_networks(draw: Draw) -> Network:
    """Networks of such layers."""
    sizes = draw(st.lists(st.integers(3, 8), min_size=0, max_size=2))
    shape = start = (draw(st.integers(1, 3)), draw(st.integers(1, 6)), *sizes)
    parts: list[Layer] = []
    for _ in range(draw(st.integers(1, 5))):
        part = _derived(draw, shape)
        if math.prod(part.returns(shape)) <= MOST_ELEMENTS:
            parts.append(part)
            shape = part.returns(shape)
    chain = Chain(parts=tuple(parts) or (Pointwise(kind="relu"),))
    return Network(layer=chain, shape=start, asks=draw(st.booleans()))
