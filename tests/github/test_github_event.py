"""What a run learns of its pull request from the event that started it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_flopbudget.github.event import PullRequest, parse_pull_request, read_pull_request
from pytest_flopbudget.github.rest import GitHubError

from .api_mock import REPOSITORY
from .conftest import event_payload

HEAD, BASE = "a" * 40, "b" * 40


def test_a_pull_request_of_the_same_repository_is_no_fork() -> None:
    payload = event_payload(head_sha=HEAD, base_sha=BASE)
    assert parse_pull_request(payload, repository="Octo/Models") == PullRequest(
        repository="Octo/Models", number=7, head_sha=HEAD, base_sha=BASE, is_fork=False
    )


def test_a_pull_request_of_another_repository_is_a_fork() -> None:
    payload = event_payload(head_sha=HEAD, base_sha=BASE, is_fork=True)
    assert parse_pull_request(payload, repository=REPOSITORY).is_fork


def test_a_deleted_fork_is_a_fork() -> None:
    payload = event_payload(head_sha=HEAD, base_sha=BASE)
    payload["pull_request"]["head"]["repo"] = None
    assert parse_pull_request(payload, repository=REPOSITORY).is_fork


@pytest.mark.parametrize(
    "payload",
    [
        {},
        [],
        None,
        {"pull_request": None},
        event_payload(head_sha="--upload-pack=x", base_sha=BASE),
    ],
)
def test_a_payload_of_another_shape_is_one_line(payload: Any) -> None:
    with pytest.raises(GitHubError, match=r"^the event's payload describes no pull request$"):
        parse_pull_request(payload, repository=REPOSITORY)


@pytest.mark.parametrize("repository", ["", "models", "octo/models/../x", "octo/mo dels"])
def test_a_repository_name_that_would_change_the_address_is_refused(repository: str) -> None:
    payload = event_payload(head_sha=HEAD, base_sha=BASE)
    with pytest.raises(GitHubError, match=r"GITHUB_REPOSITORY: .* is not of the form owner/name"):
        parse_pull_request(payload, repository=repository)


def test_another_event_is_about_no_pull_request() -> None:
    assert read_pull_request({"GITHUB_EVENT_NAME": "push"}) is None
    assert read_pull_request({}) is None


def test_the_event_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(event_payload(head_sha=HEAD, base_sha=BASE)))
    environ = {
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(path),
        "GITHUB_REPOSITORY": REPOSITORY,
    }
    pull = read_pull_request(environ)
    assert pull is not None
    assert pull.number == 7


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_an_unreadable_event_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "event.json"
    if content is not None:
        path.write_bytes(content)
    environ = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(path)}
    with pytest.raises(GitHubError, match=r"GITHUB_EVENT_PATH: cannot read '.*event.json'$"):
        read_pull_request(environ)
