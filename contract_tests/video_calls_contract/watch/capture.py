"""Captures: what passes the proxy or is recorded, before it is decoded."""

from dataclasses import dataclass, field

Header = tuple[str, str]


@dataclass(slots=True)
class Capture:
    """A request and its response. On a WebSocket: one message from the target, or the end.

    Attributes:
        target: the path and query, as the client sent them.
        body: the response body as the target sent it, perhaps compressed; cut at the suite's limit.
        sent_at, received_at: seconds since the epoch.
        skip_reason: why the exchange is not checked; empty if it is.
        socket: the number of the WebSocket; 0 for HTTP.
        position: the position of a message in its WebSocket, from 0.
        is_end: whether the WebSocket has ended; `close_code` is None if the target did not end it.
    """

    method: str
    target: str
    request_headers: list[Header]
    sent_at: float
    request_body: bytes = b""
    status: int = 0
    headers: list[Header] = field(default_factory=list[Header])
    body: bytes = b""
    received_at: float = 0.0
    skip_reason: str = ""
    socket: int = 0
    position: int = 0
    is_end: bool = False
    close_code: int | None = None
