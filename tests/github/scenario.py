"""Pull requests from beginning to end: real commits, the real steps, the real plugin.

The model is two matrices without bias, 64 x width and width x 64, on one row: `128 * width`
MACs. Its budget is 40 000 MACs: 32 768 at width 256 and 38 400 at 300 are within it, and 65 536
at 512 are over it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .api_mock import REPOSITORY, WORKFLOW_LOGIN, GitHub, serve
from .composite import Result, Runner
from .conftest import TOKEN, event_payload
from .mock_git import GitData
from .mock_runs import RUN_ID, Runs, serve_runs
from .repositories import ALONE, Server, git
from .uploads import Uploads

ACTIONS = Path(__file__).parents[2] / "action"
ACTION = ACTIONS / "action.yml"
PAYLOADS = Path(__file__).parent / "payloads"
LABEL = "flopbudget-accept"
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
class Scenario:
    """A repository with a branch `topic`, and the server that shows it as a pull request."""

    server: Server
    github: GitHub
    shown: Runs
    data: GitData
    directory: Path
    uploads: Uploads = field(default_factory=Uploads)
    """Of the last run."""
    runs: int = 0

    def gate(
        self, *, ref: str = "refs/pull/7/merge", depth: int = 2, is_fork: bool = False, **given: str
    ) -> Result:
        """What the action makes of the pull request as it is now."""
        if ref == "refs/pull/7/merge":
            self.server.merge()
        head_sha, base_sha = self.sha("topic"), self.sha("main")
        payload = event_payload(head_sha=head_sha, base_sha=base_sha, is_fork=is_fork)
        payload["repository"]["default_branch"] = "main"
        self.show(payload["pull_request"])
        return self.measure("pull_request", payload, ref, depth=depth, **given)

    def show(self, pull: dict[str, Any]) -> None:
        """The pull request from now on, with the branch that it is made from."""
        pull["head"]["ref"] = "topic"
        self.github.pull = pull
        self.shown.pulls = [pull]

    def sha(self, branch: str) -> str:
        return git(self.server.directory, "rev-parse", branch)

    def measure(
        self, event: str, payload: dict[str, Any], ref: str, *, depth: int = 2, **given: str
    ) -> Result:
        """What the action makes of a checkout of the ref, in a run that this event started."""
        here = self._new_run()
        workspace = self.server.checkout(here / "workspace", ref, depth=depth)
        # What `pip install -e .` does for the head: its sources are importable from anywhere.
        source = workspace / given.get("working_directory", ".") / "src"
        runner = self._runner(here, event, payload, workspace, {"PYTHONPATH": str(source)})
        self.uploads = Uploads()
        runner.stubs = {"actions/upload-artifact": self.uploads.upload}
        result = runner.run(ACTION, python=sys.executable, **given)
        assert result.warnings == []
        assert git(workspace, "status", "--porcelain") == ""
        assert git(workspace, "worktree", "list").count("\n") == 0
        assert [path.name for path in runner.temp.glob("flopbudget-*")] == []
        assert TOKEN not in result.log
        self.shown.artifacts = []
        for artifact in self.uploads.artifacts:
            self.shown.upload(artifact.name, artifact.archive)
        return result

    def later(self, action: str, event: str, payload: dict[str, Any], **given: str) -> Result:
        """What an action makes of the artifacts, in a job with nothing checked out."""
        here = self._new_run()
        workspace = here / "workspace"
        workspace.mkdir()
        # None of these may be imported beside the token.
        for name in ("json", "pytest_flopbudget", "sitecustomize"):
            trap = f"raise SystemExit('{name} of the workspace was imported')"
            (workspace / f"{name}.py").write_text(trap)
        runner = self._runner(here, event, payload, workspace, {"PYTHONPATH": str(workspace)})
        result = runner.run(ACTIONS / action / "action.yml", **given)
        assert result.warnings == []
        assert TOKEN not in result.log
        return result

    def comments(self) -> list[str]:
        return self.github.bodies_by(WORKFLOW_LOGIN)

    def accept(self, line: str, *, by: str = "maintainer") -> None:
        """Set the label and write the line, after the event was made."""
        label = {
            "id": 1,
            "node_id": "L_1",
            "url": "https://api.github.test/labels/1",
            "name": LABEL,
            "description": None,
            "color": "ededed",
            "default": False,
        }
        self.show({**self.github.pull, "labels": [label], "body": f"Text.\n\n{line}\n"})
        self.shown.label("labeled", LABEL, by)

    def _new_run(self) -> Path:
        self.runs += 1
        here = self.directory / f"run-{self.runs}"
        (here / "temp").mkdir(parents=True)
        return here

    def _runner(
        self, here: Path, event: str, payload: dict[str, Any], workspace: Path, env: dict[str, str]
    ) -> Runner:
        return Runner(
            workspace=workspace,
            temp=here / "temp",
            github={"event_name": event, "token": TOKEN},
            env={**self.environment(here, event, payload), **ALONE, **env},
        )

    def environment(self, here: Path, event: str, payload: dict[str, Any]) -> dict[str, str]:
        """The runner's variables in a run that this event started."""
        file = here / "event.json"
        file.write_text(json.dumps(payload))
        return {
            "GITHUB_API_URL": self.github.url,
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": str(file),
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_RUN_ID": str(RUN_ID),
            "GITHUB_SERVER_URL": "https://github.test",
            "no_proxy": "*",
        }


def repository(directory: Path, main: dict[str, str], topic: dict[str, str]) -> Server:
    """One with these files on `main`, and those changed on `topic`."""
    server = Server(directory / "server")
    server.commit("main", main)
    server.commit("topic", topic)
    return server


@contextmanager
def opened(directory: Path, server: Server) -> Iterator[Scenario]:
    """A pull request from `topic` into `main`."""
    with serve(GitHub()) as github, serve_runs(github) as shown:
        yield Scenario(server, github, shown, GitData(github), directory)
    assert github.violations == []


def push_payload(sha: str) -> dict[str, Any]:
    """A `push` event, as GitHub publishes it, of this commit to `main`."""
    payload: dict[str, Any] = json.loads((PAYLOADS / "push.json").read_text())
    payload |= {"ref": "refs/heads/main", "after": sha}
    payload["repository"]["default_branch"] = "main"
    return payload


def merge_group_payload(*, head_sha: str, base_sha: str) -> dict[str, Any]:
    """A `merge_group` event, as GitHub publishes it, of a group for pull request 7."""
    file = PAYLOADS / "merge_group.checks_requested.json"
    payload: dict[str, Any] = json.loads(file.read_text())
    branch = f"refs/heads/gh-readonly-queue/main/pr-7-{base_sha}"
    payload["merge_group"] |= {"head_sha": head_sha, "base_sha": base_sha, "head_ref": branch}
    return payload


def macs(report: Path) -> int:
    """The one measured value of a report, read without the code under test."""
    (test,) = json.loads(report.read_text())["tests"]
    (measurement,) = test["measurements"]
    return int(measurement["metrics"]["macs"]["value"])
