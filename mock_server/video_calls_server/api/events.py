"""The WebSocket that tells a user what happens to their calls ("Websocket Events" of the document)."""

import contextlib
import re
import time
from collections.abc import Sequence
from typing import Any

import anyio
from litestar import Router, WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.types import Middleware, Scope

from video_calls_server.api.errors import Refusal
from video_calls_server.api.jwt import TokenVerifier
from video_calls_server.api.parsing import header
from video_calls_server.domain.people import Actor
from video_calls_server.domain.violation import error_text
from video_calls_server.events.hub import Hub, Subscription
from video_calls_server.events.payload import message
from video_calls_server.operations import Operations
from video_calls_server.store import UnavailableError
from video_calls_server.world import world_of

BAD_REQUEST, UNAUTHORIZED, EXPIRED, TOO_SLOW, GONE, UNAVAILABLE = 4400, 4401, 4402, 4408, 4410, 1013
"""The codes with which a connection is closed; 1013 asks to try again later."""

SLOWEST = 10.0
"""Seconds that a client may take to read one event, when all buffers between are full."""

LARGEST_MESSAGE = 4096
"""Bytes of what a client may send, which means nothing."""

_EVENT_ID = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)

_AWAY = "The service is unavailable for the moment"
_NOBODY = error_text("auth.active-user")

Socket = WebSocket[Any, Any, Any]


class Close(Exception):
    """A reason to close the connection, with its code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@websocket("/events/", name="events")
async def events(socket: Socket) -> None:
    """Follow the events of the user's calls."""
    connection = _Connection(socket)
    try:
        await connection.follow()
    except Close as close:
        await connection.close(close)


def credentials(scope: Scope) -> tuple[str | None, str | None]:
    """The `Authorization` that was sent, and the subprotocol to choose; a request has no subprotocols."""
    offered: Any = scope.get("subprotocols", [])
    if len(offered) == 2 and offered[0] == "bearer":  # noqa: PLR2004 (the word, and the token)
        return f"Bearer {offered[1]}", "bearer"
    return header(scope, b"authorization"), None


class _Connection:
    def __init__(self, socket: Socket) -> None:
        world = world_of(socket.scope)
        self._socket = socket
        self._authorization, self._subprotocol = credentials(socket.scope)
        self._accepted = False
        self._operations: Operations = world.operations
        self._hub: Hub = world.hub
        self._ids = world.ids
        self._verifier: TokenVerifier = socket.app.state.verifier

    async def follow(self) -> None:
        """Let the client in and tell it events, until it goes.

        Raises:
            Close: nobody who may ask, no place to begin, or a reason to go on no longer.
        """
        actor, expires = await self._authenticated()
        with self._hub.subscribe(actor.user_id) as subscription:
            after = await self._after()
            # The place is fixed before the client can act: what it does once it is let in, it is told.
            await self._accept({"Last-Event-ID": str(after)})
            await self._tell(actor, after, expires, subscription)

    async def close(self, close: Close) -> None:
        """Close with a code, which only an accepted connection can be told."""
        if not self._accepted:
            await self._accept({})
        # Whoever has gone already needs no code.
        with contextlib.suppress(WebSocketDisconnect, OSError, RuntimeError):
            await self._socket.close(code=close.code, reason=close.reason)

    async def _accept(self, headers: dict[str, str]) -> None:
        await self._socket.accept(subprotocols=self._subprotocol, headers=headers)
        self._accepted = True

    async def _tell(self, actor: Actor, after: int, expires: float, subscription: Subscription) -> None:
        """Tell events until the client goes; `expires` is in seconds since 1970."""
        closing, expired = None, False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_gone, tasks.cancel_scope)
            with anyio.move_on_after(max(0.0, expires - time.time())) as until_expiry:
                try:
                    await self._follow(actor, after, subscription)
                except Close as close:
                    closing = close
                except (WebSocketDisconnect, OSError):  # the client has gone while it was told
                    pass
            expired = until_expiry.cancelled_caught
            tasks.cancel_scope.cancel()
        if closing is None and expired:
            closing = Close(EXPIRED, "The token has expired")
        if closing is not None:
            raise closing

    async def _authenticated(self) -> tuple[Actor, float]:
        """Who is asking, and until when they may, in seconds since 1970."""
        try:
            verified = await self._verifier.verify(self._authorization)
            actor = await self._operations.authenticate(verified.user)
        except Refusal as refusal:
            raise Close(UNAUTHORIZED, refusal.violation.error) from None
        except UnavailableError:
            raise Close(UNAVAILABLE, _AWAY) from None
        if actor is None:
            raise Close(UNAUTHORIZED, _NOBODY)
        self._socket.scope["user"] = actor
        return actor, verified.expires

    async def _after(self) -> int:
        """The id after which this connection begins."""
        given: str | None = self._socket.query_params.get("last_event_id")
        try:
            if given is None:
                return await self._operations.newest_event_id()
            if not _EVENT_ID.fullmatch(given):
                raise Close(BAD_REQUEST, "last_event_id is no id of an event")
            if not await self._operations.can_resume_after(int(given)):
                raise Close(GONE, "What came after this event is no longer kept; fetch the calls anew")
        except UnavailableError:
            raise Close(UNAVAILABLE, _AWAY) from None
        return int(given)

    async def _follow(self, actor: Actor, after: int, subscription: Subscription) -> None:
        while True:
            if subscription.closing is not None:
                raise Close(*subscription.closing)
            try:
                found = await self._operations.events_after(actor, after)
            except UnavailableError:
                raise Close(UNAVAILABLE, _AWAY) from None
            for event in found:
                try:
                    with anyio.fail_after(SLOWEST):
                        await self._socket.send_text(message(event, self._ids))
                except TimeoutError:
                    raise Close(TOO_SLOW, "Events were read too slowly") from None
                after = event.id
            if not found:
                await subscription.wait()
                await self._check(actor)

    async def _check(self, actor: Actor) -> None:
        """Somebody who was deactivated meanwhile is told no more."""
        try:
            still = await self._operations.authenticate(actor.user_id)
        except UnavailableError:
            return  # reading the events will say so
        if still is None:
            raise Close(UNAUTHORIZED, _NOBODY)

    async def _until_gone(self, scope: anyio.CancelScope) -> None:
        """Read on, for that is how a client is seen to go; what it sends means nothing."""
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await self._socket.receive_data(mode="text")
        scope.cancel()


def events_router(root: str, middleware: Sequence[Middleware]) -> Router:
    """The WebSocket under the API's base path. It authenticates by itself, for it refuses by closing."""
    return Router(root, route_handlers=[events], middleware=middleware)
