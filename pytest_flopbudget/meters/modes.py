"""Dispatch modes of ours: what they share, taking them off, and looking without being heard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode

_set_tracing_state: Final[Any] = vars(torch._C)["_set_tracing_state"]
# Looked up once, as is torch's key: a region ends with cold caches, and asks these as it does.
_is_included: Final = torch._C._dispatch_tls_is_dispatch_key_included
_depth: Final = torch._C._len_torch_dispatch_stack
_at: Final = torch._C._get_dispatch_stack_at
_PYTHON: Final = torch._C.DispatchKey.Python
_is_excluded: Final = torch._C._dispatch_tls_is_dispatch_key_excluded
_set_excluded: Final = torch._C._dispatch_tls_set_dispatch_key_excluded
_VIEWS: Final = torch._C.DispatchKey.ADInplaceOrView


class EagerMode(TorchDispatchMode):
    """A dispatch mode of ours, as torch's compiler is to take it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would wrap each call to keep its compiler out, at a microsecond each; the
        # compiler is off while a region is counted.
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """True: torch is to take this mode off while its compiler traces."""
        # Where the compiler does run, for a higher-order operator, its tracing is no work
        # of the region's; what it has traced then runs under the mode.
        return True


def take_off(mode: EagerMode) -> bool:
    """Take a mode off this thread's stack of them, also where others were entered after it.

    Returns whether it was there, and heard of operators. Who leaves something of torch's in the
    region that was entered before it takes the mode off, or with `inference_mode` its hearing.
    """
    is_heard = _is_included(_PYTHON)
    above: list[Any] = []
    while (top := _top()) is not mode and top is not None:
        above.append(_pop_mode())
    if top is mode:
        try:
            mode.__exit__(None, None, None)
        except IndexError:  # an interrupt came after torch had begun to take it off
            _pop_mode()
    for other in reversed(above):
        _push_mode(other)
    return top is mode and is_heard


@contextmanager
def aside() -> Iterator[None]:
    """A block in which no mode of ours hears of this thread's operators."""
    taken: list[Any] = []
    while (top := _top()) is not None:
        taken.append(top)
        _pop_mode()
    others = [mode for mode in taken if not isinstance(mode, EagerMode)]
    for mode in reversed(others):
        _push_mode(mode)
    try:
        yield
    finally:
        for _ in others:
            _pop_mode()
        for mode in reversed(taken):
            _push_mode(mode)


def _top() -> Any:
    """The mode that hears first of this thread's operators; None if there are only torch's own."""
    depth = _depth()
    top: Any = _at(depth - 1) if depth else None
    return top if getattr(top, "_mode_key", None) is None else None


@contextmanager
def unheard() -> Iterator[None]:
    """A block that nobody hears of what calls functions of torch and asks tensors.

    Neither `torch.jit.trace`, nor a `TorchFunctionMode`, nor a tensor's class of its own.
    """
    state: Any = torch._C._get_tracing_state()
    with torch._C.DisableTorchFunction():
        if state is None:
            yield
            return
        _set_tracing_state(None)
        try:
            yield
        finally:
            _set_tracing_state(state)


@contextmanager
def views_noted() -> Iterator[None]:
    """A block in which views are noted as such, as in `inference_mode` without a mode.

    torch calls a mode with all that comes before modes turned off. There a view of a weight does
    not know that the weight needs a gradient, which is what `linear` chooses its products by.
    """
    if not (torch.is_inference_mode_enabled() and _is_excluded(_VIEWS)):
        yield
        return
    _set_excluded(_VIEWS, False)
    try:
        yield
    finally:
        _set_excluded(_VIEWS, True)
