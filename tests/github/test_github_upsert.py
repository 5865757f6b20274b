"""One comment per pull request: found among all, ours alone, changed only when it changes."""

from __future__ import annotations

import pytest

from pytest_flopbudget.github.event import PullRequest
from pytest_flopbudget.github.rest import Client, GitHubError
from pytest_flopbudget.github.upsert import acting_login, upsert_comment

from .api_mock import WORKFLOW_LOGIN, Fault, GitHub

MARKER = "<!-- pytest-flopbudget:v1 id=default -->"


def upsert(client: Client, pull: PullRequest, body: str) -> str:
    return upsert_comment(client, pull, body, author=WORKFLOW_LOGIN)


def test_the_first_run_posts_the_comment(client: Client, github: GitHub, pull: PullRequest) -> None:
    github.add_comment("looks good", "reviewer")
    url = upsert(client, pull, f"{MARKER}\nfirst\n")
    assert url == github.comments[1]["html_url"]
    assert github.bodies_by(WORKFLOW_LOGIN) == [f"{MARKER}\nfirst\n"]


def test_a_later_run_changes_the_comment_in_place(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    first = upsert(client, pull, f"{MARKER}\nfirst\n")
    assert upsert(client, pull, f"{MARKER}\nsecond\n") == first
    assert github.bodies_by(WORKFLOW_LOGIN) == [f"{MARKER}\nsecond\n"]
    assert [method for method, _ in github.writes()] == ["POST", "PATCH"]


@pytest.mark.parametrize("kept", [f"{MARKER}\nsame\n", f"{MARKER}\r\nsame"])
def test_an_unchanged_body_is_not_written_again(
    client: Client, github: GitHub, pull: PullRequest, kept: str
) -> None:
    ours = github.add_comment(kept, WORKFLOW_LOGIN)
    assert upsert(client, pull, f"{MARKER}\nsame\n") == ours["html_url"]
    assert github.writes() == []


def test_the_comment_is_found_on_the_second_page(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    for number in range(130):
        github.add_comment(f"remark {number}", "reviewer")
    github.add_comment(f"{MARKER}\nold\n", WORKFLOW_LOGIN)
    upsert(client, pull, f"{MARKER}\nnew\n")
    assert github.bodies_by(WORKFLOW_LOGIN) == [f"{MARKER}\nnew\n"]
    assert [method for method, _ in github.writes()] == ["PATCH"]


def test_a_marker_in_a_comment_by_another_author_is_not_ours(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    github.add_comment(f"{MARKER}\nall budgets are kept\n", "attacker")
    upsert(client, pull, f"{MARKER}\nover budget\n")
    assert github.bodies_by("attacker") == [f"{MARKER}\nall budgets are kept\n"]
    assert github.bodies_by(WORKFLOW_LOGIN) == [f"{MARKER}\nover budget\n"]


def test_a_comment_of_ours_with_another_id_is_left_alone(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    other = "<!-- pytest-flopbudget:v1 id=nightly -->\nother\n"
    github.add_comment(other, WORKFLOW_LOGIN)
    github.add_comment(f"> {MARKER}\na quotation\n", WORKFLOW_LOGIN)
    upsert(client, pull, f"{MARKER}\nours\n")
    assert github.bodies_by(WORKFLOW_LOGIN)[0] == other
    assert [method for method, _ in github.writes()] == ["POST"]


def test_a_comment_of_a_deleted_account_is_passed_over(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    github.add_comment(f"{MARKER}\nold\n", "gone")["user"] = None
    upsert(client, pull, f"{MARKER}\nnew\n")
    assert [method for method, _ in github.writes()] == ["POST"]


def test_a_personal_token_acts_as_its_owner(client: Client, github: GitHub) -> None:
    github.viewer = "release-robot"
    assert acting_login(client) == "release-robot"


def test_a_workflow_token_acts_as_the_workflow(client: Client) -> None:
    assert acting_login(client) == "github-actions[bot]"


def test_a_rejected_token_is_nobody(client: Client, github: GitHub) -> None:
    github.faults = [Fault("GET", "/user", 401, message="Bad credentials")]
    with pytest.raises(GitHubError, match="401: Bad credentials"):
        acting_login(client)
