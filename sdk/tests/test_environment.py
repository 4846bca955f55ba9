"""Proxies and certificates of the environment: requests and events agree, and errors name the variable."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from video_calls_sdk import AsyncVideoCallsClient, ConfigurationError, VideoCallsClient, VideoCallsError

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """Serve refusals, as a server or proxy; yield the port and the first line of each request."""
    lines: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    lines.append(connection.recv(65536).partition(b"\r\n")[0])
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1], lines
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def call(url: str) -> None:
    with VideoCallsClient(url, "token", retries=0, deadline=5) as client:
        client.calls.get(1)


def follow(url: str) -> None:
    with VideoCallsClient(url, "token", retries=0, deadline=5) as client, client.events():
        pass


@pytest.mark.parametrize(("use", "line"), [(call, b"GET http://calls.example/"), (follow, b"CONNECT calls.")])
def test_proxy_variable_without_scheme_is_used(
    environment: pytest.MonkeyPatch, listener: tuple[int, list[bytes]], use: Any, line: bytes
) -> None:
    port, lines = listener
    environment.setenv("HTTP_PROXY", f"127.0.0.1:{port}")
    with pytest.raises(VideoCallsError, match="403"):
        use("http://calls.example")
    assert [each.startswith(line) for each in lines] == [True]


@pytest.mark.parametrize("use", [call, follow])
@pytest.mark.parametrize("no_proxy", ["localhost,127.0.0.1/32,::1/128", "127.0.0.1", "example.com, *"])
def test_no_proxy_variable_bypasses_the_proxy(
    environment: pytest.MonkeyPatch, listener: tuple[int, list[bytes]], use: Any, no_proxy: str
) -> None:
    port, lines = listener
    environment.setenv("ALL_PROXY", "http://127.0.0.1:9")
    environment.setenv("NO_PROXY", no_proxy)
    with pytest.raises(VideoCallsError, match="403"):
        use(f"http://127.0.0.1:{port}")
    assert lines[0].startswith(b"GET /")


@pytest.mark.parametrize(
    ("value", "setting"),
    [
        ("socks5://me:pass@127.0.0.1:9", "ALL_PROXY=socks5://***@127.0.0.1:9"),
        ("me:pass@127.0.0.1:port", "ALL_PROXY=***@127.0.0.1:port"),
        ("ftp://127.0.0.1", "ALL_PROXY=ftp://127.0.0.1"),
        ("http://", "ALL_PROXY=http://"),
    ],
)
def test_unusable_proxy_is_named_without_password(
    environment: pytest.MonkeyPatch, value: str, setting: str
) -> None:
    environment.setenv("ALL_PROXY", value)
    for client in (VideoCallsClient, AsyncVideoCallsClient):
        with pytest.raises(ConfigurationError) as raised:
            client("http://calls.example", "token")
        assert str(raised.value).startswith(f"{setting}: ")
        assert "pass" not in str(raised.value)


def test_missing_certificate_file_names_its_variable(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE=.*missing\.pem.*: "):
        VideoCallsClient("https://calls.example", "token")
