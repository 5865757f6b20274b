"""GitHub's REST API over the standard library, so that nothing is installed next to a token."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import Any, Final, TypeVar, final
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit

from pytest_flopbudget.core.errors import FlopBudgetError, ReportError
from pytest_flopbudget.core.fields import Node

T = TypeVar("T")

_ATTEMPTS: Final = 4
_TIMEOUT_S: Final = 30.0
"""For a connection, and for each piece of an answer."""
_LONGEST_ANSWER_S: Final = 300.0
"""For an answer as a whole: one that trickles never runs into the timeout of a piece."""
_LONGEST_WAIT_S: Final = 120.0
"""A job is not held longer than this for a rate limit; it is told to come back."""
_UNSTATED_WAIT_S: Final = 60.0
"""GitHub asks for a minute's rest after a secondary limit that names no time."""
_PAGE_SIZE: Final = 100
_JSON_BYTES: Final = 32 * 1024 * 1024
"""A page of the longest comments takes 100 times 65 536 characters, or 26 MB at most."""
_PIECE_BYTES: Final = 64 * 1024
_QUERY: Final = re.compile(r"\?[^\s?=]*=\S*")
"""Of an address in a message: an artifact's has the signature that opens it."""


@final
class GitHubError(FlopBudgetError):
    """A request that GitHub refused, or an event or checkout that is no use. Holds no token."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status, where there was an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    headers: Message
    content: bytes


@final
class Client:
    """Requests to one API root with one token, repeated while GitHub asks for patience.

    api_url: such as `https://api.github.com`, or `https://HOST/api/v3` of an Enterprise Server.
    sleep, clock: `time.sleep` and `time.time`, both in seconds.
    Every method raises `GitHubError`.
    """

    def __init__(
        self,
        *,
        api_url: str,
        token: str,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        if urlsplit(api_url).scheme not in {"https", "http"}:
            raise GitHubError(f"GITHUB_API_URL: {api_url!r} is no http address")
        # http.client prints a header that it rejects, and this one must not be printed.
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise GitHubError("the token has characters that no token has (a line break, a space?)")
        self._api_url = api_url.rstrip("/")
        self._token = token
        self._sleep = sleep
        self._clock = clock
        self._opener = urllib.request.build_opener(_CarefulRedirects())

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer to one request; `path` begins with a slash."""
        answer = self._send(method, self._api_url + path, body)
        return _decoded(answer.content, f"{method} {path}")

    def read(self, path: str, read: Callable[[Node], T]) -> T:
        """What `read` takes from the answer to a GET; an answer of another shape is an error."""
        return _understood(read, self.request("GET", path), f"GET {path}")

    def write(self, method: str, path: str, body: Any, read: Callable[[Node], T]) -> T:
        """What `read` takes from the answer to a POST or PATCH."""
        return _understood(read, self.request(method, path, body), f"{method} {path}")

    def items(self, path: str, *, key: str = "", **query: str) -> Iterator[Any]:
        """The items of a list, of all its pages.

        key: under which the list stands, where the answer is a table around it.
        """
        parameters = urlencode({**query, "per_page": _PAGE_SIZE})
        url: str | None = f"{self._api_url}{path}?{parameters}"
        what = f"GET {path}"
        while url is not None:
            answer = self._send("GET", url, None)
            body = _decoded(answer.content, what)
            yield from _understood(lambda node: _values(node[key] if key else node), body, what)
            url = _next_page(answer.headers)

    def each(
        self, path: str, read: Callable[[Node], T], *, key: str = "", **query: str
    ) -> Iterator[T]:
        """What `read` takes from each item of a list, of all its pages."""
        for item in self.items(path, key=key, **query):
            yield _understood(read, item, f"GET {path}")

    def download(self, path: str, *, max_bytes: int) -> bytes:
        """A file, wherever GitHub redirects to; another host is not shown the token."""
        return self._send("GET", self._api_url + path, None, max_bytes=max_bytes).content

    def _send(self, method: str, url: str, body: Any, *, max_bytes: int = _JSON_BYTES) -> _Answer:
        request = self._request(method, url, body)
        what = f"{method} {urlsplit(url).path}"
        # Faults are raised below, outside of the handlers: what caused them is not chained to
        # them, and so cannot be printed with them.
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                    content = self._content(response, max_bytes)
                    headers = response.headers
            except HTTPError as error:
                text = self._message(error)
                fault = GitHubError(
                    f"{what}: GitHub answered {error.code}: {text}", status=error.code
                )
                wait_s = self._wait_after_answer_s(error, text, method, attempt)
            except (InvalidURL, ValueError):
                fault, wait_s = GitHubError(f"{what}: redirected to a malformed address"), None
            except (OSError, HTTPException) as error:
                reason = self._safe(str(getattr(error, "reason", error)))
                fault = GitHubError(f"{what}: cannot reach {self._api_url}: {reason}")
                wait_s = _backoff_s(attempt) if _is_repeatable(method) else None
            else:
                if content is not None:
                    return _Answer(headers=headers, content=content)
                fault, wait_s = GitHubError(f"{what}: larger than {max_bytes} bytes"), None
            if wait_s is None or attempt == _ATTEMPTS:
                break
            self._sleep(wait_s)
        raise fault

    def _content(self, response: HTTPResponse, max_bytes: int) -> bytes | None:
        """The body; None when it is longer than `max_bytes`.

        Raises OSError and HTTPException when it ends too early or takes too long.
        """
        stated = _number(response.headers.get("Content-Length"))
        if stated is not None and stated > max_bytes:
            return None
        started_s = self._clock()
        content = bytearray()
        while piece := response.read1(_PIECE_BYTES):
            content += piece
            if len(content) > max_bytes:
                return None
            if self._clock() - started_s > _LONGEST_ANSWER_S:
                raise TimeoutError(f"the answer takes more than {_LONGEST_ANSWER_S:.0f} s")
        # Read piece by piece, an answer that was cut off looks like one that has ended.
        if stated is not None and len(content) < stated:
            raise HTTPException(f"the answer was cut off after {len(content)} bytes")
        return bytes(content)

    def _message(self, error: HTTPError) -> str:
        """What GitHub said, as one line without secrets."""
        with error:
            try:
                said = json.loads(error.read(100_000))["message"]
            except (OSError, HTTPException, ValueError, TypeError, KeyError, RecursionError):
                said = error.reason
        return self._safe(str(said))

    def _safe(self, text: str) -> str:
        """The text as one line, without the token and without the queries of addresses."""
        text = _QUERY.sub("", text.replace(self._token, "***"))
        return " ".join(text.split())[:300]

    def _request(self, method: str, url: str, body: Any) -> urllib.request.Request:
        if _origin(url) != _origin(self._api_url):
            raise GitHubError(
                f"GitHub points to another host, {urlsplit(url).netloc}: not followed"
            )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method)  # noqa: S310 - http checked
        request.add_header("Accept", "application/vnd.github+json")
        request.add_header("X-GitHub-Api-Version", "2022-11-28")
        request.add_header("User-Agent", "pytest-flopbudget")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return request

    def _wait_after_answer_s(
        self, error: HTTPError, text: str, method: str, attempt: int
    ) -> float | None:
        """How long to wait before the next attempt; None if there is to be none."""
        stated_s = _number(error.headers.get("Retry-After"))
        is_spent = error.headers.get("X-RateLimit-Remaining") == "0"
        is_limited = error.code == HTTPStatus.TOO_MANY_REQUESTS or (
            error.code == HTTPStatus.FORBIDDEN
            and (stated_s is not None or is_spent or "rate limit" in text.lower())
        )
        if is_limited:
            reset_s = _number(error.headers.get("X-RateLimit-Reset"))
            if stated_s is None and is_spent and reset_s is not None:
                stated_s = max(0.0, reset_s - self._clock())
            wait_s = _UNSTATED_WAIT_S if stated_s is None else stated_s
        elif error.code >= HTTPStatus.INTERNAL_SERVER_ERROR and _is_repeatable(method):
            wait_s = _backoff_s(attempt) if stated_s is None else stated_s
        else:
            return None
        return wait_s if wait_s <= _LONGEST_WAIT_S else None


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a GET alone, and takes the token along only within the same origin.

    The standard handler turns a redirected POST into a GET, whose list of comments
    would then pass for the comment that was created.
    """

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.get_method() != "GET":
            return None
        # The standard handler would go on by ftp, and from https to http.
        if urlsplit(newurl).scheme not in {"https", urlsplit(req.full_url).scheme}:
            raise HTTPError(req.full_url, code, "redirected to an unsafe address", headers, fp)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if following is not None and token and _origin(newurl) == _origin(req.full_url):
            following.add_unredirected_header("Authorization", token)
        return following


def _is_repeatable(method: str) -> bool:
    """Whether doing it twice does no more than doing it once.

    A POST that failed half way may have posted, and a second one would post again.
    """
    return method != "POST"


def _backoff_s(attempt: int) -> float:
    return float(2**attempt)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None


def _next_page(headers: Message) -> str | None:
    found = re.search(r'<([^<>]*)>\s*;\s*rel="next"', headers.get("Link", ""))
    return found[1] if found else None


def _decoded(content: bytes, what: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        pass
    raise GitHubError(f"{what}: the answer is not JSON")


def _understood(read: Callable[[Node], T], body: Any, what: str) -> T:
    """What `read` takes from an answer. Raises GitHubError for one of another shape."""
    try:
        return read(Node(body, what))
    except ReportError as error:
        fault = GitHubError(" ".join(str(error).split())[:300])
    except RecursionError:
        fault = GitHubError(f"{what}: the answer is nested too deeply")
    raise fault


def _values(node: Node) -> list[Any]:
    return [item.value for item in node.items()]
