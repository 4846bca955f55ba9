"""The error body for what is no HTTP request at all, which no application ever sees."""

import asyncio

import msgspec

from video_calls_server._structs import Error

MALFORMED = msgspec.json.encode(Error(error="This is not a valid HTTP request", code="bad_request"))


def http_protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, answering malformed requests in JSON as everything else is."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class JsonErrors(HttpToolsProtocol):
        def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's words, not ours)
            head = (
                "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
                f"content-length: {len(MALFORMED)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + MALFORMED)
            self.transport.close()

    return JsonErrors
