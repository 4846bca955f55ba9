"""The layer that chooses the namespace of each request and records the exchange.

A header or a prefix of the path names the namespace. The inner layers read the namespace from the scope. The
prefix becomes part of `root_path`, as in a mounted application.
"""

from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    Receive,
    Scope,
    Send,
)

from video_calls_server._structs import Error
from video_calls_server.api.json_response import Header, refuse
from video_calls_server.api.parsing import header
from video_calls_server.control.access import Access
from video_calls_server.control.faults.middleware import raise_if_dropped
from video_calls_server.control.namespaces import Namespaces
from video_calls_server.control.refusals import ControlRefusal
from video_calls_server.control.request_log import Recorder

HEADER = "Video-Calls-Namespace"
PREFIX = "/_ns/"
CONTROL = "/_control"

_HEADER = HEADER.lower().encode()
_API = ("/api/", "/agora/")
_WHO_CREATES = "only callers who may control the server create one"


class NamespaceDispatcher:
    """Sets the namespace of each request, and passes the request to the API or to the control API."""

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
            # Redirect to the path with a final slash, because the relative links of the console need it.
            if not slash and scope["type"] == ScopeType.HTTP:
                headers = [(b"location", quote(f"{name}/").encode()), (b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 307, "headers": headers})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            path = f"/{rest}"
            scope["root_path"] = f"{root}{PREFIX}{name}"
        is_control = path == CONTROL or path.startswith(f"{CONTROL}/")
        is_recorded = path.startswith(_API)
        if scope.get("method") == "OPTIONS" and self._namespaces.get(name) is None:
            # A preflight carries no control key, so it must not create a namespace. The default namespace
            # serves it, because the response is the same in every namespace.
            namespace, is_recorded = self._namespaces.default, False
        else:
            try:
                purpose = f"there is no namespace {name!r}, and {_WHO_CREATES}: "
                check = partial(self._access.check, scope, purpose)
                namespace = await self._namespaces.get_or_create(name, check=check)
            except ControlRefusal as error:
                await self._refuse(error, scope, receive, send)
                return
        scope.setdefault("state", {})["world"] = namespace
        if is_control:
            await self._control()(scope, receive, send)
        elif is_recorded:
            await Recorder(namespace.log, scope, receive, send).serve(self._app)
            raise_if_dropped(scope)
        else:
            await self._app(scope, receive, send)

    async def _refuse(self, error: ControlRefusal, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, with the CORS headers that let allowed pages read the reason."""
        origin = header(scope, b"origin")
        headers: list[Header] = []
        if origin is not None and self._cors.is_origin_allowed(origin):
            allowing = self._cors.simple_headers | {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
            headers = [(name.lower().encode(), value.encode()) for name, value in allowing.items()]
        await refuse(Error(error=error.error, code=error.code), error.status, scope, receive, send, headers)
