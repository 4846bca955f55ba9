"""What a handler answers: a status, headers and a JSON body, as one small ASGI application.

Litestar's `Response` can do a great deal more, and building one took a fifth of the time of a GET.
"""

import logging
from collections.abc import Iterable

import msgspec
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from video_calls_server._structs import Error

logger = logging.getLogger("video_calls_server")

Header = tuple[bytes, bytes]

_encode = msgspec.json.Encoder().encode


class Answer:
    """A JSON answer; Litestar takes any ASGI application as the result of a handler."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: msgspec.Struct, *, status: int = 200, headers: Iterable[Header] = ()) -> None:
        self.status = status
        self.body = _encode(body)
        self.headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self.body)),
            *headers,
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI)
        """Send it."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


async def refuse(  # noqa: PLR0917 (the last three are ASGI's)
    error: Error, status: int, scope: Scope, receive: Receive, send: Send, headers: Iterable[Header] = ()
) -> None:
    """Answer a request with an error, or close a WebSocket that is not accepted yet, and log why."""
    logger.info("request refused: %s", error.error)
    if scope["type"] == ScopeType.HTTP:
        await Answer(error, status=status, headers=headers)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 4000 + status, "reason": error.error})
