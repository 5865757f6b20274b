"""The two sides as trees of files: the base and the head, each in a directory of its own."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from pytest_flopbudget.ab.git import Git, GitError, git_in
from pytest_flopbudget.core.errors import FlopBudgetError, nearest

_PREFIX: Final = "flopbudget-"
"""Of the temporary directories, by which those that a killed run left are known."""
_IN_USE: Final = "in-use"
"""A file in a temporary directory that its process holds a lock on for as long as it lives."""
_QUIETLY: Final = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
"""A checkout of ours is none of the user's: no hook and no watcher of theirs runs for it."""


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
    notes: tuple[str, ...]
    """What is missing in it, in sentences."""


def resolve(git: Git, rev: str) -> str:
    """The sha of a commit. Raises GitError when it is none, or is not here."""
    if rev.startswith("-"):
        raise GitError(f"{rev!r} is no commit")
    # Asked first, so that a directory without a repository is not taken for a missing commit.
    git.output("rev-parse", "--git-dir")
    sha = git("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
    if sha:
        return sha
    if rev == "HEAD":
        raise GitError("there is no commit yet: HEAD has nothing to be measured")
    raise GitError(f"{rev!r} is no commit that is here; {_mend(git, rev)}")


def merge_base(git: Git, base: str, head: str) -> str:
    """Where the histories of two commits meet. Raises GitError when they do not, or not here."""
    sha = git("merge-base", base, head)
    if not sha:
        raise GitError(
            f"the histories of {base[:7]} and {head[:7]} do not meet here; {_mend(git, base)}"
        )
    return sha


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a head is held against."""

    commit: str
    note: str | None
    """Why it is not the commit that was named."""


def branch_point(git: Git, rev: str, head: str) -> Base:
    """The base that is meant by `rev`: where the head left it, as in `git diff rev...head`.

    What others brought to `rev` since then is neither the head's fault nor its merit. A head
    that `rev` contains never left it, and is held against `rev` itself.
    """
    tip = resolve(git, rev)
    commit = merge_base(git, tip, head)
    if commit == tip:
        return Base(commit=tip, note=None)
    if commit == head:
        return Base(
            commit=tip,
            note=f"{rev} ({tip[:7]}) is ahead of the head {head[:7]}, which is held against it",
        )
    count = git.output("rev-list", "--count", f"{commit}..{tip}").strip()
    commits = "commit" if count == "1" else "commits"
    return Base(
        commit=commit,
        note=f"the base is {commit[:7]}, where the head left {rev}; "
        f"{rev} itself is {count} {commits} further, at {tip[:7]}",
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The user's checkout as it stands, as a commit."""

    commit: str
    is_dirty: bool
    """Whether the commit is a temporary one, of HEAD and the changes of tracked files."""
    untracked: tuple[str, ...]
    """Files and directories that git neither tracks nor ignores: they are not in the commit."""
    submodules: tuple[str, ...]
    """Submodules with changes that are not committed in them: these are not in it either."""


def snapshot(repository: Path) -> Snapshot:
    """The checkout as it stands: HEAD when no tracked file is changed, else a temporary commit.

    Neither the index nor a file nor a ref is touched; git drops the commit in its own time.
    `git stash create` would do the same, but writes the index, and gives up on a file that
    was added by intent alone.
    Raises GitError in the midst of a conflict, before the first commit and without a
    repository.
    """
    top = git_in(Path(git_in(repository).output("rev-parse", "--show-toplevel").rstrip("\n")))
    head = resolve(top, "HEAD")
    status = _status(top)
    if status.conflicts:
        raise GitError(
            f"{status.conflicts[0]} is in conflict: resolve it and 'git add' it, or name a "
            "commit with --head"
        )
    commit = _commit(top, head) if status.is_changed else head
    return Snapshot(
        commit=commit,
        is_dirty=commit != head,
        untracked=tuple(status.untracked),
        submodules=tuple(status.submodules),
    )


@dataclass(slots=True)
class _Status:
    is_changed: bool = False
    conflicts: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    submodules: list[str] = field(default_factory=list)


def _status(git: Git) -> _Status:
    """What differs from HEAD, whatever the user's settings hide of it."""
    status = _Status()
    answer = git.output(
        *("status", "--porcelain=v2", "-z", "--no-renames"),
        *("--untracked-files=normal", "--ignore-submodules=none"),
        # Else it writes the index to remember what it saw.
        extra={"GIT_OPTIONAL_LOCKS": "0"},
    )
    for line in answer.split("\0"):
        kind, _, rest = line.partition(" ")
        if kind == "?":
            status.untracked.append(rest)
        elif kind == "u":
            # Its states, submodule, four modes and three blobs come before the path.
            status.conflicts.append(rest.split(" ", 9)[-1])
        elif kind == "1":
            # Its states, submodule, three modes and two blobs.
            _, submodule, *_, path = rest.split(" ", 7)
            status.is_changed = True
            if "M" in submodule or "U" in submodule:
                status.submodules.append(path)
    return status


def _commit(git: Git, head: str) -> str:
    """A commit of the tracked files as they are; `head` when that is what it has."""
    index = git.directory / git.output("rev-parse", "--git-path", "index").rstrip("\n")
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as directory:
        copied = Path(directory) / "index"
        # With its time: a file as young as the index is read again, and this copy would be younger.
        shutil.copy2(index, copied)
        own = {"GIT_INDEX_FILE": str(copied)}
        # A user who is warned of line ends when adding files adds none here.
        git.output("-c", "core.safecrlf=false", "add", "--update", extra=own)
        tree = git.output("write-tree", extra=own).strip()
    if tree == git("rev-parse", f"{head}^{{tree}}"):
        return head
    parents = ["-p", head]
    merged = git("rev-parse", "--verify", "--quiet", "MERGE_HEAD")
    if merged:
        # What is being merged is in the history, as it will be once this is committed.
        parents += ["-p", merged]
    # The same files are the same commit, whoever asks and whenever.
    stamp = {"NAME": "flopbudget", "EMAIL": "flopbudget@localhost"}
    stamp["DATE"] = git.output("show", "--no-patch", "--format=%cI", head).strip()
    identity = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in stamp.items()
    }
    message = "The working tree, as flopbudget found it"
    return git.output("commit-tree", *parents, "-m", message, tree, extra=identity).strip()


def checkouts(repository: Path) -> tuple[Path, ...]:
    """The tops of all of the user's checkouts of the repository, this one first.

    The project may be installed from another one than the command was called in.
    """
    git = git_in(repository)
    top = Path(git.output("rev-parse", "--show-toplevel").rstrip("\n"))
    others = (path for path in _worktrees(git) if not path.parent.name.startswith(_PREFIX))
    return tuple(dict.fromkeys((top, *others)))


@contextmanager
def checkout(repository: Path, sha: str, parent: Path | None = None) -> Iterator[Tree]:
    """A checkout of the commit in a temporary directory; gone when the block ends.

    repository: the directory of the user's checkout that the project is in.
    parent: where the temporary directory is made; the system's place when None.
    What git notes of it beside the user's checkout goes too; what earlier runs that were
    killed left, goes first. Submodules are checked out from the user's own, where the user
    has them, and are empty where the user's are.
    Raises TreeError when the commit lacks the project, or a submodule's commit cannot be
    had; GitError when git refuses.
    """
    here = git_in(repository)
    top = git_in(Path(here.output("rev-parse", "--show-toplevel").rstrip("\n")))
    prefix = here.output("rev-parse", "--show-prefix").rstrip("\n")
    if prefix and not _has_directory(top, sha, prefix):
        raise TreeError(f"{prefix} is not in the commit {sha[:7]}")
    with ExitStack() as exits:
        added: list[tuple[Git, Path]] = []
        # Called last: git forgets a tree without complaint once its files are gone.
        exits.callback(_forget, added)
        temporary = exits.enter_context(
            tempfile.TemporaryDirectory(
                # As long on either side: where a process runs is part of what it starts with.
                prefix=f"{_PREFIX}{sha[:7]}-",
                dir=parent,
                ignore_cleanup_errors=True,
            )
        )
        exits.enter_context(_in_use(Path(temporary)))
        # Named as the user's: a package may be called by the directory that it is in.
        root = Path(temporary).resolve() / top.directory.name
        notes = _add(top, root, sha, added)
        yield Tree(root=root, directory=root / prefix, commit=sha, notes=tuple(notes))


def _add(git: Git, root: Path, sha: str, added: list[tuple[Git, Path]]) -> list[str]:
    """Check the commit out at `root`, with its submodules; what is missing, in sentences.

    git: at the top of the user's checkout of the same repository.
    added: gets every checkout that git is asked for, before it is.
    """
    _sweep(git)
    added.append((git, root))
    git.output(*_QUIETLY, "worktree", "add", "--quiet", "--detach", str(root), sha)
    notes = []
    for path, commit in _submodules(git, root, sha):
        user_s = git_in(git.directory / path)
        if not (user_s.directory / ".git").exists():
            notes.append(f"submodule {path} is not checked out here: it is empty at {sha[:7]}")
            continue
        _fetch(user_s, path, commit, of=sha)
        notes += _add(user_s, root / path, commit, added)
    return notes


def _submodules(git: Git, root: Path, sha: str) -> Iterator[tuple[str, str]]:
    """Path and commit of each submodule of a commit."""
    if not (root / ".gitmodules").exists():
        return
    for entry in git.output("ls-tree", "-r", "-z", "--full-tree", sha).split("\0"):
        facts, _, path = entry.partition("\t")
        if facts.startswith("160000 "):
            yield path, facts.split()[2]


def _fetch(submodule: Git, path: str, commit: str, *, of: str) -> None:
    """Get a submodule's commit that is not here from where the submodule came from."""
    if submodule("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"):
        return
    is_shallow = submodule("rev-parse", "--is-shallow-repository") == "true"
    depth = ["--depth=1"] if is_shallow else []
    try:
        submodule.output(
            *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", *depth),
            *("origin", commit),
            extra={"GIT_TERMINAL_PROMPT": "0"},
        )
    except GitError as error:
        raise TreeError(
            f"submodule {path}: its commit {commit[:7]} of {of[:7]} is not here ({error}); "
            f"fetch it: git -C {shlex.quote(path)} fetch origin {commit}"
        ) from error


def _has_directory(git: Git, sha: str, prefix: str) -> bool:
    return git("rev-parse", "--verify", "--quiet", f"{sha}:{prefix.rstrip('/')}") is not None


def _forget(added: list[tuple[Git, Path]]) -> None:
    for git, root in reversed(added):
        # It may never have come to be.
        with suppress(GitError):
            git.output("worktree", "remove", "--force", "--force", str(root))


@contextmanager
def _in_use(directory: Path) -> Iterator[None]:
    """A block in which the directory is seen to be in use, by `_is_left`."""
    import fcntl

    with (directory / _IN_USE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_left(directory: Path) -> bool:
    """Whether no process uses the temporary directory any more."""
    import fcntl

    try:
        with (directory / _IN_USE).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _sweep(git: Git) -> None:
    """Remove what runs that were killed left of their checkouts, and nothing else's."""
    for path in _worktrees(git):
        if path.parent.name.startswith(_PREFIX) and _is_left(path.parent):
            shutil.rmtree(path.parent, ignore_errors=True)
            _forget([(git, path)])


def _worktrees(git: Git) -> list[Path]:
    lines = git.output("worktree", "list", "--porcelain").splitlines()
    return [Path(line.partition(" ")[2]) for line in lines if line.startswith("worktree ")]


def _mend(git: Git, rev: str) -> str:
    """What to do about a commit, or its history, that is not here."""
    if git("rev-parse", "--is-shallow-repository") == "true":
        return "this clone is shallow: check out with 'fetch-depth: 0', or 'git fetch --unshallow'"
    names = git.output("for-each-ref", "--format=%(refname:short)").split()
    known = nearest(rev, names)
    if known is not None and known != rev:
        return f"did you mean {known!r}?"
    return "fetch it first, such as with 'git fetch origin main'"
