"""Recurrent cells: what a step does after its products, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one element of the state costs in one step, products and biases apart."""

    gates: int
    forward: int
    backward: int
    """From the gradient of the new state to those of the gates and of the old state."""
    arrivals: int
    """Adds that join the gradients which arrive at one element of a layer's output."""
    bias_gradients: int
    """Sums over all steps that the gradients of the biases take, in gates."""


LSTM: Final = Cell(gates=4, forward=13, backward=23, arrivals=1, bias_gradients=4)
"""i, f, o = sigmoid(a), g = tanh(a), c' = f*c + i*g, h' = o*tanh(c').

Forward: the adds of both products (4), three sigmoids, two hyperbolic tangents, three
multiplies and an add. Backward: tanh(c') again (1); do and dtanh (2), through the tangent
(3) and the add of the next step's dc (1); di, dg, df, dc (4); through three sigmoids and a
tangent (12). Both biases have the same gradient, which is summed once.
"""
GRU: Final = Cell(gates=3, forward=10, backward=16, arrivals=2, bias_gradients=6)
"""r, z = sigmoid(a), n = tanh(a_i + r*a_h), h' = n + z*(h - n).

Forward: the adds of both products for r and z (2), a multiply and an add for n, two
sigmoids, a tangent, and a subtraction, a multiply and an add. Backward: dz takes h - n
again and a multiply (2), dn takes 1 - z and a multiply (2), dh a multiply (1); through the
tangent (3), times r and times a_h (2), through two sigmoids (6). The state's gradient comes
from z and from the product, which is the second arrival.
"""
RNN_TANH: Final = Cell(gates=1, forward=2, backward=3, arrivals=1, bias_gradients=1)
"""h' = tanh(a_i + a_h): an add and a tangent; its derivative takes 3."""
RNN_RELU: Final = Cell(gates=1, forward=2, backward=1, arrivals=1, bias_gradients=1)
"""h' = relu(a_i + a_h): an add and a comparison; its derivative takes 1."""

BY_MODE: Final = (RNN_RELU, RNN_TANH, LSTM, GRU)
"""In the order in which oneDNN, cuDNN and MIOpen number them."""


def _biases(*biases: Tensor | None, rows: int) -> int:
    """One add for each element of each bias that is there, in every row."""
    return sum(rows * bias.numel() for bias in biases if bias is not None)


@formula("_thnn_fused_lstm_cell")
def lstm_cell(
    _input_gates: Tensor,
    _hidden_gates: Tensor,
    cx: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
    *,
    out: Any,
) -> int:
    """FLOPs of an LSTM cell after its two products.

    input_gates, hidden_gates: [n, 4h], cx: [n, h], biases: [4h] or None -> out: [n, h]
    Counts 13*n*h: the adds of both gates (4), three sigmoids, two hyperbolic tangents,
    three multiplies and an add; and 4*n*h adds for each bias.
    Source: the definition in the documentation of torch.nn.LSTMCell.
    """
    return LSTM.forward * cx.numel() + _biases(input_bias, hidden_bias, rows=cx.shape[0])


@formula("_thnn_fused_lstm_cell_backward_impl")
def lstm_cell_backward(
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    cx: Tensor,
    _cy: Tensor,
    _workspace: Tensor,
    has_bias: bool,
    *,
    out: Any,
) -> int:
    """FLOPs of the backward of an LSTM cell after its two products.

    grad_hy, grad_cy, cx: [n, h] -> gradients of the gates [n, 4h], of cx and of the biases
    Counts, for each element: four multiplies (di, dg, df, dc) and the derivatives of i, f
    and g (9); from grad_hy tanh(c) again, do and its derivative (4), and dc through o and
    the tangent (4); an add where both gradients are there: 23. Both biases share one sum
    over the rows: 4h*(n - 1).
    Source: the derivative of the definition in the documentation of torch.nn.LSTMCell.
    """
    per_element = 13 + 9 * (grad_hy is not None)
    if grad_hy is not None and grad_cy is not None:
        per_element = LSTM.backward
    flops = per_element * cx.numel()
    if has_bias:
        flops += LSTM.bias_gradients * (cx.numel() - cx.shape[1])
    return flops


@formula("_thnn_fused_gru_cell")
def gru_cell(
    _input_gates: Tensor,
    _hidden_gates: Tensor,
    hx: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
    *,
    out: Any,
) -> int:
    """FLOPs of a GRU cell after its two products.

    input_gates, hidden_gates: [n, 3h], hx: [n, h], biases: [3h] or None -> out: [n, h]
    Counts 10*n*h: the adds of both gates of r and z (2), a multiply and an add for n, two
    sigmoids, a hyperbolic tangent, and n + z*(h - n) (3); and 3*n*h adds for each bias.
    Source: the definition in the documentation of torch.nn.GRUCell.
    """
    return GRU.forward * hx.numel() + _biases(input_bias, hidden_bias, rows=hx.shape[0])


@formula("_thnn_fused_gru_cell_backward")
def gru_cell_backward(grad_hy: Tensor, _workspace: Tensor, has_bias: bool, *, out: Any) -> int:
    """FLOPs of the backward of a GRU cell after its two products.

    grad_hy: [n, h] -> gradients of both gates [n, 3h], of hx and of both biases [3h]
    Counts, for each element, 16: dz takes h - n and a multiply (2), dn 1 - z and a
    multiply (2), dh a multiply (1); through the tangent (3), times r and times the hidden
    gate (2), through two sigmoids (6). Each bias takes a sum over the rows: 6h*(n - 1).
    Source: the derivative of the definition in the documentation of torch.nn.GRUCell.
    """
    flops = GRU.backward * grad_hy.numel()
    if has_bias:
        flops += GRU.bias_gradients * (grad_hy.numel() - grad_hy.shape[1])
    return flops
