"""Facts about the machine that must match before latencies are compared."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pytest_flopbudget.core.settings import MachinePattern

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


def machine_facts(
    root: Path = Path("/"), environ: Mapping[str, str] = os.environ
) -> dict[str, object]:
    """What this process may use, without starting another one.

    `cpu` (model name), `cores` and `memory_bytes` (what the scheduler and the control group
    leave of the machine's), `system`, `arch`; `torch_threads` and `cpu_capability` once torch
    is imported; `ci` and `runner` where the environment tells them. What cannot be found
    out is left out.
    """
    facts: dict[str, object] = {
        "cpu": _cpu_model(root) or platform.machine(),
        "cores": usable_cores(root),
        "memory_bytes": _memory_bytes(root),
        "system": platform.system(),
        "arch": platform.machine(),
        "ci": next((ci for name, ci in _CI_PROVIDERS.items() if environ.get(name)), None),
        "runner": environ.get("RUNNER_NAME") or environ.get("CI_RUNNER_DESCRIPTION"),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["torch_threads"] = torch.get_num_threads()
        facts["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    return {name: fact for name, fact in facts.items() if fact is not None}


def matching_machines(
    facts: Mapping[str, object], patterns: Mapping[str, MachinePattern]
) -> frozenset[str]:
    """Names of the machines in the settings that this one counts as."""
    return frozenset(name for name, pattern in patterns.items() if pattern.matches(facts))


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy: its affinity, cut by the group's CPU quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min([cores, *(max(1, math.ceil(quota)) for quota in _cpu_quotas(root))])


def _cpu_model(root: Path) -> str | None:
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return " ".join(value.split())
    return None


def _memory_bytes(root: Path) -> int | None:
    """The smallest of the machine's memory and the limits of the groups above this process."""
    sizes = [
        1024 * int(line.split()[1])
        for line in _text(root / "proc/meminfo").splitlines()
        if line.startswith("MemTotal:")
    ]
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _text(group / name).strip()
            if limit.isdigit() and int(limit) < _UNLIMITED:
                sizes.append(int(limit))
    return min(sizes, default=None)


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
