"""What a handler answers: a status, headers and a JSON body, as one small ASGI application.

Litestar's `Response` can do a great deal more, and building one took a fifth of the time of a GET.
"""

from collections.abc import Iterable

import msgspec
from litestar.types import Receive, Scope, Send

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
