"""Random state that is left as it was found."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """A block after which Python's, NumPy's and torch's global generators are as before it.

    Libraries that are not imported when the block begins are left alone, and so are CUDA
    before its first use and generators that the code made itself.
    """
    with ExitStack() as restores:
        restores.callback(random.setstate, random.getstate())
        _preserve_numpy(restores.callback)
        _preserve_torch(restores.callback)
        yield


def _preserve_numpy(on_exit: Callable[..., object]) -> None:
    generators = sys.modules.get("numpy.random")
    if generators is not None:
        on_exit(generators.set_state, generators.get_state())


def _preserve_torch(on_exit: Callable[..., object]) -> None:
    torch = sys.modules.get("torch")
    if torch is None:
        return
    on_exit(torch.set_rng_state, torch.get_rng_state())
    # Asking CUDA for its state would initialise it.
    if torch.cuda.is_initialized():
        on_exit(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
