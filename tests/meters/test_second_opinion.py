"""Other counters beside ours: what they say, and that each difference has its cause."""

from __future__ import annotations

import sys
from threading import Thread

import pytest
import torch
from torch import nn
from torch.nn import functional

from pytest_flopbudget import measure
from pytest_flopbudget.core.measurement import (
    Counts,
    Measurement,
    ModuleSpending,
    OperatorSpending,
    Uncounted,
)
from pytest_flopbudget.meters.second_opinion import cross_check


def _asked(fn, *args, train=False):
    if isinstance(fn, nn.Module):
        fn.train(train)
    with torch.set_grad_enabled(train):
        measurement = measure(fn, *args, train=train)
    by_torch, by_fvcore = cross_check(fn, args, measurement, train=train)
    assert by_torch.ours == by_fvcore.ours == 2 * measurement.macs
    return by_torch, by_fvcore


def _parts(opinion):
    return {part.operator: part.flops for part in opinion.differences}


class Attention(nn.Module):
    def forward(self, q):
        return functional.scaled_dot_product_attention(q, q, q)


def test_linear_layer_is_the_same_number_in_their_two_conventions():
    flops = 2 * 3 * 5 * 7
    by_torch, by_fvcore = _asked(nn.Linear(5, 7), torch.randn(3, 5))
    assert (by_torch.total, by_torch.per_mac, by_torch.flops) == (flops, 2, flops)
    # fvcore counts a multiply-add once.
    assert (by_fvcore.total, by_fvcore.per_mac, by_fvcore.flops) == (flops // 2, 1, flops)
    for opinion in (by_torch, by_fvcore):
        assert opinion.ratio == 1
        assert opinion.differences == ()
        assert opinion.unexplained == 0


def test_fused_attention_is_what_both_leave_out():
    # Two products of [b*h, s, d] by [b*h, d, s] and back.
    flops = 2 * 2 * (2 * 3) * 11 * 11 * 8
    name = "aten._scaled_dot_product_flash_attention_for_cpu"
    by_torch, by_fvcore = _asked(Attention(), torch.randn(2, 3, 11, 8))
    for opinion in (by_torch, by_fvcore):
        assert opinion.total == 0
        assert _parts(opinion) == {name: -flops}
        assert opinion.unexplained == 0
    assert "no formula" in by_torch.differences[0].reason
    assert "aten.scaled_dot_product_attention" in by_fvcore.differences[0].reason


def test_recurrent_layer_is_what_both_leave_out():
    steps, batch, width, hidden = 3, 2, 5, 7
    flops = 2 * steps * batch * 4 * hidden * (width + hidden)
    by_torch, by_fvcore = _asked(nn.LSTM(width, hidden), torch.randn(steps, batch, width))
    assert _parts(by_torch) == _parts(by_fvcore) == {"aten.mkldnn_rnn_layer": -flops}
    assert by_torch.unexplained == by_fvcore.unexplained == 0
    assert "aten.lstm" in by_fvcore.differences[0].reason


@pytest.mark.parametrize("make", [nn.Conv2d, nn.ConvTranspose2d])
def test_weight_gradient_of_groups_is_counted_once_too_often_for_each_further_group(make):
    x = torch.randn(2, 4, 9, 9, requires_grad=True)
    groups = 2
    # A convolution places its 3 x 3 kernel on 7 x 7 outputs, a transposed one on 9 x 9 inputs.
    positions = 7 * 7 if make is nn.Conv2d else 9 * 9
    one = 2 * 2 * 4 * 6 * 9 * positions // groups
    by_torch, by_fvcore = _asked(make(4, 6, 3, groups=groups), x, train=True)
    assert by_torch.ours == 3 * one
    assert by_torch.total == (1 + 1 + groups) * one
    assert _parts(by_torch) == {"aten.convolution_backward": (groups - 1) * one}
    assert by_torch.unexplained == 0
    assert _parts(by_fvcore) == {"backward pass": -2 * one}
    assert by_fvcore.unexplained == 0


def test_norm_is_no_multiply_add_though_fvcore_adds_it():
    model = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7))
    by_torch, by_fvcore = _asked(model, torch.randn(3, 5))
    assert by_torch.differences == ()
    # fvcore takes 5 for each element of an affine norm.
    assert _parts(by_fvcore) == {"layer_norm": 2 * 5 * 3 * 7}
    assert by_fvcore.unexplained == 0


def test_fused_encoder_layer_is_named_as_what_they_do_not_look_into():
    b, s, e, ff = 2, 5, 8, 16
    attention = 2 * b * s * (4 * e * e) + 2 * 2 * b * s * s * e
    feed_forward = 2 * 2 * b * s * e * ff
    layer = nn.TransformerEncoderLayer(e, 2, ff, batch_first=True)
    by_torch, by_fvcore = _asked(layer, torch.randn(b, s, e))
    assert by_torch.total == 0
    assert sum(_parts(by_torch).values()) == -(attention + feed_forward)
    for part in by_torch.differences:
        assert "inside aten._transformer_encoder_layer_fwd" in part.reason
    # Traced, the layer calls its parts, of which only attention is fused.
    assert _parts(by_fvcore) == {
        "matrix products": -attention,
        "layer_norm": 2 * 2 * 5 * b * s * e,
    }
    assert "aten._native_multi_head_attention" in by_fvcore.differences[0].reason
    assert by_torch.unexplained == by_fvcore.unexplained == 0


def test_complex_product_is_counted_as_a_real_one():
    a, b = torch.randn(3, 4, dtype=torch.complex64), torch.randn(4, 5, dtype=torch.complex64)
    by_torch, _ = _asked(torch.mm, a, b)
    assert by_torch.total == 2 * 3 * 4 * 5
    assert _parts(by_torch) == {"aten.mm": -3 * 2 * 3 * 4 * 5}
    assert by_torch.unexplained == 0


def test_sparse_operand_is_counted_as_a_dense_one():
    sparse = torch.eye(8).to_sparse()
    # One of the eight numbers of each row is there.
    counts = Counts(flops=2 * 8 * 5, macs=8 * 5)
    row = OperatorSpending(operator="aten.mm", calls=1, counts=counts)
    module = ModuleSpending(path="", type="", calls=0, operators=(row,))
    measurement = Measurement(values={}, modules=(module,))
    by_torch, _ = cross_check(torch.mm, (sparse, torch.randn(8, 5)), measurement)
    assert by_torch.total == 2 * 8 * 8 * 5
    assert _parts(by_torch) == {"aten.mm": 2 * 8 * 7 * 5}
    assert "dense" in by_torch.differences[0].reason


def test_what_we_report_as_uncounted_is_named_as_ours_to_count():
    uncounted = Uncounted(operator="aten.mm.default", calls=1, shapes=())
    measurement = Measurement(values={}, uncounted=(uncounted,))
    x = torch.randn(3, 3)
    by_torch, _ = cross_check(torch.mm, (x, x), measurement)
    assert by_torch.ratio is None
    assert _parts(by_torch) == {"aten.mm": 2 * 27}
    assert "uncounted" in by_torch.differences[0].reason


def test_call_in_a_thread_is_one_that_torch_does_not_see():
    def in_a_thread(x):
        thread = Thread(target=torch.mm, args=(x, x))
        thread.start()
        thread.join()
        return x @ x

    by_torch, _ = _asked(in_a_thread, torch.randn(3, 3))
    assert _parts(by_torch) == {"aten.mm": -2 * 27}
    assert by_torch.differences[0].reason == "it saw 1 of 2 calls"


def test_difference_without_a_known_cause_stays_unexplained():
    calls = []

    def one_more_each_time(x):
        calls.append(1)
        for _ in calls:
            x = x @ x
        return x

    by_torch, _ = _asked(one_more_each_time, torch.randn(3, 3))
    assert by_torch.total - by_torch.ours == by_torch.unexplained == 2 * 27
    assert by_torch.differences == ()


def test_missing_fvcore_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    by_torch, by_fvcore = _asked(nn.Linear(5, 7), torch.randn(3, 5))
    assert by_torch.ratio == 1
    assert (by_fvcore.total, by_fvcore.failure) == (None, "is not installed: pip install fvcore")


def test_plain_function_is_not_for_fvcore():
    _, by_fvcore = _asked(torch.mm, torch.randn(3, 4), torch.randn(4, 5))
    assert by_fvcore.failure == "traces modules alone"


def test_what_another_counter_raises_is_said_and_is_not_fatal():
    class Product(nn.Module):
        def forward(self, a, b):
            return a @ b

    by_torch, by_fvcore = _asked(Product(), torch.randn(4, 5), torch.randn(5))
    # fvcore's formula of a product expects two matrices.
    assert by_fvcore.total is None
    assert by_fvcore.failure == "raises IndexError: list index out of range"
    assert _parts(by_torch) == {"aten.mv": -2 * 4 * 5}


def test_what_torch_raises_is_said_too():
    calls = []

    def only_once(x):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError
        return x @ x

    by_torch, _ = _asked(only_once, torch.randn(3, 3))
    assert by_torch.failure == "raises RuntimeError"


def test_gradients_buffers_and_random_state_are_left_as_they_were():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    measurement = measure(model, x, train=True)
    tensors = [*model.parameters(), x]
    kept = [tensor.grad for tensor in tensors]
    gradients = [gradient.clone() for gradient in kept]
    buffers = [buffer.clone() for buffer in model.buffers()]
    state = torch.get_rng_state()
    cross_check(model, (x,), measurement, train=True)
    assert all(tensor.grad is gradient for tensor, gradient in zip(tensors, kept, strict=True))
    assert all(map(torch.equal, kept, gradients))
    assert all(map(torch.equal, model.buffers(), buffers))
    assert torch.equal(torch.get_rng_state(), state)
