"""The state of real repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_flopbudget.store.git import git_state


def _git(root: Path, *args: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    result = subprocess.run(
        ["git", *identity, *args], cwd=root, check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    _git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "model.py").write_text("width = 1\n", encoding="utf-8")
    _git(tmp_path, "add", "model.py")
    _git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_clean_checkout_has_its_commit_and_branch(repository: Path) -> None:
    state = git_state(repository)
    assert state is not None
    assert state.commit == _git(repository, "rev-parse", "HEAD")
    assert state.branch == "main"
    assert not state.is_dirty


@pytest.mark.parametrize("is_staged", [False, True])
def test_a_changed_tracked_file_makes_it_dirty(repository: Path, is_staged: bool) -> None:
    (repository / "model.py").write_text("width = 2\n", encoding="utf-8")
    if is_staged:
        _git(repository, "add", "model.py")
    state = git_state(repository)
    assert state is not None
    assert state.is_dirty


def test_an_untracked_file_such_as_a_report_does_not(repository: Path) -> None:
    (repository / "report.json").write_text("{}", encoding="utf-8")
    state = git_state(repository)
    assert state is not None
    assert not state.is_dirty


def test_a_detached_head_has_no_branch(repository: Path) -> None:
    _git(repository, "checkout", "-q", "--detach")
    state = git_state(repository)
    assert state is not None
    assert state.branch is None


def test_a_repository_without_a_commit_has_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_DIR", raising=False)
    _git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None


def test_outside_a_repository_there_is_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None


def test_without_git_there_is_no_state(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_state(repository) is None


def test_in_a_folder_that_is_gone_there_is_no_state(repository: Path) -> None:
    assert git_state(repository / "gone") is None


def test_a_git_that_hangs_costs_the_state_and_not_the_report(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 10)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert git_state(repository) is None
