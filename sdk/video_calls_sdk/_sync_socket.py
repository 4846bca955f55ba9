"""A blocking WebSocket, with `websockets`: an extra, and imported when events are followed."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

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


class Socket:
    """One WebSocket after another. One thread opens, receives and waits; any may close."""

    def __init__(self) -> None:
        self._closing = threading.Event()
        self._iterating = threading.Lock()
        self._lock = threading.Lock()
        self._connection: ClientConnection | None = None
        self._open = False

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good."""
        return self._closing.is_set()

    @contextmanager
    def iterating(self) -> Generator[None]:
        """Do what is within.

        Raises:
            ConfigurationError: if another thread is within.
        """
        if not self._iterating.acquire(blocking=False):
            raise ConfigurationError("the events are being iterated over by another thread")
        try:
            yield
        finally:
            self._iterating.release()

    def open(self, action: Connect) -> Opened | Refused | Failed:
        """Open one in place of the one before.

        Raises:
            ConfigurationError: if the environment's proxy or certificates cannot be used.
        """
        self._let_go()
        headers, network = dict(action.headers), network_of(action)
        try:
            connection = connect(
                action.url,
                user_agent_header=headers.pop("user-agent"),
                additional_headers=headers,
                open_timeout=action.timeout,
                close_timeout=CLOSE_TIMEOUT,
                max_size=LARGEST_MESSAGE,
                logger=QUIET,
                proxy=network.proxy,
                ssl=network.ssl,
                proxy_ssl=network.proxy_ssl,
                create_connection=self._registered(),
            ).__enter__()
        except HANDSHAKE_ERRORS as error:
            return not_opened(error)
        with self._lock:
            self._open = True
        return opened(connection.response)

    def receive(self) -> str | bytes | Closed:
        """The next message, or why there is none."""
        connection = self._connection
        if connection is None:
            return LOST
        try:
            return connection.recv()
        except ConnectionClosed as error:
            return closed(error)

    def wait(self, seconds: float) -> None:
        """Wait so many seconds, or until it is closed."""
        self._closing.wait(seconds)

    def close(self) -> None:
        """Close it for good, and end what another thread opens, receives or waits for."""
        with self._lock:
            self._closing.set()
            connection, is_open = self._connection, self._open
        if connection is not None and not is_open:
            _shut(connection)
        elif connection is not None:
            connection.close()

    def _let_go(self) -> None:
        with self._lock:
            connection, self._connection, self._open = self._connection, None, False
        if connection is not None:
            connection.close()

    def _register(self, connection: ClientConnection) -> None:
        with self._lock:
            self._connection = connection
            closing = self.is_closed
        if closing:
            _shut(connection)

    def _forget(self) -> None:
        with self._lock:
            self._connection = None

    def _registered(self) -> type[ClientConnection]:
        """A connection that can be closed while its handshake is under way, and never follows a redirect."""
        owner = self

        class Registered(ClientConnection):
            def handshake(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (the library's own)
                owner._register(self)
                try:
                    super().handshake(*args, **options)
                except BaseException as error:
                    owner._forget()
                    if not isinstance(error, Exception):
                        _shut(self)  # the library leaves it open where it is interrupted
                    if not isinstance(error, InvalidStatus):
                        raise
                    raise RefusedError(error) from None

        return Registered


def _shut(connection: ClientConnection) -> None:
    """Break a connection off, at which its handshake ends."""
    with suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)
