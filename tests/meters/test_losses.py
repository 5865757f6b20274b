"""Every loss counts its definition, forward and backward, with nothing left uncounted."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch._decomp import decomposition_table
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas.registry import formula_for

aten = torch.ops.aten
N, C = 5, 7
E = N * C
X = torch.randn(N, C)
P = torch.rand(N, C)
"""Probabilities, as values and as targets."""
SIGNS = torch.ones(N, C)
CLASSES = torch.randint(0, C, (N,))
LABELS = torch.randint(0, C, (N, C))
WEIGHT = torch.rand(C)
T, SAMPLES, ALPHABET, LABELLED = 11, 3, 6, 4
LOG_PROBS = torch.randn(T, SAMPLES, ALPHABET).log_softmax(2)
TARGETS = torch.randint(1, ALPHABET, (SAMPLES, LABELLED))
LENGTHS = (torch.tensor([T] * SAMPLES), torch.tensor([LABELLED] * SAMPLES))

MODULES = {
    "AdaptiveLogSoftmaxWithLoss": (
        lambda **_: nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10]),
        (torch.randn(6, 16), torch.randint(0, 20, (6,))),
    ),
    "BCELoss": (nn.BCELoss, (P, P)),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, (X, P)),
    "CTCLoss": (nn.CTCLoss, (LOG_PROBS, TARGETS, *LENGTHS)),
    "CosineEmbeddingLoss": (
        nn.CosineEmbeddingLoss,
        (X, X + 1, torch.tensor([1, -1, 1, 1, -1])),
    ),
    "CrossEntropyLoss": (nn.CrossEntropyLoss, (X, CLASSES)),
    "GaussianNLLLoss": (nn.GaussianNLLLoss, (X, P, P + 0.1)),
    "HingeEmbeddingLoss": (nn.HingeEmbeddingLoss, (X, SIGNS)),
    "HuberLoss": (nn.HuberLoss, (X, P)),
    "KLDivLoss": (nn.KLDivLoss, (X, P)),
    "L1Loss": (nn.L1Loss, (X, P)),
    "LinearCrossEntropyLoss": (
        lambda **options: nn.LinearCrossEntropyLoss(C, 9, **options),
        (X, CLASSES),
    ),
    "MSELoss": (nn.MSELoss, (X, P)),
    "MarginRankingLoss": (nn.MarginRankingLoss, (X, P, SIGNS)),
    "MultiLabelMarginLoss": (nn.MultiLabelMarginLoss, (X, LABELS)),
    "MultiLabelSoftMarginLoss": (nn.MultiLabelSoftMarginLoss, (X, P)),
    "MultiMarginLoss": (nn.MultiMarginLoss, (X, CLASSES)),
    "NLLLoss": (nn.NLLLoss, (X, CLASSES)),
    "PoissonNLLLoss": (nn.PoissonNLLLoss, (X, P)),
    "SmoothL1Loss": (nn.SmoothL1Loss, (X, P)),
    "SoftMarginLoss": (nn.SoftMarginLoss, (X, SIGNS)),
    "TripletMarginLoss": (nn.TripletMarginLoss, (X, X + 1, X - 2)),
    "TripletMarginWithDistanceLoss": (nn.TripletMarginWithDistanceLoss, (X, X + 1, X - 2)),
}


def test_every_loss_of_torch_is_tried():
    named = {name for name, _ in inspect.getmembers(nn, inspect.isclass) if name.endswith("Loss")}
    assert named == set(MODULES)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", MODULES)
def test_no_loss_leaves_anything_uncounted(name, reduction):
    make, (x, *rest) = MODULES[name]
    trained = measure(make(reduction=reduction), x.clone().requires_grad_(), *rest, train=True)
    assert trained.uncounted == ()
    assert trained.flops > 0
    with torch.inference_mode():
        evaluated = measure(make(reduction=reduction), x, *rest)
    with torch.no_grad():
        plain = measure(make(reduction=reduction), x, *rest)
    assert evaluated.uncounted == plain.uncounted == ()
    assert evaluated.flops == plain.flops
    assert 0 < plain.flops < trained.flops


def reductions(elements):
    """What the number of a reduction adds to the losses of so many elements."""
    return ((0, 0), (1, elements), (2, elements - 1))


@pytest.mark.parametrize(("reduction", "reduced"), reductions(E))
@pytest.mark.parametrize(
    ("call", "each"),
    [
        # subtract and square
        (lambda r: aten.mse_loss(X, P, r), 2),
        # subtract, absolute value, comparison; square, half, divide; subtract
        (lambda r: aten.smooth_l1_loss(X, P, r, 0.5), 7),
        # subtract, absolute value, comparison; half, square; subtract, multiply
        (lambda r: aten.huber_loss(X, P, r, 0.5), 7),
        # negate, multiply, exponential, log1p
        (lambda r: aten.soft_margin_loss(X, SIGNS, r), 4),
        # two logarithms, two bounds, two products, target - 1, -x, and their difference
        (lambda r: aten.binary_cross_entropy(P, P, None, r), 9),
        (lambda r: aten.binary_cross_entropy(P, P, WEIGHT, r), 10),
        # 1 - target, its product with x, six of logsigmoid, and the difference
        (lambda r: aten.binary_cross_entropy_with_logits(X, P, None, None, r), 9),
        (lambda r: aten.binary_cross_entropy_with_logits(X, P, WEIGHT, None, r), 10),
    ],
)
def test_a_loss_of_elements_counts_each_and_the_reduction(call, each, reduction, reduced):
    m = measure(call, reduction)
    assert m.flops == each * E + reduced
    assert m.uncounted == ()


def test_positive_weights_cost_their_scale():
    # weight - 1 for each class; times the target, plus 1, and times the logarithm.
    m = measure(functional.binary_cross_entropy_with_logits, X, P, pos_weight=WEIGHT)
    assert m.flops == 9 * E + E + C + 3 * E


@pytest.mark.parametrize(("reduction", "is_mean"), [(0, 0), (1, 1), (2, 0)])
def test_the_backward_of_a_loss_of_elements(reduction, is_mean):
    grad = torch.ones(N, C) if reduction == 0 else torch.ones(())
    g = grad.numel()
    for call, flops in (
        # subtract, times 2 or 2/n, times grad
        (lambda: aten.mse_loss_backward(grad, X, P, reduction), 3 * E),
        # subtract, absolute value, comparison, two products for each branch; grad / n
        (lambda: aten.smooth_l1_loss_backward(grad, X, P, reduction, 0.5), 7 * E + g),
        # subtract, two comparisons, d / n, times grad; twice grad / n and times delta
        (lambda: aten.huber_loss_backward(grad, X, P, reduction, 0.5), 5 * E + 4 * g),
        # target * grad * (sigmoid(target * x) - 1)
        (lambda: aten.soft_margin_loss_backward(grad, X, SIGNS, reduction), (5 + is_mean) * E),
        # grad * (x - target) / max(x * (1 - x), epsilon)
        (
            lambda: aten.binary_cross_entropy_backward(grad, P, P, None, reduction),
            (6 + is_mean) * E,
        ),
        (
            lambda: aten.binary_cross_entropy_backward(grad, P, P, WEIGHT, reduction),
            (7 + is_mean) * E,
        ),
    ):
        m = measure(call)
        assert m.flops == flops
        assert m.uncounted == ()


@pytest.mark.parametrize("reduction", [0, 1, 2])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_a_margin_to_every_other_class(reduction, p, weight):
    extra = (p == 2) + (weight is not None)
    m = measure(aten.multi_margin_loss, X, CLASSES, p, 1.0, weight, reduction)
    # margin - x[target] for each sample; add and compare for each class; the mean.
    assert m.flops == N + (3 + extra) * E
    grad = torch.ones(N) if reduction == 0 else torch.ones(())
    back = aten.multi_margin_loss_backward
    m_back = measure(back, grad, X, CLASSES, p, 1.0, weight, reduction)
    # The same, a subtraction from the right class, and a multiply by grad.
    assert m_back.flops == N + (4 + extra) * E
    alone = measure(aten.multi_margin_loss, X[0], CLASSES[0], p, 1.0, weight, reduction)
    assert alone.flops == 1 + (3 + extra) * C
    assert m.uncounted == m_back.uncounted == alone.uncounted == ()


@pytest.mark.parametrize(("reduction", "reduced"), [(0, E * C - N), (1, E * C), (2, E * C - 1)])
def test_a_margin_between_all_pairs_of_classes(reduction, reduced):
    m = measure(
        functional.multilabel_margin_loss, X, LABELS, reduction=("none", "mean", "sum")[reduction]
    )
    # 1 - x[target] for each class; add, compare and divide for each pair.
    assert m.flops == E + 3 * E * C + reduced
    grad = torch.ones(N) if reduction == 0 else torch.ones(())
    back = aten.multilabel_margin_loss_backward
    m_back = measure(back, grad, X, LABELS, reduction, torch.zeros(N, C))
    # 1 - x[target]; add, compare, and an add to either class; times grad.
    assert m_back.flops == E + 4 * E * C + E
    assert m.uncounted == m_back.uncounted == ()


@pytest.mark.parametrize(
    ("reduction", "plain", "weighted"),
    # a negation; with weights a product, and for their mean the sum of the weights
    [("none", 30, 60), ("sum", 30 + 29, 60 + 29), ("mean", 30 + 30, 60 + 30 + 29)],
)
def test_likelihood_of_an_image_counts_its_pixels(reduction, plain, weighted):
    x, target = torch.randn(2, C, 3, 5), torch.randint(0, C, (2, 3, 5))
    for weight, flops in ((None, plain), (WEIGHT, weighted)):
        m = measure(functional.nll_loss, x, target, weight, reduction=reduction)
        assert m.flops == flops
        x_grad = x.clone().requires_grad_()
        trained = measure(
            functional.nll_loss, x_grad, target, weight, reduction=reduction, train=True
        )
        backward = trained.by_operator["aten.nll_loss2d_backward"].flops
        assert backward == 30 * (1 if weight is None else 2) + (reduction == "mean")
        assert m.uncounted == trained.uncounted == ()


def _pairs_with_decompositions():
    for reduction in (0, 1, 2):
        grad = torch.rand(N, C) if reduction == 0 else torch.rand(())
        for weight in (None, WEIGHT):
            yield aten.binary_cross_entropy.default, (P, P, weight, reduction)
            yield aten.binary_cross_entropy_backward.default, (grad, P, P, weight, reduction)
            yield aten.multi_margin_loss.default, (X, CLASSES, 2, 1.0, weight, reduction)
        yield aten.huber_loss.default, (X, P, reduction, 0.5)
        yield aten.smooth_l1_loss.default, (X, P, reduction, 0.5)
        yield aten.huber_loss_backward.default, (grad, X, P, reduction, 0.5)
        yield aten.smooth_l1_loss_backward.default, (grad, X, P, reduction, 0.5)
        yield aten.soft_margin_loss.default, (X, SIGNS, reduction)
        yield aten.soft_margin_loss_backward.default, (grad, X, SIGNS, reduction)
        yield aten.multilabel_margin_loss_forward.default, (X, LABELS, reduction)


@pytest.mark.parametrize(
    ("op", "args"),
    [pytest.param(op, args, id=op.name()) for op, args in _pairs_with_decompositions()],
)
def test_a_loss_counts_what_its_decomposition_counts(op, args):
    with FlopCounter() as fused:
        op(*args)
    with FlopCounter() as decomposed:
        decomposition_table[op](*args)
    # Comparing class numbers, to leave some out, is integer work of the decomposition alone.
    assert fused.flops == decomposed.flops > 0
    assert fused.uncounted == decomposed.uncounted == ()


STATES = 2 * LABELLED + 1
FORWARD = 13 * (T - 1) * STATES + 9
"""Of a sample: from each state to the next the log of three exponentials, then of two."""
BACKWARD = 13 * (T - 1) * STATES + 9 * T * STATES + 6 * T * ALPHABET
"""Of a sample: the recursion from the end, both summed up by class, and the gradient."""


@pytest.mark.parametrize(
    ("log_probs", "targets", "lengths", "samples"),
    [
        (LOG_PROBS, TARGETS, LENGTHS, SAMPLES),
        (LOG_PROBS, TARGETS, ((T,) * SAMPLES, (LABELLED,) * SAMPLES), SAMPLES),
        (LOG_PROBS, TARGETS.flatten(), LENGTHS, SAMPLES),
        (LOG_PROBS, TARGETS.flatten(), ((T,) * SAMPLES, (LABELLED,) * SAMPLES), SAMPLES),
        (LOG_PROBS[:, 0], TARGETS[0], (torch.tensor(T), torch.tensor(LABELLED)), 1),
        (LOG_PROBS[:, 0], TARGETS[0], ((T,), (LABELLED,)), 1),
    ],
)
def test_ctc_counts_both_recursions_however_it_is_given(log_probs, targets, lengths, samples):
    x = log_probs.clone().requires_grad_()
    m = measure(functional.ctc_loss, x, targets, *lengths, reduction="sum", train=True)
    assert m.by_operator["aten._ctc_loss"].flops == samples * FORWARD
    assert m.by_operator["aten._ctc_loss_backward"].flops == samples * BACKWARD
    assert m.uncounted == ()


def test_ctc_counts_lengths_that_are_numbers_and_pads_those_in_tensors():
    steps, labels = (11, 10, 7), (4, 3, 1)
    exact = sum(13 * (t - 1) * (2 * s + 1) + 9 for t, s in zip(steps, labels, strict=True))
    m = measure(functional.ctc_loss, LOG_PROBS, TARGETS, steps, labels, reduction="none")
    assert m.flops == exact
    tensors = torch.tensor(steps), torch.tensor(labels)
    padded = measure(functional.ctc_loss, LOG_PROBS, TARGETS, *tensors, reduction="none")
    assert padded.flops == SAMPLES * FORWARD
    out = torch.empty(0), torch.empty(0)
    into = measure(aten._ctc_loss.out, LOG_PROBS, TARGETS, steps, labels, out0=out[0], out1=out[1])
    assert into.flops == exact
    assert m.uncounted == padded.uncounted == into.uncounted == ()


@pytest.mark.parametrize("name", ["_cudnn_ctc_loss", "miopen_ctc_loss"])
def test_ctc_of_a_library_makes_its_gradient_at_once(name):
    on_meta = LOG_PROBS.to("meta")
    targets = TARGETS.flatten().int().to("meta")
    lengths = (T,) * SAMPLES, (LABELLED,) * SAMPLES
    rule = formula_for(f"aten::{name}")
    flops = rule(on_meta, targets, *lengths, 0, True, False, out=(on_meta, on_meta))
    # The product with grad is another operator.
    assert flops == SAMPLES * (FORWARD + BACKWARD - T * ALPHABET)


def test_fake_tensors_count_like_real_ones():
    def work(x, p, signs, classes, labels):
        return (
            functional.huber_loss(x, p),
            functional.smooth_l1_loss(x, p),
            functional.binary_cross_entropy(p, p),
            functional.soft_margin_loss(x, signs),
            functional.multi_margin_loss(x, classes),
            functional.multilabel_margin_loss(x, labels),
        )

    values = (X, P, SIGNS, CLASSES, LABELS)
    real = measure(work, *values)
    with FakeTensorMode() as mode:
        fake = measure(work, *(mode.from_tensor(value) for value in values))
    assert fake.flops == real.flops > 0
    assert fake.uncounted == real.uncounted == ()


def test_a_given_result_changes_no_count():
    for plain, into in (
        (lambda: aten.huber_loss(X, P), lambda: aten.huber_loss.out(X, P, out=torch.empty(()))),
        (
            lambda: aten.smooth_l1_loss(X, P),
            lambda: aten.smooth_l1_loss.out(X, P, out=torch.empty(())),
        ),
        (
            lambda: aten.binary_cross_entropy_backward(X, P, P),
            lambda: aten.binary_cross_entropy_backward.grad_input(
                X, P, P, grad_input=torch.empty(N, C)
            ),
        ),
        (
            lambda: aten.multilabel_margin_loss_forward(X, LABELS, 1),
            lambda: aten.multilabel_margin_loss_forward.output(
                X, LABELS, 1, output=torch.empty(()), is_target=torch.empty(N, C)
            ),
        ),
        (
            lambda: aten.nll_loss(X, CLASSES),
            lambda: aten.nll_loss.out(X, CLASSES, out=torch.empty(())),
        ),
    ):
        one, other = measure(plain), measure(into)
        assert one.flops == other.flops > 0
        assert one.uncounted == other.uncounted == ()


def test_shapes_that_broadcast_count_their_pairs():
    m = measure(aten.huber_loss, torch.rand(N, 1), torch.rand(1, C))
    assert m.flops == 7 * E + E
