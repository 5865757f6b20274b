"""Telling a region of compiled code that runs in it and does not show its operators."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import torch

from pytest_flopbudget.meters.detours import REGIONS, Detour, those_there
from pytest_flopbudget.meters.traffic import tensors_in

RUNTIME: Final = "torch._functorch._aot_autograd.runtime_wrappers"
"""The module that is loaded where anything was compiled with its backward."""
KERNELS: Final = "torch._inductor.output_code"
"""The module that is loaded where torch's own compiler has compiled anything."""
PACKAGES: Final = "torch.export.pt2_archive._package"
"""The module that is loaded where there is a program that was compiled ahead of time."""
_COMPILER: Final = "torch._inductor"
COMPILED: Final = "code that was compiled before the region"
FUSED: Final = ("prim::oneDNNFusionGroup", "prim::TensorExprGroup", "prim::FusionGroup")
"""What stands in a script's graph in place of operators that were fused into one kernel."""


def _running(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around what runs compiled code: in a region that is the backward of an earlier forward.

    Backends may run the operators one by one, which are then seen.
    """

    def run(function: Any, args: Any, *rest: Any, **options: Any) -> Any:
        tensors = tensors_in(args)  # before it is called, as it may take them away
        is_torchs = str(getattr(function, "__module__", "")).startswith(_COMPILER)
        regions = [] if is_torchs else REGIONS.here()  # torch's own tells of itself
        before = [region.operators_here for region in regions]
        result = original(function, args, *rest, **options)
        for region, operators in zip(regions, before, strict=True):
            if region.operators_here == operators:
                region.note_hidden(COMPILED, tensors)
        return result

    return run


def _fused(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around what torch's own compiler has made: only what it calls torch for is seen."""

    def call(graph: Any, args: Any) -> Any:
        tensors = tensors_in(args)
        result = original(graph, args)
        for region in REGIONS.here():
            region.note_hidden(COMPILED, tensors)
        return result

    return call


def _loaded(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around a call of a program that was compiled ahead of time."""

    def call(program: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(program, *args, **kwargs)
        for region in REGIONS.here():
            region.note_hidden(COMPILED, tensors_in((*args, *kwargs.values())))
        return result

    return call


def _calling(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around a call of a script from Python."""

    def call(script: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(script, *args, **kwargs)
        graph: Any = torch._C._last_executed_optimized_graph()
        for kind in FUSED if graph is not None else ():
            if graph.findNode(kind, True) is not None:
                for region in REGIONS.here():
                    region.note_hidden(kind, tensors_in((*args, *kwargs.values())))
        return result

    return call


_FUSERS: Final = [
    getattr(torch._C, name)
    for name in ("_jit_llga_enabled", "_jit_can_fuse_on_cpu", "_jit_can_fuse_on_gpu")
    if hasattr(torch._C, name) and (torch.backends.cuda.is_built() or "gpu" not in name)
]
"""What tells whether scripts may have kernels made for them; another torch may not have all."""


class _Scripts:
    """Detours around scripts, in place where what they call may be fused."""

    def __init__(self) -> None:
        kinds = torch._C.ScriptFunction, torch._C.ScriptMethod
        self._detours = tuple(Detour(kind, "__call__", _calling) for kind in kinds)
        self._in_place: tuple[Detour, ...] = ()

    def replace(self) -> None:
        self._in_place = ()
        for may_fuse in _FUSERS:
            if may_fuse():
                self._in_place = self._detours
                break
        for detour in self._in_place:
            detour.replace()

    def restore(self) -> None:
        for detour in self._in_place:
            detour.restore()


DETOURS: Final = (_Scripts(),)


def detours_of_runtime() -> tuple[Detour, ...]:
    """Those into what runs compiled code, once `RUNTIME` is loaded."""
    return those_there((sys.modules[RUNTIME], "call_func_at_runtime_with_args", _running))


def detours_of_kernels() -> tuple[Detour, ...]:
    """Those into what torch's own compiler has made, once `KERNELS` is loaded."""
    return those_there((sys.modules[KERNELS].CompiledFxGraph, "__call__", _fused))


def detours_of_packages() -> tuple[Detour, ...]:
    """Those into programs that were compiled ahead of time, once `PACKAGES` is loaded."""
    return those_there((sys.modules[PACKAGES].AOTICompiledModel, "__call__", _loaded))
