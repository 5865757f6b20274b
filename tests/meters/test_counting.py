"""Counts against numbers derived by hand; torch's own counter is a second opinion."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from pytest_flopbudget import FlopCounter, Work, measure, register_formula
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.measurement import Counts


def test_matrix_product_is_two_flops_a_term():
    m = measure(torch.mm, torch.randn(32, 48), torch.randn(48, 64))
    assert m.macs == 32 * 48 * 64 == 98_304
    assert m.flops == 2 * 98_304
    # Reads 32x48 and 48x64, writes 32x64 floats of 4 bytes.
    assert m.bytes_moved == 4 * (32 * 48 + 48 * 64 + 32 * 64)
    assert m.arithmetic_intensity == m.flops / m.bytes_moved
    assert m.ops == 1
    assert m.uncounted == ()
    assert m.output.shape == (32, 64)


@pytest.mark.parametrize(
    ("call", "macs", "arithmetic"),
    [
        (lambda t: torch.bmm(t(4, 8, 16), t(4, 16, 32)), 4 * 8 * 16 * 32, 0),
        (lambda t: torch.baddbmm(t(4, 8, 32), t(4, 8, 16), t(4, 16, 32)), 16_384, 4 * 8 * 32),
        (lambda t: torch.addbmm(t(8, 32), t(4, 8, 16), t(4, 16, 32)), 16_384, 8 * 32),
        (lambda t: torch.addmm(t(8, 32), t(8, 16), t(16, 32)), 4_096, 8 * 32),
        (lambda t: torch.addmm(t(32), t(8, 16), t(16, 32), beta=0), 4_096, 0),
        (lambda t: torch.addmm(t(32), t(8, 16), t(16, 32), alpha=2), 4_096, 2 * 8 * 32),
        (lambda t: t(8, 32).addmm_(t(8, 16), t(16, 32)), 4_096, 8 * 32),
        (lambda t: torch.mm(t(8, 16), t(16, 32), out=torch.empty(8, 32)), 4_096, 0),
        (lambda t: torch.mv(t(32, 48), t(48)), 32 * 48, 0),
        (lambda t: torch.addmv(t(32), t(32, 48), t(48)), 32 * 48, 32),
        (lambda t: torch.dot(t(48), t(48)), 48, 0),
        (lambda t: torch.outer(t(32), t(48)), 0, 32 * 48),
        (lambda t: torch.einsum("bij,bjk->bik", t(4, 8, 16), t(4, 16, 32)), 16_384, 0),
        (lambda t: functional.linear(t(2, 8, 16), t(32, 16), t(32)), 2 * 4_096, 2 * 8 * 32),
        (lambda t: torch.mm(t(8, 16).cfloat(), t(16, 32).cfloat()), 4 * 4_096, 0),
    ],
)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_every_form_of_product_counts_its_terms_in_every_mode(call, macs, arithmetic, context):
    with context():
        m = measure(call, torch.ones)
    assert (m.macs, m.flops) == (macs, 2 * macs + arithmetic)
    assert m.uncounted == ()


@pytest.mark.parametrize(("groups", "flops"), [(1, 884_736), (4, 221_184)])
def test_convolution_backward_divides_every_gradient_by_the_groups(groups, flops):
    conv = nn.Conv2d(8, 16, 3, groups=groups, bias=False, padding=1)
    x = torch.randn(2, 8, 8, 8, requires_grad=True)
    m = measure(conv, x, train=True)
    # 2x16x8x8 outputs, each 8/groups * 9 terms; dX and dW cost one forward each.
    assert m.macs == 3 * (2 * 16 * 8 * 8) * (8 // groups) * 9
    assert 2 * m.macs == flops


def test_first_layer_needs_no_gradient_of_the_input():
    conv = nn.Conv2d(8, 16, 3, bias=False)
    m = measure(conv, torch.randn(2, 8, 10, 10), train=True)
    assert m.macs == 2 * (2 * 16 * 8 * 8 * 8 * 9)


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        # out 4x2x1x... : elements x in/groups x kernel
        (nn.Conv1d(3, 6, 5), (2, 3, 20), 2 * 6 * 16 * 3 * 5),
        (nn.Conv3d(2, 4, 3), (1, 2, 6, 6, 6), 4 * 4**3 * 2 * 27),
        (nn.Conv2d(64, 64, 3, groups=64, padding=1), (1, 64, 8, 8), 64 * 64 * 9),
        (nn.Conv2d(4, 8, 3, dilation=2), (1, 4, 12, 12), 8 * 8 * 8 * 4 * 9),
        # in elements x out/groups x kernel
        (nn.ConvTranspose2d(8, 4, 3, stride=2), (1, 8, 5, 5), 8 * 25 * 4 * 9),
        (nn.ConvTranspose2d(8, 4, 3, stride=2, groups=4), (1, 8, 5, 5), 8 * 25 * 1 * 9),
    ],
)
def test_convolution_counts_the_terms_of_its_definition(layer, shape, macs):
    with torch.no_grad():
        m = measure(layer, torch.randn(shape))
        with FlopCounterMode(display=False) as second_opinion:
            layer(torch.randn(shape))
    assert m.macs == macs
    assert second_opinion.get_total_flops() == 2 * macs
    bias = m.output.numel()
    assert m.flops == 2 * macs + bias


def test_attention_on_the_cpu_is_not_zero():
    q, k, v = (torch.randn(2, 8, 64, 32) for _ in range(3))
    scores = 2 * 8 * 64 * 64
    m = measure(functional.scaled_dot_product_attention, q, k, v)
    assert 2 * m.macs == 4 * 2 * 8 * 64 * 64 * 32 == 8_388_608
    # A scale and a softmax, whose maximum and sum take one less a row: 1 + 5, less 2 a row.
    assert m.flops == 8_388_608 + 6 * scores - 2 * (2 * 8 * 64)
    causal = measure(functional.scaled_dot_product_attention, q, k, v, is_causal=True)
    assert causal.macs == m.macs
    mask = torch.ones(64, 64, dtype=torch.bool).tril()
    masked = measure(functional.scaled_dot_product_attention, q, k, v, attn_mask=mask)
    assert masked.macs == m.macs
    assert m.uncounted == causal.uncounted == masked.uncounted == ()


def test_attention_backward_computes_the_scores_again():
    q, k, v = (torch.randn(2, 8, 64, 32, requires_grad=True) for _ in range(3))
    m = measure(functional.scaled_dot_product_attention, q, k, v, train=True)
    assert 2 * m.macs == 29_360_128  # two products forward, five backward: 3.5 times
    assert m.uncounted == ()


def test_lstm_counts_every_step():
    lstm = nn.LSTM(32, 64)
    with torch.no_grad():
        m = measure(lstm, torch.randn(10, 4, 32))
    steps = 10 * 4
    assert m.macs == steps * 4 * 64 * (32 + 64)
    assert m.flops == 2 * m.macs + steps * 64 * (8 + 4 + 9)
    assert m.uncounted == ()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_transformer_encoder_costs_the_same_in_every_mode(context):
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    tokens, width, inner = 2 * 32, 64, 128
    one_layer = tokens * width * (4 * width + 2 * inner) + 2 * (2 * 32 * 32 * 64)
    with context():
        m = measure(encoder, torch.randn(2, 32, 64))
    assert m.macs == 2 * one_layer
    assert 2 * m.macs == 9_437_184
    assert m.uncounted == ()


def test_pointwise_counts_each_operation_once():
    x = torch.randn(6, 5)
    y = torch.randn(5)
    n = 30
    assert measure(torch.add, x, y).flops == n
    assert measure(torch.add, x, y, alpha=2).flops == 2 * n
    assert measure(torch.relu, x).flops == n
    assert measure(functional.gelu, x).flops == 5 * n
    assert measure(functional.silu, x).flops == 2 * n
    assert measure(torch.clamp, x, 0, 1).flops == 2 * n
    assert measure(torch.clamp, x, min=0).flops == n
    assert measure(torch.addcmul, x, x, y).flops == 2 * n
    assert measure(torch.addcmul, x, x, y, value=3).flops == 3 * n
    assert measure(lambda: x.cfloat() * y.cfloat()).flops == 6 * n


def test_reductions_take_one_operation_less_than_they_have_terms():
    x = torch.randn(6, 5)
    assert measure(torch.sum, x).flops == 29
    assert measure(torch.sum, x, 1).flops == 6 * 4
    assert measure(torch.mean, x, 1).flops == 6 * 5
    assert measure(torch.amax, x, 1).flops == 6 * 4
    assert measure(torch.softmax, x, 1).flops == 6 * (4 + 5 + 5 + 4 + 5)
    assert measure(torch.cumsum, x, 1).flops == 6 * 4
    assert measure(torch.linalg.vector_norm, x).flops == 30 + 29 + 1


def test_integers_and_truth_values_are_no_flops():
    positions = torch.arange(10)
    m = measure(lambda: positions + 3)
    assert (m.flops, m.int_ops) == (0, 10)
    product = measure(torch.mm, torch.ones(4, 5, dtype=torch.long), torch.ones(5, 6).long())
    assert product.int_ops == 2 * 4 * 5 * 6
    assert product.flops == 0
    mask = measure(lambda: (positions > 2) & (positions < 5))
    assert (mask.flops, mask.int_ops) == (0, 20)


def test_padding_is_no_arithmetic_in_pooling():
    x = torch.randn(1, 1, 4, 4)
    # Windows of 3 with stride 2 and padding 1 see 2 and 3 elements a dimension: 25 in all.
    assert measure(functional.max_pool2d, x, 3, 2, 1).flops == 5 * 5 - 4
    assert measure(functional.avg_pool2d, x, 3, 2, 1).flops == 5 * 5
    assert measure(functional.adaptive_avg_pool2d, x, 1).flops == 16
    # 5 elements to 2 windows: 0-2 and 2-4, three each.
    y = torch.randn(1, 1, 5, 5)
    assert measure(functional.adaptive_avg_pool2d, y, 2).flops == 36


def test_training_step_counts_loss_and_optimiser():
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, target = torch.randn(3, 8), torch.tensor([0, 1, 2])

    def step():
        optimizer.zero_grad()
        functional.cross_entropy(model(x), target).backward()
        optimizer.step()

    m = measure(step)
    forward = 2 * 3 * 8 * 4 + 3 * 4
    log_softmax = 5 * 12 - 3
    nll = 3 + 3
    nll_backward = 3 + 1
    log_softmax_backward = 4 * 12 - 3
    backward = 2 * 3 * 8 * 4 + (12 - 4)  # gradient of the weight, sum for the bias
    update = 2 * (8 * 4 + 4)  # a multiply by the rate and a subtraction each
    assert m.flops == sum(
        (forward, log_softmax, nll, nll_backward, log_softmax_backward, backward, update)
    )
    assert m.uncounted == ()
    assert m.by_module[""].own.flops == m.flops


@pytest.mark.parametrize(
    ("reentrant", "again"),
    [
        (True, {"0": 1, "1": 1}),
        # Recomputation stops once the last tensor that backward needs is there: the input
        # of the second layer.
        (False, {"0": 1, "1": 0}),
    ],
)
def test_recomputation_of_a_checkpoint_counts(reentrant, again):
    block = nn.Sequential(nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False))
    x = torch.randn(4, 32, requires_grad=True)
    m = measure(checkpoint, block, x, use_reentrant=reentrant, train=True)
    one = 4 * 32 * 32
    for layer in ("0", "1"):
        assert m.by_module[layer].macs == (1 + again[layer] + 2) * one, "forward, again, two back"
    assert m.macs == m.by_module["0"].macs + m.by_module["1"].macs


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16, bias=False)
        self.layers = nn.ModuleList(nn.Linear(16, 16, bias=False) for _ in range(2))
        self.again = self.layers[0]

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.again(x)


def test_modules_are_named_by_the_path_of_their_call():
    m = measure(_Net(), torch.randn(4, 8), train=True)
    own = {path: counts.own.macs for path, counts in m.by_module.items()}
    layer, embed = 4 * 16 * 16, 4 * 8 * 16
    assert own == {
        "": 0,
        "embed": 2 * embed,  # no gradient of the input
        "layers": 0,
        "layers.0": 6 * layer,  # called twice, the second time under its other name
        "layers.1": 3 * layer,
    }
    assert m.by_module["layers"].macs == 9 * layer
    assert m.by_module[""].macs == m.macs
    # Each relu is one comparison forward and one backward, in the root's own code; so is
    # the sum of the 64 outputs.
    sums = m.by_operator["aten.sum"].flops
    assert sums == 63
    assert m.by_module[""].own.flops == 2 * 2 * 64 + sums
    # The two uses of the shared weight are added up where its parameter lives.
    assert m.by_module["layers.0"].own.flops == 2 * 6 * layer + 16 * 16


def test_rows_add_up_to_the_totals():
    m = measure(_Net(), torch.randn(4, 8), train=True)
    total = Counts.total(module.own for module in m.modules)
    assert {name: getattr(m, name) for name in total.as_dict()} == total.as_dict()
    assert Counts.total(m.by_operator.values()) == total
    assert m.by_module[""].flops == m.flops


def test_second_root_stands_under_its_class_name():
    model, criterion = nn.Linear(4, 3), nn.CrossEntropyLoss()

    def loss():
        return criterion(model(torch.randn(2, 4)), torch.tensor([0, 1]))

    m = measure(loss)
    assert set(m.by_module) == {"", "CrossEntropyLoss"}
    assert m.by_module["CrossEntropyLoss"].flops == (5 * 6 - 2) + (2 + 2)


def test_same_counts_whether_run_once_or_again():
    model = _Net()
    first = measure(model, torch.ones(4, 8), train=True)
    second = measure(model, torch.ones(4, 8), train=True)
    assert first.macs == second.macs
    # The second backward adds to gradients that are there already: one add an element.
    weights = 8 * 16 + 2 * 16 * 16
    assert second.flops - first.flops == weights


def test_counting_changes_no_result_and_no_random_number():
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    x = torch.randn(4, 8)
    torch.manual_seed(0)
    plain = model(x)
    following = torch.randn(1)
    torch.manual_seed(0)
    counted = measure(model, x).output
    assert torch.equal(plain, counted)
    assert torch.equal(following, torch.randn(1))


def test_operator_without_formula_is_reported_with_calls_and_shapes():
    @torch.library.custom_op("flopbudget_counting::unheard_of", mutates_args=())
    def unheard_of(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    x = torch.eye(4)
    m = measure(lambda: unheard_of(unheard_of(x)))
    listed = [(u.operator, u.calls, u.shapes) for u in m.uncounted]
    assert listed == [("flopbudget_counting.unheard_of.default", 2, ("f32[4,4]",))]


# torch says once in a process that this layout is new.
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_sparse_product_is_not_counted_as_a_dense_one():
    m = measure(torch.mm, torch.eye(8).to_sparse_csr(), torch.randn(8, 4))
    assert (m.macs, m.uncounted) == (8 * 4, ())


def test_tensor_made_from_numbers_is_free_in_every_mode():
    for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            m = measure(lambda: torch.tensor([1.0, 2.0]) + 1)
        assert (m.flops, m.uncounted) == (2, ()), context


def test_membership_compares_each_element_with_each_test():
    m = measure(torch.isin, torch.arange(6), torch.tensor([1, 2, 3]))
    assert (m.flops, m.int_ops, m.uncounted) == (0, 18, ())


def test_registered_formula_counts_a_custom_operator():
    @torch.library.custom_op("flopbudget_test::rotate", mutates_args=())
    def rotate(x: torch.Tensor) -> torch.Tensor:
        return x.flip(0).clone()

    x = torch.randn(3, 5)
    assert measure(rotate, x).uncounted[0].operator == "flopbudget_test.rotate.default"
    register_formula(torch.ops.flopbudget_test.rotate, lambda x, *, out: 7 * out.numel())
    # The plan of an operator is kept, so the formula has to be found for the next call too.
    assert measure(rotate, x).flops == 7 * 15
    register_formula("flopbudget_test::rotate", lambda x, *, out: Work(macs=2, arithmetic=1))
    m = measure(rotate, x)
    assert (m.macs, m.flops, m.uncounted) == (2, 5, ())


def test_formula_for_no_operator_is_refused():
    with pytest.raises(MeasureError, match=r"register_formula: .* is no operator"):
        register_formula(torch.relu, lambda x, *, out: 0)


def test_exception_leaves_no_hook_and_no_mode_behind():
    class Fails(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            measure(nn.Sequential(nn.Linear(4, 4), Fails()), torch.randn(2, 4))
    from torch.nn.modules import module

    assert not module._global_forward_hooks
    assert not module._global_forward_pre_hooks
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_work_that_is_still_to_come_is_refused():
    async def later():
        return torch.ones(1)

    def lazily():
        yield torch.ones(1)

    with pytest.raises(MeasureError, match="a coroutine, whose work is not done yet"):
        measure(later)
    with pytest.raises(MeasureError, match="a generator, whose work is not done yet"):
        measure(lazily)


def test_training_without_anything_to_train_is_refused():
    with pytest.raises(MeasureError, match="needs a gradient"):
        measure(nn.ReLU(), torch.ones(2), train=True)


def test_counter_reads_after_its_block_alone():
    counter = FlopCounter()
    with pytest.raises(MeasureError, match="has counted nothing yet"):
        _ = counter.flops
    with counter:
        torch.ones(3) + 1
        with pytest.raises(MeasureError, match="is still counting"):
            _ = counter.flops
        with pytest.raises(MeasureError, match="counting already"), counter:
            pass
    assert counter.flops == 3
    with counter:
        torch.ones(4) + 1
    assert counter.flops == 4


def test_counter_has_no_attribute_that_nothing_measures():
    counter = FlopCounter()
    assert not hasattr(counter, "flop")
    with counter:
        assert not hasattr(counter, "flop")
    assert not hasattr(counter, "flop")


def test_what_arithmetic_alone_leaves_out_says_why_it_is_not_there():
    with FlopCounter(memory=False) as counter:
        torch.ones(3) + 1
    assert counter.flops == 3
    for name in ("bytes_moved", "peak_memory", "activation_memory", "params", "model_size"):
        with pytest.raises(AttributeError, match=f"{name}.*memory=False"):
            getattr(counter, name)


def test_counters_may_stand_within_each_other():
    with FlopCounter() as outer:
        torch.ones(3) + 1
        with FlopCounter() as inner:
            torch.ones(5) + 1
    assert (outer.flops, inner.flops) == (8, 5)
