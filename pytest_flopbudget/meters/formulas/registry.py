"""Formulas: from an operator's arguments and result to the arithmetic that it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import torch

from pytest_flopbudget.core.errors import MeasureError


@dataclass(slots=True)  # not frozen, which would make every call of a contraction dearer
class Work:
    """The arithmetic of one operator call, in scalar operations.

    The counter books `macs` and `arithmetic` as floating-point or as integer work by the
    operator's dtypes: `2 * macs + arithmetic` becomes FLOPs or integer operations. A
    quantised operator does both, whatever its dtypes say, and gives its `int_ops` itself.
    """

    macs: int = 0
    """Multiply-accumulates of a contraction: each is one multiply and one add."""
    arithmetic: int = 0
    """Every other add, multiply, divide, comparison or transcendental, one each."""
    int_ops: int = 0
    """Integer operations that are booked as such whatever the dtypes; two for a MAC."""

    def __add__(self, other: Work) -> Work:
        return Work(
            self.macs + other.macs,
            self.arithmetic + other.arithmetic,
            self.int_ops + other.int_ops,
        )


Formula: TypeAlias = Callable[..., Work | int | None]
"""Takes the operator's own arguments and its result as keyword `out`.

Returns the work, or an integer of plain arithmetic, or None for a case that it
cannot count: that call is then reported as uncounted.
"""

_F = TypeVar("_F", bound=Formula)

_FORMULAS: Final[dict[str, Formula]] = {}
_SPARSE_FORMULAS: Final[dict[str, Formula]] = {}
_NESTED_FORMULAS: Final[dict[str, Formula]] = {}
_FREE: Final[set[str]] = set()
_CHANGES: Final[list[str]] = []
_TAUGHT: Final[set[str]] = set()
"""Names whose formula is the user's own."""


def formula(*names: str) -> Callable[[_F], _F]:
    """Register the decorated function for these aten operators, without overloads.

    An in-place form (`add_`) shares the formula of its functional form (`add`). A name
    with a namespace (`quantized::linear`) is taken as it is.
    """
    return _registering(_FORMULAS, names)


def sparse_formula(*names: str) -> Callable[[_F], _F]:
    """The same for calls in which a tensor, given or returned, has a sparse layout.

    The formula of `formula` is never asked about those: its shapes would mislead it.
    """
    return _registering(_SPARSE_FORMULAS, names)


def nested_formula(*names: str) -> Callable[[_F], _F]:
    """The same for calls with a strided nested tensor among the arguments.

    The formula of `formula` is never asked about those: they have no shape to read.
    """
    return _registering(_NESTED_FORMULAS, names)


def _registering(formulas: dict[str, Formula], names: tuple[str, ...]) -> Callable[[_F], _F]:
    def register(function: _F) -> _F:
        for name in names:
            formulas[name if "::" in name else f"aten::{name}"] = function
        return function

    return register


def declare_free(*names: str) -> None:
    """Say that these operators move or make data and do no arithmetic.

    A name without a namespace is aten's.
    """
    _FREE.update(name if "::" in name else f"aten::{name}" for name in names)


def register_formula(op: Any, function: Formula) -> None:
    """Teach the counter what an operator costs.

    op: an operator such as `torch.ops.mylib.rotate`, one overload of it, or its name,
    such as `"mylib::rotate"`.
    function: called with the operator's own arguments and, as keyword `out`, its
    result; returns its FLOPs as an integer, or a `Work` where multiply-accumulates
    are to be told apart. It sees tensors with shapes, dtypes and strides; with fake
    tensors they hold no data.

    Raises MeasureError when `op` is no operator and no name of one.
    """
    name = _operator_name(op)
    _FORMULAS[name] = function
    _TAUGHT.add(name)
    _CHANGES.append(name)


def state() -> int:
    """A number that changes whenever the user gives an operator a formula."""
    return len(_CHANGES)


def formula_for(name: str) -> Formula | None:
    """The formula of the operator `namespace::name`, if there is one."""
    return _FORMULAS.get(name) or _FORMULAS.get(_functional(name))


def sparse_formula_for(name: str) -> Formula | None:
    """The formula of the operator `namespace::name` on sparse tensors, if there is one."""
    return _SPARSE_FORMULAS.get(name) or _SPARSE_FORMULAS.get(_functional(name))


def is_taught(name: str) -> bool:
    """Whether the user has given the operator `namespace::name` a formula."""
    return name in _TAUGHT or _functional(name) in _TAUGHT


def nested_formula_for(name: str) -> Formula | None:
    """The formula of the operator `namespace::name` on nested tensors, if there is one."""
    return _NESTED_FORMULAS.get(name) or _NESTED_FORMULAS.get(_functional(name))


def is_free(name: str) -> bool:
    """Whether the operator `namespace::name` is declared to do no arithmetic."""
    return name in _FREE or _functional(name) in _FREE


def _functional(name: str) -> str:
    """The name of the functional form of an in-place operator."""
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def _operator_name(op: Any) -> str:
    if isinstance(op, torch._ops.OpOverload):
        return str(op._schema.name)
    if isinstance(op, torch._ops.OpOverloadPacket):
        return str(op._qualified_op_name)
    if isinstance(op, str) and "::" in op:
        return op.partition(".")[0]
    # What `torch.library.custom_op` returns knows its name too.
    name = getattr(op, "_qualname", None)
    if isinstance(name, str):
        return name
    raise MeasureError(
        f"register_formula: {op!r} is no operator; pass torch.ops.NAMESPACE.NAME "
        "or its name, such as 'mylib::rotate'"
    )
