"""Recurrent layers and whole networks that run as one operator, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.cells import BY_MODE, LSTM, Cell
from pytest_flopbudget.meters.formulas.registry import Work, formula


@formula("mkldnn_rnn_layer")
def onednn_layer(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    _bias_ih: Tensor,
    _bias_hh: Tensor,
    _hx: Tensor,
    _cx: Tensor,
    _reverse: bool,
    _batch_sizes: Any,
    mode: int,
    hidden_size: int,
    _num_layers: int,
    has_biases: bool,
    *_rest: Any,
    out: Any,
) -> Work:
    """FLOPs of one direction of one LSTM layer, as oneDNN runs it.

    x: [t, n, i], weight_ih: [4h, i], weight_hh: [4h, h] -> out: [t, n, h]
    Counts, for each of the t*n steps, 4h*(i + h) multiply-accumulates; the add of
    both products (4h) and of both biases (8h); three sigmoids, two hyperbolic
    tangents, three multiplies and an add (9h): what the layer counts step by step too.
    Source: the definition in the documentation of torch.nn.LSTM.
    """
    cell, steps = BY_MODE[mode], x.size(0) * x.size(1)
    return Work(
        steps * (weight_ih.numel() + weight_hh.numel()),
        steps * hidden_size * (cell.forward + 2 * cell.gates * has_biases),
    )


@formula("mkldnn_rnn_layer_backward")
def onednn_layer_backward(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    _bias_ih: Tensor,
    _bias_hh: Tensor,
    _hx: Tensor,
    _cx: Tensor,
    _output: Tensor,
    _hy: Tensor,
    _cy: Tensor,
    _grad_output: Tensor | None,
    _grad_hy: Tensor | None,
    _grad_cy: Tensor | None,
    _reverse: bool,
    mode: int,
    hidden_size: int,
    _num_layers: int,
    has_biases: bool,
    *_rest: Any,
    out: Any,
) -> Work:
    """FLOPs of the backward of one direction of one LSTM layer, as oneDNN runs it.

    x: [t, n, i], weight_ih: [4h, i], weight_hh: [4h, h] -> gradients of x, of the
    weights and biases, and of the first state, all of them always
    Counts the products of the forward twice, for x with the state and for the weights:
    2*t*n*4h*(i + h) multiply-accumulates. For each element of the state and step 24: the
    add of both gradients that arrive, tanh(c) again, and the derivative of the gates and
    of the cell (22). Both biases share one sum over the steps: 4h*(t*n - 1).
    Source: the derivative of the definition in the documentation of torch.nn.LSTM;
    oneDNN's reference kernel takes these steps. A gradient that is not given is added as
    zeros, and none that nobody asked for is left out.
    """
    cell, steps = BY_MODE[mode], x.shape[0] * x.shape[1]
    arithmetic = steps * hidden_size * (cell.backward + cell.arrivals)
    if has_biases:
        arithmetic += cell.bias_gradients * hidden_size * (steps - 1)
    return Work(macs=2 * steps * (weight_ih.numel() + weight_hh.numel()), arithmetic=arithmetic)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    """All layers and directions of a recurrent network that is one operator."""

    cell: Cell
    steps: int
    """Steps of all sequences together; those of a packed sequence are real ones alone."""
    inputs: int
    hidden: int
    outputs: int
    """Features of one direction's result: those of the projection, or `hidden`."""
    layers: int
    directions: int
    weights: list[Tensor]
    drops: bool
    """Whether there is dropout between the layers."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward: each matrix is used once in each step."""
        return self.steps * sum(weight.numel() for weight in self.weights if weight.dim() > 1)

    @property
    def has_biases(self) -> bool:
        return any(weight.dim() == 1 for weight in self.weights)

    @property
    def _units(self) -> int:
        return self.layers * self.directions * self.hidden

    @property
    def _dropout(self) -> int:
        """Two multiplies for each element between two layers, as dropout counts alone."""
        dropped = self.steps * self.directions * self.outputs * (self.layers - 1)
        return 2 * dropped if self.drops else 0

    def forward(self) -> Work:
        per_unit = self.cell.forward + 2 * self.cell.gates * self.has_biases
        return Work(macs=self.macs, arithmetic=self.steps * self._units * per_unit + self._dropout)

    def backward(self, needs_weights: bool) -> Work:
        arithmetic = self.steps * self._units * self.cell.backward + self._dropout
        outputs = self.steps * self.directions * self.outputs
        arithmetic += self.layers * outputs * self.cell.arrivals
        if self.directions > 1:
            # What both directions read has the sum of their gradients.
            arithmetic += self.steps * self.inputs + (self.layers - 1) * outputs
        if needs_weights and self.has_biases:
            arithmetic += self._units * self.cell.bias_gradients * (self.steps - 1)
        return Work(macs=self.macs * (2 if needs_weights else 1), arithmetic=arithmetic)


def _steps(x: Tensor, batch_sizes: Any) -> int:
    """x: [t, n, i] or [n, t, i], or [steps, i] with the batch size of each moment."""
    return sum(batch_sizes) if batch_sizes else x.shape[0] * x.shape[1]


@formula("_cudnn_rnn")
def cudnn(
    x: Tensor,
    weights: list[Tensor],
    _weight_stride: int,
    _weight_buffer: Tensor | None,
    _hx: Tensor,
    _cx: Tensor | None,
    mode: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    _batch_first: bool,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_sizes: Any,
    *_rest: Any,
    out: Any,
) -> Work:
    """FLOPs of a whole recurrent network in one operator.

    x: [t, n, i], or [steps, i] packed; weights: [gates*h, i], [gates*h, h] and biases, for
    each layer and direction -> out: [t, n, directions * h]
    Counts, for each step, the elements of every weight matrix as multiply-accumulates,
    and for each element of a state 13 (LSTM), 10 (GRU) or 2 (RNN), and two adds of biases
    a gate; two multiplies for each element that dropout between layers sees. The same
    number as the network counts step by step.
    Source: the definitions in the documentation of torch.nn.LSTM, GRU and RNN.
    """
    return _Stack(
        cell=BY_MODE[mode],
        steps=_steps(x, batch_sizes),
        inputs=x.shape[-1],
        hidden=hidden_size,
        outputs=proj_size or hidden_size,
        layers=num_layers,
        directions=1 + bidirectional,
        weights=weights,
        drops=train and dropout > 0,
    ).forward()


@formula("miopen_rnn")
def miopen(
    x: Tensor,
    weights: list[Tensor],
    weight_stride: int,
    hx: Tensor,
    cx: Tensor | None,
    mode: int,
    hidden_size: int,
    *rest: Any,
    out: Any,
) -> Work:
    """FLOPs of a whole recurrent network in one operator; see `cudnn`."""
    return cudnn(x, weights, weight_stride, None, hx, cx, mode, hidden_size, 0, *rest, out=out)


@formula("_cudnn_rnn_backward")
def cudnn_backward(
    x: Tensor,
    weights: list[Tensor],
    _weight_stride: int,
    _weight_buffer: Tensor,
    _hx: Tensor,
    _cx: Tensor | None,
    _output: Tensor,
    _grad_output: Tensor | None,
    _grad_hy: Tensor | None,
    _grad_cy: Tensor | None,
    mode: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    _batch_first: bool,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_sizes: Any,
    _dropout_state: Tensor | None,
    _reserve: Tensor,
    output_mask: list[bool],
    *,
    out: Any,
) -> Work:
    """FLOPs of the backward of a whole recurrent network in one operator.

    x: [t, n, i], or [steps, i] packed; weights as in the forward -> gradients of x, of the
    first state, and of the weights if the last of output_mask is set
    Counts the products of the forward once for x and the states, and once more for the
    weights. For each element of a state and step 23 (LSTM), 16 (GRU), 3 (RNN, tanh) or 1
    (RNN, ReLU), and the adds of what arrives at the output of each layer: 1, or 2 (GRU);
    the adds of both directions' gradients, the dropout again, and for the biases a sum
    over the steps, in a GRU one for each of both.
    Source: the derivative of the definitions in the documentation of torch.nn.LSTM, GRU
    and RNN. The gradients of x and of the states are computed together, asked for or not.
    """
    return _Stack(
        cell=BY_MODE[mode],
        steps=_steps(x, batch_sizes),
        inputs=x.shape[-1],
        hidden=hidden_size,
        outputs=proj_size or hidden_size,
        layers=num_layers,
        directions=1 + bidirectional,
        weights=weights,
        drops=train and dropout > 0,
    ).backward(output_mask[3])


@formula("miopen_rnn_backward")
def miopen_backward(
    x: Tensor, weights: list[Tensor], weight_stride: int, *rest: Any, out: Any
) -> Work:
    """FLOPs of the backward of a whole recurrent network; see `cudnn_backward`."""
    after_hidden_size = 9
    before, after = rest[:after_hidden_size], rest[after_hidden_size:]
    no_projection = 0
    arguments = (x, weights, weight_stride, *before, no_projection, *after)
    return cudnn_backward(*arguments, out=out)


@formula("_lstm_mps")
def mps(
    x: Tensor,
    hx: list[Tensor],
    weights: list[Tensor],
    _has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    _batch_first: bool,
    *,
    out: Any,
) -> Work:
    """FLOPs of a whole LSTM in one operator; see `cudnn`."""
    return _mps(x, hx, weights, num_layers, dropout, train, bidirectional).forward()


@formula("lstm_mps_backward")
def mps_backward(
    _grad_y: Tensor | None,
    _grad_hy: Tensor | None,
    _grad_cy: Tensor | None,
    _z_state: Tensor,
    _cell_states: Tensor,
    x: Tensor,
    _outputs: Tensor,
    hx: list[Tensor],
    weights: list[Tensor],
    _has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    _batch_first: bool,
    *,
    out: Any,
) -> Work:
    """FLOPs of the backward of a whole LSTM in one operator; see `cudnn_backward`."""
    return _mps(x, hx, weights, num_layers, dropout, train, bidirectional).backward(True)


def _mps(
    x: Tensor,
    hx: list[Tensor],
    weights: list[Tensor],
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> _Stack:
    hidden = hx[0].shape[-1]
    return _Stack(
        cell=LSTM,
        steps=_steps(x, None),
        inputs=x.shape[-1],
        hidden=hidden,
        outputs=hidden,
        layers=layers,
        directions=1 + bidirectional,
        weights=weights,
        drops=train and dropout > 0,
    )
