"""Telling the open regions of every call of a module, and of what is registered in one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from threading import RLock, get_ident
from types import FunctionType
from typing import Any, Final, Protocol

import torch
from torch import nn
from torch.nn.modules import module as registry

from pytest_flopbudget.meters.detours import REGIONS

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


LISTENERS: Final[dict[int, Listener]] = {}
"""By thread."""
this_thread: Final = get_ident
_lock: Final = RLock()
"""To be held while they change: a region ends for its other threads too."""


def listen(thread: int, listener: Listener) -> None:
    """Tell a listener of the calls on a thread, beside those that hear of them already."""
    with _lock:
        outer = LISTENERS.get(thread)
        LISTENERS[thread] = listener if outer is None else _Both(outer, listener)


def unlisten(thread: int, listener: Listener) -> None:
    """Tell it no more."""
    with _lock:
        known = LISTENERS.pop(thread, None)
        if known is not listener and (left := _without(known, listener)) is not None:
            LISTENERS[thread] = left


def _without(known: Listener | None, listener: Listener) -> Listener | None:
    if not isinstance(known, _Both):
        return None if known is listener else known
    outer, inner = _without(known.outer, listener), _without(known.inner, listener)
    return _Both(outer, inner) if outer is not None and inner is not None else outer or inner


def _call_impl(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Whose code stands for that of torch's method of this name."""
    here: Any = "this module"  # is put here, as the code runs with torch's globals
    listener = here.LISTENERS.get(here.this_thread()) or here.listener_of_none()
    if listener is None:
        return here.CALL.original(module, *args, **kwargs)
    listener.begin(module)
    try:
        if kwargs:
            return here.CALL.original(module, *args, **kwargs)
        return here.CALL.original(module, *args)
    finally:
        listener.end(module)


def listener_of_none() -> Listener | None:
    """The listener of a thread which has none: in a backward pass, of those that wait for it."""
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


class _Call:
    """The code of torch's method around each call of a module, which is ours for a while.

    It is no hook: where there is any, torch takes a slower way through each call, at several
    times the cost. Nor is another method put into the class: CPython would forget what it knows of
    all the subclasses, and who holds the method, as `module.compile()` has the compiler do, would
    go on with the one that tells nobody.
    """

    def __init__(self) -> None:
        self._found: Any = None
        """What was in the class when it was looked at last."""
        self._function: Any = None
        self._code: Any = None
        self._ours: Any = None
        self.original: Callable[..., Any] = nn.Module._call_impl
        """What the method does by itself."""

    def replace(self) -> None:
        found = vars(nn.Module)["_call_impl"]
        if found is self._found and self._function.__code__ is self._ours:
            return  # what an interrupted region has left
        if found is not self._found or self._function.__code__ is not self._code:
            self._look(found)
        self._function.__code__ = self._ours

    def restore(self) -> None:
        if self._function is not None and self._function.__code__ is self._ours:
            self._function.__code__ = self._code

    def _look(self, found: Any) -> None:
        """Find the function in what is in the class: others put their own around it."""
        function: Any = inspect.unwrap(found)
        code = function.__code__
        copy = FunctionType(
            code,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        self._found, self._function, self._code, self.original = found, function, code, copy
        ours = _call_impl.__code__
        here = sys.modules[__name__]
        self._ours = ours.replace(
            co_consts=tuple(here if value == "this module" else value for value in ours.co_consts),
            # A function takes no code with another number of variables that it closes over.
            co_freevars=code.co_freevars,
        )


CALL: Final = _Call()
DETOURS: Final = (CALL,)
REGISTRATIONS: Final = (_Registrations(),)
"""Only where it matters what a module owns."""
