"""Single cases beside the oracle's grammar, each worked out by hand from its definition."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, rnn

from pytest_flopbudget import measure

MODES = {"no_grad": torch.no_grad, "inference": torch.inference_mode, "grad": torch.enable_grad}
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")


def packed(layer: nn.Module) -> Any:
    """A run over sequences of 5, 3 and 1 steps of 4 features."""
    x = rnn.pack_padded_sequence(torch.rand(5, 3, 4), torch.tensor([5, 3, 1]))
    return lambda: layer(x)[0].data


def attention(**other: Any) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(8, 2, batch_first=True, **other).eval()


def attend(*shapes: tuple[int, ...], **other: Any) -> Callable[[], torch.Tensor]:
    tensors = [torch.rand(shape) for shape in shapes]
    return lambda: functional.scaled_dot_product_attention(*tensors, **other)


def call(layer: nn.Module, *shape: int) -> Callable[[], Any]:
    x = torch.rand(shape)
    return lambda: layer(x)


Q, K = torch.rand(2, 3, 8), torch.rand(2, 5, 8)
# The four projections of 2x3 queries and 2x5 keys, and their products.
CROSS = 8 * 8 * (6 + 10 + 10 + 6) + 2 * (2 * 3 * 5 * 8)
NINE, IMAGE = 9, (2, 3, 6, 7)

CASES: dict[str, tuple[Callable[[], Any], int]] = {
    # A packed sequence has nine steps, not fifteen.
    "packed lstm": (packed(nn.LSTM(4, 3)), NINE * 4 * 3 * (4 + 3)),
    "packed gru": (packed(nn.GRU(4, 3)), NINE * 3 * 3 * (4 + 3)),
    "packed rnn": (packed(nn.RNN(4, 3, bidirectional=True)), 2 * NINE * 3 * (4 + 3)),
    "lstm cell": (call(nn.LSTMCell(4, 3), 2, 4), 2 * 4 * 3 * (4 + 3)),
    "gru cell": (call(nn.GRUCell(4, 3), 2, 4), 2 * 3 * 3 * (4 + 3)),
    "rnn cell": (call(nn.RNNCell(4, 3), 2, 4), 2 * 3 * (4 + 3)),
    "lstm without a batch": (call(nn.LSTM(4, 3), 5, 4), 5 * 4 * 3 * (4 + 3)),
    "convolution without a batch": (call(nn.Conv2d(3, 4, 2), 3, 6, 7), 4 * 5 * 6 * 3 * 4),
    "linear of one vector": (call(nn.Linear(7, 3), 7), 21),
    "linear of five dimensions": (call(nn.Linear(7, 3), 2, 3, 1, 2, 7), 12 * 21),
    "linear without inputs": (call(nn.Linear(7, 3), 0, 7), 0),
    "attention without a batch": (
        lambda: nn.MultiheadAttention(8, 2)(Q[0], Q[0], Q[0])[0],
        4 * 3 * 64 + 2 * 3 * 3 * 8,
    ),
    "attention to other keys": (lambda: attention()(Q, K, K)[0], CROSS),
    "attention without biases": (lambda: attention(bias=False)(Q, K, K)[0], CROSS),
    "attention without weights": (lambda: attention()(Q, K, K, need_weights=False)[0], CROSS),
    "attention to keys of other widths": (
        lambda: attention(kdim=6, vdim=5)(Q, torch.rand(2, 5, 6), torch.rand(2, 5, 5))[0],
        8 * (6 * 8 + 10 * 6 + 10 * 5 + 6 * 8) + 2 * (2 * 3 * 5 * 8),
    ),
    "attention with a key more": (
        lambda: attention(add_bias_kv=True)(Q, K, K)[0],
        CROSS + 2 * (2 * 3 * 1 * 8),
    ),
    "attention with a zero more": (
        lambda: attention(add_zero_attn=True)(Q, K, K, need_weights=False)[0],
        CROSS + 2 * (2 * 3 * 1 * 8),
    ),
    "attention with masks": (
        lambda: attention()(
            *(Q, Q, Q, torch.tensor([[0, 0, 1], [0, 0, 0]]).bool()),
            attn_mask=torch.ones(3, 3).triu(1).bool(),
        )[0],
        4 * 6 * 64 + 2 * (2 * 3 * 3 * 8),
    ),
    "values of another width": (
        attend((2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 7)),
        2 * 3 * 4 * 5 * (6 + 7),
    ),
    "attention of three dimensions": (attend((3, 4, 6), (3, 5, 6), (3, 5, 6)), 3 * 4 * 5 * 12),
    "attention of two dimensions": (attend((4, 6), (5, 6), (5, 6)), 4 * 5 * 12),
    "attention with one key for all": (
        attend((2, 6, 4, 8), (2, 1, 5, 8), (2, 1, 5, 8), enable_gqa=True),
        2 * 6 * 4 * 5 * 16,
    ),
    "same padding": (call(nn.Conv2d(3, 4, (3, 2), padding="same"), *IMAGE), 2 * 4 * 42 * 3 * 6),
    "circular padding": (
        call(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), *IMAGE),
        2 * 4 * 42 * 3 * 9,
    ),
    "reflected padding": (
        call(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), *IMAGE),
        2 * 4 * 42 * 3 * 9,
    ),
    "normalised weight": (
        call(parametrizations.weight_norm(nn.Conv2d(3, 4, 2)), *IMAGE),
        2 * 4 * 5 * 6 * 3 * 4,
    ),
    # W v, its transpose times u, and u (W v) with the norm; then the layer itself.
    "spectral norm": (
        call(parametrizations.spectral_norm(nn.Linear(7, 3)), 2, 7),
        3 * 21 + 3 + 2 * 21,
    ),
    "broadcast product": (
        lambda: torch.rand(2, 1, 3, 4) @ torch.rand(5, 4, 6),
        2 * 5 * 3 * 4 * 6,
    ),
    "matrix and vector": (lambda: torch.rand(2, 3, 4) @ torch.rand(4), 24),
    "vector and matrices": (lambda: torch.rand(4) @ torch.rand(2, 4, 3), 24),
    "dot": (lambda: torch.rand(9) @ torch.rand(9), 9),
    "tensordot": (
        lambda: torch.tensordot(torch.rand(2, 3, 4), torch.rand(3, 4, 5), 2),
        2 * 3 * 4 * 5,
    ),
    "contraction of three": (
        # (ij,jk) first: 2*3*4, then (ik,kl): 2*4*5
        lambda: torch.einsum("ij,jk,kl->il", torch.rand(2, 3), torch.rand(3, 4), torch.rand(4, 5)),
        2 * 3 * 4 + 2 * 4 * 5,
    ),
    # Exponents by squaring: a^2, a^4, a^5.
    "fifth power": (lambda: torch.linalg.matrix_power(torch.rand(6, 6), 5), 3 * 6**3),
    # (ab)c takes 2*9*3 + 2*3*7; a(bc) would take more.
    "best order": (
        lambda: torch.linalg.multi_dot([torch.rand(2, 9), torch.rand(9, 3), torch.rand(3, 7)]),
        2 * 9 * 3 + 2 * 3 * 7,
    ),
    "complex linear": (
        lambda: functional.linear(
            torch.rand(2, 5, dtype=torch.cfloat), torch.rand(3, 5, dtype=torch.cfloat)
        ),
        4 * 2 * 3 * 5,
    ),
    "bfloat16": (lambda: nn.Linear(7, 3).bfloat16()(torch.rand(2, 7).bfloat16()), 42),
    "float64 attention": (
        lambda: attend((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4))().double(),
        2 * 3 * 5 * 8,
    ),
}


def in_every_mode(names: Iterable[str]) -> list[tuple[str, str]]:
    return list(product(names, MODES))


@pytest.mark.parametrize(("name", "mode"), in_every_mode(CASES))
def test_macs_are_those_of_the_definition(name: str, mode: str) -> None:
    function, macs = CASES[name]
    with MODES[mode]():
        m = measure(function)
    assert m.macs == macs
    assert m.uncounted == ()


ELEMENTS = 2 * 3 * 6 * 7

FLOPS: dict[str, tuple[Callable[[], Any], int]] = {
    # Two sums, sigmoids, tanhs and the rest: see the oracle.
    "packed lstm": (packed(nn.LSTM(4, 3)), 2 * NINE * 4 * 3 * 7 + NINE * 21 * 3),
    "lstm cell": (call(nn.LSTMCell(4, 3), 2, 4), 2 * 2 * 4 * 3 * 7 + 2 * 21 * 3),
    "gru cell": (call(nn.GRUCell(4, 3), 2, 4), 2 * 2 * 3 * 3 * 7 + 2 * 16 * 3),
    "rnn cell": (call(nn.RNNCell(4, 3), 2, 4), 2 * 2 * 3 * 7 + 2 * 4 * 3),
    # 6 to 3 rows and 7 to 4 columns: the last window of the columns has one.
    "max pool rounded up": (
        call(nn.MaxPool2d(2, 2, ceil_mode=True), *IMAGE),
        ELEMENTS - 2 * 3 * 3 * 4,
    ),
    "mean pool rounded up": (call(nn.AvgPool2d(2, 2, ceil_mode=True), *IMAGE), ELEMENTS),
    "mean pool without its padding": (
        # 1, 2, 2, 1 rows of 6 at stride 2, and the same and one more of 7 columns.
        call(nn.AvgPool2d(2, 2, 1, count_include_pad=False), *IMAGE),
        2 * 3 * 6 * 7,
    ),
    "pool without a batch": (call(nn.MaxPool2d(3), 3, 6, 7), 3 * (6 * 6 - 4)),
    "instance norm": (call(nn.InstanceNorm2d(3), *IMAGE), 6 * ELEMENTS + 2 * 6),
    "instance norm with weights": (
        call(nn.InstanceNorm2d(3, affine=True), *IMAGE),
        8 * ELEMENTS + 2 * 6,
    ),
    "batch norm that keeps nothing": (
        call(nn.BatchNorm2d(3, track_running_stats=False).eval(), *IMAGE),
        8 * ELEMENTS + 2 * 3,
    ),
    # squares and mean 2n, epsilon and root 2, times the root n, times the weight n
    "rms norm": (call(nn.RMSNorm(7), 2, 3, 7), 4 * 42 + 2 * 6),
    "layer norm over two dimensions": (call(nn.LayerNorm([6, 7]), *IMAGE), 8 * ELEMENTS + 2 * 6),
    "softmax over the channels": (call(nn.Softmax(1), *IMAGE), 5 * ELEMENTS - 2 * 84),
    # The scale, the mask and a softmax.
    "attention with a mask": (
        attend((2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 6), attn_mask=torch.rand(4, 5)),
        2 * 120 * 12 + 2 * 120 + 5 * 120 - 2 * 24,
    ),
    "embedding": (lambda: nn.Embedding(5, 3)(torch.tensor([1, 2])), 0),
    "dropout in evaluation": (call(nn.Dropout().eval(), 5, 3), 0),
    "complex linear with a bias": (
        lambda: nn.Linear(5, 3, dtype=torch.cfloat)(torch.rand(2, 5, dtype=torch.cfloat)),
        2 * 4 * 30 + 2 * 6,
    ),
}


@pytest.mark.parametrize(("name", "mode"), in_every_mode(FLOPS))
def test_flops_are_those_of_the_definition(name: str, mode: str) -> None:
    function, flops = FLOPS[name]
    with MODES[mode]():
        m = measure(function)
    assert m.flops == flops
    assert m.uncounted == ()


SHAPES = [(2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 6)]
PRODUCT = 2 * 3 * 4 * 5 * 6
WIDE = [(2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 9)]


@pytest.mark.parametrize(
    ("shapes", "other", "macs"),
    [
        (SHAPES, {}, (2 + 5) * PRODUCT),
        (SHAPES, {"is_causal": True}, (2 + 5) * PRODUCT),
        # With dropout torch writes the products out.
        (SHAPES, {"dropout_p": 0.5}, (2 + 4) * PRODUCT),
        # So it does for values of another width: the weights times V are half as much again.
        (WIDE, {}, 3 * (PRODUCT + PRODUCT * 9 // 6)),
    ],
)
def test_training_of_attention_depends_on_the_road(
    shapes: list[tuple[int, ...]], other: dict[str, Any], macs: int
) -> None:
    tensors = [torch.rand(shape, requires_grad=True) for shape in shapes]
    m = measure(functional.scaled_dot_product_attention, *tensors, train=True, **other)
    assert m.macs == macs
    assert m.uncounted == ()


def test_gradient_of_a_mask_is_no_product() -> None:
    q, k, v = (torch.rand(shape, requires_grad=True) for shape in SHAPES)
    mask = torch.rand(4, 5, requires_grad=True)
    m = measure(functional.scaled_dot_product_attention, q, k, v, mask, train=True)
    assert m.macs == (2 + 4) * PRODUCT, "torch writes the products out for the mask's gradient"
    assert m.uncounted == ()


@pytest.mark.parametrize("is_training", [True, False])
def test_encoder_and_decoder_cost_their_closed_form(is_training: bool) -> None:
    width, inner, batch, source, target = 8, 12, 2, 5, 3
    model = nn.Transformer(
        width, 2, num_encoder_layers=2, num_decoder_layers=1, dim_feedforward=inner,
        batch_first=True, dropout=0.1,
    )  # fmt: skip
    model.train(is_training)
    x, y = torch.rand(batch, source, width), torch.rand(batch, target, width)

    def linear(tokens: int, layers: int) -> int:
        return batch * tokens * (layers * width * width + 2 * width * inner)

    def scores(queries: int, keys: int) -> int:
        return 2 * batch * queries * keys * width

    encoder = 2 * (linear(source, 4) + scores(source, source))
    # A second attention: its queries and results are the target's, keys and values the source's.
    crossed = 2 * batch * (target + source) * width * width + scores(target, source)
    forward = encoder + linear(target, 4) + scores(target, target) + crossed
    m = measure(model, x, y, train=is_training)
    assert m.uncounted == ()
    if not is_training:
        assert m.macs == forward
        return
    # Nobody asks the gradients of x and y: not through the first packed projection of each.
    spared = 3 * batch * (source + target) * width * width
    assert m.macs == 3 * forward - spared


def test_complex_training_costs_four_for_each_product() -> None:
    layer = nn.Linear(5, 3, dtype=torch.cfloat)
    x = torch.rand(2, 5, dtype=torch.cfloat, requires_grad=True)
    m = measure(lambda: torch.view_as_real(layer(x)), train=True)
    assert m.macs == 3 * 4 * 2 * 5 * 3
    assert m.uncounted == ()


def test_double_backward_of_a_product() -> None:
    x, w = (torch.rand(shape, requires_grad=True) for shape in ((4, 5), (5, 3)))

    def run() -> None:
        # y = x w; dy/dx = 1 w^T; its square's gradient by w is 1^T (2 dx): no product with x.
        (first,) = torch.autograd.grad((x @ w).sum(), x, create_graph=True)
        first.square().sum().backward()

    m = measure(run)
    # x w, 1 w^T, and the latter's gradient by w: three products alike.
    assert m.macs == 3 * 4 * 5 * 3
    assert m.uncounted == ()


def test_tied_weights_are_one_parameter() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(11, 4)
            self.head = nn.Linear(4, 11)
            self.head.weight = self.words.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.words(x))

    m = measure(Tied(), torch.tensor([[1, 2, 3]]))
    assert m.params == 11 * 4 + 11
    assert m.model_size == 4 * (11 * 4 + 11)
    assert m.macs == 3 * 4 * 11


def test_half_precision_halves_the_model() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)).bfloat16().eval()
    m = measure(model, torch.rand(2, 5).bfloat16())
    # Weight, bias, scale, shift, two statistics; and the count of batches.
    assert m.params == 15 + 3 + 3 + 3
    assert m.model_size == 2 * (15 + 3 + 3 + 3 + 3 + 3) + 8


IN_3D = (2, 3, 5, 6, 7)


def test_adaptive_pool_in_three_dimensions_adds_each_element_of_its_windows() -> None:
    # 5 to 2 in windows of 3 and 3, 6 to 3 of 2 each, 7 to 2 of 4 and 4.
    m = measure(nn.AdaptiveAvgPool3d((2, 3, 2)), torch.rand(IN_3D))
    assert m.flops == 2 * 3 * 6 * 6 * 8
    assert m.uncounted == ()


def test_gradient_of_a_mean_pool_in_three_dimensions_spreads_each_window() -> None:
    x = torch.rand(IN_3D, requires_grad=True)
    m = measure(nn.AvgPool3d(2), x, train=True)
    windows = 2 * 3 * 2 * 3 * 3
    # Mean; the sum of the results; a division for each window, an addition for each element.
    assert m.flops == 8 * windows + windows - 1 + windows + 8 * windows
    assert m.uncounted == ()


def test_gradient_of_a_group_norm_is_counted() -> None:
    m = measure(nn.GroupNorm(2, 4), torch.rand(3, 4, 5), train=True)
    assert m.uncounted == ()


def test_training_of_an_lstm_costs_three_forwards() -> None:
    """With all gradients asked for, those of the first states too."""
    lstm = nn.LSTM(4, 3, 2, bidirectional=True)
    x = torch.rand(5, 2, 4, requires_grad=True)
    state = tuple(torch.rand(4, 2, 3, requires_grad=True) for _ in range(2))
    m = measure(lstm, x, state, train=True)
    steps = 5 * 2
    forward = steps * 2 * (4 * 3 * (4 + 3) + 4 * 3 * (6 + 3))
    assert m.macs == 3 * forward
    assert m.uncounted == ()


@pytest.mark.parametrize("empty", [nn.ModuleList, nn.ModuleDict, nn.Sequential])
def test_empty_containers_are_no_trouble(empty: Callable[[], nn.Module]) -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.none = empty()
            self.blocks = nn.ModuleList([nn.ModuleList(), nn.Linear(5, 3)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.blocks[1](x)

    m = measure(Holds(), torch.rand(2, 5))
    assert m.by_module["blocks.1"].own.macs == m.macs == 2 * 5 * 3
