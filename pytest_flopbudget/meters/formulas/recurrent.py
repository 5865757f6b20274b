"""Recurrent layers that run as one operator."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Work, formula


@formula("mkldnn_rnn_layer")
def lstm_layer(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    _bias_ih: Tensor,
    _bias_hh: Tensor,
    _hx: Tensor,
    _cx: Tensor,
    _reverse: bool,
    _batch_sizes: Any,
    _mode: int,
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
    tangents, three multiplies and an add (9h).
    Source: the definition in the documentation of torch.nn.LSTM.
    """
    steps = x.shape[0] * x.shape[1]
    return Work(
        macs=steps * (weight_ih.numel() + weight_hh.numel()),
        arithmetic=steps * hidden_size * (4 + 9 + (8 if has_biases else 0)),
    )
