"""The event that started a workflow run, as far as the gate needs it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_flopbudget.github.rest import GitHubError


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """The pull request that a run is about."""

    repository: str
    """`owner/name` of the repository that it would be merged into."""
    number: int
    head_sha: str
    base_sha: str
    """The tip of the base branch when the event was made; often stale."""
    is_fork: bool
    """Whether it comes from another repository, so that the token cannot write."""


def parse_pull_request(payload: Any, *, repository: str) -> PullRequest:
    """The pull request of a `pull_request` event's payload.

    repository: GITHUB_REPOSITORY.
    Raises GitHubError when the payload is of another shape.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise GitHubError(f"GITHUB_REPOSITORY: {repository!r} is not of the form owner/name")
    try:
        pull = payload["pull_request"]
        # A fork that was deleted leaves a null behind.
        head_repository = (pull["head"]["repo"] or {}).get("full_name")
        return PullRequest(
            repository=repository,
            number=int(pull["number"]),
            head_sha=_sha(pull["head"]["sha"]),
            base_sha=_sha(pull["base"]["sha"]),
            is_fork=str(head_repository).lower() != repository.lower(),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GitHubError("the event's payload describes no pull request") from error


def read_pull_request(environ: Mapping[str, str]) -> PullRequest | None:
    """The pull request that this run is about; None when another event started it.

    environ: the runner's variables, GITHUB_EVENT_NAME and its like.
    Raises GitHubError when the event file cannot be read.
    """
    if environ.get("GITHUB_EVENT_NAME") != "pull_request":
        return None
    path = Path(environ.get("GITHUB_EVENT_PATH", ""))
    try:
        payload = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise GitHubError(f"GITHUB_EVENT_PATH: cannot read {str(path)!r}") from error
    return parse_pull_request(payload, repository=environ.get("GITHUB_REPOSITORY", ""))


def _sha(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40,64}", text):
        raise ValueError(text)
    return text
