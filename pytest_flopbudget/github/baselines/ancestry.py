"""The nearest ancestor of a commit of which something is known."""

from __future__ import annotations

from collections.abc import Container, Iterator
from itertools import islice
from typing import Final

from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.github.rest import Client

MOST_STEPS: Final = 50
_MOST_LISTED: Final = 1000
"""GitHub lists the commits of merged branches in between."""


def nearest(
    client: Client, repository: str, sha: str, known: Container[str]
) -> tuple[str, int] | None:
    """The newest known commit from `sha` on down, and how many commits older it is.

    Raises GitHubError.
    """
    for age, ancestor in enumerate(first_parents(client, repository, sha)):
        if ancestor in known:
            return ancestor, age
    return None


def first_parents(client: Client, repository: str, sha: str) -> Iterator[str]:
    """The commit itself, and up to 50 commits before it on the same branch, newest first.

    Asks the server, because a shallow checkout has lost them. Raises GitHubError.
    """
    yield sha
    listed = islice(client.each(f"/repos/{repository}/commits", _commit, sha=sha), _MOST_LISTED)
    parents: dict[str, str] = {}
    for _ in range(MOST_STEPS):
        while sha not in parents:
            found = next(listed, None)
            if found is None:
                return
            parents[found[0]] = found[1]
        if not parents[sha]:
            return
        sha = parents[sha]
        yield sha


def _commit(node: Node) -> tuple[str, str]:
    """The commit and its first parent; an empty text where it has none."""
    parents = list(node["parents"].items())
    return node["sha"].text(), parents[0]["sha"].text() if parents else ""
