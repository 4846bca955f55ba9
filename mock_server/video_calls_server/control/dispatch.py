"""The layer around the API and the control API: it finds the namespace of a request and records the request.

The layers below find the namespace in the scope and need not know how it was chosen: by a header, or by a
prefix of the path, which becomes part of the root path, as that of a mounted application does.
"""

import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPReceiveMessage,
    HTTPResponseStartEvent,
    Receive,
    Scope,
    Send,
    WebSocketReceiveMessage,
)

from video_calls_server._structs import Error
from video_calls_server.api.json_response import Header, refuse
from video_calls_server.api.parsing import header
from video_calls_server.control.access import Access
from video_calls_server.control.faults.middleware import raise_if_dropped
from video_calls_server.control.namespaces import Namespaces
from video_calls_server.control.refusals import ControlRefusal
from video_calls_server.control.request_log import RawHeaders, Recorded, RequestLog

HEADER = "Video-Calls-Namespace"
PREFIX = "/_ns/"
CONTROL = "/_control"

_HEADER = HEADER.lower().encode()
_API = ("/api/", "/agora/")
_RECORDED = {"websocket.accept", "websocket.close", "websocket.http.response.body"}


class ControlLayer:
    """Gives each request its namespace, and leads it to the API or to the control API."""

    def __init__(
        self,
        app: ASGIApp,
        control: Callable[[], ASGIApp],
        namespaces: Namespaces,
        access: Access,
        cors: CORSConfig,
    ) -> None:
        self._app = app
        self._control = control
        self._namespaces = namespaces
        self._access = access
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request in its namespace."""
        root: str = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        name = header(scope, _HEADER) or None
        if path.startswith(PREFIX):
            name, slash, rest = path.removeprefix(PREFIX).partition("/")
            # The page's relative links start from its last slash.
            if not slash and scope["type"] == ScopeType.HTTP:
                await send(_redirect_to(f"{name}/"))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            path = f"/{rest}"
            scope["root_path"] = f"{root}{PREFIX}{name}"
        is_control = path == CONTROL or path.startswith(f"{CONTROL}/")
        is_recorded = path.startswith(_API)
        if scope.get("method") == "OPTIONS" and self._namespaces.existing(name) is None:
            # A preflight carries no key, its answer is the same in each namespace, and it makes none.
            namespace, is_recorded = self._namespaces.default, False
        else:
            try:
                namespace = await self._namespaces.named(name, check=partial(self._check, name, scope))
            except ControlRefusal as error:
                await self._refuse(error, scope, receive, send)
                return
        scope.setdefault("state", {})["world"] = namespace
        if is_control:
            await self._control()(scope, receive, send)
        elif is_recorded:
            await _Recording(namespace.log, scope, receive, send).serve(self._app)
            raise_if_dropped(scope)
        else:
            await self._app(scope, receive, send)

    def _check(self, name: str | None, scope: Scope) -> None:
        purpose = f"there is no namespace {name!r}, and only callers who may control the server make one: "
        self._access.check(scope, purpose)

    async def _refuse(self, error: ControlRefusal, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request that has no namespace; pages of allowed origins can read why."""
        origin = header(scope, b"origin")
        headers: list[Header] = []
        if origin is not None and self._cors.is_origin_allowed(origin):
            allowing = self._cors.simple_headers | {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
            headers = [(name.lower().encode(), value.encode()) for name, value in allowing.items()]
        await refuse(Error(error=error.error, code=error.code), error.status, scope, receive, send, headers)


class _Recording:
    """A request on its way through, which is recorded once it is answered.

    A WebSocket is recorded when it is accepted or refused, and when the server closes it.
    """

    def __init__(self, log: RequestLog, scope: Scope, receive: Receive, send: Send) -> None:
        self._log = log
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = time.perf_counter()
        self._status = 0
        self._headers: RawHeaders = []
        self._body = self._answer = b""

    async def serve(self, app: ASGIApp) -> None:
        """Serve the request and record it."""
        try:
            await app(self._scope, self._receive_kept, self._send_kept)
        finally:
            if self._scope["type"] == ScopeType.HTTP or not self._status:
                self._record()

    async def _receive_kept(self) -> HTTPReceiveMessage | WebSocketReceiveMessage:
        message = await self._receive()
        if message["type"] == "http.request":
            self._body += message["body"]
        return message

    async def _send_kept(self, message: Any) -> None:  # noqa: ANN401 (Litestar does not type all of them)
        kind = message["type"]
        if kind.endswith("http.response.start"):  # of a request, or of a handshake
            self._status, self._headers = message["status"], list(message["headers"])
        elif kind.endswith("http.response.body"):
            self._answer += message["body"]
        elif kind == "websocket.accept":
            self._status = HTTPStatus.SWITCHING_PROTOCOLS
        elif kind == "websocket.close":
            self._status, self._answer = message["code"], (message["reason"] or "").encode()
        await self._send(message)
        if kind in _RECORDED:
            self._record()

    def _record(self) -> None:
        seconds = time.perf_counter() - self._started
        self._log.record(
            Recorded(self._scope, seconds, self._status, self._headers, body=self._body, answer=self._answer)
        )


def _redirect_to(place: str) -> HTTPResponseStartEvent:
    headers = [(b"location", quote(place).encode()), (b"content-length", b"0")]
    return {"type": "http.response.start", "status": 307, "headers": headers}
