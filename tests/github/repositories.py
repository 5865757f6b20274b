"""Git repositories with real commits, and checkouts of them as actions/checkout makes them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "t", "EMAIL": "t@t.test", "DATE": "2026-11-23T10:00:00Z"}.items()
}
ALONE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
"""No settings of the machine that the tests run on."""


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env={**os.environ, **IDENTITY, **ALONE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Server:
    """The repository as the server has it: `main`, `topic`, and the pull request between them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        git(directory, "init", "--quiet", "--initial-branch=main")
        # What GitHub allows: any commit that a ref reaches can be fetched by its sha.
        git(directory, "config", "uploadpack.allowReachableSHA1InWant", "true")

    def commit(self, branch: str, files: Mapping[str, str]) -> str:
        """The sha of a new commit on the branch, which is made from `main` when it is new."""
        known = git(self.directory, "branch", "--format=%(refname:short)").split()
        if branch in known:
            git(self.directory, "checkout", "--quiet", branch)
        elif known:
            git(self.directory, "checkout", "--quiet", "-b", branch, "main")
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git(self.directory, "add", "--all")
        git(self.directory, "commit", "--quiet", "--message", "change")
        return git(self.directory, "rev-parse", "HEAD")

    def merge(self) -> str:
        """The sha of the merge commit of `topic`, kept as GitHub does, in refs/pull."""
        git(self.directory, "checkout", "--quiet", "--detach", "main")
        git(self.directory, "merge", "--quiet", "--no-ff", "--message", "merge", "topic")
        sha = git(self.directory, "rev-parse", "HEAD")
        git(self.directory, "update-ref", "refs/pull/7/merge", sha)
        return sha

    def checkout(self, target: Path, ref: str, *, depth: int) -> Path:
        """A checkout of one ref; depth 0 is the whole history."""
        target.mkdir(parents=True)
        git(target, "init", "--quiet", "--initial-branch=main")
        git(target, "remote", "add", "origin", self.directory.as_uri())
        limit = [f"--depth={depth}"] if depth else []
        git(target, "fetch", "--quiet", "--no-tags", *limit, "origin", f"+{ref}:refs/remotes/pull")
        git(target, "checkout", "--quiet", "--detach", "refs/remotes/pull")
        return target
