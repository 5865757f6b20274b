"""The run of the base: where it happens, what it leaves, and when it is no baseline."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pytest_flopbudget.ab.git import git_in
from pytest_flopbudget.ab.side import Sides
from pytest_flopbudget.ab.side_by_side import ImportedError, Wanted
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Standing
from pytest_flopbudget.core.report import Report
from pytest_flopbudget.core.side_by_side import SideBySide, TimedOutcome
from pytest_flopbudget.github import runs
from pytest_flopbudget.github.runs import Latency, main, run_base
from pytest_flopbudget.store.files import read_report, write_report

from .repositories import ALONE, Server, git

REPORT_ENVIRONMENT = """
import json, os, pathlib

def test_where():
    here = {"cwd": os.getcwd(), "path": os.environ["PYTHONPATH"]}
    pathlib.Path(os.environ["SEEN"]).write_text(json.dumps(here))
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    monkeypatch.setenv("RUNNER_TEMP", str(temp))
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    for name in ("GITHUB_EVENT_NAME", "PYTHONPATH", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)


def checkout(tmp_path: Path, base: dict[str, str]) -> Path:
    server = Server(tmp_path / "server")
    server.commit("main", base)
    server.commit("topic", {"sub/x": "1"})
    return server.checkout(tmp_path / "here", "refs/heads/topic", depth=0)


def test_the_base_s_packages_come_first_and_its_worktree_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = checkout(tmp_path, {"test_where.py": REPORT_ENVIRONMENT})
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    monkeypatch.setenv("PYTHONPATH", "/inherited")
    report = tmp_path / "base.json"
    assert run_base(git_in(here), [], report, ref="HEAD~1", environ=os.environ) == ""

    seen = json.loads((tmp_path / "seen.json").read_text())
    tree = seen["cwd"]
    assert tree.startswith(str(tmp_path / "temp"))
    assert seen["path"] == f"{tree}/src:{tree}:/inherited"
    assert report.is_file()
    assert list((tmp_path / "temp").iterdir()) == []
    assert git(here, "worktree", "list").count("\n") == 0


@pytest.mark.parametrize(
    ("base", "ended"),
    [({"test_a.py": "import nothing_like_it"}, 2), ({"conftest.py": "1 / 0"}, 4), ({"a": "1"}, 5)],
)
def test_a_base_whose_tests_cannot_run_is_told_to_whoever_judges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], base: dict[str, str], ended: int
) -> None:
    here = checkout(tmp_path, base)
    head_report = tmp_path / "head.json"
    write_report(Report(notes=("noisy",)), head_report)
    missing = run_base(
        git_in(here),
        [],
        tmp_path / "base.json",
        ref="HEAD~1",
        environ=os.environ,
        latency=Latency(report=head_report, time_limit_s=0),
    )
    what = "pytest found no tests" if ended == 5 else f"pytest ended with {ended}"
    assert missing.startswith(f"{what} on the base commit")
    note = (
        f"no baseline: the base's tests could not run (pytest ended with {ended}): "
        "what the change loosens was not looked for"
    )
    log, notes = capsys.readouterr().out, compare(None, read_report(head_report)).notes
    if ended == 5:  # There is no test that could have had a budget.
        assert "::warning" not in log
        assert notes == ("no baseline yet: absolute budgets alone are judged", "noisy")
    else:
        assert f"::warning title=Compute budget::{note}" in log
        assert notes == ("noisy", note)


def test_a_working_directory_that_the_base_lacks_is_no_baseline(tmp_path: Path) -> None:
    here = checkout(tmp_path, {"a": "1"})
    sha = git(here, "rev-parse", "HEAD~1")
    missing = run_base(
        git_in(here / "sub"), [], tmp_path / "base.json", ref="HEAD~1", environ=os.environ
    )
    assert missing == f"sub/ is not in the commit {sha[:7]}"
    assert git(here, "worktree", "list").count("\n") == 0


def test_a_run_about_no_pull_request_has_no_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkout(tmp_path, {"a": "1"}))
    assert main(["base", str(tmp_path / "base.json")]) == 0
    assert capsys.readouterr().out == "No baseline: there is no base to be held against.\n"


def test_arguments_that_cannot_be_split_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["head", str(tmp_path / "head.json"), "--pytest-args=-k 'x"]) == 2
    assert capsys.readouterr().err == (
        'flopbudget head: error: pytest-args: cannot read "-k \'x": No closing quotation\n'
    )


SPIN = """
import time
import pytest

def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

@pytest.mark.flop_budget(latency={"max": "1 s", "vs_baseline": "+10%"}, strict=False)
def test_spin():
    spin(SECONDS)
"""
"""Takes as long as it says, by a clock that no neighbour moves."""


@dataclass
class Measured:
    """A checkout whose head is measured, and where the reports are."""

    here: Path
    base: Path
    head: Path

    def run_base(self, time_limit_s: float) -> str:
        return run_base(
            git_in(self.here),
            ["-q", "-p", "no:cacheprovider"],
            self.base,
            ref="HEAD~1",
            environ=os.environ,
            latency=Latency(report=self.head, time_limit_s=time_limit_s),
        )


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    server = Server(tmp_path / "server")
    server.commit("main", {"test_spin.py": SPIN.replace("SECONDS", "0.002")})
    server.commit("topic", {"test_spin.py": SPIN.replace("SECONDS", "0.003")})
    here = server.checkout(tmp_path / "here", "refs/heads/topic", depth=0)
    monkeypatch.chdir(here)
    head = tmp_path / "head.json"
    assert main(["head", str(head), "--pytest-args=-q -p no:cacheprovider"]) == 0
    return Measured(here=here, base=tmp_path / "base.json", head=head)


@pytest.mark.slow  # a real side-by-side run: five pairs of processes that import torch
def test_the_head_s_report_has_what_was_timed_beside_the_base(measured: Measured) -> None:
    assert measured.run_base(120.0) == ""
    head, base = read_report(measured.head), read_report(measured.base)
    assert head.side_by_side is not None
    (timed,) = head.side_by_side.tests
    assert timed.outcome is TimedOutcome.REGRESSED
    assert timed.ratio is not None
    assert timed.ratio.estimate == pytest.approx(1.5, rel=0.03)
    assert compare(base, head).standing is Standing.OVER
    assert git(measured.here, "worktree", "list").count("\n") == 0


def test_both_sides_are_timed_in_their_own_checkouts_by_the_time_limit(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    found = SideBySide(base="b" * 40, head="h" * 40, pairs=5, seconds=1.0)

    def timed(sides: Sides, base: Report, head: Report, wanted: Wanted, **_: object) -> SideBySide:
        assert (sides.base.directory / "test_spin.py").read_text().endswith("spin(0.002)\n")
        assert (sides.head.directory / "test_spin.py").read_text().endswith("spin(0.003)\n")
        asked.append((base, head, wanted))
        return found

    monkeypatch.setattr(runs, "time_side_by_side", timed)
    before = read_report(measured.head)
    assert measured.run_base(45.0) == ""
    ((base, head, wanted),) = asked
    assert (base, head) == (read_report(measured.base), before)
    assert wanted.base_commit == git(measured.here, "rev-parse", "HEAD~1")
    assert wanted.head_commit == git(measured.here, "rev-parse", "HEAD")
    assert wanted.time_limit_s == 45.0
    assert read_report(measured.head) == replace(before, side_by_side=found)


def test_a_head_that_cannot_be_timed_is_judged_all_the_same_and_says_why(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> SideBySide:
        raise ImportedError("base: model came from elsewhere")

    monkeypatch.setattr(runs, "time_side_by_side", refused)
    before = read_report(measured.head)
    assert measured.run_base(45.0) == ""
    why = "latencies were not taken side by side: base: model came from elsewhere"
    assert read_report(measured.head) == replace(before, notes=(*before.notes, why))
    assert f"::warning title=Compute budget::{why}\n" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--time-limit=0"], ["--time-limit=0 s"]])
def test_without_time_nothing_is_timed(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    def refused(*_: object, **__: object) -> SideBySide:
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(runs, "time_side_by_side", refused)
    arguments = ["base", str(measured.base), "--base-ref=HEAD~1", *options]
    assert main([*arguments, f"--head-report={measured.head}"]) == 0
    assert measured.base.exists()


def test_a_time_limit_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = str(tmp_path / "base.json")
    assert main(["base", report, f"--head-report={report}", "--time-limit=5 GB"]) == 2
    assert "time-limit: cannot read '5 GB'" in capsys.readouterr().err
