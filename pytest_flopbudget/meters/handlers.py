"""What is done with one operator each time it comes: a function for each, made at first sight.

A region runs these once between any two kernels. So each is one function with all that it needs
at hand, which takes the common case itself and leaves the rest to the books.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from pytest_flopbudget.meters.booking import REAL, STRIDED, Books, Call, Operator, Place, Row
from pytest_flopbudget.meters.formulas.registry import Formula, Work
from pytest_flopbudget.meters.packed import packed_nbytes
from pytest_flopbudget.meters.plans import Plan
from pytest_flopbudget.meters.storages import PLAIN, StorageLedger
from pytest_flopbudget.meters.traffic import (
    NO_TENSORS,
    arguments_in,
    bytes_moved,
    nbytes_of,
    tensors_in,
)

Handler: TypeAlias = Callable[[Any, Any], Any]
"""Runs an operator on these arguments and keywords, and books it."""
_current_node: Final[Any] = torch._C._current_autograd_node


def counted(operator: Operator, books: Books) -> Handler:
    """Runs an operator and books what it costs."""
    ledger = books.ledger
    if ledger is not None:
        return _with_storages(operator, books, ledger)
    return (_called if operator.plan.is_free else _worked)(operator, books)


def viewed(plan: Plan, books: Books) -> Handler:
    """Runs an operator that moves no data, and books storages that it brings to light."""
    call, calls, place, ledger = plan.call, books.calls, books.place, books.ledger
    if ledger is None:
        return _viewed_alone(plan, books)
    name, returns_views = plan.name, plan.returns_views
    # What lift_fresh takes was made from Python numbers just now: it is new. To ask a tensor for
    # its device touches none of it; fake ones are asked so.
    up_to = 0 if name in ("aten.lift_fresh", "prim.device") else plan.tensors_up_to

    def handle(args: Any, kwargs: Any) -> Any:
        path = calls.path if _current_node() is None else calls.current()
        if place is not None:
            place()  # the view's backward belongs to this line
        inputs = tensors_in(args[:up_to])
        if books.is_shared:
            with ledger.lock:
                stored = ledger.touch(inputs, path)
            result = call(*args, **kwargs)
            with ledger.lock:
                ledger.produce(tensors_in((result,)), (path, name))
        else:
            stored = ledger.touch(inputs, path)
            result = call(*args, **kwargs)
            if stored is None or not returns_views:  # a view's storage has just been booked
                ledger.produce(tensors_in((result,)), (path, name))
        if stored is None:
            books.note_opaque(plan, inputs, tensors_in((result,)))
        return result

    return handle


def _viewed_alone(plan: Plan, books: Books) -> Handler:
    """Runs an operator that moves no data, where only arithmetic is counted."""
    call, opaque = plan.call, books.opaque

    def handle(args: Any, kwargs: Any) -> Any:
        result = call(*args, **kwargs) if kwargs else call(*args)
        if opaque:
            books.note_opaque(plan, arguments_in(plan, args, kwargs), tensors_in((result,)))
        return result

    return handle


def _called(operator: Operator, books: Books) -> Handler:
    """Books that it was called, of one that does no arithmetic."""
    plan, rows = operator.plan, operator.rows
    call, calls, place = plan.call, books.calls, books.place

    def handle(args: Any, kwargs: Any) -> Any:
        at = calls.path if place is None and _current_node() is None else (place or calls.current)()
        result = call(*args, **kwargs)
        row = rows.get(at)
        if row is None:
            row = rows[at] = Row()
        row.calls += 1
        if isinstance(result, Tensor) and result.layout is not STRIDED:
            books.note_opaque(plan, arguments_in(plan, args, kwargs), [result])
        return result

    return handle


def _worked(operator: Operator, books: Books) -> Handler:
    """Books the arithmetic of one that does some."""
    call, rows, plan = operator.plan.call, operator.rows, operator.plan
    calls, place = books.calls, books.place
    formula, each, most = plan.formula, plan.per_element, plan.most_arguments
    has_tensor_keywords = plan.has_tensor_keywords
    # Where it takes no others, there is no need to look at them.
    up_to = 0 if plan.is_for_strided else plan.tensors_up_to

    def handle(args: Any, kwargs: Any) -> Any:
        at = calls.path if place is None and _current_node() is None else (place or calls.current)()
        result = call(*args, **kwargs) if kwargs else call(*args)
        row = rows.get(at)
        if row is None:
            row = rows[at] = Row()
        row.calls += 1
        first = result[0] if type(result) is tuple and result else result
        if (
            type(first) is Tensor
            and not (kwargs and has_tensor_keywords)
            and first.dtype in REAL
            and first.layout is STRIDED
        ):
            for value in args[:up_to]:
                kind = type(value)
                if kind in PLAIN:
                    if value.layout is not STRIDED or value.is_nested:
                        break
                elif kind not in NO_TENSORS:
                    break
            else:
                if each is not None and not kwargs and len(args) <= most and first is result:
                    row.arithmetic += each * first.numel()
                    return result
                if formula is not None and _applies(formula, row, args, kwargs, result):
                    return result
        books.book_arithmetic(operator, row, args, kwargs, result)
        return result

    return handle


def _with_storages(operator: Operator, books: Books, ledger: StorageLedger) -> Handler:
    """Books arithmetic, traffic and storages."""
    call, plan = operator.plan.call, operator.plan
    calls, place = books.calls, books.place
    touch, lock = ledger.touch, ledger.lock
    has_tensor_keywords, up_to = plan.has_tensor_keywords, plan.tensors_up_to
    book = booker(operator, books, ledger)

    def handle(args: Any, kwargs: Any) -> Any:
        if place is not None:
            at = place()
            path = at if type(at) is str else at[0]
        else:
            path = at = calls.path if _current_node() is None else calls.current()
        inputs = tensors_in(args[:up_to])
        if kwargs and has_tensor_keywords:
            inputs += tensors_in(kwargs.values())
        if books.is_shared:
            with lock:
                stored = touch(inputs, path)
            result = call(*args, **kwargs)
            with lock:
                book(at, args, kwargs, result, inputs, stored)
            return result
        stored = touch(inputs, path)
        result = call(*args, **kwargs) if kwargs else call(*args)
        book(at, args, kwargs, result, inputs, stored)
        return result

    return handle


def booker(
    operator: Operator, books: Books, ledger: StorageLedger
) -> Callable[[Place, Any, Any, Any, list[Tensor], list[int] | None], None]:
    """What books a call that has run.

    It takes the place, arguments and keywords, the result, the tensors among the arguments, and
    the ids of their storages.
    """
    plan, name, rows, produce = operator.plan, operator.plan.name, operator.rows, ledger.produce
    is_simple = plan.reads_all_and_writes_its_result and not plan.takes_packages
    is_free, is_for_strided = plan.is_free, plan.is_for_strided
    formula, each, most = plan.formula, plan.per_element, plan.most_arguments
    written_keywords = plan.written_keywords

    def book(
        at: Place,
        args: Any,
        kwargs: Any,
        result: Any,
        inputs: list[Tensor],
        stored: list[int] | None,
    ) -> None:
        row = rows.get(at)
        if row is None:
            row = rows[at] = Row()
            row.site = (at if isinstance(at, str) else at[0], name)
        row.calls += 1
        outputs = [result] if isinstance(result, Tensor) else tensors_in((result,))
        is_dense = produce(outputs, row.site) and stored is not None
        if not is_dense:
            books.note_opaque(plan, inputs, outputs)
        if (
            is_simple
            and stored is not None
            and result is not None
            and len(stored) == len(set(stored))
        ):
            row.bytes_moved += nbytes_of([*inputs, *outputs])
        else:
            call = Call(args, kwargs, result, inputs, outputs, is_dense)
            _book_traffic(plan, ledger, row, call)
        if is_free:
            return
        if is_dense and not written_keywords and outputs and outputs[0].dtype in REAL:
            if each is not None and not kwargs and len(args) <= most and outputs[0] is result:
                row.arithmetic += each * result.numel()
                return
            if (
                formula is not None
                and (is_for_strided or True not in [tensor.is_nested for tensor in inputs])
                and _applies(formula, row, args, kwargs, result)
            ):
                return
        books.book(operator, row, Call(args, kwargs, result, inputs, outputs, is_dense))

    return book


def _book_traffic(plan: Plan, ledger: StorageLedger, row: Row, call: Call) -> None:
    """Book the bytes of a call that does not just read its arguments and write its result."""
    args, kwargs = call.args, call.kwargs
    if not plan.reads_all_and_writes_its_result:
        for position in plan.written:
            ledger.produce(tensors_in(args[position : position + 1]), row.site)
    row.bytes_moved += bytes_moved(plan, args, kwargs, call.inputs, call.outputs)
    if plan.takes_packages:
        row.bytes_moved += packed_nbytes((*args, *kwargs.values()))


def _applies(formula: Formula, row: Row, args: Any, kwargs: Any, result: Any) -> bool:
    """Book what the formula says; false where the books are to apply it with care."""
    try:
        work = formula(*args, **kwargs, out=result)
    except Exception:  # whatever it is: the books see it again, and say what is wrong
        return False
    if type(work) is int:
        row.arithmetic += work
        return True
    if type(work) is Work:
        row.macs += work.macs
        row.arithmetic += work.arithmetic
        row.int_ops += work.int_ops
        return True
    return False
