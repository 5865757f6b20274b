"""Pull requests from beginning to end: real commits, the real steps, the real plugin.

The model is two matrices without bias, 64 x width and width x 64, on one row: `128 * width`
MACs. Its budget is 40 000 MACs: 32 768 at width 256 and 38 400 at 300 are within it, and 65 536
at 512 are over it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .api_mock import REPOSITORY, WORKFLOW_LOGIN, Fault, GitHub, serve
from .composite import Result, Runner
from .conftest import TOKEN, event_payload
from .repositories import ALONE, Server, git

ACTION = Path(__file__).parents[2] / "action" / "action.yml"
MODEL = """
import torch

def build():
    return torch.nn.Sequential(
        torch.nn.Linear(64, {width}, bias=False), torch.nn.Linear({width}, 64, bias=False)
    )
"""
TEST = """
import pytest, torch
from scratch.model import build

@pytest.mark.flop_budget("mlp")
def test_forward(flopbudget):
    flopbudget(build(), torch.zeros(1, 64))
"""
FAILING = "def test_of_something_else():\n    assert not 'kept'\n"
IGNORED = "__pycache__/\n.pytest_cache/\n"
PLAIN = {".gitignore": IGNORED, "tests/test_plain.py": "def test_a(): pass\n"}
SETTINGS = """
[tool.pytest.ini_options]
testpaths = ["tests"]

[tool.flopbudget.budgets.mlp]
macs = {budget}
"""


def project(*, width: int, budget: int = 40_000, under: str = "") -> dict[str, str]:
    return {
        ".gitignore": IGNORED,
        f"{under}pyproject.toml": SETTINGS.format(budget=budget),
        f"{under}src/scratch/model.py": MODEL.format(width=width),
        f"{under}tests/test_mlp.py": TEST,
    }


@dataclass
class PullRequestRun:
    """A repository with a pull request, and the server that shows it."""

    server: Server
    github: GitHub
    directory: Path
    runs: int = 0

    def gate(
        self, *, ref: str = "refs/pull/7/merge", depth: int = 2, is_fork: bool = False, **given: str
    ) -> Result:
        """What the action makes of the pull request as it is now."""
        self.runs += 1
        here = self.directory / f"run-{self.runs}"
        if ref == "refs/pull/7/merge":
            self.server.merge()
        workspace = self.server.checkout(here / "workspace", ref, depth=depth)
        event = here / "event.json"
        head_sha = git(self.server.directory, "rev-parse", "topic")
        base_sha = git(self.server.directory, "rev-parse", "main")
        payload = event_payload(head_sha=head_sha, base_sha=base_sha, is_fork=is_fork)
        event.write_text(json.dumps(payload))
        self.github.pull = payload["pull_request"]
        temp = here / "temp"
        temp.mkdir()
        # What `pip install -e .` does for the head: its sources are importable from anywhere.
        source = workspace / given.get("working_directory", ".") / "src"
        runner = Runner(
            workspace=workspace,
            temp=temp,
            github={"event_name": "pull_request", "token": TOKEN},
            env={
                "GITHUB_API_URL": self.github.url,
                "GITHUB_EVENT_NAME": "pull_request",
                "GITHUB_EVENT_PATH": str(event),
                "GITHUB_REPOSITORY": REPOSITORY,
                "PYTHONPATH": str(source),
                "no_proxy": "*",
                **ALONE,
            },
        )
        result = runner.run(ACTION, python=sys.executable, **given)
        assert result.warnings == []
        assert git(workspace, "status", "--porcelain") == ""
        assert git(workspace, "worktree", "list").count("\n") == 0
        assert [path.name for path in temp.glob("flopbudget-*")] == []
        return result

    def comments(self) -> list[str]:
        return self.github.bodies_by(WORKFLOW_LOGIN)


Opener = Callable[[dict[str, str], dict[str, str]], PullRequestRun]


@pytest.fixture(scope="module")
def open_pull_request(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """Makes a pull request out of the files of `main` and those of `topic`."""
    opened: list[PullRequestRun] = []
    with ExitStack() as servers:

        def opener(main: dict[str, str], topic: dict[str, str]) -> PullRequestRun:
            github = servers.enter_context(serve(GitHub()))
            directory = tmp_path_factory.mktemp("pull-request")
            server = Server(directory / "server")
            server.commit("main", main)
            server.commit("topic", topic)
            opened.append(PullRequestRun(server, github, directory))
            return opened[-1]

        yield opener
    assert [pull.github.violations for pull in opened] == [[]] * len(opened)


def macs(report: Path) -> int:
    """The one measured value of a report, read without the code under test."""
    (test,) = json.loads(report.read_text())["tests"]
    (measurement,) = test["measurements"]
    return int(measurement["metrics"]["macs"]["value"])


class TestTwoPushes:
    """The first push doubles the width and is over budget; the second mends it."""

    @pytest.fixture(scope="class")
    @classmethod
    def pull(cls, open_pull_request: Opener) -> PullRequestRun:
        pull = open_pull_request(project(width=256), project(width=512))
        for number in range(101):
            pull.github.add_comment(f"remark {number}", "reviewer")
        return pull

    @pytest.fixture(scope="class")
    @classmethod
    def first(cls, pull: PullRequestRun) -> tuple[Result, list[str]]:
        return pull.gate(), pull.comments()

    @pytest.fixture(scope="class")
    @classmethod
    def second(cls, pull: PullRequestRun, first: Any) -> tuple[Result, list[str]]:
        pull.server.commit("topic", project(width=300))
        return pull.gate(), pull.comments()

    def test_a_pull_request_over_budget_fails_the_job(self, first: Any) -> None:
        result, _ = first
        assert result.conclusion == "failure"
        failed = [step.name for step in result.steps.values() if step.conclusion == "failure"]
        assert failed == ["Gate"]

    def test_the_base_s_own_code_is_measured_beside_the_head_s(self, first: Any) -> None:
        head = Path(first[0].outputs["report-path"])
        assert macs(head) == 128 * 512
        assert macs(head.with_name("base.json")) == 128 * 256

    def test_the_outputs_say_what_the_comparison_found(self, first: Any) -> None:
        result, _ = first
        assert result.outputs["over-budget"] == "1"
        assert result.outputs["loosened"] == "0"
        assert result.outputs["verdict"] == "fail"

    def test_annotations_and_the_summary_are_written_without_write_access(self, first: Any) -> None:
        result, _ = first
        assert "::error file=tests/test_mlp.py,line=" in result.steps["Compare"].log
        assert "test_forward" in result.summary

    def test_the_comment_is_posted_once_and_names_the_test(self, first: Any) -> None:
        result, (comment,) = first
        assert comment.startswith("<!-- pytest-flopbudget:v1 id=default -->\n")
        assert "test_forward" in comment
        assert result.outputs["comment-url"].endswith("#issuecomment-1101")

    def test_the_next_push_changes_that_comment_and_passes(
        self, first: Any, second: Any, pull: PullRequestRun
    ) -> None:
        result, (comment,) = second
        assert result.conclusion == "success", result.log
        assert comment != first[1][0]
        assert result.outputs["comment-url"] == first[0].outputs["comment-url"]
        assert [method for method, _ in pull.github.writes()] == ["POST", "PATCH"]

    def test_the_outputs_of_a_kept_budget(self, second: Any) -> None:
        result, _ = second
        assert result.outputs["over-budget"] == "0"
        assert result.outputs["verdict"] == "pass"


class TestLoosenedBudget:
    """A project below the root of its repository raises its budget with its model.

    The head itself is checked out, without history: the base is where the two branches part.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, pull: PullRequestRun) -> Result:
        return pull.gate(ref="refs/heads/topic", depth=1, working_directory="models", id="m")

    @pytest.fixture(scope="class")
    @classmethod
    def pull(cls, open_pull_request: Opener) -> PullRequestRun:
        pull = open_pull_request(
            project(width=256, under="models/"),
            project(width=512, budget=80_000, under="models/"),
        )
        # The base branch moves on; the pull request is not held against what it lacks.
        pull.server.commit("main", project(width=1, under="models/"))
        return pull

    def test_the_base_is_where_the_branches_part(self, result: Result) -> None:
        base = Path(result.outputs["report-path"]).with_name("base.json")
        assert macs(base) == 128 * 256

    def test_the_comment_opens_with_the_loosened_budget(
        self, result: Result, pull: PullRequestRun
    ) -> None:
        assert result.outputs["loosened"] == "1"
        (comment,) = pull.comments()
        assert comment.startswith("<!-- pytest-flopbudget:v1 id=m -->\n")
        assert comment.index("loosens") < comment.index("| Test")


class TestFork:
    """A pull request that may not write, in a checkout that lacks its base."""

    @pytest.fixture(scope="class")
    @classmethod
    def pull(cls, open_pull_request: Opener) -> PullRequestRun:
        pull = open_pull_request(project(width=256), {"README.md": "A word.\n"})
        pull.github.faults = [Fault("POST", r".*/comments", 403)]
        return pull

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, pull: PullRequestRun) -> Result:
        return pull.gate(depth=1, is_fork=True)

    def test_a_comment_that_is_refused_does_not_change_the_verdict(
        self, result: Result, pull: PullRequestRun
    ) -> None:
        assert result.conclusion == "success", result.log
        assert result.outputs["verdict"] == "pass"
        assert result.outputs["comment-url"] == ""
        assert pull.github.writes() == [("POST", f"/repos/{REPOSITORY}/issues/7/comments")]

    def test_the_refusal_is_a_warning_that_says_why(self, result: Result) -> None:
        log = result.steps["Comment"].log
        assert "403: Resource not accessible by integration; the token of a pull request" in log
        assert "::warning title=Compute budget::The comment was not written" in log

    def test_the_missing_base_was_fetched(self, result: Result) -> None:
        assert macs(Path(result.outputs["report-path"]).with_name("base.json")) == 128 * 256

    def test_the_token_is_nowhere_in_the_log(self, result: Result) -> None:
        assert TOKEN not in result.log


class TestFirstRun:
    """A pull request that brings the first budget, and a test that fails for another reason."""

    @pytest.fixture(scope="class")
    @classmethod
    def pull(cls, open_pull_request: Opener) -> PullRequestRun:
        files = {**project(width=256), "tests/test_other.py": FAILING}
        return open_pull_request({"README.md": "A word.\n"}, files)

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, pull: PullRequestRun) -> Result:
        return pull.gate(pytest_args="tests -k 'forward or something'", comment="false")

    def test_a_base_without_budgets_is_no_baseline_and_no_failure(self, result: Result) -> None:
        assert result.steps["Measure the base"].conclusion == "success"
        assert (
            "No baseline: pytest ended with 4 on the base" in result.steps["Measure the base"].log
        )
        assert result.outputs["verdict"] == "pass"

    def test_tests_that_fail_for_other_reasons_still_fail_the_job(self, result: Result) -> None:
        assert result.conclusion == "failure"
        assert "tests failed on the head" in result.steps["Gate"].log

    def test_no_comment_is_written_where_none_is_wanted(
        self, result: Result, pull: PullRequestRun
    ) -> None:
        assert result.steps["Comment"].conclusion == "skipped"
        assert pull.github.seen == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pytest_args": "--no-such-option"}, "unrecognized arguments: --no-such-option"),
        ({"pytest_args": "-k 'unclosed"}, 'pytest-args: cannot read "-k \'unclosed"'),
        ({"pytest_args": "tests/nothing"}, "file or directory not found"),
    ],
)
def test_a_head_that_cannot_be_measured_fails_without_a_comparison(
    open_pull_request: Opener, given: dict[str, str], message: str
) -> None:
    pull = open_pull_request({"README.md": "1"}, {"README.md": "2"})
    result = pull.gate(**given)
    assert result.conclusion == "failure"
    assert message in result.steps["Measure the head"].log
    assert result.steps["Compare"].conclusion == "skipped"
    assert pull.github.seen == []


def test_a_base_ref_that_does_not_exist_fails_and_is_named(open_pull_request: Opener) -> None:
    pull = open_pull_request({"README.md": "1"}, PLAIN)
    result = pull.gate(base_ref="no-such-branch")
    assert result.conclusion == "failure"
    assert "base-ref: cannot find 'no-such-branch'" in result.steps["Measure the base"].log


def test_a_head_without_any_budget_fails_and_says_so(open_pull_request: Opener) -> None:
    pull = open_pull_request({"README.md": "1"}, PLAIN)
    result = pull.gate(comment="false")
    assert result.conclusion == "failure"
    assert result.outputs["verdict"] == "nothing-measured"
    assert "Nothing was measured" in result.steps["Gate"].log
