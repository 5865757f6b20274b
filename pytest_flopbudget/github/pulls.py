"""From a finished run to its pull request, by facts that the pull request's code cannot make up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.github.event import PullRequest
from pytest_flopbudget.github.rest import Client, GitHubError

_SHA: Final = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """The run that measured, as the event that its end triggered tells of it."""

    repository: str
    """`owner/name` of the repository that it ran in."""
    id: int
    attempt: int
    event: str
    """What started it, such as `pull_request`."""
    conclusion: str
    head_sha: str
    head_branch: str
    head_repository: str
    """`owner/name` of where the branch is; empty where that was deleted."""
    url: str
    """Its page, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An open pull request, as the list of them shows it."""

    pull: PullRequest
    base_repository: str
    head_repository: str


def parse_workflow_run(payload: object, *, repository: str) -> WorkflowRun:
    """The run that a `workflow_run` event is about.

    repository: GITHUB_REPOSITORY.
    Raises GitHubError: another kind of payload, or one of another repository.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise GitHubError(f"GITHUB_REPOSITORY: {repository!r} is not of the form owner/name")
    top = Node(payload, "the event's payload")
    try:
        run = top["workflow_run"]
        own = run["repository"]["full_name"].text()
        head = run.maybe("head_repository")
        found = WorkflowRun(
            repository=repository,
            id=run["id"].count(),
            attempt=run["run_attempt"].count(),
            event=run["event"].text(),
            conclusion=run.text_or_none("conclusion") or "",
            head_sha=_sha(run["head_sha"]),
            # Null for a run of no branch.
            head_branch=run.text_or_none("head_branch") or "",
            head_repository="" if head is None else head["full_name"].text(),
            url=run["html_url"].text(),
        )
    except ReportError as error:
        raise GitHubError(f"{error}; run this on the event workflow_run alone") from error
    if own.lower() != repository.lower():
        raise GitHubError(f"the event is about {own!r}, and not about {repository}")
    return found


def find_pull_request(client: Client, run: WorkflowRun) -> PullRequest | None:
    """The open pull request whose head the run measured; None when there is no such one any more.

    The event names no pull request for a fork, and what the run itself says is not to be
    believed. So it is looked up by the branch, and has to have the commit that was measured.
    Raises GitHubError, also where several pull requests would have the same head.
    """
    if not run.head_repository or not run.head_branch:
        return None
    owner = run.head_repository.partition("/")[0]
    listed = client.each(
        f"/repos/{run.repository}/pulls",
        lambda node: _candidate(node, run.repository),
        state="open",
        head=f"{owner}:{run.head_branch}",
    )
    found = [one.pull for one in listed if _is_of(one, run)]
    if len(found) > 1:
        numbers = ", ".join(f"#{pull.number}" for pull in found)
        raise GitHubError(f"{numbers} have the same head, and the run does not say whose it is")
    return found[0] if found else None


def head_sha_of(client: Client, pull: PullRequest) -> str:
    """The commit at the head of the pull request now. Raises GitHubError."""
    path = f"/repos/{pull.repository}/pulls/{pull.number}"
    return client.read(path, lambda node: _sha(node["head"]["sha"]))


def _is_of(candidate: Candidate, run: WorkflowRun) -> bool:
    return (
        candidate.pull.head_sha == run.head_sha
        and candidate.base_repository.lower() == run.repository.lower()
        # GitHub filters by the owner and the branch, and an owner may have two forks.
        and candidate.head_repository.lower() == run.head_repository.lower()
    )


def _candidate(node: Node, repository: str) -> Candidate:
    head = node["head"].maybe("repo")
    head_repository = "" if head is None else head["full_name"].text()
    return Candidate(
        pull=PullRequest(
            repository=repository,
            number=node["number"].count(),
            head_sha=_sha(node["head"]["sha"]),
            base_sha=_sha(node["base"]["sha"]),
            is_fork=head_repository.lower() != repository.lower(),
        ),
        base_repository=node["base"]["repo"]["full_name"].text(),
        head_repository=head_repository,
    )


def _sha(node: Node) -> str:
    text = node.text()
    if not _SHA.fullmatch(text):
        raise node.wrong("the sha of a commit")
    return text
