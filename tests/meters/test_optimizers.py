"""Every optimiser of torch is counted, and fused steps count what their loops do."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn, optim

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas import optimizers

SHAPES = ((3, 5), (7, 2))
N, TENSORS = 15 + 14, 2

SGD = [
    ({"lr": 0.1}, 2),
    # weight decay 2, maximize 1
    ({"lr": 0.1, "weight_decay": 0.3, "maximize": True}, 2 + 2 + 1),
    # a factor of 1 is no multiply
    ({"lr": 0.1, "weight_decay": 1.0}, 2 + 1),
    # the buffer times momentum 1, plus grad 1
    ({"lr": 0.1, "momentum": 0.9}, 2 + 2),
    ({"lr": 0.1, "momentum": 0.9, "dampening": 0.2}, 2 + 3),
    ({"lr": 0.1, "momentum": 0.9, "nesterov": True}, 2 + 2 + 2),
]
# mean 3, square 1 + 3, root, correction and eps 3, update 3
ADAM = [
    ({}, 13),
    ({"amsgrad": True}, 13 + 1),
    ({"weight_decay": 0.3, "maximize": True}, 13 + 2 + 1),
    ({"betas": (0.9, 0.0)}, 13 - 1),
]
ADAMW = [({}, 13 + 1), ({"amsgrad": True, "maximize": True, "weight_decay": 0.0}, 13 + 1 + 1)]
# sum of squares 2, root and eps 2, update 3
ADAGRAD = [({}, 7), ({"weight_decay": 0.3, "lr_decay": 0.1, "maximize": True}, 7 + 2 + 1)]
FUSED = [
    (optimizer, settings, each)
    for optimizer, cases in (
        (optim.SGD, SGD),
        (optim.Adam, ADAM),
        (optim.AdamW, ADAMW),
        (optim.Adagrad, ADAGRAD),
    )
    for settings, each in cases
]


def _second_step(optimizer, *, steps=2, dtype=torch.float32, **settings):
    """What a step costs that is not the first."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SHAPES]
    made = optimizer(parameters, **settings)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        with FlopCounter() as counter:
            made.step()
        assert counter.uncounted == ()
        assert counter.int_ops == 0
    return counter.flops


@pytest.mark.parametrize(("optimizer", "settings", "each"), FUSED)
def test_fused_listed_and_looped_steps_count_the_same(optimizer, settings, each):
    # Adam and Adagrad count the step of each tensor in a tensor.
    steps = 0 if optimizer is optim.SGD else TENSORS
    for how in ({"fused": True}, {"foreach": True}, {"foreach": False}):
        assert _second_step(optimizer, **settings, **how) == each * N + steps, how


def test_the_first_step_with_momentum_copies_the_gradient():
    for how in ({"fused": True}, {"foreach": True}, {"foreach": False}):
        flops = _second_step(optim.SGD, steps=1, lr=0.1, momentum=0.9, nesterov=True, **how)
        assert flops == (2 + 2) * N, how


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad])
def test_a_loss_scale_costs_a_division_for_each_element(optimizer):
    parameters = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    made = optimizer(parameters, lr=0.1, fused=True)
    made.grad_scale, made.found_inf = torch.tensor(8.0), torch.tensor(0.0)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    with FlopCounter() as counter:
        made.step()
    each = {optim.SGD: 2, optim.Adam: 13, optim.AdamW: 14, optim.Adagrad: 7}[optimizer]
    # Where the steps are counted, one is added and, had an infinity been found, taken back.
    steps = 0 if optimizer is optim.SGD else 2 * TENSORS
    assert counter.flops == (each + 1) * N + steps
    assert counter.uncounted == ()


def test_functional_and_meta_forms_of_a_fused_step_count_too():
    def lists(count):
        return [[torch.rand(shape, device="meta") for shape in SHAPES] for _ in range(count)]

    steps = [torch.tensor(1.0, device="meta") for _ in SHAPES]
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.3, "eps": 1e-8}
    flags = {"amsgrad": True, "maximize": False}
    out = lists(5)
    given = {**settings, **flags}
    assert optimizers.fused_adam(*lists(5), steps, out=out, **given) == (13 + 2 + 1) * N
    assert optimizers.fused_adamw(*lists(5), steps, out=out, **given) == (13 + 1 + 1) * N
    x = [torch.rand(shape) for shape in SHAPES]
    with FlopCounter() as counter:
        torch.ops.aten._fused_adam(*([x] * 5), [torch.tensor(1.0)] * TENSORS, **given)
    assert counter.flops == (13 + 2 + 1) * N
    assert counter.uncounted == ()


def test_a_learning_rate_in_a_tensor_costs_the_loop_its_own_arithmetic():
    settings = {"lr": torch.tensor(0.1)}
    assert _second_step(optim.Adam, **settings, fused=True) == 13 * N + TENSORS
    # The loop divides and negates the tensor for each parameter.
    loop = _second_step(optim.Adam, **settings, foreach=False)
    assert loop == 13 * N + TENSORS + 2 * TENSORS


def test_complex_parameters_are_stepped_as_their_two_parts():
    for how in ({"foreach": True}, {"foreach": False}):
        flops = _second_step(optim.Adam, dtype=torch.complex64, **how)
        assert flops == 2 * 13 * N + TENSORS, how


DECAYED = {"weight_decay": 0.3, "maximize": True}


@pytest.mark.parametrize(
    ("optimizer", "settings", "each"),
    [
        # two running squares 1 + 3 each, their roots with eps 2 each, a division, a product
        # with grad 1, and the update 2
        (optim.Adadelta, {}, 4 + 4 + 4 + 2 + 2),
        (optim.Adadelta, DECAYED, 4 + 4 + 4 + 2 + 2 + 3),
        # mean 3, norm: times beta, |grad|, eps, maximum 4; update 3
        (optim.Adamax, {}, 3 + 4 + 3),
        (optim.Adamax, DECAYED, 3 + 4 + 3 + 3),
        # mean 3, square 4, root, correction and eps 3, two updates 3
        (optim.NAdam, {}, 3 + 4 + 3 + 6),
        (optim.NAdam, DECAYED, 3 + 4 + 3 + 6 + 3),
        (optim.NAdam, {"weight_decay": 0.3, "decoupled_weight_decay": True}, 16 + 1),
        # square 4, root and eps 2, update 3
        (optim.RMSprop, {}, 4 + 2 + 3),
        # the mean 3, its square taken off 3; the buffer 3 and the update 2
        (optim.RMSprop, {"centered": True, "momentum": 0.9}, 4 + 2 + 3 + 3 + 3 + 2),
        # product of gradients and its sign 2, three questions 3, and their step 1, its bounds
        # 2, the gradient's question 1, sign of the gradient and update 1 + 3
        (optim.Rprop, {}, 2 + 3 + 1 + 2 + 1 + 1 + 3),
    ],
)
def test_listed_and_looped_steps_count_the_same(optimizer, settings, each):
    # NAdam also multiplies up a number for each tensor.
    scalars = 2 * TENSORS if optimizer is optim.NAdam else TENSORS
    for how in ({"foreach": True}, {"foreach": False}):
        assert _second_step(optimizer, **settings, **how) == each * N + scalars, how


def test_lists_of_rprop_negate_the_kept_gradients_once_more_when_maximizing():
    loop = _second_step(optim.Rprop, maximize=True, foreach=False)
    assert loop == 14 * N + TENSORS
    assert _second_step(optim.Rprop, maximize=True, foreach=True) == loop + N


def test_lists_of_radam_and_asgd_write_their_update_in_another_way():
    # RAdam's loop asks whether to rectify; its lists do both in one sum of two step sizes.
    # mean 3, square 4, the corrected mean 1 and its step 1, update 2
    assert _second_step(optim.RAdam, foreach=False) == 11 * N + TENSORS
    # rectified: root, eps, reciprocal and correction 4, the two factors 2
    assert _second_step(optim.RAdam, steps=8, foreach=False) == (11 + 6) * N + TENSORS
    # mean 3, square 4, root, eps, division, reciprocal, sum 5, update 2
    assert _second_step(optim.RAdam, foreach=True) == 14 * N + TENSORS
    # ASGD's loop copies while the average is of one; its lists always average.
    assert _second_step(optim.ASGD, foreach=False) == (1 + 2) * N + TENSORS
    # grad + lambda x 2, update 3, difference and average 3; eta: 5 for each tensor
    assert _second_step(optim.ASGD, foreach=True) == 8 * N + TENSORS + 5 * TENSORS


def test_every_optimizer_of_torch_is_counted():
    made_here = {optim.SparseAdam, optim.LBFGS}
    classes = {
        value
        for value in vars(optim).values()
        if inspect.isclass(value) and issubclass(value, optim.Optimizer)
    } - {optim.Optimizer}
    assert len(classes) >= 15
    for optimizer in classes - made_here:
        assert _second_step(optimizer) > 0


def test_lbfgs_is_counted():
    x = nn.Parameter(torch.randn(7))
    made = optim.LBFGS([x], max_iter=4)

    def closure():
        made.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    m = measure(made.step, closure)
    assert m.flops > 0
    assert m.uncounted == ()


def test_sparse_adam_counts_the_rows_that_the_batch_has_seen():
    table = nn.Embedding(11, 3, sparse=True)
    table(torch.tensor([1, 2, 2, 5])).sum().backward()
    made = optim.SparseAdam(table.parameters())
    m = measure(made.step)
    rows = 3 * 3  # elements of the three different rows
    # One row came twice: 3 adds. Mean: difference, factor, its add to the dense table; square:
    # power, difference, factor, add; two sums for the new values; root, eps, division, step
    # and its add.
    assert m.flops == 3 + rows * (3 + 4 + 2 + 5)
    assert m.uncounted == ()


def test_sparse_gradients_count_their_elements_in_plain_optimizers():
    table = nn.Embedding(11, 3, sparse=True)
    made = optim.SGD(table.parameters(), lr=0.1)
    table(torch.tensor([1, 2, 5])).sum().backward()
    m = measure(made.step)
    assert (m.flops, m.uncounted) == (2 * 3 * 3, ())


def test_scaling_a_loss_counts_the_check_and_the_new_scale():
    aten = torch.ops.aten
    grads = [torch.randn(shape) for shape in SHAPES]
    found, scale = torch.tensor(0.0), torch.tensor(8.0)
    m = measure(aten._amp_foreach_non_finite_check_and_unscale_, grads, found, 1 / scale)
    assert (m.flops, m.uncounted) == (2 * N, ())
    tracker = torch.tensor(0, dtype=torch.int32)
    m = measure(aten._amp_update_scale_, scale, tracker, found, 2.0, 0.5, 100)
    assert (m.flops, m.uncounted) == (6, ())
