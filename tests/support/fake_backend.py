"""A backend in a few lines, whose responses a test chooses."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKENS = {"doctor": "eyJoe.doctors-own-token.sig", "patient": "eyJoe.patients-own-token.sig"}
CERTIFICATE = "0123456789abcdef" * 2
HOSTILE = "<script>alert(1)</script> \x1b[31mred [bold]x[/] ``` \x00 | &amp; </code> \u202e \x9b @everybody"


@dataclass
class Request:
    method: str
    path: str
    authorization: str | None


CALL = {
    "id": 7,
    "doctor": 1,
    "patient": 1,
    "status": "scheduled",
    "scheduled_time": "2099-01-01T00:00:00Z",
    "channel_name": "call_1",
}

Answer = Callable[[Request], tuple[int, Any]]


@dataclass
class FakeBackend:
    url: str
    requests: list[Request] = field(default_factory=list[Request])

    def toml(self) -> str:
        lines = [f"base_url = {json.dumps(self.url)}", f'agora = {{ app_certificate = "{CERTIFICATE}" }}']
        for name, token in TOKENS.items():
            lines += [f"[identities.{name}]", "id = 1", f"token = {json.dumps(token)}"]
        return "\n".join(lines)


def scheduling(request: Request) -> tuple[int, Any]:
    """Accept one call and its cancellation, and list nothing."""
    if not request.authorization:
        return 401, {"error": "who?"}
    if request.method == "POST" and request.path.endswith("/video-calls/"):
        return 201, CALL
    if request.path.endswith("/7/"):
        return 200, CALL
    if request.path.endswith("/cancel/"):
        return 200, {"id": 7, "status": "cancelled"}
    return 200, {"count": 0, "next": None, "previous": None, "results": []}


def echoing(request: Request) -> tuple[int, Any]:
    """Answer as `scheduling`, but reveal secrets in the error for a missing token."""
    if request.authorization:
        return scheduling(request)
    return 500, {"error": f"{HOSTILE} {[*TOKENS.values(), CERTIFICATE]}"}


@contextmanager
def fake_backend(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[FakeBackend]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, self.headers.get("Authorization"))
            backend.requests.append(request)
            status, body = answer(request)
            content = json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # the suite has closed the connection
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    backend = FakeBackend(f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/api/v1/video")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield backend
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
