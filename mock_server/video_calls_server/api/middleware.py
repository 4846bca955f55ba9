"""What every request passes: its id and its line in the log; and, for the API, exact paths and a user."""

import logging
import re
import secrets
import time
from collections.abc import Callable

from litestar.enums import ScopeType
from litestar.exceptions import MethodNotAllowedException
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from video_calls_server import tracing
from video_calls_server._structs import Error
from video_calls_server.api.answer import Answer
from video_calls_server.api.errors import refused
from video_calls_server.api.tokens import CHALLENGE, TokenVerifier
from video_calls_server.domain.people import Actor
from video_calls_server.namespaces import Namespace, namespace_of

logger = logging.getLogger("video_calls_server.requests")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Tracing:
    """Gives every answer of the API, and of the pages beside it, an `X-Request-ID`, and the log a line.

    No path of theirs escapes it: only the control layer, metrics and spans stand around it.

    `cross_origin` is the application behind its CORS middleware, which only requests that browsers send
    from an allowed origin need to pass; `same_origin` is the one behind it. `default` is the namespace of
    requests that come without one.
    """

    def __init__(
        self,
        *,
        allows_origin: Callable[[str], bool],
        cross_origin: ASGIApp,
        same_origin: ASGIApp,
        default: Namespace,
    ) -> None:
        self._default = default
        self._allows_origin = allows_origin
        self._cross_origin = cross_origin
        self._same_origin = same_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, traced."""
        state = scope.setdefault("state", {})
        state.setdefault("namespace", self._default)
        if scope["type"] != ScopeType.HTTP:
            await self._same_origin(scope, receive, send)
            return
        started = time.perf_counter()
        app, request_id = self._same_origin, b""
        for name, value in scope["headers"]:
            if name == b"origin":
                app = self._app_for(value.decode("latin-1"), scope["method"])
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                request_id = value
        request_id = request_id or secrets.token_hex(16).encode()
        tracing.request_id.set(request_id.decode())
        record = state.get("record")  # of the control layer, if there is one
        status, answer = 0, b""
        headers: list[tuple[bytes, bytes]] = []

        async def send_traced(message: Message) -> None:
            nonlocal status, headers, answer
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = headers = [*message["headers"], (b"x-request-id", request_id)]
            elif record is not None and message["type"] == "http.response.body":
                answer += message["body"]
            await send(message)

        try:
            await app(scope, receive, send_traced)
        finally:
            if record is not None:
                record(scope, time.perf_counter() - started, status, headers, answer)
            if logger.isEnabledFor(logging.INFO):
                user = scope.get("user")
                logger.info(
                    "%(method)s %(path)s %(status)d %(duration_ms).1fms user=%(user)s rule=%(rule)s"
                    " request_id=%(request_id)s",
                    {
                        "method": scope["method"],
                        "path": tracing.sent_path(scope),
                        "status": status,
                        "duration_ms": (time.perf_counter() - started) * 1000,
                        "user": getattr(user, "user_id", "-"),
                        "rule": state.get("rule", "-"),
                        "request_id": request_id.decode(),
                    },
                )

    def _app_for(self, origin: str, method: str) -> ASGIApp:
        """Return what serves a request of a page of this origin."""
        if self._allows_origin(origin):
            return self._cross_origin
        return _refuse_preflight(origin) if method == "OPTIONS" else self._same_origin


def _refuse_preflight(origin: str) -> ASGIApp:
    """Return what answers the preflight of a page that `--cors-origin` does not allow."""
    logger.warning("the origin %(origin)r is refused; --cors-origin allows it", {"origin": origin[:200]})
    text = f"The origin {origin[:200]!r} may not use this server; start it with --cors-origin to allow it"
    return Answer(Error(error=text, code="cors"), status=403)


def admit(app: ASGIApp) -> ASGIApp:
    """Let a request pass to the API that spells its path as the contract does and is an active user's.

    Litestar takes a path without its final slash, or with empty segments, as another spelling of the same.
    Who is asking is found out before anything else is looked at ("Authentication").
    """

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        path = (scope.get("raw_path") or b"").partition(b"?")[0]  # some test clients leave the query on it
        if path and (not path.endswith(b"/") or b"//" in path or b"%2f" in path.lower()):
            raise refused("errors.trailing-slash", {})
        if scope.get("method") == "OPTIONS":
            # Litestar's own answer names one of the path's methods alone; preflights do not come this far.
            routes = scope["litestar_app"].routes
            methods = {
                method
                for route in routes
                if isinstance(route, HTTPRoute) and route.path_format == scope["path_template"]
                for method in route.methods
            }
            raise MethodNotAllowedException(headers={"allow": ", ".join(methods)})
        scope["user"] = await _authenticate(scope)
        await app(scope, receive, send)

    return middleware


async def _authenticate(scope: Scope) -> Actor:
    verifier: TokenVerifier = scope["litestar_app"].state.verifier
    service = namespace_of(scope).service
    verified = await verifier.verify(header(scope, b"authorization"))
    actor = await service.authenticate(verified.user)
    if actor is None:
        raise refused("auth.active-user", CHALLENGE)
    wait = await service.retry_after(actor)
    if wait is not None:
        text = f"Too many requests; try again in {wait} second{'' if wait == 1 else 's'}"
        raise refused("limits.rate", {"Retry-After": str(wait)}, error=text)
    return actor


def header(scope: Scope, wanted: bytes) -> str | None:
    """The value of a request's header, by its name in lower case."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)
