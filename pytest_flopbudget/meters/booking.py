"""The books of one thread: which operators ran where, and what they cost."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.meters.call_stack import CallStack
from pytest_flopbudget.meters.formulas.registry import Formula, Work, is_taught
from pytest_flopbudget.meters.plans import Plan
from pytest_flopbudget.meters.storages import Site, StorageLedger, parts_of
from pytest_flopbudget.meters.traffic import arguments_in, tensors_in

STRIDED: Final = torch.strided
_SPARSE: Final = frozenset(
    {torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}
)
_DTYPES: Final = [dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)]
REAL: Final = frozenset(dtype for dtype in _DTYPES if dtype.is_floating_point)
"""The dtypes of real numbers."""
_FLOATING: Final = REAL | {dtype for dtype in _DTYPES if dtype.is_complex}
_TRUTH: Final = frozenset({torch.bool})
_MOST_SHAPES: Final = 4
"""How many distinct argument shapes of an uncounted operator are kept."""

Place = str | tuple[str, str]
"""Module path; with source lines, path and line."""


class Row:
    """Running sums of one operator at one place."""

    # Of the class, until something is added: there is a row for nearly every call in a model.
    site: Site = ("", "")
    calls = arithmetic = macs = int_ops = bytes_moved = 0

    def __add__(self, other: Row) -> Row:
        """The sums of both, at the place of this one."""
        both = Row()
        both.site = self.site
        both.calls = self.calls + other.calls
        both.arithmetic = self.arithmetic + other.arithmetic
        both.macs = self.macs + other.macs
        both.int_ops = self.int_ops + other.int_ops
        both.bytes_moved = self.bytes_moved + other.bytes_moved
        return both


class Operator:
    """One overload as this thread meets it, and its sums so far."""

    __slots__ = ("func", "is_trusted", "plan", "rows")

    def __init__(self, func: Any, plan: Plan) -> None:
        self.func = func
        self.plan = plan
        self.is_trusted = False
        """Whether all that its body does is known to be seen."""
        self.rows: dict[Place, Row] = {}

    def row_at(self, place: Place) -> Row:
        """The sums at a place."""
        row = self.rows.get(place)
        if row is None:
            row = self.rows[place] = Row()
            row.site = (place if isinstance(place, str) else place[0], self.plan.name)
        return row


class Call(NamedTuple):
    """A call that has run: its arguments, its result, and the tensors in both."""

    args: Any
    kwargs: Any
    result: Any
    inputs: list[Tensor]
    outputs: list[Tensor]
    is_dense: bool
    """Whether no other layout than strided is among the tensors."""


class Books:
    """What the operators of one thread cost.

    calls: the module calls in progress on that thread.
    ledger: books the storages; without it only arithmetic is counted.
    place: tells where to book an operator, where that is not at the path of its module.
    book_parts: books a call on strided nested tensors by its components.
    """

    def __init__(
        self,
        calls: CallStack,
        ledger: StorageLedger | None,
        place: Callable[[], Place] | None,
        book_parts: Callable[[Operator, Row, Any, Any], None],
    ) -> None:
        self.calls = calls
        self.ledger = ledger
        self.place = place
        self.operators: dict[int, Operator] = {}
        """By the id of the overload, which it holds: asking that for its hash runs Python."""
        self.uncounted: dict[str, tuple[int, list[str]]] = {}
        """By overload: calls whose arithmetic is in no sum, and some of their shapes."""
        self.is_shared = False
        """Whether several threads book at the same time."""
        self._book_parts = book_parts
        self.opaque: dict[int, weakref.ref[Tensor]] = {}
        """Tensors in oneDNN's own layout of which all that made them was seen, by their ids."""

    def totals(self) -> tuple[int, tuple[int, int]]:
        """How many operators have run; how much arithmetic was booked, how many reported."""
        rows = [row for operator in self.operators.values() for row in operator.rows.values()]
        work = sum(row.macs + row.arithmetic + row.int_ops for row in rows)
        reported = sum(calls for calls, _ in self.uncounted.values())
        return sum(row.calls for row in rows), (work, reported)

    def book_arithmetic(
        self, operator: Operator, row: Row, args: Any, kwargs: Any, result: Any
    ) -> None:
        """Book the arithmetic of a call that has run, whatever its arguments are."""
        inputs, outputs = arguments_in(operator.plan, args, kwargs), tensors_in((result,))
        is_dense = all(tensor.layout is STRIDED for tensor in (*inputs, *outputs))
        if not is_dense:
            self.note_opaque(operator.plan, inputs, outputs)
        self.book(operator, row, Call(args, kwargs, result, inputs, outputs, is_dense))

    def book(self, operator: Operator, row: Row, call: Call) -> None:
        """The same where its tensors are known."""
        args, kwargs, result, inputs, outputs, is_dense = call
        plan = operator.plan
        is_nested = any(tensor.is_nested for tensor in inputs)
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
        if (outputs and outputs[0].dtype in REAL) or _are_floating(inputs, outputs):
            row.macs += macs
            row.arithmetic += arithmetic
        elif {tensor.dtype for tensor in (*inputs, *outputs)} != _TRUTH:
            # Integers; truth values alone are logic, and cost no arithmetic.
            row.int_ops += 2 * macs + arithmetic

    def add_parts(self, row: Row, parts: Books) -> None:
        """Add what was booked for the parts of a call to its row, and what was not counted."""
        for operator in parts.operators.values():
            for part in operator.rows.values():
                row.macs += part.macs
                row.arithmetic += part.arithmetic
                row.int_ops += part.int_ops
        for name, (calls, shapes) in parts.uncounted.items():
            known, known_shapes = self.uncounted.get(name, (0, []))
            self.uncounted[name] = (known + calls, known_shapes or shapes)

    def note_uncounted(self, operator: str, inputs: list[Tensor]) -> None:
        """Report a call whose arithmetic is not in the sums."""
        calls, shapes = self.uncounted.get(operator, (0, []))
        shape = ", ".join(_describe(tensor) for tensor in inputs)
        if shape not in shapes and len(shapes) < _MOST_SHAPES:
            shapes.append(shape)
        self.uncounted[operator] = (calls + 1, shapes)

    def note_opaque(self, plan: Plan, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Note which results hold data that cannot be told from outside, and all of it seen."""
        results = [tensor for tensor in outputs if not parts_of(tensor)]
        made = inputs[:1] if plan.takes_weight else inputs
        if results and all(parts_of(tensor) or self._is_known(tensor) for tensor in made):
            self.opaque.update((id(tensor), weakref.ref(tensor)) for tensor in results)

    def _is_known(self, opaque_tensor: Tensor) -> bool:
        """Whether all that made this oneDNN tensor was seen, so that nothing is hidden in it.

        Frozen scripts convert a tensor, run convolutions that no mode sees, and convert back.
        """
        if torch._C._current_autograd_node() is not None:
            return True  # frozen scripts have no backward, and what it keeps comes as new objects
        ref = self.opaque.get(id(opaque_tensor))
        return ref is not None and ref() is opaque_tensor


def _are_floating(inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Whether any of the tensors holds real or complex numbers."""
    return any(tensor.dtype in _FLOATING for tensor in (*inputs, *outputs))


def _applied(rule: Formula, plan: Plan, args: Any, kwargs: Any, result: Any) -> Work | int | None:
    """What the formula says. One of ours that fails counts nothing, and so is reported."""
    try:
        return rule(*args, **kwargs, out=result)
    except Exception as error:  # a formula is anybody's code, and may raise whatever it likes
        if not is_taught(plan.name.replace(".", "::", 1)):
            return None  # nothing that runs without the counter fails under it
        raise MeasureError(
            f"the formula that was registered for {plan.overload} raised "
            f"{type(error).__name__}: {error}"
        ) from error


def _describe(tensor: Tensor) -> str:
    from pytest_flopbudget.meters.dtypes import short_name

    if tensor.is_nested:
        return f"{short_name(tensor.dtype)}[nested]"
    return f"{short_name(tensor.dtype)}[{','.join(str(size) for size in tensor.shape)}]"
