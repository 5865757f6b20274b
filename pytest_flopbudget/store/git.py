"""The state of the source, as git tells it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pytest_flopbudget.core.report import Git

_TIMEOUT_S = 10.0


def git_state(root: Path) -> Git | None:
    """Commit, branch and whether tracked files are changed, with one git process.

    None outside a repository, before its first commit, without git, and where git
    refuses or takes too long: a report is never lost for it.
    """
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        result = subprocess.run(  # noqa: S603 - a fixed command, found on the user's PATH
            command,
            cwd=root,
            # Reading must not take the lock that a commit at the same moment needs.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _parse(result.stdout.decode("utf-8", errors="replace"))


def _parse(status: str) -> Git | None:
    """The state from the output of ``git status --porcelain=v2 --branch``."""
    headers: dict[str, str] = {}
    is_dirty = False
    for line in status.splitlines():
        if line.startswith("# "):
            key, _, value = line[2:].partition(" ")
            headers[key] = value
        else:
            is_dirty = True
    commit, branch = headers.get("branch.oid"), headers.get("branch.head")
    if commit is None or commit == "(initial)":
        return None
    return Git(commit=commit, branch=None if branch == "(detached)" else branch, is_dirty=is_dirty)
