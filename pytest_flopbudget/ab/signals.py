"""An end on request that leaves nothing behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_REQUESTS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """A block that SIGTERM and SIGHUP end by an exception, as Ctrl-C does.

    By themselves they end a process on the spot, with its checkouts and workers left. The
    exception is SystemExit with the code that a shell gives for the signal. Requests after
    the first are no reason to stop cleaning up. A signal that is ignored or handled already
    stays so, and in a thread that gets no signals nothing is done.
    """
    is_main = threading.current_thread() is threading.main_thread()
    requests = [
        request for request in _REQUESTS if is_main and signal.getsignal(request) is signal.SIG_DFL
    ]

    def end(number: int, _frame: FrameType | None) -> None:
        for request in requests:
            signal.signal(request, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for request in requests:
        signal.signal(request, end)
    try:
        yield
    finally:
        for request in requests:
            signal.signal(request, signal.SIG_DFL)
