"""Whether somebody with the right to do so takes on what a pull request costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from pytest_flopbudget.core.acceptance import Acceptance, parse_acceptances
from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.github.rest import Client, GitHubError
from pytest_flopbudget.render.sentences import LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The label that lets the lines of a pull request count, and the text with these lines."""

    is_set: bool
    set_by: str = ""
    """Who put the label; empty where that cannot be read."""
    body: str = ""
    is_of_event: bool = False
    """Whether it is as the event shows it, since the token may not read pull requests."""


def read_approval(
    client: Client,
    repository: str,
    number: int,
    *,
    label: str = LABEL,
    payload: Mapping[str, Any] | None = None,
) -> Approval:
    """The approval of a pull request as it stands now.

    payload: the event's, which is used where the token cannot read pull requests. It shows
    them as they were when the event was made, also when the run is repeated later.
    Raises GitHubError.
    """
    path = f"/repos/{repository}/pulls/{number}"
    try:
        found = client.read(path, lambda node: _approval(node, label))
    except GitHubError as error:
        if payload is None or not _is_unreadable(error):
            raise
        return replace(approval_in(payload, label=label), is_of_event=True)
    if not found.is_set:
        return found
    return replace(found, set_by=_set_by(client, repository, number, label))


def approval_in(payload: Mapping[str, Any], *, label: str = LABEL) -> Approval:
    """The approval as a `pull_request` event shows it. Raises GitHubError."""
    try:
        return _approval(Node(payload, "the event's payload")["pull_request"], label)
    except ReportError as error:
        raise GitHubError(str(error)) from error


def acceptances_of(approval: Approval) -> tuple[tuple[Acceptance, ...], tuple[str, ...]]:
    """The lines that count, and complaints about lines that cannot be read.

    Without the label no line counts, and none is complained about.
    """
    if not approval.is_set:
        return (), ()
    accepted, complaints = parse_acceptances(approval.body)
    return tuple(replace(one, set_by=approval.set_by) for one in accepted), tuple(complaints)


def _is_unreadable(error: GitHubError) -> bool:
    """Whether the token lacks the permission; in a private repository it is told of nothing."""
    return error.is_forbidden or error.status == HTTPStatus.NOT_FOUND


def _approval(pull: Node, label: str) -> Approval:
    names = [item["name"].text() for item in pull["labels"].items()]
    return Approval(
        is_set=_is_among(label, names),
        # Null where nothing was written.
        body=pull.text_or_none("body") or "",
    )


def _is_among(label: str, names: Iterable[str]) -> bool:
    # GitHub takes labels that differ in case alone for the same.
    return label.casefold() in {name.casefold() for name in names}


def _set_by(client: Client, repository: str, number: int, label: str) -> str:
    """Who put the label that is there now; empty where the events cannot be read."""
    actor = ""
    events = client.each(f"/repos/{repository}/issues/{number}/events", _labelling)
    try:
        for event, name, login in events:
            if _is_among(label, [name]):
                actor = login if event == "labeled" else ""
    except GitHubError as error:
        # The label is there, whoever put it: a limit must not take it away.
        if not _is_unreadable(error) and not error.is_limited:
            raise
        return ""
    return actor


def _labelling(node: Node) -> tuple[str, str, str]:
    """What happened, to which label, by whom; empty texts for what was not about labels."""
    event = node["event"].text()
    if event not in {"labeled", "unlabeled"}:
        return event, "", ""
    actor = node.maybe("actor")
    return event, node["label"]["name"].text(), "" if actor is None else actor["login"].text()
