"""Say what can be measured on this machine, and what not and why."""

from __future__ import annotations

import argparse
import enum
import json
import platform
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Final

from pytest_flopbudget.cli.exits import Exit
from pytest_flopbudget.core import statistics
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.metrics import Dimension
from pytest_flopbudget.core.quantity import format_quantity
from pytest_flopbudget.core.settings import load_settings
from pytest_flopbudget.meters.latency import LatencyTimer
from pytest_flopbudget.meters.machine import machine_facts, machines_here, usable_cores
from pytest_flopbudget.meters.resident import ResidentPeak
from pytest_flopbudget.meters.versions import versions

_OPTIONAL: Final = {
    "pytest-xdist": "tests run in one process",
    "github-action-utils": "annotations are written by the package's own code",
    "fvcore": "the comparison of counts with fvcore's is not run",
}
"""Distributions that nothing needs, and what is so without them."""
_PROBE_SHAPES: Final = (32, 48, 64)
_NOISE_SERIES: Final = 5
_WIDTH: Final = 80
_INDENT: Final = 26


class State(enum.Enum):
    """What a check found."""

    OK = "ok"
    ABSENT = "no"
    """Not there; the detail says what follows from it."""
    FAULT = "fault"
    """Something that must work, and does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the doctor's answer."""

    name: str
    state: State
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--settings",
        type=Path,
        default=Path("pyproject.toml"),
        metavar="FILE",
        help="the settings file to check (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> Exit:
    """Print the checks. Exit.USAGE when one that must work does not, else Exit.WITHIN."""
    checks = [*_program_checks(), *_machine_checks(), _settings_check(args.settings)]
    sys.stdout.write(_as_json(checks) if args.json else _as_table(checks))
    has_fault = any(check.state is State.FAULT for check in checks)
    return Exit.USAGE if has_fault else Exit.WITHIN


def _program_checks() -> list[Check]:
    """Python, what the meters need, the counter, and what is optional."""
    return [
        _ok("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
        _installed("pytest", State.FAULT, "not installed: there are no tests to measure"),
        _installed("torch", State.FAULT, "not installed: nothing can be counted"),
        _guarded("counter", _counter_check),
        *(_installed(name, State.ABSENT, f"not installed: {so}") for name, so in _OPTIONAL.items()),
    ]


def _machine_checks() -> list[Check]:
    """What the machine offers, and how quiet it is."""
    return [
        _guarded("mkldnn", _mkldnn_check),
        _guarded("cuda", _cuda_check),
        _guarded("cores", _cores_check),
        _guarded("allocator_peak", _allocator_check),
        _guarded("rss_peak", _resident_check),
        _clock_check(time.perf_counter),
        _guarded("latency", lambda: _noise_check(_matmul_probe())),
    ]


def _counter_check() -> Check:
    """Whether the counter sees a matrix product as it was derived by hand."""
    import torch

    from pytest_flopbudget.meters.measure import measure

    rows, inner, columns = _PROBE_SHAPES
    counted = measure(torch.mm, torch.ones(rows, inner), torch.ones(inner, columns)).flops
    expected = 2 * rows * inner * columns
    product = f"[{rows},{inner}] @ [{inner},{columns}]"
    if counted != expected:
        return Check(
            name="counter",
            state=State.FAULT,
            detail=f"counts {counted} FLOP for {product}; it is {expected}",
        )
    return _ok("counter", f"{product} is {counted} FLOP, as derived by hand")


def _mkldnn_check() -> Check:
    import torch

    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own gap
        return _ok("mkldnn", "oneDNN runs CPU convolutions; counts are the same without it")
    return _absent("mkldnn", "this torch has no oneDNN; latencies differ from builds that have it")


def _cuda_check() -> Check:
    import torch

    if torch.cuda.is_available():
        return _ok("cuda", f"{torch.cuda.get_device_name()}; timed calls wait for the device")
    return _absent("cuda", "no CUDA device: counts are exact all the same, latency is the CPU's")


def _cores_check() -> Check:
    import torch

    return _ok(
        "cores",
        f"{usable_cores()} for this process; torch uses {torch.get_num_threads()} threads, "
        f"timed calls {LatencyTimer().threads}",
    )


def _allocator_check() -> Check:
    """Whether torch tells what its allocator hands out."""
    import torch

    from pytest_flopbudget.meters.allocator import AllocatorTrace

    rows = _PROBE_SHAPES[0]
    trace = AllocatorTrace()
    trace.start()
    torch.ones(rows, dtype=torch.float64)
    trace.stop()
    expected = 8 * rows
    if trace.peak is None:
        return _absent("allocator_peak", f"cannot be measured: {trace.why_absent}")
    if trace.peak != expected:
        return Check(
            name="allocator_peak",
            state=State.FAULT,
            detail=f"is {trace.peak} B for a tensor of {expected} B",
        )
    return _ok("allocator_peak", f"a tensor of {expected} B is seen as {expected} B handed out")


def _resident_check() -> Check:
    """Whether the process's high-water mark can be reset, and so be of one region."""
    resident = ResidentPeak()
    resident.start()
    resident.stop()
    if resident.peak is None:
        return _absent("rss_peak", f"cannot be measured: {resident.why_absent}")
    return _ok(
        "rss_peak",
        f"the mark can be reset; now it is {format_quantity(resident.peak, Dimension.BYTE)}",
    )


def _clock_check(clock: Callable[[], float]) -> Check:
    """The smallest step that the clock was seen to make."""
    readings = [clock() for _ in range(1000)]
    steps = [later - earlier for earlier, later in pairwise(readings) if later > earlier]
    if not steps:
        return _absent("clock", "did not move in 1000 readings: short calls read as zero")
    return _ok("clock", f"resolves {1e9 * min(steps):.0f} ns")


def _noise_check(probe: Callable[[], object]) -> Check:
    """How far apart the medians of a few series of the same call are, in this process."""
    # A target of zero makes every series use its time.
    timer = LatencyTimer(target=0.0, time_limit_s=0.3)
    series = [timer.measure(probe) for _ in range(_NOISE_SERIES)]
    medians = [samples.median for samples in series]
    widths = [(samples.high - samples.low) / 2 / samples.median for samples in series]
    return _ok(
        "latency",
        f"medians of {_NOISE_SERIES} series of one small matmul lie within "
        f"{max(medians) / min(medians) - 1:.1%} of each other, each known to "
        f"+-{statistics.median(widths):.1%}. Within this process: between processes expect more",
    )


def _matmul_probe() -> Callable[[], object]:
    import torch

    a = torch.ones(256, 256)
    return lambda: torch.mm(a, a)


def _settings_check(path: Path) -> Check:
    """Whether the settings are there and without mistakes."""
    if not path.is_file():
        return _absent("settings", f"{path} is not there: budgets come from markers alone")
    try:
        settings = load_settings(path, display=str(path))
    except FlopBudgetError as error:
        return Check(name="settings", state=State.FAULT, detail=str(error))
    matching = sorted(machines_here(settings.machines))
    here = f"this machine is {', '.join(matching)}" if matching else "this machine is none of them"
    return _ok(
        "settings",
        f"{path}: budgets {len(settings.budgets)}, machines {len(settings.machines)}"
        + (f"; {here}" if settings.machines else ""),
    )


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check's answer; whatever keeps it from one is the diagnosis."""
    try:
        return check()
    except Exception as error:
        detail = f"cannot be tried: {type(error).__name__}: {error}"
        return Check(name=name, state=State.FAULT, detail=detail)


def _installed(name: str, otherwise: State, consequence: str) -> Check:
    try:
        return _ok(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name=name, state=otherwise, detail=consequence)


def _ok(name: str, detail: str) -> Check:
    return Check(name=name, state=State.OK, detail=detail)


def _absent(name: str, detail: str) -> Check:
    return Check(name=name, state=State.ABSENT, detail=detail)


def _as_table(checks: Iterable[Check]) -> str:
    """One check a line, wrapped at 80 columns."""
    lines = [
        textwrap.fill(
            f"{check.state.value:<6}{check.name:<{_INDENT - 6}}{check.detail}",
            width=_WIDTH,
            subsequent_indent=" " * _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for check in checks
    ]
    return "\n".join(lines) + "\n"


def _as_json(checks: Iterable[Check]) -> str:
    answer = {
        "machine": machine_facts(),
        "versions": versions(),
        "checks": [
            {"name": check.name, "state": check.state.value, "detail": check.detail}
            for check in checks
        ],
    }
    return json.dumps(answer, indent=2) + "\n"
