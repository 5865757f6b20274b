"""Strided nested tensors count what their parts count by themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas.nested import parts_of
from pytest_flopbudget.meters.formulas.registry import Work, formula_for, nested_formula_for

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
aten = torch.ops.aten
WIDTH, HEADS = 12, 2
PARTS = [torch.randn(5, WIDTH), torch.randn(3, WIDTH)]
SPLIT = [torch.randn(HEADS, length, 6) for length in (5, 3)]
TOKENS = 5 + 3


def _nested(parts):
    return torch.nested.nested_tensor(parts)


def _both(operator, *args):
    """What the formula says of the nested call, and what the parts count one by one."""
    nested = [isinstance(argument, list) for argument in args]
    whole = [_nested(a) if is_list else a for a, is_list in zip(args, nested, strict=True)]
    out = operator(*whole)
    rule = nested_formula_for(operator._schema.name)
    work = rule(*whole, out=out)
    with FlopCounter() as counter:
        for at in range(len(PARTS)):
            operator(*(a[at] if is_list else a for a, is_list in zip(args, nested, strict=True)))
    assert counter.uncounted == ()
    by_formula = Work(arithmetic=work) if isinstance(work, int) else work
    return by_formula, Work(macs=counter.macs, arithmetic=counter.flops - 2 * counter.macs)


def test_sizes_of_the_parts_are_known():
    assert parts_of(_nested(PARTS)) == [(5, WIDTH), (3, WIDTH)]


WEIGHT, BIAS = torch.randn(7, WIDTH), torch.randn(7)
SCALE = torch.randn(WIDTH)
TURNED = [part.transpose(-1, -2).contiguous() for part in PARTS]


@pytest.mark.parametrize(
    ("operator", "args"),
    [
        (aten.relu.default, (PARTS,)),
        (aten.gelu.default, (PARTS,)),
        (aten.tanh.default, (PARTS,)),
        (aten.add.Tensor, (PARTS, PARTS)),
        (aten.mul.Tensor, (PARTS, PARTS)),
        (aten.native_dropout.default, (PARTS, 0.5, True)),
        (aten.linear.default, (PARTS, WEIGHT, BIAS)),
        (aten.linear.default, (PARTS, WEIGHT)),
        (aten.matmul.default, (SPLIT, [part.transpose(-1, -2).contiguous() for part in SPLIT])),
    ],
    ids=lambda value: value.name() if isinstance(value, torch._ops.OpOverload) else "",
)
def test_nested_call_counts_its_parts(operator, args):
    by_formula, by_parts = _both(operator, *args)
    assert by_formula == by_parts


def test_layer_norm_counts_the_rows_of_all_parts():
    whole, norm = _nested(PARTS), nn.LayerNorm(WIDTH)
    rule = nested_formula_for("aten::native_layer_norm")
    flops = rule(whole, [WIDTH], SCALE, SCALE, 1e-5, out=None)
    assert flops == sum(measure(norm, part).flops for part in PARTS)
    assert rule(whole, [WIDTH], None, None, 1e-5, out=None) == flops - 2 * TOKENS * WIDTH


def test_product_of_nested_matrices_is_one_for_each_part():
    rule = nested_formula_for("aten::bmm")
    assert rule(_nested(PARTS), _nested(TURNED), out=None) == Work(macs=(25 + 9) * WIDTH)
    assert rule(_nested(PARTS), WEIGHT, out=None) is None


def test_softmax_and_its_backward_count_the_rows_of_the_parts():
    whole = _nested(PARTS)
    out = torch.softmax(whole, -1)
    forward = nested_formula_for("aten::_softmax")(whole, -1, False, out=out)
    assert forward == sum(measure(torch.softmax, part, -1).flops for part in PARTS)
    backward = nested_formula_for("aten::_softmax_backward_data")
    assert backward(whole, out, -1, torch.float32, out=out) == 4 * TOKENS * WIDTH - TOKENS


def test_backwards_count_the_products_of_the_forward_for_each_gradient():
    whole = _nested(PARTS)
    grad = functional.linear(whole, WEIGHT)
    work = nested_formula_for("aten::linear_backward")(whole, grad, WEIGHT, [True] * 3, out=None)
    assert work == Work(macs=2 * TOKENS * WIDTH * 7, arithmetic=(TOKENS - 1) * 7)
    left, right = _nested(PARTS), _nested(TURNED)
    product = nested_formula_for("aten::matmul_backward")
    assert product(left, left, right, [True, False], out=None).macs == (25 + 9) * WIDTH
    assert product(left, left, right, [True, True], out=None).macs == 2 * (25 + 9) * WIDTH


def test_sum_of_nested_rows_takes_one_less_than_their_elements():
    whole = _nested(PARTS)
    out = torch.sum(whole, -1, keepdim=True)
    flops = nested_formula_for("aten::sum")(whole, [-1], True, out=out)
    assert flops == TOKENS * (WIDTH - 1)


def test_fast_path_pads_the_scores_and_softmaxes_the_real_ones():
    padded, queries = torch.randn(2, HEADS, 5, 5), _nested(PARTS)
    softmax = nested_formula_for("aten::_nested_tensor_softmax_with_shape")
    assert softmax(padded, queries, out=padded) == HEADS * (5 * (25 + 9) - 2 * TOKENS)
    qkv = _nested([torch.randn(5, 3 * WIDTH), torch.randn(3, 3 * WIDTH)])
    out = aten._transform_bias_rescale_qkv(qkv, torch.randn(3 * WIDTH), HEADS)
    flops = nested_formula_for("aten::_transform_bias_rescale_qkv")(qkv, None, HEADS, out=out)
    assert flops == 4 * 2 * 5 * WIDTH, "two parts, padded to five rows"


@pytest.mark.parametrize(
    ("name", "between"),
    [
        ("_scaled_dot_product_flash_attention", ()),
        ("_scaled_dot_product_efficient_attention", (None, True)),
    ],
)
def test_attention_of_parts_pads_nothing(name, between):
    whole = _nested(SPLIT)
    work = nested_formula_for(f"aten::{name}")(whole, whole, whole, *between, 0.0, out=None)
    plain = formula_for(f"aten::{name}")
    parts = [plain(part[None], part[None], part[None], *between, 0.0, out=None) for part in SPLIT]
    assert work == parts[0] + parts[1]
    assert work.macs == HEADS * (25 + 9) * 2 * 6
    mixed = nested_formula_for(f"aten::{name}")(
        whole, SPLIT[0][None], SPLIT[0][None], *between, 0.0, out=None
    )
    assert mixed is None


def test_backward_of_attention_of_parts_pads_nothing():
    name = "aten::_scaled_dot_product_flash_attention_backward"
    rest = (None, None, None, None, 5, 5, 0.0, False, None, None)
    whole = _nested(SPLIT)
    work = nested_formula_for(name)(whole, whole, whole, whole, *rest, out=None)
    parts = [formula_for(name)(*[part[None]] * 4, *rest, out=None) for part in SPLIT]
    assert work == parts[0] + parts[1]


PADDING = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def test_reading_a_mask_is_integer_work():
    padded = torch.randn(2, 5, WIDTH)
    with FlopCounter() as counter:
        aten._nested_tensor_from_mask_left_aligned(padded, PADDING)
    # Five comparisons, four adds and a comparison for each of two rows.
    assert (counter.flops, counter.int_ops, counter.uncounted) == (0, 2 * (5 + 4 + 1), ())
    for is_checked, saved in ((True, 0), (False, 2)):
        with FlopCounter() as counter:
            nested = aten._nested_tensor_from_mask(padded, PADDING, is_checked)
        assert (counter.flops, counter.int_ops, counter.uncounted) == (0, 20 - saved, ())
    assert parts_of(nested) == [(5, WIDTH), (3, WIDTH)]


def test_padding_and_its_inverse_are_free():
    with FlopCounter() as counter:
        padded = torch.nested.to_padded_tensor(_nested(PARTS), 0.0)
        aten._nested_from_padded(padded, torch.tensor([[5, WIDTH], [3, WIDTH]]))
    assert (counter.flops, counter.int_ops, counter.uncounted) == (0, 0, ())


def test_encoder_in_grad_mode_reads_its_mask_and_counts_everything():
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 20, batch_first=True)
    m = measure(
        nn.TransformerEncoder(layer, 2).eval(),
        torch.randn(2, 5, WIDTH),
        src_key_padding_mask=~PADDING,
    )
    assert m.uncounted == ()
    assert m.macs == 2 * (10 * WIDTH * (4 * WIDTH + 2 * 20) + 2 * 25 * 2 * WIDTH)
