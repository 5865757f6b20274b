"""How many weights a model has and what they take, wherever they are kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.ao import quantization
from torch.ao.nn import quantized as nnq
from torch.nn.utils import parametrizations, prune
from torch.utils._python_dispatch import return_and_correct_aliasing

from pytest_flopbudget import FlopCounter, MemoryTracker, measure
from pytest_flopbudget.meters.extents import SeenMemory

pytestmark = [
    # What is tested here is deprecated in favour of torchao, and is in use.
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning"
    ),
]

packing = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines,
    reason="the libraries of this processor pack other weights than these",
)
F32 = 4
SCALE = 8 + 8  # a scale and a zero point, as torch keeps them


class Holder(nn.Module):
    """Holds what it is given, and does nothing with it."""

    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter | nn.Module):
                setattr(self, name, tensor)
            else:
                self.register_buffer(name, tensor)

    def forward(self):
        return 0


def _sizes(module, *args):
    m = measure(module, *args)
    return m.params, m.trainable_params, m.model_size


def _parameter(tensor, **kwargs):
    return nn.Parameter(tensor, **kwargs)


# --- plain weights


def test_buffers_have_a_size_and_are_no_parameters():
    norm = nn.BatchNorm1d(7)
    norm.train(False)
    # Weight and bias; running mean and variance, and the count of batches in int64.
    assert _sizes(norm, torch.randn(2, 7)) == (14, 14, (14 + 14) * F32 + 8)


def test_mixed_precision_counts_every_tensor_by_its_own_dtype():
    holder = Holder(
        a=_parameter(torch.zeros(3, 5)),
        b=_parameter(torch.zeros(7).bfloat16()),
        c=_parameter(torch.zeros(2, dtype=torch.complex64)),
        d=torch.zeros(11, dtype=torch.int8),
        e=torch.zeros(4, dtype=torch.float8_e4m3fn),
    )
    assert _sizes(holder) == (15 + 7 + 2, 24, 15 * 4 + 7 * 2 + 2 * 8 + 11 + 4)


def test_frozen_parameters_are_parameters():
    holder = Holder(a=_parameter(torch.zeros(3)), b=_parameter(torch.zeros(5), requires_grad=False))
    assert _sizes(holder) == (8, 3, 8 * F32)


def test_lists_dicts_and_modules_in_two_places_count_once():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.again = self.first
            self.listed = nn.ParameterList([torch.zeros(3), torch.zeros(5)])
            self.named = nn.ParameterDict({"x": torch.zeros(7)})

        def forward(self, x):
            return self.again(self.first(x))

    assert _sizes(Two(), torch.randn(2, 4)) == (20 + 15, 35, 35 * F32)


def test_meta_and_fake_weights_have_the_bytes_that_they_declare():
    from torch._subclasses import FakeTensorMode

    x = torch.randn(2, 12, device="meta")
    assert _sizes(nn.Linear(12, 7, device="meta"), x) == (91, 91, 91 * F32)
    with FakeTensorMode():
        assert _sizes(nn.Linear(12, 7), torch.randn(2, 12)) == (91, 91, 91 * F32)


def test_pruning_keeps_the_weights_and_adds_its_masks():
    layer = nn.Linear(12, 7)
    prune.l1_unstructured(layer, "weight", 0.5)
    assert _sizes(layer, torch.randn(2, 12)) == (91, 91, (91 + 84) * F32)
    prune.remove(layer, "weight")
    assert _sizes(layer, torch.randn(2, 12)) == (91, 91, 91 * F32)


def test_parametrised_weights_count_as_they_are_stored():
    layer = parametrizations.weight_norm(nn.Linear(12, 7))
    # The direction [7, 12], a length for each of 7 rows, and the bias.
    assert _sizes(layer, torch.randn(2, 12)) == (84 + 7 + 7, 98, 98 * F32)


# --- shared memory


def test_transposed_tie_is_one_weight():
    embed = nn.Embedding(9, 4)
    holder = Holder(embed=embed, head=_parameter(embed.weight.detach().t()))
    assert _sizes(holder) == (36, 36, 36 * F32)


def test_views_that_share_a_part_count_that_part_once():
    flat = torch.zeros(100)
    holder = Holder(
        first=_parameter(flat[:60]),
        second=_parameter(flat[40:90]),  # 20 of its 50 are the first's
        third=_parameter(flat[10:20]),  # all of it
    )
    assert _sizes(holder) == (90, 90, 90 * F32)


def test_columns_of_one_matrix_count_each_place_once():
    matrix = torch.zeros(6, 8)
    holder = Holder(
        even=_parameter(matrix[:, ::2]),
        left=_parameter(matrix[:, :4]),  # 2 of its 4 columns are even
        whole=_parameter(matrix),
    )
    assert _sizes(holder) == (48, 48, 48 * F32)
    parts = measure(Holder(even=_parameter(matrix[:, ::2]), left=_parameter(matrix[:, :4])))
    assert parts.params == 6 * 6


def test_expanded_weight_is_as_large_as_what_it_repeats():
    assert _sizes(Holder(scale=_parameter(torch.zeros(1).expand(1000)))) == (1, 1, F32)


def test_two_roots_that_share_a_weight_count_it_once():
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
    second.weight = first.weight
    x = torch.randn(2, 4)
    m = measure(lambda: second(first(x)))
    assert m.params == 16 + 4
    assert m.model_size == 20 * F32


def test_weights_of_a_model_that_died_are_not_taken_for_those_of_the_next():
    def run():
        for _ in range(3):
            nn.Linear(4, 4)(torch.randn(2, 4))

    assert measure(run).params == 3 * 20


@st.composite
def _extents(draw):
    sizes = draw(st.lists(st.integers(0, 4), max_size=3))
    strides = [draw(st.integers(0, 9)) for _ in sizes]
    return sizes, strides, draw(st.integers(0, 20))


@given(st.lists(_extents(), max_size=5))
def test_each_place_in_memory_counts_once_whatever_the_strides(extents):
    places = torch.arange(100)
    seen, known = SeenMemory(), set()
    for extent in extents:
        view = places.as_strided(*extent)
        before = len(known)
        known.update(view.flatten().tolist())
        assert seen.add(view) == 8 * (len(known) - before)


# --- sparse and nested


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta state:UserWarning")
@pytest.mark.parametrize(
    ("layout", "indices"),
    [("to_sparse", 2 * 5), ("to_sparse_csr", 7 + 5), ("to_sparse_csc", 9 + 5)],
)
def test_sparse_weights_count_the_values_that_they_store(layout, indices):
    dense = torch.zeros(6, 8)
    dense[torch.tensor([0, 1, 1, 3, 5]), torch.tensor([1, 2, 3, 0, 7])] = 1
    holder = Holder(weight=_parameter(getattr(dense, layout)()))
    assert _sizes(holder) == (5, 5, 5 * F32 + indices * 8)


@pytest.mark.parametrize(
    ("layout", "offsets"),
    [(torch.jagged, 3), (torch.strided, 0)],  # one offset more than there are rows
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype:UserWarning")
def test_nested_weights_count_what_their_rows_hold(layout, offsets):
    rows = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)], layout=layout)
    assert _sizes(Holder(rows=rows)) == (0, 0, 18 * F32 + offsets * 8)
    assert _sizes(Holder(rows=nn.Parameter(rows))) == (18, 18, 18 * F32 + offsets * 8)


# --- quantised weights


@pytest.fixture
def mlp():
    return nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))


WEIGHTS, BIASES = 256 * 512 + 512 * 10, 512 + 10


@packing
def test_packed_weights_are_parameters_of_a_byte_each(mlp):
    model = quantization.quantize_dynamic(mlp, {nn.Linear})
    assert list(model.parameters()) == []
    params, trainable, size = _sizes(model, torch.randn(8, 256))
    assert params == WEIGHTS + BIASES == 136_714
    assert trainable == 0
    assert size == WEIGHTS + BIASES * F32 + 2 * SCALE == 138_312


@packing
def test_size_of_packed_weights_is_that_of_the_file_but_for_its_headers(mlp, tmp_path):
    model = quantization.quantize_dynamic(mlp, {nn.Linear})
    torch.save(model.state_dict(), tmp_path / "model.pt")
    in_file = (tmp_path / "model.pt").stat().st_size
    size = measure(model, torch.randn(8, 256)).model_size
    assert size < in_file < size + 5000


@packing
def test_packed_weights_are_booked_to_the_module_that_holds_them(mlp):
    model = quantization.quantize_dynamic(mlp, {nn.Linear})
    m = measure(model, torch.randn(8, 256))
    assert m.by_module["0"].params == 256 * 512 + 512
    assert m.by_module["2"].params == 512 * 10 + 10


@packing
def test_packed_weights_of_half_precision_take_two_bytes(mlp):
    model = quantization.quantize_dynamic(mlp, {nn.Linear}, dtype=torch.float16)
    sizes = _sizes(model, torch.randn(8, 256))
    assert sizes == (136_714, 0, 2 * WEIGHTS + BIASES * F32)


@packing
def test_scales_of_every_channel_are_in_the_size():
    layer = nnq.Conv2d(4, 6, 3)
    weight = torch.quantize_per_channel(
        torch.randn(6, 4, 3, 3), torch.rand(6), torch.zeros(6, dtype=torch.long), 0, torch.qint8
    )
    layer.set_weight_bias(weight, torch.randn(6))
    x = torch.quantize_per_tensor(torch.randn(1, 4, 5, 5), 0.1, 0, torch.quint8)
    assert _sizes(layer, x) == (216 + 6, 0, 216 + 6 * F32 + 6 * SCALE)


def test_quantised_tensors_are_buffers_like_others():
    by_tensor = torch.quantize_per_tensor(torch.randn(3, 5), 0.1, 0, torch.qint8)
    scales, zeros = torch.rand(3), torch.zeros(3, dtype=torch.long)
    by_channel = torch.quantize_per_channel(torch.randn(3, 5), scales, zeros, 0, torch.qint8)
    assert _sizes(Holder(a=by_tensor)) == (0, 0, 15 + SCALE)
    assert _sizes(Holder(a=by_channel)) == (0, 0, 15 + 3 * SCALE)


@packing
def test_quantised_tables_take_a_byte_or_half_of_one():
    layer = nnq.Embedding(50, 16)
    # A scale and a zero point of 4 bytes for each row.
    assert _sizes(layer, torch.tensor([1, 2])) == (800, 0, 800 + 50 * 8)
    weight = torch.quantize_per_channel(
        torch.randn(50, 14), torch.rand(50), torch.zeros(50), 0, torch.quint4x2
    )
    layer = nnq.Embedding(50, 14, _weight=weight, dtype=torch.quint4x2)
    # Rows of 14 take 7 bytes each.
    assert _sizes(layer, torch.tensor([1, 2])) == (700, 0, 50 * 7 + 50 * 8)


@packing
def test_quantised_recurrent_layers_keep_their_weights_in_cells():
    lstm = quantization.quantize_dynamic(nn.Sequential(nn.LSTM(12, 7)), {nn.LSTM})
    sizes = _sizes(lstm, torch.randn(5, 3, 12))
    matrices, biases = 28 * 12 + 28 * 7, 2 * 28
    assert sizes == (matrices + biases, 0, matrices + biases * F32 + 2 * SCALE)
    cell = quantization.quantize_dynamic(nn.Sequential(nn.LSTMCell(12, 7)), {nn.LSTMCell})
    assert _sizes(cell, torch.randn(3, 12)) == sizes


# torch.jit is deprecated too.
@packing
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
def test_scripted_quantised_model_counts_its_packages_once(mlp):
    model = torch.jit.script(quantization.quantize_dynamic(mlp, {nn.Linear}))
    m = measure(model, torch.randn(8, 256))
    assert (m.params, m.model_size) == (136_714, 138_312)
    assert m.int_ops == 2 * 8 * WEIGHTS


@packing
def test_looking_at_weights_is_not_counted(mlp):
    model = quantization.quantize_dynamic(mlp, {nn.Linear})
    x = torch.randn(8, 256)
    with FlopCounter() as counter:
        m = measure(model, x)
    assert counter.ops == m.ops == 3


# --- tensor subclasses


class Int8Weight(torch.Tensor):
    """A weight in int8 with a scale for each row, as torchao has them.

    Products with it dequantise it, or multiply integers when the input is such too.
    """

    multiplies_integers = False

    @staticmethod
    def __new__(cls, integers, scale, dtype):
        return torch.Tensor._make_wrapper_subclass(cls, integers.shape, dtype=dtype)

    def __init__(self, integers, scale, dtype):
        self.integers, self.scale = integers, scale

    def __tensor_flatten__(self):
        return ["integers", "scale"], self.dtype

    @classmethod
    def __tensor_unflatten__(cls, inner, dtype, _size, _stride):
        return cls(inner["integers"], inner["scale"], dtype)

    @classmethod
    def of(cls, weight):
        scale = weight.abs().amax(dim=1, keepdim=True) / 127
        return cls((weight / scale).round().to(torch.int8), scale, weight.dtype)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        aten = torch.ops.aten
        if func in (aten.detach.default, aten.t.default):
            (weight,) = args
            if func is aten.t.default:
                new = cls(weight.integers.t(), weight.scale.t(), weight.dtype)
            else:
                new = cls(weight.integers, weight.scale, weight.dtype)
            return return_and_correct_aliasing(func, args, kwargs or {}, new)
        if func is aten.addmm.default:
            bias, x, weight = args
            if cls.multiplies_integers:
                scale = x.abs().amax(dim=1, keepdim=True) / 127
                integers = (x / scale).round().to(torch.int8)
                product = torch._int_mm(integers, weight.integers)
                return product * scale * weight.scale + bias
            return torch.addmm(bias, x, weight.integers.to(x.dtype) * weight.scale)
        raise NotImplementedError(f"{func} of an int8 weight")


class DynamicInt8Weight(Int8Weight):
    multiplies_integers = True


def _with_subclass(model, cls):
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight = nn.Parameter(cls.of(layer.weight.detach()), requires_grad=False)
    return model


def test_subclass_counts_its_elements_and_takes_the_bytes_of_its_parts(mlp):
    with torch.no_grad():
        sizes = _sizes(_with_subclass(mlp, Int8Weight), torch.randn(8, 256))
    assert sizes == (136_714, BIASES, WEIGHTS + BIASES * F32 + BIASES * F32)


def test_subclass_that_dequantises_multiplies_floats(mlp):
    model = _with_subclass(mlp, Int8Weight)
    with torch.no_grad():
        m = measure(model, torch.randn(8, 256))
    assert m.macs == 8 * WEIGHTS
    # A multiply for each weight, an add for each bias, and the ReLU.
    assert m.flops == 2 * m.macs + WEIGHTS + 8 * BIASES + 8 * 512
    assert m.int_ops == 0
    assert m.uncounted == ()


def test_subclass_that_multiplies_integers_has_no_floating_point_products(mlp):
    model = _with_subclass(mlp, DynamicInt8Weight)
    with torch.no_grad():
        m = measure(model, torch.randn(8, 256))
    assert m.macs == 0
    assert m.int_ops == 2 * 8 * WEIGHTS
    assert m.uncounted == ()


def test_parts_of_a_subclass_are_parameters_in_the_peak_too(mlp):
    model = _with_subclass(mlp, Int8Weight)
    with torch.no_grad(), MemoryTracker() as memory:
        model(torch.randn(8, 256))
    held = memory.at_peak["0", "parameter"]
    assert held == 256 * 512 + 512 * F32 + 512 * F32  # integers, scales, biases


def test_subclass_that_is_tied_counts_once():
    weight = nn.Parameter(Int8Weight.of(torch.randn(7, 12)), requires_grad=False)
    again = nn.Parameter(weight.detach(), requires_grad=False)
    assert _sizes(Holder(a=weight, b=again)) == (84, 0, 84 + 7 * F32)


def test_subclass_of_subclasses_is_followed_to_the_ground():
    inner = Int8Weight.of(torch.randn(7, 12))
    nested = Int8Weight(inner, torch.ones(7, 1), torch.float32)
    holder = Holder(a=nn.Parameter(nested, requires_grad=False))
    assert _sizes(holder) == (84, 0, 84 + 2 * 7 * F32)


@pytest.mark.filterwarnings("ignore")  # it warns of its own C++ extensions, and of torch
def test_torchao_is_counted_as_its_numbers_are_stored_and_multiplied(mlp):
    pytest.importorskip("torchao", reason="no dependency: Int8Weight stands for it in this file")
    from torchao import quantization as torchao

    x = torch.randn(8, 256)
    torchao.quantize_(mlp, torchao.Int8WeightOnlyConfig())
    with torch.no_grad():
        m = measure(mlp, x)
    # int8 weights, a scale in float32 and a zero point in int8 for each row, float biases
    assert m.model_size == WEIGHTS + BIASES * (4 + 1) + BIASES * F32 == 140_890
    assert m.params == 136_714
    assert m.macs == 8 * WEIGHTS
    assert m.int_ops == 0
    assert m.uncounted == ()
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
    torchao.quantize_(model, torchao.Int8DynamicActivationInt8WeightConfig())
    with torch.no_grad():
        m = measure(model, x)
    assert (m.params, m.model_size) == (136_714, 140_890)
    assert (m.macs, m.int_ops) == (0, 2 * 8 * WEIGHTS)
    assert m.uncounted == ()


def test_distributed_weights_take_the_bytes_of_the_part_that_is_here():
    from torch import distributed

    if not distributed.is_available():
        pytest.skip("torch was built without distributed")
    from torch.distributed.tensor import DTensor, Shard, init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    try:
        mesh = init_device_mesh("cpu", (4,))
        local = torch.zeros(3, 5)
        weight = DTensor.from_local(local, mesh, [Shard(0)])
        holder = Holder(weight=nn.Parameter(weight))
        # Twelve rows in all, three of which are on this rank.
        assert _sizes(holder) == (60, 60, 15 * F32)
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("memory", [True, False])
def test_parameters_may_be_swapped_in_a_region_and_after_it(memory):
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model = nn.Linear(4, 3)
        with FlopCounter(memory=memory) as counter:
            model(torch.ones(2, 4)).sum().backward()
            model.zero_grad()
            model.double()
            model.load_state_dict(model.state_dict())
        model.float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert model.weight.dtype == torch.float32
    # The product of the forward, and that of the gradient of the weight.
    assert counter.macs == 2 * (2 * 4 * 3)
