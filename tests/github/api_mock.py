"""A GitHub on this machine: it keeps comments, and holds everyone to the published description."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from .contract import Contract

REPOSITORY = "octo/models"
PULL_NUMBER = 7
WORKFLOW_LOGIN = "github-actions[bot]"


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Fault:
    """An answer given once, instead of the right one, to the next request that fits."""

    method: str
    path: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "Resource not accessible by integration"


Answer = tuple[int, dict[str, str], Any]
"""Status, headers and body."""
Route = Callable[[Seen, dict[str, str]], Answer]
"""Answers a request, given the values in its path."""


@dataclass
class GitHub:
    """The state of the server, to be set before and looked at after."""

    url: str = ""
    viewer: str | None = None
    """Whom `GET /user` names; None for the token of a workflow, which is told 403."""
    pull: dict[str, Any] = field(default_factory=dict)
    """The pull request; one that a test leaves empty is unknown to the server."""
    comments: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    contract: Contract = field(default_factory=Contract)
    routes: dict[str, Route] = field(default_factory=dict)
    """By GitHub's name of the operation; other modules add what they keep the state of."""

    def __post_init__(self) -> None:
        self.routes |= {
            "users/get-authenticated": self._user,
            "pulls/get": self._pull,
            "issues/list-comments": self._list_comments,
            "issues/create-comment": self._create_comment,
            "issues/update-comment": self._update_comment,
        }

    def add_comment(self, body: str, author: str) -> dict[str, Any]:
        number = 1000 + len(self.comments)
        comment = {
            "id": number,
            "node_id": f"IC_{number}",
            "url": f"{self.url}/repos/{REPOSITORY}/issues/comments/{number}",
            "html_url": f"https://github.test/{REPOSITORY}/pull/7#issuecomment-{number}",
            "issue_url": f"{self.url}/repos/{REPOSITORY}/issues/{PULL_NUMBER}",
            "user": user_named(author),
            "created_at": "2026-11-23T10:00:00Z",
            "updated_at": "2026-11-23T10:00:00Z",
            "author_association": "NONE",
            "body": body,
        }
        self.comments.append(comment)
        return comment

    def bodies_by(self, author: str) -> list[str]:
        return [c["body"] for c in self.comments if c["user"]["login"] == author]

    def writes(self) -> list[tuple[str, str]]:
        return [(seen.method, seen.path) for seen in self.seen if seen.method != "GET"]

    def answer(self, seen: Seen) -> Answer:
        """Status, headers and body; what breaks the contract is kept in `violations`."""
        self.seen.append(seen)
        found = self.contract.operation(seen.method, seen.path)
        if found is None:
            self.violations.append(f"{seen.method} {seen.path}: no such operation")
            return 404, {}, error_body(404, "Not Found")
        pointer, values = found
        faults = _faults_of_headers(seen.headers)
        faults += self.contract.faults_of_request(pointer, values, seen.query, seen.body)
        if faults:
            self.violations += [f"{seen.method} {seen.path}: {fault}" for fault in faults]
            return 422, {}, error_body(422, "Validation Failed")
        status, headers, body = self._right_answer(pointer, seen, values)
        for fault in self.contract.faults_of_answer(pointer, status, body):
            self.violations.append(f"the mock's own answer to {seen.method} {seen.path}: {fault}")
        return status, headers, body

    def _right_answer(self, pointer: str, seen: Seen, values: dict[str, str]) -> Answer:
        for fault in self.faults:
            if fault.method == seen.method and re.fullmatch(fault.path, seen.path):
                self.faults.remove(fault)
                return fault.status, fault.headers, error_body(fault.status, fault.message)
        name = self.contract.operation_id(pointer)
        if name not in self.routes:
            self.violations.append(f"{name}: this mock does not answer it")
            return 404, {}, error_body(404, "Not Found")
        return self.routes[name](seen, values)

    def _user(self, seen: Seen, values: dict[str, str]) -> Answer:
        if self.viewer is None:
            return 403, {}, error_body(403, "Resource not accessible by integration")
        return 200, {}, {**user_named(self.viewer), **_PUBLIC_USER}

    def _pull(self, seen: Seen, values: dict[str, str]) -> Answer:
        if self.pull.get("number") != int(values["pull_number"]):
            return 404, {}, error_body(404, "Not Found")
        return 200, {}, self.pull

    def _create_comment(self, seen: Seen, values: dict[str, str]) -> Answer:
        return 201, {}, self.add_comment(seen.body["body"], self.viewer or WORKFLOW_LOGIN)

    def _update_comment(self, seen: Seen, values: dict[str, str]) -> Answer:
        comment = next((c for c in self.comments if c["id"] == int(values["comment_id"])), None)
        if comment is None:
            return 404, {}, error_body(404, "Not Found")
        comment["body"] = seen.body["body"]
        return 200, {}, comment

    def _list_comments(self, seen: Seen, values: dict[str, str]) -> Answer:
        headers, items = self.page(seen, self.comments)
        return 200, headers, items

    def page(self, seen: Seen, every: list[Any]) -> tuple[dict[str, str], list[Any]]:
        """The page of a list that the request asks for, and the links to the others."""
        size = min(int(seen.query.get("per_page", 30)), 100)
        page = int(seen.query.get("page", 1))
        last = -(-len(every) // size) or 1
        headers = {}
        if page < last:
            links = {"next": page + 1, "last": last}
            query = {name: {**seen.query, "page": str(to)} for name, to in links.items()}
            headers["Link"] = ", ".join(
                f'<{self.url}{seen.path}?{urlencode(query[rel])}>; rel="{rel}"' for rel in links
            )
        return headers, every[(page - 1) * size : page * size]


@contextmanager
def serve(github: GitHub) -> Iterator[GitHub]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            raw = self.rfile.read(length)
            parts = urlsplit(self.path)
            seen = Seen(
                method=self.command,
                path=parts.path,
                query=dict(parse_qsl(parts.query)),
                headers=dict(self.headers.items()),
                body=json.loads(raw) if raw else None,
            )
            status, headers, body = github.answer(seen)
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _do  # noqa: N815 - the names that http.server calls

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        github.url = f"http://127.0.0.1:{server.server_port}"
        # The default half second between looks at the shutdown flag is most of a test's time.
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield github
        finally:
            server.shutdown()
            thread.join()


def _faults_of_headers(headers: dict[str, str]) -> list[str]:
    expected = {
        "Authorization": r"Bearer \S+",
        "Accept": re.escape("application/vnd.github+json"),
        "X-Github-Api-Version": r"\d{4}-\d\d-\d\d",
        "User-Agent": r".+",
    }
    lower = {name.lower(): value for name, value in headers.items()}
    return [
        f"header {name}: {lower.get(name.lower())!r}"
        for name, pattern in expected.items()
        if not re.fullmatch(pattern, lower.get(name.lower(), ""))
    ]


def error_body(status: int, message: str) -> dict[str, Any]:
    return {
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": str(status),
    }


def user_named(login: str) -> dict[str, Any]:
    link = "https://api.github.test/users/x"
    links = (
        "avatar_url events_url followers_url following_url gists_url html_url organizations_url "
        "received_events_url repos_url starred_url subscriptions_url url"
    )
    return {
        "login": login,
        "id": 41898282,
        "node_id": "MDM6Qm90",
        "gravatar_id": "",
        "type": "Bot" if login.endswith("[bot]") else "User",
        "site_admin": False,
        **dict.fromkeys(links.split(), link),
    }


_PUBLIC_USER: dict[str, Any] = {
    "name": None,
    "company": None,
    "blog": None,
    "location": None,
    "email": None,
    "hireable": None,
    "bio": None,
    "public_repos": 1,
    "public_gists": 0,
    "followers": 0,
    "following": 0,
    "created_at": "2020-01-01T00:00:00Z",
    "updated_at": "2020-01-01T00:00:00Z",
}
"""What `GET /user` adds to the user that a comment holds."""
