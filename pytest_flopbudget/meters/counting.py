"""The mode of one thread: every operator goes through here once, and is booked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from pytest_flopbudget.meters import higher_order, nested, opaque
from pytest_flopbudget.meters.booking import STRIDED, Books, Operator, Place, Row
from pytest_flopbudget.meters.call_stack import CallStack
from pytest_flopbudget.meters.handlers import Handler, booker, counted, viewed
from pytest_flopbudget.meters.modes import EagerMode, unheard, views_noted
from pytest_flopbudget.meters.plans import Road, known_plan
from pytest_flopbudget.meters.storages import PLAIN, StorageLedger
from pytest_flopbudget.meters.traffic import tensors_in

_tracing_state: Final = torch._C._get_tracing_state
_is_heard: Final = torch._C._has_torch_function
_GRAPH: Final = torch._C._TorchDispatchModeKey.PROXY
# Looked up once: asking an enumeration for a member takes as long as a function call.
_VIEW: Final = Road.VIEW
_COUNTED: Final = (Road.COUNT, Road.FREE, Road.UNKNOWN)


class CountingMode(EagerMode):
    """Counts every operator of one thread between enter and exit.

    calls: where the operators belong.
    ledger: books the storages; without it only arithmetic is counted.
    place: tells where to book an operator, where that is not at the path of its module.
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        calls: CallStack,
        ledger: StorageLedger | None = None,
        place: Callable[[], Place] | None = None,
    ) -> None:
        super().__init__()
        self.calls = calls
        self.books = Books(calls, ledger, place, self._book_parts)
        self.is_open = True
        self._handlers: dict[int, Handler] = {}
        """By the id of the overload, which the plans hold."""

    def close(self) -> None:
        """Let everything pass unseen from now on, as in threads that outlive the region."""
        self.is_open = False
        self._handlers = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        handle = self._handlers.get(id(func)) or self._meet(func)
        if types and not PLAIN.issuperset(types):
            if torch.fx._symbolic_trace._is_fx_tracing_flag or _is_trial(types, args):
                return func(*args, **(kwargs or {}))  # a trial run on fake tensors
            if _must_desugar(types):
                return NotImplemented
        if _tracing_state() is not None or _is_heard(args):
            with unheard():  # who is to hear of the operator has done so already
                return handle(args, kwargs or {})
        return handle(args, kwargs or {})

    def _meet(self, func: Any) -> Handler:
        """What is done with an operator, which comes for the first time."""
        handlers = self._handlers  # before it is asked whether those are the last
        if not self.is_open:
            return lambda args, kwargs: func(*args, **kwargs)
        plan = known_plan(func)
        road = plan.road
        if road is _VIEW:
            handle = viewed(plan, self.books)
        else:
            operator = self.books.operators[id(func)] = Operator(func, plan)
            handle = counted(operator, self.books) if road in _COUNTED else self._inside(operator)
        handlers[id(func)] = handle
        return handle

    def _inside(self, operator: Operator) -> Handler:
        """What is done with one that calls others, or may."""
        road = operator.plan.road
        if road is Road.HIGHER_ORDER:
            return partial(self._call_functions, operator)
        if road is Road.OPAQUE:
            return partial(self._look_inside, operator, counted(operator, self.books))
        return partial(self._take_apart, operator, counted(operator, self.books))

    def _book_parts(self, operator: Operator, row: Row, args: Any, kwargs: Any) -> None:
        """Book what the components cost one by one."""
        parts = CountingMode(self.calls)
        if not nested.count_parts(parts, operator.func, args, kwargs):
            tensors = tensors_in((*args, *kwargs.values()))
            self.books.note_uncounted(operator.plan.overload, tensors)
            return
        self.books.add_parts(row, parts.books)

    def _take_apart(self, operator: Operator, count: Handler, args: Any, kwargs: Any) -> Any:
        """Run the kernel that is composed of other operators, which then come here."""
        tensors = tensors_in(args)
        is_nested = any(tensor.is_nested for tensor in tensors)
        key = operator.plan.nested_parts_key if is_nested else operator.plan.parts_key
        if key is None:
            return count(args, kwargs)
        asks_for_gradients = operator.plan.name == "aten.linear" and not is_nested
        if asks_for_gradients and all(tensor.layout is STRIDED for tensor in tensors):
            with self, views_noted():
                return operator.func._op_dk(key, *args, **kwargs)
        with self:
            return operator.func._op_dk(key, *args, **kwargs)

    def _look_inside(self, operator: Operator, count: Handler, args: Any, kwargs: Any) -> Any:
        """Run somebody's own kernel, and report it unless all that it does comes here."""
        tensors = tensors_in((*args, *kwargs.values()))
        key = opaque.kernel_key(operator.func, tensors)
        if key is None:
            return count(args, kwargs)
        calls, work = self.books.totals()
        with self:
            result = operator.func._op_dk(key, *args, **kwargs)
        calls_after, work_after = self.books.totals()
        if calls_after == calls:
            # Nothing of torch's ran inside: it is an operator of its own, and no zero.
            self._book_as_one(operator, args, kwargs, result)
        elif not operator.is_trusted:
            if opaque.is_python(operator.func) and work_after != work:
                operator.is_trusted = True
            else:
                self.books.note_uncounted(operator.plan.overload, tensors)
        return result

    def _book_as_one(self, operator: Operator, args: Any, kwargs: Any, result: Any) -> None:
        """Book a call that has run, whose body showed nothing, as one operator."""
        tensors = tensors_in((*args, *kwargs.values()))
        path = self.calls.current()
        place = path if self.books.place is None else self.books.place()
        ledger = self.books.ledger
        if ledger is None:
            operator.row_at(place).calls += 1
            self.books.note_uncounted(operator.plan.overload, tensors)
            return
        with ledger.lock if self.books.is_shared else nullcontext():
            stored = ledger.touch(tensors, path)
            book = booker(operator, self.books, ledger)
            book(place, args, kwargs, result, tensors, stored)

    def _call_functions(self, operator: Operator, args: Any, kwargs: Any) -> Any:
        tensors = tensors_in(args)
        types = {type(tensor) for tensor in tensors}  # torch does not tell them here
        if not PLAIN.issuperset(types) and (_is_trial(types, args) or _is_traced(tensors)):
            return operator.func(*args, **kwargs)
        kernel = higher_order.kernel_of(operator.func)
        if kernel is None:
            tensors = tensors_in((*args, *kwargs.values()))
            self.books.note_uncounted(operator.plan.overload, tensors)
            return operator.func(*args, **kwargs)
        with self:
            return kernel(*args, **kwargs)


def _must_desugar(types: Any) -> bool:
    """Whether a wrapper subclass is among the arguments, whose own dispatch comes first."""
    from torch._subclasses import FakeTensor

    return any(
        cls.__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl
        and not issubclass(cls, FakeTensor | nn.Parameter)
        for cls in types
        if cls not in PLAIN
    )


def _is_trial(types: Any, args: Any) -> bool:
    """Whether the arguments belong to a trace, on which nothing is computed.

    Such are those of a trace of functions, and fake ones with symbols for sizes or in a graph.
    """
    names = {cls.__name__ for cls in types}
    if "FunctionalTensor" in names:
        return True
    return "FakeTensor" in names and (
        torch._C._get_dispatch_mode(_GRAPH) is not None
        or any(tensor._has_symbolic_sizes_strides for tensor in tensors_in(args))
    )


def _is_traced(tensors: list[Tensor]) -> bool:
    """Whether any of the tensors is a fake one of a trace, which has an environment of shapes."""
    modes = [getattr(tensor, "fake_mode", None) for tensor in tensors]
    return any(getattr(mode, "shape_env", None) is not None for mode in modes)
