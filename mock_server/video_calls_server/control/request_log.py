"""The log of the last exchanges, recorded as bytes while the server handles them."""

import re
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, Receive, Scope, Send, WebSocketReceiveMessage
from video_calls_spec import RuleId

from video_calls_server.api.ids import ExternalId, parse_external_id
from video_calls_server.events.hub import Subscription
from video_calls_server.observability.request_id import sent_path

MAX_EXCHANGES = 500
"""The largest number of exchanges in the log."""

MAX_BYTES = 16 * 1024 * 1024
"""The largest size of the log, including the objects that hold the text."""

_PER_REQUEST, _PER_HEADER = 1024, 128
"""Bytes that Python needs for an exchange and for each header, in addition to the text."""

_COMPLETING = {"websocket.accept", "websocket.close", "websocket.http.response.body"}

RawHeaders = list[tuple[bytes, bytes]]


class RawExchange:
    """An exchange as raw bytes.

    `status` is the status of the response, the code that closed a WebSocket, or 0 if the client got no
    response. `server` is the server's own address. `size` is in bytes.
    """

    def __init__(
        self,
        scope: Scope,
        seconds: float,
        status: int,
        headers: RawHeaders,
        *,
        body: bytes,
        response_body: bytes,
    ) -> None:
        # Copy what the log shows. The scope itself would keep parsed bodies and the namespace in memory.
        state, handler = scope["state"], scope.get("route_handler")
        self.id = 0  # `RequestLog.add` assigns it
        self.started = time.time() - seconds
        self.duration = seconds
        self.method = str(scope.get("method", "WEBSOCKET"))
        self.path = sent_path(scope).partition("?")[0]  # some test clients add the query
        self.query: bytes = scope["query_string"]
        self.server: tuple[str, int | None] | None = scope.get("server")
        self.headers: RawHeaders = list(scope["headers"])
        self.body = body
        self.status = status
        self.response_headers = headers
        self.response_body = response_body
        self.operation: str | None = getattr(handler, "operation_id", None) or getattr(handler, "name", None)
        self.call_id = parse_external_id(scope.get("path_params", {}).get("id", ""))
        self.user_id: int | None = getattr(scope.get("user"), "user_id", None)
        self.rule: RuleId | None = state.get("rule")
        self.fault: str | None = state.get("fault")
        self.size = _PER_REQUEST + sum(
            map(len, (self.path, self.query, body, response_body, self.fault or ""))
        )
        for name, value in (*self.headers, *headers):
            self.size += _PER_HEADER + len(name) + len(value)

    @property
    def target(self) -> str:
        """The path and the query of the request."""
        query = self.query.decode("ascii", "backslashreplace")
        return f"{self.path}?{query}" if query else self.path


class RequestLog:
    """The last exchanges, oldest first."""

    def __init__(self) -> None:
        self.closed = False
        self._exchanges: deque[RawExchange] = deque()
        self._bytes = 0
        self._last_id = 0
        self._subscriptions: set[Subscription] = set()

    def __iter__(self) -> Iterator[RawExchange]:
        return iter(self._exchanges)

    def add(self, raw: RawExchange) -> None:
        """Add an exchange, and drop the oldest ones beyond the limits."""
        self._last_id += 1
        raw.id = self._last_id
        self._exchanges.append(raw)
        self._bytes += raw.size
        while len(self._exchanges) > MAX_EXCHANGES or self._bytes > MAX_BYTES:
            self._bytes -= self._exchanges.popleft().size
        self._wake()

    def close(self) -> None:
        """Wake all subscribers, so that they stop."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        for subscription in self._subscriptions:
            subscription.wake()

    def clear(self) -> None:
        """Remove all exchanges. The ids of later exchanges continue."""
        self._exchanges.clear()
        self._bytes = 0

    @property
    def has_subscribers(self) -> bool:
        """Whether a stream waits for further exchanges."""
        return bool(self._subscriptions)

    @property
    def last_id(self) -> int:
        """The id of the newest exchange, 0 if there has been none."""
        return self._last_id

    def after(self, request_id: int) -> list[RawExchange]:
        """Return the exchanges after this id, oldest first."""
        newer: list[RawExchange] = []
        for raw in reversed(self._exchanges):
            if raw.id <= request_id:
                break
            newer.append(raw)
        return newer[::-1]

    @contextmanager
    def subscribe(self) -> Generator[Subscription]:
        """Subscribe to further exchanges until the context ends."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)


class Recorder:
    """Records one exchange when it is complete.

    It records a WebSocket when the server accepts or refuses it, and when the server closes it.
    """

    def __init__(self, log: RequestLog, scope: Scope, receive: Receive, send: Send) -> None:
        self._log = log
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = time.perf_counter()
        self._status = 0
        self._headers: RawHeaders = []
        self._body = self._response_body = b""

    async def serve(self, app: ASGIApp) -> None:
        """Serve the request and record the exchange."""
        try:
            await app(self._scope, self._receive_and_record, self._send_and_record)
        finally:
            if self._scope["type"] == ScopeType.HTTP or not self._status:
                self._record()

    async def _receive_and_record(self) -> HTTPReceiveMessage | WebSocketReceiveMessage:
        message = await self._receive()
        if message["type"] == "http.request":
            self._body += message["body"]
        return message

    async def _send_and_record(self, message: Any) -> None:  # noqa: ANN401 (Litestar types only some messages)
        kind = message["type"]
        if kind.endswith("http.response.start"):  # also websocket.http.response.start
            self._status, self._headers = message["status"], list(message["headers"])
        elif kind.endswith("http.response.body"):
            self._response_body += message["body"]
        elif kind == "websocket.accept":
            self._status = HTTPStatus.SWITCHING_PROTOCOLS
        elif kind == "websocket.close":
            self._status, self._response_body = message["code"], (message["reason"] or "").encode()
        await self._send(message)
        if kind in _COMPLETING:
            self._record()

    def _record(self) -> None:
        seconds = time.perf_counter() - self._started
        raw = RawExchange(
            self._scope,
            seconds,
            self._status,
            self._headers,
            body=self._body,
            response_body=self._response_body,
        )
        self._log.add(raw)


STATUS = re.compile(r"[1-5]xx|\d{3,4}|none", re.ASCII)
"""A status in a filter: `404`, `4xx`, or `none` if the client got no response."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on exchanges. If a condition is None, every exchange meets it."""

    user_id: int | None = None
    operation: str | None = None
    status: str | None = None
    rule: str | None = None
    call: ExternalId | None = None
    fault: str | None = None

    def matches(self, raw: RawExchange) -> bool:
        """Return whether the exchange meets all conditions."""
        return (
            self.user_id in (None, raw.user_id)
            and self.operation in (None, raw.operation)
            and (self.status is None or self.status in _status_names(raw.status))
            and self.rule in (None, raw.rule)
            and (self.call is None or self.call == raw.call_id)
            and self.fault in (None, raw.fault)
        )


def _status_names(status: int) -> tuple[str, ...]:
    return (str(status), f"{status // 100}xx") if status else ("none",)
