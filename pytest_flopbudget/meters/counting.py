"""The mode of one thread: every operator goes through here once, and is booked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.meters import higher_order, nested, opaque
from pytest_flopbudget.meters.eager import EagerMode, untraced
from pytest_flopbudget.meters.formulas.registry import Formula, Work, is_taught
from pytest_flopbudget.meters.lines import SourceLines
from pytest_flopbudget.meters.modules import CallStack
from pytest_flopbudget.meters.packed import packed_nbytes
from pytest_flopbudget.meters.plans import Plan, Road, known_plan
from pytest_flopbudget.meters.storages import Site, StorageLedger
from pytest_flopbudget.meters.traffic import arguments_in, bytes_moved, nbytes_of, tensors_in

_ORDINARY: Final = frozenset({Tensor, nn.Parameter, nn.Buffer})
_STRIDED: Final = torch.strided
_SPARSE: Final = frozenset(
    {torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}
)
_DTYPES: Final = [dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)]
_REAL: Final = frozenset(dtype for dtype in _DTYPES if dtype.is_floating_point)
_FLOATING: Final = _REAL | {dtype for dtype in _DTYPES if dtype.is_complex}
_TRUTH: Final = frozenset({torch.bool})
_tracing_state: Final = torch._C._get_tracing_state
_MOST_SHAPES: Final = 4
"""How many distinct argument shapes of an uncounted operator are kept."""

_HANDLERS: Final = {
    Road.VIEW.value: "_view",
    Road.COUNT.value: "_count",
    Road.FREE.value: "_count",
    Road.UNKNOWN.value: "_count",
    Road.DECOMPOSE.value: "_take_apart",
    Road.LOOK_INSIDE.value: "_take_apart",
    Road.OPAQUE.value: "_look_inside",
    Road.HIGHER_ORDER.value: "_call_functions",
}
"""The method for each road; by value, since hashing a member runs Python."""

Place = str | tuple[str, str]
"""Module path; with source lines, path and line."""


class Row:
    """Running sums of one operator at one place."""

    __slots__ = ("arithmetic", "bytes_moved", "calls", "int_ops", "macs", "site")

    def __init__(self, site: Site = ("", "")) -> None:
        self.site = site
        self.calls = self.arithmetic = self.macs = self.int_ops = self.bytes_moved = 0

    def __add__(self, other: Row) -> Row:
        """The sums of both, at the place of this one."""
        both = Row(self.site)
        both.calls = self.calls + other.calls
        both.arithmetic = self.arithmetic + other.arithmetic
        both.macs = self.macs + other.macs
        both.int_ops = self.int_ops + other.int_ops
        both.bytes_moved = self.bytes_moved + other.bytes_moved
        return both


class Operator:
    """One overload as this thread meets it: what is done with it, and its sums so far."""

    __slots__ = ("call", "func", "handle", "is_free", "is_trusted", "plan", "rows")

    def __init__(self, func: Any, plan: Plan, handle: Callable[..., Any]) -> None:
        self.func = func
        self.plan = plan
        self.handle = handle
        # An overload's own call does this and no more.
        self.call: Callable[..., Any] = getattr(func, "_op", func)
        self.is_free = plan.road is Road.FREE
        self.is_trusted = False
        self.rows: dict[Place, Row] = {}

    def row_at(self, place: Place) -> Row:
        """The sums at a place, which are new there."""
        path = place if isinstance(place, str) else place[0]
        row = self.rows[place] = Row((path, self.plan.name))
        return row


class CountingMode(EagerMode):
    """Counts every operator of one thread between enter and exit.

    calls: where the operators belong.
    ledger: books the storages; without it only arithmetic is counted.
    lines: tells the source line, where that is asked for.
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        calls: CallStack,
        ledger: StorageLedger | None = None,
        lines: SourceLines | None = None,
    ) -> None:
        super().__init__()
        self.calls = calls
        self.operators: dict[int, Operator] = {}
        """By the id of the overload, which it holds: asking that for its hash runs Python."""
        self.uncounted: dict[str, tuple[int, list[str]]] = {}
        self.is_open = True
        """Once false, everything passes unseen: for threads that outlive the region."""
        self.is_shared = False
        """Whether several threads book at the same time."""
        self._current = calls.current
        self._ledger = ledger
        self._lines = lines
        self._place: Callable[[], Place] = (
            calls.current if lines is None else partial(self._line, lines)
        )
        self._count: Callable[[Operator, Any, Any], Any] = (
            self._count_arithmetic if ledger is None else partial(self._count_all, ledger)
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        operator = self.operators.get(id(func))
        if operator is None:
            operator = self._meet(func)
        if types and not _ORDINARY.issuperset(types):
            if torch.fx._symbolic_trace._is_fx_tracing_flag or _is_symbolic(types, args):
                return func(*args, **(kwargs or {}))  # a trial run on fake tensors
            if _must_desugar(types):
                return NotImplemented
        if not self.is_open:
            return func(*args, **(kwargs or {}))
        if _tracing_state() is not None:
            with untraced():  # the tracer has heard of the operator already
                return operator.handle(operator, args, kwargs or {})
        return operator.handle(operator, args, kwargs or {})

    def _meet(self, func: Any) -> Operator:
        plan = known_plan(func)
        handle = getattr(self, _HANDLERS[plan.road.value])
        operator = self.operators[id(func)] = Operator(func, plan, handle)
        return operator

    def _count_arithmetic(self, operator: Operator, args: Any, kwargs: Any) -> Any:
        """Run an operator and book its arithmetic alone."""
        place = self._place()
        result = operator.call(*args, **kwargs)
        row = operator.rows.get(place) or operator.row_at(place)
        row.calls += 1
        if operator.is_free:
            return result
        plan = operator.plan
        if (
            plan.per_element is not None
            and isinstance(result, Tensor)
            and not kwargs
            and len(args) <= plan.most_arguments
            and result.dtype in _REAL
            and _are_strided(result, *args)
        ):
            row.arithmetic += plan.per_element * result.numel()
        else:
            inputs, outputs = arguments_in(plan, args, kwargs), tensors_in((result,))
            is_dense = _are_strided(*inputs, *outputs)
            self._book(operator, row, args, kwargs, result, inputs, outputs, is_dense)
        return result

    def _count_all(self, ledger: StorageLedger, operator: Operator, args: Any, kwargs: Any) -> Any:
        """Run an operator and book its arithmetic, traffic and storages."""
        place = self._place()
        path = place if type(place) is str else place[0]
        inputs = arguments_in(operator.plan, args, kwargs)
        if not self.is_shared:
            stored = ledger.touch(inputs, path)
            result = operator.call(*args, **kwargs)
            self._book_all(ledger, operator, place, args, kwargs, result, inputs, stored)
            return result
        lock = ledger.lock
        with lock:
            stored = ledger.touch(inputs, path)
        result = operator.call(*args, **kwargs)
        with lock:
            self._book_all(ledger, operator, place, args, kwargs, result, inputs, stored)
        return result

    def _line(self, lines: SourceLines) -> Place:
        return self._current(), lines.current()

    def _book_all(  # noqa: PLR0913, PLR0917 - one call for each operator, on the hot path
        self,
        ledger: StorageLedger,
        operator: Operator,
        place: Place,
        args: Any,
        kwargs: Any,
        result: Any,
        inputs: list[Tensor],
        stored: list[int] | None,
    ) -> None:
        plan = operator.plan
        row = operator.rows.get(place) or operator.row_at(place)
        row.calls += 1
        outputs = [result] if isinstance(result, Tensor) else tensors_in((result,))
        is_dense = ledger.produce(outputs, row.site) and stored is not None
        if plan.reads_all_and_writes_its_result:
            if (
                stored is None
                or result is None
                or (len(stored) > 1 and len(stored) != len(set(stored)))
            ):
                row.bytes_moved += bytes_moved(plan, args, kwargs, inputs, outputs)
            else:
                row.bytes_moved += nbytes_of([*inputs, *outputs])
        else:
            for position in plan.written:
                ledger.produce(tensors_in(args[position : position + 1]), row.site)
            row.bytes_moved += bytes_moved(plan, args, kwargs, inputs, outputs)
        if plan.takes_packages:
            row.bytes_moved += packed_nbytes((*args, *kwargs.values()))
        if operator.is_free:
            return
        if (
            is_dense
            and plan.per_element is not None
            and not kwargs
            and len(args) <= plan.most_arguments
            and outputs
            and outputs[0] is result
            and result.dtype in _REAL
        ):
            row.arithmetic += plan.per_element * result.numel()
        else:
            self._book(operator, row, args, kwargs, result, inputs, outputs, is_dense)

    def _book(  # noqa: PLR0913, PLR0917 - the whole call, as it is
        self,
        operator: Operator,
        row: Row,
        args: Any,
        kwargs: Any,
        result: Any,
        inputs: list[Tensor],
        outputs: list[Tensor],
        is_dense: bool,
    ) -> None:
        plan = operator.plan
        is_nested = _has_nested(inputs)
        if is_nested and plan.nested_formula is None:
            self._book_parts(operator, row, args, kwargs)
            return
        rule = plan.nested_formula if is_nested else plan.formula
        if not is_dense and any(tensor.layout in _SPARSE for tensor in (*inputs, *outputs)):
            rule = plan.sparse_formula  # it costs by its non-zeros, not by its shape
        if plan.written_keywords:
            kwargs = {key: v for key, v in kwargs.items() if key not in plan.written_keywords}
        work = None if rule is None else _applied(rule, plan, args, kwargs, result)
        if work is None:
            if plan.name != "aten._to_dense" or not self._is_known(inputs[0]):
                self.note_uncounted(plan.overload, inputs)
            return
        if isinstance(work, int):
            macs, arithmetic = 0, work
        else:
            macs, arithmetic = work.macs, work.arithmetic
            row.int_ops += work.int_ops
        if (outputs and outputs[0].dtype in _REAL) or _are_floating(inputs, outputs):
            row.macs += macs
            row.arithmetic += arithmetic
        elif {tensor.dtype for tensor in (*inputs, *outputs)} != _TRUTH:
            # Integers; truth values alone are logic, and cost no arithmetic.
            row.int_ops += 2 * macs + arithmetic

    def _is_known(self, opaque_tensor: Tensor) -> bool:
        """Whether what made this oneDNN tensor was seen, so that nothing is hidden in it.

        Frozen scripts convert a tensor, run convolutions that no mode sees, and convert back.
        """
        return self._ledger is not None and self._ledger.has_produced(opaque_tensor)

    def _book_parts(self, operator: Operator, row: Row, args: Any, kwargs: Any) -> None:
        """Book what the components cost one by one."""
        counted = CountingMode(CallStack("", lambda _node: ""))
        if not nested.count_parts(counted, operator.func, args, kwargs):
            self.note_uncounted(operator.plan.overload, tensors_in((*args, *kwargs.values())))
            return
        for inner in counted.operators.values():
            for inner_row in inner.rows.values():
                row.macs += inner_row.macs
                row.arithmetic += inner_row.arithmetic
                row.int_ops += inner_row.int_ops
        for name, (calls, shapes) in counted.uncounted.items():
            known, known_shapes = self.uncounted.get(name, (0, []))
            self.uncounted[name] = (known + calls, known_shapes or shapes)

    def _view(self, operator: Operator, args: Any, kwargs: Any) -> Any:
        """Run an operator that moves no data; book storages that it brings to light."""
        ledger = self._ledger
        if ledger is None:
            return operator.call(*args, **kwargs)
        path = self._current()
        if self._lines is not None:
            self._lines.current()  # the view's backward belongs to this line
        # What lift_fresh takes was made from Python numbers just now: it is new.
        plan = operator.plan
        inputs = [] if plan.name == "aten.lift_fresh" else tensors_in(args[: plan.tensors_up_to])
        if self.is_shared:
            with ledger.lock:
                stored = ledger.touch(inputs, path)
            result = operator.call(*args, **kwargs)
            with ledger.lock:
                _show(ledger, plan, path, result, stored)
            return result
        stored = ledger.touch(inputs, path)
        result = operator.call(*args, **kwargs)
        _show(ledger, plan, path, result, stored)
        return result

    def _take_apart(self, operator: Operator, args: Any, kwargs: Any) -> Any:
        """Run the kernel that is composed of other operators, which then come here."""
        is_nested = any(tensor.is_nested for tensor in tensors_in(args))
        key = operator.plan.nested_parts_key if is_nested else operator.plan.parts_key
        if key is None:
            return self._count(operator, args, kwargs)
        with self:
            return operator.func._op_dk(key, *args, **kwargs)

    def _look_inside(self, operator: Operator, args: Any, kwargs: Any) -> Any:
        """Run somebody's own kernel, and report it unless all that it does comes here."""
        tensors = tensors_in((*args, *kwargs.values()))
        key = opaque.kernel_key(operator.func, tensors)
        if key is None:
            return self._count(operator, args, kwargs)
        calls, work = self._booked()
        with self:
            result = operator.func._op_dk(key, *args, **kwargs)
        calls_after, work_after = self._booked()
        if calls_after == calls:
            # Nothing of torch's ran inside: it is an operator of its own, and no zero.
            self._book_as_one(operator, args, kwargs, result, tensors)
        elif not operator.is_trusted:
            if opaque.is_python(operator.func) and work_after != work:
                operator.is_trusted = True
            else:
                self.note_uncounted(operator.plan.overload, tensors)
        return result

    def _book_as_one(
        self, operator: Operator, args: Any, kwargs: Any, result: Any, inputs: list[Tensor]
    ) -> None:
        """Book a call that has run, whose body showed nothing, as one operator."""
        place, ledger = self._place(), self._ledger
        if ledger is None:
            (operator.rows.get(place) or operator.row_at(place)).calls += 1
            self.note_uncounted(operator.plan.overload, inputs)
            return
        with ledger.lock if self.is_shared else nullcontext():
            stored = ledger.touch(inputs, self._current())
            self._book_all(ledger, operator, place, args, kwargs, result, inputs, stored)

    def _booked(self) -> tuple[int, tuple[int, int]]:
        """How many operators have run; how much arithmetic was booked, how many reported."""
        rows = [row for operator in self.operators.values() for row in operator.rows.values()]
        work = sum(row.macs + row.arithmetic + row.int_ops for row in rows)
        reported = sum(calls for calls, _ in self.uncounted.values())
        return sum(row.calls for row in rows), (work, reported)

    def _call_functions(self, operator: Operator, args: Any, kwargs: Any) -> Any:
        kernel = higher_order.kernel_of(operator.func)
        if kernel is None:
            self.note_uncounted(operator.plan.overload, tensors_in((*args, *kwargs.values())))
            return operator.func(*args, **kwargs)
        with self:
            return kernel(*args, **kwargs)

    def note_uncounted(self, operator: str, inputs: list[Tensor]) -> None:
        """Report a call whose arithmetic is not in the sums."""
        calls, shapes = self.uncounted.get(operator, (0, []))
        shape = ", ".join(_describe(tensor) for tensor in inputs)
        if shape not in shapes and len(shapes) < _MOST_SHAPES:
            shapes.append(shape)
        self.uncounted[operator] = (calls + 1, shapes)


def _show(
    ledger: StorageLedger, plan: Plan, path: str, result: Any, stored: list[int] | None
) -> None:
    """Book what a view brings to light: mostly the storage that has just been booked."""
    if stored is None or not plan.returns_views:
        ledger.produce(tensors_in((result,)), (path, plan.name))


def _has_nested(tensors: list[Tensor]) -> bool:
    return True in [tensor.is_nested for tensor in tensors]


def _are_floating(inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Whether any of the tensors holds real or complex numbers."""
    return any(tensor.dtype in _FLOATING for tensor in (*inputs, *outputs))


def _are_strided(*values: Any) -> bool:
    """Whether no tensor among the values has another layout, such as a sparse one."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return False not in [tensor.layout is _STRIDED for tensor in tensors]


def _applied(rule: Formula, plan: Plan, args: Any, kwargs: Any, result: Any) -> Work | int | None:
    """What the formula says. One of ours that fails counts nothing, and so is reported."""
    try:
        return rule(*args, **kwargs, out=result)
    except Exception as error:
        if not is_taught(plan.name.replace(".", "::", 1)):
            return None  # nothing that runs without the counter fails under it
        raise MeasureError(
            f"the formula that was registered for {plan.overload} raised "
            f"{type(error).__name__}: {error}"
        ) from error


def _must_desugar(types: Any) -> bool:
    """Whether a wrapper subclass is among the arguments, whose own dispatch comes first."""
    from torch._subclasses import FakeTensor

    return any(
        cls.__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl
        and not issubclass(cls, FakeTensor | nn.Parameter)
        for cls in types
        if cls not in _ORDINARY
    )


def _is_symbolic(types: Any, args: Any) -> bool:
    """Whether the arguments belong to a trace of functions, or are fake with symbols for sizes."""
    names = {cls.__name__ for cls in types}
    return "FunctionalTensor" in names or (
        "FakeTensor" in names
        and any(tensor._has_symbolic_sizes_strides for tensor in tensors_in(args))
    )


def _describe(tensor: Tensor) -> str:
    from pytest_flopbudget.meters.dtypes import short_name

    if tensor.is_nested:
        return f"{short_name(tensor.dtype)}[nested]"
    return f"{short_name(tensor.dtype)}[{','.join(str(size) for size in tensor.shape)}]"
