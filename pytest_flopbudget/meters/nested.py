"""Strided nested tensors: a call costs what it costs on the components, one by one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flopbudget.meters.traffic import tensors_in


def count_parts(
    mode: AbstractContextManager[object], operator: Any, args: Any, kwargs: Any
) -> bool:
    """Make the call on each component under a counting mode; false where it cannot be made.

    It is made on tensors without data: of each nested argument a component, as a batch of
    one, of the others the whole. No result of it is kept.
    """
    try:
        with _disable_current_modes():
            for component in range(_components((*args, *kwargs.values()))):
                parts = _replaced((args, kwargs), _shape_of(component))
                with mode:
                    operator(*parts[0], **parts[1])
    except (NotImplementedError, RuntimeError, TypeError):
        return False
    return True


def _components(values: Any) -> int:
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
