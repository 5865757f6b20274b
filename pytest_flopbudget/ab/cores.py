"""The one core that both workers of a pair share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_core(pair: int) -> Iterator[bool]:
    """A block whose new processes may run on one core alone; of each pair, on the next one.

    Gives whether that is so: it does nothing where the system has no such setting.

    The two take turns at it. On two cores of a shared host one of them can be slower for as
    long as the pair lives, as what shares its hardware is elsewhere: the system does not tell,
    and CPU time counts it. On one core it slows both.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield False
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[pair % len(cores)]})
    try:
        yield True
    finally:
        os.sched_setaffinity(0, cores)
