"""The environment that the workers of both sides start with."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

Allocator: TypeAlias = Literal["warm", "default"]

_MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
}
_FIXED: Final = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
_OTHER_ALLOCATORS: Final = ("jemalloc", "tcmalloc", "mimalloc")


def pinned(environ: Mapping[str, str], *, allocator: Allocator) -> dict[str, str]:
    """The variables that are set for either side, whatever the user's environment has.

    allocator: "default" leaves the C library's allocator as the user has it.
    """
    is_reached = platform.libc_ver()[0] == "glibc" and not _preloaded(environ)
    malloc = _MALLOC if allocator == "warm" and is_reached else {}
    return {**malloc, **_FIXED}


def environment_notes(environ: Mapping[str, str], *, allocator: Allocator) -> tuple[str, ...]:
    """What of the environment the pins do not reach, in sentences."""
    return tuple(
        f"LD_PRELOAD loads {name}, whose settings are the user's own"
        for name in _preloaded(environ)
        if allocator == "warm"
    )


def _preloaded(environ: Mapping[str, str]) -> list[str]:
    """Allocators that take the place of the C library's."""
    libraries = environ.get("LD_PRELOAD", "").replace(":", " ").split()
    names = [Path(library).name for library in libraries]
    return [name for name in names if any(other in name for other in _OTHER_ALLOCATORS)]


def import_path(directory: Path, environ: Mapping[str, str]) -> str:
    """A PYTHONPATH on which the tree's packages come first.

    The project is usually installed from the user's checkout (`pip install -e .`).
    Without this the base's tests would import, and measure, the code of the head.
    """
    inherited = environ.get("PYTHONPATH")
    first = [str(directory / "src"), str(directory)]
    return os.pathsep.join([*first, inherited] if inherited else first)
