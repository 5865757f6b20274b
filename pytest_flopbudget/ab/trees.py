"""The two sides as trees of files: the base and the head, each in a directory of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from pytest_flopbudget.ab.git import Git, GitError, git_in
from pytest_flopbudget.core.errors import FlopBudgetError

_PREFIX: Final = "flopbudget-"
"""Of the temporary directories, by which those that a killed run left are known."""
_QUIETLY: Final = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
"""A checkout of ours is none of the user's: no hook of theirs runs for it."""


@final
class TreeError(FlopBudgetError):
    """A commit that is here, and of which no tree can be made."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One side, checked out."""

    root: Path
    """The top of the checkout."""
    directory: Path
    """Where the project is in it: the counterpart of where the command was called."""
    commit: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The checkout as it stands, as a commit."""

    commit: str
    is_dirty: bool
    """Whether the commit is a temporary one, with tracked changes in it."""
    untracked: tuple[str, ...]
    """Files that git neither tracks nor ignores, which are not in it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a head is held against."""

    commit: str
    note: str | None
    """Why it is not the commit that was named."""


def resolve(git: Git, rev: str) -> str:
    """The sha of a commit. Raises GitError when it is none, or is not here."""
    if rev.startswith("-"):
        raise GitError(f"{rev!r} is no commit")
    try:
        return git.output("rev-parse", "--verify", f"{rev}^{{commit}}").strip()
    except GitError as error:
        raise GitError(f"{rev!r} is no commit here: {error}; {_fetch_help(git)}") from error


def merge_base(git: Git, base: str, head: str) -> str:
    """Where the two parted. Raises GitError when they share no history, or not here."""
    sha = git("merge-base", base, head)
    if not sha:
        raise GitError(f"{base[:7]} and {head[:7]} share no history here; {_fetch_help(git)}")
    return sha


def branch_point(git: Git, rev: str, head: str) -> Base:
    """The base that is meant by `rev`: where the head left it, as in `git diff rev...head`.

    So that what others brought to `rev` since then is put down to nobody. A head that `rev`
    contains has left it nowhere, and is held against `rev` itself.
    """
    tip = resolve(git, rev)
    commit = merge_base(git, tip, head)
    if commit == tip:
        return Base(commit=tip, note=None)
    if commit == head:
        return Base(
            commit=tip, note=f"{rev} contains {head[:7]}, which is held against {rev} itself"
        )
    ahead = git.output("rev-list", "--count", f"{commit}..{tip}").strip()
    return Base(
        commit=commit,
        note=f"the base is {commit[:7]}, where the head left {rev}, not its tip {tip[:7]}, "
        f"which is {ahead} {'commit' if ahead == '1' else 'commits'} further",
    )


@contextmanager
def checkout(repository: Path, sha: str, parent: Path | None = None) -> Iterator[Tree]:
    """A checkout of the commit in a temporary directory; gone when the block ends.

    repository: the directory in the user's checkout that the project is in.
    parent: where the temporary directory is made; the system's place when None.
    Raises TreeError when the commit does not have the project, GitError when git cannot.
    """
    git = git_in(repository)
    toplevel = Path(git.output("rev-parse", "--show-toplevel").rstrip("\n"))
    prefix = git.output("rev-parse", "--show-prefix").rstrip("\n")
    with tempfile.TemporaryDirectory(
        # Paths are as long on either side: they are part of what a process starts with.
        prefix=f"{_PREFIX}{sha[:7]}-",
        dir=parent,
        ignore_cleanup_errors=True,
    ) as temporary:
        # A package may be named by the directory that it is in.
        root = Path(temporary).resolve() / toplevel.name
        try:
            git.output(*_QUIETLY, "worktree", "add", "--quiet", "--detach", str(root), sha)
            directory = root / prefix
            if not directory.is_dir():
                raise TreeError(f"{prefix} is not in the commit {sha[:7]}")
            yield Tree(root=root, directory=directory, commit=sha)
        finally:
            shutil.rmtree(root, ignore_errors=True)
            git("worktree", "remove", "--force", "--force", str(root))


def snapshot(repository: Path) -> Snapshot:
    """The checkout as it stands: HEAD when it is clean, else a temporary commit.

    Neither the index nor the files nor any ref are touched.
    """
    git = git_in(repository)
    head = resolve(git, "HEAD")
    stash = git.output(
        "-c", "user.name=flopbudget", "-c", "user.email=flopbudget", "stash", "create"
    ).strip()
    toplevel = git_in(Path(git.output("rev-parse", "--show-toplevel").rstrip("\n")))
    others = toplevel.output("ls-files", "-z", "--others", "--exclude-standard")
    return Snapshot(
        commit=stash or head,
        is_dirty=bool(stash),
        untracked=tuple(name for name in others.split("\0") if name),
    )


def _fetch_help(git: Git) -> str:
    if git("rev-parse", "--is-shallow-repository") == "true":
        return "this clone is shallow: check out with 'fetch-depth: 0', or 'git fetch --unshallow'"
    return "fetch it first, such as with 'git fetch origin main'"
