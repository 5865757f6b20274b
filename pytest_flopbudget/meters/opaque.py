"""Custom operators: whether their bodies can be looked into, and whether that shows all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pytest_flopbudget.meters.plans import has_kernel


def kernel_key(operator: Any, tensors: list[Tensor]) -> Any:
    """The dispatch key of the kernel that works on these tensors; None if there is none.

    Fake tensors have none: what runs for them tells shapes and does no work.
    """
    from torch._subclasses import FakeTensor

    if any(isinstance(tensor, FakeTensor) for tensor in tensors):
        return None
    devices = {tensor.device.type for tensor in tensors} or {"cpu"}
    device = devices.pop() if len(devices) == 1 else (devices - {"cpu"}).pop()
    keys = torch._C.DispatchKey
    for key in (getattr(keys, device.upper(), None), keys.CompositeExplicitAutograd):
        if key is not None and has_kernel(operator, key):
            return key
    return None


def is_python(operator: Any) -> bool:
    """Whether the operator's body is written in Python, so that all torch does in it is seen."""
    from torch._library.custom_ops import OPDEFS

    name = operator._schema.name
    if name in OPDEFS:
        return True
    namespace, _, plain = name.partition("::")
    overload = operator._schema.overload_name
    full = f"{namespace}/{plain}.{overload}" if overload else f"{namespace}/{plain}"
    return any(known.startswith(f"{full}/") for known in torch.library._impls)
