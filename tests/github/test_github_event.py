"""What a run learns of its pull request from the event that started it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_flopbudget.github.event import (
    MergeGroup,
    PullRequest,
    Push,
    parse_merge_group,
    parse_pull_request,
    parse_push,
    read_default_branch,
    read_event,
    read_pull_request,
)
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


PAYLOADS = Path(__file__).parent / "payloads"


@pytest.mark.parametrize(
    ("sender", "is_fork", "words"),
    [
        ("Codertocat", False, ""),
        ("dependabot[bot]", False, "a pull request by Dependabot"),
        ("dependabot", False, ""),
        ("Codertocat", True, "a pull request from a fork"),
        ("dependabot[bot]", True, "a pull request from a fork"),
    ],
)
def test_forks_and_dependabot_get_a_token_that_only_reads(
    sender: str, is_fork: bool, words: str
) -> None:
    payload = event_payload(head_sha=HEAD, base_sha=BASE, is_fork=is_fork)
    # A pull request by Dependabot to which a person pushes is that person's run.
    payload["pull_request"]["user"]["login"] = "dependabot[bot]"
    payload["sender"]["login"] = sender
    assert parse_pull_request(payload, repository=REPOSITORY).read_only_for == words


def kept(name: str) -> Any:
    """An event as GitHub publishes it."""
    return json.loads((PAYLOADS / name).read_text())


def test_a_merge_group_names_its_base() -> None:
    # By eye in the payload.
    expected = MergeGroup(base_sha="380387fbc80638b734a49e1be1c4dfec1c01b33c", pull_number=104)
    assert parse_merge_group(kept("merge_group.checks_requested.json")) == expected


@pytest.mark.parametrize("ref", ["", "refs/heads/main", "refs/heads/topic/pr-7-" + "a" * 40])
def test_a_group_on_a_branch_that_github_did_not_make_is_for_no_pull_request(ref: str) -> None:
    group = {"base_sha": "b" * 40, "head_ref": ref}
    assert parse_merge_group({"merge_group": group}) == MergeGroup(base_sha="b" * 40)


@pytest.mark.parametrize(
    ("ref", "is_to_default_branch"),
    [("refs/heads/master", True), ("refs/heads/topic", False), ("refs/tags/master", False)],
)
def test_a_push_is_to_the_default_branch_or_not(ref: str, is_to_default_branch: bool) -> None:
    payload = {**kept("push.json"), "ref": ref}
    assert parse_push(payload) == Push(
        sha="6113728f27ae82c7b1a177c8d03f9e96e0adf246", is_to_default_branch=is_to_default_branch
    )


def test_a_push_that_deletes_a_branch_leaves_nothing_to_measure() -> None:
    with pytest.raises(GitHubError, match="deletes refs/heads/master: there is nothing to measure"):
        parse_push({**kept("push.json"), "after": "0" * 40})


@pytest.mark.parametrize("payload", [{}, [], None, {"merge_group": {"base_sha": "--x"}}])
def test_a_payload_of_no_merge_group_is_one_line(payload: Any) -> None:
    with pytest.raises(GitHubError, match=r"^the event's payload describes no merge group$"):
        parse_merge_group(payload)


@pytest.mark.parametrize("payload", [{}, [], None, {"after": "a" * 40}, {"after": "--x"}])
def test_a_payload_of_no_push_is_one_line(payload: Any) -> None:
    with pytest.raises(GitHubError, match=r"^the event's payload describes no push$"):
        parse_push(payload)


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("pull_request", "pull_request.synchronize.json", PullRequest),
        ("merge_group", "merge_group.checks_requested.json", MergeGroup),
        ("push", "push.json", Push),
        ("workflow_dispatch", "push.json", type(None)),
        ("schedule", "push.json", type(None)),
        ("pull_request_target", "pull_request.synchronize.json", type(None)),
    ],
)
def test_the_event_s_name_says_how_its_payload_is_read(name: str, file: str, kind: type) -> None:
    environ = {
        "GITHUB_EVENT_NAME": name,
        "GITHUB_EVENT_PATH": str(PAYLOADS / file),
        "GITHUB_REPOSITORY": REPOSITORY,
    }
    assert type(read_event(environ)) is kind


@pytest.mark.parametrize(
    ("file", "branch"),
    [("merge_group.checks_requested.json", "main"), ("push.json", "master")],
)
def test_every_event_names_the_default_branch(file: str, branch: str) -> None:
    assert read_default_branch({"GITHUB_EVENT_PATH": str(PAYLOADS / file)}) == branch
