"""Following events with both clients over real sockets: of the real server, and of hostile ones."""

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
from datetime import UTC, datetime, timedelta
from itertools import count
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
from video_calls_server import Settings
from video_calls_server.api.jwt import make_token
from websockets import Request, Response
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

API = "/api/v1/video"
QUICKLY = Retries(attempts=2, first_wait=0.001, longest_wait=0.001)
SECRET = "eyJhbGciOiJub25lIn0.c2VjcmV0.c2VjcmV0"

CALL = {
    "id": 1,
    "channel_name": "call_1704436789_5678",
    "doctor": 1,
    "patient": 1,
    "doctor_details": {"id": 1, "user": {"email": "doctor@example.com", "full_name": "Dr. John Doe"}},
    "patient_details": {"id": 1, "user": {"email": "patient@example.com", "full_name": "Jane Smith"}},
    "status": "ongoing",
    "scheduled_time": "2024-01-05T10:00:00Z",
    "started_at": "2024-01-05T10:00:00Z",
    "ended_at": None,
    "created_at": "2024-01-05T08:00:00Z",
    "updated_at": "2024-01-05T10:00:00Z",
}


def message(number: int, **other: Any) -> str:
    event = {"id": f"e{number}", "type": "call.started", "created_at": "2024-01-05T10:00:00Z"}
    return json.dumps(event | {"data": {"call": CALL}} | other)


# -- A server that does what a test says ------------------------------------------------------------

Script = Callable[["Fake", ServerConnection], Coroutine[Any, Any, None]]


class Fake:
    """What a hostile server has seen.

    Attributes:
        base_url: of the client.
        tokens, places: what each connection had, in order.
        headers: of the last one.
        gone: set when a connection has ended.
    """

    base_url: str

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.places: list[str | None] = []
        self.headers = Headers()
        self.gone = threading.Event()

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
    """A server on a loop of its own; `script` is done for each connection, which is closed at its end."""
    found, ready, ended = Fake(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def connected(connection: ServerConnection) -> None:
        try:
            await script(found, connection)
        finally:
            found.gone.set()

    def asked(_: ServerConnection, request: Request) -> Response | None:
        found.note(request)
        return answer(found)

    def answered(_: ServerConnection, __: Request, response: Response) -> None:
        response.headers.update(headers)

    async def run() -> None:
        async with serve_websocket(
            connected, "127.0.0.1", 0, process_request=asked, process_response=answered, close_timeout=1
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            found.base_url = f"http://127.0.0.1:{port}{API}"
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        assert not thread.is_alive()
        loop.close()


async def stay(_: Fake, connection: ServerConnection) -> None:
    await connection.wait_closed()


def refusal(status: int, body: bytes = b"", **headers: str) -> Callable[[Fake], Response]:
    return lambda _: Response(status, "", Headers(headers | {"Content-Length": str(len(body))}), body)


# -- Both clients -----------------------------------------------------------------------------------

Take = Callable[..., list[Event]]


def take(base_url: str, token: Any = SECRET, *, count: int, after: str | None = None, **options: Any) -> Any:
    """The first events, of a blocking client."""
    found: list[Event] = []
    with (
        VideoCallsClient(base_url, token, **{"retries": QUICKLY} | options) as client,
        client.events(after=after) as events,
    ):
        for event in events:
            found.append(event)
            assert events.last_event_id == event.id
            if len(found) == count:
                break
    return found


def take_async(
    base_url: str, token: Any = SECRET, *, count: int, after: str | None = None, **options: Any
) -> Any:
    """The first events, of an asynchronous client; no task is left behind."""

    async def run() -> list[Event]:
        found: list[Event] = []
        async with (
            AsyncVideoCallsClient(base_url, token, **{"retries": QUICKLY} | options) as client,
            client.events(after=after) as events,
        ):
            async for event in events:
                found.append(event)
                assert events.last_event_id == event.id
                if len(found) == count:
                    break
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return found

    return asyncio.run(run())


@pytest.fixture(params=[take, take_async], ids=["sync", "async"])
def first(request: pytest.FixtureRequest) -> Iterator[Take]:
    """`take` of either client; no thread is left behind."""
    before = set(threading.enumerate())
    yield request.param
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), thread.name


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


# -- What is told -----------------------------------------------------------------------------------


def test_events_are_models_and_what_is_unknown_is_a_value(first: Take) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        await connection.send(message(1))
        await connection.send(
            message(
                2, type="participant.joined", data={"call": CALL, "participant": {"uid": 7, "role": "doctor"}}
            )
        )
        strange = {"call": CALL | {"status": "paused"}, "participant": {"uid": 8, "role": "interpreter"}}
        await connection.send(message(3, type="participant.waved", data=strange, mood="good"))
        await connection.send(message(4).encode())
        await connection.wait_closed()

    with fake(script) as server:
        started, joined, strange, binary = first(server.base_url, count=4)
    assert started.type is EventType.CALL_STARTED
    assert (started.data.call.id, started.data.participant) == (1, None)
    assert started.created_at == datetime(2024, 1, 5, 10, tzinfo=UTC)
    assert (joined.data.participant.uid, joined.data.participant.role) == (7, Role.DOCTOR)
    assert (strange.type, strange.data.participant.role, strange.mood) == (
        "participant.waved",
        "interpreter",
        "good",
    )
    assert strange.data.call.status == "paused"
    assert binary.id == "e4"


@pytest.mark.parametrize("text", ["hello", "{}", message(1, data={})])
def test_a_message_that_is_no_event_is_an_error(first: Take, text: str) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        await connection.send(text)
        await connection.wait_closed()

    with (
        fake(script) as server,
        pytest.raises(InvalidResponseError, match="departs from the contract") as caught,
    ):
        first(server.base_url, count=1)
    assert caught.value.problems
    assert caught.value.url == f"{server.base_url}/events/"


def test_what_comes_twice_is_told_once(first: Take) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        for number in (0, 1, 1, 2, 1, 3):
            await connection.send(message(number))
        await connection.wait_closed()

    with fake(script) as server:
        assert ids(first(server.base_url, count=3, after="e0")) == ["e1", "e2", "e3"]


def test_the_token_travels_in_a_header_alone_beside_the_clients_own(
    first: Take, caplog: pytest.LogCaptureFixture
) -> None:
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


# -- Coming back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [None, 1000, 1011], ids=str)
def test_a_connection_that_ends_is_made_again_after_the_last_event(first: Take, code: int | None) -> None:
    """None: it is broken off."""

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


def test_it_begins_where_the_server_says_that_it_does(first: Take) -> None:
    """What happens before the first event is told, while the connection is down, is not lost either."""

    async def script(server: Fake, connection: ServerConnection) -> None:
        if len(server.places) == 2:
            await connection.send(message(8))
            await connection.wait_closed()

    with fake(script, **{"Last-Event-ID": "e7"}) as server:
        assert ids(first(server.base_url, count=1)) == ["e8"]
        assert server.places == [None, "e7"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_cannot_answer_for_now_is_asked_again(first: Take, status: int) -> None:
    """More often than a request would be, once there has been a connection."""

    def answer(server: Fake) -> Response | None:
        return refusal(status)(server) if 1 < len(server.places) < 9 else None

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
def test_a_lasting_reason_is_raised(
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


def test_reason_that_reflects_the_token_is_redacted_and_escaped(first: Take) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        assert connection.request is not None
        await connection.close(4499, f"\x1b[31m{connection.request.headers['Authorization']}")

    with fake(script) as server, pytest.raises(EventsClosedError) as caught:
        first(server.base_url, count=1)
    assert caught.value.reason == "\\x1b[31mBearer (redacted)"
    assert caught.value.reason in str(caught.value)


def test_message_that_inflates_beyond_a_mebibyte_closes_the_events(first: Take) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        await connection.send(" " * (2**20 + 1))  # a thousand bytes when compressed
        await connection.wait_closed()

    with fake(script) as server, pytest.raises(EventsClosedError) as caught:
        first(server.base_url, count=1)
    assert caught.value.code == 1009


# -- The first connection ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 404])
def test_a_backend_without_events_is_said_to_be_one(first: Take, status: int) -> None:
    body = b'{"error": "Not here"}'
    with (
        fake(stay, answer=refusal(status, body, **{"X-Request-ID": "r1"})) as server,
        pytest.raises(EventsNotOfferedError, match="no WebSocket for events here: Not here") as caught,
    ):
        first(server.base_url, count=1)
    assert (caught.value.status, caught.value.request_id, len(server.places)) == (status, "r1", 1)


def test_a_redirect_is_never_followed(first: Take) -> None:
    with fake(stay) as elsewhere:
        target = f"ws{elsewhere.base_url.removeprefix('http')}/events/"
        with (
            fake(stay, answer=refusal(307, Location=target)) as server,
            pytest.raises(RedirectError),
        ):
            first(server.base_url, count=1)
        assert (len(server.places), elsewhere.places) == (1, [])


def test_a_server_that_cannot_answer_is_asked_as_often_as_for_a_request(first: Take) -> None:
    with fake(stay, answer=refusal(503)) as server, pytest.raises(UnavailableError):
        first(server.base_url, count=1)
    assert len(server.places) == 1 + QUICKLY.attempts


@contextmanager
def silent() -> Iterator[str]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}{API}"


def test_a_server_that_is_not_there_is_an_error(first: Take) -> None:
    with silent() as url:
        pass
    with pytest.raises(ConnectionFailedError, match=r"refused|Connect call failed"):
        first(url, count=1)


def test_a_handshake_that_is_never_answered_times_out(first: Take) -> None:
    with silent() as url, pytest.raises(TimedOutError):
        first(url, count=1, timeout=0.05, retries=0)


def test_the_first_connection_has_the_clients_deadline(first: Take) -> None:
    with silent() as url, pytest.raises(DeadlineExceededError):
        first(url, count=1, deadline=0.1, retries=Retries(attempts=99))


# -- Tokens -----------------------------------------------------------------------------------------


def tokens(*given: str) -> Callable[[], str]:
    return iter(given).__next__


def test_a_refused_token_is_asked_for_again_once(first: Take) -> None:
    async def script(server: Fake, connection: ServerConnection) -> None:
        if server.tokens[-1] == "stale":
            await connection.close(4401, "The token is invalid")
            return
        await connection.send(message(1))
        await connection.wait_closed()

    with fake(script) as server:
        assert ids(first(server.base_url, tokens("stale", "fresh"), count=1)) == ["e1"]
        assert server.tokens == ["stale", "fresh"]


@pytest.mark.parametrize(
    ("reason", "error"),
    [("The token is invalid", AuthenticationError), ("The token has expired", TokenExpiredError)],
)
@pytest.mark.parametrize("by", ["closing", "status"])
def test_a_token_that_is_refused_twice_is_an_error(
    first: Take, by: str, reason: str, error: type[AuthenticationError]
) -> None:
    async def script(_: Fake, connection: ServerConnection) -> None:
        await connection.close(4401, reason)

    answer = refusal(401, json.dumps({"error": reason}).encode()) if by == "status" else lambda _: None
    with fake(script, answer=answer) as server, pytest.raises(AuthenticationError, match=reason) as caught:
        first(server.base_url, tokens("one", "two", "three"), count=1)
    assert (type(caught.value), caught.value.status) == (error, 401)
    assert server.tokens == ["one", "two"]


def test_tokens_may_expire_again_and_again(first: Take) -> None:
    async def script(server: Fake, connection: ServerConnection) -> None:
        if len(server.tokens) < 5:
            await connection.close(4402, "The token has expired")
            return
        await connection.send(message(1))
        await connection.wait_closed()

    with fake(script) as server:
        assert ids(first(server.base_url, tokens(*"abcde"), count=1)) == ["e1"]
        assert server.tokens == list("abcde")


def test_error_of_the_token_function_is_raised(first: Take) -> None:
    def token() -> str:
        raise LookupError("no session")

    with fake(stay) as server, pytest.raises(LookupError, match="no session"):
        first(server.base_url, token, count=1)


# -- Ending -----------------------------------------------------------------------------------------


async def talk(_: Fake, connection: ServerConnection) -> None:
    """Without end, and faster than anybody reads."""
    with suppress(ConnectionClosed):
        for number in count():
            await connection.send(message(number))


def test_with_opens_the_connection_and_a_break_leaves_it_open() -> None:
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
            assert not server.gone.is_set()
        assert server.gone.wait(5)
        assert list(events) == []


def test_a_break_closes_what_no_with_holds() -> None:
    with fake(talk) as server, VideoCallsClient(server.base_url, SECRET) as client:
        for event in client.events():
            assert event.id == "e0"
            break
        assert server.gone.wait(5)


async def left_alone() -> None:
    """Until no task but this one is there."""
    while asyncio.all_tasks() != {asyncio.current_task()}:  # noqa: ASYNC110 (tasks set no event)
        await asyncio.sleep(0)


def test_a_break_closes_what_no_async_with_holds() -> None:
    async def run() -> None:
        async with AsyncVideoCallsClient(server.base_url, SECRET) as client:
            async for event in client.events():
                assert event.id == "e0"
                break
            await left_alone()

    with fake(talk) as server:
        asyncio.run(run())
        assert server.gone.wait(5)


WAITS = ["for the handshake", "for an event", "to come back"]


@contextmanager
def waiting(for_what: str) -> Iterator[tuple[str, threading.Event]]:
    """A server that lets its clients wait, and what is set as they come to."""
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
            thread.join(10)  # the client has closed its end
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
            assert server.gone.wait(5)


@pytest.mark.parametrize("for_what", WAITS)
def test_close_in_another_thread_ends_the_loop(for_what: str) -> None:
    with waiting(for_what) as (url, reached), VideoCallsClient(url, SECRET, timeout=3600) as client:
        events = client.events()
        with ThreadPoolExecutor() as executor:
            loop = executor.submit(list, events)
            assert reached.wait(10)
            events.close()
            assert loop.result(10) == []


@pytest.mark.parametrize("for_what", WAITS)
def test_aclose_in_another_task_ends_the_loop(for_what: str) -> None:
    async def run(url: str, reached: threading.Event) -> None:
        async with AsyncVideoCallsClient(url, SECRET, timeout=3600) as client:
            events = client.events()

            async def loop() -> list[Event]:
                return [event async for event in events]

            task = asyncio.create_task(loop())
            assert await asyncio.to_thread(reached.wait, 10)
            await events.aclose()
            assert await asyncio.wait_for(task, 10) == []
            assert asyncio.all_tasks() == {asyncio.current_task()}

    with waiting(for_what) as (url, reached):
        asyncio.run(run(url, reached))


@pytest.mark.parametrize("entered", [True, False], ids=["with", "bare"])
@pytest.mark.parametrize("for_what", WAITS)
def test_a_cancelled_loop_leaves_nothing_behind(for_what: str, *, entered: bool) -> None:
    async def run(url: str, reached: threading.Event) -> None:
        async with AsyncVideoCallsClient(url, SECRET, timeout=3600) as client:

            async def loop() -> None:
                if entered:
                    async with client.events() as events:
                        await anext(events)
                async for _ in client.events():
                    pass

            task = asyncio.create_task(loop())
            assert await asyncio.to_thread(reached.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await left_alone()

    with waiting(for_what) as (url, reached):
        asyncio.run(run(url, reached))


def test_a_cancelled_wait_loses_no_event() -> None:
    """Each event comes only after a wait for it was given up."""
    given_up = threading.Semaphore(0)

    async def script(_: Fake, connection: ServerConnection) -> None:
        for number in range(20):
            await asyncio.to_thread(given_up.acquire)
            await connection.send(message(number))
        await connection.wait_closed()

    async def run(url: str) -> list[str]:
        found: list[str] = []
        async with AsyncVideoCallsClient(url, SECRET) as client, client.events() as events:
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.001)
                given_up.release()
                found.append((await anext(events)).id)
        return found

    with fake(script) as server:
        assert asyncio.run(run(server.base_url)) == [f"e{number}" for number in range(20)]
        assert len(server.places) == 1


# -- What cannot be ---------------------------------------------------------------------------------


def test_one_thread_iterates() -> None:
    with waiting("for an event") as (url, reached), VideoCallsClient(url, SECRET) as client:
        events = client.events()
        with ThreadPoolExecutor() as executor:
            loop = executor.submit(list, events)
            assert reached.wait(10)
            with pytest.raises(ConfigurationError, match="by another thread"):
                next(events)
            events.close()
            assert loop.result(10) == []


def test_one_task_iterates() -> None:
    async def run(url: str, reached: threading.Event) -> None:
        async with AsyncVideoCallsClient(url, SECRET) as client, client.events() as events:

            async def wait() -> list[Event]:
                return [event async for event in events]

            task = asyncio.create_task(wait())
            assert await asyncio.to_thread(reached.wait, 10)
            with pytest.raises(ConfigurationError, match="by another task"):
                await anext(events)
            assert not task.done()
            await events.aclose()
            assert await task == []

    with waiting("for an event") as (url, reached):
        asyncio.run(run(url, reached))


@pytest.mark.parametrize("after", ["", 7])
def test_the_id_to_begin_after_is_a_str(after: Any) -> None:
    with (
        VideoCallsClient("http://localhost", SECRET) as client,
        pytest.raises(ConfigurationError, match="after must be the id"),
    ):
        client.events(after=after)


def test_trio_is_told_that_events_need_asyncio() -> None:
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


def test_without_websockets_it_says_what_to_install() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["events need websockets: pip install 'video-calls[events]'"] * 2


# -- The real server --------------------------------------------------------------------------------


def live(server: Any, calls: int) -> None:
    """So many calls, one after the other, each of four events."""
    with VideoCallsClient(f"{server.url}{API}", make_token(Settings(), 101, expires_in=600)) as doctor:
        for _ in range(calls):
            time = datetime.now(UTC) + timedelta(minutes=5)
            call = doctor.calls.create(doctor=1, patient=1, scheduled_time=time)
            doctor.calls.join(call.id)
            doctor.calls.end(call.id)


def told(events: list[Event]) -> list[tuple[int, str]]:
    return [(event.data.call.id, str(event.type)) for event in events]


def lived(calls: int) -> list[tuple[int, str]]:
    kinds = ["call.started", "participant.joined", "participant.left", "call.ended"]
    return [(call, kind) for call in range(1, calls + 1) for kind in kinds]


def test_a_token_that_expires_is_replaced_and_nothing_is_lost(fresh_server: Any, first: Take) -> None:
    asked = threading.Semaphore(0)

    def token() -> str:
        asked.release()
        return make_token(Settings(), 102, expires_in=2)

    def once_expired() -> None:
        for _ in range(2):
            assert asked.acquire(timeout=20)
        live(fresh_server, 1)

    with ThreadPoolExecutor() as executor:
        living = executor.submit(once_expired)
        assert told(first(f"{fresh_server.url}{API}", token, count=4, after="0")) == lived(1)
        living.result()


def test_the_real_server_refuses_as_the_contract_says(fresh_server: Any, first: Take) -> None:
    url = f"{fresh_server.url}{API}"
    with pytest.raises(AuthenticationError, match="The token is invalid"):
        first(url, count=1)
    with pytest.raises(EventsNotOfferedError):
        first(f"{url}/elsewhere", count=1)
    with pytest.raises(InvalidEventIdError):
        first(url, make_token(Settings(), 101, expires_in=60), count=1, after="seven")
