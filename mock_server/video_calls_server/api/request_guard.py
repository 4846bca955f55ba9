"""Checks of every request: to the API, to the control API and to the pages, under any ASGI server."""

from collections.abc import Awaitable

from litestar.types import ASGIApp, Receive, Scope, Send

from video_calls_server._structs import Error
from video_calls_server.api.json_response import refuse
from video_calls_server.settings import is_loopback


class RequestGuard:
    """Refuses ambiguous headers and, if `loopback_only` is true, requests from other machines.

    If a request has two `Authorization` or `Host` headers, a proxy could read one and the server the other.
    `loopback_only` is true with the development secrets, because they are public.
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool) -> None:
        self._app = app
        self._loopback_only = loopback_only

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve the request, or refuse it with 400 or 403."""
        hosts = authorizations = 0
        for name, _ in scope["headers"]:
            if name == b"host":
                hosts += 1
            elif name == b"authorization":
                authorizations += 1
        if hosts > 1 or authorizations > 1:
            text = f"The request has several {'Host' if hosts > 1 else 'Authorization'} headers"
            return refuse(Error(error=text, code="bad_request"), 400, scope, receive, send)
        if not hosts and scope.get("http_version") == "1.1":
            error = Error(error="The request has no Host header", code="bad_request")
            return refuse(error, 400, scope, receive, send)
        if self._loopback_only and not _is_on_loopback(scope):
            text = (
                "This server signs with the built-in development secrets, which are public, so it serves "
                "only its own machine; set VIDEO_CALLS_SERVER_JWT_SECRET, AGORA_APP_ID and "
                "AGORA_APP_CERTIFICATE"
            )
            return refuse(Error(error=text, code="development_secrets"), 403, scope, receive, send)
        return self._app(scope, receive, send)


def _is_on_loopback(scope: Scope) -> bool:
    """Return whether the server's end of the connection is a loopback address.

    If that end has no IP address, the client's end decides. Test clients and Unix sockets have no address at
    either end and count as loopback.
    """
    ends = [is_loopback(end[0]) for end in (scope.get("server"), scope.get("client")) if end]
    return next((local for local in ends if local is not None), True)
