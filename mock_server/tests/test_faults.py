"""Faults: their two forms, the requests that they match, and their effects on requests and connections."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn
from litestar.exceptions import WebSocketDisconnect
from video_calls_server import Settings, create_app
from video_calls_server._structs import JoinCredentials, VideoCall, VideoCallPage
from video_calls_server.api.jwt import make_token
from video_calls_server.api.protocol import http_protocol
from video_calls_server.control.faults.matching import Faults, RequestInfo
from video_calls_server.control.faults.middleware import TRY_AGAIN, ConnectionDropped
from video_calls_server.control.faults.model import Fault, FaultError, parse_fault, read_fault
from video_calls_server.control.namespaces import Namespace
from video_calls_server.operations import Operations
from video_calls_server.store.calls import count_all_calls
from video_calls_spec import RULES, RuleId
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from support.api import CALLS, USERS, Api
from support.listener import EVENTS

# -- Text and JSON -----------------------------------------------------------------------------------


def test_text_and_json_give_the_same_fault() -> None:
    text = (
        "name=slow join; operation=joinVideoCall; identity=doctor@example.com; call=3; times=2;"
        ' probability=0.5; Random-Seed=-7; delay=0.1-0.5; status=503; error="Down; really"; code=away;'
        " retry-after=2; after"
    )
    assert parse_fault(text) == read_fault(
        {
            "name": "slow join",
            "operation": "joinVideoCall",
            "identity": "doctor@example.com",
            "call": 3,
            "times": 2,
            "probability": 0.5,
            "random_seed": -7,
            "delay": [0.1, 0.5],
            "status": 503,
            "error": "Down; really",
            "code": "away",
            "retry_after": 2,
            "after": True,
        }
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (" drop ; ; after; ", Fault(drop=True, after=True)),
        ("status=500; error= a = b ;code=x", Fault(status=500, error="a = b", code="x")),
        ("delay = 0.5 - 1;call=9223372036854775807", Fault(delay=(0.5, 1.0), call=2**63 - 1)),
    ],
)
def test_text_is_parsed_as_fault(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "field", "allowed"),
    [
        ("", "status", "give status, drop, body or delay"),
        ("status", "status", "whole number from 400 to 599"),
        ("status=200", "status", "whole number from 400 to 599"),
        ("drop=perhaps", "drop", "true or false"),
        ("drop; times=0", "times", "1 or more"),
        ("drop; probability=1.1", "probability", "from 0 to 1"),
        ("drop; call=x", "call", "id of a call"),
        ("drop; call=3; operation=listVideoCalls", "call", "leave out one"),
        ("drop; name=a, b", "name", "letters"),
        ("drop; drop", "drop", "twice"),
        ("drop; random-seed=1", "random_seed", "probability or a range"),
        ("delay=0.5-0.1", "delay", "a range such as"),
        ("delay=3601", "delay", "from 0 to 3600"),
        ("body=rotten", "body", "truncated, corrupted"),
        ("body=null; after", "after", "is not needed"),
        ("status=503; drop", "drop", "one of status, drop, body"),
        ("drop; error=Down", "error", "needs a status"),
        ("operation=events; drop; after", "after", "delay, drop and status"),
        ("s" * 9000, "s" * 80, "must be like status=503"),
        ('status=503; error=a"b"', 'error=a"b"', "must be like status=503"),
        ('status=503; error="Down', 'error="Down', "must be like status=503"),
    ],
)
def test_invalid_fault_is_refused_with_field_and_reason(text: str, field: str, allowed: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_fault(text)
    assert caught.value.field == field
    assert allowed in caught.value.reason
    assert str(caught.value) == f"{field}: {caught.value.reason}"


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"status": "503"}, "status"),
        ({"delay": [1, "x"]}, "delay"),
        ({"drop": True, "s" * 9000: 3}, "s" * 80),
        ({"drop": True, "name": "a line\n"}, "name"),
        ([], "fault"),
    ],
)
def test_invalid_json_fault_is_refused_with_field(content: Any, field: str) -> None:
    with pytest.raises(FaultError) as caught:
        read_fault(content)
    assert caught.value.field == field


# -- Matching ----------------------------------------------------------------------------------------


def labels(faults: Faults) -> str:
    """Return the labels of the faults that act on a request."""
    return faults.plan(RequestInfo("getVideoCall", 3, None)).labels


def test_faults_after_a_final_fault_do_not_act() -> None:
    delay, error, drop = (parse_fault(text) for text in ("delay=1; times=9", "status=500; times=1", "drop"))
    faults = Faults([delay, error, drop])
    first = faults.plan(RequestInfo("getVideoCall", 3, None))
    assert (first.labels, first.final, first.delay_before) == ("delay=1, status=500", error, 1.0)
    assert [fault.acted for fault in faults] == [1, 1, 0]
    assert labels(faults) == "delay=1, drop"


def sequence(seed: int | None) -> list[tuple[str, float]]:
    fault = Fault(probability=0.5, delay=(0.0, 1.0), random_seed=seed, drop=True)
    faults = Faults([fault, parse_fault("delay=0")])
    plans = [faults.plan(RequestInfo("getVideoCall", 3, None)) for _ in range(64)]
    return [(each.labels, each.delay_before) for each in plans]


def test_same_seed_gives_the_same_sequence() -> None:
    assert sequence(7) == sequence(7)
    assert sequence(7) != sequence(8)
    assert sequence(None) != sequence(None)
    drops = [delay for label, delay in sequence(7) if label == "drop"]
    assert 16 < len(drops) < 48
    assert all(0 < delay < 1 for delay in drops)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("delay=1-2; after", "delay=1-2 after"),
        ("drop; after; delay=1", "drop after"),
        ("body=null", "body=null"),
    ],
)
def test_label_of_unnamed_fault_lists_its_effects(text: str, label: str) -> None:
    assert parse_fault(text).label == label


# -- Effects on requests -----------------------------------------------------------------------------


def add(api: Api, **fault: Any) -> dict[str, Any]:
    stored: dict[str, Any] = api.manage("POST", "/faults", fault)
    return stored


def counts(api: Api) -> list[tuple[int, int | None]]:
    return [(fault["acted"], fault["left"]) for fault in api.manage("GET", "/faults")]


def test_added_fault_is_listed_with_its_counts(api: Api) -> None:
    first = add(api, status=503, times=2)
    assert first == {"id": 1, "name": "status=503", "status": 503, "times": 2, "acted": 0, "left": 2}
    second = add(api, delay=[0, 0.5], name="slow")
    assert second == {"id": 2, "name": "slow", "delay": [0, 0.5], "acted": 0, "left": None}
    assert api.manage("GET", "/faults") == [first, second]
    api.manage("DELETE", "/faults/1")
    assert api.control("DELETE", "/faults/1").status_code == 404
    api.manage("DELETE", "/faults")
    assert api.manage("GET", "/faults") == []


def test_adding_invalid_fault_is_refused(read_only_api: Api) -> None:
    refusal = read_only_api.control("POST", "/faults", {"stats": 503})
    assert refusal.status_code == 400
    assert refusal.json()["error"].startswith("stats: ")
    assert "the fields are name, operation" in refusal.json()["fields"]["stats"][0]


@pytest.mark.parametrize(
    ("status", "operation", "code"),
    [
        (400, "joinVideoCall", "join.window"),
        (401, "listVideoCalls", "auth.valid-token"),
        (403, "getVideoCall", "get.participants-only"),
        (404, "createVideoCall", "errors.unknown-path"),
    ],
)
def test_status_fault_has_error_of_matching_rule(api: Api, status: int, operation: str, code: RuleId) -> None:
    add(api, status=status, operation=operation, times=1)
    answer = request(api, operation)
    assert answer.status_code == status
    assert answer.json() == {"error": RULES[code].error, "code": code}
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert answer.headers["video-calls-fault"] == f"status={status}"
    assert answer.headers["x-request-id"]


def request(api: Api, operation: str) -> httpx.Response:
    method, path = {
        "listVideoCalls": ("GET", CALLS),
        "createVideoCall": ("POST", CALLS),
        "getVideoCall": ("GET", f"{CALLS}1/"),
        "joinVideoCall": ("POST", f"{CALLS}1/join/"),
    }[operation]
    return api.client.request(method, path, headers=api.headers("doctor"))


@pytest.mark.parametrize(
    ("status", "error", "code", "retry_after"),
    [
        (429, "Too many requests; try again in 1 second", "limits.rate", "1"),
        (500, "Internal server error", "internal_error", None),
        (503, "The service is unavailable for the moment", "unavailable", "1"),
        (599, "Status 599", "status_599", None),
    ],
)
def test_status_fault_without_rule_has_generic_error(
    api: Api, status: int, error: str, code: str, retry_after: str | None
) -> None:
    add(api, status=status)
    answer = api.get("doctor")
    assert (answer.status_code, answer.json()) == (status, {"error": error, "code": code})
    assert answer.headers.get("retry-after") == retry_after


def fault_header(api: Api, text: str) -> httpx.Response:
    return api.client.get(CALLS, headers=api.headers("doctor") | {"Video-Calls-Fault": text})


def test_fault_sets_error_code_and_retry_after(api: Api) -> None:
    add(api, status=429, error="Slow down", code="slow", retry_after=30)
    answer = api.get("doctor")
    assert answer.json() == {"error": "Slow down", "code": "slow"}
    assert answer.headers["retry-after"] == "30"
    error = fault_header(api, "status=429; retry-after=2").json()["error"]
    assert error == "Too many requests; try again in 2 seconds"


def test_fault_responds_before_or_after_the_operation(api: Api) -> None:
    add(api, status=503, times=1, operation="createVideoCall")
    assert api.create().status_code == 503
    assert api.get("doctor").json()["count"] == 0
    add(api, status=503, after=True, times=1)
    refusal = api.create()
    assert (refusal.status_code, refusal.headers["video-calls-fault"]) == (503, "status=503 after")
    assert api.get("doctor").json()["count"] == 1
    assert counts(api) == [(1, 0), (1, 0)]


def test_fault_acts_only_on_matching_requests(api: Api) -> None:
    first, second = api.call()["id"], api.create(minutes=90).json()["id"]
    add(api, status=500, operation="getVideoCall", identity="patient@example.com", call=second)
    for user in ("doctor", "patient"):
        for call in (first, second):
            status = 500 if (user, call) == ("patient", second) else 200
            assert api.get(user, f"{CALLS}{call}/").status_code == status, (user, call)
    assert api.act("patient", second, "join").json()["code"] == "join.window"
    assert api.client.get(f"{CALLS}{second}/").status_code == 401
    assert api.get("patient", f"{CALLS}x/").status_code == 404


def test_delay_is_applied_to_every_response(api: Api) -> None:
    add(api, delay=0.05)
    started = time.perf_counter()
    answer = api.get("doctor")
    assert time.perf_counter() - started >= 0.05
    assert (answer.status_code, answer.headers["video-calls-fault"]) == (200, "delay=0.05")
    refusal = api.client.get(CALLS)
    assert (refusal.status_code, refusal.json()["code"]) == (401, "auth.required")
    assert refusal.headers["www-authenticate"] == "Bearer"
    assert refusal.headers["video-calls-fault"] == "delay=0.05"
    assert api.get("doctor", f"{CALLS}1").headers["video-calls-fault"] == "delay=0.05"


def test_delay_precedes_or_follows_the_operation(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    counts_at_delay = []

    async def count_calls(namespace: Namespace, seconds: float) -> None:
        if seconds:
            counts_at_delay.append(await namespace.store.read(count_all_calls))

    monkeypatch.setattr(Namespace, "delay", count_calls)
    for fault in ("delay=60", "delay=60; after"):
        api.create(minutes=60 * len(counts_at_delay) + 60, headers={"Video-Calls-Fault": fault})
    assert counts_at_delay == [0, 2]


@pytest.mark.parametrize(
    ("operation", "schema", "body"),
    [
        ("listVideoCalls", VideoCallPage, "missing_field"),
        ("getVideoCall", VideoCall, "null"),
        ("getVideoCall", VideoCall, "wrong_type"),
        ("joinVideoCall", JoinCredentials, "wrong_type"),
    ],
)
def test_changed_body_is_json_that_breaks_the_contract(
    api: Api, operation: str, schema: type[Any], body: str
) -> None:
    api.call()
    msgspec.json.decode(request(api, operation).content, type=schema)
    add(api, body=body)
    answer = request(api, operation)
    assert (answer.status_code, answer.headers["video-calls-fault"]) == (200, f"body={body}")
    assert answer.headers["content-length"] == str(len(answer.content))
    answer.json()
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(answer.content, type=schema)


def test_corrupted_body_keeps_length_and_breaks_json(api: Api) -> None:
    whole = api.get("doctor")
    corrupted = fault_header(api, "body=corrupted")
    assert corrupted.headers["content-length"] == whole.headers["content-length"]
    assert corrupted.headers["content-type"] == "application/json"
    with pytest.raises(json.JSONDecodeError):
        corrupted.json()


def test_body_fault_ignores_error_responses(api: Api) -> None:
    add(api, body="null", times=1)
    missing = api.get("doctor", f"{CALLS}99/")
    assert (missing.status_code, missing.json()["code"]) == (404, "get.not-found")
    assert "video-calls-fault" not in missing.headers
    assert counts(api) == [(0, 1)]
    assert api.get("doctor").json()["count"] is None
    assert counts(api) == [(1, 0)]


def test_fault_in_request_header_acts_once(api: Api) -> None:
    assert fault_header(api, "status=503; retry-after=2").headers["retry-after"] == "2"
    assert fault_header(api, "status=503; operation=joinVideoCall").status_code == 200
    assert (api.get("doctor").status_code, counts(api)) == (200, [])


def test_invalid_fault_header_is_refused(read_only_api: Api) -> None:
    answer = fault_header(read_only_api, "status=200")
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "Video-Calls-Fault: status: must be a whole number from 400 to 599",
        "code": "bad_request",
        "fields": {"status": ["must be a whole number from 400 to 599"]},
    }


def test_page_of_allowed_origin_can_read_fault(api: Api) -> None:
    headers = api.headers("doctor") | {"Origin": "http://localhost:3000"}
    add(api, status=500)
    answer = api.client.get(CALLS, headers=headers)
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "Video-Calls-Fault" in answer.headers["access-control-expose-headers"]
    preflight = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "video-calls-fault",
    }
    assert api.client.options(CALLS, headers=headers | preflight).is_success
    assert api.client.options(CALLS).status_code == 405


def test_server_error_during_a_fault_is_logged(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise LookupError("by chance")

    monkeypatch.setattr(Operations, "authenticate", fail)
    answer = fault_header(api, "delay=0")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["video-calls-fault"] == "delay=0"
    assert "request failed" in caplog.text


@pytest.mark.parametrize("text", ["drop", "body=truncated"])
def test_drop_in_process_raises_connection_dropped(api: Api, text: str) -> None:
    async def ask() -> None:
        transport = httpx.ASGITransport(api.client.app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            with pytest.raises(ConnectionDropped, match=text):
                await client.get(CALLS, headers=api.headers("doctor") | {"Video-Calls-Fault": text})

    asyncio.run(ask())


# -- Effects on connections --------------------------------------------------------------------------


@dataclass
class SocketServer:
    """A server with a socket in this process, so that tests can read its log."""

    port: int
    client: httpx.Client
    headers: dict[str, str]
    log: pytest.LogCaptureFixture

    def raw(self, fault: str) -> bytes:
        """Return all bytes of the response to a request that lists calls."""
        lines = [
            "GET /api/v1/video/video-calls/?page_size=100 HTTP/1.1",
            "Host: localhost",
            f"Video-Calls-Fault: {fault}",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        with socket.socket() as connection:
            connection.settimeout(30)
            # A page is larger than this buffer, so it arrives in parts.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.connect(("127.0.0.1", self.port))
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def calls(self) -> int:
        count: int = self.client.get(CALLS).json()["count"]
        return count

    def create(self, fault: str) -> httpx.Response:
        time = datetime.now(UTC) + timedelta(hours=1)
        body = {"doctor": 1, "patient": 1, "scheduled_time": time.isoformat()}
        return self.client.post(CALLS, json=body, headers={"Video-Calls-Fault": fault})

    def logged_no_warning(self) -> bool:
        return not [record for record in self.log.records if record.levelno >= logging.WARNING]


ON_EACH_LOOP = pytest.mark.parametrize("listening", ["auto", "asyncio"], indirect=True)
"""For tests of the transport, which each event loop implements."""


@pytest.fixture
def listening(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[SocketServer]:
    settings = Settings(database=":memory:")
    config = uvicorn.Config(
        create_app(settings),
        loop=getattr(request, "param", "auto"),
        http=http_protocol(settings.request_timeout),
        log_config=None,
        access_log=False,
        ws="websockets-sansio",
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))  # clients may connect before the server starts
    # A page is larger than this buffer, so the server sends it in parts.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    headers = {"Authorization": f"Bearer {make_token(settings, USERS['doctor'], expires_in=3600)}"}
    port = listener.getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        yield SocketServer(port, client, headers, caplog)
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@ON_EACH_LOOP
def test_dropped_connection_ends_without_a_byte(listening: SocketServer) -> None:
    assert listening.raw("drop") == b""
    with pytest.raises(httpx.RemoteProtocolError):
        listening.create("drop; delay=0.01")
    assert listening.calls() == 0
    assert listening.logged_no_warning()


def test_drop_with_after_happens_after_the_operation(listening: SocketServer) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        listening.create("drop; after")
    assert listening.calls() == 1
    assert listening.logged_no_warning()


@ON_EACH_LOOP
def test_truncated_body_is_half_its_declared_length(listening: SocketServer) -> None:
    listening.client.post("/_control/state/calls", json={"count": 100}).raise_for_status()
    whole = listening.client.get(f"{CALLS}?page_size=100").content
    head, _, body = listening.raw("body=truncated").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"content-length: {len(whole)}".encode() in head.split(b"\r\n")
    assert b"video-calls-fault: body=truncated" in head.split(b"\r\n")
    assert body == whole[: len(whole) // 2]
    assert len(body) > 5_000
    with pytest.raises(httpx.RemoteProtocolError):
        listening.client.get(CALLS, headers={"Video-Calls-Fault": "body=truncated"})
    assert listening.logged_no_warning()


# -- Effects on the WebSocket ------------------------------------------------------------------------


def follow(listening: SocketServer, fault: str) -> ClientConnection:
    url = f"ws://127.0.0.1:{listening.port}{EVENTS}"
    return connect(url, additional_headers=listening.headers | {"Video-Calls-Fault": fault})


@ON_EACH_LOOP
def test_handshake_is_dropped(listening: SocketServer) -> None:
    with pytest.raises((InvalidMessage, EOFError, ConnectionError)):
        follow(listening, "drop")
    assert listening.calls() == 0
    assert listening.logged_no_warning()


def test_handshake_is_refused_with_a_status(listening: SocketServer) -> None:
    with pytest.raises(InvalidStatus) as caught:
        follow(listening, "status=503; operation=events; identity=doctor@example.com")
    response = caught.value.response
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.headers["Video-Calls-Fault"] == "status=503"
    assert response.body is not None
    assert json.loads(response.body)["code"] == "unavailable"
    assert listening.calls() == 0
    assert listening.logged_no_warning()


@pytest.mark.parametrize(("fault", "label"), [("delay=0.01", "delay=0.01"), ("body=null", None)])
def test_fault_delays_handshake_but_changes_no_body(
    listening: SocketServer, fault: str, label: str | None
) -> None:
    listening.create("delay=0")
    with follow(listening, fault) as connection:
        assert connection.response is not None
        assert connection.response.headers.get("Video-Calls-Fault") == label
        listening.client.post(f"{CALLS}1/cancel/")
        assert json.loads(connection.recv(timeout=30))["type"] == "call.cancelled"


def test_refused_handshake_is_closed_without_response_extension(api: Api) -> None:
    headers = api.headers("doctor") | {"Video-Calls-Fault": "status=503"}
    with (
        pytest.raises(WebSocketDisconnect) as caught,
        api.client.websocket_connect(EVENTS, headers=headers),
    ):
        pass
    assert (caught.value.code, caught.value.detail) == (TRY_AGAIN, "status 503")
