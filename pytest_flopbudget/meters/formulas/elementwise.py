"""What element-wise formulas share: the elements that they work on, and complex operands."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import torch
from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Formula

SPARSE_LAYOUTS: Final = frozenset(
    {torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}
)


def is_complex(value: Any) -> bool:
    """Whether an operand is complex: a tensor by its dtype, a Python number by its type."""
    return value.is_complex() if isinstance(value, Tensor) else isinstance(value, complex)


def has_complex(args: tuple[Any, ...], out: Any) -> bool:
    """Whether any operand or result is complex."""
    return any(is_complex(value) for value in args) or any(
        is_complex(value) for value in (out if isinstance(out, tuple | list) else (out,))
    )


def real_parts(tensor: Tensor) -> int:
    """Real numbers in one element: two when it is complex."""
    return 2 if tensor.is_complex() else 1


def result_numel(out: Any) -> int:
    """Elements that an element-wise operator works on: those of its first result."""
    first = out if isinstance(out, Tensor) else out[0]
    return int(first.numel())


def per_element(count: Callable[..., int | None], *, takes_complex: bool = False) -> Formula:
    """A formula from the cost of one element of the result, given the arguments.

    count: called with the operator's arguments; None where it cannot say.
    takes_complex: whether it looks for complex operands itself. Otherwise those are
    not counted; torch runs none of these operators on them.
    """

    @wraps(count)
    def rule(*args: Any, out: Any, **kwargs: Any) -> int | None:
        if not takes_complex and has_complex(args, out):
            return None
        cost = count(*args, **kwargs)
        return None if cost is None else cost * result_numel(out)

    return rule
