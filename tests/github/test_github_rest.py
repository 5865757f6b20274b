"""The REST client: patience, pages, and a token that goes to one host alone."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Event, Thread

import pytest

from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.github import rest
from pytest_flopbudget.github.rest import Client, GitHubError

from .api_mock import PULL_NUMBER, REPOSITORY, Answer, Fault, GitHub, Seen, serve
from .conftest import TOKEN, FakeTime

COMMENTS = f"/repos/{REPOSITORY}/issues/{PULL_NUMBER}/comments"


def test_every_page_of_a_list_is_read(client: Client, github: GitHub) -> None:
    for number in range(205):
        github.add_comment(f"body {number}", "someone")
    bodies = [comment["body"] for comment in client.items(COMMENTS)]
    assert bodies == [f"body {number}" for number in range(205)]
    assert [seen.query.get("page", "1") for seen in github.seen] == ["1", "2", "3"]


@pytest.mark.parametrize("status", [429, 403])
def test_a_limit_is_waited_out_for_as_long_as_github_says(
    client: Client, github: GitHub, time: FakeTime, status: int
) -> None:
    github.faults = [Fault("POST", COMMENTS, status, {"Retry-After": "17"}, "slow down")]
    assert client.request("POST", COMMENTS, {"body": "text"})["body"] == "text"
    assert time.slept == [17.0]


def test_a_spent_limit_is_waited_out_until_its_reset(
    client: Client, github: GitHub, time: FakeTime
) -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.now_s) + 40)}
    github.faults = [Fault("GET", COMMENTS, 403, headers, "API rate limit exceeded")]
    assert list(client.items(COMMENTS)) == []
    assert time.slept == [40.0]


def test_a_secondary_limit_that_names_no_time_is_given_a_minute(
    client: Client, github: GitHub, time: FakeTime
) -> None:
    message = "You have exceeded a secondary rate limit"
    github.faults = [Fault("GET", COMMENTS, 403, {}, message)]
    assert list(client.items(COMMENTS)) == []
    assert time.slept == [60.0]


@pytest.mark.parametrize(("retry_after", "waits"), [("120", [120.0]), ("121", [])])
def test_a_job_is_held_for_two_minutes_at_most(
    client: Client, github: GitHub, time: FakeTime, retry_after: str, waits: list[float]
) -> None:
    github.faults = [Fault("GET", COMMENTS, 429, {"Retry-After": retry_after}, "slow down")]
    if waits:
        assert list(client.items(COMMENTS)) == []
    else:
        with pytest.raises(GitHubError, match="429: slow down"):
            list(client.items(COMMENTS))
    assert time.slept == waits


def test_a_plain_403_is_final(client: Client, github: GitHub, time: FakeTime) -> None:
    github.faults = [Fault("POST", COMMENTS, 403)]
    with pytest.raises(GitHubError, match="403: Resource not accessible by integration") as caught:
        client.request("POST", COMMENTS, {"body": "text"})
    assert caught.value.status == 403
    assert time.slept == []


def test_a_server_that_stays_broken_is_given_up_after_four_attempts(
    client: Client, github: GitHub, time: FakeTime
) -> None:
    github.faults = [Fault("GET", COMMENTS, 502, {}, "Bad Gateway") for _ in range(5)]
    with pytest.raises(GitHubError, match="502: Bad Gateway"):
        list(client.items(COMMENTS))
    assert len(github.seen) == 4
    assert time.slept == [2.0, 4.0, 8.0]


def test_a_post_that_may_have_posted_is_not_repeated(
    client: Client, github: GitHub, time: FakeTime
) -> None:
    github.faults = [Fault("POST", COMMENTS, 502, {}, "Bad Gateway")]
    with pytest.raises(GitHubError, match="502"):
        client.request("POST", COMMENTS, {"body": "text"})
    assert len(github.seen) == 1


def test_a_redirect_within_the_host_is_followed_with_the_token(
    client: Client, github: GitHub
) -> None:
    moved = "/repos/octo/old/issues/7/comments"
    github.add_comment("found", "someone")
    github.faults = [Fault("GET", moved, 301, {"Location": github.url + COMMENTS})]
    assert [comment["body"] for comment in client.items(moved)] == ["found"]
    assert github.seen[1].headers["Authorization"] == f"Bearer {TOKEN}"


def test_a_redirect_to_another_host_does_not_take_the_token_along(
    client: Client, github: GitHub
) -> None:
    with serve(GitHub()) as elsewhere:
        github.faults = [Fault("GET", COMMENTS, 302, {"Location": elsewhere.url + COMMENTS})]
        with pytest.raises(GitHubError, match="422"):
            list(client.items(COMMENTS))
    assert elsewhere.violations == [f"GET {COMMENTS}: header Authorization: None"]
    assert TOKEN not in str(elsewhere.seen)


def test_a_redirected_post_is_an_error_and_not_a_get(client: Client, github: GitHub) -> None:
    github.faults = [Fault("POST", COMMENTS, 301, {"Location": github.url + COMMENTS})]
    with pytest.raises(GitHubError, match="answered 301"):
        client.request("POST", COMMENTS, {"body": "text"})
    assert [seen.method for seen in github.seen] == ["POST"]


def test_a_next_page_on_another_host_is_not_fetched(client: Client, github: GitHub) -> None:
    with serve(GitHub()) as elsewhere:
        link = {"Link": f'<{elsewhere.url}{COMMENTS}>; rel="next"'}
        github.routes["issues/list-comments"] = lambda seen, values: (200, link, [])
        with pytest.raises(GitHubError, match="another host"):
            list(client.items(COMMENTS))
    assert elsewhere.seen == []


def test_an_unreachable_host_is_one_line(time: FakeTime) -> None:
    with serve(GitHub()) as server:
        url = server.url
    client = Client(api_url=url, token=TOKEN, sleep=time.sleep, clock=time.clock)
    with pytest.raises(GitHubError, match="cannot reach") as caught:
        client.request("GET", "/user")
    assert "\n" not in str(caught.value)
    assert time.slept == [2.0, 4.0, 8.0]


def test_a_token_in_what_the_server_says_is_not_repeated(client: Client, github: GitHub) -> None:
    github.faults = [Fault("POST", COMMENTS, 403, {}, f"no such\n token: {TOKEN}")]
    with pytest.raises(GitHubError, match=r"403: no such token: \*\*\*$"):
        client.request("POST", COMMENTS, {"body": "text"})


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"{TOKEN} x", "", "tökèn"])
def test_a_malformed_token_is_refused_without_being_printed(token: str, time: FakeTime) -> None:
    with pytest.raises(FlopBudgetError, match="the token has characters") as caught:
        Client(api_url="http://x.test", token=token, sleep=time.sleep, clock=time.clock)
    assert TOKEN not in str(caught.value)


def test_an_api_address_that_is_no_http_address_is_refused(time: FakeTime) -> None:
    with pytest.raises(GitHubError, match="GITHUB_API_URL: 'file:///etc' is no http address"):
        Client(api_url="file:///etc", token=TOKEN, sleep=time.sleep, clock=time.clock)


@contextmanager
def raw_server(*answers: bytes) -> Iterator[str]:
    """A server that gives these answers as they are, one to each connection; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_all() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)
                    if not answer:
                        connection.recv(1)  # until the client has had enough

        thread = Thread(target=serve_all)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def ok(content: bytes, length: int | None = None) -> bytes:
    stated = len(content) if length is None else length
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (stated, content)


def client_of(url: str, time: FakeTime) -> Client:
    return Client(api_url=url, token=TOKEN, sleep=time.sleep, clock=time.clock)


@pytest.mark.parametrize("broken", [ok(b"12", length=4), b"HTTP/1.1 "])
def test_a_cut_answer_is_asked_for_again(time: FakeTime, broken: bytes) -> None:
    with raw_server(broken, ok(b"1234")) as url:
        assert client_of(url, time).download("/file", max_bytes=4) == b"1234"
    assert time.slept == [2.0]


def test_a_server_that_does_not_answer_is_not_waited_for(
    time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "_TIMEOUT_S", 0.05)
    with raw_server(b"", ok(b"{}")) as url:
        assert client_of(url, time).request("GET", "/user") == {}
    assert time.slept == [2.0]


@contextmanager
def dripping_server(first: bytes) -> Iterator[str]:
    """A server that sends this, and then one byte after the other, for ever; its address."""
    ended = Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.sendall(first)
                while not ended.wait(0.01):
                    connection.sendall(b"x")

        def accept() -> None:
            with suppress(OSError):
                while not ended.is_set():
                    Thread(target=drip, args=(listener.accept()[0],)).start()

        Thread(target=accept).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "first",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n{", b"HTTP/1.1 403 x\r\n\r\n"],
)
def test_an_answer_that_trickles_is_given_up(
    time: FakeTime, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(rest, "_REQUEST_S", 0.1)
    with (
        dripping_server(first) as url,
        pytest.raises(GitHubError, match=r"cannot reach .*: no whole answer within 0 s"),
    ):
        client_of(url, time).request("GET", "/user")
    assert time.slept == [2.0, 4.0, 8.0]


def test_all_requests_of_a_step_end_together(
    client: Client, github: GitHub, time: FakeTime
) -> None:
    # 60 s of rest after each limit: the third would end after the 150 s that there are in all.
    limit = "You have exceeded a secondary rate limit"
    github.faults = [Fault("GET", COMMENTS, 403, {}, limit) for _ in range(4)]
    with pytest.raises(GitHubError, match="403") as caught:
        list(client.items(COMMENTS))
    assert (caught.value.is_limited, caught.value.is_forbidden) == (True, False)
    assert time.slept == [60.0, 60.0]
    time.now_s += 30
    github.faults.clear()
    asked = len(github.seen)
    with pytest.raises(GitHubError, match="not asked, as all requests have taken 150 s together"):
        list(client.items(COMMENTS))
    assert len(github.seen) == asked


@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [
        # 1 000 000 s after the epoch.
        ("Mon, 12 Jan 1970 13:47:10 GMT", 30.0),
        ("Mon, 12 Jan 1970 13:47:10", 30.0),
        ("Mon, 12 Jan 1970 13:46:10 GMT", 0.0),
        ("-5", 2.0),
        ("nan", 2.0),
        ("soon", 2.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_date_is_waited_for_and_nonsense_is_not(
    client: Client, github: GitHub, time: FakeTime, retry_after: str, wait: float, status: int
) -> None:
    github.faults = [Fault("GET", COMMENTS, status, {"Retry-After": retry_after}, "slow down")]
    assert list(client.items(COMMENTS)) == []
    assert time.slept == [wait]


@pytest.mark.parametrize("answer", [ok(b"12345"), b"HTTP/1.1 200 OK\r\n\r\n12345"])
def test_a_file_above_the_limit_is_refused(time: FakeTime, answer: bytes) -> None:
    with (
        raw_server(answer) as url,
        pytest.raises(GitHubError, match=r"^GET /file: larger than 4 bytes$"),
    ):
        client_of(url, time).download("/file", max_bytes=4)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{}", "GET /list: expected a list, found {}"),
        (b"nonsense", "GET /list: the answer is not JSON"),
        (b"[" * 100_000, "GET /list: the answer is not JSON"),
    ],
)
def test_an_answer_of_another_shape_is_one_line(time: FakeTime, content: bytes, said: str) -> None:
    with raw_server(ok(content)) as url, pytest.raises(GitHubError) as caught:
        list(client_of(url, time).items("/list"))
    assert str(caught.value) == said


def test_an_answer_larger_than_any_page_is_refused(time: FakeTime) -> None:
    with (
        raw_server(ok(b"", length=32 * 1024 * 1024 + 1)) as url,
        pytest.raises(GitHubError, match="larger than 33554432 bytes"),
    ):
        client_of(url, time).request("GET", "/user")


@pytest.mark.parametrize("scheme", ["ftp", "file"])
def test_a_redirect_to_another_kind_of_address_is_not_followed(
    client: Client, github: GitHub, scheme: str
) -> None:
    location = {"Location": f"{scheme}://elsewhere.test/x?sig=secret&token={TOKEN}"}
    github.faults = [Fault("GET", COMMENTS, 302, location)]
    with pytest.raises(GitHubError, match="answered 302") as caught:
        list(client.items(COMMENTS))
    whole = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in whole
    assert "secret" not in whole


def test_an_enterprise_server_has_its_api_below_a_path(time: FakeTime) -> None:
    class Enterprise(GitHub):
        def answer(self, seen: Seen) -> Answer:
            assert seen.path.startswith("/api/v3/")
            return super().answer(replace(seen, path=seen.path.removeprefix("/api/v3")))

    with serve(Enterprise()) as server:
        server.url += "/api/v3"
        for number in range(101):
            server.add_comment(f"{number}", "someone")
        found = list(client_of(server.url, time).items(COMMENTS))
    assert len(found) == 101
    assert server.violations == []


def test_the_mock_sees_what_breaks_the_contract() -> None:
    # The control of every other test here: a mock that accepts anything would prove nothing.
    with serve(GitHub()) as github:
        careless = Client(api_url=github.url, token=TOKEN, sleep=print, clock=float)
        for method, path, body in [
            ("POST", COMMENTS, {"text": "no body"}),
            ("POST", COMMENTS, {"body": "x" * 65_537}),
            ("POST", COMMENTS, {"body": "x", "colour": "red"}),
            ("GET", f"{COMMENTS}?perpage=3", None),
            ("GET", "/repos/octo/models/issues/seven/comments", None),
            ("PATCH", COMMENTS, None),
        ]:
            with pytest.raises(GitHubError, match=r"422|404"):
                careless.request(method, path, body)
        github.add_comment("x", "someone")
        del github.comments[0]["html_url"]
        careless.request("GET", COMMENTS)
    assert [violation.partition(": ")[2] for violation in github.violations] == [
        "body: 'body' is a required property",
        "body: Additional properties are not allowed ('text' was unexpected)",
        "body is too long (maximum is 65536 characters)",
        "body: Additional properties are not allowed ('colour' was unexpected)",
        "perpage: unknown query parameter",
        "issue_number: 'seven' is not of type 'integer'",
        "no such operation",
        "answer/0: 'html_url' is a required property",
    ]
