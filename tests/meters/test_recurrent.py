"""Recurrent layers on every road: oneDNN's and cuDNN's operator, and step by step."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils.rnn import pack_padded_sequence

from pytest_flopbudget import measure
from pytest_flopbudget.meters.formulas.registry import Work, formula_for, is_free

pytestmark = pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN:UserWarning"
)
GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}
MODES = {"relu": 0, "tanh": 1, nn.LSTM: 2, nn.GRU: 3}
# For each element of a state: what the gates take after both products, see the formulas.
CELL = {nn.LSTM: 4 + 3 + 2 + 4, nn.GRU: 2 + 2 + 3 + 3, nn.RNN: 2}
T, N, I, H = 7, 3, 4, 5  # noqa: E741 - the letters of the documentation
CONTEXTS = [torch.no_grad, torch.inference_mode, torch.enable_grad]
needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch is built without oneDNN"
)


class _Shape(NamedTuple):
    """A recurrent network: its class, arguments, layers, directions, and features of one."""

    kind: type
    kwargs: dict
    layers: int = 1
    directions: int = 1
    out: int = H

    @property
    def parts(self):
        return self.layers * self.directions

    @property
    def has_bias(self):
        return self.kwargs.get("bias", True)

    @property
    def dropped(self):
        """Elements of one step that dropout between the layers sees."""
        return self.directions * self.out * (self.layers - 1) * ("dropout" in self.kwargs)


SHAPES = [
    shape
    for kind in (nn.LSTM, nn.GRU, nn.RNN)
    for shape in (
        _Shape(kind, {}),
        _Shape(kind, {"bias": False}),
        _Shape(kind, {"batch_first": True}),
        _Shape(kind, {"num_layers": 2}, 2),
        _Shape(kind, {"num_layers": 2, "bidirectional": True}, 2, 2),
        _Shape(kind, {"num_layers": 3, "bidirectional": True, "dropout": 0.4}, 3, 2),
        _Shape(kind, {"num_layers": 2, "bidirectional": True, "proj_size": 2}, 2, 2, 2),
    )
    if kind is nn.LSTM or "proj_size" not in shape.kwargs
]
for_every_shape = pytest.mark.parametrize(
    "shape", SHAPES, ids=lambda shape: f"{shape.kind.__name__}-{'-'.join(shape.kwargs) or 'plain'}"
)


def _onednn(is_enabled):
    """With oneDNN or without; its TF32 is left alone, since setting that warns without a GPU."""
    return torch.backends.mkldnn.flags(enabled=is_enabled, allow_tf32=None)


def _forward(shape, steps=T * N, drops=True):
    """Multiply-accumulates and other arithmetic of all layers, by the definitions."""
    kind, kwargs, layers, directions, out = shape
    gates = GATES[kind]
    macs = 0
    for layer in range(layers):
        width = I if layer == 0 else directions * out
        matrices = gates * H * (width + out) + (out * H if "proj_size" in kwargs else 0)
        macs += steps * directions * matrices
    arithmetic = steps * shape.parts * H * (CELL[kind] + 2 * gates * shape.has_bias)
    return macs, arithmetic + 2 * steps * shape.dropped * drops


def _network(shape):
    """A network, its input and its first states, all of which take gradients."""
    kind, kwargs, _, _, out = shape
    x = torch.randn((N, T, I) if kwargs.get("batch_first") else (T, N, I), requires_grad=True)
    hx = torch.randn(shape.parts, N, out, requires_grad=True)
    cx = torch.randn(shape.parts, N, H, requires_grad=True)
    return kind(I, H, **kwargs), x, (hx, cx) if kind is nn.LSTM else hx


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("is_onednn", [True, False])
@for_every_shape
def test_forward_is_the_same_on_every_road_and_in_every_mode(shape, is_onednn, training, context):
    macs, arithmetic = _forward(shape, drops=training)
    with context(), _onednn(is_onednn):
        network, x, states = _network(shape)
        network.train(training)
        for m in (measure(network, x), measure(network, x, states)):
            assert (m.macs, m.flops, m.uncounted) == (macs, 2 * macs + arithmetic, ())


def test_research_values_hold():
    x = torch.randn(10, 4, 32)
    assert 2 * measure(nn.LSTM(32, 64), x).macs == 1_966_080
    assert 2 * measure(nn.LSTM(32, 64, num_layers=2, bidirectional=True), x).macs == 11_796_480
    assert 2 * measure(nn.GRU(32, 64), x).macs == 1_474_560
    assert 2 * measure(nn.LSTMCell(32, 64), x[0]).macs == 196_608


def test_relu_counts_as_the_tangent_does():
    relu = measure(nn.RNN(I, H, nonlinearity="relu"), torch.randn(T, N, I))
    assert relu.flops == 2 * T * N * H * (I + H) + T * N * H * (2 + 2)
    assert relu.uncounted == ()


@pytest.mark.parametrize("context", CONTEXTS)
def test_unbatched_sequence_is_a_batch_of_one(context):
    with context():
        m = measure(nn.LSTM(I, H), torch.randn(T, I))
    assert (m.macs, m.flops) == (T * 4 * H * (I + H), 2 * T * 4 * H * (I + H) + T * H * (13 + 8))
    assert m.uncounted == ()


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("is_bidirectional", [True, False])
def test_packed_sequences_count_their_real_steps(kind, is_bidirectional, context):
    lengths = [7, 4, 1]
    packed = pack_padded_sequence(torch.randn(T, N, I), lengths)
    shape = _Shape(kind, {"bidirectional": is_bidirectional}, 1, 1 + is_bidirectional)
    macs, arithmetic = _forward(shape, sum(lengths))
    with context():
        m = measure(kind(I, H, **shape.kwargs), packed)
    assert (m.macs, m.flops, m.uncounted) == (macs, 2 * macs + arithmetic, ())


def test_packed_lstm_has_the_research_value():
    packed = pack_padded_sequence(torch.randn(10, 4, 32), [10, 8, 5, 1])
    assert 2 * measure(nn.LSTM(32, 64, num_layers=2, bidirectional=True), packed).macs == 7_077_888


@pytest.mark.parametrize("is_onednn", [True, False])
@pytest.mark.parametrize("kind", GATES)
def test_fake_and_meta_tensors_count_the_same(kind, is_onednn):
    macs, arithmetic = _forward(_Shape(kind, {}))
    with _onednn(is_onednn):
        meta = measure(kind(I, H, device="meta"), torch.empty(T, N, I, device="meta"))
        with FakeTensorMode():
            fake = measure(kind(I, H), torch.empty(T, N, I))
    for m in (meta, fake):
        assert (m.macs, m.flops, m.uncounted) == (macs, 2 * macs + arithmetic, ())


def _backward(network, x, states, is_onednn):
    """The work of the backward alone, from gradients of everything that is returned."""
    with _onednn(is_onednn):
        out, last = network(x, states)
        results = [out, *(last if isinstance(last, tuple) else (last,))]
        leaves = [x, *(states if isinstance(states, tuple) else (states,)), *network.parameters()]
        grads = [torch.randn_like(result) for result in results]
        return measure(torch.autograd.grad, results, leaves, grads)


def _lstm_backward(steps, width):
    """A layer and direction with biases and all gradients, as one operator, by hand."""
    products = 2 * 2 * steps * 4 * H * (width + H)
    join, tangent_again, output_gate, through_tangent, cell = 1, 1, 1 + 3, 1 + 3, 1
    gates = 3 + 3 * 3 + 1  # di, df, dg and their derivatives; dc of the step before
    per_element = join + tangent_again + output_gate + through_tangent + cell + gates
    assert per_element == 24
    return products + steps * H * per_element + 4 * H * (steps - 1)


@needs_onednn
def test_onednn_backward_counts_its_definition():
    m = _backward(*_network(_Shape(nn.LSTM, {})), is_onednn=True)
    assert m.macs == 2 * T * N * 4 * H * (I + H)
    assert m.flops == _lstm_backward(T * N, I)
    assert m.by_operator["aten.mkldnn_rnn_layer_backward"].flops == m.flops
    assert m.uncounted == ()


@needs_onednn
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (1, 2), (3, 1), (2, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_onednn_backward_differs_from_the_steps_by_what_is_known(layers, directions, bias):
    kwargs = {"num_layers": layers, "bidirectional": directions == 2, "bias": bias}
    shape = _Shape(nn.LSTM, kwargs, layers, directions)
    network = _network(shape)
    fused, steps = (_backward(*network, is_onednn=is_onednn) for is_onednn in (True, False))
    assert fused.uncounted == steps.uncounted == ()
    assert fused.macs == steps.macs
    parts = shape.parts
    # Step by step the products of a weight are added up one by one, and each bias by itself;
    # the operator takes the tangent again, and its caller picks each first state from the
    # stack of them, whose gradients of full size are added up.
    weights = parts * (T - 1) * 4 * H * H
    second_bias = parts * (T * N - 1) * 4 * H * bias
    tangents = parts * T * N * H
    picked_states = 2 * (parts - 1) * parts * N * H
    assert steps.flops - fused.flops == weights + second_bias - tangents - picked_states


@needs_onednn
def test_gradients_that_nobody_asks_for_are_left_out_step_by_step_alone():
    lstm, x = nn.LSTM(I, H), torch.randn(T, N, I)
    forward = T * N * 4 * H * (I + H)
    with _onednn(True):
        assert measure(lstm, x, train=True).macs == 3 * forward
    with _onednn(False):
        m = measure(lstm, x, train=True)
    # No gradient of x, and none of the first state.
    assert m.macs == 3 * forward - T * N * 4 * H * I - N * 4 * H * H
    assert m.uncounted == ()


@for_every_shape
def test_training_costs_three_times_the_products_of_the_forward(shape):
    network, x, states = _network(shape)
    m = measure(network, x, states, train=True)
    assert m.macs == 3 * _forward(shape)[0]
    assert m.uncounted == ()


@pytest.mark.parametrize(
    ("cell", "gates", "arithmetic"),
    [(nn.LSTMCell, 4, 13 + 8), (nn.GRUCell, 3, 10 + 6), (nn.RNNCell, 1, 2 + 2)],
)
@pytest.mark.parametrize("context", CONTEXTS)
def test_cells_count_one_step(cell, gates, arithmetic, context):
    with context():
        m = measure(cell(I, H), torch.randn(N, I))
    macs = N * gates * H * (I + H)
    assert (m.macs, m.flops, m.uncounted) == (macs, 2 * macs + N * H * arithmetic, ())


def test_fused_cells_count_what_the_cell_does_after_its_products():
    lstm, gru = (
        measure(nn.LSTMCell(I, H), torch.randn(N, I)),
        measure(nn.GRUCell(I, H), torch.randn(N, I)),
    )
    for m, name, gates in ((lstm, "lstm", 4), (gru, "gru", 3)):
        fused = formula_for(f"aten::_thnn_fused_{name}_cell")
        gate, state, bias = (_meta(*s) for s in ((N, gates * H), (N, H), (gates * H,)))
        assert fused(gate, gate, state, bias, bias, out=None) == m.flops - 2 * m.macs
        without = fused(gate, gate, state, out=None)
        assert without == m.flops - 2 * m.macs - 2 * N * gates * H


def _meta(*shape):
    return torch.empty(shape, device="meta")


def test_backward_of_a_fused_lstm_cell_counts_what_arrives():
    backward = formula_for("aten::_thnn_fused_lstm_cell_backward_impl")
    state, work = _meta(N, H), _meta(N, 4 * H)
    both = backward(state, state, state, state, work, False, out=None)
    # An add less where only one gradient arrives, and no output gate without the first.
    assert both == N * H * 23
    assert backward(state, None, state, state, work, False, out=None) == both - N * H
    assert backward(None, state, state, state, work, False, out=None) == both - N * H * 10
    with_bias = backward(state, state, state, state, work, True, out=None)
    assert with_bias == both + (N - 1) * 4 * H


@pytest.mark.parametrize(("cell", "again", "biases"), [(nn.LSTMCell, 1, 1), (nn.GRUCell, 1, 2)])
def test_backward_of_fused_cells_takes_one_function_again(cell, again, biases):
    layer, x = cell(I, H), torch.randn(N, I, requires_grad=True)
    hx, cx = (torch.randn(N, H, requires_grad=True) for _ in range(2))
    if cell is nn.LSTMCell:
        out, leaves = layer(x, (hx, cx)), [x, hx, cx]
        backward = formula_for("aten::_thnn_fused_lstm_cell_backward_impl")
        fused = backward(hx, cx, cx, cx, _meta(N, 4 * H), True, out=None)
    else:
        out, leaves = [layer(x, hx)], [x, hx]
        fused = formula_for("aten::_thnn_fused_gru_cell_backward")(
            hx, _meta(N, 5 * H), True, out=None
        )
        fused += N * H  # both gradients of the old state, which autograd adds
    grads = [torch.randn_like(result) for result in out]
    m = measure(torch.autograd.grad, out, [*leaves, *layer.parameters()], grads)
    gates = 4 if cell is nn.LSTMCell else 3
    own = m.flops - 2 * m.macs - (2 - biases) * (N - 1) * gates * H
    assert fused - own == again * N * H


def _flat(network):
    """The weights as cuDNN gets them: a list, all of one layer and direction together."""
    return [weight.detach().to("meta") for weight in network.parameters()]


def _mode(network):
    return MODES[network.nonlinearity if isinstance(network, nn.RNN) else type(network)]


def _cudnn(network, x, batch_sizes=(), grads=None):
    """The formula's answer to cuDNN's forward, or with grads to its backward."""
    states = _meta(1, N, H)
    weights = _flat(network)
    shared = (
        _mode(network),
        H,
        network.proj_size,
        network.num_layers,
        network.batch_first,
        network.dropout,
        network.training,
        network.bidirectional,
        batch_sizes,
        None,
    )
    name, head, tail = "_cudnn_rnn", (x, weights, 4, None, states, states), ()
    if grads is not None:
        name += "_backward"
        head, tail = (*head, x, x, states, states), (_meta(0), grads)
    return formula_for(f"aten::{name}")(*head, *shared, *tail, out=None)


@for_every_shape
def test_cudnn_counts_what_the_steps_do(shape):
    network, x, _ = _network(shape)
    work = _cudnn(network, x)
    m = measure(network, x)
    assert (work.macs, 2 * work.macs + work.arithmetic) == (m.macs, m.flops)
    assert _cudnn(network.eval(), x).arithmetic == _forward(shape, T * N, drops=False)[1]


def test_cudnn_counts_the_real_steps_of_packed_sequences():
    packed = pack_padded_sequence(torch.randn(T, N, I), [7, 4, 1])
    network = nn.LSTM(I, H)
    m = measure(network, packed)
    work = _cudnn(network, packed.data, packed.batch_sizes.tolist())
    assert (work.macs, 2 * work.macs + work.arithmetic) == (m.macs, m.flops)


@for_every_shape
def test_cudnn_backward_differs_from_the_steps_by_what_is_known(shape):
    network, x, states = _network(shape)
    work = _cudnn(network, x, grads=[True] * 4)
    steps = _backward(network, x, states, is_onednn=False)
    assert work.macs == steps.macs
    kind, kwargs, _, _, out = shape
    parts, gates, bias = shape.parts, GATES[kind], shape.has_bias
    # The same as for oneDNN; the biases of a GRU have gradients of their own on both roads,
    # and what a GRU and an LSTM take again is one operation an element.
    recurrent = gates * H * out + ((out * H) if "proj_size" in kwargs else 0)
    weights = parts * (T - 1) * recurrent
    second_bias = parts * (T * N - 1) * gates * H * bias * (kind is not nn.GRU)
    again = parts * T * N * H * (kind is not nn.RNN)
    difference = steps.flops - 2 * work.macs - work.arithmetic
    # Dropout is drawn and divided in the forward, so its backward multiplies once here.
    assert difference == weights + second_bias - again - T * N * shape.dropped


def test_cudnn_leaves_out_the_gradients_of_the_weights_when_told():
    network, x, _ = _network(_Shape(nn.GRU, {}))
    everything = _cudnn(network, x, grads=[True] * 4)
    states_alone = _cudnn(network, x, grads=[True, True, True, False])
    assert everything.macs == 2 * states_alone.macs
    assert everything.arithmetic - states_alone.arithmetic == 6 * H * (T * N - 1)


def test_relu_costs_less_than_the_tangent_in_the_backward():
    relu, tangent = (nn.RNN(I, H, nonlinearity=name) for name in ("relu", "tanh"))
    x = torch.randn(T, N, I)
    less = _cudnn(tangent, x, grads=[True] * 4).arithmetic
    less -= _cudnn(relu, x, grads=[True] * 4).arithmetic
    assert less == 2 * T * N * H


@pytest.mark.parametrize("kind", GATES)
def test_miopen_counts_as_cudnn_does(kind):
    network, x, _ = _network(_Shape(kind, {"num_layers": 2, "dropout": 0.5}, 2))
    state, weights = _meta(2, N, H), _flat(network)
    shared = (_mode(network), H, 2, False, 0.5, True, False, [], None)
    head = (x, weights, 4)
    forward = formula_for("aten::miopen_rnn")(*head, state, state, *shared, out=None)
    assert forward == _cudnn(network, x)
    before = (_meta(0), state, state, x, x, state, state)
    backward = formula_for("aten::miopen_rnn_backward")(
        *head, *before, *shared, _meta(0), [True] * 4, out=None
    )
    assert backward == _cudnn(network, x, grads=[True] * 4)


def test_lstm_on_apple_counts_as_cudnn_does():
    network, x, _ = _network(_Shape(nn.LSTM, {"num_layers": 2, "bidirectional": True}, 2, 2))
    state, weights = _meta(4, N, H), _flat(network)
    rest = ([state, state], weights, True, 2, 0.0, True, True, False)
    forward = formula_for("aten::_lstm_mps")(x, *rest, out=None)
    assert forward == _cudnn(network, x)
    backward = formula_for("aten::lstm_mps_backward")(
        x, state, state, state, state, x, x, *rest, out=None
    )
    assert backward == _cudnn(network, x, grads=[True] * 4)
    assert isinstance(backward, Work)


def test_moving_weights_together_is_no_arithmetic():
    assert is_free("aten::_cudnn_rnn_flatten_weight")
    assert is_free("mkldnn::_reorder_mkldnn_rnn_layer_weight")


@pytest.mark.parametrize(
    "name",
    ["_cudnn_rnn", "_cudnn_rnn_backward", "miopen_rnn", "miopen_rnn_backward", "_lstm_mps"],
)
def test_formulas_take_as_many_arguments_as_the_operator_gives(name):
    # A guard for the tests above, which call the formulas by hand.
    arguments = getattr(torch.ops.aten, name).default._schema.arguments
    expected = {
        "_cudnn_rnn": 16,
        "_cudnn_rnn_backward": 22,
        "miopen_rnn": 14,
        "miopen_rnn_backward": 21,
        "_lstm_mps": 9,
    }
    assert len(arguments) == expected[name]
