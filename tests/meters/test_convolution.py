"""Convolutions on every road count the terms of their definition, forward and backward."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from pytest_flopbudget import FlopCounter, Work, measure
from pytest_flopbudget.meters.formulas.registry import formula_for

aten = torch.ops.aten


class Case(NamedTuple):
    """A layer without bias, an input, and its multiply-accumulates by hand."""

    layer: type[nn.Module]
    arguments: dict
    shape: tuple[int, ...]
    out: tuple[int, ...]
    macs: int


CASES = {
    # out elements x in/groups x kernel
    "1d": Case(nn.Conv1d, {"in_channels": 3, "out_channels": 6, "kernel_size": 5},
               (2, 3, 20), (2, 6, 16), 2 * 6 * 16 * 3 * 5),
    "2d": Case(nn.Conv2d, {"in_channels": 3, "out_channels": 5, "kernel_size": (3, 2)},
               (2, 3, 7, 9), (2, 5, 5, 8), 2 * 5 * 5 * 8 * 3 * 6),
    "3d": Case(nn.Conv3d, {"in_channels": 2, "out_channels": 3, "kernel_size": (2, 3, 1)},
               (1, 2, 4, 5, 6), (1, 3, 3, 3, 6), 3 * 3 * 3 * 6 * 2 * 6),
    "strided": Case(nn.Conv2d, {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "stride": 2},
                    (2, 3, 9, 7), (2, 4, 4, 3), 2 * 4 * 4 * 3 * 3 * 9),
    # every tap on the padding is counted
    "padded": Case(nn.Conv2d, {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "padding": 1},
                   (1, 3, 5, 6), (1, 4, 5, 6), 4 * 5 * 6 * 3 * 9),
    "same": Case(nn.Conv1d, {"in_channels": 3, "out_channels": 4, "kernel_size": 5,
                             "padding": "same"},
                 (1, 3, 11), (1, 4, 11), 4 * 11 * 3 * 5),
    "circular": Case(nn.Conv1d, {"in_channels": 3, "out_channels": 4, "kernel_size": 3,
                                 "padding": 1, "padding_mode": "circular"},
                     (1, 3, 11), (1, 4, 11), 4 * 11 * 3 * 3),
    "dilated": Case(nn.Conv2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3,
                                "dilation": 2},
                    (1, 4, 12, 11), (1, 8, 8, 7), 8 * 8 * 7 * 4 * 9),
    "grouped": Case(nn.Conv2d, {"in_channels": 8, "out_channels": 12, "kernel_size": 3,
                                "groups": 4},
                    (2, 8, 5, 6), (2, 12, 3, 4), 2 * 12 * 3 * 4 * 2 * 9),
    "depthwise": Case(nn.Conv2d, {"in_channels": 6, "out_channels": 12, "kernel_size": 3,
                                  "groups": 6},
                      (2, 6, 5, 6), (2, 12, 3, 4), 2 * 12 * 3 * 4 * 1 * 9),
    "depthwise 3d": Case(nn.Conv3d, {"in_channels": 5, "out_channels": 5, "kernel_size": 2,
                                     "groups": 5},
                         (2, 5, 3, 4, 5), (2, 5, 2, 3, 4), 2 * 5 * 2 * 3 * 4 * 8),
    # in elements x out/groups x kernel
    "transposed 1d": Case(nn.ConvTranspose1d, {"in_channels": 3, "out_channels": 5,
                                               "kernel_size": 4, "stride": 3},
                          (2, 3, 6), (2, 5, 19), 2 * 3 * 6 * 5 * 4),
    "transposed 2d": Case(nn.ConvTranspose2d, {"in_channels": 8, "out_channels": 4,
                                               "kernel_size": 3, "stride": 2,
                                               "output_padding": 1},
                          (1, 8, 5, 6), (1, 4, 12, 14), 8 * 5 * 6 * 4 * 9),
    "transposed 3d": Case(nn.ConvTranspose3d, {"in_channels": 2, "out_channels": 3,
                                               "kernel_size": 2},
                          (1, 2, 3, 4, 5), (1, 3, 4, 5, 6), 2 * 3 * 4 * 5 * 3 * 8),
    "transposed grouped": Case(nn.ConvTranspose2d, {"in_channels": 8, "out_channels": 4,
                                                    "kernel_size": 3, "groups": 4},
                               (1, 8, 5, 6), (1, 4, 7, 8), 8 * 5 * 6 * 1 * 9),
}  # fmt: skip
CONTEXTS = (torch.no_grad, torch.inference_mode, torch.enable_grad)
every_case = pytest.mark.parametrize(
    "case", [pytest.param(c, id=name) for name, c in CASES.items()]
)


@every_case
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("bias", [False, True])
def test_forward_counts_its_terms_in_every_mode(case, context, bias):
    layer = case.layer(**case.arguments, bias=bias)
    with context():
        m = measure(layer, torch.randn(case.shape))
    assert m.output.shape == case.out
    assert m.macs == case.macs
    assert m.flops == 2 * case.macs + bias * math.prod(case.out)
    assert m.uncounted == ()


@every_case
def test_forward_and_backward_count_three_forwards(case):
    layer = case.layer(**case.arguments, bias=False)
    x = torch.randn(case.shape, requires_grad=True)
    m = measure(layer, x, train=True)
    assert m.macs == 3 * case.macs
    assert m.uncounted == ()


@every_case
def test_torchs_own_counter_agrees_where_there_are_no_groups(case):
    # With groups its backward is wrong: the gradient of the weight lacks the division by them.
    x = torch.randn(case.shape, requires_grad="groups" not in case.arguments)
    layer = case.layer(**case.arguments).requires_grad_(x.requires_grad)

    def step():
        y = layer(x)
        if y.requires_grad:
            y.sum().backward()

    with FlopCounterMode(display=False) as second_opinion:
        step()
    assert second_opinion.get_total_flops() == 2 * measure(step).macs


@every_case
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensors_without_data_count_the_same(case, device):
    with FakeTensorMode() if device == "cpu" else nullcontext():
        layer = case.layer(**case.arguments, device=device)
        x = torch.empty(case.shape, device=device, requires_grad=True)
        m = measure(layer, x, train=True)
    real = measure(case.layer(**case.arguments), torch.randn(case.shape, requires_grad=True),
                   train=True)  # fmt: skip
    assert m.macs == 3 * case.macs
    assert (m.flops, m.uncounted) == (real.flops, ())


@every_case
def test_unbatched_inputs_count_as_a_batch_of_one(case):
    m = measure(
        case.layer(**case.arguments, bias=False),
        torch.randn(case.shape[1:], requires_grad=True),
        train=True,
    )
    assert m.macs == 3 * case.macs // case.shape[0]
    assert m.uncounted == ()


@pytest.mark.parametrize("mask", [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_backward_counts_the_gradients_that_its_mask_asks_for(mask, transposed):
    x, w = torch.randn(2, 6, 5, 7), torch.randn(6, 3, 3, 2)  # groups of 2, or of 6 in, 6 out
    groups = 2
    out = (2, 6, 7, 8) if transposed else (2, 6, 3, 6)
    macs = (x.numel() if transposed else math.prod(out)) * 3 * 6
    with FlopCounter() as counter:
        aten.convolution_backward.default(
            torch.randn(out), x, w, [6], [1, 1], [0, 0], [1, 1], transposed, [0, 0], groups,
            [bool(bit) for bit in mask],
        )  # fmt: skip
    assert counter.macs == macs * (mask[0] + mask[1])
    sums = math.prod(out) - 6  # for each of six channels one add less than it has elements
    assert counter.flops == 2 * counter.macs + sums * mask[2]
    assert counter.uncounted == ()


def test_a_frozen_layer_has_the_gradient_of_its_input_alone():
    layer = nn.Conv2d(3, 5, 3).requires_grad_(False)
    m = measure(layer, torch.randn(2, 3, 7, 9, requires_grad=True), train=True)
    assert m.macs == 2 * (2 * 5 * 5 * 7) * 27


@pytest.mark.parametrize("groups", [1, 2])
def test_double_backward_counts_four_forwards(groups):
    # Forward, gradient of x, and of that product the gradients of its weight and its grad_out.
    conv = nn.Conv2d(2, 4, 3, groups=groups, bias=False)
    x = torch.randn(1, 2, 5, 6, requires_grad=True)

    def penalty():
        (gradient,) = torch.autograd.grad(conv(x).sum(), x, create_graph=True)
        (gradient**2).sum().backward()

    m = measure(penalty)
    assert m.macs == 4 * (4 * 3 * 4) * (2 // groups) * 9
    assert m.uncounted == ()


@pytest.mark.parametrize("context", CONTEXTS)
def test_complex_convolution_counts_the_three_real_ones_that_run(context):
    x, w = torch.randn(2, 3, 9, dtype=torch.cfloat), torch.randn(4, 3, 3, dtype=torch.cfloat)
    with context():
        m = measure(functional.conv1d, x, w)
    out = 2 * 4 * 7
    assert m.macs == 3 * out * 3 * 3
    # Real plus imaginary part of x and of w, c - a - b and a - b of the results, then i times
    # a real number (2) and a complex one added to a real one (1).
    assert m.flops == 2 * m.macs + x.numel() + w.numel() + 3 * out + (2 + 1) * out
    assert m.uncounted == ()


def test_channels_last_and_half_precision_count_the_same():
    x = torch.randn(2, 3, 7, 9)
    for dtype in (torch.bfloat16, torch.float64):
        layer = nn.Conv2d(3, 5, 3, dtype=dtype).to(memory_format=torch.channels_last)
        m = measure(layer, x.to(dtype, memory_format=torch.channels_last))
        assert m.macs == (2 * 5 * 5 * 7) * 27
        assert m.uncounted == ()


def test_empty_batch_costs_nothing():
    m = measure(nn.Conv2d(3, 5, 3), torch.randn(0, 3, 7, 9, requires_grad=True), train=True)
    assert (m.macs, m.uncounted) == (0, ())
    # Sums over nothing are not fewer than no adds.
    assert m.flops >= 0


X, W = torch.empty(2, 3, 7, 9, device="meta"), torch.empty(5, 3, 3, 2, device="meta")
OUT = torch.empty(2, 5, 5, 8, device="meta")
B = torch.empty(5, device="meta")
PLAIN = 2 * 5 * 5 * 8 * 3 * 6
TW, TOUT = torch.empty(3, 5, 3, 2, device="meta"), torch.empty(2, 5, 9, 10, device="meta")
TRANSPOSED = 2 * 3 * 7 * 9 * 5 * 6
PLACES = ([0, 0], [1, 1], [1, 1], 1)


@pytest.mark.parametrize(
    ("name", "args", "out", "work"),
    [
        ("mkldnn_convolution", (X, W, B, *PLACES), OUT, Work(PLAIN, 400)),
        ("miopen_convolution", (X, W, B, *PLACES, False, False), OUT, Work(PLAIN, 400)),
        ("miopen_depthwise_convolution", (X, W, None, *PLACES, False, False), OUT, Work(PLAIN)),
        ("cudnn_convolution", (X, W, *PLACES, False, False, False), OUT, Work(PLAIN)),
        ("cudnn_convolution_relu", (X, W, B, *PLACES), OUT, Work(PLAIN, 2 * 400)),
        ("miopen_convolution_relu", (X, W, None, *PLACES), OUT, Work(PLAIN, 400)),
        ("cudnn_convolution_add_relu", (X, W, OUT, None, B, *PLACES), OUT, Work(PLAIN, 3 * 400)),
        ("miopen_convolution_add_relu", (X, W, OUT, 2, B, *PLACES), OUT, Work(PLAIN, 4 * 400)),
        ("_mps_convolution", (X, W, B, *PLACES), OUT, Work(PLAIN, 400)),
        ("_nnpack_spatial_convolution", (X, W, B, [0, 0]), OUT, Work(PLAIN, 400)),
        ("convolution_overrideable",
         (X, W, B, [1, 1], [0, 0], [1, 1], False, [0, 0], 1), OUT, Work(PLAIN, 400)),
        ("_conv_depthwise2d", (X, W, [3, 2], B, *PLACES[:3]), OUT, Work(PLAIN, 400)),
        ("cudnn_convolution_transpose",
         (X, TW, [0, 0], *PLACES, False, False, False), TOUT, Work(TRANSPOSED)),
        ("miopen_convolution_transpose",
         (X, TW, B, [0, 0], *PLACES, False, False), TOUT, Work(TRANSPOSED, 2 * 5 * 9 * 10)),
        ("_mps_convolution_transpose", (X, TW, [0, 0], *PLACES), TOUT, Work(TRANSPOSED)),
        ("mps_convolution_backward",
         (X, OUT, W, *PLACES, [True, True, True]), None, Work(2 * PLAIN, 400 - 5)),
        ("mps_convolution_transpose_backward",
         (X, TOUT, TW, [0, 0], *PLACES, [True, False]), None, Work(TRANSPOSED)),
        ("convolution_backward_overrideable",
         (OUT, X, W, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, True]), None,
         Work(PLAIN, 400 - 5)),
    ],
)  # fmt: skip
def test_operators_of_other_devices_count_as_the_plain_one(name, args, out, work):
    # Their arguments are in an order of their own: hold it against the schema.
    schema = getattr(aten, name).default._schema
    kinds = [str(argument.type) for argument in schema.arguments if not argument.kwarg_only]
    for kind, value in zip(kinds, args, strict=False):
        if value is None:
            assert kind.startswith("Optional"), schema
        else:
            assert ("Tensor" in kind) == isinstance(value, torch.Tensor), schema
    assert formula_for(f"aten::{name}")(*args, out=out) == work


@pytest.mark.parametrize("bias", [None, torch.randn(4)])
def test_torchs_own_kernels_count_as_the_plain_one(bias):
    x2, x3 = torch.randn(2, 3, 7, 9), torch.randn(2, 3, 5, 6, 7)
    w2, w3 = torch.randn(4, 3, 3, 2), torch.randn(4, 3, 2, 1, 3)
    t2, t3 = torch.randn(3, 4, 3, 2), torch.randn(3, 4, 2, 1, 3)
    taps = 3 * 6
    dense, transposed = (2 * 4 * 5 * 8, 2 * 4 * 4 * 6 * 5), (2 * 4 * 9 * 10, 2 * 4 * 6 * 6 * 9)
    cases = [
        (aten._slow_conv2d_forward, (x2, w2, [3, 2], bias, [1, 1], [0, 0]), dense[0]),
        (aten.thnn_conv2d, (x2, w2, [3, 2], bias), dense[0]),
        (aten.slow_conv_dilated2d, (x2, w2, [3, 2], bias), dense[0]),
        (aten.slow_conv3d_forward, (x3, w3, [2, 1, 3], bias, [1] * 3, [0] * 3), dense[1]),
        (aten.slow_conv3d, (x3, w3, [2, 1, 3], bias), dense[1]),
        (aten.slow_conv_dilated3d, (x3, w3, [2, 1, 3], bias), dense[1]),
    ]
    for op, args, elements in cases:
        with FlopCounter() as counter:
            out = op(*args)
        assert out.numel() == elements
        assert counter.macs == elements * taps, op
        assert counter.flops == 2 * elements * taps + (bias is not None) * elements
        assert counter.uncounted == ()
    for op, x, w, kernel, elements in (
        (aten.slow_conv_transpose2d, x2, t2, [3, 2], transposed[0]),
        (aten.slow_conv_transpose3d, x3, t3, [2, 1, 3], transposed[1]),
    ):
        with FlopCounter() as counter:
            out = op(x, w, kernel, bias)
        assert out.numel() == elements
        assert counter.macs == x.numel() * 4 * 6, op
        assert counter.flops == 2 * counter.macs + (bias is not None) * elements
        assert counter.uncounted == ()


def test_results_given_as_out_count_the_same():
    x, w, out = torch.randn(2, 3, 7, 9), torch.randn(4, 3, 3, 2), torch.empty(2, 4, 5, 8)
    stride, padding = [1, 1], [0, 0]
    grads = torch.empty_like(x), torch.empty_like(w), torch.empty(4)
    with FlopCounter() as forward:
        aten._slow_conv2d_forward.output(x, w, [3, 2], None, stride, padding, output=out)
    with FlopCounter() as backward:
        aten._slow_conv2d_backward.grad_input(
            out, x, w, [3, 2], stride, padding,
            grad_input=grads[0], grad_weight=grads[1], grad_bias=grads[2],
        )  # fmt: skip
    with FlopCounter() as masked:
        aten._slow_conv2d_backward.output_mask(
            out, x, w, [3, 2], stride, padding, [False, True, False]
        )
    macs = 2 * 4 * 5 * 8 * 3 * 6
    assert (forward.macs, forward.flops) == (macs, 2 * macs)
    assert backward.flops == 2 * 2 * macs + (2 * 4 * 5 * 8 - 4)
    assert masked.flops == 2 * macs
    assert forward.uncounted == backward.uncounted == masked.uncounted == ()


def test_convolution_along_time_counts_its_terms():
    x, w, bias = torch.randn(7, 2, 3), torch.randn(3, 3, 5), torch.randn(5)
    out = 7 * 2 * 5  # a padding of one on each side of seven steps
    m = measure(torch.conv_tbc, x, w, bias, 1)
    assert m.macs == out * 3 * 3
    assert m.flops == 2 * m.macs + out
    assert m.uncounted == ()
    trained = measure(
        lambda *tensors: torch.conv_tbc(*tensors, 1),
        *(tensor.clone().requires_grad_() for tensor in (x, w, bias)),
        train=True,
    )
    # The gradients of x and w are products for each tap, of the 6, 7 and 6 steps inside.
    assert trained.macs == m.macs + 2 * (6 + 7 + 6) * 2 * 5 * 3
    assert trained.uncounted == ()


ACTIVATIONS = [
    ("none", [], "", 0),
    ("relu", [], "", 1),
    ("sigmoid", [], "", 1),
    ("tanh", [], "", 1),
    ("swish", [], "", 2),
    ("gelu", [], "none", 5),
    ("gelu", [], "tanh", 9),
    ("hardswish", [], "", 5),
    ("hardsigmoid", [], "", 4),
    ("hardtanh", [-1.0, 1.0], "", 2),
    ("leaky_relu", [0.1], "", 2),
]
needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch is built without oneDNN"
)


@needs_onednn
@pytest.mark.parametrize(("name", "scalars", "algorithm", "cost"), ACTIVATIONS)
def test_layers_that_onednn_fuses_count_the_layer_and_its_activation(
    name, scalars, algorithm, cost
):
    ops = torch.ops.mkldnn
    x, w, bias = torch.randn(2, 4, 7, 9), torch.randn(6, 2, 3, 2), torch.randn(6)
    reordered = ops._reorder_convolution_weight(w, [0, 0], [1, 1], [1, 1], 2, [2, 4, 7, 9])
    out = 2 * 6 * 5 * 8
    for weight in (w, reordered):
        with FlopCounter() as counter:
            y = ops._convolution_pointwise(
                x, weight, bias, [0, 0], [1, 1], [1, 1], 2, name, scalars, algorithm
            )
        assert y.numel() == out
        assert counter.macs == out * 2 * 6
        assert counter.flops == 2 * counter.macs + (1 + cost) * out
        assert counter.uncounted == ()
    with FlopCounter() as counter:
        y = ops._convolution_transpose_pointwise(
            x, torch.randn(4, 3, 3, 2), None, [0, 0], [0, 0], [1, 1], [1, 1], 2,
            name, scalars, algorithm,
        )  # fmt: skip
    assert counter.macs == x.numel() * 3 * 6
    assert counter.flops == 2 * counter.macs + cost * y.numel()
    with FlopCounter() as counter:
        ops._linear_pointwise(
            torch.randn(3, 5), torch.randn(7, 5), torch.randn(7), name, scalars, algorithm
        )
    assert counter.macs == 3 * 5 * 7
    assert counter.flops == 2 * counter.macs + (1 + cost) * 3 * 7
    assert counter.uncounted == ()


@needs_onednn
def test_layers_that_onednn_adds_to_another_tensor_count_the_add():
    ops = torch.ops.mkldnn
    x, w, other = torch.randn(2, 3, 7, 9), torch.randn(6, 3, 3, 2), torch.randn(2, 6, 5, 8)
    places = ([0, 0], [1, 1], [1, 1], 1)
    macs, out = 2 * 6 * 5 * 8 * 3 * 6, 2 * 6 * 5 * 8
    with FlopCounter() as counter:
        ops._convolution_pointwise.binary(x, other, w, None, *places, "add", None, "relu", [], None)
    assert (counter.macs, counter.flops) == (macs, 2 * macs + 2 * out)
    with FlopCounter() as in_place:
        ops._convolution_pointwise_.binary(
            other, x, w, torch.randn(6), *places, "add", 1.0, None, [], None
        )
    assert (in_place.macs, in_place.flops) == (macs, 2 * macs + 2 * out)
    with FlopCounter() as linear:
        ops._linear_pointwise.binary(
            torch.randn(3, 5), torch.randn(3, 7), torch.randn(7, 5), None, "add"
        )
    assert (linear.macs, linear.flops) == (3 * 5 * 7, 2 * 3 * 5 * 7 + 3 * 7)
    assert counter.uncounted == in_place.uncounted == linear.uncounted == ()


def test_an_activation_that_is_not_known_is_not_guessed():
    rule = formula_for("mkldnn::_linear_pointwise")
    x, w, out = torch.empty(3, 5), torch.empty(7, 5), torch.empty(3, 7)
    assert rule(x, w, None, "none", [], "", out=out) == Work(macs=3 * 5 * 7)
    assert rule(x, w, None, "softplus", [], "", out=out) is None


@needs_onednn
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_convolutions_that_a_frozen_script_hides_are_reported(context):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    scripted = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(model)))
    x = torch.randn(1, 3, 8, 8)
    with context():
        m = measure(scripted, x)
    # The convolutions do not pass torch's dispatcher; that their result is converted does.
    assert m.macs == 0
    assert [u.operator for u in m.uncounted] == ["aten._to_dense.default"]


@needs_onednn
@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize(
    "last", [nn.MaxPool2d(2), nn.Sigmoid(), nn.Sequential(nn.MaxPool2d(2), nn.Flatten())]
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_convolutions_are_hidden_in_what_is_made_of_their_result_too(last, memory):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), last).eval()
    scripted = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(model)))
    with torch.no_grad(), FlopCounter(memory=memory) as counter:
        scripted(torch.randn(1, 3, 8, 8))
    assert counter.macs == 0
    assert [u.operator for u in counter.uncounted] == ["aten._to_dense.default"]


@needs_onednn
@pytest.mark.parametrize("memory", [True, False])
def test_backward_through_onednns_layout_hides_nothing(memory):
    x = torch.randn(2, 4, requires_grad=True)
    with FlopCounter(memory=memory) as counter:
        x.to_mkldnn().relu().to_dense().sum().backward()
    assert counter.flops == 8 + 7 + 8  # relu, sum, and the backward of the relu
    assert counter.uncounted == ()


@needs_onednn
@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_weights_in_onednns_layout_hide_nothing(memory):
    from torch.utils import mkldnn

    model = mkldnn.to_mkldnn(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)))
    with torch.no_grad(), FlopCounter(memory=memory) as counter:
        model(torch.randn(1, 3, 8, 8).to_mkldnn()).to_dense()
    assert counter.macs == 6 * 6 * 4 * 3 * 9 + 4 * 4 * 2 * 4 * 9
    assert counter.uncounted == ()


@needs_onednn
@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize(
    "between",
    [
        Tensor.detach,
        torch.relu_,
        lambda x: x.transpose(2, 3),
        lambda x: x.reshape(2, 4, 16),
        lambda x: torch.max_pool2d(x + x, 2).clone(),
    ],
)
def test_nothing_is_hidden_in_what_was_seen_from_its_beginning(between, memory):
    with torch.no_grad(), FlopCounter(memory=memory) as counter:
        between(torch.randn(1, 2, 8, 8).to_mkldnn()).to_dense()
    assert counter.uncounted == ()


@needs_onednn
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_model_that_is_converted_to_onednn_counts_its_convolution(context):
    from torch.utils import mkldnn

    model = mkldnn.to_mkldnn(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval())
    with context():
        m = measure(lambda x: model(x.to_mkldnn()), torch.randn(1, 3, 8, 8))
    out = 8 * 6 * 6
    assert m.macs == out * 27
    assert m.flops == 2 * m.macs + 2 * out  # the bias and the ReLU
    assert m.uncounted == ()


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(Tensor.to_sparse, id="sparse"),
        pytest.param(lambda tensor: torch.nested.nested_tensor([tensor]), id="nested"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_convolution_takes_no_sparse_or_nested_tensor(position, changed):
    # So its arguments need not be asked for their layouts.
    arguments = [torch.randn(1, 3, 8, 8), torch.randn(8, 3, 3, 3), torch.randn(8)]
    arguments[position] = changed(arguments[position])
    refusal = "unsupported memory format|from the '(Sparse|NestedTensor)CPU' backend"
    with pytest.raises(RuntimeError, match=refusal):
        aten.convolution(*arguments, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
