"""Fused operators count what torch's own decomposition of them counts, step by step."""

from __future__ import annotations

import pytest
import torch
from torch._decomp import decomposition_table

from pytest_flopbudget import FlopCounter

aten = torch.ops.aten
X = torch.randn(6, 9)
IMAGE = torch.randn(3, 4, 5, 5)
C = torch.randn(4)


def _layer_norm():
    x = torch.randn(5, 7, 11)
    w = torch.randn(11)
    _, mean, rstd = aten.native_layer_norm.default(x, [11], w, w, 1e-5)
    return x, w, mean, rstd


def _cases():
    x, w, mean, rstd = _layer_norm()
    zeros, ones = torch.zeros(4), torch.ones(4)
    yield aten.native_layer_norm.default, (x, [11], w, w, 1e-5)
    yield aten.native_layer_norm.default, (x, [7, 11], None, None, 1e-5)
    yield aten.native_layer_norm_backward.default, (x, x, [11], mean, rstd, w, w, [True] * 3)
    yield aten.native_batch_norm.default, (IMAGE, C, C, zeros, ones, True, 0.1, 1e-5)
    statistics = (C, zeros, ones, torch.zeros(4), torch.ones(4))
    yield (
        aten.native_batch_norm_backward.default,
        (IMAGE, IMAGE, *statistics, True, 1e-5, [True] * 3),
    )
    for softmax in (aten._softmax.default, aten._log_softmax.default):
        yield softmax, (X, 1, False)
    yield aten._softmax_backward_data.default, (X, X.softmax(1), 1, torch.float32)
    yield aten._log_softmax_backward_data.default, (X, X.log_softmax(1), 1, torch.float32)
    for name in ("silu", "hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "softplus", "gelu"):
        yield getattr(aten, name).default, (X,)
    for name in ("silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "gelu"):
        yield getattr(aten, f"{name}_backward").default, (X, X)
    yield from _element_wise_cases()
    yield aten.nll_loss_forward.default, (X, torch.zeros(6, dtype=torch.long), None, 1, -100)
    yield aten.mse_loss.default, (X, X)
    yield aten.mse_loss_backward.default, (torch.ones(()), X, X, 1)


def _element_wise_cases():
    y = torch.randn(6, 9)
    for name in ("frac", "hardshrink", "nan_to_num", "sinc", "special_entr", "mish"):
        yield getattr(aten, name).default, (X,)
    for name in ("special_xlog1py", "_prelu_kernel", "_prelu_kernel_backward", "logit_backward"):
        args = (X, y, y) if name == "_prelu_kernel_backward" else (X, y)
        yield getattr(aten, name).default, args
    yield aten.xlogy.Tensor, (X, y)
    yield aten.ldexp.Tensor, (X, y)
    yield aten.logit.default, (X, 0.1)
    yield aten.mish_backward.default, (X, y)
    yield aten.hardtanh_backward.default, (X, y, -1.0, 1.0)
    yield aten.leaky_relu_backward.default, (X, y, 0.1, False)
    yield aten.log_sigmoid_forward.default, (X,)
    yield aten.log_sigmoid_backward.default, (X, y, torch.rand(6, 9))
    yield aten.rrelu_with_noise_backward.default, (X, y, y, 0.1, 0.3, False, False)
    for is_result in (False, True):
        yield aten.elu_backward.default, (X, 2.0, 3.0, 4.0, is_result, y.abs())
    halves = torch.randn(6, 10)
    yield aten.glu.default, (halves, 1)
    yield aten.glu_backward.default, (torch.randn(6, 5), halves, 1)
    yield aten.native_dropout_backward.default, (X, X > 0, 2.0)


@pytest.mark.parametrize(
    ("op", "args"), [pytest.param(op, args, id=op.name()) for op, args in _cases()]
)
def test_fused_and_decomposed_forms_count_the_same(op, args):
    with FlopCounter() as fused:
        op(*args)
    with FlopCounter() as decomposed:
        decomposition_table[op](*args)
    assert fused.flops == decomposed.flops > 0
    assert len(decomposed.by_operator) > 1, "the decomposition must be one"
    assert fused.uncounted == decomposed.uncounted == ()


def test_evaluated_batch_norm_counts_its_definition():
    # torch's decomposition differs here: it takes a reciprocal and a root in two steps, and
    # reshapes the statistics; by definition 4 for each element and 2 for each channel.
    with FlopCounter() as counter:
        aten.native_batch_norm.default(IMAGE, C, C, torch.zeros(4), torch.ones(4), False, 0.1, 1e-5)
    assert counter.flops == 4 * IMAGE.numel() + 2 * 4
