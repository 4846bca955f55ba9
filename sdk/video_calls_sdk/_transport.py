"""The I/O of both clients: sending over httpx, getting tokens, waiting.

The decisions of `_operation_flow` do not belong here. This module only decides on the lifetime of an httpx
client: it closes the client that it made, makes another after a fork, and never closes a caller's client.
"""

import os
import sys
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing, suppress
from typing import Any, NamedTuple, TypeVar

import anyio
import httpx
from video_calls_spec.bodies import ACCEPTED_CODING, Body

from video_calls_sdk._configuration import checked_token, default_headers
from video_calls_sdk._environment import proxy_of, tls
from video_calls_sdk._errors import ConfigurationError
from video_calls_sdk._operation_flow import Authorize, OutOfTimeError, RawResponse, Send

T = TypeVar("T")
_SEND_OPTIONS: dict[str, Any] = {"stream": True, "auth": None, "follow_redirects": False}

GetToken = Callable[[], str]
AsyncGetToken = Callable[[], str | Awaitable[str]]


class Transport:
    """The transport of a synchronous client; threads may share it."""

    def __init__(
        self,
        token: str | GetToken,
        *,
        base_url: str,
        http_client: httpx.Client | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        _check_exclusive(http_client, transport)
        self._token = token
        self._current: str | None = None
        self._base_url = base_url
        self._http_client = http_client
        self._transport = transport
        # A forked process needs its own connections, because its parent writes to the old ones. It needs its
        # own lock, because a thread of its parent may hold the old one.
        self._states = {os.getpid(): self._make_state()}
        self._closed = False

    def send(self, action: Send) -> RawResponse:
        """Send a request and read its response to the end.

        Raises:
            httpx.TransportError: if there is no response.
            OutOfTimeError: if request and response took longer than `action.seconds`.
            ConfigurationError: if the client is closed, or if a caller's client was made before this process
                forked.
        """
        # Imported here, because it imports httpcore, which httpx also imports only on first use.
        from video_calls_sdk._deadline_transport import until

        http, _ = self._state()
        ends = None if action.seconds is None else time.monotonic() + action.seconds
        request = _build_request(http, action)
        with until(ends), closing(http.send(request, **_SEND_OPTIONS)) as response:
            if response.is_stream_consumed:  # an event hook or a mock has read the body
                return RawResponse(response.status_code, response.headers, response.content)
            body = _body_of(response)
            for part in response.iter_raw():
                _add(body, part)
                if body.problem is not None:
                    break
                if ends is not None and time.monotonic() > ends:
                    raise OutOfTimeError
            return RawResponse(response.status_code, response.headers, body.content, _problem(body))

    def authorize(self, action: Authorize) -> str:
        """Return a token. One caller at a time replaces a stale token, while the others wait."""
        if isinstance(self._token, str):
            return self._token
        current = self._current
        if current is not None and current != action.stale:
            return current
        _, lock = self._state()
        if not lock.acquire(timeout=-1 if action.seconds is None else max(0.0, action.seconds)):
            raise OutOfTimeError
        try:
            if self._current is None or self._current == action.stale:
                self._current = checked_token(self._token())
            return self._current
        finally:
            lock.release()

    def close(self) -> None:
        """Close the connections, except those of a caller's client. The client cannot be opened again."""
        self._closed = True
        if self._http_client is None and (state := self._states.get(os.getpid())):
            state.http.close()

    def _make_state(self) -> "_ProcessState":
        from video_calls_sdk._deadline_transport import DeadlineTransport

        http = self._http_client or _Client(
            headers=default_headers(),
            transport=self._transport or _environment_transport(DeadlineTransport, self._base_url),
        )
        return _ProcessState(http, threading.Lock())

    def _state(self) -> "_ProcessState":
        if self._closed:
            raise ConfigurationError("the client is closed")
        process = os.getpid()
        state = self._states.get(process)
        if self._http_client is not None and self._http_client.is_closed:
            raise ConfigurationError("the http_client is closed")
        if state is None:
            if self._http_client is not None or self._transport is not None:
                raise ConfigurationError(
                    "http_client or transport was made before this process forked; make one after the fork"
                )
            state = self._states.setdefault(process, self._make_state())
        return state


class _ProcessState(NamedTuple):
    """The parts of a transport that a process must not share with the process that forked it.

    Attributes:
        lock: a thread holds it while it gets a token.
    """

    http: httpx.Client
    lock: threading.Lock


class AsyncTransport:
    """The transport of an asynchronous client; it belongs to one event loop."""

    def __init__(
        self,
        token: str | AsyncGetToken,
        *,
        base_url: str,
        http_client: httpx.AsyncClient | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        _check_exclusive(http_client, transport)
        self._token = token
        self._current: str | None = None
        self._token_lock = anyio.Lock()
        self._http_client = http_client
        self._http = http_client or _AsyncClient(
            headers=default_headers(),
            transport=transport or _environment_transport(httpx.AsyncHTTPTransport, base_url),
        )
        self._loop: object = None
        self._closed = False

    async def send(self, action: Send) -> RawResponse:
        """Send a request and read its response to the end.

        Raises:
            httpx.TransportError: if there is no response.
            OutOfTimeError: if request and response took longer than `action.seconds`.
            ConfigurationError: if the client is closed, or belongs to another event loop.
        """
        self._check()
        request = _build_request(self._http, action)
        with anyio.move_on_after(action.seconds):
            try:
                async with aclosing(await self._http.send(request, **_SEND_OPTIONS)) as response:
                    return await _read(response)
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await _release_connection(self._http, request)
                raise
        raise OutOfTimeError

    async def authorize(self, action: Authorize) -> str:
        """Return a token. One caller at a time replaces a stale token, while the others wait."""
        if isinstance(self._token, str):
            return self._token
        current = self._current
        if current is not None and current != action.stale:
            return current
        self._check()
        with anyio.move_on_after(action.seconds):
            async with self._token_lock:
                if self._current is None or self._current == action.stale:
                    token = self._token()
                    self._current = checked_token(token if isinstance(token, str) else await token)
                return self._current
        raise OutOfTimeError

    async def aclose(self) -> None:
        """Close the connections, except those of a caller's client. The client cannot be opened again.

        Raises:
            ConfigurationError: if the connections belong to another event loop.
        """
        if self._http_client is None and not self._closed:
            self._check_loop()
            self._closed = True
            await self._http.aclose()
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise ConfigurationError("the client is closed")
        if self._http_client is not None and self._http_client.is_closed:
            raise ConfigurationError("the http_client is closed")
        self._check_loop()

    def _check_loop(self) -> None:
        import asyncio  # here, because it takes a tenth of the start time of a synchronous program

        try:
            loop: object = asyncio.get_running_loop()
        except RuntimeError:  # trio runs the loop, and identifies each run by a `TrioToken`
            loop = sys.modules["trio"].lowlevel.current_trio_token()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError(
                "the client belongs to another event loop; make a client in each loop, with `async with`"
            )


async def _read(response: httpx.Response) -> RawResponse:
    if response.is_stream_consumed:  # an event hook or a mock has read the body
        return RawResponse(response.status_code, response.headers, response.content)
    body = _body_of(response)
    # Cancel and do not `break`, because `break` would leave httpx's generators to the garbage collector.
    with anyio.CancelScope() as scope:
        async for part in response.aiter_raw():
            _add(body, part)
            if body.problem is not None:
                scope.cancel()
    return RawResponse(response.status_code, response.headers, body.content, _problem(body))


def _body_of(response: httpx.Response) -> Body:
    return Body(response.headers.get("content-encoding", ""))


def _add(body: Body, part: bytes) -> None:
    try:
        body.add(part)
    except zlib.error as error:
        raise httpx.DecodingError(f"the body is not gzip: {error}") from error


def _problem(body: Body) -> str | None:
    return body.problem and f"body: {body.problem}"


def _environment_transport(kind: Callable[..., T], base_url: str) -> T:
    """Return a transport with the proxy and the certificates of the environment."""
    proxy, certificates = proxy_of(base_url), tls()
    if proxy is None:
        return kind(verify=certificates, proxy=None)
    try:
        secure = certificates if proxy.url.startswith("https:") else None
        return kind(verify=certificates, proxy=httpx.Proxy(proxy.url, ssl_context=secure))
    except ImportError as error:
        raise proxy.unusable(error) from error


class _NoCookies(httpx.Cookies):
    """Never has a cookie, because one user's cookies must not reach another user. The API needs none."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Ignore the cookies of a response."""


class _Client(httpx.Client):
    cookies = _NoCookies()  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]


class _AsyncClient(httpx.AsyncClient):
    cookies = _NoCookies()  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]


def _build_request(http: httpx.Client | httpx.AsyncClient, action: Send) -> httpx.Request:
    headers = action.headers
    if not isinstance(http, _Client | _AsyncClient):  # a caller's client may accept more codings
        headers = {"accept-encoding": ACCEPTED_CODING, **headers}
    return http.build_request(
        action.method, action.url, headers=headers, content=action.content, timeout=action.timeout
    )


async def _release_connection(http: httpx.AsyncClient, request: httpx.Request) -> None:
    """Return the connection of a cancelled request to the pool, because httpcore 1.0.9 does not always do so.

    If a request is cancelled after its connection is open and before the first use, or while its response is
    being closed, httpcore counts the connection as in use, and other requests wait for it. Only private
    attributes lead to the pool; if a version of httpx or httpcore lacks them, this function does nothing.
    """
    with suppress(AttributeError):
        pool: Any = getattr(http, "_transport_for_url")(request.url)._pool  # noqa: B009, SLF001 (private)
        requests: list[Any] = pool._requests  # noqa: SLF001
        requests[:] = [other for other in requests if other.request.extensions is not request.extensions]
        used: list[Any] = [other.connection for other in requests]
        connections: list[Any] = pool.connections
        for connection in connections:
            if connection not in used and not connection.is_idle() and not connection.is_closed():
                await connection.aclose()
        await pool._close_connections(pool._assign_requests_to_connections())  # noqa: SLF001


def _check_exclusive(http_client: object, transport: object) -> None:
    if http_client is not None and transport is not None:
        raise ConfigurationError("pass http_client or transport, but not both")
