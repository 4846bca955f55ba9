"""What passes the proxy, or is recorded, before anything of it is decoded."""

from dataclasses import dataclass, field

__all__ = ["Header", "Record"]

Header = tuple[str, str]


@dataclass(slots=True)
class Record:
    """A request and its response; of a WebSocket, one message from the target, or the end.

    Attributes:
        target: path and query, as they were sent.
        body: as it was received, perhaps compressed, and a little longer than what is judged.
        sent_at, received_at: seconds since the epoch.
        unjudged: why the exchange is not judged; empty if it may be.
        socket: the number of the WebSocket; 0 for HTTP.
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
    unjudged: str = ""
    socket: int = 0
    is_end: bool = False
    close_code: int | None = None
