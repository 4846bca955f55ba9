"""A synchronous WebSocket. Imported on first use, because `websockets` is an extra."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

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


class Socket:
    """Holds one connection at a time. One thread opens, receives and waits; any thread may close."""

    def __init__(self) -> None:
        self._closing = threading.Event()
        self._iterating = threading.Lock()
        self._lock = threading.Lock()
        self._connection: ClientConnection | None = None
        self._open = False

    @property
    def is_closed(self) -> bool:
        """Return whether `close` was called."""
        return self._closing.is_set()

    @contextmanager
    def iterating(self) -> Generator[None]:
        """Run the body of the `with`, in one thread at a time.

        Raises:
            ConfigurationError: if another thread runs such a body.
        """
        if not self._iterating.acquire(blocking=False):
            raise ConfigurationError("the events are being iterated over by another thread")
        try:
            yield
        finally:
            self._iterating.release()

    def open(self, action: Connect) -> Handshake:
        """Open a connection in place of the previous one.

        Raises:
            ConfigurationError: if the environment's proxy or certificates cannot be used.
        """
        self._close_connection()
        options = connect_options(action)
        try:
            connection = connect(**options, create_connection=self._connection_class()).__enter__()
        except HANDSHAKE_ERRORS as error:
            return handshake_failure(error)
        with self._lock:
            self._open = True
        return handshake_success(connection.response)

    def receive(self) -> str | bytes | CloseFrame:
        """Return the next message, or the close frame if the connection has ended."""
        connection = self._connection
        if connection is None:
            return LOST
        try:
            return connection.recv()
        except ConnectionClosed as error:
            return close_frame(error)

    def wait(self, seconds: float) -> None:
        """Wait for this many seconds, or until `close` is called."""
        self._closing.wait(seconds)

    def close(self) -> None:
        """Close the socket, and interrupt another thread that opens, receives or waits."""
        with self._lock:
            self._closing.set()
            connection, is_open = self._connection, self._open
        if connection is not None and not is_open:
            _abort(connection)
        elif connection is not None:
            connection.close()

    def _close_connection(self) -> None:
        with self._lock:
            connection, self._connection, self._open = self._connection, None, False
        if connection is not None:
            connection.close()

    def _register(self, connection: ClientConnection) -> None:
        with self._lock:
            self._connection = connection
            closing = self.is_closed
        if closing:
            _abort(connection)

    def _forget(self) -> None:
        with self._lock:
            self._connection = None

    def _connection_class(self) -> type[ClientConnection]:
        """Return a class of connections that can be closed during the handshake, and follow no redirect."""
        owner = self

        class Connection(ClientConnection):
            def handshake(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (the library's own)
                owner._register(self)
                try:
                    super().handshake(*args, **options)
                except BaseException as error:
                    owner._forget()
                    if not isinstance(error, Exception):
                        _abort(self)  # after an interrupt, the library leaves the connection open
                    if not isinstance(error, InvalidStatus):
                        raise
                    raise RefusedError(error) from None

        return Connection


def _abort(connection: ClientConnection) -> None:
    """Shut down the socket, which ends a handshake in progress."""
    with suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)
