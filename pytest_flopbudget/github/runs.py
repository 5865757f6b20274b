"""Runs pytest on the head and on the base of a pull request: `python -m` this module.

    runs head REPORT --pytest-args "tests -k model"
    runs base REPORT --pytest-args "tests -k model" [--base-ref REF]

`head` runs pytest where it stands, and ends with pytest's exit code. `base` runs the
same in a worktree of the base commit, and leaves no report where there is nothing to be
held against: it ends with 2 only when the base is known and cannot be had.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pytest_flopbudget.ab.environment import import_path
from pytest_flopbudget.ab.git import Git, git_in
from pytest_flopbudget.ab.trees import TreeError, checkout
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.github.base import base_commit
from pytest_flopbudget.github.event import read_event
from pytest_flopbudget.github.rest import GitHubError

_RAN_TO_ITS_END: Final = (0, 1)
"""pytest's exit codes for a run whose tests all ran, whether or not they passed."""
_REPORTING: Final = ("--flopbudget=report",)
"""Behind the user's own, so that a budget fails no test: the gate judges them, with the base
beside, and the exit code tells of the tests' own failures alone."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one side; the exit code is described above."""
    parser = argparse.ArgumentParser(prog="runs", description="Run one side of a pull request.")
    parser.add_argument("side", choices=("head", "base"))
    parser.add_argument("report", type=Path)
    parser.add_argument("--pytest-args", default="")
    parser.add_argument("--base-ref", default="")
    args = parser.parse_args(argv)
    # The base runs elsewhere, and means the same file.
    report = args.report.absolute()
    try:
        pytest_args = _split(args.pytest_args)
        if args.side == "head":
            return _pytest(pytest_args, report, directory=Path.cwd(), environ=os.environ)
        missing = run_base(
            git_in(Path.cwd()), pytest_args, report, ref=args.base_ref, environ=os.environ
        )
    except FlopBudgetError as error:
        sys.stderr.write(f"flopbudget {args.side}: error: {error}\n")
        return 2
    if missing:
        sys.stdout.write(f"No baseline: {missing}.\n")
    return 0


def run_base(
    git: Git,
    pytest_args: Sequence[str],
    report: Path,
    *,
    ref: str,
    environ: Mapping[str, str],
) -> str:
    """Why there is no report of the base; `""` when it was written.

    Never fails for what the base's own tests do, else no pull request could mend them.
    Raises GitHubError or GitError when the base is known and cannot be had.
    """
    sha = base_commit(git, read_event(environ), ref)
    if sha is None:
        return "there is no base to be held against"
    parent = environ.get("RUNNER_TEMP")
    try:
        with checkout(git.directory, sha, Path(parent) if parent else None) as tree:
            # Folded in the log, so that a failure of the base is not taken for one of the head.
            sys.stdout.write(f"::group::pytest on the base commit {sha[:7]}\n")
            exit_code = _pytest(
                pytest_args,
                report,
                directory=tree.directory,
                environ={**environ, "PYTHONPATH": import_path(tree.directory, environ)},
            )
            sys.stdout.write("::endgroup::\n")
    except TreeError as error:
        return str(error)
    if exit_code not in _RAN_TO_ITS_END:
        report.unlink(missing_ok=True)
    if not report.exists():
        return f"pytest ended with {exit_code} on the base commit {sha[:7]}"
    return ""


def _pytest(
    pytest_args: Sequence[str], report: Path, *, directory: Path, environ: Mapping[str, str]
) -> int:
    """The exit code of pytest, run as its own process."""
    # What the tests print must keep its place among what is printed here.
    sys.stdout.flush()
    done = subprocess.run(  # noqa: S603 - the user's own tests, and no shell
        [sys.executable, "-m", "pytest", *pytest_args, *_REPORTING, f"--flopbudget-json={report}"],
        cwd=directory,
        env=dict(environ),
        check=False,
    )
    return done.returncode


def _split(pytest_args: str) -> list[str]:
    try:
        return shlex.split(pytest_args)
    except ValueError as error:
        raise GitHubError(f"pytest-args: cannot read {pytest_args!r}: {error}") from error


if __name__ == "__main__":
    raise SystemExit(main())
