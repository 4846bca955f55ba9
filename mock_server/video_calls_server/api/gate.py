"""What holds for every request, whichever server runs the application and whatever path is asked for.

It stands around everything else, so that the API, the control API and the pages cannot differ in it.
"""

from collections.abc import Awaitable

from litestar.types import ASGIApp, Receive, Scope, Send

from video_calls_server._structs import Error
from video_calls_server.api.answer import refuse
from video_calls_server.settings import is_loopback


class Gate:
    """Refuses ambiguous heads and, with the development secrets, requests from beyond loopback.

    A second `Authorization` or `Host` would let the server and a proxy in front of it read different ones.
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
                "This server signs with the built-in development secrets, which are public, and so it serves "
                "its own machine only; set VIDEO_CALLS_SERVER_JWT_SECRET, AGORA_APP_ID and "
                "AGORA_APP_CERTIFICATE"
            )
            return refuse(Error(error=text, code="development_secrets"), 403, scope, receive, send)
        return self._app(scope, receive, send)


def _is_on_loopback(scope: Scope) -> bool:
    """Whether the server's end of the connection is a loopback address or, if it is no address, the client's.

    In a test without a socket, and at a Unix socket, neither end has an address.
    """
    ends = [is_loopback(end[0]) for end in (scope.get("server"), scope.get("client")) if end]
    return next((local for local in ends if local is not None), True)
