"""The push job that records baselines, run as the action's own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_flopbudget.core.legs import Leg, leg_from_json
from pytest_flopbudget.core.report import Git, Report
from pytest_flopbudget.github import leg as leg_module
from pytest_flopbudget.github import record
from pytest_flopbudget.github.artifacts import Artifact
from pytest_flopbudget.github.rest import Client
from pytest_flopbudget.store.files import write_report

from ..builders import budgeted, limit, measured, reported
from .api_mock import REPOSITORY, GitHub
from .conftest import TOKEN
from .mock_git import GitData

PUSHED = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
"""In the payload."""


def report(macs: int, *, commit: str = PUSHED) -> Report:
    test = budgeted("t.py::test_a", measured(macs={"": macs}), limits=(limit("macs", 100),))
    return reported(test, git=Git(commit=commit, branch="main", is_dirty=False))


@pytest.fixture
def data(github: GitHub) -> GitData:
    return GitData(github)


@pytest.fixture
def legs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Leg]:
    """What the run left behind; that it is read with care is tested apart."""
    found: dict[str, Leg] = {}

    def listed(
        client: Client, repository: str, run_id: int, *, expected: tuple[str, ...]
    ) -> list[Artifact]:
        assert (repository, run_id) == (REPOSITORY, 77)
        names = [name for name in found if not expected or name in expected]
        return [
            Artifact(id=1, name=f"flopbudget-{n}", zip_bytes=1, is_expired=False) for n in names
        ]

    monkeypatch.setattr(record, "leg_artifacts", listed)
    monkeypatch.setattr(record, "download_leg", lambda _client, _repository, a: found[a.leg])
    return found


@pytest.fixture(autouse=True)
def run(github: GitHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The event's file of a push to the default branch."""
    event = tmp_path / "event.json"
    event.write_bytes((Path(__file__).parent / "payloads" / "push.json").read_bytes())
    for name, value in {
        "GITHUB_API_URL": github.url,
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_RUN_ID": "77",
        "GITHUB_TOKEN": TOKEN,
    }.items():
        monkeypatch.setenv(name, value)
    return event


def test_every_leg_is_recorded_also_one_over_budget_which_is_flagged(
    data: GitData, legs: dict[str, Leg], capsys: pytest.CaptureFixture[str]
) -> None:
    legs["a"] = Leg(name="a", head=report(100))
    legs["b"] = Leg(name="b", head=report(101))
    assert record.main([]) == 0
    files = data.files("flopbudget-data")
    assert {f"records/a/{PUSHED}.json", f"records/b/{PUSHED}.json"} <= files.keys()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Recorded a of 6113728 (flopbudget-data ")
    assert second.startswith("Recorded b of 6113728, over budget 1 times (flopbudget-data ")


@pytest.mark.parametrize(
    "event",
    [
        ("push", {"ref": "refs/heads/topic"}),
        ("push", {"ref": "refs/tags/master"}),
        ("merge_group", {"merge_group": {"base_sha": "a" * 40}}),
        ("workflow_dispatch", {}),
    ],
)
def test_nothing_else_than_a_push_to_the_default_branch_is_recorded(
    github: GitHub,
    legs: dict[str, Leg],
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    event: tuple[str, dict[str, object]],
) -> None:
    name, change = event
    legs["a"] = Leg(name="a", head=report(1))
    run.write_text(json.dumps({**json.loads(run.read_text()), **change}))
    monkeypatch.setenv("GITHUB_EVENT_NAME", name)
    assert record.main([]) == 0
    assert github.seen == []


@pytest.mark.parametrize(
    ("left", "expect", "message"),
    [
        ({}, "", "the run has no legs"),
        ({"a": PUSHED}, "a, b", "the run has no leg b"),
        ({"a": "c" * 40}, "a", "the leg 'a' did not measure the pushed commit 6113728"),
    ],
)
def test_a_run_that_is_not_what_it_has_to_be_writes_nothing(
    data: GitData,
    legs: dict[str, Leg],
    capsys: pytest.CaptureFixture[str],
    left: dict[str, str],
    expect: str,
    message: str,
) -> None:
    legs |= {name: Leg(name=name, head=report(1, commit=sha)) for name, sha in left.items()}
    assert record.main([f"--expect={expect}"]) == 2
    assert message in capsys.readouterr().err
    assert data.refs == {}


class TestLeg:
    def written(self, folder: Path) -> Leg:
        return leg_from_json(
            json.loads((folder / "flopbudget-leg.json").read_text()), where="the leg"
        )

    def test_both_reports_of_the_job_stand_in_it(self, tmp_path: Path) -> None:
        write_report(report(3), tmp_path / "head.json")
        write_report(report(2), tmp_path / "base.json")
        assert leg_module.main([str(tmp_path), "--name=py311"]) == 0
        assert self.written(tmp_path) == Leg(name="py311", head=report(3), base=report(2))

    def test_a_head_alone_says_that_there_is_no_baseline(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_report(report(3), tmp_path / "head.json")
        assert leg_module.main([str(tmp_path)]) == 0
        assert self.written(tmp_path) == Leg(name="default", head=report(3))
        assert capsys.readouterr().out.startswith("No baseline: the base was not measured")

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("--baseline=cache", "baseline: 'cache' is none of rerun, branch, artifact, file"),
            ("--name=a/b", "leg 'a/b': use at most 64 letters"),
        ],
    )
    def test_a_mistake_is_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, message: str
    ) -> None:
        assert leg_module.main([str(tmp_path), given]) == 2
        assert message in capsys.readouterr().err
        assert list(tmp_path.glob("*leg*")) == []
