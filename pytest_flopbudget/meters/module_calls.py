"""Telling the open regions of every call of a module, and of what is registered in one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock, get_ident
from types import MethodType
from typing import Any, Final, Protocol

import torch
from torch import nn
from torch.nn.modules import module as registry

from pytest_flopbudget.meters.detours import REGIONS, Detour

_current_node: Final[Any] = torch._C._current_autograd_node
_REGISTRIES: Final = (
    registry._global_parameter_registration_hooks,
    registry._global_buffer_registration_hooks,
    registry._global_module_registration_hooks,
)
_KEY: Final = -1
"""Of our hooks in the registries: torch numbers its own from zero."""


class Listener(Protocol):
    """What is told of every call of a module on one thread."""

    def begin(self, module: nn.Module) -> None:
        """A call begins."""

    def end(self, module: nn.Module) -> None:
        """It is over, also when it raised."""


class _Both:
    """The listeners of two regions, of which one is within the other."""

    def __init__(self, outer: Listener, inner: Listener) -> None:
        self.outer = outer
        self.inner = inner

    def begin(self, module: nn.Module) -> None:
        self.outer.begin(module)
        self.inner.begin(module)

    def end(self, module: nn.Module) -> None:
        self.inner.end(module)
        self.outer.end(module)


_LISTENERS: Final[dict[int, Listener]] = {}
"""By thread."""
_lock: Final = Lock()
"""To be held while they change: a region ends for its other threads too."""


def listen(thread: int, listener: Listener) -> None:
    """Tell a listener of the calls on a thread, beside those that hear of them already."""
    with _lock:
        outer = _LISTENERS.get(thread)
        _LISTENERS[thread] = listener if outer is None else _Both(outer, listener)


def unlisten(thread: int, listener: Listener) -> None:
    """Tell it no more."""
    with _lock:
        known = _LISTENERS.pop(thread, None)
        if known is not listener and (left := _without(known, listener)) is not None:
            _LISTENERS[thread] = left


def _without(known: Listener | None, listener: Listener) -> Listener | None:
    if not isinstance(known, _Both):
        return None if known is listener else known
    outer, inner = _without(known.outer, listener), _without(known.inner, listener)
    return _Both(outer, inner) if outer is not None and inner is not None else outer or inner


def _calling(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around every call of a module.

    It is no hook: where there is any, torch takes a slower way through each call, at several
    times the cost.
    """

    @wraps(original)
    def _call_impl(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        listener = _LISTENERS.get(get_ident()) or _listener_of_none()
        if listener is None:
            return original(module, *args, **kwargs)
        listener.begin(module)
        try:
            return original(module, *args, **kwargs) if kwargs else original(module, *args)
        finally:
            listener.end(module)

    return _call_impl


def _listener_of_none() -> Listener | None:
    """That of a thread which has none: in a backward pass, of those that wait for it."""
    if _current_node() is None:
        return None
    listener: Listener | None = None
    for region in REGIONS.open:
        main: Listener = region.paths.main
        listener = main if listener is None else _Both(listener, main)
    return listener


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
