"""Fused attention, written-out attention and what is built of them, against numbers by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas.registry import Work, formula_for

aten = torch.ops.aten
B, HEADS, S, T, D, DV = 2, 4, 5, 7, 8, 3
ROWS = B * HEADS * S
SCORES = ROWS * T
MACS = SCORES * 2 * D
SOFTMAX = 5 * SCORES - 2 * ROWS
FUSED = SCORES + SOFTMAX
"""A scale for each score, and the softmax."""
MATH = B * HEADS * (S + T) * D + SOFTMAX + SCORES
"""The root of the scale for each element of the query and of the key, and a softmax that
looks for rows in which all is masked: one comparison more for each score."""
CONTEXTS = [torch.no_grad, torch.inference_mode, torch.enable_grad]
sdpa = functional.scaled_dot_product_attention


def _qkv(heads=HEADS, value_depth=D, **kwargs):
    return (
        torch.randn(B, HEADS, S, D, **kwargs),
        torch.randn(B, heads, T, D, **kwargs),
        torch.randn(B, heads, T, value_depth, **kwargs),
    )


def _counts(m):
    assert m.uncounted == ()
    return m.macs, m.flops - 2 * m.macs


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(
    ("kwargs", "extra"),
    [
        ({}, 0),
        ({"is_causal": True}, 0),
        ({"scale": 0.3}, 0),
        ({"attn_mask": torch.ones(S, T, dtype=torch.bool)}, SCORES),
        ({"attn_mask": torch.zeros(B, 1, S, T)}, SCORES),
        ({"enable_gqa": True}, 0),
    ],
    ids=lambda value: next(iter(value), "plain") if isinstance(value, dict) else None,
)
def test_fused_attention_scales_each_score_and_adds_each_mask(context, kwargs, extra):
    with context():
        q, k, v = _qkv(2 if "enable_gqa" in kwargs else HEADS)
        m = measure(sdpa, q, k, v, **kwargs)
    assert "aten._scaled_dot_product_flash_attention_for_cpu" in m.by_operator
    assert _counts(m) == (MACS, FUSED + extra)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(
    ("kwargs", "extra"),
    [
        ({}, 0),
        ({"is_causal": True}, SCORES),  # the mask is made and added here
        ({"attn_mask": torch.ones(S, T, dtype=torch.bool)}, SCORES),
        ({"attn_mask": torch.zeros(S, T)}, SCORES),
        ({"dropout_p": 0.5}, 2 * SCORES),
    ],
    ids=lambda value: next(iter(value), "plain") if isinstance(value, dict) else None,
)
def test_attention_in_products_scales_query_and_key(context, kwargs, extra):
    with context():
        tensors = (tensor.to("meta") for tensor in _qkv())
        moved = {key: v.to("meta") if key == "attn_mask" else v for key, v in kwargs.items()}
        m = measure(sdpa, *tensors, **moved)
    assert "aten.bmm" in m.by_operator
    assert _counts(m) == (MACS, MATH + extra)


@pytest.mark.parametrize("context", CONTEXTS)
def test_other_shapes_take_the_products(context):
    with context():
        q, k, v = _qkv()
        for wrapped in ((q[0], k[0], v[0]), (q[None], k[None], v[None])):
            batch = B if wrapped[0].dim() > 4 else 1
            macs, arithmetic = _counts(measure(sdpa, *wrapped))
            assert (macs * B, arithmetic * B) == (MACS * batch, MATH * batch)
        macs, arithmetic = _counts(measure(sdpa, *_qkv(value_depth=DV)))
    assert (macs, arithmetic) == (SCORES * (D + DV), MATH)


def test_mask_with_a_gradient_takes_the_products():
    mask = torch.zeros(S, T, requires_grad=True)
    assert _counts(measure(sdpa, *_qkv(), attn_mask=mask)) == (MACS, MATH + SCORES)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_fake_tensors_and_other_dtypes_take_the_fused_road(dtype):
    assert _counts(measure(sdpa, *_qkv(dtype=dtype))) == (MACS, FUSED)
    with FakeTensorMode():
        assert _counts(measure(sdpa, *_qkv(dtype=dtype))) == (MACS, FUSED)


def _gradients(q, k, v, **kwargs):
    """The backward alone."""
    for tensor in (q, k, v):
        tensor.requires_grad_()
    out = sdpa(q, k, v, **kwargs)
    return measure(torch.autograd.grad, out, (q, k, v), torch.randn_like(out))


# Scores again, gradients of V, weights, Q, K; then for each score scale, subtraction,
# exponential, subtraction, multiply, scale; and the inner product of each row.
BACKWARD = SCORES * 6 + ROWS * (2 * D - 1)


@pytest.mark.parametrize(
    ("kwargs", "extra"),
    [
        ({}, 0),
        ({"is_causal": True}, 0),
        ({"attn_mask": torch.zeros(S, T)}, SCORES),
        ({"attn_mask": torch.ones(S, T, dtype=torch.bool)}, SCORES),
        ({"enable_gqa": True}, 0),
    ],
    ids=lambda value: next(iter(value), "plain") if isinstance(value, dict) else None,
)
def test_backward_of_fused_attention_takes_five_products(kwargs, extra):
    m = _gradients(*_qkv(2 if "enable_gqa" in kwargs else HEADS), **kwargs)
    assert _counts(m) == (5 * SCORES * D, BACKWARD + extra)


def test_backward_of_attention_in_products_takes_four():
    m = _gradients(*(tensor.to("meta") for tensor in _qkv()))
    # The scores are kept: four products. The derivative of the softmax takes 4 a score less
    # one a row, and the scales of query and key one for each element.
    assert _counts(m) == (4 * SCORES * D, 4 * SCORES - ROWS + B * HEADS * (S + T) * D)


def test_research_values_hold():
    q, k, v = (torch.randn(2, 8, 64, 32, requires_grad=True) for _ in range(3))
    assert 2 * measure(sdpa, q, k, v).macs == 8_388_608
    assert 2 * measure(sdpa, q, k, v, train=True).macs == 29_360_128


# Below: the operators of other devices, called by hand on tensors without data.


def _meta(*shape):
    return torch.empty(shape, device="meta")


Q, K, V = _meta(B, HEADS, S, D), _meta(B, 2, T, D), _meta(B, 2, T, DV)
OUT, LSE, SEED = _meta(B, HEADS, S, DV), _meta(B, HEADS, S), _meta(0)
MASK = _meta(B, HEADS, S, T)
FORWARD_MACS = SCORES * (D + DV)
BACKWARD_MACS = SCORES * (3 * D + 2 * DV)
BACKWARD_V = SCORES * 6 + ROWS * (2 * DV - 1)


def _apply(name, *args, **kwargs):
    """What the formula says to arguments that the operator's own schema takes."""
    schema = getattr(aten, name).default._schema
    positional = [argument for argument in schema.arguments if not argument.kwarg_only]
    required = [argument for argument in positional if not argument.has_default_value()]
    assert len(required) <= len(args) <= len(positional), schema
    for argument, value in zip(positional, args, strict=False):
        kind = str(argument.type)
        assert isinstance(value, torch.Tensor) == (kind in ("Tensor", "Optional[Tensor]")) or (
            value is None
        ), f"{name}: {argument.name} is {kind}"
        if kind in ("int", "SymInt"):
            assert isinstance(value, int), argument.name
    return formula_for(f"aten::{name}")(*args, out=None, **kwargs)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("_scaled_dot_product_flash_attention", lambda bias, p: (Q, K, V, p)),
        ("_scaled_dot_product_efficient_attention", lambda bias, p: (Q, K, V, bias, True, p)),
        ("_scaled_dot_product_cudnn_attention", lambda bias, p: (Q, K, V, bias, True, p)),
        ("_scaled_dot_product_fused_attention_overrideable", lambda bias, p: (Q, K, V, bias, p)),
        ("_scaled_dot_product_attention_math_for_mps", lambda bias, p: (Q, K, V, bias, p)),
        (
            "_cudnn_attention_forward",
            lambda bias, p: (Q, K, V, bias, None, None, S, T, True, p),
        ),
        (
            "_efficient_attention_forward",
            lambda bias, p: (*_last(Q, K, V), bias, None, None, None, None, p, 0),
        ),
        (
            "_flash_attention_forward",
            lambda bias, p: (*_last(Q, K, V), None, None, S, T, p, False, False),
        ),
        (
            "_flash_attention_forward_no_dropout_inplace",
            lambda bias, p: (OUT, *_last(Q, K, V), None, None, S, T, p, False, False),
        ),
    ],
)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("bias", [None, MASK], ids=["plain", "biased"])
def test_every_fused_operator_counts_the_same(name, args, bias, dropout):
    takes_bias = any(value is MASK for value in args(MASK, dropout))
    expected = FUSED + SCORES * (bias is not None and takes_bias) + 2 * SCORES * (dropout > 0)
    assert _apply(name, *args(bias, dropout)) == Work(macs=FORWARD_MACS, arithmetic=expected)


def _last(*tensors):
    """The heads behind the sequence."""
    return tuple(tensor.transpose(1, 2) for tensor in tensors)


SAVED = (OUT, LSE)
CUDNN = (SEED, SEED)
SEQUENCES = (None, None, S, T)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        (
            "_scaled_dot_product_flash_attention_for_cpu_backward",
            lambda bias, p: (OUT, Q, K, V, *SAVED, p, False),
        ),
        (
            "_scaled_dot_product_flash_attention_backward",
            lambda bias, p: (OUT, Q, K, V, *SAVED, *SEQUENCES, p, False, SEED, SEED),
        ),
        (
            "_scaled_dot_product_efficient_attention_backward",
            lambda bias, p: (OUT, Q, K, V, bias, *SAVED, SEED, SEED, p, [True] * 4),
        ),
        (
            "_scaled_dot_product_cudnn_attention_backward",
            lambda bias, p: (OUT, Q, K, V, *SAVED, *CUDNN, bias, *SEQUENCES, p, False),
        ),
        (
            "_cudnn_attention_backward",
            lambda bias, p: (OUT, Q, K, V, *SAVED, *CUDNN, bias, *SEQUENCES, p, False),
        ),
        (
            "_scaled_dot_product_fused_attention_overrideable_backward",
            lambda bias, p: (
                *(OUT, Q, K, V, bias, [True] * 4, *SAVED),
                *(*SEQUENCES, p, False, SEED, SEED),
            ),
        ),
        (
            "_flash_attention_backward",
            lambda bias, p: (
                *_last(OUT, Q, K, V),
                *(*SAVED, *SEQUENCES, p, False, SEED, SEED),
            ),
        ),
        (
            "_efficient_attention_backward",
            lambda bias, p: (
                *(*_last(OUT, Q, K, V), bias, OUT, *SEQUENCES, LSE),
                *(p, SEED, SEED, 0, bias is not None),
            ),
        ),
    ],
)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("bias", [None, MASK], ids=["plain", "biased"])
def test_every_fused_backward_counts_the_same(name, args, bias, dropout):
    takes_bias = any(value is MASK for value in args(MASK, dropout))
    expected = BACKWARD_V + SCORES * (bias is not None and takes_bias) + 4 * SCORES * (dropout > 0)
    assert _apply(name, *args(bias, dropout)) == Work(macs=BACKWARD_MACS, arithmetic=expected)


# Three sequences of 9 queries and 12 keys together, the longest of 4 and 6.
PACKED_Q, PACKED_K, PACKED_V = _meta(9, HEADS, D), _meta(12, 2, D), _meta(12, 2, DV)
OFFSETS = _meta(4)
PACKED_SCORES = HEADS * min(9 * 6, 4 * 12)
PACKED = Work(macs=PACKED_SCORES * (D + DV), arithmetic=6 * PACKED_SCORES - 2 * HEADS * 9)


def test_packed_sequences_count_the_lesser_of_both_bounds():
    flash = (PACKED_Q, PACKED_K, PACKED_V, OFFSETS, OFFSETS, 4, 6, 0.0, False, False)
    assert _apply("_flash_attention_forward", *flash) == PACKED
    cudnn = (PACKED_Q, PACKED_K, PACKED_V, None, OFFSETS, OFFSETS, 4, 6, True)
    assert _apply("_cudnn_attention_forward", *cudnn) == PACKED
    efficient = (PACKED_Q[None], PACKED_K[None], PACKED_V[None], None, OFFSETS, OFFSETS)
    assert _apply("_efficient_attention_forward", *efficient, 4, 6, 0.0, 0) == PACKED


def test_packed_sequences_count_the_same_scores_backward():
    out, lse = _meta(9, HEADS, DV), _meta(HEADS, 9)
    expected = Work(
        macs=PACKED_SCORES * (3 * D + 2 * DV),
        arithmetic=6 * PACKED_SCORES + HEADS * 9 * (2 * DV - 1),
    )
    qkv = (PACKED_Q, PACKED_K, PACKED_V)
    sequences = (OFFSETS, OFFSETS, 4, 6)
    flash = (out, *qkv, out, lse, *sequences, 0.0, False, SEED, SEED)
    assert _apply("_flash_attention_backward", *flash) == expected
    cudnn = (out, *qkv, out, lse, SEED, SEED, None, *sequences, 0.0, False)
    assert _apply("_cudnn_attention_backward", *cudnn) == expected
    first, *rest = (tensor[None] for tensor in (out, *qkv))
    efficient = (first, *rest, None, first, *sequences, lse, 0.0, SEED, SEED, 0, False)
    assert _apply("_efficient_attention_backward", *efficient) == expected


@pytest.mark.parametrize(("lengths_q", "lengths_k"), [([3, 3], [6, 2]), ([1, 4], [5, 5])])
def test_packed_sequences_are_exact_where_one_side_is_equally_long(lengths_q, lengths_k):
    q, k = _meta(sum(lengths_q), 1, D), _meta(sum(lengths_k), 1, D)
    args = (q, k, k, OFFSETS, OFFSETS, max(lengths_q), max(lengths_k), 0.0, False, False)
    pairs = sum(i * j for i, j in zip(lengths_q, lengths_k, strict=True))
    assert _apply("_flash_attention_forward", *args).macs == pairs * 2 * D


def test_pages_slopes_and_scales_are_known_to_flash_attention():
    args = (*_last(Q, K, V), None, None, S, T, 0.0, False, False)
    plain = _apply("_flash_attention_forward", *args)
    slopes = _apply("_flash_attention_forward", *args, alibi_slopes=_meta(HEADS))
    assert slopes.arithmetic - plain.arithmetic == 2 * SCORES
    pool = (Q.transpose(1, 2), _meta(90, 16, 2, D), _meta(90, 16, 2, DV), *args[3:])
    assert _apply("_flash_attention_forward", *pool, block_table=_meta(B, 3)) == plain
    scale = _meta(B, 2)
    quantised = formula_for("aten::_flash_attention_forward")(*args, scale, scale, scale, out=None)
    assert quantised.arithmetic - plain.arithmetic == 3 * B * 2 + ROWS * DV


def test_operator_that_runs_on_meta_is_counted_through_the_counter():
    q, k, v = (_meta(B, HEADS, S, 8) for _ in range(3))
    scores = B * HEADS * S * S
    with FlopCounter() as counter:
        aten._scaled_dot_product_flash_attention(q, k, v)
    assert counter.macs == scores * 16
    assert counter.uncounted == ()
    with FlopCounterMode(display=False) as second_opinion:
        aten._scaled_dot_product_flash_attention(q, k, v)
    assert second_opinion.get_total_flops() == 2 * counter.macs


def test_triton_counts_a_query_that_is_scaled_already():
    q, k = _meta(B, HEADS, S, D), _meta(B, HEADS, T, D)
    scaled = _apply("_triton_scaled_dot_attention", q, k, k)
    assert scaled == Work(macs=MACS, arithmetic=SOFTMAX)


def test_triton_multi_head_counts_as_the_native_one():
    width, heads = 12, 2
    layer = nn.MultiheadAttention(width, heads, batch_first=True).eval()
    x = torch.randn(B, S, width)
    with torch.no_grad():
        m = measure(layer, x, x, x, need_weights=False)
    weights = (_meta(3 * width, width), _meta(3 * width), _meta(width, width), _meta(width))
    work = _apply("_triton_multi_head_attention", *[_meta(B, S, width)] * 3, width, heads, *weights)
    assert (work.macs, work.arithmetic) == _counts(m)


# Below: modules.

WIDTH, INNER, LAYERS = 12, 20, 2


def _projections(tokens, keys=None, key_width=WIDTH, value_width=WIDTH):
    """Multiply-accumulates of the projections of query, key, value and result."""
    keys = tokens if keys is None else keys
    return WIDTH * (2 * tokens * WIDTH + keys * (key_width + value_width))


def _attention(rows, columns):
    return B * rows * columns * 2 * WIDTH


TRUE = torch.ones(S, S, dtype=torch.bool).triu(1)
PADDING = torch.tensor([[False] * S, [False] * 3 + [True] * 2])
MODES = [
    pytest.param(torch.no_grad, False, id="no_grad"),
    pytest.param(torch.inference_mode, False, id="inference"),
    pytest.param(torch.enable_grad, False, id="grad"),
    pytest.param(torch.enable_grad, True, id="train"),
]


@pytest.mark.parametrize(("context", "training"), MODES)
@pytest.mark.parametrize("heads", [2, 3])  # an odd number of them keeps off the fast path
@pytest.mark.parametrize(
    ("layer", "call", "macs"),
    [
        ({}, {}, _projections(B * S) + _attention(S, S)),
        ({}, {"need_weights": False}, _projections(B * S) + _attention(S, S)),
        ({"bias": False}, {"need_weights": False}, _projections(B * S) + _attention(S, S)),
        ({"dropout": 0.5}, {}, _projections(B * S) + _attention(S, S)),
        (
            {"add_bias_kv": True, "add_zero_attn": True},
            {"need_weights": False},
            _projections(B * S) + _attention(S, S + 2),
        ),
    ],
    ids=["weights", "plain", "no_bias", "dropout", "bias_kv"],
)
def test_multi_head_attention_has_the_same_products_in_every_mode(
    context, training, heads, layer, call, macs
):
    with context():
        module = nn.MultiheadAttention(WIDTH, heads, batch_first=True, **layer).train(training)
        x = torch.randn(B, S, WIDTH)
        m = measure(module, x, x, x, **call)
        unbatched = measure(module, x[0], x[0], x[0], **call)
    assert (m.macs, m.uncounted) == (macs, ())
    assert (B * unbatched.macs, unbatched.uncounted) == (macs, ())


@pytest.mark.parametrize(("context", "training"), MODES)
@pytest.mark.parametrize("widths", [{}, {"kdim": 4, "vdim": 6}])
def test_cross_attention_projects_keys_and_values_by_their_own_widths(context, training, widths):
    with context():
        module = nn.MultiheadAttention(WIDTH, 2, batch_first=True, **widths).train(training)
        k, v = (torch.randn(B, T, widths.get(name, WIDTH)) for name in ("kdim", "vdim"))
        m = measure(module, torch.randn(B, S, WIDTH), k, v, need_weights=False)
    projections = _projections(B * S, B * T, k.shape[-1], v.shape[-1])
    assert (m.macs, m.uncounted) == (projections + _attention(S, T), ())


@pytest.mark.parametrize(("context", "training"), MODES)
@pytest.mark.parametrize("heads", [2, 3])
@pytest.mark.parametrize("masks", [{"key_padding_mask": PADDING}, {"attn_mask": TRUE}])
def test_masked_multi_head_attention_has_the_whole_matrix(context, training, heads, masks):
    with context():
        module = nn.MultiheadAttention(WIDTH, heads, batch_first=True).train(training)
        x = torch.randn(B, S, WIDTH)
        m = measure(module, x, x, x, need_weights=False, **masks)
    assert m.macs == _projections(B * S) + _attention(S, S)
    assert {u.operator for u in m.uncounted} <= {"aten._masked_softmax.default"}


def _encoder_layer(tokens=B * S, pairs=S * S):
    """Attention and a feed-forward network."""
    return _projections(tokens) + B * pairs * 2 * WIDTH + 2 * tokens * WIDTH * INNER


@pytest.mark.parametrize(("context", "training"), MODES)
@pytest.mark.parametrize(
    "kwargs", [{}, {"norm_first": True}, {"activation": "gelu"}, {"batch_first": False}]
)
@pytest.mark.parametrize("heads", [2, 3])
def test_encoder_has_the_same_products_in_every_mode(context, training, heads, kwargs):
    kwargs = {"batch_first": True, **kwargs}
    with context():
        layer = nn.TransformerEncoderLayer(WIDTH, heads, INNER, **kwargs)
        encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False).train(training)
        x = torch.randn((B, S, WIDTH) if kwargs["batch_first"] else (S, B, WIDTH))
        m = measure(encoder, x)
    assert (m.macs, m.uncounted) == (LAYERS * _encoder_layer(), ())


def test_fast_path_scales_the_query_instead_of_the_scores():
    layer = nn.TransformerEncoderLayer(WIDTH, 2, INNER, batch_first=True, dropout=0.0).eval()
    x = torch.randn(B, S, WIDTH)
    with torch.no_grad():
        fast = measure(layer, x)
    slow = measure(layer, x)
    assert "aten._transform_bias_rescale_qkv" in fast.by_operator
    assert "aten._transform_bias_rescale_qkv" not in slow.by_operator
    assert fast.flops - slow.flops == B * S * WIDTH - B * 2 * S * S
    tokens = B * S
    norms = 2 * (8 * tokens * WIDTH + 2 * tokens)
    biases = tokens * (4 * WIDTH + INNER + WIDTH)
    softmax = B * 2 * (5 * S * S - 2 * S)
    rest = norms + biases + softmax + tokens * INNER + 2 * tokens * WIDTH + tokens * WIDTH
    assert fast.flops == 2 * _encoder_layer() + rest


@pytest.mark.parametrize(("context", "training"), MODES)
def test_encoder_and_decoder_count_together(context, training):
    with context():
        model = nn.Transformer(WIDTH, 2, 1, 1, INNER, batch_first=True).train(training)
        m = measure(model, torch.randn(B, T, WIDTH), torch.randn(B, S, WIDTH))
    encoder = _encoder_layer(B * T, T * T)
    cross = _projections(B * S, B * T) + _attention(S, T)
    assert (m.macs, m.uncounted) == (encoder + _encoder_layer() + cross, ())


def test_training_of_a_transformer_takes_all_its_products_back():
    model = nn.Transformer(WIDTH, 2, 1, 1, INNER, batch_first=True, dropout=0.1)
    source = torch.randn(B, T, WIDTH, requires_grad=True)
    target = torch.randn(B, S, WIDTH, requires_grad=True)
    forward = measure(model, source, target)
    m = measure(model, source, target, train=True)
    # With dropout attention is written out in products, whose backward is two for each.
    assert (m.macs, m.uncounted) == (3 * forward.macs, ())


def test_training_of_fused_attention_takes_one_product_more():
    module = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
    x = torch.randn(B, S, WIDTH, requires_grad=True)
    m = measure(lambda: module(x, x, x, need_weights=False)[0], train=True)
    # The scores are computed again: half of the attention's products.
    assert m.macs == 3 * (_projections(B * S) + _attention(S, S)) + _attention(S, S) // 2
    assert m.uncounted == ()
