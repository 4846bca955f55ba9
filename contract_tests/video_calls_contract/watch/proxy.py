"""The proxy: an ASGI application that passes HTTP and WebSockets on, and records what passes.

It runs in a process of its own, so that judging an exchange never delays the next one. It changes the headers
that concern one connection, `Host` if the target does not answer to the client's, and `Accept-Encoding`: br
and zstd could not be judged. Everything else passes unchanged.
"""

import asyncio
import contextlib
import itertools
import pickle
import queue
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from video_calls_spec.bodies import LARGEST_BODY
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import Close, CloseCode
from websockets.typing import Subprotocol

from video_calls_contract.config import Config
from video_calls_contract.connection import connection
from video_calls_contract.watch.records import (
    Header,
    RawExchange,
    Record,
    SocketClose,
    SocketMessage,
    SocketOpen,
)

__all__ = ["Proxy", "Way", "serve"]

MOST_OF_REQUEST = 64 * 1024  # bytes of a request that are judged
MOST_OF_MESSAGE = 16 * 2**20  # bytes of a message of a WebSocket
MOST_WAITING = 64 * 2**20  # bytes that wait to be judged; what comes then is passed on and not judged
_IDLE = 1.0  # seconds, less than servers keep idle connections
_STOPPING = 3  # seconds in which exchanges that have begun may end

_OF_ONE_CONNECTION = {
    b"connection", b"expect", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
}  # fmt: skip
_UNJUDGED_CODINGS = {b"br", b"zstd"}

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Raw = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Way:
    """How the target is reached.

    Attributes:
        origin: scheme, host and port.
        host: the `Host` that it is sent; None for the client's own.
    """

    config: Config
    origin: str
    host: str | None


class Proxy:
    """The application; `record` is called with all that passes, and must not block."""

    def __init__(self, way: Way, record: Callable[[Record], None]) -> None:
        self._way = way
        self._record = record
        self._reached_by = connection(way.config)
        self._numbers = itertools.count(1)
        self._transport = httpx.AsyncHTTPTransport(
            verify=self._reached_by.context or False,
            proxy=self._reached_by.httpx_proxy,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=_IDLE),
        )

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Pass on a request or a WebSocket."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        target: bytes = scope["raw_path"]
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        if scope["type"] == "http":
            await self._http(scope, target, receive, send)
        else:
            await self._websocket(scope, target, receive, send)

    async def _live(self, receive: _Receive, send: _Send) -> None:
        """Close the connections to the target when the server stops."""
        await receive()  # lifespan.startup
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await self._transport.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    def _headers(self, headers: _Raw) -> _Raw:
        """Return the headers of a request as the target gets them."""
        own = b"" if self._way.host is None else self._way.host.encode()
        passed = [(name, own if own and name == b"host" else value) for name, value in _end_to_end(headers)]
        return [
            (name, _judged_codings(value) if name == b"accept-encoding" else value) for name, value in passed
        ]

    # -- HTTP ----------------------------------------------------------------------------------------

    async def _http(self, scope: _Message, target: bytes, receive: _Receive, send: _Send) -> None:
        headers = self._headers(scope["headers"])
        passed = RawExchange(scope["method"], target.decode("latin-1"), _text(headers), time.time())
        if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
            headers.append((b"transfer-encoding", b"chunked"))
        is_whole = asyncio.Event()
        request = httpx.Request(
            scope["method"],
            self._way.origin,
            headers=headers,
            stream=_Body(_body(receive, passed, is_whole)),
            extensions={"target": target, "timeout": {"connect": 10.0}},
        )
        answering = asyncio.create_task(self._answer(request, passed, send))
        leaving = asyncio.create_task(_has_left(receive, is_whole))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                passed.is_cancelled = True
        finally:
            for task in (answering, leaving):
                task.cancel()
            ended = await asyncio.gather(answering, leaving, return_exceptions=True)
            passed.received_at = time.time()
            self._record(passed)
        if isinstance(ended[0], Exception):
            raise ended[0]

    async def _answer(self, request: httpx.Request, passed: RawExchange, send: _Send) -> None:
        beginning = bytearray()
        try:
            response = await self._transport.handle_async_request(request)
        except (httpx.TransportError, _LeftError) as error:
            passed.failure = str(error) or type(error).__name__
            passed.is_cancelled = isinstance(error, _LeftError)
            passed.is_unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            await _refuse(send, "http.response", passed.failure)
            return
        passed.status, passed.headers = response.status_code, _text(response.headers.raw)
        await send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": _end_to_end(response.headers.raw),
            }
        )
        try:
            async for part in response.aiter_raw():
                beginning += part[: LARGEST_BODY + 1 - len(beginning)]
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except httpx.TransportError as error:
            passed.status, passed.failure = 0, str(error) or type(error).__name__
            raise
        finally:
            passed.body = bytes(beginning)
            await response.aclose()
        await send({"type": "http.response.body", "body": b""})

    # -- WebSockets ----------------------------------------------------------------------------------

    async def _websocket(self, scope: _Message, target: bytes, receive: _Receive, send: _Send) -> None:
        await receive()  # websocket.connect
        headers = self._headers(scope["headers"])
        own = dict(headers).get(b"host", b"").decode("latin-1")
        try:
            upstream = await self._connect(scope, target.decode("latin-1"), headers, own)
        except InvalidStatus as error:
            answer = error.response
            await send(
                {
                    "type": "websocket.http.response.start",
                    "status": answer.status_code,
                    "headers": _end_to_end(
                        [
                            (name.lower().encode(), value.encode())
                            for name, value in answer.headers.raw_items()
                        ]
                    ),
                }
            )
            await send({"type": "websocket.http.response.body", "body": bytes(answer.body or b"")})
            return
        except (InvalidHandshake, OSError, EOFError) as error:
            await _refuse(send, "websocket.http.response", str(error) or type(error).__name__)
            return
        opened = SocketOpen(
            next(self._numbers), target.decode("latin-1"), _text(headers), upstream.subprotocol, time.time()
        )
        self._record(opened)
        await send({"type": "websocket.accept", "subprotocol": upstream.subprotocol})
        sending = asyncio.create_task(_pass_up(receive, upstream))
        telling = asyncio.create_task(self._pass_down(upstream, send, opened.number))
        try:
            await asyncio.wait({sending, telling}, return_when=asyncio.FIRST_COMPLETED)
            ended_by_target = telling.done() and not sending.done()
        finally:
            for task in (sending, telling):
                task.cancel()
            await asyncio.gather(sending, telling, return_exceptions=True)
            await upstream.close()
        close = telling.result() if ended_by_target else None
        self._record(SocketClose(opened.number, close.code if close else None, time.time()))
        if close is not None:
            await send({"type": "websocket.close", "code": _sendable(close.code), "reason": close.reason})
        elif ended_by_target:
            raise ConnectionError("the target ended the WebSocket without a code")

    async def _connect(self, scope: _Message, target: str, headers: _Raw, host: str) -> ClientConnection:
        origin = urlsplit(self._way.origin)
        secure = origin.scheme == "https"
        if self._reached_by.proxy is None:  # the address may be another than that of `Host`
            place: dict[str, Any] = {"host": origin.hostname, "port": origin.port or (443 if secure else 80)}
        else:
            place, host = {"proxy_ssl": self._reached_by.proxy_context}, ""
        if secure:
            place |= {"ssl": self._reached_by.context, "server_hostname": origin.hostname}
        authority = host or origin.netloc
        return await connect(
            f"{'wss' if secure else 'ws'}://{authority}{target}",
            additional_headers=[
                (name, value)
                for name, value in _text(headers)
                if name != "host" and not name.startswith("sec-websocket-")
            ],
            subprotocols=[Subprotocol(name) for name in scope["subprotocols"]] or None,
            user_agent_header=None,
            max_size=MOST_OF_MESSAGE,
            proxy=self._reached_by.proxy,
            **place,
        )

    async def _pass_down(self, upstream: ClientConnection, send: _Send, number: int) -> Close | None:
        """Pass on messages until the target closes; return how it did, None if the connection broke."""
        while True:
            try:
                message = await upstream.recv()
            except ConnectionClosed as closed:
                return closed.rcvd
            self._record(SocketMessage(number, message[: LARGEST_BODY + 1], time.time()))
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})


async def _pass_up(receive: _Receive, upstream: ClientConnection) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        await upstream.send(text if text is not None else message["bytes"])
    await upstream.close(_sendable(message.get("code", 1005)), message.get("reason") or "")


def _sendable(code: int) -> int:
    """Return a close code as it can be sent; some only say that there was none."""
    good = code in {*range(1000, 1004), *range(1007, 1015)} or code >= 3000  # noqa: PLR2004 (RFC 6455)
    return code if good else CloseCode.NORMAL_CLOSURE


# -- Bodies and headers -------------------------------------------------------------------------------


class _LeftError(Exception):
    """The client went away while it sent its request."""


class _Body(httpx.AsyncByteStream):
    """The body of a request, while it arrives."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._parts


async def _body(receive: _Receive, passed: RawExchange, is_whole: asyncio.Event) -> AsyncIterator[bytes]:
    beginning = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _LeftError
        part = message.get("body", b"")
        beginning += part[: MOST_OF_REQUEST + 1 - len(beginning)]
        passed.request_body, passed.is_request_cut = bytes(beginning), len(beginning) > MOST_OF_REQUEST
        more = message.get("more_body", False)
        if not more:
            is_whole.set()
        if part:
            yield part


async def _has_left(receive: _Receive, is_whole: asyncio.Event) -> None:
    """Wait until the client goes away; what it sends is read elsewhere until it is whole."""
    await is_whole.wait()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: _Send, kind: str, why: str) -> None:
    """Answer 502, for the target does not."""
    text = f"video-calls-contract watch: no answer from the target: {why}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    await send({"type": f"{kind}.start", "status": 502, "headers": headers})
    await send({"type": f"{kind}.body", "body": text})


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> _Raw:
    """Return the headers without those that concern one connection."""
    headers = list(headers)
    named = b",".join(value for name, value in headers if name.lower() == b"connection")
    dropped = _OF_ONE_CONNECTION | {name.strip().lower() for name in named.split(b",")}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _judged_codings(accepted: bytes) -> bytes:
    codings = [coding.strip() for coding in accepted.split(b",")]
    beginning = [coding for coding in codings if coding.partition(b";")[0].lower() not in _UNJUDGED_CODINGS]
    return accepted if len(beginning) == len(codings) else b", ".join(beginning) or b"identity"


def _text(headers: _Raw) -> list[Header]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]


# -- The process --------------------------------------------------------------------------------------


def serve(way: Way, listener: socket.socket, pipe: Pipe) -> None:
    """Serve until the other end of the pipe is closed or a signal comes; records go through the pipe."""
    sender = _Sender(pipe)
    server = uvicorn.Server(
        uvicorn.Config(
            Proxy(way, sender.put),
            http="h11",
            ws="websockets-sansio",
            ws_max_size=MOST_OF_MESSAGE,
            lifespan="on",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=_STOPPING,
        )
    )

    def stop_with_parent() -> None:
        with contextlib.suppress(EOFError, OSError):
            pipe.recv_bytes()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    sender.finish()


class _Sender:
    """Sends records from a thread of its own, and drops what would take too much memory."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._put = self._sent = 0  # bytes; each is changed by one thread
        self._dropped = 0
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Send a record soon."""
        content = pickle.dumps(record)
        if self._put - self._sent + len(content) > MOST_WAITING:
            self._dropped += 1
            return
        self._put += len(content)
        self._queue.put(content)

    def finish(self) -> None:
        """Wait until all is sent; the last message is how many records were dropped."""
        self._queue.put(pickle.dumps(self._dropped))
        self._queue.put(None)
        self._thread.join()

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while (content := self._queue.get()) is not None:
                self._pipe.send_bytes(content)
                self._sent += len(content)
