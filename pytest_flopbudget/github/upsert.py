"""The one comment of a pull request: found again, and changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pytest_flopbudget.github.event import PullRequest
from pytest_flopbudget.github.rest import Client, GitHubError

WORKFLOW_LOGIN: Final = "github-actions[bot]"
"""Whom comments made with a workflow's own token belong to."""


def upsert_comment(client: Client, pull: PullRequest, body: str, *, author: str) -> str:
    """The address of the comment that now reads `body`.

    body: begins with a hidden marker line, by which the comment is found again.
    author: the login that the client's token acts as. Anybody can write the marker
    into a comment, so one by another author is never taken for ours.
    Raises GitHubError.
    """
    issues = f"/repos/{pull.repository}/issues"
    ours = _find(client, f"{issues}/{pull.number}/comments", _marker(body), author)
    if ours is None:
        posted = client.request("POST", f"{issues}/{pull.number}/comments", {"body": body})
    elif _normal(ours["body"]) == _normal(body):
        posted = ours
    else:
        posted = client.request("PATCH", f"{issues}/comments/{ours['id']}", {"body": body})
    return str(posted["html_url"])


def acting_login(client: Client) -> str:
    """The login that the client's token acts as.

    The token of a workflow is told 403 by `GET /user`, and acts as
    `github-actions[bot]`. That of another GitHub App is told 403 as well, and
    nothing in this API names the App, so its user has to.
    Raises GitHubError.
    """
    try:
        return str(client.request("GET", "/user")["login"])
    except GitHubError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            return WORKFLOW_LOGIN
        raise


def _find(client: Client, path: str, marker: str, author: str) -> Mapping[str, Any] | None:
    """The oldest comment of this author that begins with the marker."""
    for comment in client.items(path):
        # The user is null where an account was deleted.
        login = (comment["user"] or {}).get("login", "")
        if login.lower() == author.lower() and _marker(comment.get("body") or "") == marker:
            return dict(comment)
    return None


def _marker(body: str) -> str:
    return body.partition("\n")[0].strip()


def _normal(body: str) -> str:
    """The body as GitHub keeps it: its line ends and the blanks after it do not count."""
    return body.replace("\r\n", "\n").rstrip()
