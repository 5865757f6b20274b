"""What `flopbudget doctor` tries on a machine, one check for each thing."""

from __future__ import annotations

import enum
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Final

from pytest_flopbudget.ab.noise import measure_noise
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.metrics import Dimension
from pytest_flopbudget.core.noise import detectable_growth
from pytest_flopbudget.core.quantity import format_quantity
from pytest_flopbudget.core.ratios import estimate
from pytest_flopbudget.core.series import TurnSeries
from pytest_flopbudget.core.settings import load_settings
from pytest_flopbudget.core.stopping import Rules
from pytest_flopbudget.core.witness import Witness
from pytest_flopbudget.meters.latency import LatencyTimer
from pytest_flopbudget.meters.machine import machine_facts, machines_here, usable_cores
from pytest_flopbudget.meters.resident import ResidentPeak
from pytest_flopbudget.session.lock import machine_lock

_OPTIONAL: Final = {
    "pytest-xdist": "tests run in one process",
    "github-action-utils": "annotations are written by the package's own code",
    "fvcore": "the comparison of counts with fvcore's is not run",
}
"""Distributions that nothing needs, and what is so without them."""
_PROBE_SHAPES: Final = (32, 48, 64)
_SHOWN: Final = (
    *("cpu", "cpu_flags", "cores", "cpu_quota", "governor", "ci", "runner", "blas", "onednn"),
    *("cpu_capability", "torch_threads", "torch_interop_threads", "gpu"),
)
"""Facts of the machine; that of the memory is told as settings write it."""
_POWER: Final = 0.9
"""How often a growth that is said to be resolved is found."""
_PAIRS: Final = (5, 10)
"""Of processes: as many as usually tell, and the most that are run."""


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
    numbers: Mapping[str, object] = field(default_factory=dict)
    """What was measured, in base units, for programs to read."""


def program_checks() -> list[Check]:
    """Python, what the meters need, the counter, and what is optional."""
    return [
        _ok("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
        _installed("pytest", State.FAULT, "not installed: there are no tests to measure"),
        _installed("torch", State.FAULT, "not installed: nothing can be counted"),
        _guarded("counter", _counter_check),
        *(_installed(name, State.ABSENT, f"not installed: {so}") for name, so in _OPTIONAL.items()),
    ]


def machine_checks(*, has_noise: bool) -> list[Check]:
    """What the machine offers, how fast it is and, if asked for, how quiet."""
    checks = [
        _guarded("machine", _facts_check),
        _guarded("mkldnn", _mkldnn_check),
        _guarded("cuda", _cuda_check),
        _guarded("cores", _cores_check),
        _guarded("allocator_peak", _allocator_check),
        _guarded("rss_peak", _resident_check),
        _clock_check(time.perf_counter),
        _guarded("roof", _roof_check),
    ]
    return [*checks, _guarded("noise", _noise_check)] if has_noise else checks


def _facts_check() -> Check:
    """What the machine is, in the words that `[tool.flopbudget.machines.*]` takes."""
    facts = machine_facts()
    shown = [f"{name} = {facts[name]}" for name in _SHOWN if name in facts]
    memory = facts.get("memory_bytes")
    if isinstance(memory, int):
        shown.append(f"memory = {format_quantity(memory, Dimension.BYTE)}")
    return _ok("machine", ", ".join(shown))


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
        return _ok(
            "cuda", f"{torch.cuda.get_device_name()}; what runs on it is timed by its own clock"
        )
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


def _roof_check() -> Check:
    """How fast one core multiplies matrices, and reads and writes memory."""
    from pytest_flopbudget.meters.roof import measure_roof

    with machine_lock():
        roof = measure_roof(threads=LatencyTimer().threads)
    rates = [_rate_words(name, rate) for name, rate in roof.rates.items()]
    rates += [f"{name} not ({why})" for name, why in roof.absent.items()]
    array = format_quantity(roof.array_bytes, Dimension.BYTE)
    cached = "" if roof.is_beyond_caches else ", which the caches may help"
    return Check(
        name="roof",
        state=State.OK,
        detail=f"matrix products on {roof.threads} thread: {', '.join(rates)}; memory "
        f"{format_quantity(roof.bandwidth, Dimension.BYTE)}/s (STREAM triad of {array} arrays"
        f"{cached})",
        numbers={
            "threads": roof.threads,
            "rates": dict(roof.rates),
            "absent": dict(roof.absent),
            "bandwidth": roof.bandwidth,
            "array_bytes": roof.array_bytes,
            "cache_bytes": roof.cache_bytes,
        },
    )


def _rate_words(dtype: str, rate: float) -> str:
    if dtype == "int8":  # whose operations are no FLOPs
        return f"{dtype} {format_quantity(rate, Dimension.OP)}/s"
    return f"{dtype} {format_quantity(rate, Dimension.FLOP_PER_SECOND)}"


def _noise_check() -> Check:
    with machine_lock():
        series = measure_noise()
    return noise_found(series)


def noise_found(series: tuple[TurnSeries, ...]) -> Check:
    """What pairs of processes that ran the same code say of the latencies of this machine."""
    rules = Rules(allowed=0.05)
    found = estimate(series, rules.confidence)
    resolved = {pairs: detectable_growth(found.noise, pairs, rules, _POWER) for pairs in _PAIRS}
    words = " and ".join(f"{growth:.1%} with {n} pairs" for n, growth in resolved.items())
    clock = "CPU" if found.witness is Witness.CPU else "wall"
    drifting = sum(not pair.is_steady for pair in series)
    unsteady = f"; {drifting} of them never settled" if drifting else ""
    return Check(
        name="noise",
        state=State.OK,
        detail=f"this runner can resolve latency changes of about {words} of processes "
        f"({rules.error:.0%} false alarms, {_POWER:.0%} found). "
        f"{found.pairs} pairs that ran the same {format_quantity(found.base_s, Dimension.SECOND)} "
        f"differed by {found.noise:.1%} in {clock} time{unsteady}",
        numbers={
            "pairs": found.pairs,
            "noise": found.noise,
            "clock": found.witness.value,
            "call_seconds": found.base_s,
            "resolves": {str(pairs): growth for pairs, growth in resolved.items()},
            "false_alarms": rules.error,
            "power": _POWER,
        },
    )


def settings_check(path: Path) -> Check:
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
