"""The commit that a head is held against."""

from __future__ import annotations

from typing import Final

from pytest_flopbudget.ab.git import Git
from pytest_flopbudget.github.event import Event, MergeGroup, PullRequest
from pytest_flopbudget.github.rest import GitHubError

_FETCH_HELP: Final = (
    "check out with 'fetch-depth: 2', or with credentials, so that it can be fetched"
)


def base_commit(git: Git, event: Event, ref: str) -> str | None:
    """The sha to measure as the base; None when there is nothing to be held against.

    ref: what the user wants as the base, else `""`. Then it is the first parent of the
    merge commit that GitHub makes for a pull request (its `base.sha` is often stale), or
    where the head itself is checked out, its merge-base; for a group of the merge queue,
    the base that the event names. A push has none: what it brings was held against its base
    before, and absolute budgets judge it. Commits that a shallow checkout lacks are fetched.
    Raises GitHubError when the base is known and cannot be had.
    """
    if ref:
        return _named(git, ref)
    if isinstance(event, MergeGroup):
        return _present(git, event.base_sha)
    if not isinstance(event, PullRequest):
        return None
    commit = git("cat-file", "commit", "HEAD")
    if commit is None:
        raise GitHubError("the working directory is in no git checkout")
    # Read from the commit itself: in a shallow clone, git's own commands say "no parents".
    header = commit.partition("\n\n")[0]
    parents = [line[7:] for line in header.splitlines() if line.startswith("parent ")]
    if len(parents) > 1 and parents[1] == event.head_sha:
        return _present(git, parents[0])
    return _merge_base(git, event.base_sha)


def _named(git: Git, ref: str) -> str:
    """The commit of a branch, a tag or a sha, here or on the server."""
    if ref.startswith("-"):
        raise GitHubError(f"base-ref: {ref!r} is no commit")
    sha = _resolve(git, ref)
    if sha is None and git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", ref) is not None:
        sha = _resolve(git, "FETCH_HEAD")
    if sha is None:
        raise GitHubError(f"base-ref: cannot find {ref!r}, here or on the server; {_FETCH_HELP}")
    return sha


def _present(git: Git, sha: str) -> str:
    """The same sha, once its files are here."""
    if _resolve(git, sha) is None and (
        git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", sha) is None
    ):
        raise GitHubError(f"cannot fetch the base commit {sha}; {_FETCH_HELP}")
    return sha


def _merge_base(git: Git, base_sha: str) -> str | None:
    """Where the head left the base branch; None when they share no history."""
    # A shallow clone has lost the history in which the two meet.
    depth = ["--unshallow"] if git("rev-parse", "--is-shallow-repository") == "true" else []
    if (depth or _resolve(git, base_sha) is None) and (
        git("fetch", "--quiet", "--no-tags", *depth, "origin", base_sha) is None
    ):
        raise GitHubError(f"cannot fetch the history of {base_sha}; {_FETCH_HELP}")
    return git("merge-base", "HEAD", base_sha)


def _resolve(git: Git, revision: str) -> str | None:
    """The sha of a commit that is here."""
    return git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
