"""The request log: details, redaction, filters, limits, curl commands and streaming."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from video_calls_server.control import request_log
from video_calls_server.control.client import Control
from video_calls_server.control.exchange import MAX_BODY, REDACTED
from video_calls_spec import RULES
from websockets.sync.client import connect

from support.api import CALLS, Api, in_memory
from support.listener import EVENTS, listening
from support.server_process import ServerProcess

SECRET = "agora-ncs-test-secret"


def log(api: Api, query: str = "") -> list[dict[str, Any]]:
    exchanges: list[dict[str, Any]] = api.manage("GET", f"/requests{query}")
    return exchanges


# -- Details -----------------------------------------------------------------------------------------


def test_exchange_has_all_details(api: Api) -> None:
    call = api.create(minutes=60).json()["id"]
    path = f"{CALLS}{call}/join/?x=%20y"
    response = api.post("patient", path, headers={"X-Request-ID": "mine-1"})
    exchange = log(api)[0]
    age = datetime.now(UTC) - datetime.fromisoformat(exchange.pop("at"))
    assert timedelta(0) < age < timedelta(minutes=1)
    assert exchange.pop("duration_ms") > 0
    assert exchange.pop("curl").startswith("curl ")
    logged_request, logged_response = exchange.pop("request"), exchange.pop("response")
    rule = RULES["join.window"]
    assert exchange == {
        "id": 2,
        "method": "POST",
        "path": path,
        "operation": "joinVideoCall",
        "call": call,
        "identity": "patient@example.com",
        "status": 400,
        "rule": {
            "id": "join.window",
            "level": rule.level,
            "section": rule.section,
            "statement": rule.statement,
        },
        "fault": None,
        "request_id": "mine-1",
    }
    assert logged_request["body"] is None
    assert ["authorization", f"Bearer {REDACTED}"] in logged_request["headers"]
    assert logged_response["body"] == response.text
    assert ["content-type", "application/json"] in logged_response["headers"]


def test_exchange_is_read_by_its_id(make_api: Callable[..., Api]) -> None:
    api = make_api()
    api.get("doctor")
    assert api.manage("GET", "/requests/1") == log(api)[0]
    for unknown in ("2", "9" * 30, "x"):
        response = api.control("GET", f"/requests/{unknown}")
        assert (response.status_code, "error" in response.json()) == (404, True)


def test_log_has_only_requests_to_the_api(make_api: Callable[..., Api]) -> None:
    api = make_api(agora_ncs_secret=SECRET)
    for path in ("/", "/healthz", "/docs/", "/openapi.yaml", "/_control/clock", "/_control/nothing"):
        api.client.get(path, headers={"Host": "localhost"})
    assert log(api) == []
    api.client.post("/agora/notifications/", content=b"{}")
    api.client.get("/api/nothing")
    api.client.get(CALLS)
    assert [(each["path"], each["status"], each["identity"]) for each in log(api)] == [
        (CALLS, 401, None),
        ("/api/nothing", 404, None),
        ("/agora/notifications/", 401, None),
    ]


def test_dropped_request_has_no_status(server: ServerProcess, control: Control) -> None:
    headers = server.headers() | {"Video-Calls-Fault": "drop; name=gone"}
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{control.base_url}/video-calls/", headers=headers)
    exchanges = control.requests.list(status="none")
    assert [(each.status, each.fault, each.response.headers, each.response.body) for each in exchanges] == [
        (None, "gone", [], None)
    ]


def test_handshake_is_logged_with_its_refusal(api: Api) -> None:
    with listening(api, "doctor"):
        pass
    with listening(api, None, headers={"Authorization": "Bearer x"}) as session:
        assert session.close_code() == 4401
    exchanges = [
        (each["method"], each["path"], each["operation"], each["status"], each["response"]["body"])
        for each in log(api)
    ]
    refusal = RULES["auth.valid-token"].error
    assert exchanges[0] == ("WEBSOCKET", EVENTS, "events", 4401, refusal)
    assert ("WEBSOCKET", EVENTS, "events", 101, None) in exchanges


# -- Redaction ---------------------------------------------------------------------------------------


def test_log_redacts_secrets_in_all_parts(api: Api) -> None:
    token = api.headers("doctor")["Authorization"].partition(" ")[2]
    call = api.call()
    joined = api.act("doctor", call["id"], "join").json()
    api.client.get(f"/api/{token}/?token={token}", headers={"Authorization": f"bearer {token}"})
    for headers in (
        {"Authorization": "hush-0 and more"},
        {"Authorization": "hush one"},
        {"Cookie": "session=hush-2; other=1", "X-Token": joined["token"]},
        {"Proxy-Authorization": "Basic hush-3", "Referer": f"http://a/?t={token}"},
    ):
        api.client.get(CALLS, headers=headers)
    api.post("doctor", CALLS, json={"token": "hush-4", "deep": [token, joined["token"]]})
    with api.client.websocket_connect(EVENTS, subprotocols=["bearer", token]):
        pass
    text = json.dumps(log(api))
    for secret in (token, token.rpartition(".")[2], joined["token"], joined["token"][40:], "hush"):
        assert secret not in text, secret
    [join] = log(api, f"?call={call['id']}&operation=joinVideoCall")
    assert json.loads(join["response"]["body"]) == joined | {"token": REDACTED}


def test_token_at_end_of_long_body_is_redacted(api: Api) -> None:
    body = json.dumps({"a": "x" * (MAX_BODY - 30), "token": "hush-hush-hush-hush-hush-hush-hush"})
    assert len(body) > MAX_BODY
    api.post("doctor", CALLS, content=body.encode())
    assert "hush" not in json.dumps(log(api))


# -- Filters -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seven_exchanges() -> Iterator[Api]:
    """Return an application after seven requests of several kinds."""
    with in_memory() as api:
        call = api.create().json()["id"]  # 1
        api.act("patient", call, "join")  # 2: 400
        api.get("outsider", f"{CALLS}{call}/")  # 3: 403
        fault = {"Video-Calls-Fault": "status=503; name=busy"}
        api.client.get(CALLS, headers=api.headers("doctor") | fault)  # 4
        api.client.get(CALLS)  # 5: 401
        api.act("doctor", call, "cancel")  # 6
        api.get("doctor")  # 7
        yield api


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [7, 6, 5, 4, 3, 2, 1]),
        ("?identity=doctor@example.com", [7, 6, 4, 1]),
        ("?operation=listVideoCalls", [7, 5, 4]),
        ("?status=4xx", [5, 3, 2]),
        ("?status=503", [4]),
        ("?rule=join.window", [2]),
        ("?call=1", [6, 3, 2]),
        ("?fault=busy", [4]),
        ("?after=5&limit=1", [7]),
        ("?limit=500&status=2xx&identity=doctor@example.com&operation=cancelVideoCall", [6]),
    ],
)
def test_exchanges_are_filtered(seven_exchanges: Api, query: str, expected: list[int]) -> None:
    assert [each["id"] for each in log(seven_exchanges, query)] == expected


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?status=abc", 400),
        ("?limit=501", 400),
        ("?call=x", 400),
        ("?identity=nobody@example.com", 404),
    ],
)
def test_invalid_filter_is_refused(seven_exchanges: Api, query: str, status: int) -> None:
    for place in ("", "/stream")[: 1 if "limit" in query else 2]:
        response = seven_exchanges.control("GET", f"/requests{place}{query}")
        assert response.status_code == status
        assert response.json()["error"]


# -- Limits ------------------------------------------------------------------------------------------


def test_log_keeps_the_last_exchanges(make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    api = make_api()
    monkeypatch.setattr(request_log, "MAX_EXCHANGES", 105)
    for _ in range(108):
        api.client.get("/api/")
    assert [each["id"] for each in log(api, "?limit=500")] == list(range(108, 3, -1))
    assert len(log(api)) == 100


@pytest.mark.parametrize(
    "options",
    [
        {"content": b" " * 10_000},
        {"headers": {f"X-{number}": "" for number in range(80)}},
    ],
    ids=["body", "many headers"],
)
def test_log_size_includes_bodies_and_headers(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    api = make_api()
    monkeypatch.setattr(request_log, "MAX_BYTES", 50_000)
    for _ in range(8):
        api.post("doctor", CALLS, **options)
    assert [each["id"] for each in log(api)] in ([8, 7, 6, 5], [8, 7, 6])
    api.manage("DELETE", "/requests")
    for _ in range(3):
        api.post("doctor", CALLS, **options)
    assert len(log(api)) == 3


def test_log_shows_part_of_large_body(api: Api) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(20):
            yield b"y" * 10_000

    assert api.post("doctor", CALLS, content=parts()).status_code == 413
    assert 10_000 < len(log(api)[0]["request"]["body"]) <= MAX_BODY + 100


def test_log_shows_body_that_arrived_incomplete(server: ServerProcess, control: Control) -> None:
    url = urlsplit(f"{control.base_url}/video-calls/")
    lines = [
        f"POST {url.path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: {server.headers()['Authorization']}",
        "Content-Length: 100",
    ]
    with following(control) as stream:
        with socket.create_connection((url.hostname, url.port), timeout=5) as connection:
            connection.sendall("\r\n".join([*lines, "", '{"doctor": 1']).encode())
        exchange = next(stream)
    assert (exchange["operation"], exchange["request"]["body"]) == ("createVideoCall", '{"doctor": 1')


# -- Curl commands -----------------------------------------------------------------------------------


HOSTILE = ["$(touch owned)", "'; touch owned; '", '"; touch owned; "', "\\'; touch owned", "@/etc/passwd"]


@pytest.mark.parametrize(
    "request_sent",
    [
        ("GET", "/video-calls/?page_size=1&x={a,b}[1-3]", {"headers": {"X-Sent": ""}}),
        ("POST", "/video-calls/", {"json": {"note": 'it\'s "quoted" $HOME `id` \\ \n \u00e9 !'}}),
        ("POST", "/video-calls/1/join/", {}),
        ("DELETE", "/video-calls/1/", {}),
        ("HEAD", "/video-calls/", {}),
        *(
            ("POST", f"/video-calls/?q={text}", {"content": text, "headers": {"X-Sent": text}})
            for text in HOSTILE
        ),
    ],
)
def test_curl_command_repeats_the_request(
    server: ServerProcess, control: Control, tmp_path: Path, request_sent: tuple[str, str, dict[str, Any]]
) -> None:
    method, path, options = request_sent
    with httpx.Client(base_url=control.base_url, headers=server.headers()) as client:
        client.request(method, path, **options)
    first = control.requests.list(limit=1)[0]
    token = server.headers()["Authorization"].partition(" ")[2]
    environment = os.environ | {"TOKEN": token}
    subprocess.run(["sh", "-c", first.curl], cwd=tmp_path, env=environment, timeout=20, check=True)
    again = control.requests.list(limit=1)[0]
    assert again.id == first.id + 1
    for name in ("method", "path", "status", "identity"):
        assert getattr(again, name) == getattr(first, name)
    assert (again.request.body, again.response.body) == (first.request.body, first.response.body)
    headers, headers_again = dict(first.request.headers), dict(again.request.headers)
    for name in ("content-type", "x-sent"):
        assert headers_again.get(name) == headers.get(name)
    assert list(tmp_path.iterdir()) == []


def test_curl_command_repeats_the_handshake(server: ServerProcess, control: Control, tmp_path: Path) -> None:
    url = f"{control.base_url}/events/".replace("http", "ws", 1)
    token = server.headers()["Authorization"].partition(" ")[2]
    for options in ({"subprotocols": ["bearer", token]}, {"additional_headers": server.headers()}):
        with connect(url, **options):  # type: ignore[arg-type]
            pass
        first = control.requests.list(limit=1)[0]
        assert token not in first.curl
        with following(control) as stream:
            command = subprocess.Popen(
                ["sh", "-c", f"exec {first.curl}"],
                cwd=tmp_path,
                env=os.environ | {"TOKEN": token},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            again = next(stream)
            command.kill()
            command.wait()
        assert (again["operation"], again["status"]) == ("events", 101)


@pytest.mark.parametrize("host", ["evil.example", "localhost -o owned"])
def test_curl_command_ignores_the_host_header(control: Control, host: str) -> None:
    control.requests.clear()  # the request that creates the namespace has another host
    httpx.get(f"{control.base_url}/video-calls/", headers={"Host": host})
    words = shlex.split(control.requests.list(limit=1)[0].curl)
    assert f"{control.base_url}/video-calls/" in words
    assert not any(host in word for word in words)


# -- Streaming ---------------------------------------------------------------------------------------


@contextmanager
def following(control: Control, query: str = "", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Open the stream. Yield its exchanges."""
    url = control.base_url.replace("/api/v1/video", "/_control/requests/stream") + query
    with httpx.stream("GET", url, headers=headers, timeout=30) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        lines = response.iter_lines()
        assert next(lines).startswith(":")

        def events() -> Iterator[dict[str, Any]]:
            event_id = ""
            for line in lines:
                if line.startswith("id:"):
                    event_id = line[3:].strip()
                if line.startswith("data:"):
                    exchange: dict[str, Any] = json.loads(line[5:])
                    assert event_id == str(exchange["id"])
                    yield exchange

        yield events()


def ask(server: ServerProcess, control: Control, path: str = "/video-calls/", user: str = "doctor") -> int:
    return httpx.get(f"{control.base_url}{path}", headers=server.headers(user)).status_code


def test_stream_sends_new_exchanges(server: ServerProcess, control: Control) -> None:
    ask(server, control)
    with (
        following(control) as first,
        following(control, "?status=4xx&identity=patient@example.com") as second,
    ):
        ask(server, control)
        ask(server, control, "/video-calls/9/")
        ask(server, control, "/video-calls/9/", "patient")
        exchanges = [next(first) for _ in range(3)]
        assert [(each["id"], each["status"]) for each in exchanges] == [(2, 200), (3, 404), (4, 404)]
        assert next(second) == exchanges[2]
        url = control.base_url.replace("/api/v1/video", "/_control/requests/4")
        assert exchanges[2] == httpx.get(url).json()


def test_stream_resumes_after_the_requested_id(server: ServerProcess, control: Control) -> None:
    for _ in range(3):
        ask(server, control)
    for query, headers in (("?after=1", {}), ("?after=0", {"Last-Event-ID": "1"})):
        with following(control, query, **headers) as stream:
            assert [next(stream)["id"] for _ in range(2)] == [2, 3]
    with following(control, "?after=40") as stream:  # the log has not reached this id
        assert next(stream)["id"] == 1


def test_stream_ends_with_its_namespace(api: Api) -> None:
    here = {"Host": "localhost"}
    with ThreadPoolExecutor() as threads:
        stream = threads.submit(api.client.get, "/_ns/w/_control/requests/stream?after=0", headers=here)
        while "w" not in [each["name"] for each in api.manage("GET", "/namespaces")]:
            time.sleep(0.01)
        api.client.get(f"/_ns/w{CALLS}")
        while not (exchanges := api.client.get("/_ns/w/_control/requests", headers=here).json()):
            time.sleep(0.01)
        api.manage("DELETE", "/namespaces/w")
    [data] = re.findall(r"^data: (.+)$", stream.result().text, re.MULTILINE)
    assert [json.loads(data)] == exchanges


def test_server_stops_with_an_open_stream(serve: Callable[..., ServerProcess]) -> None:
    process = serve("--database", ":memory:")
    with Control(process.url) as control, Control(process.url, namespace="w") as other:
        with following(control) as first, following(other) as second:
            process.popen.send_signal(signal.SIGTERM)
            assert (list(first), list(second)) == ([], [])
        assert process.popen.wait(30) == 0


def test_namespace_becomes_idle_after_stream_closes(server: ServerProcess, control: Control) -> None:
    def idle_seconds() -> float:
        namespaces = httpx.get(f"{server.url}/_control/namespaces").json()
        return next(each["idle_seconds"] for each in namespaces if each["name"] == name)

    name = control.base_url.split("/")[4]

    with following(control):
        pass
    while idle_seconds() < 0.1:  # an open stream would restart the idle time
        time.sleep(0.02)


def test_request_refused_by_fault_has_its_user(api: Api) -> None:
    api.manage("POST", "/faults", {"status": 503, "times": 1})
    assert api.get("patient").status_code == 503
    [exchange] = api.manage("GET", "/requests?identity=patient@example.com")
    assert (exchange["status"], exchange["fault"]) == (503, "status=503")
