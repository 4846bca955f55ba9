"""What `websockets` says, in the words of `_events`, for both sockets; an extra, as they are."""

from importlib.util import find_spec
from ssl import SSLContext
from typing import Final, NamedTuple

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response

from video_calls_sdk._environment import proxy_of, tls
from video_calls_sdk._events import LOST, Closed, Connect, Failed, Opened, Refused


class RefusedError(Exception):
    """The handshake was answered with another status than 101; redirects too, which are never followed."""

    def __init__(self, error: InvalidStatus) -> None:
        super().__init__(str(error))
        response = error.response
        headers = httpx.Headers(list(response.headers.raw_items()))
        self.refused = Refused(response.status_code, headers, bytes(response.body or b""))


HANDSHAKE_ERRORS: Final = (RefusedError, OSError, EOFError, WebSocketException)
"""What opening a connection raises."""


class Network(NamedTuple):
    """The proxy, and the certificates for the server and for the proxy, where they are used."""

    proxy: str | None
    ssl: SSLContext | None
    proxy_ssl: SSLContext | None


def network_of(action: Connect) -> Network:
    """Return what `connect` needs to take the same proxy, and to trust the same certificates, as requests do.

    Raises:
        ConfigurationError: if the environment's proxy or certificates cannot be used.
    """
    base_url = f"http{action.url.removeprefix('ws')}"
    proxy = proxy_of(base_url)
    if proxy is not None and proxy.url.startswith("socks") and find_spec("python_socks") is None:
        raise proxy.unusable(
            "events through a SOCKS proxy need python-socks[asyncio], which is not installed"
        )
    return Network(
        proxy=proxy and proxy.url,
        ssl=tls() if base_url.startswith("https:") else None,
        proxy_ssl=tls() if proxy is not None and proxy.url.startswith("https:") else None,
    )


def opened(response: Response | None) -> Opened:
    """What a handshake that was answered with 101 says."""
    return Opened(response.headers.get("Last-Event-ID") if response else None)


def not_opened(error: Exception) -> Refused | Failed:
    """What one of `HANDSHAKE_ERRORS` means."""
    return error.refused if isinstance(error, RefusedError) else Failed(error)


def closed(error: ConnectionClosed) -> Closed:
    """What closed a WebSocket: the first close frame, the other end's or our own, or none at all."""
    received_first = error.rcvd_then_sent is not False
    first, second = (error.rcvd, error.sent) if received_first else (error.sent, error.rcvd)
    frame = first or second
    return Closed(frame.code, frame.reason) if frame else LOST
