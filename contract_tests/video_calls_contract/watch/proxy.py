"""The proxy: an ASGI application that forwards HTTP and WebSockets, and captures them.

It runs in a process of its own, so that checks never delay traffic. It removes hop-by-hop headers, which
concern one connection. It replaces `Host` if the target does not accept the client's, and removes br and zstd
from `Accept-Encoding`, because the suite cannot read them. Everything else passes unchanged.
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import queue
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from dataclasses import replace
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
from video_calls_contract.connection_settings import connection
from video_calls_contract.watch.capture import Capture, Header

Captures = multiprocessing.Queue  # holds captures; the last item is the number of dropped captures

_MOST_OF_REQUEST = 64 * 1024  # bytes of a request body that are captured
_MOST_OF_MESSAGE = 16 * 2**20  # bytes of a message on a WebSocket
_IDLE = 1.0  # seconds; shorter than the time after which servers close idle connections
_STOPPING = 3  # seconds in which running exchanges may end after a stop

_OF_ONE_CONNECTION = {
    b"connection", b"expect", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
}  # fmt: skip

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Raw = list[tuple[bytes, bytes]]


class Proxy:
    """The ASGI application.

    Args:
        config: how to reach the target.
        host: the `Host` to send to the target; empty to send the client's.
        put: is called with each capture, and must not block.
    """

    def __init__(self, config: Config, host: str, put: Callable[[Capture], None]) -> None:
        self._origin = urlsplit(config.base_url)
        self._host = host.encode()
        self._put = put
        self._reached_by = connection(config)
        self._sockets = itertools.count(1)
        self._transport = httpx.AsyncHTTPTransport(
            verify=self._reached_by.context or False,
            proxy=self._reached_by.httpx_proxy,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=_IDLE),
        )

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Forward a request or a WebSocket."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._transport.aclose()
            await send({"type": "lifespan.shutdown.complete"})
            return
        target: bytes = scope["raw_path"]
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        headers = self._request_headers(scope["headers"])
        method = scope.get("method", "GET")
        capture = Capture(method, target.decode("latin-1"), _text(headers), time.time())
        if scope["type"] == "http":
            await self._http(scope, headers, capture, receive, send)
        else:
            await self._websocket(scope, headers, capture, receive, send)

    def _request_headers(self, headers: _Raw) -> _Raw:
        result: _Raw = []
        for name, value in _end_to_end(headers):
            if name == b"host":
                result.append((name, self._host or value))
            elif name == b"accept-encoding":
                result.append((name, b"gzip" if b"gzip" in value else b"identity"))
            else:
                result.append((name, value))
        return result

    # -- HTTP ----------------------------------------------------------------------------------------

    async def _http(
        self, scope: _Message, headers: _Raw, capture: Capture, receive: _Receive, send: _Send
    ) -> None:
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        is_whole = asyncio.Event()
        request = httpx.Request(
            capture.method,
            f"{self._origin.scheme}://{self._origin.netloc}",
            headers=headers,
            content=_request_body(receive, capture, is_whole) if has_body else None,
            extensions={"target": capture.target.encode("latin-1"), "timeout": {"connect": 10.0}},
        )
        if not has_body:
            is_whole.set()
        responding = asyncio.create_task(self._respond(request, capture, send))
        leaving = asyncio.create_task(_disconnect(receive, is_whole))
        try:
            await asyncio.wait({responding, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not responding.done():
                capture.skip_reason = "cancelled by the client"
        finally:
            for task in (responding, leaving):
                task.cancel()
            [error, _] = await asyncio.gather(responding, leaving, return_exceptions=True)
            capture.received_at = time.time()
            self._put(capture)
        if isinstance(error, Exception):
            raise error

    async def _respond(self, request: httpx.Request, capture: Capture, send: _Send) -> None:
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            capture.skip_reason = "without a response"
            await _send_502(send, "http.response", error)
            return
        capture.status, capture.headers = response.status_code, _text(response.headers.raw)
        start = {"status": response.status_code, "headers": _end_to_end(response.headers.raw)}
        await send({"type": "http.response.start", **start})
        try:
            async for part in response.aiter_raw():
                if capture.target.startswith(f"{self._origin.path}/video-calls"):
                    capture.body += part[: LARGEST_BODY + 1 - len(capture.body)]
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except httpx.TransportError:
            capture.skip_reason = "without a whole response"
            raise
        finally:
            await response.aclose()
        await send({"type": "http.response.body", "body": b""})

    # -- WebSockets ----------------------------------------------------------------------------------

    async def _websocket(
        self, scope: _Message, headers: _Raw, capture: Capture, receive: _Receive, send: _Send
    ) -> None:
        await receive()  # websocket.connect
        try:
            upstream = await self._connect(scope, headers, capture.target)
        except InvalidStatus as error:
            refusal = error.response
            raw = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.raw_items()]
            start = {"status": refusal.status_code, "headers": _end_to_end(raw)}
            await send({"type": "websocket.http.response.start", **start})
            await send({"type": "websocket.http.response.body", "body": bytes(refusal.body or b"")})
            return
        except (InvalidHandshake, OSError, EOFError) as error:
            await _send_502(send, "websocket.http.response", error)
            return
        capture.status, capture.socket = 101, next(self._sockets)
        await send({"type": "websocket.accept", "subprotocol": upstream.subprotocol})
        sending = asyncio.create_task(_pass_up(receive, upstream))
        receiving = asyncio.create_task(self._pass_down(upstream, send, capture))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            is_ended_by_target = receiving.done() and not sending.done()
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)
            await upstream.close()
        close = receiving.result() if is_ended_by_target else None
        code = close.code if close else None
        self._put(replace(capture, received_at=time.time(), is_end=True, close_code=code))
        if close is not None:
            await send({"type": "websocket.close", "code": _sendable(close.code), "reason": close.reason})
        elif is_ended_by_target:
            raise ConnectionError("the target ended the WebSocket without a code")

    async def _connect(self, scope: _Message, headers: _Raw, target: str) -> ClientConnection:
        origin = self._origin
        is_secure, authority = origin.scheme == "https", origin.netloc
        options: dict[str, Any] = {"proxy_ssl": self._reached_by.proxy_context}
        if self._reached_by.proxy is None:
            # Without a proxy: connect to the target's address, but send the client's `Host`.
            authority = dict(headers).get(b"host", b"").decode("latin-1") or authority
            options = {"host": origin.hostname, "port": origin.port or (443 if is_secure else 80)}
        if is_secure:
            options |= {"ssl": self._reached_by.context, "server_hostname": origin.hostname}
        return await connect(
            f"{'wss' if is_secure else 'ws'}://{authority}{target}",
            additional_headers=[
                (name, value)
                for name, value in _text(headers)
                if name != "host" and not name.startswith("sec-websocket-")
            ],
            subprotocols=[Subprotocol(name) for name in scope["subprotocols"]] or None,
            user_agent_header=None,
            max_size=_MOST_OF_MESSAGE,
            proxy=self._reached_by.proxy,
            **options,
        )

    async def _pass_down(self, upstream: ClientConnection, send: _Send, capture: Capture) -> Close | None:
        """Forward messages until the target closes. Return its close frame; None if the connection broke."""
        while True:
            try:
                message = await upstream.recv()
            except ConnectionClosed as closed:
                return closed.rcvd
            body = message.encode() if isinstance(message, str) else message
            self._put(replace(capture, body=body[: LARGEST_BODY + 1], received_at=time.time()))
            capture.position += 1
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})


async def _pass_up(receive: _Receive, upstream: ClientConnection) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        await upstream.send(text if text is not None else message["bytes"])
    await upstream.close(_sendable(message.get("code", 1005)), message.get("reason") or "")


def _sendable(code: int) -> int:
    """Return a close code that may be sent: codes such as 1005 only mean that there was no code."""
    is_sendable = code in {*range(1000, 1004), *range(1007, 1015)} or code >= 3000  # noqa: PLR2004 (RFC 6455)
    return code if is_sendable else CloseCode.NORMAL_CLOSURE


# -- Bodies and headers -------------------------------------------------------------------------------


async def _request_body(receive: _Receive, capture: Capture, is_whole: asyncio.Event) -> AsyncIterator[bytes]:
    while not is_whole.is_set():
        message = await receive()
        if message["type"] == "http.disconnect":
            raise httpx.ReadError("the client closed the connection")
        part = message.get("body", b"")
        if len(capture.request_body) + len(part) > _MOST_OF_REQUEST:
            capture.skip_reason = "with a long request body"
        capture.request_body += part[: _MOST_OF_REQUEST - len(capture.request_body)]
        if not message.get("more_body", False):
            is_whole.set()
        if part:
            yield part


async def _disconnect(receive: _Receive, is_whole: asyncio.Event) -> None:
    """Wait until the client disconnects, after `_request_body` has read the body."""
    await is_whole.wait()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_502(send: _Send, kind: str, error: Exception) -> None:
    why = str(error) or type(error).__name__
    text = f"video-calls-contract watch: no response from the target: {why}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    await send({"type": f"{kind}.start", "status": 502, "headers": headers})
    await send({"type": f"{kind}.body", "body": text})


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> _Raw:
    """Return the headers without hop-by-hop headers."""
    headers = list(headers)
    listed = b",".join(value for name, value in headers if name.lower() == b"connection")
    dropped = _OF_ONE_CONNECTION | {name.strip().lower() for name in listed.split(b",")}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _text(headers: _Raw) -> list[Header]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]


# -- The process --------------------------------------------------------------------------------------


def serve(config: Config, host: str, listener: socket.socket, captures: "Captures[Capture | int]") -> None:
    """Serve until a SIGTERM or an interrupt, or until the parent process ends."""
    dropped = 0

    def put(capture: Capture) -> None:
        nonlocal dropped
        try:
            captures.put_nowait(capture)
        except queue.Full:
            dropped += 1

    server = uvicorn.Server(
        uvicorn.Config(
            Proxy(config, host, put),
            http="h11",
            ws="websockets-sansio",
            ws_max_size=_MOST_OF_MESSAGE,
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
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # because uvicorn raises the signals again at its end

    def stop_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent:
            parent.join()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    server.run(sockets=[listener])
    with contextlib.suppress(queue.Full):
        captures.put(dropped, timeout=_STOPPING)
