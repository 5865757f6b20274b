"""Fake tensors give the counts of real ones, and leave everything real as it was."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import pytest_flopbudget
from pytest_flopbudget import FlopCounter, MemoryTracker, fake, measure
from pytest_flopbudget.core.errors import MeasureError

from . import llama
from .llama import METRICS, Llama, Shape

SDPA = functional.scaled_dot_product_attention


def r(*sizes):
    return torch.randn(sizes)


def g(*sizes):
    return torch.randn(sizes, requires_grad=True)


def _attention(**kwargs):
    return lambda: (SDPA, (r(2, 8, 64, 32), r(2, 8, 64, 32), r(2, 8, 64, 32)), kwargs)


def _layer(make, *sizes):
    return lambda: (make(), (r(*sizes),), {})


def _call(fn, *sizes, **kwargs):
    return lambda: (fn, tuple(r(*size) for size in sizes), kwargs)


def _self_attention(*, need_weights):
    def make():
        x = r(2, 32, 64)
        layer = nn.MultiheadAttention(64, 4, batch_first=True).eval()
        return layer, (x, x, x), {"need_weights": need_weights}

    return make


def _encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2)


def _causal():
    return torch.ones(64, 64, dtype=torch.bool).tril()


EVERY_MODE = {
    "attention": _attention(),
    "multi-head attention": _self_attention(need_weights=False),
    "multi-head attention with weights": _self_attention(need_weights=True),
    "encoder": _layer(lambda: _encoder().eval(), 2, 32, 64),
    "gru": _layer(lambda: nn.GRU(32, 64), 10, 4, 32),
    "linear of three dimensions": _layer(lambda: nn.Linear(48, 64), 2, 16, 48),
    "bilinear": lambda: (nn.Bilinear(20, 30, 40), (r(8, 20), r(8, 30)), {}),
    "bag of embeddings": lambda: (
        nn.EmbeddingBag(50, 16, mode="sum"),
        (torch.randint(50, (8, 5)),),
        {},
    ),
}


def _vjp(a, b):
    return torch.func.vjp(torch.mm, a, b)[1](torch.ones(32, 64))


def _quantized():
    model = torch.ao.quantization.quantize_dynamic(
        nn.Sequential(nn.Linear(48, 64)), {nn.Linear}, dtype=torch.qint8
    )
    return model, (r(32, 48),), {}


def _autocast():
    layer = nn.Linear(48, 64)

    def run(x):
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)

    return run, (r(32, 48),), {}


def _pack(x, lengths):
    return nn.utils.rnn.pack_padded_sequence(x, lengths)


def _packed_inside(layer):
    def run(x):
        return layer(_pack(x, torch.tensor([10, 8, 5, 1])))

    return run


def _into_out(a, b):
    return torch.mm(a, b, out=torch.empty(32, 64))


FORWARD = {
    "causal attention": _attention(is_causal=True),
    "attention with dropout": _attention(dropout_p=0.1),
    "masked attention": lambda: (SDPA, _attention()()[1], {"attn_mask": _causal()}),
    "grouped attention": lambda: (
        SDPA,
        (r(2, 8, 64, 32), r(2, 2, 64, 32), r(2, 2, 64, 32)),
        {"enable_gqa": True},
    ),
    "attention in float64": lambda: (SDPA, tuple(t.double() for t in _attention()()[1]), {}),
    "lstm": _layer(lambda: nn.LSTM(32, 64), 10, 4, 32),
    "lstm in both directions": _layer(lambda: nn.LSTM(32, 64, 2, bidirectional=True), 10, 4, 32),
    "lstm of a packed sequence": lambda: (
        nn.LSTM(32, 64),
        (_pack(r(10, 4, 32), [10, 8, 5, 1]),),
        {},
    ),
    "gru of a sequence packed inside": lambda: (
        _packed_inside(nn.GRU(32, 64)),
        (r(10, 4, 32),),
        {},
    ),
    "lstm cell": _layer(lambda: nn.LSTMCell(32, 64), 4, 32),
    "complex convolution": lambda: (
        functional.conv1d,
        (r(2, 3, 20).cfloat(), r(6, 3, 5).cfloat()),
        {},
    ),
    "convolution in bfloat16": lambda: (
        nn.Conv2d(8, 16, 3).bfloat16(),
        (r(2, 8, 10, 10).bfloat16(),),
        {},
    ),
    "mm": _call(torch.mm, (32, 48), (48, 64)),
    "mm out": _call(_into_out, (32, 48), (48, 64)),
    "complex mm": lambda: (torch.mm, (r(32, 48).cfloat(), r(48, 64).cfloat()), {}),
    "addmm": _call(torch.addmm, (64,), (32, 48), (48, 64)),
    "addmm in place": _call(torch.Tensor.addmm_, (32, 64), (32, 48), (48, 64)),
    "addbmm": _call(torch.addbmm, (8, 32), (4, 8, 16), (4, 16, 32)),
    "baddbmm in place": _call(torch.Tensor.baddbmm_, (4, 8, 32), (4, 8, 16), (4, 16, 32)),
    "einsum": _call(lambda a, b: torch.einsum("bij,bjk->bik", a, b), (4, 8, 16), (4, 16, 32)),
    "mv": _call(torch.mv, (32, 48), (48,)),
    "addmv": _call(torch.addmv, (32,), (32, 48), (48,)),
    "addr": _call(torch.addr, (32, 48), (32,), (48,)),
    "dot": _call(torch.dot, (48,), (48,)),
    "outer": _call(torch.outer, (32,), (48,)),
    "matrix power": _call(lambda a: torch.matrix_power(a, 4), (16, 16)),
    "product of many": lambda: (torch.linalg.multi_dot, ([r(4, 8), r(8, 5), r(5, 9)],), {}),
    "tensordot": _call(torch.tensordot, (3, 4, 5), (4, 5, 6)),
    "distances": _call(torch.cdist, (30, 16), (40, 16)),
    "fft": _call(torch.fft.rfft, (1024,)),
    "solve": _call(torch.linalg.solve, (8, 8), (8, 3)),
    "svd": _call(torch.linalg.svd, (8, 8)),
    "cholesky": lambda: (torch.linalg.cholesky, (torch.eye(8),), {}),
    "integer mm": lambda: (
        torch._int_mm,
        (torch.ones(32, 64, dtype=torch.int8), torch.ones(64, 64, dtype=torch.int8)),
        {},
    ),
    "dynamically quantised linear": _quantized,
    "grouped mm": lambda: (
        torch._grouped_mm,
        (r(4, 32, 32).bfloat16(), r(4, 32, 64).bfloat16()),
        {},
    ),
    "autocast": _autocast,
    "vmap of mv": _call(torch.vmap(torch.mv, in_dims=(None, 0)), (32, 48), (5, 48)),
    "vjp": _call(_vjp, (32, 48), (48, 64)),
    "jvp": _call(lambda a, b: torch.func.jvp(torch.mm, (a, b), (a, b)), (32, 48), (48, 64)),
    "exported program": lambda: (
        torch.export.export(nn.Linear(48, 64), (r(32, 48),)).module(),
        (r(32, 48),),
        {},
    ),
    "pooling": _layer(lambda: nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)), 1, 3, 8, 8),
    "sort": _call(torch.sort, (9,)),
    "membership": lambda: (torch.isin, (torch.arange(6), torch.tensor([1, 2, 3])), {}),
    "taken branch": lambda: (
        lambda x: torch.cond(torch.tensor(True), torch.sin, torch.cos, (x,)),
        (r(4),),
        {},
    ),
}


def _checkpointed():
    block = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    return (lambda x: checkpoint(block, x, use_reentrant=False)), (g(4, 32),), {}


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, grad):
        _, b = ctx.saved_tensors
        return grad @ b.t(), None


def _pruned():
    layer = nn.Linear(8, 4)
    torch.nn.utils.prune.l1_unstructured(layer, "weight", 0.5)
    return layer


TRAINING = {
    "attention, backward": lambda: (SDPA, tuple(g(2, 8, 64, 32) for _ in range(3)), {}),
    "encoder, backward": _layer(_encoder, 2, 32, 64),
    "gru, backward": _layer(lambda: nn.GRU(32, 64), 10, 4, 32),
    "lstm of a sequence packed inside, backward": lambda: (
        _packed_inside(nn.LSTM(32, 64)),
        (r(10, 4, 32),),
        {},
    ),
    "conv1d": _layer(lambda: nn.Conv1d(3, 6, 5), 2, 3, 20),
    "conv3d": _layer(lambda: nn.Conv3d(2, 4, 3), 1, 2, 6, 6, 6),
    "conv without batch": _layer(lambda: nn.Conv2d(8, 16, 3), 8, 10, 10),
    "grouped conv": _layer(lambda: nn.Conv2d(8, 16, 3, groups=4), 2, 8, 10, 10),
    "depthwise conv": _layer(lambda: nn.Conv2d(64, 64, 3, groups=64), 1, 64, 10, 10),
    "dilated conv": _layer(lambda: nn.Conv2d(4, 8, 3, dilation=2), 1, 4, 12, 12),
    "transposed conv": _layer(lambda: nn.ConvTranspose2d(8, 4, 3, stride=2, groups=4), 1, 8, 5, 5),
    "channels last": lambda: (
        nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last),
        (r(2, 8, 10, 10).to(memory_format=torch.channels_last),),
        {},
    ),
    "batch norm": _layer(lambda: nn.BatchNorm2d(3), 2, 3, 8, 8),
    "group norm": _layer(lambda: nn.GroupNorm(2, 4), 2, 4, 8, 8),
    "instance norm": _layer(lambda: nn.InstanceNorm2d(4, affine=True), 2, 4, 8, 8),
    "layer norm": _layer(lambda: nn.LayerNorm(8), 2, 4, 8),
    "rms norm": _layer(lambda: nn.RMSNorm(8), 2, 4, 8),
    "embedding": lambda: (nn.Embedding(50, 16), (torch.randint(50, (8, 5)),), {}),
    "dropout": lambda: (nn.Dropout(0.5), (g(8, 5),), {}),
    "checkpoint": _checkpointed,
    "own function": lambda: (_Product.apply, (g(32, 48), r(48, 64)), {}),
    "cross entropy": lambda: (nn.CrossEntropyLoss(), (g(4, 10), torch.randint(10, (4,))), {}),
    "weight norm": _layer(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 4)), 3, 8),
    "spectral norm": _layer(lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 4)), 3, 8),
    "pruned": _layer(_pruned, 3, 8),
    "autocast, backward": _autocast,
}


def _step(optimizer, **settings):
    def make():
        model = nn.Linear(8, 4)
        update = optimizer(model.parameters(), **settings)

        def step(x):
            update.zero_grad()
            model(x).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            update.step()

        return step, (r(3, 8),), {}

    return make


STEPS = {
    "sgd": _step(torch.optim.SGD, lr=0.1, momentum=0.9),
    "adam": _step(torch.optim.Adam),
    "adamw, foreach": _step(torch.optim.AdamW, foreach=True),
    "adam, fused": _step(torch.optim.Adam, fused=True),
    "rmsprop": _step(torch.optim.RMSprop),
}


def _spent(m):
    """Everything that was measured, down to modules and operators."""
    rows = {
        (mod.path, row.operator): (row.calls, row.counts)
        for mod in m.modules
        for row in mod.operators
    }
    return {name: getattr(m, name) for name in METRICS}, m.uncounted, rows


def _compare(make, context, *, train=False):
    with context():
        fn, args, kwargs = make()
        real = measure(fn, *args, train=train, **kwargs)
        fn, args, kwargs = make()
        faked = measure(fn, *args, train=train, fake=True, **kwargs)
    assert _spent(faked) == _spent(real)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("case", EVERY_MODE)
def test_fused_layers_cost_the_same_as_on_real_tensors_in_every_mode(case, context):
    _compare(EVERY_MODE[case], context)


# torch deprecates its own quantisation, and the script that its jvp is written with.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantized tensor:UserWarning")
@pytest.mark.parametrize("case", FORWARD)
def test_forward_costs_the_same_as_on_real_tensors(case):
    _compare(FORWARD[case], torch.no_grad)


@pytest.mark.parametrize("case", TRAINING)
def test_backward_costs_the_same_as_on_real_tensors(case):
    _compare(TRAINING[case], torch.enable_grad, train=True)


@pytest.mark.parametrize("case", STEPS)
def test_optimiser_step_costs_the_same_as_on_real_tensors(case):
    _compare(STEPS[case], torch.enable_grad)


def test_perceptron_has_the_peaks_derived_by_hand():
    def mlp():
        return nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 256))

    with fake():
        x = torch.randn(64, 512)
        with torch.no_grad():
            assert measure(mlp(), x).activation_memory == 2 * 64 * 1024 * 4 == 524_288
        m = measure(mlp(), x, train=True)
    # Output, gradient of the hidden layer, all gradients of weights; the sum and its gradient.
    assert m.activation_memory == 3_478_528 + 2 * 4
    weights = (512 * 1024 + 1024 + 1024 * 256 + 256) * 4
    assert m.peak_memory == m.activation_memory + weights + 64 * 512 * 4


def test_resnet_18_costs_the_same_as_on_real_tensors():
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
    config = ResNetConfig(**sizes, num_labels=1000)
    image = r(1, 3, 224, 224)
    real, faked = ResNetForImageClassification(config), ResNetForImageClassification(config)
    with fake():
        built = ResNetForImageClassification(config)
    for train in (False, True):
        with torch.set_grad_enabled(train):
            expected = _spent(measure(real, image, train=train))
            assert _spent(measure(faked, image, train=train, fake=True)) == expected
            with fake():
                assert _spent(measure(built, image, train=train)) == expected
    values = expected[0]
    assert values["params"] == 11_689_512
    # Every gradient is a forward, less that of the image, which needs none.
    stem = 112 * 112 * 64 * 3 * 49
    assert values["macs"] == 3 * 1_814_073_344 - stem


def test_lstm_with_gradients_lacks_the_work_space_of_the_real_one():
    x, lstm = r(10, 4, 32), nn.LSTM(32, 64)
    real, faked = measure(lstm, x), measure(lstm, x, fake=True)
    assert (faked.macs, faked.flops, faked.ops) == (real.macs, real.flops, real.ops)
    # oneDNN keeps what its backward needs in a tensor whose size it alone knows.
    assert faked.peak_memory < real.peak_memory


# A transformer larger than the machine.


@pytest.mark.parametrize("tokens", [128, 1000])
def test_layers_of_the_70b_shape_cost_the_closed_form(tokens):
    shape = Shape(layers=2)
    with fake():
        model = Llama(shape).to(torch.bfloat16)
        ids, *angles = llama.inputs(shape, tokens)
        angles = [t.to(torch.bfloat16) for t in angles]
        with torch.no_grad():
            forward = measure(model, ids, *angles)
        training = measure(model, ids, *angles, train=True)
    _check_closed_form(shape, tokens, vars_of(forward), vars_of(training))
    assert forward.flops == shape.forward_flops(tokens)
    assert isinstance(forward.output.shape, torch.Size)
    assert tuple(forward.output.shape) == (1, tokens, shape.vocabulary)


def vars_of(m):
    return {name: getattr(m, name) for name in METRICS} | {"uncounted": list(m.uncounted)}


def _check_closed_form(shape, tokens, forward, training):
    assert forward["uncounted"] == training["uncounted"] == []
    assert forward["params"] == training["trainable_params"] == shape.params
    assert forward["macs"] == shape.forward_macs(tokens)
    assert training["macs"] == shape.training_macs(tokens)
    # Parameters and their gradients are there together at the end of the backward.
    assert training["peak_memory"] > 2 * shape.params * 2
    assert training["activation_memory"] > shape.params * 2


def _measure_alone(which, tokens):
    script = Path(llama.__file__)
    package = str(Path(pytest_flopbudget.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, str(script), which, str(tokens)],
        env={"PYTHONPATH": package, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["plain", "transformers"])
def test_whole_70b_model_is_measured_in_less_than_a_gigabyte(which):
    shape, tokens = Shape(), 8192
    # The figures of research/counting.md in the closed form, to the last digit.
    assert shape.params == 70_553_706_496
    assert 2 * shape.forward_macs(tokens) == 1_314_637_949_698_048
    found = _measure_alone(which, tokens)
    _check_closed_form(shape, tokens, found["forward"], found["training"])
    assert found["rss_bytes"] < 1e9
    if which == "plain":
        assert found["forward"]["flops"] == shape.forward_flops(tokens)
        assert found["forward"]["model_size"] == 2 * shape.params
        # The logits, the stream before the last norm and after it.
        logits, stream = tokens * shape.vocabulary * 2, tokens * shape.hidden * 2
        assert found["forward"]["activation_memory"] == logits + 2 * stream


def test_small_transformer_of_a_library_costs_the_same_but_for_its_mask():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model, ids = LlamaForCausalLM(config), torch.zeros(1, 24, dtype=torch.long)
    real, faked = measure(model, ids), measure(model, ids, fake=True)
    with fake():
        built = measure(LlamaForCausalLM(config), ids)
    # It asks whether its tensors are fake, and then makes the mask that it would leave out:
    # one addition for each score of eight heads in two layers.
    assert built.flops == faked.flops == real.flops + 2 * 8 * 24 * 24
    for name in ("macs", "params", "trainable_params", "model_size"):
        assert getattr(built, name) == getattr(faked, name) == getattr(real, name)


# What a block of fake tensors is.


def test_everything_made_inside_is_fake_and_meets_what_another_block_made():
    with fake():
        model = nn.Linear(1_000_000, 1_000_000)
    with fake():
        x = torch.ones(2, 1_000_000)
    # Outside of any block the tensors themselves say that they are fake.
    m = measure(model, x)
    assert m.macs == 2 * 10**12
    assert m.params == 10**12 + 10**6
    assert m.peak_memory == 4 * (10**12 + 10**6 + 2 * 2 * 10**6)
    assert measure(lambda: model(x)).macs == measure(model.forward, x).macs == m.macs


@pytest.mark.parametrize("convert", ["bfloat16", "half", "double"])
def test_fake_model_changes_its_dtype_and_keeps_its_ties(convert):
    with fake():
        embed, head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
        head.weight = embed.weight
        model = getattr(nn.Sequential(embed, head), convert)()
        assert model[1].weight is model[0].weight
        assert isinstance(model[0].weight, nn.Parameter)
        m = measure(model, torch.zeros(3, dtype=torch.long), train=True)
    assert m.params == 50 * 16
    assert m.model_size == 50 * 16 * model[0].weight.element_size()
    assert m.output.dtype == model[0].weight.dtype


def test_constructor_that_draws_until_it_fits_is_built():
    with fake():
        weight = nn.init.trunc_normal_(torch.empty(3, 5), std=0.02)
        rates = [rate.item() for rate in torch.linspace(0, 0.3, 4)]
    assert weight.shape == (3, 5)
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


def test_vision_transformer_that_initialises_by_rejection_is_built():
    from transformers import ViTConfig, ViTForImageClassification

    with fake(), torch.no_grad():
        model = ViTForImageClassification(ViTConfig(num_labels=1000)).eval()
        m = measure(model, torch.ones(1, 3, 224, 224))
    assert (m.macs, m.params) == (17_563_828_224, 86_567_656)


def test_building_and_running_draw_no_random_number():
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with fake():
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
        measure(model, torch.randn(2, 4), train=True)
    measure(nn.Dropout(0.5), torch.ones(3), fake=True)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_counters_and_trackers_work_inside():
    with fake(), FlopCounter() as counter, MemoryTracker() as memory:
        torch.mm(torch.ones(1000, 2000), torch.ones(2000, 3000))
    assert counter.macs == 1000 * 2000 * 3000
    assert memory.peak_memory == 4 * (1000 * 2000 + 2000 * 3000 + 1000 * 3000)


# What was real stays real.


class _Keeps(nn.Module):
    """Keeps what it computed, as buffer, attribute and running statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("seen", torch.zeros(4))
        self.scale = torch.full((1,), 2.0)

    def forward(self, x):
        self.last = self.norm(x) * self.scale
        self.seen = self.seen + x.sum(0)
        return self.last


def test_real_module_is_as_it_was():
    model, x = _Keeps(), r(3, 4).requires_grad_()
    model.norm.weight.grad = torch.full((4,), 7.0)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    values = {name: tensor.clone() for name, tensor in tensors.items()}
    gradient = model.norm.weight.grad
    for _ in range(2):
        m = measure(model, x, train=True, fake=True)
        assert m.params == 8
        after = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        assert all(after[name] is tensor for name, tensor in tensors.items())
        assert all(torch.equal(after[name], value) for name, value in values.items())
        assert model.norm.weight.grad is gradient
        assert torch.equal(gradient, torch.full((4,), 7.0))
        assert model.norm.bias.grad is None
        assert x.grad is None
        assert not hasattr(model, "last")
        assert model.training
    assert type(model(x)) is torch.Tensor


def test_real_module_stays_real_after_an_error():
    model = nn.Sequential(nn.Linear(4, 4), _Reads())
    with pytest.raises(MeasureError):
        measure(model, r(2, 4), fake=True)
    assert type(measure(model[0], r(2, 4), train=True).output) is torch.Tensor


def test_state_of_a_real_optimiser_is_as_it_was():
    model = nn.Linear(8, 4)
    optimizer = torch.optim.Adam(model.parameters())

    def step(x):
        model(x).sum().backward()
        optimizer.step()

    first = measure(step, r(3, 8), fake=True)
    assert not optimizer.state
    step(r(3, 8))
    state = {name: value.clone() for name, value in optimizer.state[model.weight].items()}
    second = measure(step, r(3, 8), fake=True)
    assert first.macs == second.macs == 2 * 3 * 8 * 4
    assert all(torch.equal(optimizer.state[model.weight][name], v) for name, v in state.items())


def test_graph_behind_an_argument_is_run_backward_into():
    base, weight = r(3, 8), g(8, 4)
    faked = measure(torch.relu, base @ weight, train=True, fake=True)
    assert weight.grad is None
    real = measure(torch.relu, base @ weight, train=True)
    assert faked.macs == real.macs == 3 * 8 * 4


def test_real_weights_are_booked_as_parameters_once():
    model = nn.Linear(8, 4)
    m = measure(model, r(3, 8), fake=True)
    assert m.by_operator["parameter"].peak_memory == 4 * (8 * 4 + 4)
    assert m.by_operator["input"].peak_memory == 4 * 3 * 8
    assert m.activation_memory == 4 * 3 * 4


def test_module_converted_inside_a_block_is_as_it_was():
    model = nn.Linear(8, 4)
    weight = model.weight
    with fake():
        assert measure(model.to(torch.bfloat16), torch.ones(3, 8).bfloat16()).model_size == 2 * 36
    assert model.weight is weight
    assert type(model(r(3, 8))) is torch.Tensor


# Code that needs values.


class _Reads(nn.Module):
    def forward(self, x):
        return x * x.max().item()


def _branches(x):
    if x.sum() > 0:
        return x
    return -x


def _lists(x):
    return [number * 2 for number in x.tolist()]


def _to_numpy(x):
    return torch.from_numpy(x.numpy() * 2)


def _selects(x):
    return x[x > 0].sum()


def _finds(x):
    return torch.nonzero(x)


def _sparse(x):
    return torch.sparse.mm(x.to_sparse(), x.t())


def _shapes(x):
    return CONSTANT.unsqueeze_(0) + x


CONSTANT = torch.ones(3)


@pytest.mark.parametrize(
    ("code", "line", "does"),
    [
        (_Reads(), "`return x * x.max().item()`", "reads a value out of a tensor"),
        (_branches, "`if x.sum() > 0:`", "reads a value out of a tensor (aten._local_sca"),
        (_lists, "`return [number * 2 for number in x.tolist()]`", "reads a value out of a tensor"),
        (_to_numpy, "`return torch.from_numpy(x.numpy() * 2)`", "hands the data of a tensor"),
        (_selects, "`return x[x > 0].sum()`", "makes a tensor whose size depends on values (a"),
        (_finds, "`return torch.nonzero(x)`", "makes a tensor whose size depends on values"),
        (_sparse, "`return torch.sparse.mm(x.to_sparse(), x.t())`", "uses a fake tensor of layout"),
        (_shapes, "`return CONSTANT.unsqueeze_(0) + x`", "changes the sizes of a real tensor"),
    ],
)  # fmt: skip
def test_line_that_needs_values_is_named(code, line, does, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    with pytest.raises(MeasureError) as caught:
        measure(code, r(3, 3) if code is not _lists else r(3), fake=True)
    said = str(caught.value)
    number = 1 + next(
        at for at, text in enumerate(Path(__file__).read_text("utf-8").splitlines())
        if text.strip() == line.strip("`")
    )  # fmt: skip
    assert said.startswith(f"test_fake.py:{number}: {line} {does}")
    assert "measure without fake" in said or "argument of the measured call" in said
    assert "\n" not in said
    # What was counted until then is there.
    assert caught.value.flopbudget_partial.is_partial


def test_line_of_a_library_is_named_with_the_line_that_called_it():
    packed = _pack(r(10, 4, 32), [10, 8, 5, 1])
    with pytest.raises(MeasureError, match=r"test_fake.py:\d+: `return nn.utils.rnn.pad_packed"):
        measure(_pad, packed, fake=True)
    with pytest.raises(MeasureError, match=r"test_fake.py:\d+: `measure\(torch.equal, .*reads a"):
        measure(torch.equal, r(3), r(3), fake=True)


def test_line_of_an_installed_package_is_named_with_the_users_own(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages" / "flopbudget_reads"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("def peek(x):\n    return x.max().item()\n", "utf-8")
    monkeypatch.syspath_prepend(str(folder.parent))
    from flopbudget_reads import peek

    with pytest.raises(MeasureError) as caught:
        measure(lambda x: 2 * peek(x), r(3), fake=True)
    said = str(caught.value)
    assert said.startswith("flopbudget_reads/__init__.py:2: `return x.max().item()` (called from ")
    assert "test_fake.py:" in said


def _pad(packed):
    return nn.utils.rnn.pad_packed_sequence(packed)


def test_operator_without_a_kernel_for_fake_tensors_is_named():
    @torch.library.custom_op("flopbudget_fake_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    with pytest.raises(MeasureError, match=r"no kernel for fake tensors; .*register_fake"):
        measure(twice, r(3), fake=True)
    twice.register_fake(torch.empty_like)
    assert measure(twice, r(3), fake=True).output.shape == (3,)


@pytest.mark.filterwarnings("ignore:.*quantized tensor:UserWarning")
def test_what_a_fake_tensor_cannot_stand_for_is_refused():
    with pytest.raises(MeasureError, match=r"layout torch.sparse_coo, which a fake one cannot"):
        measure(torch.mm, torch.eye(8).to_sparse(), r(8, 4), fake=True)
    with pytest.raises(MeasureError, match=r"cannot be fake .*quantized"):
        measure(torch.dequantize, torch.quantize_per_tensor(r(3), 0.1, 0, torch.quint8), fake=True)
    with pytest.raises(MeasureError, match="LazyLinear that has no sizes yet; run it once"):
        measure(nn.LazyLinear(4), r(2, 8), fake=True)
    with (
        pytest.raises(MeasureError, match=r"nested tensor, .*enable_nested_tensor=False"),
        torch.no_grad(),
    ):
        measure(
            _encoder().eval(),
            r(2, 32, 64),
            src_key_padding_mask=torch.zeros(2, 32, dtype=torch.bool),
            fake=True,
        )


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="same reduction dim"):
        measure(torch.mm, r(2, 3), r(4, 5), fake=True)
    with pytest.raises(ZeroDivisionError), fake():
        _ = 1 / 0


# Other devices.


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="this torch can make them")
def test_fake_cuda_tensors_are_refused_where_torch_would_abort():
    for make in (
        lambda: nn.Linear(3, 3, device="cuda"),
        lambda: torch.ones(3).to("cuda"),
        lambda: nn.Linear(3, 3).to("cuda"),
    ):
        with pytest.raises(MeasureError, match=r"for CUDA, .* stand for the CPU"), fake():
            make()


def test_meta_tensors_take_the_road_of_products():
    def attend(device):
        return [torch.ones(2, 8, 64, 32, device=device, requires_grad=True) for _ in range(3)]

    forward = 2 * 8 * 64 * 64 * (32 + 32)
    meta = measure(SDPA, *attend("meta"), train=True)
    with fake():
        cpu = measure(SDPA, *attend("cpu"), train=True)
    # Written out in products, each has two in its backward; fused, five for two.
    assert (meta.macs, cpu.macs) == (3 * forward, 7 * forward // 2)
    assert measure(SDPA, *attend("meta"), train=True, fake=True).macs == meta.macs
