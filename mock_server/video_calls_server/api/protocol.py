"""What is beneath HTTP: the answer to what is no request at all, and connections that an application drops.

No application ever sees the first; for the second it finds `DROP` among the extensions of its scope.
"""

import asyncio

import msgspec

from video_calls_server._structs import Error

MALFORMED = msgspec.json.encode(Error(error="This is not a valid HTTP request", code="bad_request"))

DROP = "video_calls.drop"
"""The extension of a scope by which an application drops the connection of a request.

It holds two functions: `abort` forgets what is not sent yet, `close` sends it first. The application then
waits for the disconnect that it will receive.
"""


def http_protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, answering malformed requests in JSON as everything else is."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class JsonErrors(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
            super().connection_made(transport)
            self._extensions: dict[str, dict[object, object]] = {
                DROP: {"abort": transport.abort, "close": transport.close}
            }

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["extensions"] = self._extensions

        def handle_websocket_upgrade(self) -> None:
            super().handle_websocket_upgrade()
            # The new protocol has made its scope, which the application has yet to see.
            scope = getattr(self.transport.get_protocol(), "scope", None)
            if scope is not None:  # which a refused handshake has not
                scope["extensions"] |= self._extensions

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's words, not ours)
            head = (
                "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
                f"content-length: {len(MALFORMED)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + MALFORMED)
            self.transport.close()

    return JsonErrors
