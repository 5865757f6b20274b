"""Operators that call functions: run in such a way that what those call is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

_WHOLE: Final = frozenset(
    {
        "associative_scan",
        "auto_functionalized",
        "auto_functionalized_v2",
        "flex_attention",
        "flex_attention_backward",
        "map_impl",
        "out_dtype",
        "run_and_save_rng_state",
        "run_with_rng_state",
        "while_loop",
        "while_loop_stack_output",
        "with_effects",
    }
)
"""Those whose own kernel calls ordinary operators, and may be run under the counter."""


def kernel_of(operator: Any) -> Callable[..., Any] | None:
    """What does the operator's work by calling operators; None where nothing is known to.

    It is to be called under the counter. Kernels that refuse to run under any mode are
    replaced by what they do.
    """
    name = operator.name() if callable(getattr(operator, "name", None)) else str(operator)
    ours = _OURS.get(name)
    if ours is not None:
        return ours
    kernels: dict[Any, Callable[..., Any]] = getattr(operator, "py_kernels", {})
    if name in _WHOLE:
        return kernels.get(torch._C.DispatchKey.CompositeExplicitAutograd)
    if isinstance(operator, _base_hop()):
        return _subgraph
    return None


def _base_hop() -> type:
    from torch._higher_order_ops.base_hop import BaseHOP

    return BaseHOP


def _subgraph(subgraph: Callable[..., Any], *operands: Any, **_: Any) -> Any:
    return subgraph(*operands)


def _cond(predicate: Any, true_fn: Any, false_fn: Any, operands: Any) -> Any:
    return (true_fn if predicate else false_fn)(*operands)


def _scan(combine_fn: Any, init: Any, xs: Any, additional_inputs: Any) -> Any:
    from torch._higher_order_ops.scan import generic_scan

    return generic_scan(combine_fn, init, xs, additional_inputs=additional_inputs)


def _invoke_subgraph(subgraph: Any, _identifier: Any, *operands: Any) -> Any:
    if getattr(subgraph, "_boxed_call", False):
        return subgraph(list(operands))
    return subgraph(*operands)


def _strict_mode(function: Callable[..., Any], operands: Any) -> Any:
    return function(*operands)


_OURS: Final[dict[str, Callable[..., Any]]] = {
    "cond": _cond,
    "scan": _scan,
    "invoke_subgraph": _invoke_subgraph,
    "strict_mode": _strict_mode,
}
