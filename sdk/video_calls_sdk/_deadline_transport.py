"""A synchronous httpx transport that keeps a deadline.

httpcore (1.0) applies a timeout to each read, and reads until the headers or a chunk are complete. A server
that sends single bytes slowly never exceeds this timeout. In this transport, a read may take at most the time
that is left until the deadline.

httpx (0.28) has no public way to set httpcore's network backend. `DeadlineTransport` needs two private
attributes; if they are gone, the deadline is checked only between the parts of a body.
"""

import ssl
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Any

import httpcore
import httpx


class _Deadline(threading.local):
    """The time at which this thread's request must end; a thread sends one request at a time."""

    ends: float | None = None


_deadline = _Deadline()


@contextmanager
def until(ends: float | None) -> Generator[None]:
    """Limit the reads and writes of this thread to `ends`, a time of `time.monotonic`; None for no limit."""
    before, _deadline.ends = _deadline.ends, ends
    try:
        yield
    finally:
        _deadline.ends = before


def _left(timeout: float | None, error: type[httpcore.TimeoutException]) -> float | None:
    if _deadline.ends is None:
        return timeout
    left = _deadline.ends - time.monotonic()
    if left <= 0:
        raise error("the deadline has passed")
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, limit))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 (httpcore's own)
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        limit = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._backend.connect_tcp(host, port, limit, local_address, socket_options))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class DeadlineTransport(httpx.HTTPTransport):
    """An `httpx.HTTPTransport` that keeps the deadline of `until`."""

    def __init__(self, *, verify: ssl.SSLContext, proxy: httpx.Proxy | None) -> None:
        super().__init__(verify=verify, proxy=proxy)
        with suppress(AttributeError):
            pool: Any = self._pool
            pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001
