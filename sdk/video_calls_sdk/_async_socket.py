"""A WebSocket on asyncio, with `websockets`: an extra, and imported when events are followed."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from video_calls_sdk._errors import ConfigurationError
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
    """One WebSocket after another. One task opens, receives and waits; any of its event loop may close."""

    def __init__(self) -> None:
        self.is_closed = False
        self._connection: ClientConnection | None = None
        self._scope: anyio.CancelScope | None = None

    @contextmanager
    def iterating(self) -> Generator[None]:
        """Do what is within, until it is done or `aclose` cancels it.

        Raises:
            ConfigurationError: if another task is within, or if this is trio.
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

    async def open(self, action: Connect) -> Opened | Refused | Failed:
        """Open one in place of the one before.

        Raises:
            ConfigurationError: if the environment's proxy or certificates cannot be used.
        """
        await self._let_go()
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

    async def wait(self, seconds: float) -> None:
        """Wait so many seconds."""
        await anyio.sleep(seconds)

    async def aclose(self) -> None:
        """Close it for good, at once if this is cancelled too, and end what is within `iterating`."""
        self.is_closed = True
        if self._scope is not None:
            self._scope.cancel()
        await self._let_go()

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            with anyio.CancelScope(shield=True):
                await connection.close()
        finally:
            connection.transport.abort()
