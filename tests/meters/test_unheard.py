"""Who listens to torch's functions hears the program alone: no look of the counter's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from pytest_flopbudget import FlopCounter

from .programs import PROGRAMS

for _part in ("autograd", "library", "tensors", "training"):
    import_module(f"{__package__}.programs_{_part}")  # registers its programs

Counter = Callable[[], Any]
COUNTERS = [
    pytest.param(FlopCounter, id="everything"),
    pytest.param(partial(FlopCounter, memory=False), id="arithmetic"),
    pytest.param(partial(FlopCounter, lines=True), id="lines"),
]


def _name(function: Any) -> str:
    return resolve_name(function) or str(getattr(function, "__name__", function))


class Recording(TorchFunctionMode):
    """Writes down every function of torch that is called."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.heard.append(_name(func))
        return func(*args, **(kwargs or {}))


class RefusedError(Exception):
    """What the mode below raises."""


class Refusing(TorchFunctionMode):
    """Allows what a linear layer needs, and nothing else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not nn.functional.linear:
            raise RefusedError(_name(func))
        return func(*args, **(kwargs or {}))


class Listening(nn.Parameter):
    """A parameter that writes down what is done with it."""

    heard: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.heard.append(_name(func))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def _heard(program: Callable[[], Any], counter: Counter, *, is_outside: bool = False) -> list[str]:
    torch.manual_seed(0)
    recording = Recording()
    contexts = (recording, counter()) if is_outside else (counter(), recording)
    with contexts[0], contexts[1]:
        program()
    return recording.heard


@pytest.mark.filterwarnings("ignore")  # the programs use what torch means to replace
@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize(
    "name",
    [
        "training_step_with_dropout",
        "parametrizations_of_weights",
        "pruned_and_lazy_modules",
        "averaged_models",
        "storages_are_freed_as_ever",
        "sparse_tensors",
        "nested_strided_tensors",
        "nested_jagged_tensors",
        "buffers_and_dlpack",
        "numpy_both_ways",
        "quantised_tensors_and_modules",
        "tensors_of_onednn",
        "recurrent_layers_in_training",
    ],
)
def test_function_mode_hears_what_it_hears_without_a_counter(name: str, counter: Counter) -> None:
    program = PROGRAMS[name]
    program()  # so that what happens only the first time in a process is over
    alone = _heard(program, nullcontext)
    assert len(alone) >= 5
    assert _heard(program, counter) == alone
    assert _heard(program, counter, is_outside=True) == alone


@pytest.mark.parametrize("counter", COUNTERS)
def test_function_mode_that_refuses_what_it_does_not_know_sees_nothing_new(
    counter: Counter,
) -> None:
    model, x = nn.Linear(3, 2), torch.randn(5, 3)
    with Refusing():
        expected = model(x)
    with counter() as counted, Refusing():
        result = model(x)
    assert torch.equal(result, expected)
    assert counted.macs == 5 * 3 * 2


def _listening_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = Listening(parameter.detach().clone())
    return model


def _train(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    loss = model(torch.ones(2, 3, 8, 8)).square().sum()
    torch.autograd.backward([loss])  # the saved parameters come to operators with no Python between
    optimizer.step()
    return loss


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("foreach", [False, True])
def test_parameter_of_a_class_of_its_own_hears_the_training_alone(
    counter: Counter, *, foreach: bool
) -> None:
    heard: list[list[str]] = []
    losses: list[Tensor] = []
    for context in (nullcontext, counter):
        model = _listening_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=foreach)
        Listening.heard.clear()
        with context():
            losses.append(_train(model, optimizer))
        heard.append(list(Listening.heard))
    assert len(heard[0]) >= 4
    assert heard[1] == heard[0]
    assert torch.equal(losses[1], losses[0])
