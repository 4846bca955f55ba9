"""The streams of events of both clients, over sockets, from the reference server and hostile servers."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from video_calls_sdk import (
    AsyncVideoCallsClient,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    Event,
    EventsClosedError,
    EventsExpiredError,
    EventsNotOfferedError,
    EventType,
    InvalidEventIdError,
    InvalidResponseError,
    RedirectError,
    Retries,
    Role,
    TimedOutError,
    TokenExpiredError,
    UnavailableError,
    VideoCallsClient,
)
from websockets import Request, Response
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from support.payloads import CALL

API = "/api/v1/video"
QUICKLY = Retries(attempts=2, first_wait=0.001, longest_wait=0.001)
SECRET = "eyJhbGciOiJub25lIn0.c2VjcmV0.c2VjcmV0"


def message(number: int, **other: Any) -> str:
    event = {"id": f"e{number}", "type": "call.started", "created_at": "2024-01-05T10:00:00Z"}
    return json.dumps(event | {"data": {"call": CALL}} | other)


# -- A server with a script -------------------------------------------------------------------------

Script = Callable[["Fake", ServerConnection], Coroutine[Any, Any, None]]


class Fake:
    """A server with a script, and what it received.

    Attributes:
        base_url: the base URL for the client.
        tokens, places: the token and `last_event_id` of each connection, in order.
        headers: the request headers of the last connection.
        disconnected: set when a connection has ended.
    """

    base_url: str

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.places: list[str | None] = []
        self.headers = Headers()
        self.disconnected = threading.Event()

    def note(self, request: Request) -> None:
        url = urlsplit(request.path)
        assert url.path == f"{API}/events/"
        self.places.append(parse_qs(url.query).get("last_event_id", [None])[0])
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        self.headers = request.headers
        assert SECRET not in request.path


@contextmanager
def fake(
    script: Script, *, answer: Callable[[Fake], Response | None] = lambda _: None, **headers: str
) -> Iterator[Fake]:
    """Serve on another thread. `script` runs for each connection; when it ends, the connection is closed."""
    fake_server, ready, ended = Fake(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def connected(connection: ServerConnection) -> None:
        try:
            await script(fake_server, connection)
        finally:
            fake_server.disconnected.set()

    def process_request(_: ServerConnection, request: Request) -> Response | None:
        fake_server.note(request)
        return answer(fake_server)

    def process_response(_: ServerConnection, __: Request, response: Response) -> None:
        response.headers.update(headers)

    async def run() -> None:
        async with serve_websocket(
            connected,
            "127.0.0.1",
            0,
            process_request=process_request,
            process_response=process_response,
            close_timeout=1,
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            fake_server.base_url = f"http://127.0.0.1:{port}{API}"
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(30)
    try:
        yield fake_server
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
        assert not thread.is_alive()
        loop.close()


async def stay(_: Fake, connection: ServerConnection) -> None:
    await connection.wait_closed()


def refusal(status: int, body: bytes = b"", **headers: str) -> Callable[[Fake], Response]:
    return lambda _: Response(status, "", Headers(headers | {"Content-Length": str(len(body))}), body)


# -- Both clients -----------------------------------------------------------------------------------

Take = Callable[..., list[Event]]


def take(base_url: str, token: Any = SECRET, *, count: int, after: str | None = None, **options: Any) -> Any:
    """Return the first events of a synchronous client."""
    received: list[Event] = []
    with (
        VideoCallsClient(base_url, token, **{"retries": QUICKLY} | options) as client,
        client.events(after=after) as events,
    ):
        for event in events:
            received.append(event)
            assert events.last_event_id == event.id
            if len(received) == count:
                break
    return received


def take_async(
    base_url: str, token: Any = SECRET, *, count: int, after: str | None = None, **options: Any
) -> Any:
    """Return the first events of an asynchronous client, which leaves no task behind."""

    async def run() -> list[Event]:
        received: list[Event] = []
        async with (
            AsyncVideoCallsClient(base_url, token, **{"retries": QUICKLY} | options) as client,
            client.events(after=after) as events,
        ):
            async for event in events:
                received.append(event)
                assert events.last_event_id == event.id
                if len(received) == count:
                    break
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return received

    return asyncio.run(run())


@pytest.fixture(params=[take, take_async], ids=["sync", "async"])
def first(request: pytest.FixtureRequest) -> Iterator[Take]:
    """Yield `take` or `take_async`, which leave no thread behind."""
    before = set(threading.enumerate())
    yield request.param
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive(), thread.name


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


# -- Delivery --------------------------------------------------------------------------------------


def test_events_are_parsed_into_models(first: Take) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        await connection.send(message(1))
        joined = {"call": CALL, "participant": {"uid": 7, "role": "doctor"}}
        await connection.send(message(2, type="participant.joined", data=joined).encode())
        unknown = {"call": CALL | {"status": "paused"}, "participant": {"uid": 8, "role": "interpreter"}}
        await connection.send(message(3, type="participant.waved", data=unknown, mood="good"))
        await connection.wait_closed()

    with fake(script) as server:
        started, joined, unknown = first(server.base_url, count=3)
    assert started.type is EventType.CALL_STARTED
    assert (started.data.call.id, started.data.participant) == (1, None)
    assert started.created_at == datetime(2024, 1, 5, 10, tzinfo=UTC)
    assert (joined.data.participant.uid, joined.data.participant.role) == (7, Role.DOCTOR)
    assert (unknown.type, unknown.data.participant.role) == ("participant.waved", "interpreter")
    assert (unknown.data.call.status, unknown.mood) == ("paused", "good")


@pytest.mark.parametrize("text", ["hello", message(1, data={})])
def test_invalid_message_is_an_error(first: Take, text: str) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        await connection.send(text)
        await connection.wait_closed()

    with fake(script) as server, pytest.raises(InvalidResponseError) as caught:
        first(server.base_url, count=1)
    assert caught.value.problems
    assert caught.value.url == f"{server.base_url}/events/"


def test_duplicate_event_is_delivered_once(first: Take) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        for number in (0, 1, 1, 2, 1, 3):
            await connection.send(message(number))
        await connection.wait_closed()

    with fake(script) as server:
        assert ids(first(server.base_url, count=3, after="e0")) == ["e1", "e2", "e3"]


def test_token_is_sent_only_in_a_header(first: Take, caplog: pytest.LogCaptureFixture) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        await connection.send(message(1))
        await connection.wait_closed()

    caplog.set_level(logging.DEBUG)
    with fake(script) as server:
        first(server.base_url, count=1, after="a b&c=d", headers={"X-Tenant": "clinic"})
    assert (server.tokens, server.places) == ([SECRET], ["a b&c=d"])
    assert server.headers["X-Tenant"] == "clinic"
    assert server.headers["User-Agent"].startswith("video-calls-python/")
    ours = [record for record in caplog.records if record.name.startswith("video_calls_sdk")]
    assert all(SECRET not in record.getMessage() for record in ours)
    assert not [record for record in caplog.records if record.name == "websockets.client"]


# -- Reconnecting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [None, 1011], ids=str)
def test_lost_connection_resumes_after_last_event(first: Take, code: int | None) -> None:
    """If `code` is None, the server aborts the connection."""

    async def script(server: Fake, connection: ServerConnection) -> None:
        await connection.send(message(len(server.places)))
        if len(server.places) == 4:
            await connection.wait_closed()
        elif code is None:
            connection.transport.abort()
        else:
            await connection.close(code)

    with fake(script) as server:
        assert ids(first(server.base_url, count=4, after="e0")) == ["e1", "e2", "e3", "e4"]
        assert server.places == ["e0", "e1", "e2", "e3"]


def test_reconnect_before_first_event_loses_no_event(first: Take) -> None:
    """Until its first event, the client resumes after the `Last-Event-ID` of the handshake."""

    async def script(server: Fake, connection: ServerConnection) -> None:
        if len(server.places) == 2:
            await connection.send(message(8))
            await connection.wait_closed()

    with fake(script, **{"Last-Event-ID": "e7"}) as server:
        assert ids(first(server.base_url, count=1)) == ["e8"]
        assert server.places == [None, "e7"]


def test_unavailable_server_is_retried_after_connection(first: Take) -> None:
    """After a first connection, `retries` do not limit the attempts."""

    def answer(server: Fake) -> Response | None:
        return refusal(503)(server) if 1 < len(server.places) < 9 else None

    async def script(server: Fake, connection: ServerConnection) -> None:
        await connection.send(message(len(server.places)))
        if len(server.places) > 1:
            await connection.wait_closed()

    with fake(script, answer=answer) as server:
        assert ids(first(server.base_url, count=2)) == ["e1", "e9"]
        assert server.places == [None, *["e1"] * 8]


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (4400, InvalidEventIdError, "not the id of an event"),
        (4410, EventsExpiredError, "fetch the calls"),
        (4499, EventsClosedError, "policy"),
    ],
)
def test_permanent_close_code_is_raised(
    first: Take, code: int, error: type[EventsClosedError], words: str
) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        await connection.close(code, "policy")

    with fake(script) as server, pytest.raises(EventsClosedError, match=words) as caught:
        first(server.base_url, count=1, after="e5")
    raised = caught.value
    assert type(raised) is error
    assert (raised.code, raised.reason, raised.last_event_id) == (code, "policy", "e5")
    assert raised.url == f"{server.base_url}/events/"
    assert len(server.places) == 1


def test_close_reason_is_redacted_and_escaped(first: Take) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        assert connection.request is not None
        await connection.close(4499, f"\x1b[31m{connection.request.headers['Authorization']}")

    with fake(script) as server, pytest.raises(EventsClosedError) as caught:
        first(server.base_url, count=1)
    assert caught.value.reason == "\\x1b[31mBearer (redacted)"
    assert caught.value.reason in str(caught.value)


def test_message_over_a_mebibyte_closes_events(first: Take) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        await connection.send(" " * (2**20 + 1))  # a thousand bytes when compressed
        await connection.wait_closed()

    with fake(script) as server, pytest.raises(EventsClosedError) as caught:
        first(server.base_url, count=1)
    assert caught.value.code == 1009


# -- The first connection ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 404])
def test_backend_without_events_raises_an_error(first: Take, status: int) -> None:
    body = b'{"error": "Not here"}'
    with (
        fake(stay, answer=refusal(status, body, **{"X-Request-ID": "r1"})) as server,
        pytest.raises(EventsNotOfferedError, match="no WebSocket for events here: Not here") as caught,
    ):
        first(server.base_url, count=1)
    assert (caught.value.status, caught.value.request_id, len(server.places)) == (status, "r1", 1)


def test_redirect_is_not_followed(first: Take) -> None:
    with fake(stay) as elsewhere:
        target = f"ws{elsewhere.base_url.removeprefix('http')}/events/"
        with (
            fake(stay, answer=refusal(307, Location=target)) as server,
            pytest.raises(RedirectError),
        ):
            first(server.base_url, count=1)
        assert (len(server.places), elsewhere.places) == (1, [])


def test_first_connection_is_retried_like_a_request(first: Take) -> None:
    with fake(stay, answer=refusal(503)) as server, pytest.raises(UnavailableError):
        first(server.base_url, count=1)
    assert len(server.places) == 1 + QUICKLY.attempts


def test_silent_or_missing_server_is_an_error(first: Take) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}{API}"
        with pytest.raises(TimedOutError):
            first(url, count=1, timeout=0.05, retries=0)
        with pytest.raises(DeadlineExceededError):
            first(url, count=1, deadline=0.1, retries=Retries(attempts=99))
    with pytest.raises(ConnectionFailedError):
        first(url, count=1)


# -- Tokens -----------------------------------------------------------------------------------------


def tokens(*values: str) -> Callable[[], str]:
    return iter(values).__next__


@pytest.mark.parametrize(
    ("reason", "error"),
    [("The token is invalid", AuthenticationError), ("The token has expired", TokenExpiredError)],
)
@pytest.mark.parametrize("by", ["closing", "status"])
def test_second_refusal_of_token_is_an_error(
    first: Take, by: str, reason: str, error: type[AuthenticationError]
) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        await connection.close(4401, reason)

    answer = refusal(401, json.dumps({"error": reason}).encode()) if by == "status" else lambda _: None
    with fake(script, answer=answer) as server, pytest.raises(AuthenticationError, match=reason) as caught:
        first(server.base_url, tokens("one", "two", "three"), count=1)
    assert (type(caught.value), caught.value.status) == (error, 401)
    assert server.tokens == ["one", "two"]


@pytest.mark.parametrize("lifetime", [0, 2], ids=["at once", "later"])
def test_refused_and_expired_tokens_are_replaced(
    first: Take, monkeypatch: pytest.MonkeyPatch, lifetime: int
) -> None:
    """Each connection ends after `lifetime` seconds, by the clock that the client reads."""
    clock = SimpleNamespace(monotonic=count(0, lifetime).__next__)
    monkeypatch.setattr("video_calls_sdk._event_flow.time", clock)

    async def script(server: Fake, connection: ServerConnection) -> None:
        if len(server.tokens) < 5:
            await connection.close(4401 if len(server.tokens) == 1 else 4402)
            return
        await connection.send(message(1))
        await connection.wait_closed()

    with fake(script) as server:
        assert ids(first(server.base_url, tokens(*"abcde"), count=1)) == ["e1"]
        assert server.tokens == list("abcde")


# -- Closing ----------------------------------------------------------------------------------------


async def talk(_: Fake, connection: ServerConnection) -> None:
    """Send events without end, faster than the client reads."""
    with suppress(ConnectionClosed):
        for number in count():
            await connection.send(message(number))


def test_break_inside_with_keeps_connection_open() -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        for number in (1, 2, 3):
            await connection.send(message(number))
        await connection.wait_closed()

    with fake(script) as server, VideoCallsClient(server.base_url, SECRET) as client:
        with client.events() as events:
            assert len(server.places) == 1
            for event in events:
                assert event.id == "e1"
                break
            assert [next(events).id, next(events).id] == ["e2", "e3"]
            assert not server.disconnected.is_set()
        assert server.disconnected.wait(30)
        assert list(events) == []


def test_break_without_with_closes_connection() -> None:
    with fake(talk) as server, VideoCallsClient(server.base_url, SECRET) as client:
        for event in client.events():
            assert event.id == "e0"
            break
        assert server.disconnected.wait(30)


async def other_tasks_end() -> None:
    """Wait until this is the only task."""
    while asyncio.all_tasks() != {asyncio.current_task()}:  # noqa: ASYNC110 (tasks set no event)
        await asyncio.sleep(0)


def test_break_without_async_with_closes_connection() -> None:
    async def run(url: str) -> None:
        async with AsyncVideoCallsClient(url, SECRET) as client:
            async for event in client.events():
                assert event.id == "e0"
                break
            await other_tasks_end()

    with fake(talk) as server:
        asyncio.run(run(server.base_url))
        assert server.disconnected.wait(30)


WAITS = ["for the handshake", "for an event", "to come back"]


@contextmanager
def waiting(for_what: str) -> Iterator[tuple[str, threading.Event]]:
    """Yield the URL of a server that keeps its client waiting, and an event that is then set."""
    reached = threading.Event()
    if for_what == "for the handshake":
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def accept() -> None:
                accepted, _ = listening.accept()
                with accepted:
                    accepted.recv(65536)
                    reached.set()
                    with suppress(ConnectionResetError):
                        while accepted.recv(65536):
                            pass

            thread = threading.Thread(target=accept)
            thread.start()
            yield f"http://127.0.0.1:{listening.getsockname()[1]}{API}", reached
            thread.join(30)  # the client has closed its end
            assert not thread.is_alive()
        return

    async def script(_: Fake, connection: ServerConnection) -> None:
        if for_what == "for an event":
            reached.set()
            await connection.wait_closed()

    def answer(server: Fake) -> Response | None:
        if len(server.places) == 1:
            return None
        reached.set()
        return refusal(503, **{"Retry-After": "3600"})(server)

    with fake(script, answer=answer) as server:
        yield server.base_url, reached
        if for_what == "for an event":
            assert server.disconnected.wait(30)


@pytest.mark.parametrize("for_what", WAITS)
def test_close_in_another_thread_ends_loop(for_what: str) -> None:
    with waiting(for_what) as (url, reached), VideoCallsClient(url, SECRET, timeout=3600) as client:
        events = client.events()
        with ThreadPoolExecutor() as executor:
            loop = executor.submit(list, events)
            assert reached.wait(30)
            with pytest.raises(ConfigurationError, match="by another thread"):
                next(events)
            events.close()
            assert loop.result(30) == []


@pytest.mark.parametrize("for_what", WAITS)
def test_aclose_in_another_task_ends_loop(for_what: str) -> None:
    async def run(url: str, reached: threading.Event) -> None:
        async with AsyncVideoCallsClient(url, SECRET, timeout=3600) as client:
            events = client.events()

            async def loop() -> list[Event]:
                return [event async for event in events]

            task = asyncio.create_task(loop())
            assert await asyncio.to_thread(reached.wait, 30)
            with pytest.raises(ConfigurationError, match="by another task"):
                await anext(events)
            await events.aclose()
            assert await asyncio.wait_for(task, 30) == []
            assert asyncio.all_tasks() == {asyncio.current_task()}

    with waiting(for_what) as (url, reached):
        asyncio.run(run(url, reached))


@pytest.mark.parametrize("entered", [True, False], ids=["with", "bare"])
@pytest.mark.parametrize("for_what", WAITS)
def test_cancelled_loop_leaves_no_task_or_connection(for_what: str, *, entered: bool) -> None:
    async def run(url: str, reached: threading.Event) -> None:
        async with AsyncVideoCallsClient(url, SECRET, timeout=3600) as client:

            async def loop() -> None:
                if entered:
                    async with client.events() as events:
                        await anext(events)
                async for _ in client.events():
                    pass

            task = asyncio.create_task(loop())
            assert await asyncio.to_thread(reached.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await other_tasks_end()

    with waiting(for_what) as (url, reached):
        asyncio.run(run(url, reached))


def test_cancelled_wait_loses_no_event() -> None:
    """The server sends each event after the client cancelled its wait."""
    cancellation = threading.Semaphore(0)

    async def script(_: Fake, connection: ServerConnection) -> None:
        for number in range(20):
            await asyncio.to_thread(cancellation.acquire)
            await connection.send(message(number))
        await connection.wait_closed()

    async def run(url: str) -> list[str]:
        received: list[str] = []
        async with AsyncVideoCallsClient(url, SECRET) as client, client.events() as events:
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.001)
                cancellation.release()
                received.append((await anext(events)).id)
        return received

    with fake(script) as server:
        assert asyncio.run(run(server.base_url)) == [f"e{number}" for number in range(20)]
        assert len(server.places) == 1


# -- Wrong use --------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["", 7])
def test_after_argument_must_be_a_str(after: Any) -> None:
    with (
        VideoCallsClient("http://localhost", SECRET) as client,
        pytest.raises(ConfigurationError, match="after must be the id"),
    ):
        client.events(after=after)


def test_events_on_trio_are_refused() -> None:
    async def run() -> None:
        async with AsyncVideoCallsClient("http://localhost", SECRET) as client:
            with pytest.raises(ConfigurationError, match="need asyncio"):
                await anext(client.events())

    trio.run(run)


WITHOUT = """
import sys
import video_calls_sdk
assert "websockets" not in sys.modules and "asyncio" not in sys.modules
sys.modules["websockets"] = None
for client in (video_calls_sdk.VideoCallsClient, video_calls_sdk.AsyncVideoCallsClient):
    try:
        client("http://localhost", "a.b.c").events()
    except video_calls_sdk.ConfigurationError as error:
        print(error)
"""


def test_missing_websockets_names_the_extra() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["events need websockets: pip install 'video-calls[events]'"] * 2
