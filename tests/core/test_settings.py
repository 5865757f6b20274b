"""Settings: what a file may say, and the one line that answers each mistake."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.errors import SettingsError
from pytest_flopbudget.core.settings import (
    MachinePattern,
    MatchRule,
    ProjectSettings,
    load_settings,
    matches_glob,
)

WHOLE = """
[tool.flopbudget]
baseline = ".flopbudget/baseline.json"
strict = false

[tool.flopbudget.budgets.resnet18]
flops = "3.7 GFLOP"
latency = { max = "45 ms", on = "github-4core" }

[tool.flopbudget.budgets."with space"]
ops = 3

[tool.flopbudget.defaults]
peak_memory = "1 GiB"

[[tool.flopbudget.match]]
tests = "tests/models/test_*.py::test_forward*"
budget = "resnet18"

[tool.flopbudget.machines.github-4core]
cpu = "AMD EPYC *"
cores = 4
"""


def load(folder: Path, text: str) -> ProjectSettings:
    path = folder / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, display="pyproject.toml")


def fault(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(folder, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_part_of_the_file_is_read(tmp_path: Path) -> None:
    settings = load(tmp_path, WHOLE)
    assert settings.file == "pyproject.toml"
    assert settings.baseline == ".flopbudget/baseline.json"
    assert settings.strict is False
    source = "pyproject.toml: tool.flopbudget.budgets.resnet18"
    assert settings.budgets["resnet18"] == (
        Limit(metric="flops", maximum=Fraction(3_700_000_000), source=source),
        Limit(metric="latency", maximum=Fraction(45, 1000), on="github-4core", source=source),
    )
    assert settings.budgets["with space"][0].source.endswith('budgets."with space"')
    assert settings.defaults == (
        Limit(
            metric="peak_memory",
            maximum=Fraction(2**30),
            source="pyproject.toml: tool.flopbudget.defaults",
        ),
    )
    assert settings.match == (
        MatchRule(tests="tests/models/test_*.py::test_forward*", budget="resnet18"),
    )
    assert settings.machines == {"github-4core": MachinePattern(cpu="AMD EPYC *", cores=4)}


def test_a_report_keeps_the_budgets_as_they_were_written(tmp_path: Path) -> None:
    kept = load(tmp_path, WHOLE).as_report("report")
    assert kept.mode == "report"
    assert kept.strict is False
    assert kept.file == "pyproject.toml"
    assert kept.budgets["resnet18"] == {
        "flops": "3.7 GFLOP",
        "latency": {"max": "45 ms", "on": "github-4core"},
    }
    assert kept.defaults == {"peak_memory": "1 GiB"}
    assert kept.match == ({"tests": "tests/models/test_*.py::test_forward*", "budget": "resnet18"},)


def test_a_machine_is_told_by_its_memory_and_its_libraries_too(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[tool.flopbudget.machines.big]\n"
        'memory = "16 GiB"\ntorch_interop_threads = 2\nblas = "mkl *"\n',
    )
    assert settings.machines["big"] == MachinePattern(
        memory=Fraction(16 * 2**30), torch_interop_threads=2, blas="mkl *"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("memory_bytes = 3", "unknown key 'memory_bytes'; did you mean 'memory'?"),
        ("goveror = 'x'", "unknown key 'goveror'; did you mean 'governor'?"),
        ("memory = 16", "memory: must be a text, not 16"),
        ("memory = '16 GFLOP'", "memory: cannot read '16 GFLOP'; write a number and a unit"),
        ("python = 3.11", "python: must be a text, not 3.11"),
        ("torch_threads = '2'", "torch_threads: must be a number of threads, not '2'"),
    ],
)
def test_a_mistake_in_a_machine_says_what_to_write(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)) as caught:
        load(tmp_path, f"[tool.flopbudget.machines.m]\n{line}\n")
    assert str(caught.value).startswith("pyproject.toml: tool.flopbudget.machines.m.")


@pytest.mark.parametrize("text", ["", "[tool.other]\nx = 1\n", "[tool.flopbudget]\n"])
def test_a_file_that_says_nothing_gives_the_defaults(tmp_path: Path, text: str) -> None:
    settings = load(tmp_path, text)
    assert settings == ProjectSettings(file="pyproject.toml")
    assert settings.strict is True


def test_no_file_gives_the_defaults() -> None:
    assert load_settings(None, display="pyproject.toml") == ProjectSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = \n", "pyproject.toml:1: is not TOML: Invalid value"),
        ("[tool.flopbudget]\nstrict = tru\n", "pyproject.toml:2: is not TOML: Invalid value"),
        ("[tool]\nflopbudget = 3", "pyproject.toml: tool.flopbudget: must be a table, not 3"),
        (
            "[tool.flopbudget]\nstrickt = true",
            (
                "pyproject.toml: tool.flopbudget.strickt: "
                "unknown key 'strickt'; did you mean 'strict'?"
            ),
        ),
        (
            "[tool.flopbudget]\nstrict = 'yes'",
            "pyproject.toml: tool.flopbudget.strict: must be true or false, not 'yes'",
        ),
        (
            "[tool.flopbudget]\nbaseline = 3",
            "pyproject.toml: tool.flopbudget.baseline: must be a path, not 3",
        ),
        (
            "[tool.flopbudget]\nbudgets = []",
            "pyproject.toml: tool.flopbudget.budgets: must be a table, not []",
        ),
        (
            "[tool.flopbudget.budgets]\nflops = 3",
            "pyproject.toml: tool.flopbudget.budgets.flops: must be a table, not 3",
        ),
        (
            "[tool.flopbudget.budgets.resnet18]\nflops = '24 MBps'",
            (
                "pyproject.toml: tool.flopbudget.budgets.resnet18.flops: cannot read '24 MBps'; "
                "write a number and a unit, such as '1.5 GFLOP'"
            ),
        ),
        (
            "[tool.flopbudget.budgets.resnet18]\nmacs = '1e400'",
            (
                "pyproject.toml: tool.flopbudget.budgets.resnet18.macs: "
                "'1e400' is beyond 1e+30; write a smaller amount"
            ),
        ),
        (
            f"[tool.flopbudget.budgets.resnet18]\nloss = 1{'0' * 400}",
            (
                "pyproject.toml: tool.flopbudget.budgets.resnet18.loss: '1e400' is beyond 1e+30; "
                "write a smaller amount, as the test records 'loss' itself"
            ),
        ),
        (
            f"[tool.flopbudget.budgets.resnet18]\nmacs = 1{'0' * 5000}",
            "pyproject.toml: has a number that is too long to be read",
        ),
        (
            "[tool.flopbudget.budgets.resnet18.flops]\nmaximum = 3",
            (
                "pyproject.toml: tool.flopbudget.budgets.resnet18.flops.maximum: "
                "unknown key 'maximum'; did you mean 'max'?"
            ),
        ),
        (
            "[tool.flopbudget.defaults]\nlatency = { max = 1, on = 'here' }",
            (
                "pyproject.toml: tool.flopbudget.defaults.latency.on: "
                "unknown machine 'here'; the settings define none"
            ),
        ),
        (
            "[tool.flopbudget]\nmatch = 3",
            "pyproject.toml: tool.flopbudget.match: must be [[tool.flopbudget.match]], not 3",
        ),
        (
            "[[tool.flopbudget.match]]\ntests = 'a'",
            "pyproject.toml: tool.flopbudget.match[0]: needs 'budget'",
        ),
        (
            "[[tool.flopbudget.match]]\ntest = 'a'",
            (
                "pyproject.toml: tool.flopbudget.match[0].test: "
                "unknown key 'test'; did you mean 'tests'?"
            ),
        ),
        (
            (
                "[tool.flopbudget.budgets.small]\n"
                "[[tool.flopbudget.match]]\ntests = 'a'\nbudget = 'smal'"
            ),
            (
                "pyproject.toml: tool.flopbudget.match[0].budget: "
                "unknown budget 'smal'; did you mean 'small'?"
            ),
        ),
        (
            "[tool.flopbudget.machines.m]\ncpus = 'AMD'",
            (
                "pyproject.toml: tool.flopbudget.machines.m.cpus: "
                "unknown key 'cpus'; did you mean 'cpu'?"
            ),
        ),
        (
            "[tool.flopbudget.machines.m]\ncores = true",
            "pyproject.toml: tool.flopbudget.machines.m.cores: must be a number of cores, not True",
        ),
        (
            "[tool.flopbudget.machines.m]",
            (
                "pyproject.toml: tool.flopbudget.machines.m: "
                "says nothing of the machine; write 'cpu' or 'cores'"
            ),
        ),
    ],
)
def test_a_mistake_is_one_line_with_file_key_path_and_cure(
    tmp_path: Path, text: str, message: str
) -> None:
    assert fault(tmp_path, text) == message


def test_a_missing_file_and_one_that_is_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^there\.toml: cannot be read: No such file"):
        load_settings(tmp_path / "there.toml", display="there.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"^bytes\.toml: is not UTF-8"):
        load_settings(tmp_path / "bytes.toml", display="bytes.toml")


@pytest.mark.parametrize(
    ("pattern", "facts", "is_match"),
    [
        (MachinePattern(cpu="AMD EPYC *"), {"cpu": "AMD EPYC 7763", "cores": 4}, True),
        (MachinePattern(cpu="AMD EPYC *", cores=4), {"cpu": "AMD EPYC 7763", "cores": 4}, True),
        (MachinePattern(cpu="AMD EPYC *", cores=4), {"cpu": "AMD EPYC 7763", "cores": 2}, False),
        (MachinePattern(cpu="AMD EPYC *"), {"cpu": "Intel Xeon"}, False),
        (MachinePattern(cores=4), {"cpu": "AMD EPYC 7763"}, False),
        (MachinePattern(ci="*"), {"cpu": "AMD EPYC 7763"}, False),
        (MachinePattern(cpu_flags="fma avx2"), {"cpu_flags": "avx fma avx2"}, True),
        # A part of a flag's name is no flag.
        (MachinePattern(cpu_flags="avx512"), {"cpu_flags": "avx avx512f"}, False),
        (MachinePattern(torch="2.13.*", python="3.11.*"), {"torch": "2.13.0+cpu"}, False),
        (MachinePattern(governor="performance"), {"governor": "performance schedutil"}, False),
        (MachinePattern(torch_threads=2), {"torch_threads": 2}, True),
        # 9 to 10 bytes are 90 to 100 % of 10.
        (MachinePattern(memory=Fraction(10)), {"memory_bytes": 8}, False),
        (MachinePattern(memory=Fraction(10)), {"memory_bytes": 9}, True),
        (MachinePattern(memory=Fraction(10)), {"memory_bytes": 10}, True),
        (MachinePattern(memory=Fraction(10)), {"memory_bytes": 11}, False),
        (MachinePattern(memory=Fraction(10)), {"cores": 10}, False),
    ],
)
def test_a_machine_counts_as_one_whose_every_fact_it_has(
    pattern: MachinePattern, facts: dict[str, object], is_match: bool
) -> None:
    assert pattern.matches(facts) is is_match


@pytest.mark.parametrize(
    ("pattern", "text", "is_match"),
    [
        ("tests/test_*.py::test_f*", "tests/test_a.py::test_f[1-True]", True),
        ("tests/test_a.py::test_f[1]", "tests/test_a.py::test_f[1]", True),
        ("tests/test_a.py::test_f[1]", "tests/test_a.py::test_f1", False),
        ("test_?.py", "test_a.py", True),
        ("test_?.py", "test_ab.py", False),
        ("test.py", "test_py", False),
        ("*", "a\nb", True),
    ],
)
def test_brackets_and_dots_in_a_pattern_stand_for_themselves(
    pattern: str, text: str, is_match: bool
) -> None:
    assert matches_glob(text, pattern) is is_match
