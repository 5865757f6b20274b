"""Small suites, run in this process where that is safe, and what came of them."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pytest_flopbudget.core
from pytest_flopbudget.core.report import Report, TestReport
from pytest_flopbudget.store.files import read_report

SCHEMA = json.loads(
    (Path(pytest_flopbudget.core.__file__).parent / "report.schema.json").read_text("utf-8")
)

HEADER = """
import os, unittest
import pytest
import torch

def product():
    # [32, 48] by [48, 64]: 32 * 48 * 64 = 98304 MAC, twice that in FLOP
    return torch.mm(torch.ones(32, 48), torch.ones(48, 64))

"""
PLUGINS = ("-p", "no:asyncio", "-p", "no:randomly")
"""Off, where a developer has them: one warns, the other shuffles."""
MACS = 32 * 48 * 64
FLOPS = 2 * MACS


@dataclass(frozen=True)
class Ran:
    """A finished run."""

    result: pytest.RunResult
    path: Path

    @property
    def code(self) -> int:
        return int(self.result.ret)

    @property
    def text(self) -> str:
        return self.result.stdout.str() + self.result.stderr.str()

    @property
    def words(self) -> str:
        """The output with every line break and indent as one space."""
        return " ".join(self.text.split())

    @property
    def errors(self) -> list[str]:
        """What stands on standard error as a usage error."""
        return self.result.stderr.str().split("ERROR: ", 1)[-1].strip().splitlines()

    @property
    def outcomes(self) -> dict[str, int]:
        return self.result.parseoutcomes()

    @property
    def json(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
        jsonschema.validate(data, SCHEMA)
        return data

    @property
    def report(self) -> Report:
        assert self.json
        return read_report(self.path)

    def test(self, name: str) -> TestReport:
        """The only test whose id ends so."""
        (found,) = [test for test in self.report.tests if test.id.endswith(f"::{name}")]
        return found

    @property
    def endings(self) -> dict[str, str]:
        """Outcome by the last part of the id."""
        return {t.id.rpartition("::")[2]: t.outcome.value for t in self.report.tests}

    def verdicts(self, name: str) -> list[tuple[str, str, str]]:
        return [(v.region, v.metric, v.outcome.value) for v in self.test(name).verdicts]

    @property
    def summary(self) -> list[str]:
        """The lines of the table of budgets; none where it was not printed."""
        lines = self.result.stdout.lines
        starts = [n for n, line in enumerate(lines) if " compute budgets " in line]
        if not starts:
            return []
        rest = lines[starts[0] + 1 :]
        end = next(n for n, line in enumerate(rest) if line.startswith("="))
        return rest[:end]


class Suite:
    """A suite in a folder of its own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path / "report.json"

    def write(self, body: str, *, name: str = "test_it", header: str = HEADER) -> None:
        self.pytester.makepyfile(**{name: header + textwrap.dedent(body)})

    def settings(self, text: str) -> None:
        (self.pytester.path / "pyproject.toml").write_text(textwrap.dedent(text), "utf-8")

    def run(self, *args: str, report: bool = True) -> Ran:
        """In this process: fast, for whatever does not end the process."""
        option = [f"--flopbudget-json={self.path}"] if report else []
        result = self.pytester.runpytest_inprocess(*PLUGINS, *option, *args, no_reraise_ctrlc=True)
        return Ran(result, self.path)

    def run_apart(self, *args: str, report: bool = True) -> Ran:
        """In a process of its own."""
        option = [f"--flopbudget-json={self.path}"] if report else []
        return Ran(self.pytester.runpytest_subprocess(*PLUGINS, *option, *args), self.path)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def forget_the_suite(_snapshot: object) -> None:
        """Forget what was imported from the suite alone: torch does not survive a second import."""
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(str(pytester.path)):
                del sys.modules[name]

    monkeypatch.setattr("_pytest.pytester.SysModulesSnapshot.restore", forget_the_suite)
    return Suite(pytester)
