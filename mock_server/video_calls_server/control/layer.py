"""The outermost layer where the control layer is on: it finds the namespace of a request and records it.

What is below sees the namespace in the scope and need not know how it was chosen: by a header, or by a
prefix of the path, which goes into the root path as that of an application mounted there would.
"""

import time
from collections.abc import Awaitable, Callable
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
from video_calls_server.api.answer import Answer, Header
from video_calls_server.api.middleware import header
from video_calls_server.control.access import Access
from video_calls_server.control.errors import ControlError
from video_calls_server.control.faulty import HEADER as FAULT_HEADER
from video_calls_server.control.faulty import MAY_FAIL, raise_if_dropped
from video_calls_server.control.requests import BODY, RawHeaders
from video_calls_server.namespaces import Namespace, Namespaces

HEADER = "Video-Calls-Namespace"
PREFIX = "/_ns/"
CONTROL = "/_control"

_HEADER = HEADER.lower().encode()
_FAULT_HEADER = FAULT_HEADER.lower().encode()
_API = ("/api/", "/agora/")
_TOLD = {"websocket.accept", "websocket.close", "websocket.http.response.body"}


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

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a request in its namespace."""
        name, has_fault = "", False
        for key, value in scope["headers"]:
            if key == _HEADER:
                name = value.decode("latin-1")
            elif key == _FAULT_HEADER:
                has_fault = True
        state = scope.setdefault("state", {})
        namespace = self._namespaces.default
        is_mounted = scope.get("root_path") or not namespace.is_open  # for then nobody tells of the start
        if name or has_fault or namespace.faults or is_mounted or not scope["path"].startswith(_API):
            return self._serve(name or None, scope, receive, send)
        # By far the most requests come here: they get no coroutine and no look-up that they do not need.
        namespace.use()
        state["namespace"] = namespace
        return self._recorded(namespace, scope, receive, send)

    async def _serve(self, name: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        root: str = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        if path.startswith(PREFIX):
            name, slash, rest = path.removeprefix(PREFIX).partition("/")
            # The page's relative links start from its last slash.
            if not slash and scope["type"] == ScopeType.HTTP:
                await send(_to(f"{name}/"))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            path = f"/{rest}"
            scope["root_path"] = f"{root}{PREFIX}{name}"
        state = scope["state"]
        is_control = path == CONTROL or path.startswith(f"{CONTROL}/")
        is_recorded = not is_control and path.startswith(_API)
        if scope.get("method") == "OPTIONS" and self._namespaces.existing(name) is None:
            # A preflight carries no key, its answer is the same in each namespace, and it makes none.
            namespace, is_recorded = self._namespaces.default, False
        else:
            try:
                namespace = await self._namespaces.named(name, check=partial(self._check, name, scope))
            except ControlError as error:
                await self._refuse(error, scope, receive, send)
                return
        state["namespace"] = namespace
        if is_control:
            await self._control()(scope, receive, send)
        elif not is_recorded:
            await self._app(scope, receive, send)
        else:
            state[MAY_FAIL] = True
            await self._recorded(namespace, scope, receive, send)
            raise_if_dropped(scope)

    def _recorded(self, namespace: Namespace, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != ScopeType.HTTP:
            return self._shake_hands(namespace, scope, receive, send)
        state = scope["state"]
        state["record"] = namespace.log.record
        return self._app(scope, receive if scope["method"] == "GET" else _kept(receive, state), send)

    async def _shake_hands(self, namespace: Namespace, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket, which is recorded when it is accepted or refused, and when it is closed."""
        started = time.perf_counter()
        headers: RawHeaders = []
        status = 0

        async def send_recorded(message: Any) -> None:  # noqa: ANN401 (Litestar does not type all of them)
            nonlocal headers, status
            kind, answer = message["type"], b""
            if kind == "websocket.accept":
                status = HTTPStatus.SWITCHING_PROTOCOLS
            elif kind == "websocket.close":
                status, answer = message["code"], (message["reason"] or "").encode()
            elif kind == "websocket.http.response.start":
                status, headers = message["status"], list(message["headers"])
            elif kind == "websocket.http.response.body":
                answer = message["body"]
            await send(message)
            if kind in _TOLD:
                namespace.log.record(scope, time.perf_counter() - started, status, headers, answer)

        await self._app(scope, receive, send_recorded)
        if not status:
            namespace.log.record(scope, time.perf_counter() - started, 0, [], b"")

    def _check(self, name: str | None, scope: Scope) -> None:
        purpose = f"there is no namespace {name!r}, and only callers who may control the server make one: "
        self._access.check(scope, purpose)

    async def _refuse(self, error: ControlError, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request that has no namespace; pages of allowed origins can read why."""
        if scope["type"] != ScopeType.HTTP:
            await send({"type": "websocket.close", "code": 4000 + error.status, "reason": error.error})
            return
        origin = header(scope, b"origin")
        headers: list[Header] = []
        if origin is not None and self._cors.is_origin_allowed(origin):
            allowing = self._cors.simple_headers | {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
            headers = [(name.lower().encode(), value.encode()) for name, value in allowing.items()]
        body = Error(error=error.error, code=error.code)
        await Answer(body, status=error.status, headers=headers)(scope, receive, send)


def _kept(receive: Receive, state: dict[str, Any]) -> Receive:
    """What is received, with the body kept for the log."""

    async def receive_kept() -> HTTPReceiveMessage | WebSocketReceiveMessage:
        message = await receive()
        if message["type"] == "http.request":
            state[BODY] = state.get(BODY, b"") + message["body"]
        return message

    return receive_kept


def _to(place: str) -> HTTPResponseStartEvent:
    headers = [(b"location", quote(place).encode()), (b"content-length", b"0")]
    return {"type": "http.response.start", "status": 307, "headers": headers}
