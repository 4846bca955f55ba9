"""Hostile answers cost the clients little memory and time."""

import asyncio
import contextlib
import gzip
import inspect
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio.lowlevel
import httpx
import pytest
import trio
from video_calls_sdk import (
    AsyncVideoCallsClient,
    AuthenticationError,
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidResponseError,
    VideoCallsClient,
)
from video_calls_sdk._deadline_transport import DeadlineTransport, until

CLIENTS = pytest.mark.parametrize("kind", ["sync", "asyncio", "trio"])
MIB = 2**20


class Parts(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in parts that counts the parts read."""

    def __init__(self, part: bytes, times: int = 1) -> None:
        self.part, self.times, self.read = part, times, 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.times):
            self.read += 1
            yield self.part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            await anyio.lowlevel.checkpoint()
            yield part


def get(kind: str, url: str = "http://calls.example", **options: Any) -> Any:
    if kind == "sync":
        with VideoCallsClient(url, "token", **options) as client:
            return client.calls.list()

    async def get() -> Any:
        async with AsyncVideoCallsClient(url, "token", **options) as client:
            return await client.calls.list()

    return asyncio.run(get()) if kind == "asyncio" else trio.run(get)


def answer(kind: str, body: Parts, status: int = 200, coding: str = "identity") -> Any:
    headers = {"content-encoding": coding}
    transport = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, stream=body))
    return get(kind, transport=transport, retries=0)


BOMB = gzip.compress(bytes(64 * MIB), 9)


@CLIENTS
@pytest.mark.parametrize(
    ("bomb", "coding", "status", "error"),
    [
        (BOMB, "gzip", 200, InvalidResponseError),
        (gzip.compress(BOMB), "gzip, gzip", 401, AuthenticationError),
    ],
    ids=["once", "twice"],
)
def test_decompression_bomb_costs_little_memory(
    kind: str, bomb: bytes, coding: str, status: int, error: type[Exception]
) -> None:
    tracemalloc.start()
    with pytest.raises(error):
        answer(kind, Parts(bomb), status, coding)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * MIB


@CLIENTS
def test_reading_stops_at_maximum_body_size(kind: str) -> None:
    body = Parts(bytes(MIB), times=100)
    with pytest.raises(InvalidResponseError, match="more than 2,097,152 bytes"):
        answer(kind, body)
    assert body.read in {3, 4}


@CLIENTS
def test_reading_stops_after_the_end_of_gzip(kind: str) -> None:
    body = Parts(gzip.compress(b"{}") + bytes(MIB), times=100)
    with pytest.raises(InvalidResponseError, match="more than 2,097,152 bytes"):
        answer(kind, body, coding="gzip")
    assert body.read in {2, 3}


@CLIENTS
def test_gzip_answer_is_decoded(kind: str) -> None:
    page = json.dumps({"count": 7, "next": None, "previous": None, "results": []}).encode()
    assert answer(kind, Parts(gzip.compress(page)), coding="gzip").count == 7


def test_corrupt_gzip_answer_raises_connection_failed_error() -> None:
    with pytest.raises(ConnectionFailedError, match="not gzip"):
        answer("sync", Parts(b"{}"), coding="gzip")


def test_list_longer_than_the_contract_allows_is_refused() -> None:
    page = b'{"count": 1, "next": null, "previous": null, "results": [' + b"{}," * 400_000 + b"{}]}"
    with pytest.raises(InvalidResponseError) as raised:
        answer("sync", Parts(page))
    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].startswith("results: ")


# -- Time -------------------------------------------------------------------------------------------

SLOW = {
    "headers": b"HTTP/1.1 200 OK\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;",
    "body": b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n",
}


@pytest.fixture
def slow_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve the beginning of an answer, then a byte every 20 ms without end."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(SLOW[request.param])
                while not stop.wait(0.02):
                    connection.sendall(b"x")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        stop.set()
        thread.join(5)


@pytest.mark.parametrize(
    ("slow_server", "kind"),
    [("headers", "sync"), ("chunk", "sync"), ("body", "sync"), ("body", "asyncio"), ("body", "trio")],
    indirect=["slow_server"],
)
def test_slow_answer_ends_with_the_deadline(slow_server: str, kind: str) -> None:
    with pytest.raises(DeadlineExceededError):
        get(kind, slow_server, deadline=0.2)


def test_deadline_is_checked_between_body_parts() -> None:
    class SlowParts(Parts):
        def __iter__(self) -> Iterator[bytes]:
            for part in super().__iter__():
                threading.Event().wait(0.02)
                yield part

    body = SlowParts(b" ", times=1000)
    with pytest.raises(DeadlineExceededError):
        get("sync", transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=body)), deadline=0.1)
    assert body.read < 1000


def test_connection_after_deadline_is_not_opened() -> None:
    transport = DeadlineTransport(verify=httpx.create_ssl_context(), proxy=None)
    with until(time.monotonic()), pytest.raises(httpx.ConnectTimeout):
        transport.handle_request(httpx.Request("GET", "http://127.0.0.1:9"))


def test_httpx_has_no_public_network_backend() -> None:
    assert "network_backend" not in inspect.signature(httpx.HTTPTransport).parameters, (
        "use it in _deadline_transport.py"
    )


@CLIENTS
def test_cookies_are_not_kept(kind: str) -> None:
    cookies: list[str | None] = []

    def respond(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("cookie"))
        return httpx.Response(503 if len(cookies) == 1 else 401, headers={"set-cookie": "session=1; Path=/"})

    with pytest.raises(AuthenticationError):
        get(kind, transport=httpx.MockTransport(respond))
    assert cookies == [None, None]
