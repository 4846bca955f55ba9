"""The I/O of both clients and nothing else: sending over httpx, asking for tokens, waiting.

What is decided here is only whose an `httpx` client is: our own is made anew in a forked process, and closed;
a caller's is neither.
"""

import os
import sys
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache
from http.cookiejar import CookieJar
from typing import Any, NamedTuple, TypeVar

import anyio
import httpx
from video_calls_spec.bodies import Body

from video_calls_sdk._configuration import checked_token, own_headers
from video_calls_sdk._environment import proxy_of, tls
from video_calls_sdk._errors import ConfigurationError
from video_calls_sdk._flow import Authorize, OutOfTimeError, Received, Send

sleep = time.sleep


async def async_sleep(seconds: float) -> None:
    """Wait so many seconds."""
    await anyio.sleep(seconds)


_url = lru_cache(maxsize=256)(httpx.URL)
"""URLs come again, and reading one takes longer than all that is done here."""

T = TypeVar("T")

GetToken = Callable[[], str]
AsyncGetToken = Callable[[], str | Awaitable[str]]


class Transport:
    """Sends for a blocking client; safe to share among threads."""

    def __init__(
        self,
        token: str | GetToken,
        *,
        base_url: str,
        http_client: httpx.Client | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        _check_whose(http_client, transport)
        self._token = token
        self._current: str | None = None
        self._base_url = base_url
        self._given = http_client
        self._transport = transport
        # The parent's connections are left alone in a forked process: what is sent on them would mix with its
        # own. Its lock may have been held by a thread that is not there any more.
        self._of_process = {os.getpid(): self._make()}
        self._closed = False

    def send(self, action: Send) -> Received:
        """Send a request and read its answer to the end.

        Raises:
            httpx.TransportError: there was none.
            OutOfTimeError: it took longer than it may.
            ConfigurationError: the client is closed, or a caller's client came into this process by a fork.
        """
        from video_calls_sdk._deadline import until  # here, because it imports httpcore, as httpx does later

        http, _ = self._usable()
        ends = None if action.seconds is None else time.monotonic() + action.seconds
        request = http.build_request(
            action.method,
            _url(action.url),
            headers=action.headers,
            content=action.content,
            timeout=action.timeout,
        )
        with until(ends):
            response = http.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                if response.is_stream_consumed:  # an event hook or a mock has read it
                    return Received(response.status_code, response.headers, response.content)
                body = _body_of(response)
                for part in response.iter_raw():
                    _add(body, part)
                    if body.problem is not None:
                        break
                    if ends is not None and time.monotonic() > ends:
                        raise OutOfTimeError
            finally:
                response.close()
        return Received(response.status_code, response.headers, body.content, _problem(body))

    def authorize(self, action: Authorize) -> str:
        """A token, another than the stale one where there is another; asked for once, however many wait."""
        if isinstance(self._token, str):
            return self._token
        current = self._current
        if current is not None and current != action.stale:
            return current
        _, lock = self._usable()
        if not lock.acquire(timeout=-1 if action.seconds is None else max(0.0, action.seconds)):
            raise OutOfTimeError
        try:
            if self._current is None or self._current == action.stale:
                self._current = checked_token(self._token())
            return self._current
        finally:
            lock.release()

    def close(self) -> None:
        """Close our own connections, for good."""
        self._closed = True
        if self._given is None and (own := self._of_process.get(os.getpid())):
            own.http.close()

    def _make(self) -> "_OfProcess":
        return _OfProcess(self._given or self._own(), threading.Lock())

    def _own(self) -> httpx.Client:
        from video_calls_sdk._deadline import DeadlineTransport

        transport = self._transport or _of_environment(DeadlineTransport, self._base_url)
        return httpx.Client(headers=own_headers(), cookies=_NoCookies(), transport=transport)

    def _usable(self) -> "_OfProcess":
        if self._closed:
            raise ConfigurationError("the client is closed")
        process = os.getpid()
        own = self._of_process.get(process)
        if self._given is not None and self._given.is_closed:
            raise ConfigurationError("the http_client is closed")
        if own is None:
            if self._given is not None or self._transport is not None:
                raise ConfigurationError(
                    "the http_client or transport came into this process by a fork; make one after forking"
                )
            own = self._of_process.setdefault(process, self._make())
        return own


class _OfProcess(NamedTuple):
    """What a forked process needs a new one of."""

    http: httpx.Client
    lock: threading.Lock
    """Held while a token is asked for."""


class AsyncTransport:
    """Sends for an asynchronous client; belongs to one event loop."""

    def __init__(
        self,
        token: str | AsyncGetToken,
        *,
        base_url: str,
        http_client: httpx.AsyncClient | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        _check_whose(http_client, transport)
        self._token = token
        self._current: str | None = None
        self._token_lock = anyio.Lock()
        self._given = http_client
        self._http = http_client or httpx.AsyncClient(
            headers=own_headers(),
            cookies=_NoCookies(),
            transport=transport or _of_environment(httpx.AsyncHTTPTransport, base_url),
        )
        self._loop: object = None
        self._closed = False

    async def send(self, action: Send) -> Received:
        """Send a request and read its answer to the end.

        Raises:
            httpx.TransportError: there was none.
            OutOfTimeError: it took longer than it may.
            ConfigurationError: the client is closed, or belongs to another event loop.
        """
        self._check()
        if action.seconds is None:
            return await self._send(action)
        with anyio.move_on_after(action.seconds):
            return await self._send(action)
        raise OutOfTimeError

    async def _send(self, action: Send) -> Received:
        http = self._http
        request = http.build_request(
            action.method,
            _url(action.url),
            headers=action.headers,
            content=action.content,
            timeout=action.timeout,
        )
        try:
            response = await http.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                return await _received(response)
            finally:
                await response.aclose()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await _give_back(http, request)
            raise

    async def authorize(self, action: Authorize) -> str:
        """A token, another than the stale one where there is another; asked for once, however many wait."""
        if isinstance(self._token, str):
            return self._token
        current = self._current
        if current is not None and current != action.stale:
            return current
        self._check()
        with anyio.move_on_after(action.seconds):
            async with self._token_lock:
                if self._current is None or self._current == action.stale:
                    given = self._token()
                    self._current = checked_token(given if isinstance(given, str) else await given)
                return self._current
        raise OutOfTimeError

    async def aclose(self) -> None:
        """Close our own connections, for good.

        Raises:
            ConfigurationError: they belong to another event loop.
        """
        if self._given is None and not self._closed:
            self._check_loop()
            self._closed = True
            await self._http.aclose()
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise ConfigurationError("the client is closed")
        if self._given is not None and self._given.is_closed:
            raise ConfigurationError("the http_client is closed")
        self._check_loop()

    def _check_loop(self) -> None:
        loop = _running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError(
                "the client belongs to another event loop; make one in each, with `async with`"
            )


async def _received(response: httpx.Response) -> Received:
    if response.is_stream_consumed:  # an event hook or a mock has read it
        return Received(response.status_code, response.headers, response.content)
    body = _body_of(response)
    with anyio.CancelScope() as scope:  # a `break` would leave httpx's generators to the garbage collector
        async for part in response.aiter_raw():
            _add(body, part)
            if body.problem is not None:
                scope.cancel()
    return Received(response.status_code, response.headers, body.content, _problem(body))


def _body_of(response: httpx.Response) -> Body:
    return Body(response.headers.get("content-encoding", ""))


def _add(body: Body, part: bytes) -> None:
    try:
        body.add(part)
    except zlib.error as error:
        raise httpx.DecodingError(f"the body is not gzip: {error}") from error


def _problem(body: Body) -> str | None:
    return body.problem and f"body: {body.problem}"


def _of_environment(kind: Callable[..., T], base_url: str) -> T:
    """A transport through the proxy, and with the certificates, that the environment names."""
    proxy, certificates = proxy_of(base_url), tls()
    if proxy is None:
        return kind(verify=certificates, proxy=None)
    try:
        secure = certificates if proxy.url.startswith("https:") else None
        return kind(verify=certificates, proxy=httpx.Proxy(proxy.url, ssl_context=secure))
    except ImportError as error:
        raise proxy.unusable(error) from error


class _NoCookies(CookieJar):
    """A jar that stays empty: the API has no cookies, and one user's must not reach another."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Keep none."""


async def _give_back(http: httpx.AsyncClient, request: httpx.Request) -> None:
    """Return a cancelled request's connection to the pool, which httpcore 1.0.9 does not always do.

    A request may be cancelled after its connection is made and before the first use, or while its answer is
    closed. httpcore then keeps the connection as neither idle nor closed, and other requests wait for it.
    Only private attributes lead to the pool; if they are gone, do nothing.
    """
    with suppress(AttributeError):
        pool: Any = getattr(http, "_transport_for_url")(request.url)._pool  # noqa: B009, SLF001 (private)
        waiting: list[Any] = pool._requests  # noqa: SLF001
        waiting[:] = [other for other in waiting if other.request.extensions is not request.extensions]
        used: list[Any] = [other.connection for other in waiting]
        held: list[Any] = pool.connections
        for connection in held:
            if connection not in used and not connection.is_idle() and not connection.is_closed():
                await connection.aclose()
        await pool._close_connections(pool._assign_requests_to_connections())  # noqa: SLF001


def _check_whose(http_client: object, transport: object) -> None:
    if http_client is not None and transport is not None:
        raise ConfigurationError("http_client brings its own transport: leave transport out")


def _running_loop() -> object:
    import asyncio  # here, for it costs a blocking program a tenth of its start

    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # under trio; its token of the run is as good
        return sys.modules["trio"].lowlevel.current_trio_token()
