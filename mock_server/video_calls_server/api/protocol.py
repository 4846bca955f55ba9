"""What is beneath HTTP: which bytes are a request, and how long one may take to arrive.

No application sees what is refused here.
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
"""The largest request head in bytes: the target, and the names and values of its headers."""

REQUEST_LIMIT = 1024 * 1024
"""Bytes of one request that are read before the connection is closed, whatever the application does."""

LINGER = 2.0
"""Seconds for which a refused connection is still read, because closing at once can destroy the answer."""

_ERRORS = {
    400: Error(error="This is not a valid HTTP request", code="bad_request"),
    408: Error(error="The request did not arrive in time", code="request_timeout"),
    431: Error(error=f"The request head is larger than {HEAD_LIMIT // 1024} KiB", code="headers_too_large"),
}


def http_protocol(request_timeout: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with limits, errors in JSON, and WebSockets as the only upgrade.

    A request, head and body, has `request_timeout` seconds to arrive.
    """
    return type("Protocol", (_Protocol,), {"request_timeout": request_timeout})


class _HeadTooLargeError(Exception):
    """The head of a request is larger than `HEAD_LIMIT`."""


class _Trailers(list[tuple[bytes, bytes]]):
    """Stands in for the headers once they are complete: what comes later is no header (RFC 9110, 6.5)."""

    def append(self, field: tuple[bytes, bytes]) -> None:
        """Ignore a trailer field."""


class _Parser(HttpRequestParser):
    """httptools' parser, which skips the body of a request that asks for an upgrade.

    The request is read once more, without the field `Upgrade`: a server may ignore it (RFC 9110, 7.8). A new
    parser does so, because one whose connection ends with the request reads nothing after it.
    """

    def __init__(self, protocol: "_Protocol") -> None:
        super().__init__(protocol)
        self._protocol = protocol
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it

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
    """uvicorn's protocol with our limits."""

    request_timeout: float
    ignores_upgrade = False

    _is_done = False
    """Whether what still arrives is no longer looked at."""

    _in_head = _arrives = False
    """Whether part of a head, and of a request, has arrived, and the rest is missing."""

    _chunk = _first_chunk = _received = 0
    """Bytes: of the last read, of the read with which the request began, and since then."""

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
        if self._arrives or not self.cycle or self.cycle.response_complete:
            later = self._received - self._first_chunk  # the first may begin with an earlier request
            if later > (HEAD_LIMIT if self._in_head else REQUEST_LIMIT):
                self._refuse(431)
            else:
                self._expect_request()
        else:
            self._cancel_timer()

    def handle_websocket_upgrade(self) -> None:
        self._is_done = True
        self._cancel_timer()
        super().handle_websocket_upgrade()
        # The new protocol has made its scope, which the application has yet to see.
        scope = getattr(self.transport.get_protocol(), "scope", None)
        if scope is not None:
            scope["extensions"] |= self._extensions
        elif (
            not self.transport.is_closing()
        ):  # `websockets` could not read the handshake, and does not say so
            self._refuse(400)

    # -- what the parser finds

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._in_head = self._arrives = True
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
            self._arrives = False
            super().on_message_complete()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _is_websocket(self) -> bool:
        """Whether the request is a handshake, by the fields that uvicorn looks at too."""
        upgrade = [value.lower() for name, value in self.headers if name == b"upgrade"]
        connection = [value.lower() for name, value in self.headers if name == b"connection"]
        return (
            self.parser.get_method() == b"GET"
            and upgrade == [b"websocket"]
            and len(connection) == 1
            and b"upgrade" in map(bytes.strip, connection[0].split(b","))
        )

    def head_without_upgrade(self) -> bytes:
        """Return the head that the parser has read, for it to read again."""
        self.ignores_upgrade = False
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    # -- limits

    def _expect_request(self) -> None:
        """Refuse the connection unless a complete request has arrived within the timeout."""
        if self._timer is None:
            self._timer = self.loop.call_later(self.request_timeout, self._time_out)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        self._timer = None
        if self.flow.read_paused or self._awaits_100():  # the client waits for the application
            self._expect_request()
        elif self._arrives:
            self._refuse(408)
        else:
            self.transport.close()

    def _awaits_100(self) -> bool:
        return self._arrives and not self._in_head and self.cycle.waiting_for_100_continue

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's words, not ours)
        self._refuse(431 if self._in_head and self._head_size() > HEAD_LIMIT else 400)

    def _refuse(self, status: int) -> None:
        """Answer, if no answer has begun, and close the connection once the client had time to read it."""
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
        if cycle:  # the application learns that the client is gone
            cycle.disconnected = True
            cycle.message_event.set()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)
