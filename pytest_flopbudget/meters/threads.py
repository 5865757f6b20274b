"""Threads and pools that a region gives work to: they are counted like the region's own."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import thread as futures
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Final

from pytest_flopbudget.meters.detours import REGIONS, Detour

Joining = Callable[[], Callable[[], AbstractContextManager[object]]]
"""Called where work is handed over; returns what the thread does the work within."""
_Work = Callable[..., Any]
POOLS: Final = "multiprocessing.pool"
"""The module that is loaded where there is any `ThreadPool`."""


class ThreadSpread:
    """While its region is open, work that is given to another thread is done within it.

    Dispatch modes belong to one thread, so that each piece of work brings the counter
    along: the threads that are started meanwhile, and what is submitted meanwhile to a
    `ThreadPoolExecutor` or `ThreadPool`, also to one that was there before. A thread that
    was there before and fetches its work in another way is not reached.
    """

    def __init__(self, join: Joining) -> None:
        self._join = join
        self._waiting: weakref.WeakSet[Any] | None = None  # made when it is needed
        self._running: set[object] = set()

    @property
    def is_done(self) -> bool:
        """Whether all work that was handed over has been done."""
        return not self._waiting and not self._running

    def followed(self, work: _Work) -> _Work:
        """What is handed over in place of this work: the same within the region."""
        joined = self._join()
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = weakref.WeakSet()

        def followed(*args: Any, **kwargs: Any) -> Any:
            token = object()
            self._running.add(token)
            waiting.discard(followed)
            try:
                with joined():
                    return work(*args, **kwargs)
            finally:
                self._running.discard(token)

        waiting.add(followed)
        return followed


def _heard(work: _Work) -> _Work:
    # The innermost region is the last that began, and next to the work.
    for region in reversed(REGIONS.open):
        if region.is_here:
            work = region.threads.followed(work)
    return work


def _starting(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def start(thread: threading.Thread) -> Any:
        # Nothing public tells a thread that a pool keeps waiting from one that is started for
        # its work. Each piece of a pool's work brings the counter itself.
        target = getattr(thread, "_target", None)
        is_of_pool = target is not None and target is _worker_of_pools()
        if not is_of_pool and target is not futures._worker:
            # On this one thread: its class, and so every other thread, is left alone.
            vars(thread)["run"] = _heard(thread.run)
        return original(thread)

    return start


def _submitting(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def submit(pool: Any, fn: _Work, *args: Any, **kwargs: Any) -> Any:
        return original(pool, _heard(fn), *args, **kwargs)

    return submit


def _worker_of_pools() -> Any:
    """What the threads of a `ThreadPool` run; None where there can be none yet."""
    pools = sys.modules.get(POOLS)
    return None if pools is None else pools.worker


DETOURS: Final = (
    Detour(threading.Thread, "start", _starting),
    Detour(futures.ThreadPoolExecutor, "submit", _submitting),
)


def detours_of_pools() -> tuple[Detour, ...]:
    """Those into a `ThreadPool`, once `POOLS` is loaded."""
    pool = sys.modules[POOLS].ThreadPool
    names = ("apply_async", "_map_async", "imap", "imap_unordered")
    return tuple(Detour(pool, name, _submitting) for name in names)
