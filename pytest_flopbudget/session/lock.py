"""One timed test at a time on the whole machine, however many workers run."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pytest_flopbudget.core.errors import LockError

_INSIDE: Final = threading.RLock()
"""Keeps the threads of this process apart, which the system's lock does not."""
_held: set[Path] = set()
"""Lock files of this process: whoever closes one of them a second time would lose the lock."""


@contextmanager
def machine_lock(folder: Path | None = None) -> Iterator[None]:
    """A block that no other process of this user is in at the same time.

    folder: where the lock's file is; the system's for temporary files if not given. In two
    containers that share no such folder nothing is shared. Within a block of the same
    thread another one is entered at once.

    The system gives the lock back when its holder dies, even if processes that the holder
    forked live on: it is a record lock of POSIX, which belongs to one process alone. Raises
    LockError where the file cannot be had, or is not this user's own.
    """
    path = (folder or Path(tempfile.gettempdir())) / f"pytest-flopbudget-{os.getuid()}.lock"
    with _INSIDE:
        if path in _held:
            yield
            return
        file = _opened(path)
        _held.add(path)
        try:
            _wait_for(file, path)
            yield
        finally:
            _held.discard(path)
            os.close(file)


def _opened(path: Path) -> int:
    """The file, which must be a plain one of this user's: a folder of all may hold traps."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o600)
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from error
    found = os.fstat(file)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
        return file
    os.close(file)
    raise _refusal(path, "it is not a file of this user's")


def _wait_for(file: int, path: Path) -> None:
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX)
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from error


def _refusal(path: Path, why: str) -> LockError:
    return LockError(
        f"{path}: cannot be locked, so that timed tests might overlap: {why}; "
        "remove it, or set TMPDIR to a folder of this user's"
    )
