"""Threads and pools that a region gives work to: they are counted like the region's own."""

from __future__ import annotations

import multiprocessing.pool
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import thread as futures
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Final

Joining = Callable[[], Callable[[], AbstractContextManager[object]]]
"""Called where work is handed over; returns what the thread does the work within."""
_Work = Callable[..., Any]
# Nothing public tells a thread that a pool keeps waiting from one that is started for its work.
_POOL_WORKERS: Final = (futures._worker, multiprocessing.pool.worker)  # type: ignore[attr-defined]  # the stubs leave out what is private to the pools


class ThreadSpread:
    """From `start` to `stop`, work that is given to another thread is done within the region.

    Dispatch modes belong to one thread, so that each piece of work brings the counter
    along: the threads that are started meanwhile, and what is submitted meanwhile to a
    `ThreadPoolExecutor` or `ThreadPool`, also to one that was there before. A thread that
    was there before and fetches its work in another way is not reached.
    """

    def __init__(self, join: Joining) -> None:
        self._join = join
        self._waiting: weakref.WeakSet[Any] = weakref.WeakSet()
        self._running: set[object] = set()

    @property
    def is_done(self) -> bool:
        """Whether all work that was handed over has been done."""
        return not self._waiting and not self._running

    def start(self) -> None:
        """Begin to follow work into other threads."""
        _HANDOVERS.hear(self._followed)

    def stop(self) -> None:
        """Follow no further, and put things back."""
        _HANDOVERS.forget(self._followed)

    def _followed(self, work: _Work) -> _Work:
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


class _Handovers:
    """The ways to give work to a thread, which ask those who listen what to do in its place."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[_Work], _Work]] = []
        self._lock = threading.Lock()
        self._ways = [
            _Way(threading.Thread, "start", self._starting),
            _Way(futures.ThreadPoolExecutor, "submit", self._submitting),
            *(
                _Way(multiprocessing.pool.ThreadPool, name, self._submitting)
                for name in ("apply_async", "_map_async", "imap", "imap_unordered")
            ),
        ]

    def hear(self, listener: Callable[[_Work], _Work]) -> None:
        with self._lock:
            if not self._listeners:
                for way in self._ways:
                    way.replace()
            self._listeners.append(listener)

    def forget(self, listener: Callable[[_Work], _Work]) -> None:
        with self._lock:
            self._listeners.remove(listener)
            if not self._listeners:
                for way in self._ways:
                    way.restore()

    def _heard(self, work: _Work) -> _Work:
        # The innermost region is the last that began, and next to the work.
        for listener in reversed(self._listeners):
            work = listener(work)
        return work

    def _starting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def start(thread: threading.Thread) -> Any:
            # The workers of a pool wait for work, and each piece brings the counter itself.
            if getattr(thread, "_target", None) not in _POOL_WORKERS:
                # On this one thread: its class, and so every other thread, is left alone.
                run = self._heard(thread.run)
                thread.run = run  # type: ignore[method-assign]  # wrapping it is how the counter follows
            return original(thread)

        return start

    def _submitting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def submit(pool: Any, fn: _Work, *args: Any, **kwargs: Any) -> Any:
            return original(pool, self._heard(fn), *args, **kwargs)

        return submit


class _Way:
    """One method of a class, and what is put in its place: made once, as regions are many."""

    def __init__(
        self, owner: Any, name: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        self._owner = owner
        self._name = name
        self._around = around
        self._original: Any = None
        self._replacement: Any = None
        self._is_own = False

    def replace(self) -> None:
        original = getattr(self._owner, self._name)
        if original is not self._original:
            self._original, self._replacement = original, self._around(original)
        self._is_own = self._name in vars(self._owner)
        setattr(self._owner, self._name, self._replacement)

    def restore(self) -> None:
        # Somebody else who replaced it meanwhile has ours inside, which hands the work on.
        if getattr(self._owner, self._name) is self._replacement:
            if self._is_own:
                setattr(self._owner, self._name, self._original)
            else:
                delattr(self._owner, self._name)


_HANDOVERS: Final = _Handovers()
