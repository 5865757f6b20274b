"""Keeping torch's compiler out of a region, so that what is compiled is counted as written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import get_ident
from typing import Any, Final, TypeVar, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode

from pytest_flopbudget.meters.detours import REGIONS, Detour

COMPILED: Final = "OptimizedModule"
"""The class of what `torch.compile` wraps around a module."""
COMPILER: Final = "torch._dynamo.eval_frame"
"""The module that is loaded where anything was compiled."""
SHARDING: Final = "torch.distributed.tensor._sharding_prop"
"""The module that is loaded where tensors are spread over devices."""
_FRAMES: Final[Any] = torch._C._dynamo.eval_frame
"""What hands frames to the compiler; it is there also where that is not loaded."""
_F = TypeVar("_F", bound=Callable[..., Any])


def written(module: nn.Module) -> nn.Module:
    """The module that was compiled, or the module itself."""
    is_compiled = type(module).__name__ == COMPILED
    return getattr(module, "_orig_mod", module) if is_compiled else module


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
        torch._C._set_tracing_state(None)  # type: ignore[attr-defined]  # torch leaves it undeclared
        try:
            yield
        finally:
            torch._C._set_tracing_state(state)  # type: ignore[attr-defined]  # the same


def uncompiled(function: _F) -> _F:
    """A function of ours that torch's compiler is to call as it is, neither traced nor compiled.

    What it calls is not either, unless the function itself decides about that.
    """
    marked: Any = function
    marked._torchdynamo_disable = True
    marked._torchdynamo_disable_msg = "it counts what runs"
    skip = _FRAMES._FrameAction.SKIP
    _FRAMES.set_code_exec_strategy(marked.__code__, _FRAMES._FrameExecStrategy(skip, skip))
    return function


def uncompiled_here(function: _F) -> _F:
    """The same, but what it calls is left to `pause` and `resume`."""
    uncompiled(function)
    skip, default = _FRAMES._FrameAction.SKIP, _FRAMES._FrameAction.DEFAULT
    strategy = _FRAMES._FrameExecStrategy(skip, default)
    _FRAMES.set_code_exec_strategy(cast("Any", function).__code__, strategy)
    return function


@uncompiled_here
def pause() -> Any:
    """Have nothing more compiled that this thread runs, where compiled code has called it.

    Returns what is to be given to `resume`.
    """
    callback = _FRAMES.get_eval_frame_callback()
    return _FRAMES.set_eval_frame(None) if callback else None


@uncompiled_here
def resume(callback: Any) -> None:
    """Let it be compiled again."""
    if callback is not None:
        _FRAMES.set_eval_frame(callback)


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


def take_off(mode: EagerMode) -> None:
    """Take a mode off this thread's stack of them, also where others were entered after it."""
    above: list[Any] = []
    while (top := _top()) is not None:
        if top is mode:
            try:
                mode.__exit__(None, None, None)
            except (
                IndexError
            ):  # what torch's own has to put back was taken up when it was interrupted
                _pop_mode()
            break
        above.append(_pop_mode())
    for other in reversed(above):
        _push_mode(other)


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
    depth = torch._C._len_torch_dispatch_stack()
    top: Any = torch._C._get_dispatch_stack_at(depth - 1) if depth else None
    return top if getattr(top, "_mode_key", None) is None else None


class _Stance:
    """torch's setting of its compiler, by which that is off on the threads that a region counts.

    Compiled code fuses operators into kernels that no counter sees, and torch refuses to
    compile under a counter where the whole graph is asked for. So what is compiled runs as it is
    written. The compiler is not imported for this: where it is not loaded yet, the first use of
    `torch.compile` in the region is waited for. Other threads go on as ever; `set_stance`, which is
    public, would be for all of them.
    """

    def __init__(self, original: Any) -> None:
        self._original = original

    @property
    def stance(self) -> Any:
        """The one field that is asked whether to compile."""
        is_off = get_ident() not in _COMPILING and REGIONS.here()
        return "force_eager" if is_off else self._original.stance

    def __getattr__(self, name: str) -> Any:
        """Any other field."""
        return getattr(self._original, name)


_COMPILING: Final[set[int]] = set()
"""Threads on which torch compiles the functions of a higher-order operator.

Those such as `scan` have the compiler turn their functions into graphs, which then run operator
by operator.
"""


def _compiling(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around `torch.compile`, whose first use loads the compiler."""

    @wraps(original)
    def compile_(model: Any = None, *args: Any, **kwargs: Any) -> Any:
        compiled = original(model, *args, **kwargs)
        REGIONS.look()
        return compiled

    return compile_


def _on_trial(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around what calls operators on fake tensors for what they would return: that is no work."""

    @wraps(original)
    def propagate(*args: Any, **kwargs: Any) -> Any:
        if not REGIONS.here():
            return original(*args, **kwargs)
        with aside():
            return original(*args, **kwargs)

    return propagate


def _with_compiler(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around what higher-order operators have the compiler do."""

    def compile_and_call(*args: Any, **kwargs: Any) -> Any:
        thread = get_ident()
        if thread in _COMPILING:
            return original(*args, **kwargs)
        _COMPILING.add(thread)
        try:
            return original(*args, **kwargs)
        finally:
            _COMPILING.discard(thread)

    return compile_and_call


DETOURS: Final = (Detour(torch, "compile", _compiling),)


def detours_of_compiler() -> tuple[Detour, ...]:
    """Those in torch's compiler, once `COMPILER` is loaded."""
    import torch._higher_order_ops.utils as graphs
    from torch._dynamo import convert_frame, eval_frame

    known = (
        (eval_frame, "_stance", _Stance),
        (graphs, "_hop_compile_and_call", _with_compiler),
        # What torch.export calls has no other modes taken off.
        (convert_frame, "trace_frame", _on_trial),
    )
    return _those_there(*known)


def detours_of_sharding() -> tuple[Detour, ...]:
    """Those into tensors that are spread over devices, once `SHARDING` is loaded."""
    from torch.distributed.tensor._sharding_prop import ShardingPropagator

    return _those_there((ShardingPropagator, "_propagate_tensor_meta_non_cached", _on_trial))


def _those_there(*known: tuple[Any, str, Callable[[Any], Any]]) -> tuple[Detour, ...]:
    """Detours of the attributes that there are: another torch may do it in another way."""
    return tuple(Detour(*each) for each in known if each[1] in vars(each[0]))
