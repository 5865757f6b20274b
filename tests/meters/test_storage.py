"""Memory, traffic and size against numbers derived by hand."""

from __future__ import annotations

import gc

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pytest_flopbudget import MemoryTracker, measure

F32 = 4
MLP_WEIGHTS = (512 * 1024 + 1024 + 1024 * 256 + 256) * F32


def _mlp():
    return nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 256))


def test_forward_peak_holds_two_activations_the_weights_and_the_input():
    with torch.no_grad():
        m = measure(_mlp(), torch.randn(64, 512))
    # The peak is in the relu: its argument and its result.
    assert m.activation_memory == 2 * 64 * 1024 * F32 == 524_288
    # The last layer's weights are touched later, but were there all the time.
    assert m.peak_memory == 524_288 + MLP_WEIGHTS + 64 * 512 * F32


def test_training_peak_is_in_the_last_backward():
    m = measure(_mlp(), torch.randn(64, 512), train=True)
    out, d_hidden = 64 * 256 * F32, 64 * 1024 * F32
    gradients = MLP_WEIGHTS
    loss_and_its_gradient = 2 * F32
    assert out + d_hidden + gradients == 3_478_528
    assert m.activation_memory == 3_478_528 + loss_and_its_gradient


def test_peak_is_explained_by_module_and_operator():
    with torch.no_grad(), MemoryTracker() as memory:
        _mlp()(torch.randn(64, 512))
    # Made inside the block, the weights are the block's own.
    assert memory.activation_memory == memory.peak_memory == sum(memory.at_peak.values())
    assert memory.at_peak["0", "aten.addmm"] == 64 * 1024 * F32
    assert memory.at_peak["1", "aten.relu"] == 64 * 1024 * F32


def test_views_and_in_place_work_take_no_memory():
    x = torch.zeros(1000)

    def views():
        y = x.view(10, 100).t()[2:5].expand(3, 10)
        x.add_(1).mul_(2)
        return y

    m = measure(views)
    assert m.activation_memory == 0
    assert m.peak_memory == 4000


def test_freed_memory_is_used_again():
    def waves():
        for _ in range(5):
            torch.ones(1000)

    assert measure(waves).activation_memory == 4000


def test_memory_freed_before_it_is_needed_again_is_not_in_the_peak():
    def first_large_then_small():
        large = torch.ones(1000)
        del large
        return torch.ones(10)

    assert measure(first_large_then_small).activation_memory == 4000


@pytest.mark.parametrize(("collects", "alive"), [(False, 3), (True, 1)])
def test_tensors_in_a_cycle_of_references_live_until_they_are_collected(collects, alive):
    def run():
        for _ in range(3):
            cycle = [torch.zeros(1000)]
            cycle.append(cycle)
            del cycle
            if collects:
                gc.collect()

    gc.collect()
    gc.disable()  # it may come round at any allocation
    try:
        assert measure(run).peak_memory == alive * 1000 * F32
    finally:
        gc.enable()


def test_tensor_made_from_a_list_is_new():
    assert measure(lambda: torch.tensor([1.0] * 1000)).activation_memory == 4000


def test_growing_storage_is_seen():
    m = measure(lambda: torch.zeros(10).resize_(1000).fill_(0))
    assert m.activation_memory == 4000


def test_storage_resized_underneath_is_seen_at_once():
    def sharded():
        x = torch.ones(1000)
        x.untyped_storage().resize_(0)  # as sharded training frees what it can gather again
        y = torch.ones(900)
        x.untyped_storage().resize_(4000)
        return x, y

    m = measure(sharded)
    assert m.activation_memory == 4000 + 3600
    x = torch.ones(1000)
    assert measure(lambda: x.add_(1).untyped_storage().resize_(12_000)).peak_memory == 12_000


def test_region_leaves_the_resizing_of_storages_as_it_was():
    measure(torch.ones, 3)
    assert "resize_" not in vars(torch.UntypedStorage)


def test_array_of_numpy_counts_from_when_torch_is_given_it():
    array = numpy.ones(1000, dtype=numpy.float32)
    m = measure(lambda: (torch.zeros(1000).sum(), torch.from_numpy(array) + 1))
    # The zeros are gone by then; their sum, the array and its own sum are alive.
    assert m.activation_memory == m.peak_memory == 8000 + F32
    shared = torch.from_numpy(array)
    assert measure(lambda: shared + 1).activation_memory == 4000
    # A copy is made from a tensor that shares the array.
    m = measure(lambda: torch.tensor(array))
    assert (m.activation_memory, m.output.untyped_storage().nbytes()) == (8000, 4000)


def test_checkpointed_layers_hold_one_input_each():
    layers = [nn.Linear(100, 100, bias=False) for _ in range(4)]

    def loss(is_checkpointed):
        x = torch.ones(1000, 100)
        for layer in layers:
            block = nn.Sequential(layer, nn.Tanh(), nn.Tanh())
            x = checkpoint(block, x, use_reentrant=False) if is_checkpointed else block(x)
        return x

    one = 1000 * 100 * F32
    with torch.enable_grad():
        kept = measure(loss, False)
        again = measure(loss, True)
    # The input, and of each layer the results of both tanh; the product goes with the first.
    assert kept.activation_memory == one * (1 + 4 * 2)
    # The input, each result that a later layer begins with, and within the last layer the
    # product and the first tanh, then the first and the second.
    assert again.activation_memory == one * (1 + 3 + 2)


def test_state_of_the_optimiser_is_alive_in_a_training_step():
    model = nn.Linear(1000, 10, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)

    def step():
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    x = torch.ones(2, 1000)
    step()
    m = measure(step)
    weight = 1000 * 10 * F32
    # Weight and momentum and the old gradient are there before; zero_grad lets the old
    # gradient go, which no operator has touched by then. The new one is the region's own.
    # At the peak, when it is made, the input, the loss and the loss's gradient are alive.
    assert m.peak_memory == 3 * weight + 2 * 1000 * F32 + 2 * F32
    assert m.activation_memory == weight + 2 * F32


def test_sparse_tensor_holds_its_indices_and_values():
    sparse = torch.eye(64).to_sparse()
    m = measure(lambda: sparse * 2.0)
    one = 64 * (2 * 8 + F32)
    assert m.peak_memory in (2 * one, one + 64 * F32)
    assert m.bytes_moved == 2 * one


def test_input_that_dies_leaves_room():
    def consume():
        x = boxed.pop()
        y = torch.ones(1000) + x
        del x
        return torch.ones(1000) + y

    boxed = [torch.zeros(1000)]
    m = measure(consume)
    # Three at a time: the ones, the argument and the sum; then ones, sum and sum.
    assert m.peak_memory == 3 * 4000


@pytest.mark.parametrize("threads", [1, 2])
def test_peak_does_not_depend_on_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        m = measure(nn.Conv2d(3, 8, 3), torch.randn(1, 3, 32, 32), train=True)
    finally:
        torch.set_num_threads(before)
    out = 8 * 30 * 30 * F32
    # The gradient of the sum is one number, expanded by a view; the peak is in the backward
    # of the convolution, with its output and the gradients of weight and bias.
    assert m.activation_memory == out + 2 * F32 + (8 * 3 * 9 + 8) * F32


def test_tied_and_shared_weights_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(1000, 64)
            self.head = nn.Linear(64, 1000, bias=False)
            self.head.weight = self.embed.weight
            self.register_buffer("scale", torch.ones(8, dtype=torch.float64))

        def forward(self, x):
            return self.head(self.embed(x))

    model = Tied()
    model.head.weight.requires_grad_(False)
    m = measure(model, torch.tensor([1, 2]))
    assert m.params == 64_000
    assert m.trainable_params == 0
    assert m.model_size == 64_000 * F32 + 8 * 8
    assert m.by_module["embed"].params == 64_000
    assert m.by_module["head"].params == 0


def test_half_precision_is_half_the_size():
    m = measure(nn.Linear(16, 16).bfloat16(), torch.randn(2, 16).bfloat16())
    assert m.params == 272
    assert m.model_size == 2 * 272


def test_lazy_parameters_count_once_they_exist():
    assert measure(nn.LazyLinear(4), torch.randn(2, 8)).params == 36


def test_each_stretch_of_memory_is_read_once():
    x = torch.randn(10, 10)
    assert measure(torch.mul, x, x).bytes_moved == 2 * 400
    assert measure(torch.mul, x, x.t()).bytes_moved == 3 * 400
    assert measure(torch.mul, x, torch.randn(1).expand(10, 10)).bytes_moved == 2 * 400 + 4


def test_views_move_nothing_and_launch_nothing():
    m = measure(lambda: torch.empty(10).view(2, 5).t()[0])
    assert (m.bytes_moved, m.ops) == (0, 0)


def test_in_place_work_reads_and_writes():
    x = torch.randn(100)
    assert measure(x.add_, 1).bytes_moved == 2 * 400
    assert measure(x.zero_).bytes_moved == 400
    assert measure(x.copy_, torch.randn(100)).bytes_moved == 2 * 400


def test_result_given_by_out_is_written_not_read():
    x, out = torch.randn(100), torch.empty(100)
    assert measure(torch.exp, x, out=out).bytes_moved == 2 * 400


def test_picking_rows_reads_no_whole_table():
    table = torch.randn(10_000, 16)
    rows = torch.tensor([1, 5, 7])
    picked = 3 * 16 * F32
    m = measure(functional.embedding, rows, table)
    assert m.bytes_moved == 2 * picked + 3 * 8
    assert m.flops == 0
    assert m.peak_memory == 10_000 * 16 * F32 + 3 * 8 + picked


def test_sparse_buffers_count_their_indices_and_values():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("adjacency", torch.eye(64).to_sparse())
            self.lin = nn.Linear(4, 4)

        def forward(self, x):
            return self.lin(torch.sparse.mm(self.adjacency, x))

    with torch.no_grad():
        m = measure(Graph(), torch.randn(64, 4))
    # 64 values of 4 bytes, each with two indices of 8.
    assert m.model_size == 20 * F32 + 64 * F32 + 2 * 64 * 8
    assert m.params == 20
    assert m.uncounted == ()


# torch's own module for this layout is written with its deprecated script.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_model_in_another_layout_has_its_size():
    from torch.utils import mkldnn

    with torch.no_grad():
        m = measure(mkldnn.to_mkldnn(nn.Linear(48, 64).eval()), torch.randn(32, 48).to_mkldnn())
    assert m.macs == 32 * 48 * 64
    assert m.model_size == (48 * 64 + 64) * F32


def test_ensemble_under_vmap_counts_every_member():
    base = nn.Linear(4, 4)
    members = [nn.Linear(4, 4) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(members)

    def run(parameters, buffers, x):
        return torch.func.functional_call(base, (parameters, buffers), (x,))

    m = measure(torch.vmap(run, in_dims=(0, 0, None)), parameters, buffers, torch.randn(2, 4))
    assert m.macs == 3 * 2 * 4 * 4
    assert m.params == 3 * 20


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_composite_that_copies_moves_its_bytes_in_every_mode(context):
    with context():
        x = torch.ones(3, 5)
        assert measure(x.to, torch.float64).bytes_moved == 15 * 4 + 15 * 8
        assert measure(x.t().reshape, 15).bytes_moved == 2 * 15 * 4
        assert measure(x.reshape, 15).bytes_moved == 0


def test_result_of_a_seen_operator_in_another_layout_converts_freely():
    x = torch.randn(4, 4)
    with torch.no_grad():
        m = measure(lambda: x.to_mkldnn().relu().to_dense())
    assert (m.flops, m.uncounted) == (16, ())
