"""Facts about the machine that must match before latencies are compared."""

from __future__ import annotations

import math
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pytest_flopbudget.core.settings import MachinePattern
from pytest_flopbudget.meters.versions import versions

_CI_PROVIDERS: Final = {
    "GITHUB_ACTIONS": "github",
    "GITLAB_CI": "gitlab",
    "CIRCLECI": "circleci",
    "BUILDKITE": "buildkite",
    "TF_BUILD": "azure",
    "JENKINS_URL": "jenkins",
}
_UNLIMITED: Final = 2**60
"""Version 1 control groups write a number near 2^63 for no limit."""
_KERNEL_FLAGS: Final = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
"""Linux's names of the instruction sets that BLAS, oneDNN and torch choose their kernels by:
first those of x86, then those of ARM, where `asimd` is NEON."""


def machine_facts(
    root: Path = Path("/"), environ: Mapping[str, str] = os.environ
) -> dict[str, object]:
    """What this process may use, without starting another one.

    `cpu` (model name), `cpu_flags` (those that decide which kernels run), `cores` and
    `memory_bytes` (what the scheduler and the control group leave of the machine's),
    `cpu_quota` (in cores) and `memory_limit_bytes` where a control group limits them,
    `governor`, `system`, `arch`; what torch was built with and uses, once it is imported;
    `ci` and `runner` where the environment tells them. What cannot be found out is left out.
    """
    facts: dict[str, object] = {
        "cpu": _cpu_model(root) or platform.machine(),
        "cpu_flags": _cpu_flags(root) or None,
        "cores": usable_cores(root),
        "cpu_quota": min(_cpu_quotas(root), default=None),
        "memory_bytes": machine_memory_bytes(root),
        "memory_limit_bytes": min(_memory_limits(root), default=None),
        "governor": _governor(root) or None,
        "system": platform.system(),
        "arch": platform.machine(),
        "ci": next((ci for name, ci in _CI_PROVIDERS.items() if environ.get(name)), None),
        "runner": environ.get("RUNNER_NAME") or environ.get("CI_RUNNER_DESCRIPTION"),
        **_torch_facts(),
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def matching_machines(
    facts: Mapping[str, object], patterns: Mapping[str, MachinePattern]
) -> frozenset[str]:
    """Names of the machines whose pattern a machine with these facts matches."""
    return frozenset(name for name, pattern in patterns.items() if pattern.matches(facts))


def machines_here(patterns: Mapping[str, MachinePattern]) -> frozenset[str]:
    """Names of the machines in the settings that this one counts as.

    Imports torch, and takes up the GPU, where a pattern asks for what only they can tell.
    """
    wanted = patterns.values()
    if any(pattern.asks_torch for pattern in wanted):
        import torch

        if any(pattern.gpu for pattern in wanted) and torch.cuda.is_available():
            torch.cuda.init()
    return matching_machines({**versions(), **machine_facts()}, patterns)


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy: its affinity, cut by the group's CPU quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min([cores, *(max(1, math.ceil(quota)) for quota in _cpu_quotas(root))])


def machine_memory_bytes(root: Path = Path("/")) -> int | None:
    """The smallest of the machine's memory and the limits of the groups above this process."""
    return min((*_memory_sizes(root), *_memory_limits(root)), default=None)


def last_level_cache_bytes(root: Path = Path("/")) -> int | None:
    """The size of the largest cache that the first processor has, or shares."""
    sizes = []
    for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        # The kernel writes all of them in KiB.
        amount = _text(path).strip().removesuffix("K")
        if amount.isdigit():
            sizes.append(1024 * int(amount))
    return max(sizes, default=None)


def _torch_facts() -> dict[str, object]:
    """What decides which kernels torch runs, and on how many threads; nothing without torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    facts = {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_threads": torch.get_num_threads(),
        "torch_interop_threads": torch.get_num_interop_threads(),
        **math_libraries(torch.__config__.show()),
    }
    if torch.cuda.is_initialized():
        # Asking for the name would otherwise take the device's memory for this process.
        facts |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return facts


def math_libraries(config: str) -> dict[str, str]:
    """The BLAS and the oneDNN that torch was built with, as `torch.__config__.show()` tells.

    Such as `{"blas": "mkl 2024.2", "onednn": "3.12.0"}`. Of a BLAS other than MKL only the
    name is told.
    """
    found = {}
    blas = re.search(r"\bBLAS_INFO=(\w+)", config)
    mkl = re.search(r"Math Kernel Library Version (\d[\d.]*)", config)
    if blas is not None:
        is_mkl = blas[1] == "mkl" and mkl is not None
        found["blas"] = f"mkl {mkl[1]}" if mkl is not None and is_mkl else blas[1]
    onednn = re.search(r"MKL-DNN v(\d[\d.]*)", config)
    if onednn is not None:
        found["onednn"] = onednn[1]
    return found


def _cpu_model(root: Path) -> str | None:
    """The name that the kernel gives the processor; on ARM, which has none, its identity."""
    info = _cpu_info(root)
    name = info.get("model name")
    if name is None and "CPU implementer" in info:
        name = f"ARM {info['CPU implementer']} {info.get('CPU part', '')}"
    return None if name is None else " ".join(name.split())


def _cpu_flags(root: Path) -> str:
    """The instruction sets of the processor that numerical kernels ask for, in a fixed order."""
    info = _cpu_info(root)
    flags = info.get("flags", info.get("Features", "")).split()
    return " ".join(flag for flag in _KERNEL_FLAGS if flag in flags)


def _cpu_info(root: Path) -> dict[str, str]:
    """What the kernel tells of the first processor."""
    first, _, _ = _text(root / "proc/cpuinfo").partition("\n\n")
    lines = [line.partition(":") for line in first.splitlines()]
    return {key.strip(): value.strip() for key, _, value in lines}


def _governor(root: Path) -> str:
    """How the processors' clock is set; several where they are not all set alike."""
    policies = (root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_governor")
    return " ".join(sorted({_text(path).strip() for path in policies} - {""}))


def _memory_sizes(root: Path) -> Iterator[int]:
    """The machine's memory in bytes."""
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            yield 1024 * int(line.split()[1])


def _memory_limits(root: Path) -> Iterator[int]:
    """The limits in bytes of the groups above this process that have one."""
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _text(group / name).strip()
            if limit.isdigit() and int(limit) < _UNLIMITED:
                yield int(limit)


def _cpu_quotas(root: Path) -> Iterator[float]:
    """CPU time per time, for each group above this process that limits it."""
    for group in _groups(root, "cpu"):
        quota, _, period = _text(group / "cpu.max").strip().partition(" ")
        if not period:
            quota = _text(group / "cpu.cfs_quota_us").strip()
            period = _text(group / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The control group of this process and those above it, in either version's layout.

    Inside a container the path that the kernel tells may not exist; its mount point does.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        inside = Path(path.lstrip("/"))
        yield from (mount / part for part in (inside, *inside.parents))


def _text(path: Path) -> str:
    """What the file holds, or nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
