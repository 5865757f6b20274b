"""The quick calls: each is the very operator that it stands for, and takes its arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flopbudget import FlopCounter
from pytest_flopbudget.meters.bindings import BINDINGS

Call = tuple[tuple[Any, ...], dict[str, Any]]


def _call(*args: Any, **kwargs: Any) -> Call:
    return args, kwargs


def _samples() -> dict[str, list[Call]]:
    """Calls of each, as a dispatch mode is given them: by position up to the keyword-only ones."""
    a, b, c = torch.rand(2, 3), torch.rand(2, 3) + 0.5, torch.rand(3, 4)
    square, batch = torch.rand(3, 3), torch.rand(2, 3, 3)
    image, kernel, row = torch.rand(1, 2, 5, 5), torch.rand(4, 2, 3, 3), torch.rand(4)
    channel = torch.rand(2)
    heads = torch.rand(1, 2, 4, 8)
    like = {"dtype": torch.float64, "layout": torch.strided, "device": torch.device("cpu")}
    # A number is no tensor to the rules of promotion, and stays what it is.
    whole, half = torch.arange(6).reshape(2, 3), torch.rand(2, 3, dtype=torch.half)
    mixed = [_call(whole, 0.5), _call(whole, b), _call(half, 1e-8), _call(half, torch.rand(()))]
    plus = [_call(a, b), _call(a, 2), _call(a, True), *mixed, _call(a, b, alpha=2)]
    times = [_call(a, b), _call(a, 2), *mixed, _call(a, 1j), _call(2, a)]
    plain = [_call(a), _call(a.double()), _call(torch.rand(()))]
    gates = (torch.rand(8, 3), torch.rand(8, 2), torch.rand(8), torch.rand(8))
    states = (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
    layer = _call(
        torch.rand(4, 2, 3), *gates, *states, False, [], 2, 2, 1, True, False, False, False
    )
    return {
        "aten::_log_softmax": [_call(a, 1, False)],
        "aten::_scaled_dot_product_flash_attention_for_cpu": [
            _call(heads, heads, heads),
            _call(heads, heads, heads, 0.0, True),
            _call(heads, heads, heads, 0.0, False, attn_mask=torch.rand(4, 4), scale=0.5),
        ],
        "aten::_softmax": [_call(a, 1, False), _call(a, -1, False)],
        "aten::add.Tensor": plus,
        "aten::add_.Tensor": [_call(a, b), _call(a, 2), _call(half, 1e-8), _call(a, b, alpha=2)],
        "aten::addmm": [_call(row, a, c), _call(row, a, c, beta=2, alpha=0.5)],
        "aten::bmm": [_call(batch, batch)],
        "aten::cat": [_call([a, b]), _call([a, b], 1)],
        "aten::clone": [_call(a), _call(image, memory_format=torch.channels_last)],
        "aten::convolution": [
            _call(image, kernel, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
            _call(image, kernel, row, [2, 2], [1, 1], [1, 1], False, [0, 0], 1),
            _call(image, kernel.transpose(0, 1), row, [2, 2], [1, 1], [1, 1], True, [1, 1], 1),
        ],
        "aten::div.Tensor": times[:-2],
        "aten::embedding": [
            _call(c, torch.tensor([0, 2])),
            _call(c, torch.tensor([0, 2]), 1, True, False),
        ],
        "aten::empty.memory_format": [
            _call([0]),
            _call([0], **like),
            _call([0, 3], **like, pin_memory=False, memory_format=torch.contiguous_format),
        ],
        "aten::exp": plain,
        "aten::expand": [_call(row, [2, 4]), _call(row, [2, -1])],
        "aten::gelu": [_call(a), _call(a, approximate="tanh")],
        "aten::max_pool2d_with_indices": [
            _call(image, [2, 2]),
            _call(image, [3, 3], [2, 2], [1, 1], [1, 1], True),
        ],
        "aten::mean.dim": [
            _call(a, [1]),
            _call(a, [0, -1], True),
            _call(a, [0], dtype=torch.double),
        ],
        "aten::mkldnn_rnn_layer": [layer],
        "aten::mm": [_call(a, c)],
        "aten::mul.Tensor": times,
        "aten::mul_.Tensor": [_call(a, b), _call(a, 2), _call(half, 1e-8)],
        "aten::native_batch_norm": [
            _call(image, channel, channel, channel, channel, False, 0.1, 1e-5),
            _call(image, None, None, None, None, True, 0.1, 1e-5),
        ],
        "aten::native_layer_norm": [_call(a, [3], None, None, 1e-5), _call(c, [4], row, row, 1e-5)],
        "aten::neg": plain,
        "aten::permute": [_call(a, [1, 0])],
        "aten::pow.Tensor_Scalar": [_call(a, 3), _call(a, 0.5), _call(a, 2.0)],
        "aten::relu": plain,
        "aten::relu_": plain,
        "aten::rsqrt": plain,
        "aten::select.int": [_call(a, 0, 1), _call(a, -1, -2)],
        "aten::sigmoid": plain,
        "aten::silu": plain,
        "aten::split.Tensor": [_call(a, 2), _call(a, 2, 1)],
        "aten::stack": [_call([a, b]), _call([a, b], 1)],
        "aten::sub.Tensor": [call for call in plus if call[0][1] is not True],
        "aten::sum.dim_IntList": [
            _call(a, [1]),
            _call(a, [0], True),
            _call(a, None),
            _call(a, [0], dtype=torch.double),
        ],
        "aten::t": [_call(a), _call(row)],
        "aten::tanh": plain,
        "aten::transpose.int": [_call(a, 0, 1), _call(square, -1, -2)],
        "aten::unsqueeze": [_call(a, 0), _call(a, -1)],
        "aten::view": [_call(a, [3, 2]), _call(a, [-1])],
        "aten::zeros": [_call([2, 3]), _call([2], **like), _call([2], **like, pin_memory=False)],
    }


SAMPLES = _samples()


class Heard(TorchDispatchMode):
    """Keeps what is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.calls.append((func.name(), args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def _copied(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments for one call, which may write to the first."""
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in args)


def _heard(call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Heard, Any]:
    args = _copied(args)
    with torch.no_grad(), Heard() as heard:
        result = call(*args, **kwargs)
    return heard, result


def _written(value: Any) -> Any:
    """Tensors by their values, so that whole calls can be compared."""
    if isinstance(value, Tensor):
        return (value.dtype, value.shape, value.stride(), value.tolist())
    if isinstance(value, list | tuple):
        return tuple(_written(item) for item in value)
    if isinstance(value, dict):
        # Not to pin is what torch does where nothing is said.
        said = {key: item for key, item in value.items() if (key, item) != ("pin_memory", False)}
        return {key: _written(item) for key, item in said.items()}
    return (type(value), value)


def test_every_quick_call_is_tried_here() -> None:
    assert set(BINDINGS) == set(SAMPLES)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        pytest.param(name, *call, id=f"{name.removeprefix('aten::')}-{number}")
        for name, calls in SAMPLES.items()
        for number, call in enumerate(calls)
    ],
)
def test_quick_call_is_the_operator_with_the_same_arguments(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    # What the general call of the overload does, which goes by its schema.
    packet, _, overload = name.removeprefix("aten::").partition(".")
    func = getattr(getattr(torch.ops.aten, packet), overload or "default")

    expected, general = _heard(func._op, args, kwargs)
    heard, quick = _heard(BINDINGS[name], args, kwargs)
    with torch.no_grad():
        alone = func(*_copied(args), **kwargs)

    assert [call[0] for call in expected.calls] == [name]
    assert _written(heard.calls) == _written(expected.calls)
    assert _written(quick) == _written(general) == _written(alone)


@pytest.mark.parametrize("name", ["aten::add.Tensor", "aten::mm", "aten::view"])
def test_a_mode_for_functions_hears_nothing_of_the_second_call(name: str) -> None:
    (args, kwargs), *_ = SAMPLES[name]
    heard: list[Any] = []

    class Functions(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            heard.append(func)
            return func(*args, **(kwargs or {}))

    def run() -> list[Any]:
        heard.clear()
        x = args[0].clone().requires_grad_()
        with Functions():
            BINDINGS[name](x, *args[1:], **kwargs).sum().backward()
        return list(heard)

    alone = run()
    with FlopCounter() as counter:
        counted = run()

    assert counted == alone
    assert counter.flops > 0
