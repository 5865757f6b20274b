"""Activations and dropout count their definitions, forward, backward and in place."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody imports it

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas import activations, registry

aten = torch.ops.aten
N = 3 * 4 * 5


def _numbers():
    return torch.randn(3, 4, 5)


@pytest.mark.parametrize(
    ("layer", "forward", "backward"),
    [
        (nn.ReLU(), 1, 1),
        (nn.ReLU6(), 2, 2),
        (nn.Threshold(0.1, 20), 1, 1),
        (nn.Hardtanh(-0.3, 0.4), 2, 2),
        (nn.Hardsigmoid(), 4, 3),
        (nn.Hardswish(), 5, 5),
        (nn.Hardshrink(), 2, 2),
        # two comparisons, a difference, a sum
        (nn.Softshrink(), 4, 2),
        (nn.LeakyReLU(0.1), 2, 2),
        # softplus 3, tanh, product; softplus 3, tanh, sigmoid, six more
        (nn.Mish(), 5, 11),
        (nn.SiLU(), 2, 6),
        (nn.Sigmoid(), 1, 3),
        (nn.Tanh(), 1, 3),
        (nn.GELU(), 5, 11),
        (nn.GELU("tanh"), 9, 18),
        # exponential, logarithm, comparison; exponential, product, sum, division, comparison
        (nn.Softplus(), 3, 5),
        (nn.Softplus(beta=2), 5, 6),
        # comparison, exponential, difference; and from its result, sum, product
        (nn.ELU(), 3, 3),
        (nn.ELU(alpha=2.0), 4, 4),
        (nn.CELU(), 3, 3),
        # x / alpha and the factor alpha; and with input_scale = 1 / alpha
        (nn.CELU(alpha=2.0), 5, 3 + 1 + 2),
        # alpha and scale
        (nn.SELU(), 5, 5),
        # minimum, size, negation, exponential, logarithm, difference
        (nn.LogSigmoid(), 6, 6),
        (nn.RReLU(), 2, 1),
        (nn.RReLU().eval(), 2, 2),
    ],
    ids=repr,
)
def test_an_activation_counts_its_definition_forward_and_backward(layer, forward, backward):
    x = _numbers()
    m = measure(layer, x)
    assert (m.flops, m.uncounted) == (forward * N, ())
    m = measure(layer, x.requires_grad_(), train=True)
    # The gradient comes from the sum of the outputs.
    assert m.flops == (forward + backward) * N + (N - 1)
    assert m.uncounted == ()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.elu(x, 2.0, inplace=True),
        lambda x: F.celu(x, 2.0, inplace=True),
        lambda x: F.mish(x, inplace=True),
        lambda x: F.rrelu(x, training=True, inplace=True),
        lambda x: F.threshold(x, 0.1, 20, inplace=True),
        lambda x: F.hardswish(x, inplace=True),
        lambda x: aten.hardshrink.out(x, out=torch.empty(0)),
        lambda x: aten.softshrink.out(x, out=torch.empty(0)),
        lambda x: aten.softplus.out(x, out=torch.empty(0)),
        lambda x: aten.log_sigmoid_forward.output(x, output=torch.empty(0), buffer=torch.empty(0)),
        lambda x: aten.rrelu_with_noise_functional(x, torch.empty(3, 4, 5)),
    ],
)
def test_other_forms_of_an_activation_are_counted(call):
    m = measure(call, _numbers())
    assert m.flops in (2 * N, 3 * N, 4 * N, 5 * N, 6 * N, N)
    assert m.uncounted == ()


def test_prelu_counts_its_weights_gradient():
    layer = nn.PReLU(4)
    m = measure(layer, _numbers())
    assert (m.flops, m.uncounted) == (2 * N, ())
    m = measure(layer, _numbers().requires_grad_(), train=True)
    # Forward 2, loss n - 1; the two gradients 2 each, the weight's summed over all but 4.
    assert m.flops == 2 * N + (N - 1) + 4 * N + (N - 4)
    assert m.uncounted == ()


def test_gated_linear_units_count_the_half_that_they_give():
    x = _numbers()
    half = N // 2
    m = measure(F.glu, x, 1)
    assert (m.flops, m.uncounted) == (2 * half, ())
    grad = torch.randn(3, 2, 5)
    # sigmoid, 1 - s, and four products
    m = measure(aten.glu_backward, grad, x, 1)
    assert (m.flops, m.uncounted) == (6 * half, ())
    # sigmoid, s * db, its difference, two products, a sum
    m = measure(aten.glu_jvp, F.glu(x, 1), x, x, 1)
    assert (m.flops, m.uncounted) == (6 * half, ())
    grad_x = aten.glu_backward(grad, x, 1)
    tangent = aten.glu_backward_jvp.default
    arguments = (grad_x, grad, x, grad, x, 1)
    m = measure(tangent, *arguments)
    with FlopCounter() as kernel:  # the operators that torch's own kernel calls
        tangent._op_dk(torch._C.DispatchKey.CPU, *arguments)
    assert m.flops == kernel.flops == 15 * half
    assert m.uncounted == kernel.uncounted == ()


def test_a_backward_of_exponentials_multiplies_by_each_factor_that_is_not_one():
    x, grad = _numbers(), _numbers()
    for is_result, factors, each in [
        (False, (1, 1, 1), 3),
        (False, (2, 1, 1), 4),
        (False, (2, 3, 4), 3 + 1 + 1 + 2),
        (True, (1, 1, 1), 3),
        (True, (2, 3, 4), 3 + 1 + 1),
    ]:
        m = measure(aten.elu_backward, grad, *factors, is_result, x)
        assert (m.flops, m.uncounted) == (each * N, ())


def test_log_sigmoid_on_a_device_that_keeps_no_buffer_counts_it_again():
    grad = torch.empty(3, 4, 5, device="meta")
    kept, none = torch.empty(3, 4, 5, device="meta"), torch.empty(0, device="meta")
    assert activations._log_sigmoid_backward(grad, grad, kept, out=grad) == 6 * N
    assert activations._log_sigmoid_backward(grad, grad, none, out=grad) == 9 * N


def test_random_slopes_within_no_bounds_are_those_of_leaky_relu():
    x, noise = _numbers(), torch.rand(3, 4, 5)
    for bounds, each in [((0.1, 0.3), 1), ((0.2, 0.2), 2)]:
        m = measure(aten.rrelu_with_noise_backward, x, x, noise, *bounds, True, False)
        assert (m.flops, m.uncounted) == (each * N, ())


def test_dropout_counts_two_multiplies_in_training_and_none_in_evaluation():
    x = _numbers()
    mask = torch.ones(3, 4, 5, dtype=torch.bool)
    for train, each in ((True, 2), (None, 2), (False, 0)):
        m = measure(torch.native_dropout, x, 0.3, train)
        assert (m.flops, m.uncounted) == (each * N, ())
    assert measure(aten.native_dropout_backward, x, mask, 2.0).flops == 2 * N
    # nn.Dropout divides the mask and multiplies by it.
    assert measure(nn.Dropout(0.3), x).flops == 2 * N
    assert measure(nn.Dropout(0.3).eval(), x).flops == 0
    for layer in (nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(0.3), nn.Dropout1d(0.3)):
        m = measure(layer, x)
        assert m.flops > 0
        assert m.uncounted == ()
    # Operators of other devices.
    there = x.to("meta")
    assert activations.fused_dropout(there, 0.3, out=(there, there)) == 2 * N
    scale = registry.formula_for("aten::_masked_scale")
    assert scale is not None
    assert scale(there, there, 2.0, out=there) == 2 * N


def test_the_gradient_of_a_logit_counts_its_bounds():
    x, grad = torch.rand(3, 4, 5), _numbers()
    # two comparisons, 1 - x, product, division
    assert measure(aten.logit_backward, grad, x).flops == 5 * N
    assert measure(aten.logit_backward, grad, x, 0.1).flops == 5 * N
