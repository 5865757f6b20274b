"""The one core that both processes of a pair share, once they have started.

The two take turns at it. On two cores of a shared host one of them can be slower for as long
as the pair lives, as what shares its hardware is elsewhere: the system does not tell, and CPU
time counts it. On one core it slows both. While they import what they need, they may have all.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def core_of_pair(pair: int) -> int | None:
    """The core for both processes of this pair: of each pair, the next one that this process has.

    None where the system has no such setting.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return cores[pair % len(cores)]


def stay_on(core: int) -> None:
    """Run on this core alone: every thread of this process, and what they start from now on.

    Raises OSError where this process may not use it.
    """
    os.sched_setaffinity(0, {core})
    threads = Path("/proc/self/task")
    for thread in threads.iterdir() if threads.is_dir() else ():
        with contextlib.suppress(ProcessLookupError):  # that thread has ended by now
            os.sched_setaffinity(int(thread.name), {core})
