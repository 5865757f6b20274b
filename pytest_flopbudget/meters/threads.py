"""Threads and pools that a region gives work to: they are counted like the region's own."""

from __future__ import annotations

import multiprocessing.pool
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import thread as futures
from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from typing import Any, Final

Joining = Callable[[], Callable[[], AbstractContextManager[object]]]
"""Called where work is handed over; returns what the thread does the work within."""

_POOL_METHODS: Final = ("apply_async", "_map_async", "imap", "imap_unordered")


class ThreadSpread:
    """From `start` to `stop`, work that is given to another thread is done within the region.

    Dispatch modes belong to one thread, so that each piece of work brings the counter
    along: the threads that are started meanwhile, and what is submitted meanwhile to a
    `ThreadPoolExecutor` or `ThreadPool`, also to one that was there before. A thread that
    was there before and fetches its work in another way is not reached.
    """

    def __init__(self, join: Joining) -> None:
        self._join = join
        self._exits = ExitStack()
        self._waiting: weakref.WeakSet[Any] = weakref.WeakSet()
        self._running: set[object] = set()

    @property
    def is_done(self) -> bool:
        """Whether all work that was handed over has been done."""
        return not self._waiting and not self._running

    def start(self) -> None:
        """Begin to follow work into other threads."""
        self._replace(threading.Thread, "start", self._start)
        self._replace(futures.ThreadPoolExecutor, "submit", self._submit)
        for name in _POOL_METHODS:
            self._replace(multiprocessing.pool.ThreadPool, name, self._submit)

    def stop(self) -> None:
        """Follow no further, and put things back."""
        self._exits.close()

    def _replace(self, owner: Any, name: str, wrap: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        is_own = name in vars(owner)

        @wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            return wrap(original, *args, **kwargs)

        def restore() -> None:
            # Somebody else who replaced it meanwhile has ours inside, which stays harmless.
            if getattr(owner, name) is replacement:
                if is_own:
                    setattr(owner, name, original)
                else:
                    delattr(owner, name)

        setattr(owner, name, replacement)
        self._exits.callback(restore)

    def _start(self, original: Callable[..., Any], thread: threading.Thread) -> Any:
        # The workers of a pool wait for work, and each piece brings the counter itself.
        if getattr(thread, "_target", None) not in (futures._worker, multiprocessing.pool.worker):  # type: ignore[attr-defined]  # both are private
            thread.run = self._followed(thread.run)  # type: ignore[method-assign]  # this one thread's alone
        return original(thread)

    def _submit(
        self, original: Callable[..., Any], pool: Any, fn: Callable[..., Any], *args: Any, **kw: Any
    ) -> Any:
        return original(pool, self._followed(fn), *args, **kw)

    def _followed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        joined = self._join()

        def followed(*args: Any, **kwargs: Any) -> Any:
            token = object()
            self._running.add(token)
            self._waiting.discard(followed)
            try:
                with joined():
                    return work(*args, **kwargs)
            finally:
                self._running.discard(token)

        self._waiting.add(followed)
        return followed
