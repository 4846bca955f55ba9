"""Access to the control API: only from this machine or, if a key is set, only with the key."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from litestar.exceptions import WebSocketDisconnect
from video_calls_server.settings import Settings, SettingsError

from support.api import CALLS, Api

EVENTS = "/api/v1/video/events/"
KEY = "correct horse battery staple"
KEY_HEADER = "Video-Calls-Control-Key"
OWN_SECRETS = {
    "jwt_secret": "a secret of thirty-two bytes or more",
    "agora_app_id": "0123456789abcdef" * 2,
    "agora_app_certificate": "fedcba9876543210" * 2,
}


def assert_refused(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json()["code"] == "control_key"
    for word in words:
        assert word in response.json()["error"]


def from_peer(api: Api, peer: str | None, path: str = "/_control/server", **headers: str) -> httpx.Response:
    """Return the response to a client at this address."""

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(api.client.app, client=peer and (peer, 50000))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(get())


# -- Without a key -----------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["127.8.8.8", "::ffff:127.0.0.1"])
def test_loopback_peer_may_control(api: Api, peer: str) -> None:
    assert from_peer(api, peer).status_code == 200


# None: a peer on a Unix socket has no address.
@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "unknown", None])
def test_other_peer_may_not_control(api: Api, peer: str | None) -> None:
    assert_refused(from_peer(api, peer), 403, peer or "unknown address", "--control-key")
    assert_refused(from_peer(api, peer, "/_ns/w/healthz"), 403)


@pytest.mark.parametrize(
    "header",
    [
        {"X-Forwarded-For": "unknown"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "192.0.2.7"},
        {"Via": "1.1 proxy"},
        {"CF-Connecting-IP": "192.0.2.7"},
    ],
)
def test_request_through_proxy_may_not_control(api: Api, header: dict[str, str]) -> None:
    assert_refused(from_peer(api, "127.0.0.1", **header), 403, "proxy", "--control-key")
    assert from_peer(api, "127.0.0.1", CALLS, **header).status_code == 401  # the API accepts proxies


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("localhost@evil.example", 403),
        ("app.localhost:8000", 403),
        ("evil.example#localhost", 400),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_host_after_dns_rebinding_may_not_control(api: Api, host: str, status: int) -> None:
    response = api.control("GET", "/server", headers={"Host": host})
    assert response.status_code == status, response.text
    if status == 403:
        assert_refused(response, 403)


def test_page_of_other_site_may_not_control(make_api: Callable[..., Api]) -> None:
    api = make_api(cors_origin=("https://app.example.com", "capacitor://localhost", "null"))
    for origin in ("capacitor://localhost", "https://app.example.com", "https://evil.example", "null", ""):
        response = api.control("POST", "/clock/advance", {"minutes": 1}, headers={"Origin": origin})
        assert_refused(response, 403, "a page of")
        assert response.headers.get("access-control-allow-origin") != origin
    assert api.manage("GET", "/clock")["offset"] == 0


# -- Pages on loopback ---------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://[::1]:5173"])
@pytest.mark.parametrize("place", ["", "/_ns/worker-1"])
def test_page_on_loopback_may_control(api: Api, place: str, origin: str) -> None:
    headers = {"Origin": origin}
    preflight_headers = headers | {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": f"content-type,{KEY_HEADER}",
    }
    preflight = api.client.options(f"{place}/_control/clock", headers=preflight_headers)
    assert preflight.is_success
    assert preflight.headers["access-control-allow-origin"] == origin
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert KEY_HEADER.lower() in preflight.headers["access-control-allow-headers"].lower()
    for body, status in (({"running": False}, 200), ({"time": 1}, 400)):
        put = api.client.put(f"{place}/_control/clock", json=body, headers=headers)
        assert (put.status_code, put.headers["access-control-allow-origin"]) == (status, origin)


@pytest.mark.parametrize("path", ["/", "/docs/", "/_control/docs", "/_console/meeting.html", "/_ns/w/docs/"])
def test_page_cannot_be_framed(api: Api, path: str) -> None:
    response = api.client.get(path)
    assert response.status_code == 200
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]


# -- With a key --------------------------------------------------------------------------------------


def test_wrong_key_is_refused(make_api: Callable[..., Api]) -> None:
    api = make_api(control_key=KEY)
    assert_refused(api.control("GET", "/server"), 401, "missing", KEY_HEADER)
    for wrong in (KEY[:-1], f"{KEY}!", KEY.upper(), "é"):
        headers = [(b"host", b"localhost"), (KEY_HEADER.encode(), wrong.encode("latin-1"))]
        assert_refused(api.client.get("/_control/server", headers=headers), 401, "wrong")
    assert api.control("GET", "/server", headers={KEY_HEADER: KEY}).json()["key_required"] is True
    for method, path in (("GET", "/identities"), ("POST", "/state/reset"), ("GET", "/requests/stream")):
        assert_refused(api.control(method, path), 401)
    for place in ("/_ns/worker-1/_control/identities", "/_control/rules"):
        assert_refused(api.client.get(place), 401)


def test_remote_peer_with_key_may_control(make_api: Callable[..., Api]) -> None:
    api = make_api(host="0.0.0.0", control_key=KEY, **OWN_SECRETS)  # noqa: S104
    assert_refused(from_peer(api, "192.0.2.7"), 401)
    response = from_peer(api, "192.0.2.7", **{KEY_HEADER: KEY, "Host": "server.example.com"})
    assert response.status_code == 200


def test_docs_page_needs_no_key(make_api: Callable[..., Api]) -> None:
    api = make_api(control_key=KEY)
    for path in ("/", "/_control/docs", "/_control/openapi.json"):
        assert api.client.get(path).status_code == 200
        assert KEY not in api.client.get(path).text
    assert api.control("GET", "/openapi.json").json()["security"] == [{"control_key": []}]


@pytest.mark.parametrize("key", ["k" * 15, "é" * 20, "k" * 20 + "\n"])
def test_invalid_key_is_refused_at_start(key: str) -> None:
    with pytest.raises(SettingsError, match="control_key"):
        Settings(control_key=key)


# -- Namespaces and faults ---------------------------------------------------------------------------

KEYED = {KEY_HEADER: KEY}


def names(api: Api) -> list[str]:
    return [namespace["name"] for namespace in api.control("GET", "/namespaces", headers=KEYED).json()]


@pytest.mark.parametrize("path", ["/healthz", CALLS, "/_control/server"])
def test_namespace_needs_key_to_be_created(make_api: Callable[..., Api], path: str) -> None:
    api = make_api(control_key=KEY)
    assert_refused(api.get("doctor", f"/_ns/w{path}"), 401, KEY_HEADER)
    by_header = api.client.get(path, headers=api.headers("doctor") | {"Video-Calls-Namespace": "w"})
    assert_refused(by_header, 401, KEY_HEADER)
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        api.client.websocket_connect(f"/_ns/w{EVENTS}", headers=api.headers("doctor")) as session,
    ):
        session.receive_json(timeout=30)
    assert closed.value.code == 4401
    origin = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    preflight = api.client.options(f"/_ns/w{path}", headers=origin)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (
        204,
        origin["Origin"],
    )
    assert names(api) == [""]
    assert api.client.get("/_ns/w/_control/clock", headers=KEYED).status_code == 200
    assert api.get("doctor", f"/_ns/w{CALLS}").status_code == 200  # now the namespace exists
    assert_refused(api.client.get("/_ns/w/_control/clock"), 401)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:3000"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
    ids=str,
)
def test_page_of_other_site_creates_no_namespace(api: Api, headers: dict[str, str], status: int) -> None:
    assert api.client.get("/_ns/w/healthz", headers=headers).status_code == status
    is_created = "w" in [namespace["name"] for namespace in api.manage("GET", "/namespaces")]
    assert is_created is (status == 200)


def test_fault_header_needs_key(make_api: Callable[..., Api]) -> None:
    api = make_api(control_key=KEY)
    headers = api.headers("doctor") | {"Video-Calls-Fault": "status=503", "Origin": "http://localhost:3000"}
    refusal = api.client.get(CALLS, headers=headers)
    assert_refused(refusal, 401, "Video-Calls-Fault", KEY_HEADER)
    assert refusal.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert api.client.get(CALLS, headers=headers | KEYED).status_code == 503


def test_fault_header_of_remote_peer_is_refused(api: Api) -> None:
    assert_refused(from_peer(api, "192.0.2.7", CALLS, **{"Video-Calls-Fault": "drop"}), 403, "192.0.2.7")


# -- Disabled control -----------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"control": False}, {"host": "0.0.0.0"} | OWN_SECRETS])  # noqa: S104
def test_disabled_control_has_no_routes(make_api: Callable[..., Api], options: dict[str, Any]) -> None:
    api = make_api(**options)
    for path in ("/_control/server", "/_control/docs", "/_control/openapi.json", "/_ns/w/healthz"):
        response = api.client.get(path, headers={"Host": "localhost"})
        assert (response.status_code, response.json()["code"]) == (404, "errors.unknown-path"), path
    root = api.client.get("/", follow_redirects=False)
    assert (root.status_code, root.headers["location"]) == (307, "docs/")
    call = api.create(headers={"Video-Calls-Namespace": "worker-1", "Video-Calls-Fault": "status=503"}).json()
    assert api.get("doctor").json()["results"] == [call]


@pytest.mark.parametrize(
    "option", [{"seed_calls": 5}, {"clock": "2030-01-01T00:00:00Z"}, {"fault": ("drop",)}]
)
def test_option_that_needs_control_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="control is off"):
        Settings(control=False, **option)
