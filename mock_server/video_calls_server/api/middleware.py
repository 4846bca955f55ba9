"""What every request passes: its id and its line in the log; and, in the API, exact paths and a user."""

import logging
import re
import secrets
import time
from collections.abc import Callable

from litestar.enums import ScopeType
from litestar.exceptions import MethodNotAllowedException
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from video_calls_server._structs import Error
from video_calls_server.api.answer import Answer
from video_calls_server.api.errors import AnyRequest, refused
from video_calls_server.api.jwt import CHALLENGE, TokenVerifier
from video_calls_server.domain.people import Actor
from video_calls_server.namespaces import Namespace, namespace_of
from video_calls_server.observability import request_id as request_id_module

logger = logging.getLogger("video_calls_server.requests")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Tracing:
    """Gives each answer of the API and of the pages an `X-Request-ID`, and logs it in a line.

    It refuses the preflights of origins that `allows_origin` rejects. `default` is the namespace of requests
    that come without one.
    """

    def __init__(self, app: ASGIApp, *, allows_origin: Callable[[str], bool], default: Namespace) -> None:
        self._app = app
        self._allows_origin = allows_origin
        self._default = default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, traced."""
        state = scope.setdefault("state", {})
        state.setdefault("namespace", self._default)
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
        request_id_module.request_id.set(request_id.decode())
        status = 0

        async def send_traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            await app(scope, receive, send_traced)
        finally:
            if logger.isEnabledFor(logging.INFO):
                user = scope.get("user")
                logger.info(
                    "%(method)s %(path)s %(status)d %(duration_ms).1fms user=%(user)s rule=%(rule)s"
                    " request_id=%(request_id)s",
                    {
                        "method": scope["method"],
                        "path": request_id_module.sent_path(scope),
                        "status": status,
                        "duration_ms": (time.perf_counter() - started) * 1000,
                        "user": getattr(user, "user_id", "-"),
                        "rule": state.get("rule", "-"),
                        "request_id": request_id.decode(),
                    },
                )


def _refuse_preflight(origin: str) -> ASGIApp:
    """Return the answer to the preflight of a page that `--cors-origin` does not allow."""
    logger.warning("the origin %(origin)r is refused; --cors-origin allows it", {"origin": origin[:200]})
    text = f"The origin {origin[:200]!r} may not use this server; start it with --cors-origin to allow it"
    return Answer(Error(error=text, code="cors"), status=403)


async def admit(request: AnyRequest) -> None:
    """Find out who calls the API, before anything else of the request is looked at ("Authentication").

    Litestar takes a path without its final slash, or with empty segments, as another spelling of the same.

    Raises:
        Refused: if the path is not spelled as in the contract, or the caller is not an active user.
        MethodNotAllowedException: if the method is OPTIONS and the request is no preflight.
    """
    scope = request.scope
    path = (scope.get("raw_path") or b"").partition(b"?")[0]  # some test clients leave the query on it
    if path and (not path.endswith(b"/") or b"//" in path or b"%2f" in path.lower()):
        raise refused("errors.trailing-slash", {})
    if request.method == "OPTIONS":
        # Litestar's own answer names one of the path's methods alone; preflights do not come this far.
        methods = {
            method
            for route in request.app.routes
            if isinstance(route, HTTPRoute) and route.path_format == scope["path_template"]
            for method in route.methods
        }
        raise MethodNotAllowedException(headers={"allow": ", ".join(methods)})
    scope["user"] = await _authenticate(scope)


async def _authenticate(scope: Scope) -> Actor:
    verifier: TokenVerifier = scope["litestar_app"].state.verifier
    operations = namespace_of(scope).operations
    verified = await verifier.verify(header(scope, b"authorization"))
    actor = await operations.authenticate(verified.user)
    if actor is None:
        raise refused("auth.active-user", CHALLENGE)
    wait = await operations.retry_after(actor)
    if wait is not None:
        text = f"Too many requests; try again in {wait} second{'' if wait == 1 else 's'}"
        raise refused("limits.rate", {"Retry-After": str(wait)}, error=text)
    return actor


def header(scope: Scope, wanted: bytes) -> str | None:
    """The value of a request's header, by its name in lower case."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)
