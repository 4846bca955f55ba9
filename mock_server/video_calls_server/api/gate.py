"""What holds for every request, whichever server runs the application and whatever path is asked for.

It stands around everything else, so that the API, the control API and the pages cannot differ in it.
"""

import ipaddress
import logging
from collections.abc import Awaitable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from video_calls_server._structs import Error
from video_calls_server.api.answer import Answer

logger = logging.getLogger("video_calls_server")


class Gate:
    """Refuses ambiguous heads and, with the development secrets, requests from beyond loopback.

    A second `Authorization` or `Host` would let the server and a proxy in front of it read different ones.
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool) -> None:
        self._app = app
        self._loopback_only = loopback_only

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve the request, or refuse it with 400 or 403."""
        if scope["type"] not in {ScopeType.HTTP, ScopeType.WEBSOCKET}:  # the application starts or stops
            return self._app(scope, receive, send)
        hosts = authorizations = 0
        for name, _ in scope["headers"]:
            if name == b"host":
                hosts += 1
            elif name == b"authorization":
                authorizations += 1
        if hosts > 1 or authorizations > 1:
            text = f"The request has several {'Host' if hosts > 1 else 'Authorization'} headers"
            return _refuse(scope, receive, send, 400, Error(error=text, code="bad_request"))
        if not hosts and scope.get("http_version") == "1.1":
            error = Error(error="The request has no Host header", code="bad_request")
            return _refuse(scope, receive, send, 400, error)
        if self._loopback_only and not _is_on_loopback(scope):
            text = (
                "This server signs with the built-in development secrets, which are public, and so it serves "
                "its own machine only; set VIDEO_CALLS_SERVER_JWT_SECRET, AGORA_APP_ID and "
                "AGORA_APP_CERTIFICATE"
            )
            return _refuse(scope, receive, send, 403, Error(error=text, code="development_secrets"))
        return self._app(scope, receive, send)


def _is_on_loopback(scope: Scope) -> bool:
    """Whether the request came in by a loopback address or, if it came by none, from one.

    In a test without a socket, and at a Unix socket, neither end has an address.
    """
    for end in (scope.get("server"), scope.get("client")):
        try:
            address = ipaddress.ip_address(end[0] if end else "")
        except ValueError:
            continue
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    return True


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, error: Error) -> None:
    logger.info("request refused: %s", error.error)
    if scope["type"] == ScopeType.HTTP:
        await Answer(error, status=status)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 4000 + status, "reason": error.error})
