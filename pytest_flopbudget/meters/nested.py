"""Strided nested tensors: a call costs what it costs on the components, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from pytest_flopbudget.meters.counting import CountingMode


def counted(operator: Any, args: Any, kwargs: Any) -> CountingMode | None:
    """A mode that has counted the call on each component; None where that cannot be done.

    The call is made on tensors without data: of each nested argument a component, as a
    batch of one, of the others the whole. No result of it is kept.
    """
    from pytest_flopbudget.meters.counting import CountingMode
    from pytest_flopbudget.meters.modules import CallStack

    mode = CountingMode(CallStack("", lambda _node: ""))
    try:
        with _disable_current_modes():
            for component in range(_components((*args, *kwargs.values()))):
                parts = _replaced((args, kwargs), _shape_of(component))
                with mode:
                    operator(*parts[0], **parts[1])
    except (NotImplementedError, RuntimeError, TypeError):
        return None
    return mode


def _components(values: Any) -> int:
    from pytest_flopbudget.meters.traffic import tensors_in

    return max(
        tensor._nested_tensor_size().shape[0] for tensor in tensors_in(values) if tensor.is_nested
    )


def _shape_of(component: int) -> Callable[[Tensor], Tensor]:
    def shape(tensor: Tensor) -> Tensor:
        if tensor.is_nested:
            sizes = tensor._nested_tensor_size()[component].tolist()
            return torch.empty((1, *sizes), dtype=tensor.dtype, device="meta")
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

    return shape


def _replaced(value: Any, shape: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return shape(value)
    if isinstance(value, dict):
        return {key: _replaced(item, shape) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, shape) for item in value)
    return value
