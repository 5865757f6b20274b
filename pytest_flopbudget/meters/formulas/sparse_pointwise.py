"""Element-wise operators on sparse tensors: their plain formulas, by the elements stored."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas import arithmetic, pointwise
from pytest_flopbudget.meters.formulas.elementwise import SPARSE_LAYOUTS
from pytest_flopbudget.meters.formulas.registry import Work, formula_for, sparse_formula
from pytest_flopbudget.meters.formulas.sparse import hides_what_it_stores

assert arithmetic  # noqa: S101 - importing it is what registers its formulas

BY_STORED: Final = (
    *pointwise.PER_ELEMENT,
    *pointwise.PER_ELEMENT_WITHOUT_OPTIONS,
    "nan_to_num",
)
"""Operators that have the same formula for every element, stored or not."""


def values_of(tensor: Tensor) -> Tensor:
    """The elements that a sparse tensor stores, zeros among them; of a dense one, all."""
    if tensor.layout not in SPARSE_LAYOUTS:
        return tensor
    return tensor._values() if tensor.is_sparse else tensor.values()


def by_stored(name: str, *args: Any, out: Any, **kwargs: Any) -> Work | int | None:
    """FLOPs of an element-wise operator on sparse tensors.

    args: broadcast to the shape of out, any shape.
    Counts as the plain operator, for each element that the result stores; where the
    result is dense, such as the sum of a sparse and a dense tensor, for each that the
    sparse operand stores.
    Source: the definition, without the search for matching indices. A fake sparse tensor
    does not say what it stores, and is not counted.
    """
    rule = formula_for(f"aten::{name}")
    sparse = [
        value
        for value in (out, *args)
        if isinstance(value, Tensor) and value.layout in SPARSE_LAYOUTS
    ]
    if rule is None or not sparse or any(map(hides_what_it_stores, sparse)):
        return None
    return rule(*args, out=values_of(sparse[0]), **kwargs)


for _name in BY_STORED:
    sparse_formula(_name)(partial(by_stored, _name))
