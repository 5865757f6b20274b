from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_flopbudget.github.event import PullRequest
from pytest_flopbudget.github.rest import Client

from .api_mock import PULL_NUMBER, REPOSITORY, GitHub, serve

TOKEN = "ghs_only_for_these_tests"  # noqa: S105 - no server but the one in this process knows it


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def clock(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to this machine go to it, whatever proxy the machine is told to use."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def github() -> Iterator[GitHub]:
    with serve(GitHub(pull=pull_request(head_sha="a" * 40))) as server:
        yield server
    assert server.violations == []


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def client(github: GitHub, time: FakeTime) -> Client:
    return Client(api_url=github.url, token=TOKEN, sleep=time.sleep, clock=time.clock)


@pytest.fixture
def pull() -> PullRequest:
    return PullRequest(
        repository=REPOSITORY,
        number=PULL_NUMBER,
        head_sha="a" * 40,
        base_sha="b" * 40,
        is_fork=False,
    )


def event_payload(*, head_sha: str, base_sha: str, is_fork: bool = False) -> dict[str, Any]:
    """A `pull_request` event, as GitHub publishes it, with these commits."""
    fixture = Path(__file__).parent / "payloads" / "pull_request.synchronize.json"
    payload: dict[str, Any] = json.loads(fixture.read_text())
    pull = payload["pull_request"]
    pull["number"] = payload["number"] = PULL_NUMBER
    pull["head"]["sha"] = head_sha
    pull["base"]["sha"] = base_sha
    pull["base"]["repo"]["full_name"] = REPOSITORY
    pull["head"]["repo"]["full_name"] = "somebody/models" if is_fork else REPOSITORY
    return payload


def pull_request(*, head_sha: str, is_fork: bool = False) -> dict[str, Any]:
    """The pull request as the API shows it, which is as the event does."""
    pull: dict[str, Any] = event_payload(head_sha=head_sha, base_sha="b" * 40, is_fork=is_fork)[
        "pull_request"
    ]
    return pull
