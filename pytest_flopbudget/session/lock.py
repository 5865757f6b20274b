"""One timed test at a time on the whole machine, however many workers run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def machine_lock(folder: Path | None = None) -> Iterator[None]:
    """A block that no other process of this user is in at the same time.

    The system gives the lock back when its holder dies, so a killed worker blocks nobody.
    """
    import fcntl

    user = os.getuid()
    path = (folder or Path(tempfile.gettempdir())) / f"pytest-flopbudget-{user}.lock"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
