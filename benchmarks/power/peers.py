"""One repetition of what others do: a run of the base, then one of the head, and compare."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from power.cases import FOLDER, Case, environ
from pytest_flopbudget.ab.environment import pinned

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""What helps every peer: two threads on two cores make processes differ even more."""

PLAIN = ("-q", "-p", "no:cacheprovider", "-p", "no:flopbudget")


def environments() -> dict[str, dict[str, str]]:
    """What is set for the peers: as users run them, and as our workers run."""
    return {"default": ONE_THREAD, "pinned": pinned({}, allocator="warm")}


def tool() -> str:
    """What measures."""
    try:
        return f"pytest-benchmark {metadata.version('pytest-benchmark')}"
    except metadata.PackageNotFoundError:
        return "own rounds in the manner of pytest-benchmark, which is not installed"


def repeat_peers(cases: Sequence[Case], seconds: float, pins: Mapping[str, str]) -> dict[str, Any]:
    """Minimum and mean of every case on both sides, each side in one fresh process.

    seconds: how long each test is timed.
    """
    started_s = time.monotonic()
    sides = {side: _run(side, cases, seconds, pins) for side in ("base", "head")}
    return {
        "tool": tool(),
        "asked_s": seconds,
        "seconds": time.monotonic() - started_s,
        "tests": {
            case.name: {
                f"{side}_{field}": stats[case.name][field]
                for side, stats in sides.items()
                for field in ("min", "mean", "total")
            }
            for case in cases
        },
    }


def _run(
    side: str, cases: Sequence[Case], seconds: float, pins: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """The statistics of each case, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rounds.json")
        given = (f"--benchmark-json={path}", f"--benchmark-max-time={seconds}")
        command = [sys.executable, "-m", "pytest", *PLAIN, *given, "test_rounds.py"]
        subprocess.run(
            command, cwd=FOLDER, env=environ(side, cases, pins), check=True, capture_output=True
        )
        found = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    return {entry["name"].partition("[")[2].removesuffix("]"): entry["stats"] for entry in found}
