"""Errors on every path, request ids, CORS, the rate limit, and the pages."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from video_calls_spec import openapi_path

from support.api import CALLS, Api

VALID = b'{"doctor": 1, "patient": 1, "scheduled_time": "2024-01-05T10:00:00Z"}'
JSON = {"Content-Type": "application/json"}


def assert_error(response: httpx.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert (response.json()["code"], bool(response.json()["error"])) == (code, True)
    assert response.headers["x-request-id"]


# -- Bodies -----------------------------------------------------------------------------------------


@pytest.mark.rule("errors.malformed-json", "errors.body", "errors.no-server-error")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        VALID + b"x",
        VALID.replace(b"1", b"NaN"),
        b'{"a":' * 10_000,
        "﻿".encode() + VALID,
        VALID.decode().encode("utf-16"),
    ],
)
def test_body_without_json_object_is_refused(read_only_api: Api, content: bytes) -> None:
    response = read_only_api.post("doctor", CALLS, content=content, headers=JSON)
    assert_error(response, 400, "errors.malformed-json")


@pytest.mark.rule("errors.media-type")
@pytest.mark.parametrize("content_type", [None, "text/plain", "application/jsonx"])
def test_media_type_other_than_json_is_refused(read_only_api: Api, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = read_only_api.post("doctor", CALLS, content=VALID, headers=headers)
    assert_error(response, 415, "errors.media-type")
    assert response.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"]
)
def test_json_media_type_may_have_parameters(api: Api, content_type: str) -> None:
    response = api.post("doctor", CALLS, content=VALID, headers={"Content-Type": content_type})
    assert response.status_code == 201


@pytest.mark.rule("errors.body-size")
def test_body_over_64_kib_is_refused(api: Api) -> None:
    padded = VALID[:-1] + b', "x": "' + b"x" * (65536 - len(VALID) - 9) + b'"}'
    assert len(padded) == 65536
    assert api.post("doctor", CALLS, content=padded, headers=JSON).status_code == 201
    assert_error(api.post("doctor", CALLS, content=padded + b" ", headers=JSON), 413, "errors.body-size")
    chunks = iter([padded, b" "])
    assert_error(api.post("doctor", CALLS, content=chunks, headers=JSON), 413, "errors.body-size")


# -- Paths and methods ------------------------------------------------------------------------------


@pytest.mark.rule("errors.unknown-path")
@pytest.mark.parametrize(
    "path",
    ["/api/v1/video/", "/api/v1/video/calls/", "/nothing", f"{CALLS}1/no-such-action/", "/%ff"],
)
def test_unknown_path_is_not_found(read_only_api: Api, path: str) -> None:
    assert_error(read_only_api.get("doctor", path), 404, "errors.unknown-path")


@pytest.mark.rule("errors.trailing-slash")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", CALLS[:-1]),
        ("POST", f"{CALLS}1/cancel"),
        ("POST", f"{CALLS}1/cancel%2F"),
        ("POST", f"{CALLS}1//cancel/"),
        ("POST", f"{CALLS}/1/cancel/"),
    ],
)
def test_misplaced_slash_in_path_is_refused(api: Api, method: str, path: str) -> None:
    call = api.call()
    response = api.client.request(method, path, headers=api.headers("doctor") | JSON, content=VALID)
    assert_error(response, 404, "errors.trailing-slash")
    assert "slash" in response.json()["error"]
    assert api.get("doctor").json()["results"] == [call]


@pytest.mark.rule("errors.method-not-allowed", "errors.allow-header", "errors.body-everywhere")
@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (CALLS, {"GET", "POST"}),
        (f"{CALLS}1/", {"GET"}),
        (f"{CALLS}1/join/", {"POST"}),
        (f"{CALLS}1/end/", {"POST"}),
        (f"{CALLS}1/cancel/", {"POST"}),
    ],
)
def test_unsupported_method_is_refused(api: Api, path: str, methods: set[str]) -> None:
    call = api.call()
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND"} - methods:
        response = api.client.request(method, path, headers=api.headers("doctor") | JSON, content=VALID)
        assert response.status_code == 405, method
        assert set(response.headers["allow"].split(", ")) == methods
        if method != "HEAD":
            assert_error(response, 405, "errors.method-not-allowed")
    assert api.get("doctor").json()["results"] == [call]


# -- Tracing ----------------------------------------------------------------------------------------


@pytest.mark.rule("tracing.request-id")
def test_request_id_is_echoed_or_generated(read_only_api: Api) -> None:
    echoed = read_only_api.client.get("/nothing", headers={"X-Request-ID": "trace-1.2:3_4"})
    assert echoed.headers["x-request-id"] == "trace-1.2:3_4"
    generated = {read_only_api.client.get("/nothing").headers["x-request-id"] for _ in range(3)}
    assert len(generated) == 3


@pytest.mark.parametrize("request_id", ["a b", "x" * 129, "é"])
def test_invalid_request_id_is_replaced(read_only_api: Api, request_id: str) -> None:
    response = read_only_api.client.get("/nothing", headers={"X-Request-ID": request_id.encode("latin-1")})  # type: ignore[dict-item]
    assert len(response.headers["x-request-id"]) == 32


@pytest.mark.rule("privacy.errors")
def test_server_error_hides_its_cause(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise LookupError("secret detail")

    api.client.app.state.namespaces.default.operations.page = fail
    response = api.get("doctor")
    assert_error(response, 500, "internal_error")
    assert "secret detail" not in response.text
    assert "secret detail" in caplog.text


# -- CORS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:5173", "https://[::1]:8443"])
def test_loopback_origin_is_allowed(read_only_api: Api, origin: str) -> None:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    preflight = read_only_api.client.options(CALLS, headers=headers)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == origin
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    for path in (CALLS, "/nothing", CALLS[:-1]):
        refusal = read_only_api.client.get(path, headers={"Origin": origin})
        assert refusal.headers["access-control-allow-origin"] == origin, path
        assert "x-request-id" in refusal.headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost.evil.example", "http://localhost:3000.evil.example", "null"],
)
def test_other_origin_is_refused(read_only_api: Api, caplog: pytest.LogCaptureFixture, origin: str) -> None:
    page = read_only_api.client.get("/healthz", headers={"Origin": origin})
    preflight_headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = read_only_api.client.options(CALLS, headers=preflight_headers)
    assert "access-control-allow-origin" not in page.headers.keys() | preflight.headers.keys()
    assert_error(preflight, 403, "cors")
    for text in (preflight.json()["error"], caplog.text):
        assert origin in text
        assert "--cors-origin" in text


@pytest.mark.parametrize("origin", ["https://app.example.com", "capacitor://localhost", "null"])
def test_configured_origin_is_allowed_with_credentials(make_api: Callable[..., Api], origin: str) -> None:
    response = make_api(cors_origin=(origin,)).client.get("/healthz", headers={"Origin": origin})
    assert response.headers["access-control-allow-origin"] == origin
    assert response.headers["access-control-allow-credentials"] == "true"


# -- Rate limit -------------------------------------------------------------------------------------


@pytest.mark.rule("limits.rate")
def test_user_over_rate_limit_gets_retry_after(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(rate_limit="3/minute")
    doctor, patient = api.headers("doctor"), api.headers("patient")
    monkeypatch.setattr("video_calls_server.operations.time.time", lambda: 1704441615.5)
    assert [api.client.get(CALLS, headers=doctor).status_code for _ in range(3)] == [200] * 3
    refusal = api.client.get(f"{CALLS}1/", headers=doctor)
    assert_error(refusal, 429, "limits.rate")
    assert refusal.headers["retry-after"] == "45"
    assert api.client.get(CALLS, headers=patient).status_code == 200
    monkeypatch.setattr("video_calls_server.operations.time.time", lambda: 1704441660.0)
    assert api.client.get(CALLS, headers=doctor).status_code == 200


# -- Pages ------------------------------------------------------------------------------------------


def test_openapi_yaml_is_the_contract(read_only_api: Api) -> None:
    assert read_only_api.client.get("/openapi.yaml").content == openapi_path().read_bytes()


def test_docs_page_loads_nothing_from_other_hosts(read_only_api: Api) -> None:
    page = read_only_api.client.get("/docs/").text
    assert "://" not in page
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert read_only_api.client.get(f"/docs/assets/{asset}").status_code == 200


def test_static_directory_is_served(make_api: Callable[..., Api], tmp_path: Any) -> None:
    (tmp_path / "index.html").write_text("<p>app</p>")
    api = make_api(static=tmp_path)
    assert api.client.get("/app/").text == "<p>app</p>"
    for page in ("/app", "/docs"):  # relative links start from the last slash
        redirect = api.client.get(page, follow_redirects=False)
        assert (redirect.status_code, redirect.headers["location"]) == (307, f"{page[1:]}/")
    (tmp_path / ".env").write_text("SECRET=1")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    outside = ("link", "folder/passwd", "../settings.py", "%2e%2e/%2e%2e/etc/passwd")
    for path in (*outside, ".env", "a%00b", "x" * 5000, "%ff"):
        assert_error(api.client.get(f"/app/{path}"), 404, "errors.unknown-path")
