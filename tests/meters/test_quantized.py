"""Quantised layers against numbers derived by hand.

To quantise a number takes 5 (divide, round, add the zero point, two comparisons), to
dequantise it 2 (subtract the zero point, multiply). A tensor of e elements that is quantised
by its own range takes 2(e - 1) comparisons and 9 for the scale before: 7e + 7 in all.
"""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.ao.nn import quantized as nnq
from torch.ao.nn.quantized import dynamic as nnqd

from pytest_flopbudget import FlopCounter, measure

pytestmark = [
    pytest.mark.skipif(
        "fbgemm" not in torch.backends.quantized.supported_engines,
        reason="the libraries of this processor have not all of these kernels",
    ),
    # What is tested here is deprecated in favour of torchao, and is in use.
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning"
    ),
    # torch's own settings for x86 use what its observers warn of.
    pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max to specify:UserWarning"),
]

quantized = torch.ops.quantized
aten = torch.ops.aten


def _q(*shape, dtype=torch.quint8):
    return torch.quantize_per_tensor(torch.randn(shape), 0.1, 3, dtype)


def _weight(*shape):
    return torch.quantize_per_tensor(torch.randn(shape), 0.1, 0, torch.qint8)


def _by_range(elements):
    return 7 * elements + 7


def _counts(m):
    assert m.uncounted == ()
    return m.macs, m.flops, m.int_ops


# --- linear layers


def test_dynamically_quantised_layer_multiplies_integers():
    model = quantization.quantize_dynamic(nn.Sequential(nn.Linear(48, 64)), {nn.Linear})
    m = measure(model, torch.randn(32, 48))
    assert m.int_ops == 2 * 32 * 48 * 64 == 196_608
    # The input is quantised by its range; each result is scaled and gets its bias.
    assert m.flops == _by_range(32 * 48) + 2 * 32 * 64
    assert m.macs == 0
    assert m.uncounted == ()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    ("op", "activation"),
    [
        (quantized.linear, 0),
        (quantized.linear_relu, 1),
    ],
)
def test_static_layer_is_all_integers(op, activation, has_bias, context):
    packed = quantized.linear_prepack(_weight(7, 12), torch.randn(7) if has_bias else None)
    x = _q(3, 5, 12)
    with context():
        m = measure(lambda: op(x, packed, 0.2, 1))
    results = 3 * 5 * 7
    assert _counts(m) == (0, 0, 2 * results * 12 + results * (has_bias + 5 + activation))


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    ("op", "activation"), [(quantized.linear_dynamic, 0), (quantized.linear_relu_dynamic, 1)]
)
def test_dynamic_layer_adds_its_bias_in_floating_point(op, activation, has_bias):
    packed = quantized.linear_prepack(_weight(7, 12), torch.randn(7) if has_bias else None)
    m = measure(op, torch.randn(3, 12), packed)
    flops = _by_range(36) + 21 * (1 + has_bias + activation)
    assert _counts(m) == (0, flops, 2 * 21 * 12)


@pytest.mark.parametrize(
    ("op", "activation"),
    [(quantized.linear_dynamic_fp16, 0), (quantized.linear_relu_dynamic_fp16, 1)],
)
def test_layer_of_half_precision_multiplies_floats(op, activation):
    packed = quantized.linear_prepack_fp16(torch.randn(7, 12), torch.randn(7))
    m = measure(op, torch.randn(3, 12), packed)
    assert _counts(m) == (252, 2 * 252 + 21 * (1 + activation), 0)


def test_layer_of_half_precision_without_a_package():
    weight, bias = torch.randn(7, 12), torch.randn(7)
    op = quantized.linear_dynamic_fp16_unpacked_weight
    assert _counts(measure(op, torch.randn(3, 12), weight, bias)) == (252, 2 * 252 + 21, 0)


def test_layer_with_a_known_scale_of_its_input():
    packed = quantized.linear_prepack(_weight(7, 12), torch.randn(7))
    for name, activation in (("output_fp32", 0), ("relu_output_fp32", 1)):
        op = getattr(quantized, f"linear_with_input_q_dq_qweight_dq_{name}")
        m = measure(op, torch.randn(3, 12), 0.1, 3, packed)
        assert _counts(m) == (0, 5 * 36 + 21 * (2 + activation), 2 * 252)


def test_layer_wrapped_in_quantising_and_going_back():
    scale, zero = torch.tensor(0.1), torch.tensor(0)
    arguments = (torch.randn(7, 12), scale, zero, torch.randn(7), scale, zero, 7)
    op = torch.ops._quantized.wrapped_quantized_linear
    m = measure(op, torch.randn(3, 12), scale, zero, *arguments)
    # Input and weight are quantised; each result gets a bias, is rescaled, and goes back.
    assert _counts(m) == (0, 5 * 36 + 5 * 84 + 21 * (1 + 5 + 2), 2 * 252)


@pytest.mark.filterwarnings("ignore:fbgemm_.* is deprecated:UserWarning")
def test_oldest_forms_are_seen_in_inference_mode():
    weight, bias = torch.randn(7, 12), torch.randn(7)
    x, h, c = torch.randn(3, 12), torch.randn(3, 7), torch.randn(3, 7)
    with torch.inference_mode():
        half = torch.fbgemm_pack_gemm_matrix_fp16(weight)
        m = measure(torch.fbgemm_linear_fp16_weight, x, half, bias)
        assert _counts(m) == (252, 2 * 252 + 21, 0)
        m = measure(torch.fbgemm_linear_quantize_weight, weight)
        assert _counts(m) == (0, _by_range(84), 7 * 11)
        integers, sums, scale, zero = m.output
        packed = torch.fbgemm_pack_quantized_matrix(integers)
        m = measure(torch.fbgemm_linear_int8_weight, x, integers, packed, sums, scale, zero, bias)
        assert _counts(m) == (0, _by_range(36) + 2 * 21, 2 * 252)
        w_ih, w_hh = torch.randn(28, 12), torch.randn(28, 7)
        ih, hh = (torch.fbgemm_linear_quantize_weight(w) for w in (w_ih, w_hh))
        packages = [torch.fbgemm_pack_quantized_matrix(w[0]) for w in (ih, hh)]
        biases = torch.randn(28), torch.randn(28)
        others = (*packages, ih[1], hh[1], ih[2], hh[2], ih[3], hh[3])
        m = measure(torch.quantized_lstm_cell, x, [h, c], ih[0], hh[0], *biases, *others)
    sizes = {"rows": 3, "inputs": 12, "hidden": 7, "steps": 1, "gates": 4, "per_state": 13}
    assert _counts(m) == (0, _lstm_flops(**sizes), 2 * 3 * 4 * 7 * 19)


# --- convolutions


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_quantised_convolution_counts_the_terms_of_its_definition(dims, groups):
    layer = getattr(nnq, f"Conv{dims}d")(4, 6, 3, groups=groups)
    x = _q(2, 4, *(8, 7, 5)[:dims])
    m = measure(layer, x)
    results = 2 * 6 * math.prod((6, 5, 3)[:dims])
    # 4 / groups channels of 3^dims taps; a bias, and 5 to rescale.
    assert _counts(m) == (0, 0, 2 * results * (4 // groups) * 3**dims + 6 * results)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_transposed_quantised_convolution_counts_by_its_input(dims):
    layer = getattr(nnq, f"ConvTranspose{dims}d")(4, 6, 3, stride=2)
    x = _q(2, 4, *(4, 3, 2)[:dims])
    m = measure(layer, x)
    inputs = 2 * 4 * math.prod((4, 3, 2)[:dims])
    results = 2 * 6 * math.prod((9, 7, 5)[:dims])
    assert _counts(m) == (0, 0, 2 * inputs * 6 * 3**dims + 6 * results)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:The current implementation of the .* module has poor")
def test_dynamic_convolution_keeps_its_integers_apart(dims, transposed):
    kind = "ConvTranspose" if transposed else "Conv"
    layer = getattr(nnqd, f"{kind}{dims}d")(4, 6, 3)
    sizes = (8, 7, 5)[:dims]
    m = measure(layer, torch.randn(2, 4, *sizes))
    inputs = 2 * 4 * math.prod(sizes)
    if transposed:
        results = 2 * 6 * math.prod((10, 9, 7)[:dims])
        macs = inputs * 6 * 3**dims
    else:
        results = 2 * 6 * math.prod((6, 5, 3)[:dims])
        macs = results * 4 * 3**dims
    assert _counts(m) == (0, _by_range(inputs) + 2 * results, 2 * macs)


def test_convolutions_with_what_is_fused_to_them():
    with torch.no_grad():
        weight, bias = _weight(6, 4, 3, 3), torch.randn(6)
    packed = quantized.conv2d_prepack(weight, bias, [1, 1], [0, 0], [1, 1], 1)
    x = _q(2, 4, 8, 7)
    results, products = 2 * 6 * 6 * 5, 2 * (2 * 6 * 6 * 5) * 4 * 9
    m = measure(lambda: quantized.conv2d_relu(x, packed, 0.2, 1))
    assert _counts(m) == (0, 0, products + 7 * results)
    with_strides = ([1, 1], [0, 0], [1, 1], 1, 0.2, 1)
    m = measure(lambda: quantized.conv2d(x, packed, *with_strides))
    assert _counts(m) == (0, 0, products + 6 * results)


def test_sum_that_is_fused_to_a_convolution():
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"  # the only library that fuses it
    try:
        packed = quantized.conv2d_prepack(_weight(6, 4, 3, 3), None, [1, 1], [0, 0], [1, 1], 1)
        x, added = _q(2, 4, 8, 7), _q(2, 6, 6, 5)
        results, products = 360, 2 * 360 * 36
        # Rescaled (5), what is added is dequantised (2) and added (1), a ReLU (1).
        for op, per_result in ((quantized.conv2d_add, 8), (quantized.conv2d_add_relu, 9)):
            m = measure(lambda op=op: op(x, added.clone(), packed, 0.2, 1))
            assert _counts(m) == (0, 0, products + per_result * results)
        linear = quantized.linear_prepack(_weight(7, 12), torch.randn(7))
        m = measure(quantized.linear_tanh, _q(3, 12), linear, 0.2, 1)
        assert _counts(m) == (0, 0, 2 * 252 + 21 * 7)
        m = measure(quantized.linear_leaky_relu, _q(3, 12), linear, 0.2, 1, 0.1)
        assert _counts(m) == (0, 0, 2 * 252 + 21 * 8)
    finally:
        torch.backends.quantized.engine = before


def test_asking_a_package_for_its_weight_is_not_counted():
    """Also not by a counter around the counter, which sees what formulas do."""
    layer, x = nnq.Conv2d(4, 6, 3), _q(2, 4, 8, 7)
    alone = measure(layer, x)
    with FlopCounter() as outer:
        inner = measure(layer, x)
    assert (outer.ops, outer.int_ops) == (alone.ops, alone.int_ops)
    assert (inner.ops, inner.int_ops) == (alone.ops, alone.int_ops)
    assert alone.ops == 1


# --- products with weights that alone are quantised


def test_matrix_product_of_quantised_tensors():
    m = measure(
        quantized.matmul, _q(2, 3, 4, dtype=torch.qint8), _q(2, 4, 5, dtype=torch.qint8), 1.0, 0
    )
    assert _counts(m) == (0, 0, 2 * 2 * 3 * 4 * 5 + 5 * 30)


def test_weight_of_8_bits_is_multiplied_as_floats():
    weight = torch.randint(-8, 8, (7, 12), dtype=torch.int8)
    m = measure(torch._weight_int8pack_mm, torch.randn(3, 12), weight, torch.rand(7))
    assert _counts(m) == (252, 2 * 252 + 21, 0)


def test_weight_of_4_bits_is_dequantised_once():
    weight = torch.randint(0, 15, (32, 64), dtype=torch.int32)
    scales = torch.rand(2, 32, 2).bfloat16()
    x = torch.randn(3, 64).bfloat16()

    def run():
        packed = aten._convert_weight_to_int4pack_for_cpu(weight, 1)
        return aten._weight_int4pack_mm_for_cpu(x, packed, 32, scales)

    # (q - 8) * scale + zero for each of 32x64 weights, whatever the rows of x.
    assert _counts(measure(run)) == (3 * 64 * 32, 2 * 3 * 64 * 32 + 3 * 64 * 32, 0)
    packed = aten._convert_weight_to_int4pack_for_cpu(weight, 1)
    op = quantized.int4mm_packed_weight_cpu
    m = measure(op, x, packed, torch.tensor(32), scales)
    assert m.macs == 3 * 64 * 32


def test_forms_for_other_devices_count_the_same():
    from pytest_flopbudget.meters.formulas.registry import formula_for

    x, out = torch.empty(3, 64, device="meta"), torch.empty(3, 32, device="meta")
    packed = torch.empty(4, 1, 32, 4, device="meta")
    for name in ("_weight_int4pack_mm", "_weight_int4pack_mm_with_scales_and_zeros"):
        work = formula_for(f"aten::{name}")(x, packed, 32, packed, packed, out=out)
        assert (work.macs, work.arithmetic) == (3 * 64 * 32, 3 * 64 * 32)


def test_dynamic_4_bit_layer_scales_every_block():
    packed_weight = torch.randint(0, 255, (32, 32), dtype=torch.uint8)
    x = torch.randn(3, 64)

    def run():
        package = aten._dyn_quant_pack_4bit_weight(packed_weight, torch.rand(64), None, 32, 64, 32)
        return aten._dyn_quant_matmul_4bit(x, package, 32, 64, 32)

    m = measure(run)
    # Three rows are quantised, each by its range; two blocks: two multiplies and an add.
    assert m.int_ops == 2 * 3 * 64 * 32
    assert m.flops == 3 * _by_range(64) + 3 * 32 * 3
    assert m.uncounted == ()


# --- recurrent layers


def _lstm_flops(*, rows, inputs, hidden, steps, gates, per_state):
    """FLOPs of one direction of one dynamically quantised layer."""
    return (
        _by_range(rows * inputs)
        + 7 * rows * hidden
        + 7 * steps  # the state, by its range at each step
        + rows * 2 * gates * hidden  # both products scaled
        + rows * 2 * gates * hidden  # both biases
        + rows * per_state * hidden
    )


def test_quantised_lstm_counts_every_layer_and_direction():
    lstm = nn.LSTM(12, 7, num_layers=2, bidirectional=True)
    model = quantization.quantize_dynamic(nn.Sequential(lstm), {nn.LSTM}, dtype=torch.qint8)
    m = measure(model, torch.randn(5, 3, 12))
    rows = 5 * 3
    assert m.int_ops == 2 * rows * 4 * 7 * 2 * ((12 + 7) + (14 + 7))
    sizes = {"rows": rows, "hidden": 7, "steps": 5, "gates": 4, "per_state": 13}
    assert m.flops == 2 * (_lstm_flops(inputs=12, **sizes) + _lstm_flops(inputs=14, **sizes))
    assert m.macs == 0
    assert m.uncounted == ()


def test_batch_first_and_packed_sequences_count_their_steps():
    lstm = nn.LSTM(12, 7, batch_first=True)
    model = quantization.quantize_dynamic(nn.Sequential(lstm), {nn.LSTM}, dtype=torch.qint8)
    sizes = {"inputs": 12, "hidden": 7, "gates": 4, "per_state": 13}
    m = measure(model, torch.randn(3, 5, 12))
    assert m.flops == _lstm_flops(rows=15, steps=5, **sizes)
    packed = nn.utils.rnn.pack_padded_sequence(
        torch.randn(3, 5, 12), torch.tensor([5, 4, 1]), batch_first=True
    )
    m = measure(model, packed)
    assert m.int_ops == 2 * 10 * 4 * 7 * 19
    assert m.flops == _lstm_flops(rows=10, steps=5, **sizes)
    assert m.uncounted == ()


def test_quantised_gru():
    model = quantization.quantize_dynamic(nn.Sequential(nn.GRU(12, 7)), {nn.GRU}, dtype=torch.qint8)
    m = measure(model, torch.randn(5, 3, 12))
    sizes = {"rows": 15, "inputs": 12, "hidden": 7, "steps": 5, "gates": 3, "per_state": 10}
    assert _counts(m) == (0, _lstm_flops(**sizes), 2 * 15 * 3 * 7 * 19)


def test_lstm_of_half_precision_multiplies_floats():
    model = quantization.quantize_dynamic(
        nn.Sequential(nn.LSTM(12, 7)), {nn.LSTM}, dtype=torch.float16
    )
    m = measure(model, torch.randn(5, 3, 12))
    macs = 15 * 4 * 7 * 19
    # As an LSTM in full precision: both biases (8) and the cell (13) for each state.
    assert _counts(m) == (macs, 2 * macs + 15 * 7 * 21, 0)
    with torch.no_grad():
        assert measure(nn.LSTM(12, 7), torch.randn(5, 3, 12)).flops == m.flops


@pytest.mark.parametrize(
    ("cell", "gates", "per_state"),
    [
        (nn.LSTMCell(12, 7), 4, 13),
        (nn.GRUCell(12, 7), 3, 10),
        (nn.RNNCell(12, 7), 1, 2),
        (nn.RNNCell(12, 7, nonlinearity="relu"), 1, 2),
    ],
)
def test_quantised_cells(cell, gates, per_state):
    model = quantization.quantize_dynamic(nn.Sequential(cell), {type(cell)}, dtype=torch.qint8)
    m = measure(model, torch.randn(3, 12))
    sizes = {"rows": 3, "inputs": 12, "hidden": 7, "steps": 1}
    flops = _lstm_flops(gates=gates, per_state=per_state, **sizes)
    assert _counts(m) == (0, flops, 2 * 3 * gates * 7 * 19)


def test_cell_of_half_precision_multiplies_floats():
    model = quantization.quantize_dynamic(
        nn.Sequential(nn.LSTMCell(12, 7)), {nn.LSTMCell}, dtype=torch.float16
    )
    m = measure(model, torch.randn(3, 12))
    macs = 3 * 4 * 7 * 19
    assert _counts(m) == (macs, 2 * macs + 3 * 7 * 21, 0)


# --- to quantised numbers and back


def test_quantising_and_going_back():
    x = torch.randn(4, 6)
    scales, zeros = torch.ones(4), torch.zeros(4, dtype=torch.long)
    assert _counts(measure(torch.quantize_per_tensor, x, 0.1, 3, torch.quint8)) == (0, 120, 0)
    several = measure(torch.quantize_per_tensor, [x, x[0]], scales[:2], zeros[:2], torch.quint8)
    assert several.flops == 5 * 30
    m = measure(torch.quantize_per_channel, x, scales, zeros, 0, torch.qint8)
    assert _counts(m) == (0, 120, 0)
    assert measure(torch.quantize_per_tensor_dynamic, x, torch.quint8, False).flops == 7 * 24 + 7
    assert _counts(measure(_q(4, 6).dequantize)) == (0, 48, 0)
    assert _counts(measure(torch.dequantize, [_q(4, 6), _q(3)])) == (0, 54, 0)
    # Of what was never quantised it is a cast.
    assert measure(torch.randn(4).half().dequantize).flops == 0


def test_looking_at_a_quantised_tensor_is_free():
    x = _q(4, 6)
    m = measure(lambda: (x.q_scale(), x.q_zero_point(), x.qscheme()))
    assert (m.ops, m.flops, m.int_ops, m.uncounted) == (0, 0, 0, ())
    m = measure(x.int_repr)
    assert (m.flops, m.int_ops, m.uncounted) == (0, 0, ())
    assert m.bytes_moved == 2 * 24
    integers = x.int_repr()
    m = measure(torch._make_per_tensor_quantized_tensor, integers, 0.1, 3)
    assert _counts(m) == (0, 0, 0)


def test_ordinary_operators_on_quantised_tensors_are_integer_work():
    x = _q(4, 6)
    assert _counts(measure(torch.relu, x)) == (0, 0, 24)
    assert _counts(measure(torch.max, x)) == (0, 0, 23)
    assert _counts(measure(torch.cat, [x, x])) == (0, 0, 0)


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad])
def test_fake_quantising_counts_there_back_and_the_mask(context):
    x = torch.randn(4, 6)
    scales, zeros = torch.ones(4), torch.zeros(4, dtype=torch.int)
    one, zero = torch.tensor(0.1), torch.tensor(0)
    with context():
        for call in (
            lambda: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255),
            lambda: torch.fake_quantize_per_tensor_affine(x, one, zero, 0, 255),
            lambda: torch.fake_quantize_per_channel_affine(x, scales, zeros, 0, 0, 255),
        ):
            assert _counts(measure(call)) == (0, 9 * 24, 0)


def test_backward_of_fake_quantising_multiplies_by_the_mask():
    x = torch.randn(4, 6, requires_grad=True)
    m = measure(torch.fake_quantize_per_tensor_affine, x, 0.1, 0, 0, 255, train=True)
    summed = 24 - 1  # the loss; its gradient is one number, expanded
    assert m.flops == 9 * 24 + summed + 24
    assert m.uncounted == ()


def test_learnt_scale_has_a_gradient():
    x = torch.randn(4, 6, requires_grad=True)
    scale = torch.rand(4).add_(1).requires_grad_()
    zero = torch.zeros(4, requires_grad=True)
    forward = 7 * 24 + 3 * 4
    backward = 15 * 24 + 2 * (24 - 4)
    op = torch._fake_quantize_learnable_per_channel_affine
    with torch.no_grad():
        assert _counts(measure(op, x, scale, zero, 0, 0, 255)) == (0, forward, 0)
    m = measure(op, x, scale, zero, 0, 0, 255, train=True)
    assert m.flops == forward + (24 - 1) + backward
    assert m.uncounted == ()


def test_observing_and_fake_quantising_by_channel_and_by_tensor():
    def run(x, channels, per_row):
        on = torch.tensor([1])
        running = [torch.zeros(channels), torch.zeros(channels)]
        scale, zero = torch.ones(channels), torch.zeros(channels, dtype=torch.int)
        return torch.fused_moving_avg_obs_fake_quant(
            x, on, on, *running, scale, zero, 0.01, 0, 255, 0, per_row, False
        )

    x = torch.randn(4, 6)
    # Minimum and maximum, two averages of 3, a scale of 9, and 9 for each element.
    assert measure(run, x, 4, True).flops == 2 * (24 - 4) + 6 * 4 + 9 * 4 + 9 * 24
    m = measure(run, x, 1, False)
    assert m.flops == 2 * (24 - 1) + 6 + 9 + 9 * 24
    assert m.uncounted == ()


def test_model_in_quantisation_aware_training_is_counted_whole():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 5))
    model.train()
    model.qconfig = quantization.get_default_qat_qconfig("x86")
    prepared = quantization.prepare_qat(model)
    m = measure(prepared, torch.randn(2, 3, 6, 6), train=True)
    # The convolution's input needs no gradient.
    assert m.macs == 2 * (2 * 4 * 16 * 27) + 3 * (2 * 64 * 5)
    assert m.uncounted == ()


def test_search_for_the_best_range():
    x = torch.randn(100)
    # In inference_mode alone: torch runs it in one piece elsewhere, which no counter sees.
    with torch.inference_mode():
        m = measure(torch.choose_qparams_optimized, x, 100, 200, 0.16, 4)
    assert m.flops == 2 * 99 + 10 * 100 * (1 + 2 * 32)
    assert m.uncounted == ()


def test_exported_programs_count_as_the_modules_do():
    importlib.import_module("torch.ao.quantization.fx._decomposed")
    ops = torch.ops.quantized_decomposed
    x = torch.randn(4, 6)
    integers = torch.randint(0, 255, (4, 6), dtype=torch.uint8)
    scales, zeros = torch.ones(4), torch.zeros(4, dtype=torch.long)
    limits = (0, 255, torch.uint8)
    assert _counts(measure(ops.quantize_per_tensor, x, 0.1, 3, *limits)) == (0, 120, 0)
    one, zero = torch.tensor(0.1), torch.tensor(3)
    assert _counts(measure(ops.quantize_per_tensor.tensor, x, one, zero, *limits)) == (0, 120, 0)
    assert _counts(measure(ops.dequantize_per_tensor, integers, 0.1, 3, *limits)) == (0, 48, 0)
    m = measure(ops.quantize_per_channel, x, scales, zeros, 0, *limits)
    assert _counts(m) == (0, 120, 0)
    m = measure(ops.dequantize_per_channel, integers, scales, None, 0, *limits)
    assert _counts(m) == (0, 24, 0)
    m = measure(ops.choose_qparams.tensor, x, 0, 255, 1e-5, torch.uint8)
    assert _counts(m) == (0, 2 * 23 + 9, 0)
    with torch.no_grad():
        m = measure(ops.choose_qparams_per_token, x, torch.int8)
    assert _counts(m) == (0, 2 * (24 - 4) + 9 * 4, 0)


# --- everything else on quantised tensors


N = 2 * 3 * 4
X, IMAGE = (2, 3, 4), (2, 3, 4, 4)
ELEMENTS = 2 * 3 * 4 * 4


def _three():
    return torch.ones(3)


@pytest.mark.parametrize(
    ("call", "int_ops"),
    [
        # two operands there (4), the sum (1), back (5)
        (lambda: quantized.add(_q(*X), _q(*X), 0.1, 0), 10 * N),
        (lambda: quantized.add_relu(_q(*X), _q(*X), 0.1, 0), 11 * N),
        (lambda: quantized.add_out(_q(*X), _q(*X), _q(*X)), 10 * N),
        (lambda: quantized.add.out(_q(*X), _q(*X), _q(*X)), 10 * N),
        # one operand there
        (lambda: quantized.add(_q(*X), 1.0), 8 * N),
        (lambda: quantized.add(1.0, _q(*X)), 8 * N),
        (lambda: quantized.add_scalar(_q(*X), 1.0), 8 * N),
        (lambda: quantized.mul(_q(*X), _q(*X), 0.1, 0), 10 * N),
        (lambda: quantized.mul_scalar(_q(*X), torch.tensor(2.0)), 8 * N),
        (lambda: quantized.mul_scalar_relu(_q(*X), 2.0), 9 * N),
        (lambda: quantized.cat([_q(*X), _q(*X)], 1, 0.1, 0), 7 * 2 * N),
        (lambda: quantized.cat_relu([_q(*X), _q(*X)], 1, 0.1, 0), 8 * 2 * N),
        (lambda: quantized.sigmoid(_q(*X), 0.1, 0), 8 * N),
        (lambda: quantized.hardswish(_q(*X), 0.1, 0), 12 * N),
        (lambda: quantized.leaky_relu(_q(*X), 0.1, False, 0.1, 0), 9 * N),
        (lambda: quantized.elu(_q(*X), 0.1, 0), 10 * N),
        (lambda: quantized.elu(_q(*X), 0.1, 0, 2.0), 11 * N),
        (lambda: quantized.celu(_q(*X), 0.1, 0), 10 * N),
        (lambda: quantized.celu(_q(*X), 0.1, 0, 2.0), 12 * N),
        (lambda: quantized.clamp(_q(*X), 0, 1), 2 * N),
        (lambda: quantized.clamp(_q(*X), None, 1), N),
        (lambda: quantized.relu6(_q(*X)), 2 * N),
        (lambda: quantized.threshold(_q(*X), 0.0, 0.0), N),
        (lambda: quantized.dropout(_q(*X), 0.1, 0, 0.5, False), 0),
        # 5 * 3 - 2 for each of 8 rows, and 7 for each element
        (lambda: quantized.softmax(_q(*X), 1, 0.1, 0), 8 * 13 + 7 * N),
        # in evaluation 2 and the affine 2, 2 for each channel; there and back 7
        (
            lambda: quantized.batch_norm2d(_q(*IMAGE), *(_three(),) * 4, 1e-5, 0.1, 0),
            4 * ELEMENTS + 2 * 3 + 7 * ELEMENTS,
        ),
        (
            lambda: quantized.batch_norm2d_relu(_q(*IMAGE), *(_three(),) * 4, 1e-5, 0.1, 0),
            4 * ELEMENTS + 2 * 3 + 8 * ELEMENTS,
        ),
        (
            lambda: torch.quantized_batch_norm(_q(*IMAGE), *(_three(),) * 4, 1e-5, 0.1, 0),
            4 * ELEMENTS + 2 * 3 + 7 * ELEMENTS,
        ),
        # 6 for each element and 2 for each row, the affine 2; there and back 7
        (
            lambda: quantized.layer_norm(_q(*IMAGE), [4], None, None, 1e-5, 0.1, 0),
            6 * ELEMENTS + 2 * 24 + 7 * ELEMENTS,
        ),
        (
            lambda: quantized.group_norm(_q(*IMAGE), 1, _three(), _three(), 1e-5, 0.1, 0),
            8 * ELEMENTS + 2 * 2 + 7 * ELEMENTS,
        ),
        (
            lambda: quantized.instance_norm(_q(*IMAGE), _three(), _three(), 1e-5, 0.1, 0),
            8 * ELEMENTS + 2 * 6 + 7 * ELEMENTS,
        ),
    ],
)
def test_quantised_operators_go_there_compute_and_come_back(call, int_ops):
    m = measure(call)
    assert (m.macs, m.int_ops, m.uncounted) == (0, int_ops, ())
    # Nothing is booked twice; only the inputs, which the call makes, were floating-point.
    floating = {name for name, counts in m.by_operator.items() if counts.flops}
    assert floating == {"aten.quantize_per_tensor"}


def test_rows_of_a_quantised_table():
    layer = nnq.EmbeddingBag(50, 16, mode="sum")
    indices, offsets = torch.arange(9), torch.tensor([0, 4, 6])
    # A multiply and an add for each element; nine rows make three sums.
    m = measure(layer, indices, offsets)
    assert _counts(m) == (0, 16 * (2 * 9 + 6), 0)
    m = measure(layer, indices, offsets, torch.rand(9))
    assert _counts(m) == (0, 16 * (3 * 9 + 6), 0)
    m = measure(nnq.Embedding(50, 16), torch.tensor([[1, 2, 3], [4, 5, 6]]))
    assert _counts(m) == (0, 16 * 2 * 6, 0)


@pytest.mark.parametrize(("bits", "per_element"), [("byte", 5), ("4bit", 7), ("2bit", 7)])
def test_packing_a_table_by_the_range_of_its_rows(bits, per_element):
    pack = getattr(quantized, f"embedding_bag_{bits}_prepack")
    unpack = getattr(quantized, f"embedding_bag_{bits}_unpack")
    table = torch.randn(5, 16)
    # A row of d: 2d - 2 for minimum and maximum, 3 for scales, 3 (5, clamped) an element.
    assert _counts(measure(pack, table)) == (0, 5 * (per_element * 16 + 1), 0)
    packed = pack(table)
    assert _counts(measure(unpack, packed)) == (0, 2 * 5 * 16, 0)
    bag = getattr(quantized, f"embedding_bag_{bits}_rowwise_offsets")
    m = measure(bag, packed, torch.tensor([0, 1, 4]), torch.tensor([0, 2]))
    assert _counts(m) == (0, 16 * (2 * 3 + 1), 0)


# --- oneDNN's own operators


def _u8(*shape):
    return torch.randint(0, 255, shape, dtype=torch.uint8)


def _onednn_linear():
    weight = torch.ops.onednn.qlinear_prepack(torch.randint(-9, 9, (7, 12)).char(), None)
    return weight, torch.rand(7), torch.zeros(7, dtype=torch.int32)


def test_onednn_linear_layer_with_what_is_fused_to_it():
    op = torch.ops.onednn.qlinear_pointwise
    w, bias = _onednn_linear(), torch.randn(7)
    x = _u8(3, 12)
    m = measure(op, x, 0.1, 3, *w, bias, 0.2, 1, torch.uint8, "relu", [], "")
    assert _counts(m) == (0, 0, 2 * 252 + 21 * (1 + 5 + 1))
    m = measure(op, x, 0.1, 3, *w, None, 1.0, 0, torch.float32, "gelu", [], "tanh")
    assert _counts(m) == (0, 21 * (1 + 9), 2 * 252)
    other = torch.randn(3, 7)
    joined = (1.0, 0, "add", 1.0, "none", [], "")
    m = measure(op.binary, x, 0.1, 3, *w, other, bias, 1.0, 0, torch.float32, *joined)
    assert _counts(m) == (0, 21 * (1 + 1 + 1), 2 * 252)
    scale, zero = torch.tensor(0.1), torch.tensor(3)
    m = measure(op.tensor, x, scale, zero, *w, bias, 0.2, 1, torch.uint8, "none", [], "")
    assert _counts(m) == (0, 0, 2 * 252 + 21 * 6)


@pytest.mark.parametrize("groups", [1, 2])
def test_onednn_convolution_with_what_is_fused_to_it(groups):
    geometry = ([1, 1], [0, 0], [1, 1], groups)
    weight = torch.randint(-9, 9, (6, 4 // groups, 3, 3)).char()
    w = torch.ops.onednn.qconv_prepack(weight, torch.rand(6), 0.1, 3, *geometry, [2, 4, 8, 7])
    scales = (w, torch.rand(6), torch.zeros(6, dtype=torch.int32))
    x, bias = _u8(2, 4, 8, 7), torch.randn(6)
    results, products = 360, 2 * 360 * 9 * 4 // groups
    out = (0.2, 1, torch.uint8)
    op = torch.ops.onednn.qconv_pointwise
    m = measure(op, x, 0.1, 3, *scales, bias, *geometry, *out, "relu", [], "")
    assert _counts(m) == (0, 0, products + results * 7)
    summed = _u8(2, 6, 6, 5).to(memory_format=torch.channels_last)
    fused = (0.3, 2, "sum", 1.0, "relu", [], "")
    op = torch.ops.onednn.qconv2d_pointwise.binary
    m = measure(op, x, 0.1, 3, *scales, summed, bias, *geometry, *out, *fused)
    # A bias, rescaled (5), a ReLU, and the sum: dequantised (2) and added (1).
    assert _counts(m) == (0, 0, products + results * 10)


def test_onednn_sums_and_norms():
    a, b = _u8(2, 3), _u8(2, 3)
    scales = (0.2, 1, 0.3, 0, torch.uint8)
    onednn = torch.ops.onednn
    assert _counts(measure(onednn.qadd.tensor, a, 0.1, 3, b, *scales)) == (0, 0, 60)
    assert _counts(measure(onednn.qadd_relu.tensor, a, 0.1, 3, b, *scales)) == (0, 0, 66)
    assert _counts(measure(onednn.qmul.tensor, a, 0.1, 3, b, *scales)) == (0, 0, 60)
    norm = (*(_three(),) * 4, 1e-5, 0.3, 0, torch.uint8)
    m = measure(onednn.qbatch_norm2d, _u8(*IMAGE), 0.1, 3, *norm)
    assert _counts(m) == (0, 0, 11 * ELEMENTS + 6)


def test_onednn_layer_of_half_precision():
    weight = torch.ops.onednn.linear_prepack_fp16(torch.randn(7, 12).half(), None)
    onednn = torch.ops.onednn
    m = measure(onednn.linear_dynamic_fp16, torch.randn(3, 12), weight, torch.randn(7))
    assert _counts(m) == (252, 2 * 252 + 21, 0)
    m = measure(onednn.linear_relu_dynamic_fp16, torch.randn(3, 12), weight, None)
    assert _counts(m) == (252, 2 * 252 + 21, 0)


# --- whole models


def test_static_model_keeps_floating_point_at_its_ends():
    model = nn.Sequential(
        quantization.QuantStub(),
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 10),
        quantization.DeQuantStub(),
    ).eval()
    model.qconfig = quantization.get_default_qconfig("x86")
    prepared = quantization.prepare(model)
    x = torch.randn(2, 3, 6, 6)
    prepared(x)
    m = measure(quantization.convert(prepared), x)
    assert m.macs == 0
    assert m.flops == 5 * (2 * 3 * 36) + 2 * (2 * 10)
    conv, linear = 2 * 8 * 16, 2 * 10
    assert m.int_ops == conv * (2 * 27 + 6) + conv + linear * (2 * 128 + 6)
    assert m.uncounted == ()
    assert m.by_module["1"].own.int_ops == conv * (2 * 27 + 6)


def test_packed_weights_are_read_and_are_in_the_peak():
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(48, 64)), {nn.Linear})
    with torch.no_grad():
        m = measure(model, torch.randn(32, 48))
    # 64 x 48 bytes, a scale and a zero point of 8 each, and a bias of 64 floats.
    packed = 64 * 48 + 16 + 64 * 4
    assert m.bytes_moved == 32 * 48 * 4 + packed + 32 * 64 * 4
    assert m.peak_memory == 32 * 48 * 4 + packed + 32 * 64 * 4
    assert m.activation_memory == 32 * 64 * 4
    assert m.model_size == packed
