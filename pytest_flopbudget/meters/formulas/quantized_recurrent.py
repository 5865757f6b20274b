"""Recurrent layers with packed weights, quantised as they run or of half precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from pytest_flopbudget.meters.formulas.quantizing import dynamic
from pytest_flopbudget.meters.formulas.registry import Formula, Work, formula
from pytest_flopbudget.meters.packed import is_quantised

_AFTER_PRODUCTS: Final = {4: 13, 3: 10, 1: 2}
"""FLOPs of one element of the state after its products, by gates: LSTM, GRU and RNN.

An LSTM adds its products (4) and takes three sigmoids, two hyperbolic tangents, three
multiplies and an add (9). A GRU adds those of two gates (2), takes a multiply and an add for
the third, two sigmoids and a tangent (5), and n + z * (h - n) (3). An RNN adds and takes
its activation.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """One direction of one layer, over all its steps."""

    gates: int
    inputs: int
    hidden: int
    rows: int
    """Sequences times steps."""
    steps: int
    """How often the state is quantised, each time by its own range."""
    is_quantised: bool

    def work(self) -> Work:
        """What both products, their biases and the cell cost."""
        gates = self.gates * self.hidden
        macs = self.rows * gates * (self.inputs + self.hidden)
        # Both products have a bias of their own, which is added to each.
        arithmetic = self.rows * (2 * gates + _AFTER_PRODUCTS[self.gates] * self.hidden)
        if not self.is_quantised:
            return Work(macs=macs, arithmetic=arithmetic)
        arithmetic += dynamic(self.rows * self.inputs)
        arithmetic += dynamic(self.rows * self.hidden, self.steps)
        arithmetic += self.rows * 2 * gates
        return Work(int_ops=2 * macs, arithmetic=arithmetic)


def _network(gates: int) -> Formula:
    def rule(x: Tensor, *args: Any, out: Any, **_: Any) -> Work:
        """Operations of a recurrent network with packed weights.

        x: [t, n, i], or [rows, i] packed by length; weights: [gates*h, i], [gates*h, h]
        and biases, packed, for each layer and direction -> out: [t, n, directions * h]
        Counts, for each row, layer and direction, gates*h*(i + h) multiply-accumulates, the
        adds of two biases (2*gates*h), and for each element of the state 13 (LSTM) or 10
        (GRU). Quantised, the multiply-accumulates are integer ones, and there are more in
        floating point: a multiply by the scales for each product (2*gates*h a row), 7e + 7
        for the e elements of a layer's input, as much for the state at each step. With
        dropout in training two multiplies for each element between layers.
        Source: the definitions of torch.nn.LSTM and GRU, and ATen's order of quantising.
        """
        is_by_length = isinstance(args[1], Tensor) or not _is_packages(args[1])
        batch_sizes, states, packages, *rest = args if is_by_length else (None, *args)
        _has_biases, layers, dropout, train, bidirectional, *batch_first = rest
        hidden = (states if isinstance(states, Tensor) else states[0]).shape[-1]
        directions = 1 + bidirectional
        rows = x.numel() // x.shape[-1] if x.shape[-1] else 0
        if batch_sizes is not None:
            steps = batch_sizes.numel()
        else:
            steps = x.shape[1 if batch_first and batch_first[0] else 0]
        is_integer = is_quantised(packages[0])
        work = Work()
        for layer in range(layers):
            one = _Layer(
                gates=gates,
                inputs=directions * hidden if layer else x.shape[-1],
                hidden=hidden,
                rows=rows,
                steps=steps,
                is_quantised=is_integer,
            ).work()
            for _direction in range(directions):
                work += one
        if train and dropout:
            work += Work(arithmetic=2 * (layers - 1) * rows * directions * hidden)
        return work

    return rule


def _is_packages(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and isinstance(value[0], torch.ScriptObject)
    )


formula("quantized_lstm")(_network(4))
formula("quantized_gru")(_network(3))


def _cell(gates: int) -> Formula:
    def rule(x: Tensor, states: Any, packed: Any, *_args: Any, out: Any) -> Work:
        """Operations of one step of a recurrent cell with packed weights.

        x: [n, i], state: [n, h], weights: [gates*h, i] and [gates*h, h], packed -> out: [n, h]
        Counts, for each row, gates*h*(i + h) multiply-accumulates, the adds of two biases
        (2*gates*h), and for each element of the state 13 (LSTM), 10 (GRU) or 2
        (RNN). Quantised, the multiply-accumulates are integer ones, and there are more in
        floating point: a multiply by the scales for each product (2*gates*h a row), and
        7e + 7 for the e elements of x, as much for the state.
        Source: the definitions of torch.nn.LSTMCell, GRUCell and RNNCell.
        """
        state = states if isinstance(states, Tensor) else states[0]
        is_integer = is_quantised(packed) if isinstance(packed, torch.ScriptObject) else True
        return _Layer(
            gates=gates,
            inputs=x.shape[-1],
            hidden=state.shape[-1],
            rows=x.numel() // x.shape[-1],
            steps=1,
            is_quantised=is_integer,
        ).work()

    return rule


# The older form gives its integer weights as tensors. It is seen under inference_mode alone.
formula("quantized::quantized_lstm_cell_dynamic", "quantized_lstm_cell")(_cell(4))
formula("quantized::quantized_gru_cell_dynamic", "quantized_gru_cell")(_cell(3))
formula(
    "quantized::quantized_rnn_relu_cell_dynamic",
    "quantized::quantized_rnn_tanh_cell_dynamic",
    "quantized_rnn_relu_cell",
    "quantized_rnn_tanh_cell",
)(_cell(1))
