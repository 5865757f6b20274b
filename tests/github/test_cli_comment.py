"""`flopbudget comment`: what it prints, what it posts, and what it says when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_flopbudget.cli.main import main
from pytest_flopbudget.core.measurement import Measurement, Value
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport
from pytest_flopbudget.store.files import write_report

from .api_mock import REPOSITORY, WORKFLOW_LOGIN, Fault, GitHub
from .conftest import TOKEN, event_payload

Capture = pytest.CaptureFixture[str]
COMMENTS = f"/repos/{REPOSITORY}/issues/7/comments"


def report(path: Path, macs: int) -> str:
    test = TestReport(
        id="test_mlp.py::test_forward",
        file="test_mlp.py",
        line=3,
        outcome=TestOutcome.PASSED,
        measurements=(Measurement(values={"macs": Value(value=macs)}),),
    )
    write_report(Report(tests=(test,)), path)
    return str(path)


@pytest.fixture
def base(tmp_path: Path) -> str:
    return report(tmp_path / "base.json", 1_000_000)


@pytest.fixture
def head(tmp_path: Path) -> str:
    return report(tmp_path / "head.json", 1_500_000)


@pytest.fixture
def event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, github: GitHub) -> Path:
    """The environment of a pull request's run; the file can be written anew."""
    path = tmp_path / "event.json"
    path.write_text(json.dumps(event_payload(head_sha="a" * 40, base_sha="b" * 40)))
    monkeypatch.setenv("GITHUB_EVENT_NAME", "pull_request")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(path))
    monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
    monkeypatch.setenv("GITHUB_API_URL", github.url)
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setenv("GITHUB_RUN_ID", "20")
    monkeypatch.setenv("GITHUB_RUN_ATTEMPT", "2")
    return path


@pytest.mark.usefixtures("event")
def test_a_dry_run_prints_what_would_be_posted_and_asks_nobody(
    base: str, head: str, github: GitHub, capsys: Capture
) -> None:
    assert main(["comment", "--dry-run", base, head]) == 0
    printed = capsys.readouterr().out
    assert github.seen == []
    assert main(["comment", base, head]) == 0
    (posted,) = github.bodies_by(WORKFLOW_LOGIN)
    marker, state, rest = posted.split("\n", 2)
    assert f"{marker}\n{rest}" == printed
    assert state == f"<!-- pytest-flopbudget:state sha={'a' * 40} run=20 attempt=2 -->"
    assert printed.startswith("<!-- pytest-flopbudget:v1 id=default -->\n")
    assert "test_forward" in printed
    assert "+50" in printed


@pytest.mark.usefixtures("event")
def test_the_address_of_the_comment_is_all_that_is_printed(
    base: str, head: str, github: GitHub, capsys: Capture
) -> None:
    assert main(["comment", base, head]) == 0
    assert capsys.readouterr().out == github.comments[0]["html_url"] + "\n"


@pytest.mark.usefixtures("event")
def test_a_second_run_changes_the_same_comment(base: str, head: str, github: GitHub) -> None:
    assert main(["comment", base, head]) == 0
    assert main(["comment", base, base]) == 0
    assert [method for method, _ in github.writes()] == ["POST", "PATCH"]
    assert len(github.comments) == 1


def test_a_first_run_has_no_base(head: str, capsys: Capture) -> None:
    assert main(["comment", "--dry-run", head]) == 0
    assert "no baseline" in capsys.readouterr().out.lower()


def test_each_id_has_a_marker_of_its_own(head: str, capsys: Capture) -> None:
    assert main(["comment", "--dry-run", "--id=nightly", head]) == 0
    assert capsys.readouterr().out.startswith("<!-- pytest-flopbudget:v1 id=nightly -->\n")


@pytest.mark.parametrize("bad", ["", "a b", "x-->", "a--b", "x" * 65, "ä"])
def test_an_id_that_could_end_the_hidden_line_is_refused(
    head: str, bad: str, capsys: Capture
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["comment", "--dry-run", f"--id={bad}", head])
    assert caught.value.code == 2
    assert "argument --id" in capsys.readouterr().err


@pytest.mark.usefixtures("event")
def test_the_author_can_be_named_for_the_token_of_an_app(
    base: str, head: str, github: GitHub
) -> None:
    body = "<!-- pytest-flopbudget:v1 id=default -->\nold\n"
    github.add_comment(body, "my-app[bot]")
    assert main(["comment", "--author=my-app[bot]", base, head]) == 0
    assert [seen.path for seen in github.seen if seen.path == "/user"] == []
    assert [method for method, _ in github.writes()] == ["PATCH"]


@pytest.mark.parametrize(
    ("is_fork", "help_"),
    [
        (False, "the job needs 'permissions: pull-requests: write'"),
        (True, "the token of a pull request from a fork can only read"),
    ],
)
def test_a_refusal_says_what_is_missing(
    event: Path, head: str, github: GitHub, capsys: Capture, is_fork: bool, help_: str
) -> None:
    payload = event_payload(head_sha="a" * 40, base_sha="b" * 40, is_fork=is_fork)
    event.write_text(json.dumps(payload))
    github.faults = [Fault("POST", COMMENTS, 403)]
    assert main(["comment", head]) == 2
    assert capsys.readouterr().err == (
        f"flopbudget comment: error: POST {COMMENTS}: GitHub answered 403: "
        f"Resource not accessible by integration; {help_}\n"
    )


@pytest.mark.usefixtures("event")
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (("GITHUB_TOKEN", ""), "GITHUB_TOKEN is not set; give it the workflow's github.token"),
        (("GITHUB_EVENT_NAME", "push"), "this run is not about a pull request"),
    ],
)
def test_a_run_that_cannot_post_says_why(
    head: str,
    github: GitHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    setting: tuple[str, str],
    message: str,
) -> None:
    monkeypatch.setenv(*setting)
    assert main(["comment", head]) == 2
    assert message in capsys.readouterr().err
    assert github.seen == []


@pytest.mark.usefixtures("event")
def test_what_the_server_says_moves_nothing_on_the_screen(
    head: str, github: GitHub, capsys: Capture
) -> None:
    said = "no\x00 \x1b[31mway\u202e\r\n::error::x"
    github.faults = [Fault("POST", COMMENTS, 422, {}, said)]
    assert main(["comment", head]) == 2
    assert capsys.readouterr().err == (
        f"flopbudget comment: error: POST {COMMENTS}: GitHub answered 422: no [31mway ::error::x\n"
    )


@pytest.mark.usefixtures("event")
def test_a_limit_is_no_reason_to_ask_for_permissions(
    head: str, github: GitHub, capsys: Capture
) -> None:
    limit = {"X-RateLimit-Remaining": "0", "Retry-After": "999"}
    github.faults = [Fault("POST", COMMENTS, 403, limit, "API rate limit exceeded")]
    assert main(["comment", head]) == 2
    said = capsys.readouterr().err
    assert "answered 403: API rate limit exceeded" in said
    assert "permissions" not in said


def test_a_report_that_is_not_there_is_named(tmp_path: Path, head: str, capsys: Capture) -> None:
    assert main(["comment", "--dry-run", str(tmp_path / "gone.json"), head]) == 2
    assert "gone.json" in capsys.readouterr().err


def test_three_reports_are_too_many(head: str, capsys: Capture) -> None:
    assert main(["comment", "--dry-run", head, head, head]) == 2
    assert "give two reports" in capsys.readouterr().err
