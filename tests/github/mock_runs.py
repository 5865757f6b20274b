"""Runs with artifacts, open pull requests and their events, added to the server of `api_mock`."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from .api_mock import REPOSITORY, Answer, GitHub, Seen, error_body, user_named

RUN_ID = 5000
MEMBER = "flopbudget-leg.json"
TIME = "2026-11-23T10:00:00Z"


def zipped(content: bytes, name: str = MEMBER) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def workflow_run(*, head_sha: str, is_fork: bool = False, **changes: Any) -> dict[str, Any]:
    """A `workflow_run` event, as GitHub publishes it, of a run that a pull request started."""
    fixture = Path(__file__).parent / "payloads" / "workflow_run.completed.json"
    payload: dict[str, Any] = json.loads(fixture.read_text())
    run = payload["workflow_run"]
    run |= {"id": RUN_ID, "run_attempt": 1, "event": "pull_request", "conclusion": "success"}
    run |= {"head_sha": head_sha, "head_branch": "topic", "pull_requests": []}
    run["repository"]["full_name"] = REPOSITORY
    run["head_repository"]["full_name"] = "somebody/models" if is_fork else REPOSITORY
    run |= changes
    return payload


@dataclass
class Runs:
    """What the server knows beside comments; to be set before and looked at after."""

    github: GitHub
    storage_url: str
    stored: dict[str, bytes] = field(default_factory=dict)
    storage_headers: list[dict[str, str]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    pulls: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.github.routes |= {
            "actions/list-workflow-run-artifacts": self._list_artifacts,
            "actions/download-artifact": self._download,
            "pulls/list": self._list_pulls,
            "issues/list-events": self._list_events,
        }

    def upload(self, name: str, content: bytes, **changes: Any) -> None:
        number = 100 + len(self.artifacts)
        url = f"{self.github.url}/repos/{REPOSITORY}/actions/artifacts/{number}"
        self.stored[f"/{number}"] = content
        self.artifacts.append(
            {
                "id": number,
                "node_id": f"A_{number}",
                "name": name,
                "size_in_bytes": len(content),
                "url": url,
                "archive_download_url": f"{url}/zip",
                "expired": False,
                "created_at": TIME,
                "expires_at": TIME,
                "updated_at": TIME,
                **changes,
            }
        )

    def label(self, event: str, name: str, login: str) -> None:
        self.events.append(
            {
                "id": len(self.events),
                "node_id": "LE_1",
                "url": "https://api.github.test/events/1",
                "actor": user_named(login),
                "event": event,
                "commit_id": None,
                "commit_url": None,
                "created_at": TIME,
                "performed_via_github_app": None,
                "label": {"name": name, "color": "ededed"},
            }
        )

    def _list_artifacts(self, seen: Seen, values: dict[str, str]) -> Answer:
        assert values["run_id"] == str(RUN_ID)
        headers, items = self.github.page(seen, self.artifacts)
        return 200, headers, {"total_count": len(self.artifacts), "artifacts": items}

    def _download(self, seen: Seen, values: dict[str, str]) -> Answer:
        if f"/{values['artifact_id']}" not in self.stored:
            return 404, {}, error_body(404, "Not Found")
        location = f"{self.storage_url}/{values['artifact_id']}?sig=signature"
        return 302, {"Location": location}, None

    def _list_pulls(self, seen: Seen, values: dict[str, str]) -> Answer:
        owner, _, branch = seen.query["head"].partition(":")
        found = [
            pull
            for pull in self.pulls
            if pull["head"]["ref"] == branch
            and pull["head"]["repo"]["full_name"].partition("/")[0] == owner
        ]
        headers, items = self.github.page(seen, found)
        return 200, headers, items

    def _list_events(self, seen: Seen, values: dict[str, str]) -> Answer:
        headers, items = self.github.page(seen, self.events)
        return 200, headers, items


@contextmanager
def serve_runs(github: GitHub) -> Iterator[Runs]:
    """The storage that GitHub redirects downloads to is a server of its own."""

    class Storage(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            runs.storage_headers.append(dict(self.headers.items()))
            content = runs.stored[self.path.partition("?")[0]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Storage) as server:
        runs = Runs(github, f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield runs
        finally:
            server.shutdown()
            thread.join()
