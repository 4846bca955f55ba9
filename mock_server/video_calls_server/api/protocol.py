"""The HTTP/1.1 protocol of a connection: parsing, size limits and timeouts of requests.

The application does not see requests that the protocol refuses.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import msgspec
from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from video_calls_server._structs import Error
from video_calls_server.api.connection_drop import DROP_EXTENSION

HEAD_LIMIT = 64 * 1024
"""Bytes of the largest request head: the target, and the names and values of the headers."""

REQUEST_LIMIT = 1024 * 1024
"""Bytes of one request after which the connection is closed, whatever the application does."""

LINGER = 2.0
"""Seconds until a refused connection is closed, because an immediate close can destroy the response."""

_ERRORS = {
    400: Error(error="This is not a valid HTTP request", code="bad_request"),
    408: Error(error="The request did not arrive in time", code="request_timeout"),
    431: Error(error=f"The request head is larger than {HEAD_LIMIT // 1024} KiB", code="headers_too_large"),
}


def http_protocol(request_timeout: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with limits, errors in JSON, and WebSockets as the only upgrade.

    `request_timeout` is in seconds. It covers the head and the body of a request.
    """
    return type("Protocol", (_Protocol,), {"request_timeout": request_timeout})


class _HeadTooLargeError(Exception):
    """The head of a request is larger than `HEAD_LIMIT`."""


class _Trailers(list[tuple[bytes, bytes]]):
    """A list that stays empty, because trailers are not headers (RFC 9110, 6.5).

    When the headers are complete, it takes the place of their list.
    """

    def append(self, field: tuple[bytes, bytes]) -> None:
        """Ignore the field of a trailer."""


class _Parser(HttpRequestParser):
    """Ignores upgrades to protocols other than WebSockets. RFC 9110, 7.8 allows that.

    If a request asks for an upgrade, httptools' parser skips its body. Therefore a new parser reads the
    request again, without the field `Upgrade`. The old parser cannot do so if the request also asks to close
    the connection.
    """

    def __init__(self, protocol: "_Protocol") -> None:
        super().__init__(protocol)
        self._protocol = protocol
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as in uvicorn

    def feed_data(self, data: Any) -> None:  # noqa: ANN401 (several kinds of buffers)
        """Parse the next bytes of the connection."""
        parser = self
        while True:
            try:
                super(_Parser, parser).feed_data(data)
            except HttpParserUpgrade as upgrade:
                if not self._protocol.ignores_upgrade:
                    raise
                data = self._protocol.head_without_upgrade() + data[upgrade.args[0] :]
                parser = self._protocol.parser = _Parser(self._protocol)
            else:
                return


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with limits on sizes and times."""

    request_timeout: float
    ignores_upgrade = False

    _is_done = False
    """Whether the protocol ignores all further data of the connection."""

    _in_head = _in_request = False
    """Whether the head of a request, or the request itself, has begun and is not complete yet."""

    _chunk = _first_chunk = _received = 0
    """Bytes of the last read, of the read in which the request began, and of all reads since then."""

    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (uvicorn's arguments)
        super().__init__(*args, **options)
        self.parser = _Parser(self)

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        self._extensions: dict[str, dict[object, object]] = {
            DROP_EXTENSION: {"abort": transport.abort, "close": transport.close}
        }
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel_timer()

    def data_received(self, data: bytes) -> None:
        if self._is_done:
            return
        self._chunk = len(data)
        self._received += self._chunk
        super().data_received(data)
        if self._is_done:
            return
        if self._in_request or not self.cycle or self.cycle.response_complete:
            # Do not count the first read of the request, because it may contain an earlier request too.
            later_chunks = self._received - self._first_chunk
            if later_chunks > (HEAD_LIMIT if self._in_head else REQUEST_LIMIT):
                self._refuse(431)
            else:
                self._expect_request()
        else:
            self._cancel_timer()

    def handle_websocket_upgrade(self) -> None:
        self._is_done = True
        self._cancel_timer()
        super().handle_websocket_upgrade()
        # The WebSocket protocol has built its scope by now, but not called the application yet.
        scope = getattr(self.transport.get_protocol(), "scope", None)
        if scope is not None:
            scope["extensions"] |= self._extensions
        elif not self.transport.is_closing():
            self._refuse(400)  # `websockets` could not read the handshake and sent no response

    # -- callbacks of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._in_head = self._in_request = True
        self._first_chunk = self._received = self._chunk

    def on_headers_complete(self) -> None:
        if self._received > HEAD_LIMIT and self._head_size() > HEAD_LIMIT:
            raise _HeadTooLargeError
        self._in_head = False
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self.headers = _Trailers()
        elif self._is_websocket() or self.parser.get_method() == b"CONNECT":
            super().on_headers_complete()
        else:
            self.ignores_upgrade = True

    def on_message_complete(self) -> None:
        if not self.ignores_upgrade:
            self._in_request = False
            super().on_message_complete()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _is_websocket(self) -> bool:
        """Return whether the request is a WebSocket handshake, by the same headers as uvicorn."""
        upgrade = [value.lower() for name, value in self.headers if name == b"upgrade"]
        connection = [value.lower() for name, value in self.headers if name == b"connection"]
        return (
            self.parser.get_method() == b"GET"
            and upgrade == [b"websocket"]
            and len(connection) == 1
            and b"upgrade" in map(bytes.strip, connection[0].split(b","))
        )

    def head_without_upgrade(self) -> bytes:
        """Return the head of the request without the field `Upgrade`, for a new parser."""
        self.ignores_upgrade = False
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    # -- limits

    def _expect_request(self) -> None:
        """Start the timeout for the next request, unless it already runs."""
        if self._timer is None:
            self._timer = self.loop.call_later(self.request_timeout, self._time_out)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        self._timer = None
        if self.flow.read_paused or self._awaits_100():  # the application is slow, not the client
            self._expect_request()
        elif self._in_request:
            self._refuse(408)
        else:
            self.transport.close()

    def _awaits_100(self) -> bool:
        return self._in_request and not self._in_head and self.cycle.waiting_for_100_continue

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (the API has its own texts)
        self._refuse(431 if self._in_head and self._head_size() > HEAD_LIMIT else 400)

    def _refuse(self, status: int) -> None:
        """Send an error, unless a response has begun, and close the connection after `LINGER`."""
        self._is_done = True
        self._cancel_timer()
        cycle = self.cycle
        if not cycle or cycle.response_complete or not (self._in_head or cycle.response_started):
            body = msgspec.json.encode(_ERRORS[status])
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        if cycle:  # tell the application that the client has disconnected
            cycle.disconnected = True
            cycle.message_event.set()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)
