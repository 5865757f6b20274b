"""A region that is interrupted, or not left as it was entered, leaves nothing behind."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo import eval_frame
from torch.utils._python_dispatch import TorchDispatchMode

import pytest_flopbudget
from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.measurement import UNHEARD
from pytest_flopbudget.meters import dispatch, module_calls
from pytest_flopbudget.meters.detours import REGIONS
from pytest_flopbudget.meters.storages import StorageLedger

PACKAGE = str(Path(pytest_flopbudget.__file__).parent)
X = torch.ones(2, 4)


class Interrupt(BaseException):
    """Comes at any line, as that of a timeout or of Ctrl-C does."""


def _state() -> list[object]:
    return [
        nn.Module._call_impl.__code__,
        vars(threading.Thread)["start"],
        vars(torch.UntypedStorage).get("resize_"),
        eval_frame._stance,
        REGIONS.open,
        torch._C._len_torch_dispatch_stack(),
    ]


EDGES = {("counter.py", "__enter__"), ("counter.py", "__exit__"), ("dispatch.py", "__exit__")}
"""Where a statement has ended the region's way in, or none has begun its way out."""


class _At:
    """Raises at the nth line of the package, while it is in place."""

    def __init__(self, line: int) -> None:
        self.left = line
        self.place = "", ""

    def __call__(self, frame: Any, event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.place = Path(frame.f_code.co_filename).name, frame.f_code.co_name
                raise Interrupt
        return self


def _release() -> None:
    """Release what only a tracer can keep from being released: no signal comes as `with` ends."""
    locks: tuple[Any, ...] = (
        REGIONS._lock,
        module_calls._lock,
        dispatch._making,
        StorageLedger.lock,
    )
    for lock in locks:
        while lock._is_owned():
            lock.release()


@pytest.mark.parametrize("memory", [True, False])
def test_interrupt_at_any_line_leaves_nothing_behind(memory: bool) -> None:
    model = nn.Linear(4, 3)
    with FlopCounter(memory=memory):
        model(X)  # so that what happens only the first time in a process is over
    before, tracing = _state(), sys.gettrace()
    line, at_the_edges = 0, 0
    while True:
        line += 1
        at, interrupted = _At(line), FlopCounter(memory=memory)
        sys.settrace(at)
        try:
            with interrupted:
                model(X)
        except Interrupt:
            pass
        finally:
            sys.settrace(tracing)
            _release()
        if at.left > 0:
            break
        if _state() != before and at.place in EDGES:
            at_the_edges += 1
            interrupted.__exit__(None, None, None)
        assert _state() == before, f"after an interrupt at line {line}, {at.place}"
        with FlopCounter(memory=memory) as counter:
            model(X)
        assert counter.macs == 2 * 4 * 3, f"after an interrupt at line {line}, {at.place}"
        assert _state() == before, f"after an interrupt at line {line}, {at.place}"
    assert line > 100
    assert at_the_edges < 10


def test_regions_are_left_in_any_order() -> None:
    model = nn.Linear(4, 3)
    first, second = FlopCounter(), FlopCounter()
    before = torch._C._len_torch_dispatch_stack()
    first.__enter__()
    second.__enter__()
    model(X)
    first.__exit__(None, None, None)
    model(X)
    second.__exit__(None, None, None)
    model(X)
    assert (first.macs, second.macs) == (24, 48)
    assert torch._C._len_torch_dispatch_stack() == before


def test_region_that_is_left_on_another_thread_says_so() -> None:
    counter, errors = FlopCounter(), []

    def leave() -> None:
        try:
            counter.__exit__(None, None, None)
        except MeasureError as error:
            errors.append(str(error))

    depth = torch._C._len_torch_dispatch_stack()
    counter.__enter__()
    mode: Any = torch._C._get_dispatch_stack_at(depth)
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    mode.__exit__(None, None, None)
    assert errors == ["this region was entered on another thread, and is to be left there"]
    assert REGIONS.open == ()


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(FlopCounter, id="everything"),
        pytest.param(lambda: FlopCounter(memory=False), id="arithmetic"),
    ],
)
def test_region_in_a_compiled_function_counts(count: Any) -> None:
    torch.compiler.reset()

    @torch.compile(backend="eager")
    def compiled(x: torch.Tensor) -> Any:
        y = x * 2
        with count() as counter:
            z = y @ y.t()
        return z + 1, counter

    before = _state()
    for _ in range(2):
        result, counter = compiled(X)
        assert torch.equal(result, (X * 2) @ (X * 2).t() + 1)
        assert counter.macs == 2 * 2 * 4
        assert _state() == before


def test_measure_in_a_compiled_function_counts() -> None:
    torch.compiler.reset()
    model = nn.Linear(4, 3)

    @torch.compile(backend="eager")
    def compiled(x: torch.Tensor) -> Any:
        return measure(model, x * 2)

    before = _state()
    for _ in range(2):
        assert compiled(X).macs == 24
        assert _state() == before


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def test_what_is_not_heard_since_something_was_left_is_reported() -> None:
    model, outer, counter = nn.Linear(4, 3), torch.inference_mode(), FlopCounter()
    outer.__enter__()
    with counter:
        model(X)
        outer.__exit__(None, None, None)  # and with it, of all modes' hearing
        model(X)
    assert counter.macs == 24
    assert [row.operator for row in counter.uncounted] == [UNHEARD]


@pytest.mark.parametrize("make", [torch.inference_mode, torch.no_grad, _Mode])
def test_what_is_left_in_its_order_is_heard(make: Any) -> None:
    model = nn.Linear(4, 3)
    with make(), FlopCounter() as outside:
        model(X)
    with FlopCounter() as around:
        with make():
            model(X)
        model(X)
    assert (outside.macs, around.macs) == (24, 48)
    assert outside.uncounted == around.uncounted == ()
