"""Pooling counts windows without their padding, forward and backward, in every mode."""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas.registry import formula_for

aten = torch.ops.aten
CONTEXTS = (torch.no_grad, torch.inference_mode, torch.enable_grad)


def _inside(size, count, kernel, stride, padding=0, dilation=1):
    """Elements of one dimension that all windows read, one by one."""
    return sum(
        1
        for window in range(count)
        for tap in range(kernel)
        if 0 <= window * stride - padding + tap * dilation < size
    )


def _adaptive(size, count):
    return sum(
        math.ceil((i + 1) * size / count) - math.floor(i * size / count) for i in range(count)
    )


# x: [2, 3, ...]; for each the arguments, and the elements read and windows of every dimension
WINDOWS = {
    "1d": ((17,), {"kernel_size": 4}, [16], [4]),
    # Windows at -2, 1, 4, 7, 10, 13: the first lacks two elements.
    "1d strided": ((17,), {"kernel_size": 4, "stride": 3, "padding": 2}, [6 * 4 - 2], [6]),
    "2d": ((7, 9), {"kernel_size": (3, 2), "stride": (2, 3)}, [9, 6], [3, 3]),
    # Windows at -1, 1, 3, 5 and at -1, 2, 5, 8: two and three elements at the ends.
    "2d padded": ((7, 9), {"kernel_size": 3, "stride": (2, 3), "padding": 1}, [2 + 9 - 1, 2 + 6],
                  [4, 3]),
    # The last window starts at 6 of 8 elements, and has two of its three.
    "2d ceiled": ((8, 7), {"kernel_size": 3, "stride": 2, "ceil_mode": True}, [9 + 2, 9], [4, 3]),
    "3d": ((4, 5, 6), {"kernel_size": (2, 1, 3), "stride": 1}, [6, 5, 12], [3, 5, 4]),
    "3d padded": ((4, 5, 6), {"kernel_size": 2, "stride": 2, "padding": 1}, [4, 5, 6], [3, 3, 4]),
}  # fmt: skip
windows = pytest.mark.parametrize(
    ("size", "arguments", "inside", "counts"),
    [pytest.param(*case, id=name) for name, case in WINDOWS.items()],
)


@windows
def test_cases_above_are_what_one_by_one_counting_gives(size, arguments, inside, counts):
    kernel, stride, padding = (
        [value] * len(size) if isinstance(value, int) else value
        for value in (
            arguments["kernel_size"],
            arguments.get("stride", arguments["kernel_size"]),
            arguments.get("padding", 0),
        )
    )
    assert inside == [
        _inside(*each) for each in zip(size, counts, kernel, stride, padding, strict=True)
    ]


@windows
@pytest.mark.parametrize("context", CONTEXTS)
def test_maximum_takes_a_comparison_less_than_a_window_has_elements(
    size, arguments, inside, counts, context
):
    pool = getattr(functional, f"max_pool{len(size)}d")
    with context():
        m = measure(pool, torch.randn(2, 3, *size), **arguments)
    assert list(m.output.shape) == [2, 3, *counts]
    assert m.flops == 6 * (math.prod(inside) - math.prod(counts))
    assert m.uncounted == ()


@windows
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("include", [True, False])
def test_average_takes_an_operation_for_each_element_whatever_it_divides_by(
    size, arguments, inside, counts, context, include
):
    pool = getattr(functional, f"avg_pool{len(size)}d")
    with context():
        m = measure(pool, torch.randn(2, 3, *size), **arguments, count_include_pad=include)
    assert list(m.output.shape) == [2, 3, *counts]
    assert m.flops == 6 * math.prod(inside)
    assert m.uncounted == ()


@windows
def test_gradients_are_added_to_the_elements_of_each_window(size, arguments, inside, counts):
    x = torch.randn(2, 3, *size, requires_grad=True)
    maximum = getattr(functional, f"max_pool{len(size)}d")
    average = getattr(functional, f"avg_pool{len(size)}d")
    elements = 6 * math.prod(counts)
    loss = elements - 1  # the sum, whose gradient is made of ones
    m = measure(maximum, x, train=True, **arguments)
    # Forward, and one add for each gradient, to the place of its maximum.
    assert m.flops == 6 * (math.prod(inside) - math.prod(counts)) + loss + elements
    a = measure(average, x.detach().requires_grad_(), train=True, **arguments)
    # Forward, and one division for each gradient and an add for each element it goes to.
    assert a.flops == 6 * math.prod(inside) * 2 + loss + elements
    assert m.uncounted == a.uncounted == ()


def test_a_divisor_of_ones_own_and_dilation_change_nothing_but_the_windows():
    x = torch.randn(2, 3, 9, 8)
    own = measure(functional.avg_pool2d, x, 3, divisor_override=7)
    assert own.flops == 6 * (9 * 6)
    spread = measure(functional.max_pool2d, x, 3, stride=2, padding=1, dilation=2)
    # Rows -1, 1, 3 to 5, 7, 9 of nine, and columns -1, 1, 3 to 3, 5, 7 of eight.
    assert spread.flops == 6 * ((2 + 3 + 3 + 2) * (2 + 3 + 3) - 4 * 3)
    assert own.uncounted == spread.uncounted == ()


ADAPTIVE = [((11,), (4,)), ((5, 7), (2, 3)), ((5, 7), (1, 1)), ((4, 5, 6), (3, 2, 4))]


@pytest.mark.parametrize(("size", "counts"), ADAPTIVE)
@pytest.mark.parametrize("context", CONTEXTS)
def test_adaptive_pooling_counts_its_uneven_windows(size, counts, context):
    dims = len(size)
    inside = math.prod(map(_adaptive, size, counts))
    x = torch.randn(2, 3, *size)
    with context():
        average = measure(getattr(functional, f"adaptive_avg_pool{dims}d"), x, counts)
        maximum = measure(getattr(functional, f"adaptive_max_pool{dims}d"), x, counts)
    assert average.flops == 6 * inside
    assert maximum.flops == 6 * (inside - math.prod(counts))
    assert average.uncounted == maximum.uncounted == ()


@pytest.mark.parametrize(("size", "counts"), [ADAPTIVE[0], ADAPTIVE[1], ADAPTIVE[3]])
def test_gradients_of_adaptive_pooling_are_added_to_the_elements_of_each_window(size, counts):
    dims = len(size)
    inside, elements = 6 * math.prod(map(_adaptive, size, counts)), 6 * math.prod(counts)
    x = torch.randn(2, 3, *size, requires_grad=True)
    average = measure(getattr(functional, f"adaptive_avg_pool{dims}d"), x, counts, train=True)
    y = x.detach().requires_grad_()  # a second gradient would be added to the first
    maximum = measure(getattr(functional, f"adaptive_max_pool{dims}d"), y, counts, train=True)
    loss = elements - 1
    assert average.flops == inside + loss + (elements + inside)
    assert maximum.flops == (inside - elements) + loss + elements
    assert average.uncounted == maximum.uncounted == ()


@pytest.mark.parametrize(
    ("size", "kernel", "counts"), [((9, 8), (3, 2), (4, 5)), ((7, 8, 9), (2, 1, 3), (3, 4, 5))]
)
def test_fractional_pooling_has_whole_windows(size, kernel, counts):
    pool = getattr(functional, f"fractional_max_pool{len(size)}d")
    x = torch.randn(2, 3, *size, requires_grad=True)
    elements = 6 * math.prod(counts)
    m = measure(pool, x, kernel, counts, train=True)
    assert m.flops == elements * (math.prod(kernel) - 1) + (elements - 1) + elements
    assert m.uncounted == ()


@pytest.mark.parametrize("size", [(7,), (4, 6), (4, 6, 8)])
def test_unpooling_and_its_backward_move_elements_alone(size):
    dims = len(size)
    pool = getattr(functional, f"max_pool{dims}d")
    values, places = pool(torch.randn(2, 3, *size), 2, return_indices=True)
    unpool = getattr(functional, f"max_unpool{dims}d")
    forward = measure(unpool, values, places, 2)
    assert (forward.flops, forward.uncounted) == (0, ())
    m = measure(unpool, values.clone().requires_grad_(), places, 2, train=True)
    assert m.flops == m.output.numel() - 1  # the loss, a sum
    assert m.uncounted == ()


def test_power_pooling_counts_as_what_it_is_made_of():
    x = torch.randn(2, 3, 6, 8)
    m = measure(functional.lp_pool2d, x, 2.0, 2)
    out = 2 * 3 * 3 * 4
    # A power of each element, the mean of four, sign, absolute value, ReLU and product,
    # the multiply by four and the root, as torch.nn.functional.lp_pool2d has it.
    assert m.flops == x.numel() + 4 * out + 4 * out + 2 * out
    assert m.uncounted == ()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_pooling_of_quantised_numbers_compares_integers():
    x = torch.quantize_per_tensor(torch.randn(2, 3, 9, 8), 0.1, 0, torch.quint8)
    flat = torch.quantize_per_tensor(torch.randn(2, 3, 9), 0.1, 0, torch.quint8)
    with FlopCounter() as square:
        aten.quantized_max_pool2d(x, [3, 3], [3, 3])
    with FlopCounter() as line:
        aten.quantized_max_pool1d(flat, [3], [2], [1])
    with FlopCounter() as called:
        functional.max_pool2d(x, 3)
    for counter, comparisons in (
        (square, 6 * (9 * 6 - 3 * 2)),
        (line, 6 * ((2 + 3 + 3 + 3 + 2) - 5)),
        (called, 6 * (9 * 6 - 3 * 2)),
    ):
        assert (counter.flops, counter.int_ops, counter.uncounted) == (0, comparisons, ())


def test_onednns_pooling_counts_the_same():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch is built without oneDNN")
    x, y = torch.randn(2, 3, 6, 8).to_mkldnn(), torch.randn(2, 3, 4, 6, 8).to_mkldnn()
    with torch.no_grad():
        flat = measure(lambda: functional.max_pool2d(x, 2))
        deep = measure(lambda: functional.max_pool3d(y, 2))
        mean = measure(lambda: functional.adaptive_avg_pool2d(x, (3, 4)))
    assert flat.flops == 6 * (6 * 8 - 3 * 4)
    assert deep.flops == 6 * (4 * 6 * 8 - 2 * 3 * 4)
    assert mean.flops == 6 * 6 * 8
    assert flat.uncounted == deep.uncounted == mean.uncounted == ()


@pytest.mark.parametrize(
    "name", ["max_pool2d_backward", "mkldnn_max_pool2d_backward", "mkldnn_max_pool3d_backward"]
)
def test_backward_that_finds_its_maximum_again_counts_its_adds(name):
    grad = torch.empty(2, 3, 4, 5, device="meta")
    assert formula_for(f"aten::{name}")(grad, grad, grad, [2, 2], out=grad) == grad.numel()


def test_results_given_as_out_count_the_same():
    x, y, flat = torch.randn(2, 3, 4, 6, 8), torch.randn(2, 3, 6, 8), torch.randn(2, 3, 8)
    places = torch.empty(2, 3, 3, 4, dtype=torch.long)
    calls = {
        lambda: aten.adaptive_max_pool2d.out(
            y, [3, 4], out=torch.empty(2, 3, 3, 4), indices=places
        ): 6 * (48 - 12),
        lambda: aten.adaptive_avg_pool3d.out(x, [2, 3, 4], out=torch.empty(2, 3, 2, 3, 4)): 6 * 192,
        lambda: aten.adaptive_avg_pool2d.out(y, [3, 4], out=torch.empty(2, 3, 3, 4)): 6 * 48,
        lambda: aten.adaptive_avg_pool1d.out(flat, [4], out=torch.empty(2, 3, 4)): 6 * 8,
        lambda: aten.avg_pool1d.out(flat, [2], out=torch.empty(2, 3, 4)): 6 * 8,
        lambda: aten.avg_pool2d.out(y, [2, 2], out=torch.empty(2, 3, 3, 4)): 6 * 48,
        lambda: aten.fractional_max_pool2d.output(
            y, [2, 3], [3, 4], torch.rand(2, 3, 2), output=torch.empty(2, 3, 3, 4), indices=places
        ): 6 * 12 * 5,
        lambda: aten.avg_pool3d_backward.grad_input(
            torch.randn(2, 3, 2, 3, 4), x, [2] * 3, [], [0] * 3, False, True, None,
            grad_input=torch.empty(2, 3, 4, 6, 8),
        ): 6 * (24 + 192),
    }  # fmt: skip
    for call, flops in calls.items():
        with FlopCounter() as counter:
            call()
        assert counter.flops == flops
        assert counter.uncounted == ()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensors_without_data_count_the_same(device):
    def run(x):
        y = functional.max_pool2d(x, 3, 2, 1)
        y = y + functional.adaptive_max_pool2d(functional.avg_pool2d(x, 2), tuple(y.shape[2:]))
        functional.adaptive_avg_pool2d(y, (2, 1)).sum().backward()

    real = measure(run, torch.randn(2, 3, 9, 8, requires_grad=True))
    if device == "meta":
        other = measure(run, torch.empty(2, 3, 9, 8, device="meta", requires_grad=True))
    else:
        with FakeTensorMode():
            other = measure(run, torch.empty(2, 3, 9, 8, requires_grad=True))
    assert other.flops == real.flops > 0
    assert other.uncounted == real.uncounted == ()
