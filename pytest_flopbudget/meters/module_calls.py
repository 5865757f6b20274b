"""Telling the open regions of every call of a module, and of what is registered in one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import get_ident
from types import MethodType
from typing import Any, Final

from torch import nn
from torch.nn.modules import module as registry

from pytest_flopbudget.meters.detours import REGIONS, Detour

_REGISTRIES: Final = (
    registry._global_parameter_registration_hooks,
    registry._global_buffer_registration_hooks,
    registry._global_module_registration_hooks,
)
_KEY: Final = -1
"""Of our hooks in the registries: torch numbers its own from zero."""


def _calling(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around every call of a module.

    It is no hook: where there is any, torch takes a slower way through each call, at several
    times the cost.
    """

    @wraps(original)
    def _call_impl(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        regions = REGIONS.open
        if len(regions) != 1:
            return _call_in_all(regions, original, module, args, kwargs)
        paths = regions[0].paths
        stack = paths.stacks.get(get_ident()) or paths.stack_of_none()
        if stack is None:
            return original(module, *args, **kwargs)
        stack.begin(module)
        try:
            return original(module, *args, **kwargs)
        finally:
            stack.end(module)

    return _call_impl


def _call_in_all(
    regions: tuple[Any, ...],
    original: Callable[..., Any],
    module: nn.Module,
    args: Any,
    kwargs: Any,
) -> Any:
    """The same where one region is within another, or none is left open."""
    every = [
        region.paths.stacks.get(get_ident()) or region.paths.stack_of_none() for region in regions
    ]
    stacks = [stack for stack in every if stack is not None]
    for stack in stacks:
        stack.begin(module)
    try:
        return original(module, *args, **kwargs)
    finally:
        for stack in reversed(stacks):
            stack.end(module)


class _Registrations:
    """Hooks on what is registered in any module."""

    def replace(self) -> None:
        for hooks in _REGISTRIES:
            hooks[_KEY] = _registered

    def restore(self) -> None:
        for hooks in _REGISTRIES:
            hooks.pop(_KEY, None)


def _registered(_module: nn.Module, _name: str, _value: Any) -> None:
    for region in REGIONS.open:
        region.paths.registered()


class _Uncompiled:
    """Hides what `module.compile()` keeps: its call is to go the way that is listened on.

    The compiler is off in a region, so that what is compiled would run as it is written anyway.
    A data descriptor, as those are asked before the module's own attributes.
    """

    def __get__(self, module: nn.Module | None, owner: type) -> Any:
        return None

    def __set__(self, module: nn.Module, value: Any) -> None:
        vars(module)["_compiled_call_impl"] = value

    def __delete__(self, module: nn.Module) -> None:
        vars(module).pop("_compiled_call_impl", None)


_CALL: Final = Detour(nn.Module, "_call_impl", _calling)
DETOURS: Final = (_CALL, _Registrations())


def detours_of_compiled() -> tuple[Detour, ...]:
    """Those that are needed only where the compiler is loaded: it is what keeps something there."""
    from torch._dynamo import utils

    # By what it found as it was loaded, it knows whether torch's method is as torch has it.
    name = "unpatched_nn_module_call_impl"
    if hasattr(utils, name):
        setattr(utils, name, without_us(getattr(utils, name)))
    return (Detour(nn.Module, "_compiled_call_impl", lambda _none: _Uncompiled()),)


def without_us(function: Any) -> Any:
    """The method that ours is around, bound to the same module; any other function as it is."""
    if isinstance(function, MethodType):
        return MethodType(without_us(function.__func__), function.__self__)
    return _CALL.original if function is _CALL.replacement else function
