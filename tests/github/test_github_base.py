"""Which commit a pull request is held against, in every kind of checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_flopbudget.ab.git import git_in
from pytest_flopbudget.github.base import base_commit
from pytest_flopbudget.github.event import MergeGroup, PullRequest, Push
from pytest_flopbudget.github.rest import GitHubError

from .repositories import ALONE, Server, git


@pytest.fixture(autouse=True)
def no_git_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)


class History:
    r"""fork - main         (the base branch moved on after the pull request was opened)
           \     \
            topic - merge
    """

    def __init__(self, directory: Path) -> None:
        self.server = Server(directory / "server")
        self.fork = self.server.commit("main", {"a": "1"})
        self.topic = self.server.commit("topic", {"b": "1"})
        self.main = self.server.commit("main", {"a": "2"})
        self.merge = self.server.merge()

    def pull(self) -> PullRequest:
        # base.sha is stale on GitHub: the tip when the pull request was opened.
        return PullRequest(
            repository="octo/models",
            number=7,
            head_sha=self.topic,
            base_sha=self.fork,
            is_fork=False,
        )


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(tmp_path_factory.mktemp("history"))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_base_of_a_merge_commit_is_its_first_parent(
    history: History, tmp_path: Path, depth: int
) -> None:
    here = history.server.checkout(tmp_path / "here", "refs/pull/7/merge", depth=depth)
    sha = base_commit(git_in(here), history.pull(), "")
    assert sha == history.main
    assert git(here, "show", f"{sha}:a") == "2"


@pytest.mark.parametrize("depth", [0, 1])
def test_the_base_of_a_checked_out_head_is_where_it_left_the_base_branch(
    history: History, tmp_path: Path, depth: int
) -> None:
    here = history.server.checkout(tmp_path / "here", "refs/heads/topic", depth=depth)
    sha = base_commit(git_in(here), history.pull(), "")
    assert sha == history.fork
    assert git(here, "show", f"{sha}:a") == "1"


def test_a_merge_of_something_else_is_not_taken_for_the_pull_request_s(
    tmp_path: Path,
) -> None:
    history = History(tmp_path)
    history.server.commit("main", {"c": "1"})
    git(history.server.directory, "checkout", "--quiet", "topic")
    git(history.server.directory, "merge", "--quiet", "--message", "catch up", "main")
    caught_up = git(history.server.directory, "rev-parse", "main")
    here = history.server.checkout(tmp_path / "here", "refs/heads/topic", depth=0)
    # The head is itself a merge of the base branch: its first parent is the pull request's own.
    pull = PullRequest(
        repository="octo/models", number=7, head_sha="f" * 40, base_sha=caught_up, is_fork=False
    )
    assert base_commit(git_in(here), pull, "") == caught_up


@pytest.mark.parametrize("by", ["branch", "tag", "sha", "short sha", "relative"])
def test_a_named_base_is_found_here_or_on_the_server(
    history: History, tmp_path: Path, by: str
) -> None:
    git(history.server.directory, "tag", "--force", "v1", history.fork)
    depth = 0 if by in {"short sha", "relative"} else 1
    here = history.server.checkout(tmp_path / "here", "refs/heads/main", depth=depth)
    ref, expected = {
        "branch": ("topic", history.topic),
        "tag": ("v1", history.fork),
        "sha": (history.fork, history.fork),
        "short sha": (history.fork[:10], history.fork),
        "relative": ("HEAD~1", history.fork),
    }[by]
    sha = base_commit(git_in(here), None, ref)
    assert sha == expected
    git(here, "cat-file", "-e", f"{sha}^{{tree}}")


@pytest.mark.parametrize("ref", ["no-such-branch", "--upload-pack=touch x", "0" * 40])
def test_a_base_that_does_not_exist_is_named(
    history: History, tmp_path: Path, ref: str, capfd: pytest.CaptureFixture[str]
) -> None:
    here = history.server.checkout(tmp_path / "here", "refs/heads/main", depth=1)
    with pytest.raises(GitHubError, match=f"base-ref: .*'{ref}'"):
        base_commit(git_in(here), None, ref)
    assert {path.name for path in here.iterdir()} == {".git", "a"}


def test_a_base_that_cannot_be_fetched_says_what_to_write(history: History, tmp_path: Path) -> None:
    here = history.server.checkout(tmp_path / "here", "refs/pull/7/merge", depth=1)
    git(here, "remote", "set-url", "origin", (tmp_path / "nowhere").as_uri())
    with pytest.raises(GitHubError, match=f"base commit {history.main}; .*'fetch-depth: 2'"):
        base_commit(git_in(here), history.pull(), "")


def test_a_run_that_is_about_no_pull_request_has_no_base(tmp_path: Path) -> None:
    assert base_commit(git_in(tmp_path), None, "") is None


@pytest.mark.parametrize("depth", [0, 1])
def test_the_base_of_a_merge_group_is_the_one_that_the_event_names(
    history: History, tmp_path: Path, depth: int
) -> None:
    here = history.server.checkout(tmp_path / "here", "refs/pull/7/merge", depth=depth)
    sha = base_commit(git_in(here), MergeGroup(base_sha=history.fork), "")
    assert sha == history.fork
    assert git(here, "show", f"{sha}:a") == "1"


def test_a_push_is_held_against_a_named_base_alone(history: History, tmp_path: Path) -> None:
    here = history.server.checkout(tmp_path / "here", "refs/heads/main", depth=0)
    push = Push(sha=history.main, is_to_default_branch=True)
    assert base_commit(git_in(here), push, "") is None
    assert base_commit(git_in(here), push, "HEAD~1") == history.fork


def test_histories_that_never_meet_have_no_base(tmp_path: Path) -> None:
    history = History(tmp_path)
    git(history.server.directory, "checkout", "--quiet", "--orphan", "alone")
    git(history.server.directory, "commit", "--quiet", "--message", "alone")
    here = history.server.checkout(tmp_path / "here", "refs/heads/alone", depth=0)
    assert base_commit(git_in(here), history.pull(), "") is None


def test_a_directory_that_is_no_checkout_is_an_error(history: History, tmp_path: Path) -> None:
    with pytest.raises(GitHubError, match="in no git checkout"):
        base_commit(git_in(tmp_path), history.pull(), "")
