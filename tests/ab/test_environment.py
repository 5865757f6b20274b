"""What both sides' workers start with, and that it does what it is for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_flopbudget.ab.environment import (
    counterparts,
    environment_notes,
    import_path,
    pinned,
)

MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
}


def libc(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: (name, "2.31" if name else ""))


def malloc_of(pins: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in pins.items() if "MALLOC" in name or "GLIBC" in name}


def test_the_pins_are_the_same_whatever_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    libc(monkeypatch, "glibc")
    user_s = {"OMP_NUM_THREADS": "8", "PYTHONHASHSEED": "7", "MALLOC_ARENA_MAX": "4", "HOME": "/"}
    pins = pinned(user_s, allocator="warm")
    assert pins == pinned({}, allocator="warm")
    assert (pins["OMP_NUM_THREADS"], pins["PYTHONHASHSEED"]) == ("1", "0")
    assert malloc_of(pins) == MALLOC


def test_the_default_allocator_is_left_as_the_user_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    libc(monkeypatch, "glibc")
    user_s = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}
    pins = pinned(user_s, allocator="default")
    assert malloc_of(pins) == {}
    assert pins["PYTHONHASHSEED"] == "0"


@pytest.mark.parametrize("name", ["", "musl"])
def test_a_c_library_with_other_settings_gets_none_of_glibc_s(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    libc(monkeypatch, name)
    assert malloc_of(pinned({}, allocator="warm")) == {}


def test_a_preloaded_allocator_is_left_alone_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    libc(monkeypatch, "glibc")
    user_s = {"LD_PRELOAD": "/usr/lib/libtag.so:/usr/lib/libjemalloc.so.2 libtcmalloc_minimal.so"}
    assert malloc_of(pinned(user_s, allocator="warm")) == {}
    notes = environment_notes(user_s, allocator="warm")
    assert notes == tuple(
        f"LD_PRELOAD loads {name} in place of the C library's allocator: it is not pinned"
        for name in ("libjemalloc.so.2", "libtcmalloc_minimal.so")
    )
    assert environment_notes(user_s, allocator="default") == ()
    assert environment_notes({"LD_PRELOAD": "/x/libtag.so"}, allocator="warm") == ()
    assert malloc_of(pinned({"LD_PRELOAD": "/x/libtag.so"}, allocator="warm")) == MALLOC


@pytest.mark.parametrize(
    ("user_s", "left"),
    [
        ("glibc.malloc.arena_max=2", ""),
        ("glibc.malloc.tcache_count=0:glibc.malloc.top_pad=1", "glibc.malloc.tcache_count=0"),
    ],
)
def test_tunables_that_would_have_the_last_word_are_taken_out(
    monkeypatch: pytest.MonkeyPatch, user_s: str, left: str
) -> None:
    libc(monkeypatch, "glibc")
    assert pinned({"GLIBC_TUNABLES": user_s}, allocator="warm")["GLIBC_TUNABLES"] == left


def test_tunables_of_other_things_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    libc(monkeypatch, "glibc")
    user_s = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2:glibc.malloc.hugetlb=1"}
    assert malloc_of(pinned(user_s, allocator="warm")) == MALLOC


FAULTS = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def call(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
for size in (2**20, 320 * 2**20):
    call(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        call(size)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
@pytest.mark.parametrize("user_s", [{}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4096"}])
def test_memory_that_was_freed_is_not_faulted_in_again(user_s: dict[str, str]) -> None:
    environ = {**os.environ, **user_s}
    assert sum(faults({**environ, **pinned(environ, allocator="warm")})) < 16


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_control_without_the_pins_a_large_block_is_faulted_in_at_every_call() -> None:
    environ = {name: text for name, text in os.environ.items() if "MALLOC" not in name}
    # 320 MiB in pages of at most 64 KiB, four times.
    assert faults(environ)[1] >= 4 * 5 * 1024


def faults(environ: dict[str, str]) -> list[int]:
    """Page faults while 1 MiB, then 320 MiB, is allocated, written and freed four times more.

    The larger is more than the heap grows by at once.
    """
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=environ, capture_output=True, text=True, check=True
    )
    return [int(line) for line in done.stdout.split()]


def test_the_tree_comes_before_what_the_user_s_path_has(tmp_path: Path) -> None:
    inside = str(tmp_path)
    assert import_path(tmp_path, {}) == f"{inside}/src:{inside}"
    environ = {"PYTHONPATH": "/a:/b"}
    also = (tmp_path / "lib", tmp_path)
    assert import_path(tmp_path, environ, counterparts=also) == (
        f"{inside}/src:{inside}:{inside}/lib:/a:/b"
    )


def test_places_in_the_user_s_checkout_have_counterparts_where_the_tree_has_them(
    tmp_path: Path,
) -> None:
    user_s, root = tmp_path / "user", tmp_path / "tree"
    for place in ("lib", "gone", ".venv/lib/site-packages"):
        (user_s / place).mkdir(parents=True)
    (root / "lib").mkdir(parents=True)
    (tmp_path / "link").symlink_to(user_s)
    paths = ["", "/usr/lib/python3", f"{user_s}/lib", f"{tmp_path}/link/lib", f"{user_s}/gone"]
    paths += [f"{user_s}/.venv/lib/site-packages", f"{user_s}-two/lib", str(user_s)]
    assert counterparts(paths, [tmp_path / "link"], root) == (root / "lib", root)
    other = tmp_path / "other"
    both = [tmp_path / "link", other]
    assert counterparts([f"{other}/lib"], both, root) == (root / "lib",)
