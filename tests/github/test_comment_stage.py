"""The second stage: the right pull request, hostile legs, and a Python that is left alone."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.legs import Leg, decode_leg, leg_to_json
from pytest_flopbudget.core.measurement import Measurement, Value
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport
from pytest_flopbudget.github.approvals import Approval, read_approval
from pytest_flopbudget.github.artifacts import download_leg, leg_artifacts, read_member
from pytest_flopbudget.github.pulls import find_pull_request, parse_workflow_run
from pytest_flopbudget.github.rest import Client, GitHubError
from pytest_flopbudget.github.verdict import judged_run

from .api_mock import REPOSITORY, WORKFLOW_LOGIN, Fault, GitHub
from .composite import Result, Runner
from .conftest import TOKEN, pull_request
from .mock_runs import MEMBER, RUN_ID, Runs, serve_runs, workflow_run, zipped

ACTION = Path(__file__).parents[2] / "action" / "comment"
HEAD = "a" * 40


def leg(name: str = "cpu", macs: int = 1_500_000) -> bytes:
    def report(value: int) -> Report:
        measurement = Measurement(values={"macs": Value(value=value)})
        test = TestReport(
            id="test_mlp.py::test_forward",
            file="test_mlp.py",
            line=3,
            outcome=TestOutcome.PASSED,
            measurements=(measurement,),
        )
        return Report(tests=(test,))

    whole = Leg(name=name, head=report(macs), base=report(1_000_000))
    return json.dumps(leg_to_json(whole)).encode()


@pytest.fixture
def runs(github: GitHub) -> Iterator[Runs]:
    with serve_runs(github) as served:
        pull = pull_request(head_sha=HEAD, is_fork=True)
        pull["head"]["ref"] = "topic"
        github.pull = pull
        served.pulls = [pull]
        yield served


def stage(tmp_path: Path, github: GitHub, payload: Any = None, **given: str) -> Result:
    """What the action does in a job whose workspace and variables are set against it."""
    workspace, temp = tmp_path / "workspace", tmp_path / "temp"
    temp.mkdir()
    # None of these may be imported beside the token.
    for name in ("json", "pytest_flopbudget", "sitecustomize"):
        trap = workspace / f"{name}.py"
        trap.parent.mkdir(exist_ok=True)
        trap.write_text(f"raise SystemExit('{name} of the workspace was imported')")
    event = tmp_path / "event.json"
    event.write_text(json.dumps(payload or workflow_run(head_sha=HEAD, is_fork=True)))
    runner = Runner(
        workspace=workspace,
        temp=temp,
        github={"event_name": "workflow_run", "token": TOKEN},
        env={
            "GITHUB_ACTION_PATH": str(ACTION),
            "GITHUB_API_URL": github.url,
            "GITHUB_EVENT_NAME": "workflow_run",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_REPOSITORY": REPOSITORY,
            "PYTHONPATH": str(workspace),
            "no_proxy": "*",
        },
    )
    result = runner.run(ACTION / "action.yml", **given)
    assert TOKEN not in result.log
    return result


def test_a_pull_request_from_a_fork_gets_its_comment(
    tmp_path: Path, github: GitHub, runs: Runs
) -> None:
    runs.upload("flopbudget-cpu", zipped(leg()))
    runs.upload("something-else", b"not ours")
    result = stage(tmp_path, github)
    assert result.conclusion == "success", result.log
    (body,) = github.bodies_by(WORKFLOW_LOGIN)
    assert f"state sha={HEAD} run={RUN_ID} attempt=1" in body.splitlines()[1]
    assert "test_forward" in body
    assert result.outputs["comment-url"] == github.comments[0]["html_url"]
    # The storage is another host, which is not shown the token.
    assert len(runs.storage_headers) == 1
    assert "Authorization" not in runs.storage_headers[0]


def test_a_leg_that_is_hostile_is_missing_and_the_job_goes_on(
    tmp_path: Path, github: GitHub, runs: Runs
) -> None:
    runs.upload("flopbudget-cpu", zipped(b"{}\n::error::injected", "../x"))
    result = stage(tmp_path, github, expect="cpu, gpu")
    assert result.conclusion == "success", result.log
    assert "artifact 'flopbudget-cpu': holds '../x'" in result.log
    (body,) = github.bodies_by(WORKFLOW_LOGIN)
    assert "injected" not in body + result.log


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"event": "push"}, "nothing to comment on: push"),
        ({"conclusion": "cancelled"}, "nothing to comment on: pull_request, cancelled"),
        ({"head_sha": "c" * 40}, "superseded: no open pull request has cccc"),
    ],
)
def test_a_run_with_no_pull_request_to_comment_on_is_one_line(
    tmp_path: Path, github: GitHub, runs: Runs, changes: dict[str, str], said: str
) -> None:
    payload = workflow_run(head_sha=HEAD, is_fork=True)
    payload["workflow_run"] |= changes
    result = stage(tmp_path, github, payload)
    assert (result.conclusion, github.comments) == ("success", [])
    assert f"::notice title=Compute budget::{said}" in result.log


def test_a_refusal_is_a_warning(tmp_path: Path, github: GitHub, runs: Runs) -> None:
    runs.upload("flopbudget-cpu", zipped(leg()))
    github.faults = [Fault("POST", f"/repos/{REPOSITORY}/issues/7/comments", 403)]
    result = stage(tmp_path, github)
    assert result.conclusion == "success"
    assert "::warning title=Compute budget::the comment was not written" in result.log
    assert "the job needs 'permissions: actions: read, pull-requests: write'" in result.log


def test_a_workflow_that_is_set_up_wrongly_fails(
    tmp_path: Path, github: GitHub, runs: Runs
) -> None:
    result = stage(tmp_path, github, comment="sometimes")
    assert result.conclusion == "failure"
    assert "comment: 'sometimes' is none of always, changes, failures, never" in result.log


@pytest.mark.parametrize("branch", ["topic", "fix/a&b=c #1?", "größe"])
def test_the_pull_request_is_found_by_branch_and_commit(
    client: Client, runs: Runs, branch: str
) -> None:
    runs.pulls[0]["head"]["ref"] = branch
    payload = workflow_run(head_sha=HEAD, is_fork=True, head_branch=branch)
    found = find_pull_request(client, parse_workflow_run(payload, repository=REPOSITORY))
    assert found is not None
    assert (found.number, found.head_sha, found.is_fork) == (7, HEAD, True)


@pytest.mark.parametrize("what", ["base", "head", "sha"])
def test_a_pull_request_that_differs_in_one_fact_is_not_taken(
    client: Client, runs: Runs, what: str
) -> None:
    pull = runs.pulls[0]
    if what == "sha":
        pull["head"]["sha"] = "c" * 40
    else:
        pull[what]["repo"] = {**pull[what]["repo"], "full_name": "somebody/other"}
    run = parse_workflow_run(workflow_run(head_sha=HEAD, is_fork=True), repository=REPOSITORY)
    assert find_pull_request(client, run) is None


def test_a_payload_of_another_repository_is_refused() -> None:
    with pytest.raises(GitHubError, match="and not about other/repo"):
        parse_workflow_run(workflow_run(head_sha=HEAD), repository="other/repo")


def test_who_put_the_label_last_is_read(client: Client, runs: Runs) -> None:
    runs.pulls[0] |= {"body": "text", "labels": [_label("flopbudget-accept")]}
    runs.label("labeled", "flopbudget-accept", "first")
    runs.label("unlabeled", "flopbudget-accept", "first")
    runs.label("labeled", "flopbudget-accept", "second")
    runs.label("labeled", "other", "third")
    approval = read_approval(client, REPOSITORY, 7)
    assert approval == Approval(is_set=True, set_by="second", body="text")


def test_a_token_that_cannot_read_falls_back_to_the_event(client: Client, github: GitHub) -> None:
    payload = {"pull_request": {"body": None, "labels": [_label("FlopBudget-Accept")]}}
    github.pull = {}
    approval = read_approval(client, REPOSITORY, 7, payload=payload)
    assert approval == Approval(is_set=True)


def _label(name: str) -> dict[str, Any]:
    return {
        "id": 1,
        "node_id": "L_1",
        "url": "https://api.github.test/labels/1",
        "name": name,
        "description": None,
        "color": "ededed",
        "default": False,
    }


def _archive(*names: str, mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, b"{}")
    return buffer.getvalue()


def _encrypted() -> bytes:
    content = bytearray(_archive(MEMBER))
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + offset] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no archive", "its archive is damaged"),
        (_archive(), "holds 0 files"),
        (_archive(MEMBER, "x"), "holds 2 files"),
        (_archive("../x"), "holds '../x', and not flopbudget-leg.json"),
        (_archive(f"sub/{MEMBER}"), "and not flopbudget-leg.json"),
        (_archive(MEMBER, mode=0o120777), "is no regular file"),
        (_encrypted(), "is encrypted"),
        (_archive(MEMBER).replace(b"{}", b"[]"), "its archive is damaged"),
        (_archive(MEMBER)[:-10], "its archive is damaged"),
        (zipped(b"0" * (32 * 1024 * 1024 + 1)), "is larger than 33554432 bytes"),
    ],
    ids=["text", "none", "two", "slip", "folder", "link", "locked", "crc", "cut", "bomb"],
)
def test_an_archive_that_is_not_one_plain_file_is_one_line(content: bytes, said: str) -> None:
    with pytest.raises(ReportError, match=r"^artifact 'flopbudget-cpu': ") as caught:
        read_member(content, where="artifact 'flopbudget-cpu'")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def _calling(times: int) -> bytes:
    """A leg with a module that is called so often."""
    document = json.loads(leg())
    module = {"region": "", "path": "a", "type": "", "calls": times, "operators": []}
    document["head"]["tests"][0]["modules"] = [module]
    return json.dumps(document).encode()


def _measuring(regions: int = 1, metrics: int = 1, notes: int = 0) -> bytes:
    """A leg whose one test measured so much."""
    document = json.loads(leg())
    value = {"value": 1, "unit": "1", "kind": "recorded"}
    named = {f"m{n}": value for n in range(metrics)}
    document["head"]["tests"][0]["measurements"] = [
        {"region": f"r{n}", "partial": False, "metrics": named} for n in range(regions)
    ]
    document["head"]["notes"] = ["a note"] * notes
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("most", "said"),
    [
        ({"regions": 10_001}, "more than 10000 regions beside the tests' own"),
        ({"metrics": 1000}, "more than 1000 metrics of a region"),
        ({"notes": 1000}, "more than 1000 notes"),
    ],
    ids=["regions", "metrics", "notes"],
)
def test_more_than_can_be_shown_in_time_is_refused(most: dict[str, int], said: str) -> None:
    assert decode_leg(_measuring(**most), where="artifact").name == "cpu"
    ((name, count),) = most.items()
    with pytest.raises(ReportError, match=f"^artifact: {said}$"):
        decode_leg(_measuring(**{name: count + 1}), where="artifact")


def test_legs_that_are_too_much_together_are_missing(
    client: Client, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each has a test on both sides.
    monkeypatch.setattr("pytest_flopbudget.github.verdict._MOST_TESTS", 3)
    for name in ("a", "b", "c"):
        runs.upload(f"flopbudget-{name}", zipped(leg(name)))
    warnings: list[str] = []
    found = judged_run(client, REPOSITORY, RUN_ID, (), expected=(), warn=warnings.append)
    assert found is not None
    assert found.missing_legs == ("b", "c")
    assert warnings == [
        f"artifact 'flopbudget-{name}': the legs have more than 3 tests together" for name in "bc"
    ]
    # The last was not even asked for.
    assert len(runs.storage_headers) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "not JSON"),
        (b"[" * 60 + b"]" * 60, "nested more than 40 deep"),
        (b"[" + b"[]," * 2_000_001 + b"0]", "more than 4000000 values"),
        (json.dumps("x" * 20_001).encode(), "a text of more than 20000 characters"),
        (b"\xff", "not JSON"),
        (leg("gpu"), "holds the leg 'gpu', and not 'cpu'"),
        (_calling(10**30 + 1), r"head: tests\[0\].modules\[0\].calls: a count beyond 1e\+30$"),
        (_calling(10**400), r"head: tests\[0\].modules\[0\].calls: a count beyond 1e\+30$"),
    ],
    ids=["deep", "nested", "many", "long", "bytes", "other", "more", "endless"],
)
def test_a_leg_that_is_written_to_do_harm_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ReportError, match=f"^artifact: {said}"):
        decode_leg(content, where="artifact", name="cpu")


def test_the_newest_of_two_artifacts_with_one_name_is_read(client: Client, runs: Runs) -> None:
    runs.upload("flopbudget-cpu", zipped(leg(macs=1)))
    runs.upload("flopbudget-cpu", zipped(leg(macs=2)))
    runs.upload("flopbudget-cpu", zipped(leg(macs=3)), expired=True)
    (artifact,) = leg_artifacts(client, REPOSITORY, RUN_ID)
    found = download_leg(client, REPOSITORY, artifact)
    assert found.head.tests[0].measurements[0].values["macs"].value == 2


def test_an_archive_that_is_too_large_is_not_downloaded(client: Client, runs: Runs) -> None:
    runs.upload("flopbudget-cpu", b"", size_in_bytes=8 * 1024 * 1024 + 1)
    (artifact,) = leg_artifacts(client, REPOSITORY, RUN_ID)
    with pytest.raises(ReportError, match="its archive is larger than 8388608 bytes"):
        download_leg(client, REPOSITORY, artifact)
    assert runs.storage_headers == []
