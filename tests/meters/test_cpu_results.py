"""Fake tensors have the bytes of what kernels of the CPU return, also where torch's have not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pytest_flopbudget import fake, measure
from pytest_flopbudget.core.errors import MeasureError

from .llama import METRICS

MODES = [torch.no_grad, torch.inference_mode, torch.enable_grad]
FLOAT, WHOLE = 4, 8


def _spent(fn, args, *, is_fake, train):
    m = measure(fn, *args, fake=is_fake, train=train)
    operators = {(mod.path, row.operator): row for mod in m.modules for row in mod.operators}
    rows = {at: (row.calls, row.counts) for at, row in operators.items()}
    return {name: getattr(m, name) for name in METRICS}, m.uncounted, rows


def _check(make, context, *, train=False):
    # Twice: torch keeps what an operator on fake tensors gave, but for the size of its storage.
    for _ in range(2):
        with context():
            real = _spent(*make(), is_fake=False, train=train)
            assert _spent(*make(), is_fake=True, train=train) == real


def g(*sizes):
    return torch.randn(sizes, requires_grad=True)


LOSSES = {
    "mse": functional.mse_loss,
    "smooth l1": functional.smooth_l1_loss,
    "soft margin": functional.soft_margin_loss,
    "huber": functional.huber_loss,
    "l1": functional.l1_loss,
    "binary cross-entropy": lambda x, y, reduction: functional.binary_cross_entropy(
        x.sigmoid(), y, reduction=reduction
    ),
    "cross-entropy, label smoothing": lambda x, _, reduction: functional.cross_entropy(
        x, torch.tensor([1, 0, 2]), label_smoothing=0.1, reduction=reduction
    ),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_hold_what_they_hold_on_the_cpu(loss, reduction):
    def make():
        return (lambda x, y: LOSSES[loss](x, y, reduction=reduction)), (g(3, 5), torch.ones(3, 5))

    for context in MODES:
        _check(make, context)
    _check(make, torch.enable_grad, train=True)


@pytest.mark.parametrize("is_fake", [False, True])
def test_mean_of_a_loss_keeps_the_buffer_of_its_elements(is_fake):
    m = measure(functional.mse_loss, torch.rand(100), torch.rand(100), fake=is_fake)
    assert m.peak_memory == 3 * 100 * FLOAT  # both operands, and the buffer
    assert m.activation_memory == 100 * FLOAT


@pytest.mark.parametrize("is_fake", [False, True])
def test_gradient_of_patches_keeps_the_buffer_of_the_patches(is_fake):
    x = torch.rand(2, 3, 9, 9, requires_grad=True)
    m = measure(nn.Unfold((2, 3)), x, fake=is_fake, train=True)
    image, patches = 2 * 3 * 81 * FLOAT, 2 * (3 * 2 * 3) * (8 * 7) * FLOAT
    # The input, the patches, their sum, its gradient, and the image's in a buffer like the patches.
    assert m.peak_memory == image + patches + 2 * FLOAT + max(image, patches)


WINDOWS = {
    "fold": lambda: (nn.Fold((4, 5), (2, 2)), (g(1, 12, 12),)),
    "fold without batch": lambda: (nn.Fold((4, 5), (2, 2)), (g(12, 12),)),
    "unfold": lambda: (nn.Unfold((2, 3)), (g(2, 3, 9, 9),)),
    "unfold, strided": lambda: (nn.Unfold((2, 3), stride=4), (g(2, 3, 9, 9),)),
    "unfold without batch": lambda: (nn.Unfold(3, stride=3), (g(3, 9, 9),)),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_windows_hold_what_they_hold_on_the_cpu(case):
    for context in MODES:
        _check(WINDOWS[case], context)
    _check(WINDOWS[case], torch.enable_grad, train=True)


@pytest.mark.parametrize("is_fake", [False, True])
def test_real_tensor_in_a_larger_storage_counts_the_whole_of_it(is_fake):
    x = torch.empty(100)[:10]
    x.grad = torch.empty(50).set_(torch.empty(50).untyped_storage(), 0, (10,))
    m = measure(lambda: x.grad + x, fake=is_fake)
    assert m.peak_memory == (100 + 50 + 10) * FLOAT


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("has_end", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 1])
def test_bags_hold_what_they_hold_on_the_cpu(mode, has_end, padding, dtype):
    offsets = torch.tensor([0, 3, 9, 12][: 4 if has_end else 3])
    picked = torch.randint(20, (12,))

    def make():
        bags = nn.EmbeddingBag(
            20, 6, mode=mode, include_last_offset=has_end, padding_idx=padding, dtype=dtype
        )
        return bags, (picked, offsets)

    for context in MODES:
        _check(make, context)
    _check(make, torch.enable_grad, train=True)


@pytest.mark.parametrize("is_fake", [False, True])
def test_bags_keep_room_for_a_size_by_offset_and_a_maximum_by_bag(is_fake):
    bags = nn.EmbeddingBag(20, 6, mode="sum", include_last_offset=True)
    with torch.no_grad():
        m = measure(bags, torch.arange(12), torch.tensor([0, 3, 9, 12]), fake=is_fake)
    table, sums = 20 * 6 * FLOAT, 3 * 6 * FLOAT
    assert m.activation_memory == sums + (4 + 3) * WHOLE
    assert m.peak_memory == table + (12 + 4) * WHOLE + m.activation_memory


def test_weighted_bags_hold_what_they_hold_on_the_cpu():
    weights = torch.rand(4, 3)

    def make():
        return nn.EmbeddingBag(20, 6, mode="sum"), (torch.ones(4, 3, dtype=torch.long),)

    def weighted():
        bags, args = make()
        return (lambda x: bags(x, per_sample_weights=weights)), args

    for context in MODES:
        _check(weighted, context)


class _ChannelsLast(nn.Module):
    def forward(self, x):
        return x.to(memory_format=torch.channels_last)


NORMS = {
    "layer": lambda: nn.LayerNorm([5, 6]),
    "layer, no weights": lambda: nn.LayerNorm([5, 6], elementwise_affine=False),
    "group": lambda: nn.GroupNorm(2, 4),
    "batch": lambda: nn.BatchNorm2d(4),
    "batch, no weights": lambda: nn.BatchNorm2d(4, affine=False),
    "batch, no statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "batch, channels last": lambda: nn.Sequential(_ChannelsLast(), nn.BatchNorm2d(4)),
    "instance": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_norms_of_another_dtype_than_their_weights_cost_what_real_ones_do(norm, is_training, dtype):
    def make():
        x = torch.randn(2, 4, 5, 6, dtype=dtype, requires_grad=True)
        return NORMS[norm]().train(is_training), (x,)

    for context in MODES:
        _check(make, context)
    _check(make, torch.enable_grad, train=True)


@pytest.mark.parametrize("is_fake", [False, True])
def test_statistics_of_a_norm_with_float32_weights_are_in_float32(is_fake):
    x = torch.rand(4, 8, dtype=torch.bfloat16)
    with torch.no_grad():
        m = measure(nn.LayerNorm(8), x, fake=is_fake)
    assert m.activation_memory == 4 * 8 * 2 + 2 * 4 * FLOAT  # the result; mean, deviation by row
    assert m.peak_memory == 4 * 8 * 2 + 2 * 8 * FLOAT + m.activation_memory


@pytest.mark.parametrize("norm", [nn.LayerNorm(8), nn.GroupNorm(2, 6), nn.BatchNorm2d(6)])
@pytest.mark.parametrize("is_last", [False, True])
def test_gradient_of_a_norm_lies_as_on_the_cpu_whatever_comes_back(is_last, norm):
    last, first = torch.ones(2, 5, 8, 6).permute(0, 3, 1, 2), torch.ones(2, 6, 5, 8)

    def run(x):
        (back,) = torch.autograd.grad(norm(x * 1), x, first if is_last else last)
        return back.contiguous()

    def make():
        x = torch.rand_like(last if is_last else first)
        return run, (x.requires_grad_(),)

    _check(make, torch.enable_grad)


def test_gradient_of_normed_tokens_is_in_one_piece_whatever_comes_back():
    norm, back = nn.LayerNorm(16), torch.ones(2, 16, 64).transpose(1, 2)

    def run(tokens):
        return torch.autograd.grad(norm(tokens * 1), tokens, back)[0].contiguous()

    _check(lambda: (run, (g(2, 64, 16),)), torch.enable_grad)


OFFSETS = torch.tensor([3, 8], dtype=torch.int32)
GROUPS = {
    "batched": ((2, 4, 8), (2, 8, 16), None),
    "rows in groups": ((8, 16), (2, 16, 24), OFFSETS),
    "columns in groups": ((2, 4, 16), (16, 8), OFFSETS),
    "sums in groups": ((16, 8), (8, 16), OFFSETS),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("groups", GROUPS)
def test_products_of_groups_are_fake_in_every_dtype(groups, dtype):
    one, other, ends = GROUPS[groups]

    def make():
        args = (torch.ones(one, dtype=dtype), torch.ones(other, dtype=dtype))
        return (lambda a, b: torch._grouped_mm(a, b, offs=ends)), args

    for context in MODES:
        _check(make, context)


def test_unpooled_channels_stay_last():
    def make():
        x = torch.rand(2, 3, 6, 6).to(memory_format=torch.channels_last)
        pool = nn.MaxPool2d(2, return_indices=True)
        return (lambda x: functional.max_unpool2d(*pool(x), 2).contiguous()), (x,)

    for context in MODES:
        _check(make, context)


def test_image_of_tokens_is_laid_out_as_on_the_cpu():
    # Its one image has a stride that tells convolutions that the channels are not last.
    def make():
        mix = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        project = nn.Linear(8, 4)

        def run(tokens):
            image = tokens.transpose(1, 2).view(1, 8, 16, 16)
            return project(mix(image).flatten(2).transpose(1, 2))

        return run, (torch.rand(1, 256, 8),)

    for context in MODES:
        _check(make, context)


LISTS = {
    "compared": lambda j: (j > 3).sum(),
    "stacked": lambda j: torch.stack([j, j]).float(),
    "cut": lambda j: j.cumsum(0)[3:] + 1,
    "cleared": lambda j: j.clone().zero_(),
    "viewed": lambda j: j.view(10, 10).sum(0),
    "split at": lambda j: torch.tensor_split(torch.rand(200), j[1:50].cumsum(0)[:10]),
    "sorted": lambda j: torch.rand(100)[j.sort(descending=True)[1]],
    "without repeats": lambda j: (j // 7).unique(),
    "converted to what they are": lambda j: j.long(),
    "target": lambda j: functional.cross_entropy(torch.rand(100, 100), j),
}


@pytest.mark.parametrize("context", MODES)
@pytest.mark.parametrize("case", LISTS)
def test_lists_of_whole_numbers_count_once(case, context):
    numbers = torch.arange(100)
    _check(lambda: (LISTS[case], (numbers,)), context)
    _check(lambda: ((lambda: LISTS[case](numbers)), ()), context)


@pytest.mark.parametrize("context", MODES)
def test_what_is_not_converted_is_not_touched(context):
    x = torch.rand(6)
    with context():
        assert measure(x.float, fake=True).peak_memory == 0


@pytest.mark.parametrize("is_fake", [False, True])
def test_what_is_worked_out_from_a_list_is_no_input(is_fake):
    m = measure(LISTS["compared"], torch.arange(100), fake=is_fake)
    assert m.peak_memory == 100 * WHOLE + 100 + WHOLE  # the list, the answers, how many


@pytest.mark.parametrize("context", MODES)
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_sequences_of_lengths_that_are_an_argument_cost_what_real_ones_do(layer, context):
    recurrent = layer(4, 8).eval()

    def make():
        def run(x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            return recurrent(packed)[0].data

        return run, (torch.randn(10, 4, 4), torch.tensor([3, 10, 5, 1]))

    _check(make, context)


def test_steps_of_a_ramp_are_views_of_it():
    _check(
        lambda: ((lambda x: [x * d.item() for d in torch.linspace(0, 1, 5)]), (torch.rand(8),)),
        torch.no_grad,
    )


@pytest.mark.parametrize("train", [False, True])
def test_parameters_that_a_module_is_called_with_die_as_on_the_cpu(train):
    def make():
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

        def run(x):
            doubled = {name: value * 2 for name, value in model.named_parameters()}
            return torch.func.functional_call(model, doubled, (x,)).sum()

        return run, (torch.rand(3, 4),)

    _check(make, torch.enable_grad, train=train)


def test_sequence_packed_in_a_call_in_a_block_costs_what_a_real_one_does():
    def peak():
        recurrent, x = nn.GRU(3, 4), torch.rand(5, 2, 3)
        pack = nn.utils.rnn.pack_padded_sequence
        return measure(lambda x: recurrent(pack(x, [5, 2]))[0].data, x).peak_memory

    real = peak()
    with fake():
        assert peak() == real


def test_deep_copy_of_a_fake_module_is_fake_and_costs_the_same():
    with fake():
        model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
        model[0].weight.grad = torch.ones(2, 4)
        copied = copy.deepcopy(model)
        tied = copy.deepcopy([model[0].weight, model[0].weight])
        x = torch.rand(3, 4)
        assert measure(copied, x).peak_memory == measure(model, x).peak_memory
    assert tied[0] is tied[1]
    assert copied[0].weight.grad is not model[0].weight.grad
    for was, now in zip(model.parameters(), copied.parameters(), strict=True):
        assert isinstance(now, nn.Parameter)
        assert now.untyped_storage()._cdata != was.untyped_storage()._cdata
        assert (now.shape, now.requires_grad) == (was.shape, was.requires_grad)


@pytest.mark.parametrize("context", MODES)
@pytest.mark.parametrize("length", [3, 2000])
def test_real_tensor_is_handed_to_numpy_with_its_values(length, context):
    numbers, ones = torch.arange(length), torch.ones(2)
    with context():
        m = measure(lambda w: (int(numbers.numpy()[2]), w * 2)[0], ones, fake=True)
    assert m.output == 2
    assert "numpy" not in vars(torch.Tensor)


@pytest.mark.parametrize("context", MODES)
def test_real_tensor_that_was_used_is_not_handed_to_numpy(context):
    numbers, short, ones = torch.arange(2000), torch.arange(3), torch.ones(2)

    def hand_over(w):
        return w + numbers.sum(), numbers.numpy()

    with context():
        with pytest.raises(MeasureError, match=r"numbers\.numpy.*data of a tensor to NumPy"):
            measure(hand_over, ones, fake=True)
        # A short list has values, also where it has been changed.
        m = measure(lambda w: (short.add_(1), w * 2, short.numpy().tolist())[2], ones, fake=True)
    assert m.output == [1, 2, 3]
    assert short.tolist() == [0, 1, 2]


def test_real_tensors_have_not_changed_for_graphs_that_hold_them():
    weight, numbers = nn.Parameter(torch.ones(3)), torch.tensor([1, 2, 3])
    loss = (weight * weight * numbers).sum()
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def step(numbers):
        numbers.add_(1)
        (weight * 2).sum().backward()
        optimizer.step()

    measure(step, numbers, fake=True)
    loss.backward()
    assert weight.grad.tolist() == [2, 4, 6]


def test_long_list_of_values_is_refused_with_its_line():
    numbers = torch.arange(1025)
    with torch.inference_mode(), pytest.raises(MeasureError, match=r"numbers\.tolist.*no values"):
        measure(lambda w: w[numbers.tolist()], torch.ones(2000), fake=True)


def test_sparse_tensor_that_is_made_is_refused():
    with pytest.raises(MeasureError, match=r"to_sparse.*layout torch.sparse_coo"):
        measure(lambda: torch.eye(3).to_sparse(), fake=True)


@pytest.mark.parametrize("context", MODES)
def test_numbers_that_are_read_count_once(context):
    number, scale, x = torch.tensor(3.0), nn.Parameter(torch.tensor(2.0)), torch.rand(10)

    def read():
        return x * number * scale * (number.item() + scale.item() - scale.item())

    def read_first():
        assert number.item() + scale.item() * scale.item() == 7
        return x * number * scale

    with context():
        real = measure(read_first)
        assert _spent(read_first, (), is_fake=True, train=False) == (
            _spent(read_first, (), is_fake=False, train=False)
        )
        assert real.peak_memory == (10 + 1 + 1 + 2 * 10) * FLOAT
        with pytest.raises(MeasureError, match=r"reads a value.*aten._local_scalar_dense"):
            measure(read, fake=True)  # the parameter was used, and may be another number since
