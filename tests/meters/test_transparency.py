"""Programs compute the same with a counter as without: results, gradients, random numbers."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pytest_flopbudget import FlopCounter, measure

from . import (  # noqa: F401 - they register their programs
    programs_autograd,
    programs_compilers,
    programs_library,
    programs_tensors,
    programs_training,
)
from .programs import PROGRAMS, Program

_OWN_ROAD = "under any dispatch mode torch computes vectors too, with other roundings"
BROKEN: dict[str, str] = {  # what does not run alike under the counter
    "singular_values_alone": _OWN_ROAD,
    "eigenvalues_alone": _OWN_ROAD,
}
IS_COMPILED: ContextVar[bool] = ContextVar("IS_COMPILED", default=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything of one run that may be compared."""

    result: Any
    error: str
    warnings: list[str]
    random: tuple[Any, ...]


def _run(program: Program, context: AbstractContextManager[Any]) -> Outcome:
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    result, error = None, ""
    IS_COMPILED.set(program.__name__.startswith("compiled"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with context:
                result = program()
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    texts = sorted({str(warning.message).split("(Triggered")[0] for warning in caught})
    state = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1])
    return Outcome(result, error, texts, state)


def _plain(value: Any) -> Any:
    """A result as something that can be compared: types, layouts, bits and structure."""
    if isinstance(value, Tensor):
        return _plain_tensor(value)
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(_plain, value)]
    return value


def _plain_tensor(value: Tensor) -> Any:
    known = (type(value).__name__, str(value.dtype), str(value.layout), value.requires_grad)
    node = type(value.grad_fn).__name__ if value.grad_fn is not None else ""
    if "Compiled" in node or IS_COMPILED.get():
        node = ""  # compiled code is run as it is written, which has nodes of its own
    if value.device.type == "meta":
        return (*known, node, tuple(value.shape))
    detached = value.detach()
    if value.is_nested:
        return (*known, [_plain_tensor(part) for part in detached.unbind()])
    if value.layout != torch.strided:
        detached = detached.to_dense()
    stride = value.stride() if value.layout == torch.strided else ()
    whole = detached.resolve_conj().resolve_neg().contiguous()
    data = whole.view(-1).view(torch.uint8).numpy().tobytes() if whole.numel() else b""
    return (*known, node, tuple(value.shape), stride, data)


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    """What one program compiled, or could not, is no matter of the next."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _arithmetic(counter: FlopCounter) -> Any:
    """What arithmetic was counted, by module and operator, and what was not."""
    rows = {
        (module.path, row.operator): (row.calls, counts.flops, counts.macs, counts.int_ops)
        for module in counter.measurement.modules
        for row in module.operators
        if row.calls and (counts := row.counts)
    }
    return rows, counter.uncounted


def check_transparent(program: Program) -> None:
    # Once before, so that what happens only the first time in a process is over.
    _run(program, nullcontext())
    plain = _run(program, nullcontext())
    assert not plain.error, "the program has to run without a counter"
    counters = FlopCounter(), FlopCounter(memory=False)
    for counter in counters:
        counted = _run(program, counter)
        assert counted.error == ""
        assert _plain(counted.result) == _plain(plain.result)
        assert _plain(counted.random) == _plain(plain.random)
        assert set(counted.warnings) <= set(plain.warnings)
    everything, alone = map(_arithmetic, counters)
    assert alone == everything
    again = _run(program, nullcontext())
    assert again.error == ""
    assert _plain(again.result) == _plain(plain.result), "the counter left something behind"


def _cases() -> Iterator[Any]:
    for name, program in PROGRAMS.items():
        marks = []
        if name in BROKEN:
            marks.append(pytest.mark.xfail(strict=True, reason=BROKEN[name]))
        yield pytest.param(program, id=name, marks=marks)


@pytest.mark.parametrize("program", list(_cases()))
def test_program_computes_the_same_with_a_counter_as_without(program: Program) -> None:
    check_transparent(program)


def test_what_was_measured_twice_has_the_same_counts() -> None:
    names = ("training_step_with_dropout", "attention_of_every_kind", "checkpoints", "optimizers")
    for name in names:
        first, second = (measure(PROGRAMS[name]) for _ in range(2))
        assert first.values == second.values, name
        assert first.modules == second.modules, name


def test_a_difference_is_noticed() -> None:
    calls: list[int] = []

    def changes() -> Tensor:
        calls.append(1)
        return torch.ones(2) * (len(calls) in {3, 4})

    with pytest.raises(AssertionError):
        check_transparent(changes)


def test_counter_leaves_no_hook_on_modules_parameters_or_graph() -> None:
    model = nn.Linear(3, 2)
    x = torch.randn(2, 3)
    with FlopCounter():
        out = model(x)
        out.sum().backward()
    for hooks in (model._forward_hooks, model._forward_pre_hooks, model._backward_hooks):
        assert not hooks
    for parameter in model.parameters():
        assert not parameter._backward_hooks
        assert not getattr(parameter, "_post_accumulate_grad_hooks", None)
    registry = nn.modules.module
    assert not registry._global_forward_hooks
    assert not registry._global_forward_pre_hooks
    assert not registry._global_backward_hooks
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()


def test_graph_built_under_a_counter_runs_backward_after_it() -> None:
    x = torch.randn(3, 3, requires_grad=True)
    with FlopCounter():
        out = (x @ x).relu().sum()
    out.backward()
    y = x.detach().clone().requires_grad_()
    (y @ y).relu().sum().backward()
    assert torch.equal(x.grad, y.grad)


def test_graph_built_before_a_counter_runs_backward_under_it() -> None:
    x = torch.randn(3, 3, requires_grad=True)
    out = (x @ x).sum()
    with FlopCounter() as counter:
        out.backward()
    assert counter.macs == 2 * 3**3
    assert counter.uncounted == ()
