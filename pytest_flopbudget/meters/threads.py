"""Threads that a region starts: their work is not counted yet, so it has to be told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

Witness = Callable[[Any, Any, Any], None]
"""Hears of an operator, with its arguments and keyword arguments."""


class ThreadWatch:
    """From `start` to `stop`, tells the witness of every operator of threads begun meanwhile.

    Dispatch modes belong to one thread, so that the counter itself sees nothing of
    another. Threads that were running before, such as those of a pool, are not watched.
    """

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._is_watching = False
        self._start: Any = None

    def start(self) -> None:
        """Begin to watch; every thread that is started from now on carries a mode."""
        self._is_watching = True
        self._start = original = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if self._is_watching:
                thread.run = self._watched(thread.run)  # type: ignore[method-assign]  # this one thread's alone
            original(thread)

        self._replacement = start
        threading.Thread.start = start  # type: ignore[method-assign,assignment]  # put back by stop

    def stop(self) -> None:
        """Tell no more, and put things back."""
        self._is_watching = False
        # Somebody else who replaced it meanwhile has ours inside; it does no harm there.
        if threading.Thread.start is self._replacement:
            threading.Thread.start = self._start  # type: ignore[method-assign]  # as it was

    def _watched(self, run: Callable[[], None]) -> Callable[[], None]:
        def watched() -> None:
            with _Told(self._tell):
                run()

        return watched

    def _tell(self, func: Any, args: Any, kwargs: Any) -> None:
        if self._is_watching:
            self._witness(func, args, kwargs)


class _Told(TorchDispatchMode):
    """Runs every operator as it is, and tells of it."""

    supports_higher_order_operators = True

    def __init__(self, tell: Witness) -> None:
        super().__init__()
        self._tell = tell

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        self._tell(func, args, kwargs)
        return func(*args, **kwargs)
