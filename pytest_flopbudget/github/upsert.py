"""The one comment of a pull request: found again, and changed in place by newer runs alone."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.github.event import PullRequest
from pytest_flopbudget.github.pulls import head_sha_of
from pytest_flopbudget.github.rest import Client, GitHubError

WORKFLOW_LOGIN: Final = "github-actions[bot]"
"""Whom comments made with a workflow's own token belong to."""
_STATE: Final = re.compile(
    r"<!-- pytest-flopbudget:state sha=([0-9a-f]{40,64}) run=(\d{1,20}) attempt=(\d{1,10}) -->"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Which run a comment is by. It stands in the comment, hidden, as its second line."""

    sha: str
    """The head commit that was measured."""
    run_id: int
    attempt: int

    def line(self) -> str:
        """The hidden line."""
        return (
            f"<!-- pytest-flopbudget:state sha={self.sha} run={self.run_id} "
            f"attempt={self.attempt} -->"
        )

    def is_older_than(self, other: RunState) -> bool:
        """Whether the other run began later, or is a later attempt of the same run."""
        return (self.run_id, self.attempt) < (other.run_id, other.attempt)


class Outcome(enum.Enum):
    """What became of the comment."""

    POSTED = "posted"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    """Not written: the pull request has moved on, or a newer run has commented."""
    WITHHELD = "withheld"
    """Not written: there is nothing to say, and no comment yet that says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upserted:
    """What became of the comment, and where it is."""

    outcome: Outcome
    url: str = ""
    """Empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comment:
    id: int
    author: str
    body: str
    url: str

    @property
    def state(self) -> RunState | None:
        """The run that wrote it; None where that cannot be read."""
        found = _STATE.fullmatch(_lines(self.body)[1])
        if found is None:
            return None
        return RunState(sha=found[1], run_id=int(found[2]), attempt=int(found[3]))


def upsert_comment(
    client: Client,
    pull: PullRequest,
    body: str,
    *,
    author: str,
    state: RunState,
    may_post: bool = True,
) -> Upserted:
    """Make the one comment of the pull request read `body`, unless that is out of date.

    body: begins with a hidden marker line, by which the comment is found again.
    author: the login that the client's token acts as. Anybody can write the marker
    into a comment, so one by another author is never taken for ours.
    may_post: false when only a comment that is already there is to be kept right.
    Raises GitHubError.
    """
    if head_sha_of(client, pull) != state.sha:
        return Upserted(outcome=Outcome.SUPERSEDED)
    whole = _with_state(body, state)
    ours = next(_ours(client, pull, _marker(body), author), None)
    if ours is not None:
        return _update(client, pull, ours, whole, state)
    if not may_post:
        return Upserted(outcome=Outcome.WITHHELD)
    posted = _comment(client, "POST", f"{_issues(pull)}/{pull.number}/comments", whole)
    # Another run may have posted meanwhile, for nothing keeps two of them apart.
    oldest = next(_ours(client, pull, _marker(body), author), posted)
    if oldest.id == posted.id:
        return Upserted(outcome=Outcome.POSTED, url=posted.url)
    # Nothing that this token is sure to be allowed takes a comment away, so ours points there.
    pointer = f"The compute budgets are in [another comment]({oldest.url}).\n"
    _comment(client, "PATCH", f"{_issues(pull)}/comments/{posted.id}", pointer)
    return _update(client, pull, oldest, whole, state)


def acting_login(client: Client) -> str:
    """The login that the client's token acts as.

    The token of a workflow is told 403 by `GET /user`, and acts as
    `github-actions[bot]`. That of another GitHub App is told 403 as well, and
    nothing in this API names the App, so its user has to.
    Raises GitHubError.
    """
    try:
        return client.read("/user", lambda node: node["login"].text())
    except GitHubError as error:
        if error.is_forbidden:
            return WORKFLOW_LOGIN
        raise


def _update(
    client: Client, pull: PullRequest, ours: _Comment, whole: str, state: RunState
) -> Upserted:
    """The comment made to read `whole`, unless a newer run wrote it or it says so already."""
    if ours.state is not None and state.is_older_than(ours.state):
        return Upserted(outcome=Outcome.SUPERSEDED, url=ours.url)
    if ours.state is not None and _said(ours.body) == _said(whole):
        return Upserted(outcome=Outcome.UNCHANGED, url=ours.url)
    changed = _comment(client, "PATCH", f"{_issues(pull)}/comments/{ours.id}", whole)
    return Upserted(outcome=Outcome.UPDATED, url=changed.url)


def _ours(client: Client, pull: PullRequest, marker: str, author: str) -> Iterator[_Comment]:
    """The comments of this author that begin with the marker, the oldest first."""
    for comment in client.each(f"{_issues(pull)}/{pull.number}/comments", _parse):
        if comment.author.lower() == author.lower() and _marker(comment.body) == marker:
            yield comment


def _comment(client: Client, method: str, path: str, body: str) -> _Comment:
    """The comment as GitHub has it after a write."""
    return client.write(method, path, {"body": body}, _parse)


def _parse(node: Node) -> _Comment:
    # The user is null where an account was deleted.
    user = node.maybe("user")
    return _Comment(
        id=node["id"].count(),
        author="" if user is None else user["login"].text(),
        body=node.text_or_none("body") or "",
        url=node["html_url"].text(),
    )


def _issues(pull: PullRequest) -> str:
    return f"/repos/{pull.repository}/issues"


def _with_state(body: str, state: RunState) -> str:
    marker, _, rest = body.partition("\n")
    return f"{marker}\n{state.line()}\n{rest}"


def _marker(body: str) -> str:
    return _lines(body)[0]


def _said(body: str) -> str:
    """What the comment says, whoever wrote it: all but the line with the state."""
    marker, _, rest = _lines(body)
    return f"{marker}\n{rest}"


def _lines(body: str) -> tuple[str, str, str]:
    """The first line, the second, and the rest, as GitHub keeps them.

    Its line ends, and the blanks after them, do not count.
    """
    first, _, rest = body.replace("\r\n", "\n").partition("\n")
    second, _, rest = rest.partition("\n")
    return first.strip(), second.strip(), rest.rstrip()
