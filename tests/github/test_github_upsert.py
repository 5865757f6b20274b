"""One comment per pull request: found among all, ours alone, changed only when it changes."""

from __future__ import annotations

import pytest

from pytest_flopbudget.github.event import PullRequest
from pytest_flopbudget.github.rest import Client, GitHubError
from pytest_flopbudget.github.upsert import (
    Outcome,
    RunState,
    Upserted,
    acting_login,
    upsert_comment,
)

from .api_mock import WORKFLOW_LOGIN, Answer, Fault, GitHub, Seen

MARKER = "<!-- pytest-flopbudget:v1 id=default -->"


NEW = RunState(sha="a" * 40, run_id=20, attempt=1)


def upsert(
    client: Client, pull: PullRequest, body: str, state: RunState = NEW, *, may_post: bool = True
) -> Upserted:
    return upsert_comment(client, pull, body, author=WORKFLOW_LOGIN, state=state, may_post=may_post)


def written(text: str, run_id: int = 20, attempt: int = 1) -> str:
    state = f"<!-- pytest-flopbudget:state sha={'a' * 40} run={run_id} attempt={attempt} -->"
    return f"{MARKER}\n{state}\n{text}\n"


def test_the_first_run_posts_the_comment(client: Client, github: GitHub, pull: PullRequest) -> None:
    github.add_comment("looks good", "reviewer")
    done = upsert(client, pull, f"{MARKER}\nfirst\n")
    assert done == Upserted(outcome=Outcome.POSTED, url=github.comments[1]["html_url"])
    assert github.bodies_by(WORKFLOW_LOGIN) == [written("first")]


def test_a_later_run_changes_the_comment_in_place(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    first = upsert(client, pull, f"{MARKER}\nfirst\n")
    later = RunState(sha="a" * 40, run_id=21, attempt=1)
    second = upsert(client, pull, f"{MARKER}\nsecond\n", later)
    assert second == Upserted(outcome=Outcome.UPDATED, url=first.url)
    assert github.bodies_by(WORKFLOW_LOGIN) == [written("second", 21)]
    assert [method for method, _ in github.writes()] == ["POST", "PATCH"]


@pytest.mark.parametrize("kept", [written("same", 19), written("same").replace("\n", "\r\n")])
def test_an_unchanged_body_is_not_written_again(
    client: Client, github: GitHub, pull: PullRequest, kept: str
) -> None:
    ours = github.add_comment(kept.rstrip(), WORKFLOW_LOGIN)
    done = upsert(client, pull, f"{MARKER}\nsame\n")
    assert done == Upserted(outcome=Outcome.UNCHANGED, url=ours["html_url"])
    assert github.writes() == []


@pytest.mark.parametrize(
    ("run_id", "attempt", "outcome"),
    [
        (19, 9, Outcome.UPDATED),
        (20, 1, Outcome.UPDATED),
        (20, 2, Outcome.UPDATED),
        (20, 3, Outcome.SUPERSEDED),
        (21, 1, Outcome.SUPERSEDED),
    ],
)
def test_only_a_newer_run_overwrites(
    client: Client, github: GitHub, pull: PullRequest, run_id: int, attempt: int, outcome: Outcome
) -> None:
    github.add_comment(written("kept", run_id, attempt), WORKFLOW_LOGIN)
    ours = RunState(sha="a" * 40, run_id=20, attempt=2)
    assert upsert(client, pull, f"{MARKER}\nours\n", ours).outcome is outcome
    text = "kept" if outcome is Outcome.SUPERSEDED else "ours"
    assert github.comments[0]["body"].splitlines()[2] == text


def test_the_run_of_a_commit_that_is_no_longer_the_head_writes_nothing(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    old = RunState(sha="c" * 40, run_id=99, attempt=1)
    assert upsert(client, pull, f"{MARKER}\nold\n", old).outcome is Outcome.SUPERSEDED
    assert github.writes() == []


@pytest.mark.parametrize(
    "state", ["", "<!-- pytest-flopbudget:state sha=x run=99 attempt=1 -->", "text run=99"]
)
def test_a_comment_of_ours_with_an_unreadable_state_is_overwritten(
    client: Client, github: GitHub, pull: PullRequest, state: str
) -> None:
    github.add_comment(f"{MARKER}\n{state}\nours", WORKFLOW_LOGIN)
    assert upsert(client, pull, f"{MARKER}\nours\n").outcome is Outcome.UPDATED
    assert github.bodies_by(WORKFLOW_LOGIN) == [written("ours")]


def test_a_run_with_nothing_to_say_posts_nothing_but_keeps_a_comment_right(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    done = upsert(client, pull, f"{MARKER}\nfine\n", may_post=False)
    assert (done.outcome, github.comments) == (Outcome.WITHHELD, [])
    github.add_comment(written("over", 19), WORKFLOW_LOGIN)
    assert upsert(client, pull, f"{MARKER}\nfine\n", may_post=False).outcome is Outcome.UPDATED


def test_of_two_runs_that_post_at_once_the_oldest_comment_stays(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    post = github.routes["issues/create-comment"]

    def racing(seen: Seen, values: dict[str, str]) -> Answer:
        github.add_comment(written("theirs", 19), WORKFLOW_LOGIN)
        return post(seen, values)

    github.routes["issues/create-comment"] = racing
    done = upsert(client, pull, f"{MARKER}\nours\n")
    assert done == Upserted(outcome=Outcome.UPDATED, url=github.comments[0]["html_url"])
    assert github.comments[0]["body"] == written("ours")
    assert MARKER not in github.comments[1]["body"]
    assert github.comments[0]["html_url"] in github.comments[1]["body"]


def test_the_comment_is_found_on_the_second_page(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    for number in range(130):
        github.add_comment(f"remark {number}", "reviewer")
    github.add_comment(f"{MARKER}\nold\n", WORKFLOW_LOGIN)
    upsert(client, pull, f"{MARKER}\nnew\n")
    assert github.bodies_by(WORKFLOW_LOGIN) == [written("new")]
    assert [method for method, _ in github.writes()] == ["PATCH"]


def test_a_marker_in_a_comment_by_another_author_is_not_ours(
    client: Client, github: GitHub, pull: PullRequest
) -> None:
    github.add_comment(f"{MARKER}\nall budgets are kept\n", "attacker")
    upsert(client, pull, f"{MARKER}\nover budget\n")
    assert github.bodies_by("attacker") == [f"{MARKER}\nall budgets are kept\n"]
    assert github.bodies_by(WORKFLOW_LOGIN) == [written("over budget")]


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
