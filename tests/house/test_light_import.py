"""A suite with no budgets pays nothing: no heavy import, no process. Each claim has a control."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from pytest_flopbudget.cli.main import _COMMANDS, main

HEAVY = {"torch", "numpy", "pytest", "_pytest", "jsonschema", "tomlkit", "rich", "yaml", "requests"}

_IMPORT = "import json, sys; {}; print(json.dumps(sorted(sys.modules)))"

_SESSION = """
import json, sys
processes = []
def watch(event, _):
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system"):
        processes.append(event)
sys.addaudithook(watch)
import pytest
code = int(pytest.main(sys.argv[2:]))
with open(sys.argv[1], "w") as file:
    json.dump({"code": code, "modules": sorted(sys.modules), "processes": processes}, file)
"""

UNMARKED = "def test_nothing():\n    pass\n"
STARTS_A_PROCESS = (
    "import subprocess, sys\n"
    "def test_process():\n    subprocess.run([sys.executable, '-c', ''], check=True)\n"
)
BUDGETED = (
    "import pytest\n"
    "@pytest.mark.flop_budget(flops='1 FLOP')\n"
    "def test_budget():\n    import torch; torch.ones(1) + 1\n"
)


@dataclass(frozen=True)
class Session:
    code: int
    modules: set[str]
    processes: list[str]


def _heavy_after(statement: str, folder: Path) -> set[str]:
    """The heavy packages in memory after the statement, in a fresh interpreter."""
    return HEAVY & _modules_after(statement, folder)


def _modules_after(statement: str, folder: Path) -> set[str]:
    """What is in memory after the statement, in a fresh interpreter."""
    result = subprocess.run(
        [sys.executable, "-c", _IMPORT.format(statement)],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(result.stdout))


def _session(folder: Path, test: str, options: Sequence[str] = ()) -> Session:
    """One pytest run of one file, in a fresh interpreter."""
    (folder / "test_it.py").write_text(test, encoding="utf-8")
    answer = folder / "answer.json"
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    subprocess.run(
        [sys.executable, "-c", _SESSION, str(answer), "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=environ,
        check=True,
        capture_output=True,
    )
    found = json.loads(answer.read_text(encoding="utf-8"))
    return Session(found["code"], set(found["modules"]), found["processes"])


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    assert _heavy_after("import pytest_flopbudget", tmp_path) == set()


def test_control_using_a_meter_is_seen_to_import_torch(tmp_path: Path) -> None:
    assert "torch" in _heavy_after("from pytest_flopbudget import measure", tmp_path)


def test_the_command_line_imports_nothing_heavy_until_a_command_runs(tmp_path: Path) -> None:
    every = "import pytest_flopbudget.cli.main as m; [m._parser(name) for name in m._COMMANDS]"
    assert _heavy_after(every, tmp_path) == set()


def test_the_command_line_imports_the_command_that_is_asked_for_alone(tmp_path: Path) -> None:
    one = "import pytest_flopbudget.cli.main as m; m._parser({!r})"
    commands = {f"pytest_flopbudget.cli.{name}" for name in _COMMANDS}
    assert _modules_after(one.format(""), tmp_path) & commands == set()
    assert _modules_after(one.format("doctor"), tmp_path) & commands == {
        "pytest_flopbudget.cli.doctor"
    }


@pytest.mark.parametrize("command", _COMMANDS)
def test_the_help_of_all_commands_says_what_each_says_of_itself(command: str) -> None:
    module = import_module(f"pytest_flopbudget.cli.{command}")
    assert module.__doc__ is not None
    assert module.__doc__.splitlines()[0] == _COMMANDS[command]


def test_a_mistyped_command_is_told_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compair", "a.json"])
    # Python 3.12 and later put no quotation marks around them.
    said = capsys.readouterr().err.replace("'", "")
    assert "measure, compare, ab, comment, doctor" in said


def test_with_no_budget_the_plugin_adds_its_own_modules_and_the_standard_library_alone(
    tmp_path: Path,
) -> None:
    bare = _session(tmp_path, UNMARKED, ["-p", "no:flopbudget"])
    loaded = _session(tmp_path, UNMARKED)
    assert (bare.code, loaded.code) == (0, 0)
    added = loaded.modules - bare.modules
    assert "pytest_flopbudget.plugin" in added
    foreign = {
        name
        for name in added
        if name.partition(".")[0] not in {"pytest_flopbudget", *sys.stdlib_module_names}
    }
    assert foreign == set()
    assert not {name for name in added if name.startswith("pytest_flopbudget.meters")}


def test_control_a_budget_is_seen_to_load_the_meters_and_torch(tmp_path: Path) -> None:
    loaded = _session(tmp_path, BUDGETED)
    assert {"torch", "pytest_flopbudget.meters"} <= loaded.modules


def test_with_no_budget_no_process_is_started(tmp_path: Path) -> None:
    session = _session(tmp_path, UNMARKED)
    assert (session.code, session.processes) == (0, [])


def test_control_a_process_is_seen_when_a_test_starts_one(tmp_path: Path) -> None:
    session = _session(tmp_path, STARTS_A_PROCESS)
    assert session.code == 0
    assert "subprocess.Popen" in session.processes


@pytest.mark.parametrize("option", ["--flopbudget=off", "--flopbudget=report"])
def test_no_mode_makes_an_unmarked_suite_pay(tmp_path: Path, option: str) -> None:
    session = _session(tmp_path, UNMARKED, [option])
    assert session.code == 0
    assert "torch" not in session.modules
    assert session.processes == []
