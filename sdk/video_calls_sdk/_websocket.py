"""Arguments and outcomes of `websockets` that both sockets share. Imported only with the extra `events`."""

import logging
from importlib.util import find_spec
from ssl import SSLContext
from typing import Final, NotRequired, TypedDict

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response

from video_calls_sdk._environment import proxy_of, tls
from video_calls_sdk._event_flow import (
    LOST,
    CloseFrame,
    Connect,
    HandshakeFailure,
    HandshakeRefusal,
    HandshakeSuccess,
)


class RefusedError(Exception):
    """The response to the handshake has a status other than 101, such as a redirect."""

    def __init__(self, error: InvalidStatus) -> None:
        super().__init__(str(error))
        response = error.response
        headers = httpx.Headers(list(response.headers.raw_items()))
        self.refusal = HandshakeRefusal(response.status_code, headers, bytes(response.body or b""))


HANDSHAKE_ERRORS: Final = (RefusedError, OSError, EOFError, WebSocketException)
"""The errors that `connect` raises if it cannot open a connection."""


class _QuietLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that drops debug messages, because the library writes the token into them."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 (the name in `logging`)
        """Return whether the logger writes messages of this level."""
        return level > logging.DEBUG and super().isEnabledFor(level)


class ConnectOptions(TypedDict):
    """Arguments of `connect`."""

    uri: str
    user_agent_header: str
    additional_headers: dict[str, str]
    open_timeout: float | None
    close_timeout: float
    max_size: int
    logger: _QuietLogger
    proxy: str | None
    ssl: SSLContext | None
    proxy_ssl: NotRequired[SSLContext]


def connect_options(action: Connect) -> ConnectOptions:
    """Return the arguments of `connect`, with the proxy and the certificates that requests use too.

    Raises:
        ConfigurationError: if the environment's proxy or certificates cannot be used.
    """
    base_url = f"http{action.url.removeprefix('ws')}"
    proxy = proxy_of(base_url)
    if proxy is not None and proxy.url.startswith("socks") and find_spec("python_socks") is None:
        raise proxy.unusable(
            "events through a SOCKS proxy need python-socks[asyncio], which is not installed"
        )
    headers = dict(action.headers)
    options: ConnectOptions = {
        "uri": action.url,
        "user_agent_header": headers.pop("user-agent"),
        "additional_headers": headers,
        "open_timeout": action.timeout,
        "close_timeout": 0.5,  # seconds to wait for the close frame of the other end
        "max_size": 2**20,  # bytes of a message; an event has a few thousand
        "logger": _QuietLogger(logging.getLogger("video_calls_sdk.websocket"), {}),
        "proxy": proxy and proxy.url,
        "ssl": tls() if base_url.startswith("https:") else None,
    }
    if proxy is not None and proxy.url.startswith("https:"):
        options["proxy_ssl"] = tls()
    return options


def handshake_success(response: Response | None) -> HandshakeSuccess:
    """Return the outcome of a handshake with status 101."""
    return HandshakeSuccess(response.headers.get("Last-Event-ID") if response else None)


def handshake_failure(error: Exception) -> HandshakeRefusal | HandshakeFailure:
    """Return the outcome of a handshake that raised one of `HANDSHAKE_ERRORS`."""
    return error.refusal if isinstance(error, RefusedError) else HandshakeFailure(error)


def close_frame(error: ConnectionClosed) -> CloseFrame:
    """Return the close frame that came first, from the server or from us; `LOST` if there is none."""
    received_first = error.rcvd_then_sent is not False
    first, second = (error.rcvd, error.sent) if received_first else (error.sent, error.rcvd)
    frame = first or second
    return CloseFrame(frame.code, frame.reason) if frame else LOST
