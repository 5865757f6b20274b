"""Keeping torch's compiler out of a region, so that what is compiled is counted as written."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

_HOOK_WARNING: Final = (
    "ignore",
    re.compile("Using `torch.compile.module.` when there are global hooks on modules"),
    UserWarning,
    None,
    0,
)
"""torch warns of the counter's hooks on modules, which are no business of the code's."""


def written(module: nn.Module) -> nn.Module:
    """The module that was compiled, or the module itself."""
    return getattr(module, "_orig_mod", module) if is_compiled(module) else module


def is_compiled(module: nn.Module) -> bool:
    """Whether the module is what `torch.compile` wraps around another."""
    return type(module).__name__ == "OptimizedModule"


@contextmanager
def untraced() -> Iterator[None]:
    """A block that `torch.jit.trace`, where it listens, does not hear."""
    state: Any = torch._C._get_tracing_state()
    if state is None:
        yield
        return
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]  # torch leaves it undeclared
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]  # the same


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


class EagerRegion:
    """From `start` to `stop`, runs every `torch.compile`d callable without its compiled code.

    Compiled code fuses operators into kernels that no counter sees, and torch refuses to
    compile under a counter where the whole graph is asked for. The compiler is not
    imported for this: where it is not loaded yet, the first use of `torch.compile` in the
    region is waited for. Higher-order operators such as `scan` have the compiler turn their
    functions into graphs, which run operator by operator; they keep it.
    """

    def __init__(self) -> None:
        self._exits = ExitStack()

    def start(self) -> None:
        """Begin to run things as they are written."""
        warnings.filters.insert(0, _HOOK_WARNING)  # type: ignore[attr-defined]  # a list, not a sequence
        self._exits.callback(_remove, warnings.filters, _HOOK_WARNING)
        if "torch._dynamo.eval_frame" in sys.modules:
            self._force_eager()
            return
        original = torch.compile
        torch.compile = self._first_use_of(original)  # put back by stop
        self._exits.callback(setattr, torch, "compile", original)

    def stop(self) -> None:
        """Put things back."""
        self._exits.close()

    def _force_eager(self) -> None:
        self._exits.enter_context(torch.compiler.set_stance("force_eager"))
        import torch._higher_order_ops.utils as graphs

        original = getattr(graphs, "_hop_compile_and_call", None)
        if original is None:
            return  # a torch that does it in another way

        def with_compiler(*args: Any, **kwargs: Any) -> Any:
            with torch.compiler.set_stance("default"):
                return original(*args, **kwargs)

        graphs._hop_compile_and_call = with_compiler  # put back by stop
        self._exits.callback(setattr, graphs, "_hop_compile_and_call", original)

    def _first_use_of(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def compile_(*args: Any, **kwargs: Any) -> Any:
            torch.compile = original
            compiled = original(*args, **kwargs)
            self._force_eager()
            return compiled

        return compile_


def _remove(filters: Any, entry: Any) -> None:
    # Whoever replaced all filters meanwhile has taken ours with them.
    if entry in filters:
        filters.remove(entry)
