"""The event that started a workflow run, as far as the gate needs it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

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
    is_by_dependabot: bool = False
    """Whether Dependabot started the run: its token cannot write either, in any repository."""

    @property
    def read_only_for(self) -> str:
        """Whose pull request it is that GitHub gives a token that only reads; else empty."""
        if self.is_fork:
            return "a pull request from a fork"
        return "a pull request by Dependabot" if self.is_by_dependabot else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeGroup:
    """A group of the merge queue that a run is about."""

    base_sha: str
    """What the group would be merged into: the groups before it, or the branch's tip."""
    pull_number: int | None = None
    """The pull request that the group was made for; None where its branch does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """New commits on a branch or a tag."""

    sha: str
    is_to_default_branch: bool


Event: TypeAlias = PullRequest | MergeGroup | Push | None
"""What a run is about; None for a run by hand, by the clock and the like."""

_DEPENDABOT: Final = "dependabot[bot]"
_GONE: Final = "0" * 40
"""The sha after a push that deletes a branch."""
_GROUP: Final = re.compile(r"refs/heads/gh-readonly-queue/.+/pr-(\d{1,10})-[0-9a-f]{40,64}")
"""The branch that GitHub makes for a group."""


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
            # Who made the event and not the pull request: a person who pushes to Dependabot's
            # branch gets a token that writes. A repeated run keeps its event, and the token.
            is_by_dependabot=(payload.get("sender") or {}).get("login") == _DEPENDABOT,
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
    payload = read_payload(environ)
    return parse_pull_request(payload, repository=environ.get("GITHUB_REPOSITORY", ""))


def read_event(environ: Mapping[str, str]) -> Event:
    """What this run is about. Raises GitHubError as `read_pull_request` does."""
    match environ.get("GITHUB_EVENT_NAME"):
        case "merge_group":
            return parse_merge_group(read_payload(environ))
        case "push":
            return parse_push(read_payload(environ))
        case _:
            return read_pull_request(environ)


def parse_merge_group(payload: Any) -> MergeGroup:
    """The group of a `merge_group` event's payload. Raises GitHubError."""
    try:
        group = payload["merge_group"]
        named = _GROUP.fullmatch(str(group.get("head_ref", "")))
        return MergeGroup(
            base_sha=_sha(group["base_sha"]), pull_number=int(named[1]) if named else None
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GitHubError("the event's payload describes no merge group") from error


def parse_push(payload: Any) -> Push:
    """The push of a `push` event's payload. Raises GitHubError, also where nothing is left."""
    try:
        sha = _sha(payload["after"])
        default = str(payload["repository"]["default_branch"])
        ref = str(payload["ref"])
    except (KeyError, TypeError, ValueError) as error:
        raise GitHubError("the event's payload describes no push") from error
    if sha == _GONE:
        raise GitHubError(f"the push deletes {ref}: there is nothing to measure")
    return Push(sha=sha, is_to_default_branch=ref == f"refs/heads/{default}")


def read_default_branch(environ: Mapping[str, str]) -> str:
    """The repository's default branch, as every event names it. Raises GitHubError."""
    try:
        return str(read_payload(environ)["repository"]["default_branch"])
    except (KeyError, TypeError) as error:
        raise GitHubError("the event's payload names no default branch") from error


def read_payload(environ: Mapping[str, str]) -> Any:
    """The decoded file of the event. Raises GitHubError."""
    path = Path(environ.get("GITHUB_EVENT_PATH", ""))
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise GitHubError(f"GITHUB_EVENT_PATH: cannot read {str(path)!r}") from error


def _sha(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40,64}", text):
        raise ValueError(text)
    return text
