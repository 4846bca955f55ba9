"""What every request passes: its id and its line in the log; and, for the API, exact paths and a user."""

import logging
import re
import secrets
import time

from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from video_calls_server.api.errors import refused
from video_calls_server.api.tokens import CHALLENGE, TokenVerifier
from video_calls_server.service import CallService

logger = logging.getLogger("video_calls_server.requests")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Tracing:
    """Gives every response an `X-Request-ID` and the log a line. The outermost layer: no path escapes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, traced."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        state = scope.setdefault("state", {})
        status = 0

        async def send_traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        path = scope.get("raw_path") or scope["path"].encode()
        try:
            await self._app(scope, receive, send_traced)
        finally:
            if logger.isEnabledFor(logging.INFO):
                user = scope.get("user")
                logger.info(
                    "%s %s %d %.1fms user=%s rule=%s request_id=%s",
                    scope["method"],
                    path.decode("ascii", "backslashreplace"),
                    status,
                    (time.perf_counter() - started) * 1000,
                    getattr(user, "user_id", "-"),
                    state.get("rule", "-"),
                    request_id.decode(),
                )


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value
    return secrets.token_hex(16).encode()


class ExactPaths(ASGIMiddleware):
    """Answers 404 to a path that Litestar takes as another spelling of one of the contract's."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass on what is spelt as in the contract: with its final slash, and no empty segment."""
        raw = (scope.get("raw_path") or b"").partition(b"?")[0]  # some test clients leave the query on it
        if raw and (not raw.endswith(b"/") or b"//" in raw):
            raise refused("errors.trailing-slash", {})
        await next_app(scope, receive, send)


class RequireUser(ASGIMiddleware):
    """Finds out who is asking before anything else is looked at ("Authentication")."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Put the actor in the scope, or refuse with 401, or 429."""
        app_state = scope["litestar_app"].state
        verifier: TokenVerifier = app_state.verifier
        service: CallService = app_state.service
        user = await verifier.user_of(Headers.from_scope(scope).get("authorization"))
        actor = await service.authenticate(user)
        if actor is None:
            raise refused("auth.active-user", CHALLENGE)
        scope["user"] = actor
        wait = await service.retry_after(actor)
        if wait is not None:
            text = f"Too many requests; try again in {wait} second{'' if wait == 1 else 's'}"
            raise refused("limits.rate", {"Retry-After": str(wait)}, error=text)
        await next_app(scope, receive, send)
