"""GitHub's REST API over the standard library, so that nothing is installed next to a token."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, InvalidURL
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, TypeVar, cast, final
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit

from pytest_flopbudget.core.errors import FlopBudgetError, ReportError
from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.render.words import clean

T = TypeVar("T")

_ATTEMPTS: Final = 4
_TIMEOUT_S: Final = 30.0
"""For a connection, and for each piece of an answer."""
_REQUEST_S: Final = 30.0
"""For a request as a whole: an answer that trickles never runs into the timeout of a piece."""
_DOWNLOAD_S: Final = 60.0
"""The same for a file."""
_STEP_S: Final = 150.0
"""For all requests of a client together, with the waits between them."""
_LONGEST_WAIT_S: Final = 120.0
"""A job is not held longer than this for a rate limit; it is told to come back."""
_UNSTATED_WAIT_S: Final = 60.0
"""GitHub asks for a minute's rest after a secondary limit that names no time."""
_RETRY_AFTER: Final = "Retry-After"
_PAGE_SIZE: Final = 100
_JSON_BYTES: Final = 32 * 1024 * 1024
"""A page of the longest comments takes 100 times 65 536 characters, or 26 MB at most."""
_PIECE_BYTES: Final = 64 * 1024
_QUERY: Final = re.compile(r"\?[^\s?=]*=\S*")
"""Of an address in a message: an artifact's has the signature that opens it."""


@final
class GitHubError(FlopBudgetError):
    """A request that GitHub refused, or an event or checkout that is no use. Holds no token."""

    def __init__(
        self, message: str, *, status: int | None = None, is_limited: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status, where there was an answer."""
        self.is_limited = is_limited
        """Whether it was refused for a rate limit alone, and not for the token's rights."""

    @property
    def is_forbidden(self) -> bool:
        """Whether the token may not do it."""
        return self.status == HTTPStatus.FORBIDDEN and not self.is_limited


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    headers: Message
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    status: int
    headers: Message
    text: str
    """What GitHub said, as one line without secrets."""

    @property
    def is_limited(self) -> bool:
        """Whether it asks for patience, and says nothing of the token's rights."""
        return self.status == HTTPStatus.TOO_MANY_REQUESTS or (
            self.status == HTTPStatus.FORBIDDEN
            and (
                self.headers.get(_RETRY_AFTER) is not None
                or self.headers.get("X-RateLimit-Remaining") == "0"
                or "rate limit" in self.text.lower()
            )
        )


@final
class Client:
    """Requests to one API root with one token, repeated while GitHub asks for patience.

    api_url: such as `https://api.github.com`, or `https://HOST/api/v3` of an Enterprise Server.
    sleep, clock: `time.sleep` and `time.time`, both in seconds.
    All requests together end within `_STEP_S` of the first, whatever the server does.
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
        self._ends_at_s: float | None = None
        """By the clock, from the first request on."""

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
        url = self._api_url + path
        return self._send("GET", url, None, max_bytes=max_bytes, is_file=True).content

    def _send(
        self,
        method: str,
        url: str,
        body: Any,
        *,
        max_bytes: int = _JSON_BYTES,
        is_file: bool = False,
    ) -> _Answer:
        request = self._request(method, url, body)
        limit_s = _DOWNLOAD_S if is_file else _REQUEST_S
        if self._ends_at_s is None:
            self._ends_at_s = self._clock() + _STEP_S
        fault = GitHubError(
            f"{_what(request)}: not asked, as all requests have taken {_STEP_S:.0f} s together"
        )
        for attempt in range(1, _ATTEMPTS + 1):
            left_s = self._ends_at_s - self._clock()
            if left_s <= 0:
                break
            found, wait_s = self._attempt(request, attempt, max_bytes, min(limit_s, left_s))
            if isinstance(found, _Answer):
                return found
            fault = found
            if wait_s is None or attempt == _ATTEMPTS or wait_s >= self._ends_at_s - self._clock():
                break
            self._sleep(wait_s)
        raise fault

    def _attempt(
        self, request: urllib.request.Request, attempt: int, max_bytes: int, limit_s: float
    ) -> tuple[_Answer | GitHubError, float | None]:
        """The answer, or what went wrong, and how long to wait before the next attempt.

        There is to be none where the time is None. The fault is raised elsewhere: what caused it
        is not chained to it, and so cannot be printed with it.
        """
        what, method = _what(request), request.get_method()
        try:
            found = _within(limit_s, lambda: self._exchange(request, max_bytes))
        except (InvalidURL, ValueError):
            return GitHubError(f"{what}: redirected to a malformed address"), None
        except (OSError, HTTPException) as error:
            reason = self._safe(str(getattr(error, "reason", error)))
            fault = GitHubError(f"{what}: cannot reach {self._api_url}: {reason}")
            return fault, _backoff_s(attempt) if _is_repeatable(method) else None
        if found is None:
            return GitHubError(f"{what}: larger than {max_bytes} bytes"), None
        if isinstance(found, _Answer):
            return found, None
        fault = GitHubError(
            f"{what}: GitHub answered {found.status}: {found.text}",
            status=found.status,
            is_limited=found.is_limited,
        )
        return fault, self._wait_after_answer_s(found, method, attempt)

    def _exchange(
        self, request: urllib.request.Request, max_bytes: int
    ) -> _Answer | _Refusal | None:
        """What the server answers; None where that is longer than it may be.

        Raises OSError, HTTPException and ValueError.
        """
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                content = self._content(response, max_bytes)
                return (
                    None if content is None else _Answer(headers=response.headers, content=content)
                )
        except HTTPError as error:
            return _Refusal(status=error.code, headers=error.headers, text=self._message(error))

    def _content(self, response: HTTPResponse, max_bytes: int) -> bytes | None:
        """The body; None when it is longer than `max_bytes`.

        Raises OSError and HTTPException when it ends too early.
        """
        stated = _number(response.headers.get("Content-Length"))
        if stated is not None and stated > max_bytes:
            return None
        content = bytearray()
        while piece := response.read1(_PIECE_BYTES):
            content += piece
            if len(content) > max_bytes:
                return None
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
        """The text as one line that is all shown, without the token and queries of addresses."""
        text = _QUERY.sub("", text.replace(self._token, "***"))
        return clean(text)[:300]

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

    def _wait_after_answer_s(self, answer: _Refusal, method: str, attempt: int) -> float | None:
        """How long to wait before the next attempt; None if there is to be none."""
        wait_s = self._stated_wait_s(answer.headers.get(_RETRY_AFTER))
        if answer.is_limited:
            reset_s = _number(answer.headers.get("X-RateLimit-Reset"))
            is_spent = answer.headers.get("X-RateLimit-Remaining") == "0"
            if answer.headers.get(_RETRY_AFTER) is not None:
                wait_s = _backoff_s(attempt) if wait_s is None else wait_s
            elif is_spent and reset_s is not None:
                wait_s = max(0.0, reset_s - self._clock())
            else:
                wait_s = _UNSTATED_WAIT_S
        elif answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR and _is_repeatable(method):
            wait_s = _backoff_s(attempt) if wait_s is None else wait_s
        else:
            return None
        return wait_s if wait_s <= _LONGEST_WAIT_S else None

    def _stated_wait_s(self, text: str | None) -> float | None:
        """What Retry-After asks for, in seconds or as a date; None for nonsense."""
        seconds = _number(text)
        if seconds is not None or text is None:
            return seconds
        try:
            then = parsedate_to_datetime(text)
        except ValueError:
            return None
        # Its date is always in GMT, also where that is left out.
        aware = then if then.tzinfo is not None else then.replace(tzinfo=timezone.utc)
        return max(0.0, aware.timestamp() - self._clock())


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


def _within(limit_s: float, work: Callable[[], T]) -> T:
    """What the work returns. Raises what it raises, and TimeoutError when it takes too long.

    It is then left to itself: nothing else ends a look-up of a name, or a handshake, that
    never comes to its end.
    """
    done: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        value, error = done.get(timeout=limit_s)
    except Empty:
        raise TimeoutError(f"no whole answer within {limit_s:.0f} s") from None
    if error is not None:
        raise error
    return cast("T", value)


def _what(request: urllib.request.Request) -> str:
    return f"{request.get_method()} {urlsplit(request.full_url).path}"


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
