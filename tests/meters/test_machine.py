"""Machine facts, from trees of files as kernels and control groups lay them out."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from pytest_flopbudget.core.settings import MachinePattern
from pytest_flopbudget.meters.machine import machine_facts, matching_machines, usable_cores
from pytest_flopbudget.meters.versions import versions

GIB = 2**30


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)


def test_the_cpu_model_and_the_memory_come_from_proc(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC  7763 64-Core Processor\n",
            "proc/meminfo": "MemTotal:       16777216 kB\nMemFree:        1 kB\n",
        },
    )
    facts = machine_facts(root, {})
    assert facts["cpu"] == "AMD EPYC 7763 64-Core Processor"
    assert facts["memory_bytes"] == 16 * GIB
    assert facts["cores"] == 8


def test_what_cannot_be_found_out_is_left_out(tmp_path: Path) -> None:
    facts = machine_facts(tmp_path, {})
    assert "memory_bytes" not in facts
    assert "ci" not in facts
    assert "runner" not in facts


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("400000 100000", 4),
        ("250000 100000", 3),
        ("50000 100000", 1),
        ("1600000 100000", 8),
    ],
)
def test_a_quota_of_the_control_group_cuts_the_cores(
    tmp_path: Path, limit: str, cores: int
) -> None:
    root = _write(
        tmp_path,
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": f"{limit}\n"},
    )
    assert usable_cores(root) == cores


def test_the_narrowest_group_on_the_way_up_decides(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "proc/meminfo": "MemTotal: 16777216 kB\n",
            "sys/fs/cgroup/a/b/cpu.max": "600000 100000\n",
            "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/memory.max": f"{2 * GIB}\n",
        },
    )
    assert usable_cores(root) == 2
    assert machine_facts(root, {})["memory_bytes"] == 2 * GIB


def test_version_1_groups_are_read_too(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/box\n2:cpu,cpuacct:/box\n1:name=systemd:/\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert usable_cores(root) == 3
    assert "memory_bytes" not in machine_facts(root, {})


@pytest.mark.parametrize(
    ("environ", "ci", "runner"),
    [
        (
            {"GITHUB_ACTIONS": "true", "RUNNER_NAME": "GitHub Actions 7"},
            "github",
            "GitHub Actions 7",
        ),
        ({"GITLAB_CI": "true", "CI_RUNNER_DESCRIPTION": "big"}, "gitlab", "big"),
    ],
)
def test_the_environment_tells_the_ci_and_its_runner(
    tmp_path: Path, environ: dict[str, str], ci: str, runner: str
) -> None:
    facts = machine_facts(tmp_path, environ)
    assert (facts["ci"], facts["runner"]) == (ci, runner)


def test_facts_and_versions_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "system", refuse)
    assert machine_facts()["cores"] in range(1, 9)
    assert versions()["python"].startswith("3.")


def test_torch_is_asked_only_when_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert machine_facts()["torch_threads"] == torch.get_num_threads()
    monkeypatch.delitem(sys.modules, "torch")
    facts = machine_facts()
    assert "torch_threads" not in facts
    assert "torch" not in sys.modules


def test_a_machine_counts_as_every_pattern_that_it_matches() -> None:
    facts = {"cpu": "AMD EPYC 7763 64-Core Processor", "cores": 4}
    patterns = {
        "by-cpu": MachinePattern(cpu="AMD EPYC *"),
        "by-both": MachinePattern(cpu="AMD EPYC *", cores=4),
        "other-cpu": MachinePattern(cpu="Intel*", cores=4),
        "other-cores": MachinePattern(cpu="AMD EPYC *", cores=2),
    }
    assert matching_machines(facts, patterns) == {"by-cpu", "by-both"}


def test_versions_name_a_library_only_once_it_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    assert "numpy" not in versions()
    monkeypatch.setitem(sys.modules, "numpy", ModuleType("numpy"))
    assert versions()["numpy"] == metadata.version("numpy")
    assert versions()["pytest"] == pytest.__version__


def test_a_distribution_that_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert set(versions()) == {"python"}
