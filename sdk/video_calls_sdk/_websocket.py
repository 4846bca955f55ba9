"""What `websockets` says, in the words of `_events`, for both sockets; an extra, as they are."""

from typing import Final

import httpx
from websockets.exceptions import (
    ConnectionClosed,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.http11 import Response

from video_calls_sdk._errors import ConfigurationError
from video_calls_sdk._events import LOST, Closed, Failed, Opened, Refused


class RefusedError(Exception):
    """The handshake was answered with another status than 101; redirects too, which are never followed."""

    def __init__(self, error: InvalidStatus) -> None:
        super().__init__(str(error))
        response = error.response
        headers = httpx.Headers(list(response.headers.raw_items()))
        self.refused = Refused(response.status_code, headers, bytes(response.body or b""))


HANDSHAKE_ERRORS: Final = (RefusedError, ImportError, OSError, EOFError, WebSocketException)
"""What opening a connection raises."""


def opened(response: Response | None) -> Opened:
    """What a handshake that was answered with 101 says."""
    return Opened(response.headers.get("Last-Event-ID") if response else None)


def not_opened(error: Exception) -> Refused | Failed:
    """What one of `HANDSHAKE_ERRORS` means.

    Raises:
        ConfigurationError: the URL, or the proxy of the environment, cannot be used.
    """
    if isinstance(error, RefusedError):
        return error.refused
    if isinstance(error, InvalidURI | InvalidProxy | ImportError):
        raise ConfigurationError(f"the connection for events cannot be made: {error}") from error
    return Failed(error)


def closed(error: ConnectionClosed) -> Closed:
    """What closed a WebSocket: the first close frame, the other end's or our own, or none at all."""
    received_first = error.rcvd_then_sent is not False
    first, second = (error.rcvd, error.sent) if received_first else (error.sent, error.rcvd)
    frame = first or second
    return Closed(frame.code, frame.reason) if frame else LOST
