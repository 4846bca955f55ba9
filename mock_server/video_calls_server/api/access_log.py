"""Give each request an id, and write one line about it to the log."""

import logging
import re
import secrets
import time
from collections.abc import Callable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from video_calls_server._structs import Error
from video_calls_server.api.json_response import JsonResponse
from video_calls_server.observability.request_id import current_request_id, sent_path
from video_calls_server.world import World

logger = logging.getLogger("video_calls_server.requests")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class AccessLog:
    """Adds `X-Request-ID` to each response of the API and of the pages, and logs one line per request.

    It also refuses preflights from origins that `allows_origin` rejects. If no outer layer has set the
    request's world (see `World`), it sets `default`.
    """

    def __init__(self, app: ASGIApp, *, allows_origin: Callable[[str], bool], default: World) -> None:
        self._app = app
        self._allows_origin = allows_origin
        self._default = default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve and log the request."""
        state = scope.setdefault("state", {})
        state.setdefault("world", self._default)
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        app, request_id = self._app, b""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                request_id = value
            elif name == b"origin" and scope["method"] == "OPTIONS":
                origin = value.decode("latin-1")
                app = app if self._allows_origin(origin) else _refuse_preflight(origin)
        request_id = request_id or secrets.token_hex(16).encode()
        current_request_id.set(request_id.decode())
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            await app(scope, receive, send_with_id)
        finally:
            if logger.isEnabledFor(logging.INFO):
                user = scope.get("user")
                logger.info(
                    "%(method)s %(path)s %(status)d %(duration_ms).1fms user=%(user)s rule=%(rule)s"
                    " request_id=%(request_id)s",
                    {
                        "method": scope["method"],
                        "path": sent_path(scope),
                        "status": status,
                        "duration_ms": (time.perf_counter() - started) * 1000,
                        "user": getattr(user, "user_id", "-"),
                        "rule": state.get("rule", "-"),
                        "request_id": request_id.decode(),
                    },
                )


def _refuse_preflight(origin: str) -> ASGIApp:
    """Return the response to a preflight from an origin that `--cors-origin` does not allow."""
    logger.warning("refused the origin %(origin)r; --cors-origin can allow it", {"origin": origin[:200]})
    text = f"The origin {origin[:200]!r} may not use this server; start it with --cors-origin to allow it"
    return JsonResponse(Error(error=text, code="cors"), status=403)
