"""Limits and timeouts of requests, trailers and upgrades, with raw sockets."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from support.api import CALLS
from support.server_process import ServerProcess, server_processes

BODY = '{"doctor": 1, "patient": 1, "scheduled_time": "2999-01-01T00:00:00Z"}'
CHUNKED = f"{len(BODY):x}\r\n{BODY}\r\n0\r\n"


@pytest.fixture(scope="module")
def impatient_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server with short timeouts."""
    with server_processes(tmp_path_factory.mktemp("server")) as start:
        yield start("--database", ":memory:", "--request-timeout", "0.5", "--keep-alive-timeout", "1")


def connect(process: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(process.url.rpartition(":")[2])), timeout=30)


def head_of(process: ServerProcess, *fields: str, method: str = "POST", path: str = CALLS) -> str:
    """Return a request head with the doctor's token and these fields at its end."""
    bearer = f"Authorization: {process.headers()['Authorization']}"
    start = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", bearer]
    return "\r\n".join([*start, *fields, "", ""])


def response_to(process: ServerProcess, request: str, *, closes: bool = True) -> tuple[int, str]:
    """Return the status and the body, up to the end of the connection or of Content-Length."""
    with connect(process) as connection:
        connection.sendall(request.encode())
        stream = connection.makefile("rb")
        status = int(stream.readline().split()[1])
        length = 0
        while (line := stream.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.split()[1])
        return status, (stream.read() if closes else stream.read(length)).decode()


@pytest.mark.parametrize(
    "request_head",
    [
        f"GET / HTTP/1.1\r\nX: {'x' * 2**21}\r\n\r\n",
        "GET / HTTP/1.1\r\n" + f"X: {'x' * 60}\r\n" * 2**11 + "\r\n",
        f"GET /{'x' * 2**16} HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["field", "fields", "target"],
)
def test_head_over_64_kib_is_refused(server: ServerProcess, request_head: str) -> None:
    status, body = response_to(server, request_head)
    assert (status, json.loads(body)["code"]) == (431, "headers_too_large")


def test_head_of_60_kib_is_served(server: ServerProcess) -> None:
    assert response_to(server, head_of(server, f"X: {'x' * 60_000}", method="GET"), closes=False)[0] == 200


def test_malformed_request_gets_json_error(server: ServerProcess) -> None:
    status, body = response_to(server, "FOO / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, json.loads(body)["code"]) == (400, "bad_request")


def test_trailer_is_not_read_as_header(server: ServerProcess) -> None:
    without_token = head_of(server, "Transfer-Encoding: chunked").replace("Authorization", "Y")
    token_after = f"{without_token}{CHUNKED}{head_of(server).splitlines()[3]}\r\n\r\n"
    assert response_to(server, token_after, closes=False)[0] == 401
    other_host = head_of(server, "Transfer-Encoding: chunked", path="/_control/state/reset")
    host_after = other_host.replace("Host: localhost", "Host: example.com") + "0\r\nHost: localhost\r\n\r\n"
    assert response_to(server, host_after, closes=False)[0] == 403


def test_endless_trailer_is_refused(server: ServerProcess) -> None:
    request = f"{head_of(server, 'Transfer-Encoding: chunked')}{CHUNKED}X: {'x' * 2**21}"
    assert response_to(server, request)[0] == 431


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.2", "websocket"])  # a WebSocket needs a GET
@pytest.mark.parametrize(
    "body", [f"Content-Length: {len(BODY)}\r\n\r\n{BODY}", f"Transfer-Encoding: chunked\r\n\r\n{CHUNKED}\r\n"]
)
def test_unsupported_upgrade_is_ignored(server: ServerProcess, protocol: str, body: str) -> None:
    head = head_of(server, "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}").removesuffix("\r\n")
    unknown_doctor = body.replace(": 1", ": 0")
    last = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    _, responses = response_to(server, head + unknown_doctor + last)
    assert '"doctor"' in responses
    assert responses.endswith('{"status":"ok"}')


@pytest.mark.parametrize(("version", "closing"), [("1.1", "Connection: close"), ("1.0", "X: y")])
def test_upgrade_on_closing_connection_gets_http_response(
    impatient_server: ServerProcess, version: str, closing: str
) -> None:
    head = head_of(impatient_server, "Connection: Upgrade", "Upgrade: h2c", closing, method="GET")
    assert response_to(impatient_server, head.replace("HTTP/1.1", f"HTTP/{version}", 1))[0] == 200


@pytest.mark.parametrize("field", ["Content-Length: 1", "Transfer-Encoding: chunked", f"X: {'x' * 2**14}"])
def test_malformed_handshake_is_refused(server: ServerProcess, field: str) -> None:
    upgrade = "Connection: Upgrade", "Upgrade: websocket"
    request = head_of(server, *upgrade, field, method="GET", path="/api/v1/video/events/")
    assert response_to(server, request)[0] == 400


@pytest.mark.parametrize(
    "part", ["GET / HTTP/1.1\r\nHo", "Content-Length: 9\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{"]
)
def test_incomplete_request_times_out(impatient_server: ServerProcess, part: str) -> None:
    request = part if part.startswith("GET") else head_of(impatient_server).removesuffix("\r\n") + part
    status, body = response_to(impatient_server, request)
    assert (status, json.loads(body)["code"]) == (408, "request_timeout")


@pytest.mark.parametrize("data", [b"", b"\r\n"])
def test_silent_connection_is_closed(impatient_server: ServerProcess, data: bytes) -> None:
    with connect(impatient_server) as connection:
        connection.sendall(data)
        assert connection.recv(1) == b""


def test_idle_connection_is_closed_after_keep_alive(impatient_server: ServerProcess) -> None:
    started = time.monotonic()
    assert response_to(impatient_server, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 200
    assert time.monotonic() - started > 0.9
