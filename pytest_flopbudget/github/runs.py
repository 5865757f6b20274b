"""Runs pytest on the head and on the base of a pull request: `python -m` this module.

    runs head REPORT --pytest-args "tests -k model"
    runs base REPORT --pytest-args "tests -k model" [--base-ref REF]
        [--head-report REPORT --time-limit "5 min"]

`head` runs pytest where it stands, and ends with pytest's exit code. `base` runs the
same in a worktree of the base commit, and leaves no report where there is nothing to be
held against: it ends with 2 only when the base is known and cannot be had. With the head's
report, it then times what has a latency budget there on both sides by turns, and adds what
it found to that report.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pytest_flopbudget.ab.counted import NEVER_TIMED, RAN_TO_ITS_END, run_pytest
from pytest_flopbudget.ab.dependencies import dependency_differences
from pytest_flopbudget.ab.environment import counterparts, import_path
from pytest_flopbudget.ab.git import Git, git_in
from pytest_flopbudget.ab.selection import arguments_without, missing_paths
from pytest_flopbudget.ab.side import Side, Sides
from pytest_flopbudget.ab.side_by_side import Wanted, time_side_by_side
from pytest_flopbudget.ab.signals import ending_cleanly
from pytest_flopbudget.ab.trees import Tree, TreeError, checkout, checkouts
from pytest_flopbudget.core.comparing import base_failed
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.metrics import Dimension
from pytest_flopbudget.core.quantity import parse_quantity
from pytest_flopbudget.core.report import Report
from pytest_flopbudget.github.base import base_commit
from pytest_flopbudget.github.commands import say
from pytest_flopbudget.github.event import read_event
from pytest_flopbudget.github.rest import GitHubError
from pytest_flopbudget.store.files import read_report, write_report

_NO_TESTS: Final = 5
"""pytest's exit code where there is no test at all, as before the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What of the head is to be timed beside the base, and for how long."""

    report: Path
    """The head's, to which is added what was found."""
    time_limit_s: float
    """Zero to time nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one side; the exit code is described above."""
    parser = argparse.ArgumentParser(prog="runs", description="Run one side of a pull request.")
    parser.add_argument("side", choices=("head", "base"))
    parser.add_argument("report", type=Path)
    parser.add_argument("--pytest-args", default="")
    parser.add_argument("--base-ref", default="")
    parser.add_argument("--head-report", type=Path)
    parser.add_argument("--time-limit", default="5 min")
    args = parser.parse_args(argv)
    # The base runs elsewhere, and means the same file.
    report = args.report.absolute()
    try:
        pytest_args = _split(args.pytest_args)
        if args.side == "head":
            head = Side(
                name="head", directory=Path.cwd(), environ=os.environ, arguments=pytest_args
            )
            return run_pytest(head, report)
        with ending_cleanly():
            missing = run_base(
                git_in(Path.cwd()),
                pytest_args,
                report,
                ref=args.base_ref,
                environ=os.environ,
                latency=_latency(args),
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
    latency: Latency | None = None,
) -> str:
    """Why there is no report of the base; `""` when it was written.

    latency: names the head's report, in which a note is left for whoever judges when the base's
    tests could not run. Nothing is timed where it leaves no time.
    Never fails for what the base's own tests do, else no pull request could mend them.
    Raises GitHubError or GitError when the base is known and cannot be had.
    """
    sha = base_commit(git, read_event(environ), ref)
    if sha is None:
        return "there is no base to be held against"
    parent = environ.get("RUNNER_TEMP")
    try:
        with checkout(git.directory, sha, Path(parent) if parent else None) as tree:
            # The editable install of the head's checkout, which this process has too.
            also = counterparts(sys.path, checkouts(git.directory), tree.root)
            path = import_path(tree.directory, environ, counterparts=also)
            missing = missing_paths(pytest_args, tree.directory, git.directory)
            sides = Sides(
                base=Side(
                    name="base",
                    directory=tree.directory,
                    environ={**environ, "PYTHONPATH": path},
                    arguments=arguments_without(pytest_args, missing),
                ),
                head=Side(
                    name="head", directory=git.directory, environ=environ, arguments=pytest_args
                ),
            )
            # Folded in the log, so that a failure of the base is not taken for one of the head.
            sys.stdout.write(f"::group::pytest on the base commit {sha[:7]}\n")
            sys.stdout.writelines(f"{note}\n" for note in tree.notes)
            sys.stdout.writelines(f"The base does not have {path}.\n" for path in missing)
            exit_code = run_pytest(sides.base, report, options=NEVER_TIMED)
            sys.stdout.write("::endgroup::\n")
            if exit_code in RAN_TO_ITS_END and report.exists() and latency and latency.time_limit_s:
                _add_latency(sides, tree, read_report(report), latency)
    except TreeError as error:
        return str(error)
    if exit_code not in RAN_TO_ITS_END:
        report.unlink(missing_ok=True)
        if exit_code != _NO_TESTS:
            _tell(base_failed(exit_code), latency)
    if exit_code == _NO_TESTS:
        return f"pytest found no tests on the base commit {sha[:7]}"
    if not report.exists():
        return f"pytest ended with {exit_code} on the base commit {sha[:7]}"
    return ""


def _tell(note: str, latency: Latency | None) -> None:
    """Say it in the run, and in the head's report, from which the comment is made."""
    say("warning", note)
    if latency is not None:
        head = read_report(latency.report)
        write_report(replace(head, notes=(*head.notes, note)), latency.report)


def _add_latency(sides: Sides, base_tree: Tree, base: Report, latency: Latency) -> None:
    """Time both sides by turns, and add what was found to the head's report.

    Where that cannot be done the report says why, and everything else is judged all the same.
    """
    head = read_report(latency.report)
    sys.stdout.write("::group::timing the base and the head side by side\n")
    try:
        found = time_side_by_side(
            sides, base, head, _wanted(sides, base_tree, head, latency), say=_print
        )
    except FlopBudgetError as error:
        why = f"latencies were not taken side by side: {error}"
        head = replace(head, notes=(*head.notes, why))
        sys.stdout.write("::endgroup::\n")
        say("warning", why)
    else:
        head = replace(head, side_by_side=found)
        sys.stdout.write("::endgroup::\n")
    write_report(head, latency.report)


def _wanted(sides: Sides, base_tree: Tree, head: Report, latency: Latency) -> Wanted:
    user_s = checkouts(sides.head.directory)
    return Wanted(
        base_commit=base_tree.commit,
        head_commit=head.git.commit if head.git is not None else "",
        is_dirty=head.git is not None and head.git.is_dirty,
        trees={"base": base_tree.root, "head": user_s[0]},
        checkouts=user_s,
        project=sides.head.directory,
        time_limit_s=latency.time_limit_s,
        allocator="warm",
        notes=dependency_differences(base_tree.directory, sides.head.directory),
    )


def _latency(args: argparse.Namespace) -> Latency | None:
    """Nothing where the head's report is not given."""
    try:
        time_limit_s = float(parse_quantity(args.time_limit, Dimension.SECOND))
    except FlopBudgetError as error:
        raise GitHubError(f"time-limit: {error}") from error
    if args.head_report is None:
        return None
    return Latency(report=args.head_report.absolute(), time_limit_s=time_limit_s)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _split(pytest_args: str) -> list[str]:
    try:
        return shlex.split(pytest_args)
    except ValueError as error:
        raise GitHubError(f"pytest-args: cannot read {pytest_args!r}: {error}") from error


if __name__ == "__main__":
    raise SystemExit(main())
