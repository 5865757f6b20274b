"""Git, run as a process in one directory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from pytest_flopbudget.core.errors import FlopBudgetError

_OF_ANOTHER_REPOSITORY: Final = (
    "GIT_DIR",
    "GIT_COMMON_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
)
"""What a git hook has in its environment. The directory says which repository is meant."""


@final
class GitError(FlopBudgetError):
    """Something that git refused, with what it said."""


@final
@dataclass(frozen=True, slots=True)
class Git:
    """Git in one directory: called with arguments, it answers or gives None when it fails."""

    directory: Path

    def __call__(self, *arguments: str) -> str | None:
        """The output without the white space around it, None when git fails.

        What git complains of goes to our standard error.
        """
        done = self._run(arguments, stderr=None, extra={})
        return done.stdout.strip() if done.returncode == 0 else None

    def output(self, *arguments: str, extra: Mapping[str, str] | None = None) -> str:
        """The output as it is.

        extra: what the environment has besides.
        Raises GitError with what git said.
        """
        done = self._run(arguments, stderr=subprocess.PIPE, extra=extra or {})
        if done.returncode != 0:
            raise GitError(_complaint(done.stderr) or f"git ended with {done.returncode}")
        return done.stdout

    def _run(
        self, arguments: tuple[str, ...], *, stderr: int | None, extra: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if k not in _OF_ANOTHER_REPOSITORY}
        try:
            return subprocess.run(  # noqa: S603 - a list of arguments, no shell
                ["git", *arguments],  # noqa: S607 - the user's own git
                cwd=self.directory,
                env={**kept, **extra},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                # Names of files are bytes to git, and go back to it as they came.
                encoding="utf-8",
                errors="surrogateescape",
                check=False,
            )
        except FileNotFoundError as error:
            raise GitError(f"git: {error.strerror}: {error.filename}") from error


def git_in(directory: Path) -> Git:
    """Git as run in this directory."""
    return Git(directory)


def _complaint(stderr: str) -> str:
    """What git said, in one line: from where it gave up, without the progress before."""
    line = " ".join(stderr.split())
    starts = [at for at in (line.find("fatal: "), line.find("error: ")) if at >= 0]
    return line[min(starts, default=0) :]
