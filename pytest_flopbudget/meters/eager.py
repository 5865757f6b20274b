"""Keeping torch's compiler out of a region, so that what is compiled is counted as written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from threading import get_ident
from typing import Any, Final, TypeVar

import torch
from torch import nn

from pytest_flopbudget.meters.detours import REGIONS, Detour, those_there
from pytest_flopbudget.meters.modes import aside

COMPILED: Final = "OptimizedModule"
"""The class of what `torch.compile` wraps around a module."""
COMPILER: Final = "torch._dynamo"
"""The package that is loaded where anything was compiled."""
SHARDING: Final = "torch.distributed.tensor._sharding_prop"
"""The module that is loaded where tensors are spread over devices."""
_FRAMES: Final[Any] = torch._C._dynamo.eval_frame
"""What hands frames to the compiler; it is there also where that is not loaded."""
_F = TypeVar("_F", bound=Callable[..., Any])


def written(module: nn.Module) -> nn.Module:
    """The module that was compiled, or the module itself."""
    is_compiled = type(module).__name__ == COMPILED
    return getattr(module, "_orig_mod", module) if is_compiled else module


def uncompiled(function: _F) -> _F:
    """A function of ours that torch's compiler neither traces nor compiles, nor what it calls."""
    return _skipped(function, "SKIP")


def uncompiled_here(function: _F) -> _F:
    """The same, but what it calls is left to `pause` and `resume`."""
    return _skipped(function, "DEFAULT")


def _skipped(function: _F, what_it_calls: str) -> _F:
    marked: Any = function
    marked._torchdynamo_disable = True
    marked._torchdynamo_disable_msg = "it counts what runs"
    if hasattr(_FRAMES, "set_code_exec_strategy"):  # another torch may do it in another way
        actions = _FRAMES._FrameAction
        strategy = _FRAMES._FrameExecStrategy(actions.SKIP, getattr(actions, what_it_calls))
        _FRAMES.set_code_exec_strategy(marked.__code__, strategy)
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


class _Stance:
    """torch's setting of its compiler, by which that is off on the threads that a region counts.

    Compiled code fuses operators into kernels that no counter sees, and torch refuses to
    compile under a counter where the whole graph is asked for. So what is compiled runs as it is
    written. Other threads go on as ever; `set_stance`, which is public, would be for all of them.
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


def detours_of_compiler() -> tuple[Detour, ...]:
    """Those in torch's compiler, once `COMPILER` is loaded."""
    compiler = sys.modules[COMPILER]
    return those_there(
        (compiler.eval_frame, "_stance", _Stance),
        (torch._higher_order_ops.utils, "_hop_compile_and_call", _with_compiler),
        # What torch.export calls has no other modes taken off.
        (compiler.convert_frame, "trace_frame", _on_trial),
    )


def detours_of_sharding() -> tuple[Detour, ...]:
    """Those into tensors that are spread over devices, once `SHARDING` is loaded."""
    propagator = sys.modules[SHARDING].ShardingPropagator
    return those_there((propagator, "_propagate_tensor_meta_non_cached", _on_trial))
