"""The outermost layer where the control layer is on: it finds the namespace of a request and records it.

What is below sees the namespace in the scope and need not know how it was chosen: by a header, or by a
prefix of the path, which goes into the root path as that of an application mounted there would.
"""

from collections.abc import Callable
from urllib.parse import quote

from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPReceiveMessage,
    HTTPResponseStartEvent,
    Message,
    Receive,
    Scope,
    Send,
    WebSocketReceiveMessage,
)

from video_calls_server._structs import Error
from video_calls_server.api.answer import Answer
from video_calls_server.api.middleware import header
from video_calls_server.control.faulty import raise_if_dropped
from video_calls_server.control.requests import Recorded
from video_calls_server.namespaces import Namespace, NamespaceError, Namespaces

HEADER = "Video-Calls-Namespace"
PREFIX = "/_ns/"
CONTROL = "/_control"

_HEADER = HEADER.lower().encode()
_RECORDED = ("/api/", "/agora/")


class ControlLayer:
    """Gives each request its namespace, and leads it to the API or to the control API."""

    def __init__(self, app: ASGIApp, control: Callable[[], ASGIApp], namespaces: Namespaces) -> None:
        self._app = app
        self._control = control
        self._namespaces = namespaces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request in its namespace."""
        root: str = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        if path.startswith(PREFIX):
            name, slash, rest = path.removeprefix(PREFIX).partition("/")
            if (
                not slash and scope["type"] == ScopeType.HTTP
            ):  # the page's relative links start from the last slash
                await send(_to(f"{name}/"))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            path = f"/{rest}"
            scope["root_path"] = f"{root}{PREFIX}{name}"
        else:
            name = header(scope, _HEADER) or ""
        try:
            namespace = await self._namespaces.named(name) if name else self._namespaces.default
        except NamespaceError as error:
            await _refuse(error, scope, receive, send)
            return
        scope.setdefault("state", {})["namespace"] = namespace
        if path.startswith(_RECORDED):
            await self._recorded(namespace, scope, receive, send)
        elif path == CONTROL or path.startswith(f"{CONTROL}/"):
            await self._control()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _recorded(self, namespace: Namespace, scope: Scope, receive: Receive, send: Send) -> None:
        recorded = Recorded(scope)

        async def receive_recorded() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            message = await receive()
            if message["type"] == "http.request" and message["body"]:
                recorded.take_body(message["body"])
            return message

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                recorded.status, recorded.answer_headers = message["status"], list(message["headers"])
            elif message["type"] == "http.response.body":
                recorded.take_answer(message["body"])
            elif message["type"] == "websocket.accept":
                recorded.status = 101
                keep()
            elif message["type"] == "websocket.close":
                recorded.status = message["code"]
                recorded.take_answer((message["reason"] or "").encode())
            await send(message)

        def keep() -> None:
            recorded.finish(scope)
            namespace.log.add(recorded)

        try:
            await self._app(scope, receive_recorded, send_recorded)
        finally:
            if not recorded.id:
                keep()
        raise_if_dropped(scope)


def _to(place: str) -> HTTPResponseStartEvent:
    headers = [(b"location", quote(place).encode()), (b"content-length", b"0")]
    return {"type": "http.response.start", "status": 307, "headers": headers}


async def _refuse(error: NamespaceError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == ScopeType.HTTP:
        await Answer(Error(error=str(error), code="namespace"), status=400)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 4400, "reason": str(error)})
