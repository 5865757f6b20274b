"""The whole of `flopbudget ab`: both sides are counted, and then timed by turns."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

from pytest_flopbudget.ab.counted import NEVER_TIMED, run_pytest
from pytest_flopbudget.ab.dependencies import dependency_differences
from pytest_flopbudget.ab.environment import Allocator, counterparts, import_path
from pytest_flopbudget.ab.git import git_in
from pytest_flopbudget.ab.selection import arguments_without, missing_paths
from pytest_flopbudget.ab.side import Side, SideError, Sides
from pytest_flopbudget.ab.side_by_side import Wanted, time_side_by_side
from pytest_flopbudget.ab.trees import (
    Snapshot,
    Tree,
    branch_point,
    checkout,
    checkouts,
    resolve,
    snapshot,
)
from pytest_flopbudget.core.report import Git, Report
from pytest_flopbudget.store.files import read_report

_LEFT_A_REPORT: Final = (0, 1, 5)
"""pytest's exit codes after which there is a report; 5 is that of a side without tests."""
_USAGE: Final = 4
_WRONG_USAGE: Final = " (leave out the paths and tests that it does not have)"
_SAID_LAST: Final = 15
_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user wants to know."""

    repository: Path
    """The project's directory in the user's checkout."""
    base: str
    """A commit, branch or tag; the head is held against where it left that."""
    head: str | None = None
    """The checkout as it stands, changes included, when None."""
    arguments: tuple[str, ...] = ()
    """What pytest is given on both sides."""
    base_python: str = sys.executable
    setup: tuple[str, ...] = ()
    """A command that is run in each side's directory first, such as a build."""
    time_limit_s: float
    """For the timing, all tests and pairs together."""
    allocator: Allocator = "warm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """What both sides measured; the head's has what was timed side by side."""

    base: Report
    head: Report


def run_ab(
    request: Request, *, environ: Mapping[str, str] = os.environ, say: Callable[[str], None]
) -> Reports:
    """Check both sides out, count them, and time by turns what has a latency budget.

    say: is told how far it is, a line at a time.
    Raises FlopBudgetError where a side cannot be had or measured; nothing is left behind.
    """
    git = git_in(request.repository)
    head = _head(request)
    base = branch_point(git, request.base, head.commit)
    user_s = checkouts(request.repository)
    with (
        checkout(request.repository, base.commit) as base_tree,
        checkout(request.repository, head.commit) as head_tree,
        tempfile.TemporaryDirectory(prefix="flopbudget-") as directory,
    ):
        asked = request.arguments
        missing = missing_paths(asked, base_tree.directory, head_tree.directory)
        known = arguments_without(asked, missing)
        sides = Sides(
            base=_side("base", base_tree, user_s, environ, request.base_python, known),
            head=_side("head", head_tree, user_s, environ, sys.executable, asked),
        )
        for side in (sides.base, sides.head):
            _set_up(side, request.setup, say)
        before = _count(sides.base, Path(directory), say, NEVER_TIMED)
        try:
            after = _count(sides.head, Path(directory), say)
        except SideError as error:
            # What the head lacks may be what was not added to it.
            raise SideError("\n  ".join([str(error), *_lacks(head)])) from error
        differences = dependency_differences(base_tree.directory, head_tree.directory)
        timed = time_side_by_side(
            sides,
            before,
            after,
            Wanted(
                base_commit=base.commit,
                head_commit=head.commit,
                is_dirty=head.is_dirty,
                trees={"base": base_tree.root, "head": head_tree.root},
                checkouts=user_s,
                project=request.repository,
                time_limit_s=request.time_limit_s,
                allocator=request.allocator,
                notes=(
                    *_notes(base.note, head),
                    *(f"the base does not have {path}" for path in missing),
                    *base_tree.notes,
                    *head_tree.notes,
                    *differences,
                ),
            ),
            say=say,
        )
        if timed is None:
            say("no test that passed on the head has a latency budget: nothing to time")
    return Reports(
        base=replace(before, git=Git(commit=base.commit, branch=None, is_dirty=False)),
        head=replace(
            after,
            git=Git(commit=head.commit, branch=request.head, is_dirty=head.is_dirty),
            side_by_side=timed,
        ),
    )


def _head(request: Request) -> Snapshot:
    if request.head is None:
        return snapshot(request.repository)
    commit = resolve(git_in(request.repository), request.head)
    return Snapshot(commit=commit, is_dirty=False, untracked=(), submodules=())


def _notes(base_note: str | None, head: Snapshot) -> Iterator[str]:
    if base_note is not None:
        yield base_note
    if head.is_dirty:
        yield "the head has the changes of the checkout that are not committed"
    yield from _lacks(head)


def _lacks(head: Snapshot) -> Iterator[str]:
    """What of the user's checkout is not in the head."""
    if head.untracked:
        yield (
            f"files that git does not track are not in the head: {_named(head.untracked)}; "
            "'git add' what it needs"
        )
    if head.submodules:
        yield f"changes within submodules are not in the head: {_named(head.submodules)}"


def _named(files: Sequence[str]) -> str:
    more = len(files) - _MOST_NAMED
    return ", ".join(files[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _side(
    name: str,
    tree: Tree,
    user_s: Sequence[Path],
    environ: Mapping[str, str],
    python: str,
    arguments: Sequence[str],
) -> Side:
    # Those who start this in their project's environment have its editable install on the path.
    also = counterparts(sys.path, user_s, tree.root)
    path = import_path(tree.directory, environ, counterparts=also)
    return Side(
        name=name,
        directory=tree.directory,
        environ={**environ, "PYTHONPATH": path},
        python=python,
        arguments=arguments,
    )


def _set_up(side: Side, command: Sequence[str], say: Callable[[str], None]) -> None:
    if not command:
        return
    say(f"setting up the {side.name}")
    with _log() as log:
        try:
            code = subprocess.run(  # noqa: S603 - the user's own command, and no shell
                command,
                cwd=side.directory,
                env=dict(side.environ),
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        except OSError as error:
            raise SideError(f"--setup: cannot run {command[0]!r}: {error.strerror}") from error
        if code:
            raise SideError(f"--setup ended with {code} on the {side.name}:\n{_tail(log)}")


def _count(
    side: Side, directory: Path, say: Callable[[str], None], options: Sequence[str] = ()
) -> Report:
    """The report of one side's own run."""
    say(f"counting on the {side.name}")
    path = directory / f"{side.name}.json"
    with _log() as log:
        code = run_pytest(side, path, options=options, output=log)
        if code not in _LEFT_A_REPORT or not path.exists():
            hint = _WRONG_USAGE if code == _USAGE else ""
            raise SideError(f"pytest ended with {code} on the {side.name}{hint}:\n{_tail(log)}")
    return read_report(path)


@contextmanager
def _log() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as log:
        yield log


def _tail(log: IO[bytes]) -> str:
    """The last that was printed."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return "\n".join(f"  {line}" for line in lines[-_SAID_LAST:]) or "  (it printed nothing)"
