"""What passes the proxy, as the process that judges receives it: plain data, nothing decoded."""

from dataclasses import dataclass, field

__all__ = ["Header", "RawExchange", "Record", "SocketClose", "SocketMessage", "SocketOpen"]

Header = tuple[str, str]


@dataclass(slots=True)
class RawExchange:
    """A request and its response.

    Attributes:
        target: path and query, as they were sent.
        request_body: as far as it is judged; `is_request_cut` if it was longer.
        body: as it was received, perhaps compressed, and a little longer than what is judged.
        sent_at, received_at: seconds since the epoch.
        failure: why there is no whole answer; empty if there is one.
        is_unreachable: whether the target could not even be connected to.
        is_cancelled: whether the client went away before the end of the answer.
    """

    method: str
    target: str
    request_headers: list[Header]
    sent_at: float
    request_body: bytes = b""
    is_request_cut: bool = False
    status: int = 0
    headers: list[Header] = field(default_factory=list[Header])
    body: bytes = b""
    received_at: float = 0.0
    failure: str = ""
    is_unreachable: bool = False
    is_cancelled: bool = False


@dataclass(slots=True)
class SocketOpen:
    """A WebSocket that the target has accepted; `number` tells it from others."""

    number: int
    target: str
    request_headers: list[Header]
    subprotocol: str | None
    at: float


@dataclass(slots=True)
class SocketMessage:
    """A message from the target."""

    number: int
    data: str | bytes
    at: float


@dataclass(slots=True)
class SocketClose:
    """The end of a WebSocket; `code` is None if the target did not end it."""

    number: int
    code: int | None
    at: float


Record = RawExchange | SocketOpen | SocketMessage | SocketClose
