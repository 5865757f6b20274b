"""The mode of one thread: every operator goes through here once, and is booked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
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
from pytest_flopbudget.meters.traffic import bytes_moved, nbytes_of, tensors_in

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

Place = str | tuple[str, str]
"""Module path; with source lines, path and line."""


class Row:
    """Running sums of one operator at one place."""

    __slots__ = ("arithmetic", "bytes_moved", "calls", "int_ops", "macs")

    def __init__(self) -> None:
        self.calls = self.arithmetic = self.macs = self.int_ops = self.bytes_moved = 0

    def add(self, other: Row) -> None:
        """Add another row's sums to these."""
        self.calls += other.calls
        self.arithmetic += other.arithmetic
        self.macs += other.macs
        self.int_ops += other.int_ops
        self.bytes_moved += other.bytes_moved


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
        self.operators: dict[Any, Operator] = {}
        self.uncounted: dict[str, tuple[int, list[str]]] = {}
        self.is_open = True
        """Once false, everything passes unseen: for threads that outlive the region."""
        self.is_shared = False
        """Whether several threads book at the same time."""
        self._current = calls.current
        self._ledger = ledger
        self._lines = lines
        self._count = self._count_all if ledger is not None else self._count_arithmetic
        self._handlers: dict[Road, Callable[..., Any]] = {
            Road.VIEW: self._view if ledger is not None else _pass,
            Road.COUNT: self._count,
            Road.FREE: self._count,
            Road.UNKNOWN: self._count,
            Road.DECOMPOSE: self._take_apart,
            Road.LOOK_INSIDE: self._take_apart,
            Road.OPAQUE: self._look_inside,
            Road.HIGHER_ORDER: self._call_functions,
        }

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        operator = self.operators.get(func)
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
        operator = self.operators[func] = Operator(func, plan, self._handlers[plan.road])
        return operator

    def _count_arithmetic(self, operator: Operator, args: Any, kwargs: Any) -> Any:
        """Run an operator and book its arithmetic alone."""
        place = self._place()
        result = operator.call(*args, **kwargs)
        row = operator.rows.get(place)
        if row is None:
            row = operator.rows[place] = Row()
        row.calls += 1
        if not operator.is_free:
            plan = operator.plan
            if (
                plan.per_element is not None
                and isinstance(result, Tensor)
                and not kwargs
                and len(args) <= plan.most_arguments
                and result.dtype in _REAL
                and result.layout is _STRIDED
                and all(arg.layout is _STRIDED for arg in args if isinstance(arg, Tensor))
            ):
                row.arithmetic += plan.per_element * result.numel()
            else:
                inputs = tensors_in((*args, *kwargs.values()))
                self._book(operator, row, args, kwargs, result, inputs, tensors_in((result,)))
        return result

    def _count_all(self, operator: Operator, args: Any, kwargs: Any) -> Any:
        """Run an operator and book its arithmetic, traffic and storages."""
        place = self._place()
        inputs = tensors_in(args)
        if kwargs:
            inputs += tensors_in(kwargs.values())
        if not self.is_shared:
            stored = self._touch(inputs)
            result = operator.call(*args, **kwargs)
            self._book_all(operator, place, args, kwargs, result, inputs, stored)
            return result
        assert self._ledger is not None  # noqa: S101 - this is the way with one
        lock = self._ledger.lock
        with lock:
            stored = self._touch(inputs)
        result = operator.call(*args, **kwargs)
        with lock:
            self._book_all(operator, place, args, kwargs, result, inputs, stored)
        return result

    def _place(self) -> Place:
        path = self._current()
        return path if self._lines is None else (path, self._lines.current())

    def _touch(self, inputs: list[Tensor]) -> list[int] | None:
        """Book the arguments' storages; their ids, or None if some tensor has none."""
        ledger = self._ledger
        assert ledger is not None  # noqa: S101 - this is the way with one
        entries = ledger.entries
        ids = []
        try:
            for tensor in inputs:
                storage = tensor.untyped_storage()
                key = id(storage)
                ids.append(key)
                if key not in entries:
                    ledger.touch_storage(tensor, storage, self._current())
        except (NotImplementedError, RuntimeError):
            for tensor in inputs:
                ledger.touch(tensor, self._current())
            return None
        return ids

    def _book_all(  # noqa: PLR0913, PLR0917 - one call for each operator, on the hot path
        self,
        operator: Operator,
        place: Place,
        args: Any,
        kwargs: Any,
        result: Any,
        inputs: list[Tensor],
        stored: list[int] | None,
    ) -> None:
        plan = operator.plan
        ledger = self._ledger
        assert ledger is not None  # noqa: S101 - this is the way with one
        row = operator.rows.get(place)
        if row is None:
            row = operator.rows[place] = Row()
        row.calls += 1
        site = (place if self._lines is None else place[0], plan.name)
        outputs = [result] if isinstance(result, Tensor) else tensors_in((result,))
        for tensor in outputs:
            ledger.produce(tensor, site)  # type: ignore[arg-type]  # a path and a name
        if plan.reads_all_and_writes_its_result:
            if stored is None or len(stored) != len(set(stored)) or result is None:
                row.bytes_moved += bytes_moved(plan, args, kwargs, inputs, outputs)
            else:
                row.bytes_moved += nbytes_of(inputs) + nbytes_of(outputs)
        else:
            for position in plan.written:
                for tensor in tensors_in(args[position : position + 1]):
                    ledger.produce(tensor, site)  # type: ignore[arg-type]  # the same
            row.bytes_moved += bytes_moved(plan, args, kwargs, inputs, outputs)
        if plan.takes_packages:
            row.bytes_moved += packed_nbytes((*args, *kwargs.values()))
        if operator.is_free:
            return
        if (
            plan.per_element is not None
            and stored is not None
            and not kwargs
            and len(args) <= plan.most_arguments
            and outputs
            and outputs[0] is result
            and result.dtype in _REAL
            and result.layout is _STRIDED
        ):
            row.arithmetic += plan.per_element * result.numel()
        else:
            self._book(operator, row, args, kwargs, result, inputs, outputs)

    def _book(  # noqa: PLR0913, PLR0917 - the whole call, as it is
        self,
        operator: Operator,
        row: Row,
        args: Any,
        kwargs: Any,
        result: Any,
        inputs: list[Tensor],
        outputs: list[Tensor],
    ) -> None:
        plan = operator.plan
        every = [*inputs, *outputs]
        is_nested = any(tensor.is_nested for tensor in inputs)
        if is_nested and plan.nested_formula is None:
            self._book_parts(operator, row, args, kwargs)
            return
        rule = plan.nested_formula if is_nested else plan.formula
        if not _SPARSE.isdisjoint([tensor.layout for tensor in every]):
            rule = plan.sparse_formula  # it costs by its non-zeros, not by its shape
        if plan.written_keywords:
            kwargs = {key: v for key, v in kwargs.items() if key not in plan.written_keywords}
        work = None if rule is None else _applied(rule, plan, args, kwargs, result)
        if work is None and plan.name == "aten._to_dense" and self._is_known(inputs[0]):
            return
        if work is None:
            self.note_uncounted(plan.overload, inputs)
            return
        row.int_ops += work.int_ops
        dtypes = {tensor.dtype for tensor in every}
        if not dtypes.isdisjoint(_FLOATING):
            row.macs += work.macs
            row.arithmetic += work.arithmetic
        elif dtypes != _TRUTH:
            # Integers; truth values alone are logic, and cost no arithmetic.
            row.int_ops += 2 * work.macs + work.arithmetic

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
        assert ledger is not None  # noqa: S101 - this is the way with one
        path = self._current()
        if self._lines is not None:
            self._lines.current()  # the view's backward belongs to this line
        # What lift_fresh takes was made from Python numbers just now: it is new.
        inputs = [] if operator.plan.name == "aten.lift_fresh" else tensors_in(args)
        site = (path, operator.plan.name)
        if not self.is_shared:
            self._touch(inputs)
            result = operator.call(*args, **kwargs)
            _produce(ledger, result, site)
            return result
        with ledger.lock:
            self._touch(inputs)
        result = operator.call(*args, **kwargs)
        with ledger.lock:
            _produce(ledger, result, site)
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
        place = self._place()
        if self._ledger is None:
            operator.rows.setdefault(place, Row()).calls += 1
            self.note_uncounted(operator.plan.overload, inputs)
            return
        with self._ledger.lock if self.is_shared else nullcontext():
            stored = self._touch(inputs)
            self._book_all(operator, place, args, kwargs, result, inputs, stored)

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


def _applied(rule: Formula, plan: Plan, args: Any, kwargs: Any, result: Any) -> Work | None:
    """What the formula says. One of ours that fails counts nothing, and so is reported."""
    try:
        work = rule(*args, **kwargs, out=result)
    except Exception as error:
        if not is_taught(plan.name.replace(".", "::", 1)):
            return None  # nothing that runs without the counter fails under it
        raise MeasureError(
            f"the formula that was registered for {plan.overload} raised "
            f"{type(error).__name__}: {error}"
        ) from error
    return Work(arithmetic=work) if isinstance(work, int) else work


def _produce(ledger: StorageLedger, result: Any, site: Site) -> None:
    """Book the storages of what an operator returned."""
    for tensor in [result] if isinstance(result, Tensor) else tensors_in((result,)):
        ledger.produce(tensor, site)


def _pass(operator: Operator, args: Any, kwargs: Any) -> Any:
    return operator.call(*args, **kwargs)


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
