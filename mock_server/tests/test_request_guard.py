"""Checks of every request: one Host, one Authorization, and development secrets only on loopback."""

import asyncio
from typing import Any

import pytest
from video_calls_server import Settings, create_app
from video_calls_server.agora.tokens import DEVELOPMENT_PROJECT
from video_calls_server.settings import SettingsError

OWN_SECRETS = {"jwt_secret": "x" * 32, "agora_app_id": "1" * 32, "agora_app_certificate": "2" * 32}
LOOPBACK, LAN = ("127.0.0.1", 8000), ("192.0.2.7", 8000)
HOST = (b"host", b"localhost")
APP = create_app(Settings(database=":memory:"))
APP_WITH_OWN_SECRETS = create_app(Settings(database=":memory:", **OWN_SECRETS))


def status_of(
    *headers: tuple[bytes, bytes],
    path: str = "/healthz",
    server: Any = LOOPBACK,
    client: Any = LOOPBACK,
    kind: str = "http",
    app: Any = APP,
) -> int:
    """Return the status of the response, or the close code of a WebSocket."""
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    scope = {
        "type": kind,
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "server": server,
        "client": client,
    }
    asyncio.run(app(scope, receive, send))
    return int(messages[0].get("status") or messages[0]["code"])


@pytest.mark.parametrize("path", ["/healthz", "/_control/clock", "/api/v1/video/video-calls/"])
@pytest.mark.parametrize(
    "headers", [(), (HOST, HOST), (HOST, (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b"))]
)
def test_ambiguous_headers_are_refused(headers: tuple[tuple[bytes, bytes], ...], path: str) -> None:
    assert status_of(*headers, path=path) == 400


def test_websocket_with_two_hosts_is_refused() -> None:
    assert status_of(HOST, HOST, path="/api/v1/video/events/", kind="websocket") == 4400


@pytest.mark.parametrize(
    ("server", "client", "status"),
    [
        (LOOPBACK, LAN, 200),  # a proxy on this machine reports a remote client
        (("::ffff:127.0.0.1", 8000), None, 200),
        (("testserver", 80), ("testclient", 50000), 200),
        (("/run/calls.sock", None), None, 200),
        (LAN, LOOPBACK, 403),
        (("2001:db8::1", 8000), None, 403),
        (("api.example.com", 443), LAN, 403),  # the adapter fills in the `Host` header
        (None, LAN, 403),
    ],
)
def test_server_with_development_secrets_serves_only_loopback(server: Any, client: Any, status: int) -> None:
    assert status_of(HOST, server=server, client=client) == status


def test_server_with_own_secrets_serves_every_address() -> None:
    assert status_of(HOST, server=LAN, client=LAN, app=APP_WITH_OWN_SECRETS) == 200


@pytest.mark.parametrize("change", [str, str.upper])
def test_configured_development_certificate_is_refused_beyond_loopback(change: Any) -> None:
    secrets = OWN_SECRETS | {"agora_app_certificate": change(DEVELOPMENT_PROJECT.app_certificate)}
    with pytest.raises(SettingsError, match="development secrets"):
        Settings(host="0.0.0.0", **secrets)  # noqa: S104 (refused)
