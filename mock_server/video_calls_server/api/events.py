"""The WebSocket that sends a user the events of their calls ("Websocket Events")."""

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
"""The close codes; 1013 asks the client to try again later."""

SEND_TIMEOUT = 10.0
"""Seconds for sending one event. Sending blocks if the client does not read and all buffers are full."""

LARGEST_MESSAGE = 4096
"""Bytes of the largest message from a client; the server ignores the content."""

_EVENT_ID = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)

_INACTIVE_TEXT = error_text("auth.active-user")

Socket = WebSocket[Any, Any, Any]


class Close(Exception):
    """Closes the connection with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@websocket("/events/", name="events")
async def events(socket: Socket) -> None:
    """Send the events of the user's calls."""
    connection = _Connection(socket)
    try:
        await connection.follow()
    except Close as close:
        await connection.close(close)
    except UnavailableError:
        await connection.close(Close(UNAVAILABLE, "The service is unavailable for the moment"))


def credentials(scope: Scope) -> tuple[str | None, str | None]:
    """Return the `Authorization` value and, for a WebSocket handshake, the subprotocol to accept.

    Browsers cannot set headers, so a handshake can carry the token in its subprotocols: `bearer, TOKEN`.
    """
    subprotocols: Any = scope.get("subprotocols", [])
    if len(subprotocols) == 2 and subprotocols[0] == "bearer":  # noqa: PLR2004 (the word and the token)
        return f"Bearer {subprotocols[1]}", "bearer"
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
        """Accept the connection and send events until the client disconnects, or an exception ends it."""
        actor, expires = await self._authenticate()
        with self._hub.subscribe(actor.user_id) as subscription:
            # Read the position before the client can act, so that the events of its actions come after it.
            after = await self._start_position()
            await self._accept({"Last-Event-ID": str(after)})
            await self._send_until_disconnect(actor, after, expires, subscription)

    async def close(self, close: Close) -> None:
        """Close the connection. Accept it first if necessary: a close code needs an accepted connection."""
        if not self._accepted:
            await self._accept({})
        # The client may have disconnected already.
        with contextlib.suppress(WebSocketDisconnect, OSError, RuntimeError):
            await self._socket.close(code=close.code, reason=close.reason)

    async def _accept(self, headers: dict[str, str]) -> None:
        await self._socket.accept(subprotocols=self._subprotocol, headers=headers)
        self._accepted = True

    async def _send_until_disconnect(
        self, actor: Actor, after: int, expires: float, subscription: Subscription
    ) -> None:
        """Send events until the client disconnects; `expires` is in seconds since 1970."""
        failure: Close | UnavailableError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_at_disconnect, tasks.cancel_scope)
            with anyio.move_on_after(max(0.0, expires - time.time())) as until_expiry:
                try:
                    await self._send_events(actor, after, subscription)
                except (Close, UnavailableError) as error:
                    # Raise it later, because the task group would wrap it in an ExceptionGroup.
                    failure = error
                except (WebSocketDisconnect, OSError):  # the client disconnected meanwhile
                    pass
            if until_expiry.cancelled_caught:
                failure = Close(EXPIRED, "The token has expired")
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _authenticate(self) -> tuple[Actor, float]:
        """Return the caller, and the expiry of the token in seconds since 1970."""
        try:
            verified = await self._verifier.verify(self._authorization)
            actor = await self._operations.authenticate(verified.user)
        except Refusal as refusal:
            raise Close(UNAUTHORIZED, refusal.error) from None
        if actor is None:
            raise Close(UNAUTHORIZED, _INACTIVE_TEXT)
        self._socket.scope["user"] = actor
        return actor, verified.expires

    async def _start_position(self) -> int:
        """Return the id of the event after which this connection begins to send."""
        last_id: str | None = self._socket.query_params.get("last_event_id")
        if last_id is None:
            return await self._operations.newest_event_id()
        if not _EVENT_ID.fullmatch(last_id):
            raise Close(BAD_REQUEST, "last_event_id is not the id of an event")
        if not await self._operations.can_resume_after(int(last_id)):
            raise Close(GONE, "Events after this one have been deleted; fetch the calls again")
        return int(last_id)

    async def _send_events(self, actor: Actor, after: int, subscription: Subscription) -> None:
        while True:
            if subscription.closing is not None:
                raise Close(*subscription.closing)
            events = await self._operations.events_after(actor, after)
            for event in events:
                try:
                    with anyio.fail_after(SEND_TIMEOUT):
                        await self._socket.send_text(message(event, self._ids))
                except TimeoutError:
                    raise Close(TOO_SLOW, "The client reads events too slowly") from None
                after = event.id
            if not events:
                await subscription.wait()
                if await self._operations.authenticate(actor.user_id) is None:  # deactivated meanwhile
                    raise Close(UNAUTHORIZED, _INACTIVE_TEXT)

    async def _cancel_at_disconnect(self, scope: anyio.CancelScope) -> None:
        """Ignore the client's messages. When the client disconnects, cancel the scope."""
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await self._socket.receive_data(mode="text")
        scope.cancel()


def events_router(root: str, middleware: Sequence[Middleware]) -> Router:
    """Return the route of the WebSocket. Its handler authenticates, because it refuses by closing."""
    return Router(root, route_handlers=[events], middleware=middleware)
