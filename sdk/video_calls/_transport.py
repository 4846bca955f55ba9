"""The I/O of both clients and nothing else: sending over httpx, asking for tokens, waiting.

What is decided here is only whose an `httpx` client is: our own is made on first use, made anew in a forked
process, and closed; a caller's is neither.
"""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import anyio
import httpx

from video_calls._configuration import checked_token
from video_calls._errors import ConfigurationError
from video_calls._flow import Authorize, OutOfTimeError, Received, Send

sleep, async_sleep = time.sleep, anyio.sleep

Hooks = Mapping[str, list[Callable[..., Any]]]  # as httpx types them


class Transport:
    """Sends for a blocking client; safe to share among threads."""

    def __init__(
        self,
        token: str | Callable[[], str],
        *,
        http_client: httpx.Client | None,
        transport: httpx.BaseTransport | None,
        event_hooks: Hooks | None,
    ) -> None:
        self._token = token
        self._current: str | None = None
        self._token_lock = threading.Lock()
        self._given = http_client
        self._transport = transport
        self._hooks = event_hooks
        self._http = http_client or self._make()
        self._process = os.getpid()
        self._closed = False

    def send(self, action: Send) -> Received:
        """Send a request and read its answer to the end.

        Raises:
            httpx.TransportError: there was none.
            OutOfTimeError: it took longer than it may.
            ConfigurationError: the client is closed, or a caller's client came into this process by a fork.
        """
        http = self._usable()
        ends = None if action.seconds is None else time.monotonic() + action.seconds
        request = http.build_request(
            action.method, action.url, headers=action.headers, content=action.content, timeout=action.timeout
        )
        response = http.send(request, stream=True, auth=None, follow_redirects=False)
        try:
            content = b""
            for chunk in response.iter_bytes():
                content = content + chunk if content else chunk
                if ends is not None and time.monotonic() > ends:
                    raise OutOfTimeError
        finally:
            response.close()
        return Received(response.status_code, response.headers, content)

    def authorize(self, action: Authorize) -> str:
        """A token, another than the stale one where there is another; asked for once, however many wait."""
        if isinstance(self._token, str):
            return self._token
        current = self._current
        if current is not None and current != action.stale:
            return current
        with self._token_lock:
            if self._current is None or self._current == action.stale:
                self._current = checked_token(self._token())
            return self._current

    def close(self) -> None:
        """Close our own connections, for good."""
        self._closed = True
        if self._given is None:
            self._http.close()

    def _make(self) -> httpx.Client:
        return httpx.Client(transport=self._transport, event_hooks=self._hooks)

    def _usable(self) -> httpx.Client:
        if self._closed:
            raise ConfigurationError("the client is closed")
        if self._process != os.getpid():
            if self._given is not None:
                raise ConfigurationError(
                    "the http_client came into this process by a fork; make one after forking"
                )
            # The parent's connections are left alone: what is sent on them would mix with its own.
            self._http, self._process = self._make(), os.getpid()
            self._token_lock = threading.Lock()
        return self._http


class AsyncTransport:
    """Sends for an asynchronous client; belongs to one event loop."""

    def __init__(
        self,
        token: str | Callable[[], str | Awaitable[str]],
        *,
        http_client: httpx.AsyncClient | None,
        transport: httpx.AsyncBaseTransport | None,
        event_hooks: Hooks | None,
    ) -> None:
        self._token = token
        self._current: str | None = None
        self._token_lock = anyio.Lock()
        self._given = http_client
        self._http = http_client or httpx.AsyncClient(transport=transport, event_hooks=event_hooks)
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
            action.method, action.url, headers=action.headers, content=action.content, timeout=action.timeout
        )
        response = await http.send(request, auth=None, follow_redirects=False)
        return Received(response.status_code, response.headers, response.content)

    async def authorize(self, action: Authorize) -> str:
        """A token, another than the stale one where there is another; asked for once, however many wait."""
        if isinstance(self._token, str):
            return self._token
        current = self._current
        if current is not None and current != action.stale:
            return current
        self._check()
        async with self._token_lock:
            if self._current is None or self._current == action.stale:
                given = self._token()
                self._current = checked_token(given if isinstance(given, str) else await given)
            return self._current

    async def aclose(self) -> None:
        """Close our own connections, for good."""
        self._closed = True
        if self._given is None:
            await self._http.aclose()

    def _check(self) -> None:
        if self._closed:
            raise ConfigurationError("the client is closed")
        loop = _running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError(
                "the client belongs to another event loop; make one in each, with `async with`"
            )


def _running_loop() -> object:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # under trio; its token of the run is as good
        return cast("object", anyio.lowlevel.current_token())
