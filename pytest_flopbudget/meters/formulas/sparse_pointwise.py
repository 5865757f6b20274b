"""Element-wise operators on sparse tensors: their plain formulas, by the elements stored."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from torch import Tensor

from pytest_flopbudget.meters.formulas import arithmetic, pointwise
from pytest_flopbudget.meters.formulas.elementwise import SPARSE_LAYOUTS, real_parts
from pytest_flopbudget.meters.formulas.registry import Work, formula_for, sparse_formula

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


def _hides_what_it_stores(tensor: Tensor) -> bool:
    """Whether this is a fake sparse tensor: torch says that it stores nothing."""
    if not tensor.numel() or values_of(tensor).numel():
        return False
    from torch._subclasses import FakeTensor

    return tensor.is_meta or isinstance(tensor, FakeTensor)


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
    if rule is None or not sparse or any(map(_hides_what_it_stores, sparse)):
        return None
    return rule(*args, out=values_of(sparse[0]), **kwargs)


for _name in BY_STORED:
    sparse_formula(_name)(partial(by_stored, _name))


@sparse_formula("_coalesce")
def coalesce(x: Tensor, *, out: Tensor) -> int | None:
    """FLOPs of adding up the elements that a sparse tensor stores twice.

    x: [...] with n elements stored -> out: the same shape with m
    Counts n - m adds, two where it is complex.
    Source: the definition in the documentation of torch.Tensor.coalesce, without sorting.
    """
    if _hides_what_it_stores(x):
        return None
    return (values_of(x).numel() - values_of(out).numel()) * real_parts(x)
