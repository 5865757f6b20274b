"""Operators on lists of tensors: each counts its plain operator, once for each tensor."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas.complex_numbers import COMPLEX_PER_ELEMENT
from pytest_flopbudget.meters.formulas.elementwise import SPARSE_LAYOUTS, real_parts
from pytest_flopbudget.meters.formulas.registry import (
    Work,
    formula,
    formula_for,
    sparse_formula,
    sparse_formula_for,
)

FOREACH: Final = (
    "abs",
    "acos",
    "add",
    "addcdiv",
    "addcmul",
    "asin",
    "atan",
    "ceil",
    "clamp_max",
    "clamp_min",
    "cos",
    "cosh",
    "div",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "floor",
    "frac",
    "lerp",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "max",
    "maximum",
    "minimum",
    "mm",
    "mul",
    "neg",
    "pow",
    "reciprocal",
    "round",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "sub",
    "tan",
    "tanh",
    "trunc",
)
"""The plain operators that have a form for lists, `_foreach_abs` and so on."""


def _each(name: str, *args: Any, out: Any, **kwargs: Any) -> Work | int | None:
    """What the plain operator counts for each tensor of the lists, added up.

    Lists go along together; a single tensor or number goes with each of them. In place
    there is no result: the first list is.
    """
    lists = [value for value in args if isinstance(value, list | tuple)]
    results = out or lists[0]
    total = Work()
    for at, result in enumerate(results):
        own = [value[at] if isinstance(value, list | tuple) else value for value in args]
        is_sparse = any(
            isinstance(value, Tensor) and value.layout in SPARSE_LAYOUTS for value in own
        )
        rule = (sparse_formula_for if is_sparse else formula_for)(f"aten::{name}")
        work = None if rule is None else rule(*own, out=result, **kwargs)
        if work is None:
            return None
        total += Work(arithmetic=work) if isinstance(work, int) else work
    return total


for _name in FOREACH:
    formula(f"_foreach_{_name}")(partial(_each, _name))
    sparse_formula(f"_foreach_{_name}")(partial(_each, _name))

_SIZES: Final = (1, math.inf, -math.inf)
"""The orders of norms that take the sizes of the elements as they are."""


@formula("_foreach_norm")
def foreach_norm(tensors: list[Tensor], order: Any = 2, *_args: Any, out: Any, **_: Any) -> int:
    """FLOPs of a norm of each tensor of a list.

    tensors: any shapes, n elements -> out: a scalar for each
    Counts, of order 2, n squares, n - 1 adds and a square root; of 1 and the infinities n
    absolute values and n - 1 adds or comparisons; of 0 n comparisons and n - 1 adds; of
    another p n absolute values, n powers, n - 1 adds and a root. A complex number has an
    absolute value of 4, and a squared one of 3.
    Source: the definition in the documentation of torch.linalg.vector_norm.
    """
    sums = foreach_powsum(tensors, order, out=out)
    return sums if order in (0, *_SIZES) else sums + len(tensors)


@formula("_foreach_powsum")
def foreach_powsum(tensors: list[Tensor], order: Any = 2, *_args: Any, out: Any, **_: Any) -> int:
    """FLOPs of the sum of the powers of each tensor of a list, a norm without its root.

    tensors: any shapes, n elements -> out: a scalar for each
    Counts as `foreach_norm`, without the root.
    Source: the definition.
    """
    return sum(
        tensor.numel() * (_power(tensor, order) + 1) - 1 for tensor in tensors if tensor.numel()
    )


def _power(tensor: Tensor, order: Any) -> int:
    """What one element costs before it is added: a square, a size, or a power of its size."""
    if order == 0:
        return real_parts(tensor)
    if order == 2:  # noqa: PLR2004 - a square needs no size
        return 3 if tensor.is_complex() else 1
    size = COMPLEX_PER_ELEMENT["abs"] if tensor.is_complex() else 1
    return size + (order not in _SIZES)
