"""A WebSocket on asyncio, with `websockets`; imported by whoever follows events, for it is an extra."""

from typing import Any

import anyio
import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from video_calls._errors import ConfigurationError
from video_calls._events import (
    CLOSE_TIMEOUT,
    LARGEST_MESSAGE,
    QUIET,
    Closed,
    Connect,
    Failed,
    Opened,
    Refused,
    closed_by,
)


class _RefusedError(Exception):
    """The handshake was answered with another status than 101; redirects too, which are never followed."""


class _Connection(ClientConnection):
    async def handshake(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (the library's own)
        try:
            await super().handshake(*args, **options)
        except InvalidStatus as error:
            response = error.response
            headers = httpx.Headers(list(response.headers.raw_items()))
            refused = Refused(response.status_code, headers, bytes(response.body or b""))
            raise _RefusedError(refused) from None


class AsyncSocket:
    """One WebSocket after another."""

    def __init__(self) -> None:
        self._connection: ClientConnection | None = None

    async def open(self, action: Connect) -> Opened | Refused | Failed:
        """Open one in place of the one before.

        Raises:
            ConfigurationError: the URL, or the proxy of the environment, cannot be used.
        """
        await self.aclose()
        headers = dict(action.headers)
        try:
            connection = await connect(
                action.url,
                user_agent_header=headers.pop("user-agent"),
                additional_headers=headers,
                open_timeout=action.timeout,
                close_timeout=CLOSE_TIMEOUT,
                max_size=LARGEST_MESSAGE,
                logger=QUIET,
                create_connection=_Connection,
            )
        except _RefusedError as refused:
            found: Refused = refused.args[0]
            return found
        except (InvalidURI, InvalidProxy, ImportError) as error:
            raise ConfigurationError(f"the connection for events cannot be made: {error}") from error
        except (OSError, EOFError, WebSocketException) as error:
            return Failed(error)
        self._connection = connection
        return Opened(connection.response.headers.get("Last-Event-ID") if connection.response else None)

    async def receive(self) -> str | bytes | Closed:
        """The next message, or why there is none; nothing is lost where it is cancelled."""
        connection = self._connection
        if connection is None:
            return closed_by(None, None, received_first=True)
        try:
            return await connection.recv()
        except ConnectionClosed as closed:
            received = (frame.code, frame.reason) if (frame := closed.rcvd) else None
            sent = (frame.code, frame.reason) if (frame := closed.sent) else None
            return closed_by(received, sent, received_first=closed.rcvd_then_sent is not False)

    async def aclose(self) -> None:
        """Close it; at once where this is cancelled too."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            with anyio.CancelScope(shield=True):
                await connection.close()
        finally:
            connection.transport.abort()
