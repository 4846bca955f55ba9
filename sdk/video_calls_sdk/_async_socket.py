"""A WebSocket on asyncio, with `websockets`; imported by whoever follows events, for it is an extra."""

from typing import Any

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from video_calls_sdk._events import (
    CLOSE_TIMEOUT,
    LARGEST_MESSAGE,
    LOST,
    QUIET,
    Closed,
    Connect,
    Failed,
    Opened,
    Refused,
)
from video_calls_sdk._websocket import (
    HANDSHAKE_ERRORS,
    RefusedError,
    closed,
    network_of,
    not_opened,
    opened,
)


class _Connection(ClientConnection):
    async def handshake(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (the library's own)
        try:
            await super().handshake(*args, **options)
        except InvalidStatus as error:
            raise RefusedError(error) from None


class AsyncSocket:
    """One WebSocket after another."""

    def __init__(self) -> None:
        self._connection: ClientConnection | None = None

    async def open(self, action: Connect) -> Opened | Refused | Failed:
        """Open one in place of the one before.

        Raises:
            ConfigurationError: if the environment's proxy or certificates cannot be used.
        """
        await self.aclose()
        headers, network = dict(action.headers), network_of(action)
        options: dict[str, Any] = {} if network.proxy_ssl is None else {"proxy_ssl": network.proxy_ssl}
        try:
            connection = await connect(
                action.url,
                user_agent_header=headers.pop("user-agent"),
                additional_headers=headers,
                open_timeout=action.timeout,
                close_timeout=CLOSE_TIMEOUT,
                max_size=LARGEST_MESSAGE,
                logger=QUIET,
                proxy=network.proxy,
                ssl=network.ssl,
                **options,
                create_connection=_Connection,
            )
        except HANDSHAKE_ERRORS as error:
            return not_opened(error)
        self._connection = connection
        return opened(connection.response)

    async def receive(self) -> str | bytes | Closed:
        """The next message, or why there is none; nothing is lost where it is cancelled."""
        connection = self._connection
        if connection is None:
            return LOST
        try:
            return await connection.recv()
        except ConnectionClosed as error:
            return closed(error)

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
