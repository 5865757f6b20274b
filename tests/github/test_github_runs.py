"""The run of the base: where it happens, what it leaves, and when it is no baseline."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pytest_flopbudget.ab.git import git_in
from pytest_flopbudget.github.runs import main, run_base

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
