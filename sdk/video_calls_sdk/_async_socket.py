"""A WebSocket on asyncio. Imported on first use, because `websockets` is an extra."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from video_calls_sdk._errors import ConfigurationError
from video_calls_sdk._event_flow import LOST, CloseFrame, Connect, Handshake
from video_calls_sdk._websocket import (
    HANDSHAKE_ERRORS,
    RefusedError,
    close_frame,
    connect_options,
    handshake_failure,
    handshake_success,
)


class _Connection(ClientConnection):
    async def handshake(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (the library's own)
        try:
            await super().handshake(*args, **options)
        except InvalidStatus as error:
            raise RefusedError(error) from None


class AsyncSocket:
    """Holds one connection at a time. One task opens, receives and waits; any task of the loop may close."""

    def __init__(self) -> None:
        self.is_closed = False
        self._connection: ClientConnection | None = None
        self._scope: anyio.CancelScope | None = None

    @contextmanager
    def iterating(self) -> Generator[None]:
        """Run the body of the `with` until `aclose` cancels it.

        Raises:
            ConfigurationError: if another task runs such a body, or if trio runs the loop.
        """
        if self._scope is not None:
            raise ConfigurationError("the events are being iterated over by another task")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError("events need asyncio, because websockets does; this is trio") from None
        try:
            with anyio.CancelScope() as self._scope:
                yield
        finally:
            self._scope = None

    async def open(self, action: Connect) -> Handshake:
        """Open a connection in place of the previous one.

        Raises:
            ConfigurationError: if the environment's proxy or certificates cannot be used.
        """
        await self._close_connection()
        options = connect_options(action)
        try:
            connection = await connect(**options, create_connection=_Connection)
        except HANDSHAKE_ERRORS as error:
            return handshake_failure(error)
        self._connection = connection
        return handshake_success(connection.response)

    async def receive(self) -> str | bytes | CloseFrame:
        """Return the next message, or the close frame if the connection has ended.

        A cancellation loses no message.
        """
        connection = self._connection
        if connection is None:
            return LOST
        try:
            return await connection.recv()
        except ConnectionClosed as error:
            return close_frame(error)

    async def wait(self, seconds: float) -> None:
        """Wait for this many seconds."""
        await anyio.sleep(seconds)

    async def aclose(self) -> None:
        """Close the socket and cancel the body of `iterating`. If this call is cancelled, close at once."""
        self.is_closed = True
        if self._scope is not None:
            self._scope.cancel()
        await self._close_connection()

    async def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            with anyio.CancelScope(shield=True):
                await connection.close()
        finally:
            connection.transport.abort()
