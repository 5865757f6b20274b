"""The environment that the workers of both sides start with."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

Allocator: TypeAlias = Literal["warm", "default"]
"""Whether memory that was freed stays with the process, or what the user has set for it."""

_MALLOC: Final = {
    # Large blocks come from the heap as well. By default a block of 128 KiB or more may be
    # mapped anew at every call, or not, as the process's first blocks happened to be freed:
    # that alone made fresh processes of the same code differ by 50 %. MALLOC_MMAP_THRESHOLD_
    # would do too, but glibc 2.33 takes no more than 32 MiB there, and says nothing.
    "MALLOC_MMAP_MAX_": "0",
    # The heap's free end is not given back (16 GiB), else each call faults its pages in again.
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    # The heap grows in steps of 256 MiB, so that it has grown by the end of the warm-up.
    "MALLOC_TOP_PAD_": "268435456",
    # One heap: which of several a thread gets is a race.
    "MALLOC_ARENA_MAX": "1",
}
"""glibc's settings: "Malloc Tunable Parameters" in its manual, and mallopt(3)."""
_TUNABLES: Final = ("mmap_max", "mmap_threshold", "trim_threshold", "top_pad", "arena_max")
"""The same in GLIBC_TUNABLES, which has the last word."""
_FIXED: Final = {
    # The order of sets and of what is built from them is the same in every process.
    "PYTHONHASHSEED": "0",
    # One thread: two workers side by side have a core each at best, and with several threads
    # neither the time per call nor the CPU time of a process is steady.
    "OMP_NUM_THREADS": "1",  # OpenMP: torch's own loops, and MKL's and oneDNN's
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's and SciPy's wheels
    "BLIS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",  # Apple's Accelerate
    "RAYON_NUM_THREADS": "1",  # Rust's: tokenizers, polars
}
_OTHER_ALLOCATORS: Final = ("jemalloc", "tcmalloc", "mimalloc")


def pinned(environ: Mapping[str, str], *, allocator: Allocator) -> dict[str, str]:
    """The variables that are set for either side, whatever the user has set them to.

    environ: the user's.
    allocator: "default" leaves the C library's as the user has it. It is left as well where
    it is not glibc's, and where another one is preloaded in its place.
    """
    pins = dict(_FIXED)
    if allocator == "warm" and platform.libc_ver()[0] == "glibc" and not _preloaded(environ):
        pins |= _MALLOC
        tunables = environ.get("GLIBC_TUNABLES", "").split(":")
        kept = [tunable for tunable in tunables if not _is_pinned(tunable)]
        if kept != tunables:
            pins["GLIBC_TUNABLES"] = ":".join(kept)
    return pins


def environment_notes(environ: Mapping[str, str], *, allocator: Allocator) -> tuple[str, ...]:
    """What of the environment `pinned` cannot reach, in sentences."""
    if allocator == "default":
        return ()
    return tuple(
        f"LD_PRELOAD loads {name} in place of the C library's allocator: it is not pinned"
        for name in _preloaded(environ)
    )


def import_path(
    directory: Path, environ: Mapping[str, str], *, counterparts: Sequence[Path] = ()
) -> str:
    """A PYTHONPATH on which the tree's packages come first.

    The project is usually installed from the user's checkout (`pip install -e .`).
    Without this the base's tests would import, and measure, the code of the head.
    directory: where the project is in the tree.
    counterparts: more places in the tree, as from `counterparts`.
    """
    inherited = environ.get("PYTHONPATH")
    first = dict.fromkeys(str(path) for path in (directory / "src", directory, *counterparts))
    return os.pathsep.join([*first, inherited] if inherited else first)


def counterparts(paths: Sequence[str], checkouts: Sequence[Path], root: Path) -> tuple[Path, ...]:
    """What stands in the tree for the places in the user's checkouts that are imported from.

    paths: `sys.path` of a process with the user's installation, to which an editable install
    adds the directory of its packages, wherever in the repository that is.
    checkouts: the tops of the user's checkouts, as from `trees.checkouts`.
    root: the top of the tree.
    """
    tops = [top.resolve() for top in checkouts]
    inside = [
        path.relative_to(top)
        for path in (Path(text).resolve() for text in paths if text)
        for top in tops
        if path.is_relative_to(top)
    ]
    # What git does not track, such as a virtual environment, has no counterpart.
    return tuple(dict.fromkeys(root / path for path in inside if (root / path).is_dir()))


def _preloaded(environ: Mapping[str, str]) -> list[str]:
    """The libraries that take the place of the C library's allocator."""
    libraries = environ.get("LD_PRELOAD", "").replace(":", " ").split()
    names = [Path(library).name for library in libraries]
    return [name for name in names if any(other in name for other in _OTHER_ALLOCATORS)]


def _is_pinned(tunable: str) -> bool:
    return tunable.partition("=")[0] in {f"glibc.malloc.{name}" for name in _TUNABLES}
