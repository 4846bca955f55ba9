"""The request log: details, redaction, filters, limits, curl commands and streaming."""

import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from litestar.exceptions import WebSocketDisconnect
from video_calls_server.control import request_log
from video_calls_server.control.client import Control
from video_calls_server.control.exchange import MAX_BODY, REDACTED
from video_calls_server.control.request_log import MAX_EXCHANGES
from video_calls_spec import RULES
from websockets.sync.client import connect

from support.api import CALLS, Api
from support.server_process import ServerProcess

EVENTS = "/api/v1/video/events/"
SECRET = "agora-ncs-test-secret"


def log(api: Api, query: str = "") -> list[dict[str, Any]]:
    exchanges: list[dict[str, Any]] = api.manage("GET", f"/requests{query}")
    return exchanges


def headers_of(message: dict[str, Any]) -> dict[str, str]:
    return dict(message["headers"])


def now() -> datetime:
    return datetime.now(UTC)


# -- Details -----------------------------------------------------------------------------------------


def test_exchange_has_all_details(api: Api) -> None:
    call = api.create(minutes=60).json()["id"]
    before = now()
    path = f"{CALLS}{call}/join/"
    response = api.post("patient", f"{path}?x=%20y", headers={"X-Request-ID": "mine-1"})
    exchange = log(api)[0]
    at = datetime.fromisoformat(exchange.pop("at"))
    assert before - timedelta(seconds=1) < at < now()
    assert 0 < exchange.pop("duration_ms") < 5000
    assert exchange.pop("curl").startswith("curl ")
    logged_request, logged_response = exchange.pop("request"), exchange.pop("response")
    rule = RULES["join.window"]
    assert exchange == {
        "id": 2,
        "method": "POST",
        "path": f"{path}?x=%20y",
        "operation": "joinVideoCall",
        "call": call,
        "identity": "patient@example.com",
        "status": 400,
        "rule": {
            "id": "join.window",
            "level": rule.level,
            "section": rule.section,
            "statement": "Call must be scheduled within the next 15 minutes",
        },
        "fault": None,
        "request_id": "mine-1",
    }
    assert logged_request["body"] is None
    assert headers_of(logged_request)["authorization"] == f"Bearer {REDACTED}"
    assert logged_response["body"] == response.text
    assert headers_of(logged_response)["content-type"] == "application/json"


def test_single_exchange_is_read(api: Api) -> None:
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
    exchanges = [(each["path"], each["operation"], each["status"], each["identity"]) for each in log(api)]
    assert [each[0] for each in exchanges] == [CALLS, "/api/nothing", "/agora/notifications/"]
    assert [each[2] for each in exchanges] == [401, 404, 401]
    assert {each[3] for each in exchanges} == {None}


def test_dropped_request_has_no_status(server: ServerProcess, control: Control) -> None:
    headers = server.headers() | {"Video-Calls-Fault": "drop; name=gone"}
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{control.base_url}/video-calls/", headers=headers)
    exchanges = control.requests.list(status="none")
    assert [(each.status, each.fault, each.response.headers, each.response.body) for each in exchanges] == [
        (None, "gone", [], None)
    ]


def test_handshake_is_logged_with_its_refusal(api: Api) -> None:
    with api.client.websocket_connect(EVENTS, headers=api.headers("doctor")):
        pass
    with (
        pytest.raises(WebSocketDisconnect),
        api.client.websocket_connect(EVENTS, headers={"Authorization": "Bearer x"}) as session,
    ):
        session.receive_json(timeout=5)
    exchanges = [
        (each["method"], each["path"], each["status"], each["response"]["body"]) for each in log(api)
    ]
    assert ("WEBSOCKET", EVENTS, 101, None) in exchanges
    assert exchanges[0][:3] == ("WEBSOCKET", EVENTS, 4401)
    assert exchanges[0][3] == RULES["auth.valid-token"].error
    assert {each["operation"] for each in log(api)} == {"events"}


# -- Redaction ---------------------------------------------------------------------------------------


def test_tokens_are_redacted(make_api: Callable[..., Api]) -> None:
    api = make_api(agora_ncs_secret=SECRET)
    token = api.headers("doctor")["Authorization"].partition(" ")[2]
    call = api.call()
    joined = api.act("doctor", call["id"], "join").json()
    api.client.get(
        f"{CALLS}?token={token}&agora={joined['token']}", headers={"Authorization": f"bearer {token}"}
    )
    api.client.get(f"/api/{token}/", headers={"Authorization": token, "Referer": f"http://a/?t={token}"})
    api.client.get(CALLS, headers={"Cookie": "session=hush-0; other=1", "X-Token": joined["token"]})
    for body in (
        {
            "token": "hush-1",
            "Access": "hush-2",
            "refresh_token": 'hush-3 \\"',
            "deep": {"access_token": "hush-4"},
        },
        [token, joined["token"]],
    ):
        api.post("doctor", CALLS, json=body)
    api.post("doctor", CALLS, content=b'{"token": "hush-5')
    api.post("doctor", CALLS, content=b'{"token": "hush-6\\')
    api.post("doctor", CALLS, content=b'{"token": "hush-7\n')
    api.client.get(CALLS, headers={"Authorization": "hush-8 and more"})
    api.client.get(CALLS, headers={"Authorization": "hush nine"})
    api.client.get(
        f"{CALLS}?%61pi_key=hush-10&x={token.replace('.', '%2E')}&y={token.replace('e', '%65')}",
        headers={
            "Proxy-Authorization": "Basic hush-11",
            "X-Api-Key": "hush-12",
            "X-Client-Secret": "hush-13",
        },
    )
    api.post("doctor", CALLS, content=b'{"p\\u0061ssword": "hush-14", "api_key": ["hush-15"]}')
    with api.client.websocket_connect(EVENTS, subprotocols=["bearer", token]):
        pass
    text = json.dumps(log(api))
    signature, agora = token.rpartition(".")[2], joined["token"][40:]
    for secret in (token, signature, joined["token"], agora, "hush"):
        assert secret not in text, secret
    assert text.count(REDACTED) > 20
    assert json.loads(log(api, f"?call={call['id']}&operation=joinVideoCall")[0]["response"]["body"]) == (
        joined | {"token": REDACTED}
    )


def test_control_key_is_redacted(make_api: Callable[..., Api]) -> None:
    key = "correct horse battery staple"
    api = make_api(control_key=key)
    header = {"Video-Calls-Control-Key": key}
    api.client.get(CALLS, headers=api.headers("doctor") | header)
    text = api.control("GET", "/requests", headers=header).text
    assert "video-calls-control-key" in text
    for word in key.split():
        assert word not in text


def test_token_at_end_of_long_body_is_redacted(api: Api) -> None:
    body = json.dumps({"a": "x" * (MAX_BODY - 30), "token": "hush-hush-hush-hush-hush-hush-hush"})
    assert len(body) > MAX_BODY
    api.post("doctor", CALLS, content=body.encode())
    assert "hush" not in json.dumps(log(api))


# -- Filters -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seven_exchanges(shared_by_all: Api) -> Api:
    """Return an application after seven requests of several kinds."""
    api = shared_by_all
    api.manage("DELETE", "/requests")
    api.manage("POST", "/state/reset")
    call = api.create().json()["id"]  # 1
    api.act("patient", call, "join")  # 2: not yet
    api.get("outsider", f"{CALLS}{call}/")  # 3: 403
    api.client.get(CALLS, headers=api.headers("doctor") | {"Video-Calls-Fault": "status=503; name=busy"})  # 4
    api.client.get(CALLS)  # 5: 401
    api.act("doctor", call, "cancel")  # 6
    api.get("doctor")  # 7
    return api


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [7, 6, 5, 4, 3, 2, 1]),
        ("?identity=doctor@example.com", [7, 6, 4, 1]),
        ("?operation=listVideoCalls", [7, 5, 4]),
        ("?status=4xx", [5, 3, 2]),
        ("?status=503", [4]),
        ("?rule=join.window", [2]),
        ("?rule=get.participants-only&status=403", [3]),
        ("?call=1", [6, 3, 2]),
        ("?fault=busy", [4]),
        ("?after=5&limit=1", [7]),
        ("?limit=500&status=2xx&identity=doctor@example.com&operation=cancelVideoCall", [6]),
    ],
)
def test_exchanges_are_filtered(seven_exchanges: Api, query: str, expected: list[int]) -> None:
    exchanges = log(seven_exchanges)
    first = exchanges[-1]["id"]
    query = query.replace("after=5", f"after={first + 4}")
    assert [each["id"] - first + 1 for each in log(seven_exchanges, query)] == expected


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


def test_log_keeps_the_last_500_exchanges(api: Api) -> None:
    assert MAX_EXCHANGES == 500
    for _ in range(MAX_EXCHANGES + 3):
        api.client.get("/api/")
    assert [each["id"] for each in log(api, "?limit=500")] == list(range(MAX_EXCHANGES + 3, 3, -1))
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
    api: Api, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(request_log, "MAX_BYTES", 50_000)
    for _ in range(8):
        api.post("doctor", CALLS, **options)
    assert [each["id"] for each in log(api)] in ([8, 7, 6, 5], [8, 7, 6])
    api.manage("DELETE", "/requests")
    for _ in range(3):
        api.post("doctor", CALLS, **options)
    assert len(log(api)) == 3


def test_log_does_not_reference_the_scope(api: Api) -> None:
    api.post("doctor", CALLS, json={"doctor": 1})
    (recorded,) = api.client.app.state.namespaces.default.log
    assert {type(each) for each in vars(recorded).values()} <= {
        bytes,
        float,
        int,
        list,
        str,
        tuple,
        type(None),
    }


def test_large_body_is_shown_in_part(api: Api) -> None:
    assert api.post("doctor", CALLS, content=b"x" * 200_000).status_code == 413

    def parts() -> Iterator[bytes]:
        for _ in range(20):
            yield b"y" * 10_000

    assert api.post("doctor", CALLS, content=parts()).status_code == 413
    for exchange in log(api):
        assert exchange["status"] == 413
        assert len(exchange["request"]["body"] or "") <= MAX_BODY + 100
    assert len(log(api)[0]["request"]["body"]) > 10_000


def test_incomplete_body_is_shown_in_part(server: ServerProcess, control: Control) -> None:
    path = f"{control.base_url.removeprefix(server.url)}/video-calls/"
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with following(control) as stream:
        with socket.create_connection(address, timeout=5) as connection:
            token = server.headers()["Authorization"]
            lines = [
                f"POST {path} HTTP/1.1",
                "Host: localhost",
                f"Authorization: {token}",
                "Content-Length: 100",
            ]
            head = "\r\n".join([*lines, "", ""])
            connection.sendall(head.encode() + b'{"doctor": 1')
        exchange = next(stream)
    assert (exchange["operation"], exchange["request"]["body"]) == ("createVideoCall", '{"doctor": 1')


# -- Curl commands -----------------------------------------------------------------------------------


def shell(line: str, token: str, directory: Path) -> str:
    completed = subprocess.run(
        ["sh", "-c", line],
        cwd=directory,
        env=os.environ | {"TOKEN": token},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert completed.returncode == 0, (line, completed.stderr)
    return completed.stdout


def test_curl_command_repeats_the_request(server: ServerProcess, control: Control, tmp_path: Path) -> None:
    headers = server.headers()
    body = {"doctor": 1, "patient": 1, "scheduled_time": "2999-01-01T00:00:00Z"}
    with httpx.Client(base_url=control.base_url, headers=headers) as client:
        tries: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", "/video-calls/?page_size=1&x={a,b}[1-3]", {}),
            ("POST", "/video-calls/", {"json": body | {"note": 'it\'s "quoted" $HOME `id` \\ \n é !'}}),
            ("POST", "/video-calls/", {"content": b"not json"}),
            ("POST", "/video-calls/1/join/", {}),
            ("DELETE", "/video-calls/1/", {}),
            ("HEAD", "/video-calls/", {}),
            ("GET", "/video-calls/", {"headers": {"Authorization": "", "X-Empty": ""}}),
        ]
        for method, path, options in tries:
            client.request(method, path, **options)
            first = control.requests.list(limit=1)[0]
            printed = shell(first.curl, headers["Authorization"].partition(" ")[2], tmp_path)
            again = control.requests.list(limit=1)[0]
            assert again.id == first.id + 1
            assert (again.method, again.path, again.request.body) == (method, first.path, first.request.body)
            headers_sent, headers_again = dict(first.request.headers), dict(again.request.headers)
            for name in ("content-type", "x-empty"):
                assert headers_sent.get(name) == headers_again.get(name), (method, path, name)
            if method != "HEAD":
                assert printed == again.response.body
            if method == "POST" and "json" in options:  # the first one has booked the time
                assert (first.status, again.rule and again.rule.id) == (201, "create.no-overlap")
            elif "headers" not in options:
                assert first.status == again.status


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


HOSTILE = [
    "$(touch owned)",
    "`touch owned`",
    "'; touch owned; '",
    '"; touch owned; "',
    "\\'; touch owned",
    "@/etc/passwd",
]


def test_curl_command_quotes_hostile_values(server: ServerProcess, control: Control, tmp_path: Path) -> None:
    for text in HOSTILE:
        headers = server.headers() | {"X-Hostile": text}
        url = f"{control.base_url}/video-calls/"
        httpx.post(f"{url}?q={text}", content=text.encode(), headers=headers)
        first = control.requests.list(limit=1)[0]
        shell(first.curl, headers["Authorization"].partition(" ")[2], tmp_path)
        again = control.requests.list(limit=1)[0]
        assert again.id == first.id + 1
        assert dict(again.request.headers)["x-hostile"] == text
        assert again.request.body == text
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["evil.example", "$(touch owned)", "localhost -o owned"])
def test_curl_command_ignores_the_host_header(control: Control, host: str) -> None:
    control.requests.clear()  # the request that creates the namespace has another host
    httpx.get(f"{control.base_url}/video-calls/", headers={"Host": host})
    words = shlex.split(control.requests.list(limit=1)[0].curl)
    assert f"{control.base_url}/video-calls/" in words
    assert not any(host in word for word in words)


# -- Streaming ---------------------------------------------------------------------------------------


@contextmanager
def following(control: Control, query: str = "", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The requests that the stream tells of, once it has started."""
    url = control.base_url.replace("/api/v1/video", "/_control/requests/stream") + query
    with httpx.stream("GET", url, headers=headers, timeout=10) as response:
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
        assert exchanges[0] == json.loads(httpx.get(control_url(control, "/requests/2")).content)
        assert next(second)["id"] == 4


def control_url(control: Control, path: str) -> str:
    return control.base_url.replace("/api/v1/video", "/_control") + path


def test_stream_resumes_after_an_id(server: ServerProcess, control: Control) -> None:
    for _ in range(3):
        ask(server, control)
    for query, headers in (("?after=1", {}), ("?after=0", {"Last-Event-ID": "1"})):
        with following(control, query, **headers) as stream:
            assert [next(stream)["id"] for _ in range(2)] == [2, 3]
    with following(control, "?after=40") as stream:  # an id that the log has not reached
        assert next(stream)["id"] == 1


def test_stream_ends_with_its_namespace(control: Control) -> None:
    with following(control) as stream:
        control.drop()
        assert list(stream) == []
    control.clock.now()  # creates the namespace again for the fixture to drop


def test_server_stops_with_an_open_stream(serve: Callable[..., ServerProcess]) -> None:
    process = serve("--database", ":memory:")
    with Control(process.url) as control, Control(process.url, namespace="w") as other:
        with following(control) as first, following(other) as second:
            process.popen.send_signal(signal.SIGTERM)
            assert (list(first), list(second)) == ([], [])
        assert process.popen.wait(5) == 0


def test_closed_stream_is_unsubscribed(api: Api) -> None:
    """Send the disconnect that an ASGI server sends when a client has gone."""

    async def follow_and_go() -> None:
        app = api.client.app
        exchange_log = app.state.namespaces.default.log
        started = anyio.Event()
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/_control/requests/stream",
            "raw_path": b"/_control/requests/stream",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
        }
        request_sent = False

        async def receive() -> dict[str, Any]:
            nonlocal request_sent
            if not request_sent:
                request_sent = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await started.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                assert exchange_log.has_subscribers
                started.set()

        with anyio.fail_after(5):
            await app(scope, receive, send)
        assert started.is_set()
        assert not exchange_log.has_subscribers

    anyio.run(follow_and_go)


def test_request_refused_by_fault_has_its_user(shared: Api) -> None:
    shared.manage("POST", "/faults", {"status": 503, "times": 1})
    assert shared.get("patient").status_code == 503
    [exchange] = shared.manage("GET", "/requests?identity=patient@example.com")
    assert (exchange["status"], exchange["fault"]) == (503, "status=503")
