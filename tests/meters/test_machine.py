"""Machine facts, from trees of files as kernels and control groups lay them out."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from pytest_flopbudget.core.settings import MachinePattern
from pytest_flopbudget.meters.machine import (
    machine_facts,
    machines_here,
    matching_machines,
    math_libraries,
    usable_cores,
)
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


ABSENT = (
    "memory_bytes",
    "memory_limit_bytes",
    "cpu_flags",
    "cpu_quota",
    "governor",
    "ci",
    "runner",
)


def test_what_cannot_be_found_out_is_left_out(tmp_path: Path) -> None:
    facts = machine_facts(tmp_path, {})
    assert not facts.keys() & set(ABSENT)
    assert facts["cpu"] == platform.machine()


def test_the_flags_are_those_that_choose_kernels_in_one_order(tmp_path: Path) -> None:
    # As Linux lists them: by the bit that tells each, with hundreds of others.
    info = (
        "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\n"
        "flags\t\t: fpu vme amx_tile avx512f fma sse4_2 avx avx2 hypervisor\n\n"
        "processor\t: 1\nflags\t\t: fpu avx_vnni\n"
    )
    root = _write(tmp_path, {"proc/cpuinfo": info})
    assert machine_facts(root, {})["cpu_flags"] == "sse4_2 avx fma avx2 avx512f amx_tile"


def test_an_arm_processor_is_named_by_its_identity(tmp_path: Path) -> None:
    # A Neoverse N1 as Linux shows it: no model name, and its flags under another key.
    info = (
        "processor\t: 0\nBogoMIPS\t: 243.75\n"
        "Features\t: fp asimd evtstrm crc32 asimdhp asimddp\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n\n"
    )
    facts = machine_facts(_write(tmp_path, {"proc/cpuinfo": info}), {})
    assert facts["cpu"] == "ARM 0x41 0xd0c"
    assert facts["cpu_flags"] == "asimd asimdhp asimddp"


@pytest.mark.parametrize(
    ("governors", "told"),
    [(["performance", "performance"], "performance"), (["schedutil", "performance"], None)],
)
def test_the_governor_is_one_or_all_that_are_set(
    tmp_path: Path, governors: list[str], told: str | None
) -> None:
    folder = "sys/devices/system/cpu/cpufreq"
    files = {f"{folder}/policy{n}/scaling_governor": f"{g}\n" for n, g in enumerate(governors)}
    facts = machine_facts(_write(tmp_path, files), {})
    assert facts["governor"] == (told or "performance schedutil")


def test_the_limits_of_a_container_are_facts_of_their_own(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/meminfo": "MemTotal: 16777216 kB\n",
            "sys/fs/cgroup/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/memory.max": f"{32 * GIB}\n",
        },
    )
    facts = machine_facts(root, {})
    assert facts["cpu_quota"] == 2.5
    assert facts["memory_limit_bytes"] == 32 * GIB
    # A limit above what the machine has gives nobody more of it.
    assert facts["memory_bytes"] == 16 * GIB


@pytest.mark.parametrize(
    ("config", "libraries"),
    [
        (
            (
                "  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605\n"
                "  - Intel(R) MKL-DNN v3.7.1 (Git Hash 8d263e693366ef8db40acc569cc7d8edf6445)\n"
                "  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release, LAPACK_INFO=mkl,\n"
            ),
            {"blas": "mkl 2024.2", "onednn": "3.7.1"},
        ),
        ("  - Build settings: BLAS_INFO=open, BUILD_TYPE=Release\n", {"blas": "open"}),
        ("  - Build settings: BLAS_INFO=accelerate, USE_MKL=OFF\n", {"blas": "accelerate"}),
        ("  - Build settings: BUILD_TYPE=Release\n", {}),
    ],
)
def test_the_math_libraries_are_read_off_torchs_own_account(
    config: str, libraries: dict[str, str]
) -> None:
    assert math_libraries(config) == libraries


def test_torch_tells_its_threads_and_what_it_was_built_with() -> None:
    import torch

    facts = machine_facts()
    assert facts["torch_interop_threads"] == torch.get_num_interop_threads()
    assert facts["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    if torch.backends.mkl.is_available():
        assert str(facts["blas"]).startswith("mkl 20")


def test_a_gpu_is_told_once_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "gpu" not in machine_facts()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    facts = machine_facts()
    assert (facts["gpu"], facts["cuda"]) == ("NVIDIA H100", "12.8")


def test_a_pattern_takes_up_the_gpu_only_where_it_asks_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    taken: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", lambda: taken.append(True))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(taken))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    here = torch.__version__
    assert machines_here({"one": MachinePattern(torch=here)}) == {"one"}
    assert not taken
    patterns = {"h100": MachinePattern(gpu="*H100*"), "a100": MachinePattern(gpu="*A100*")}
    assert machines_here(patterns) == {"h100"}


def test_torch_is_imported_for_a_pattern_only_where_that_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    python = platform.python_version()
    assert machines_here({"here": MachinePattern(python=python)}) == {"here"}
    with pytest.raises(ModuleNotFoundError):
        machines_here({"here": MachinePattern(blas="mkl *")})


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
