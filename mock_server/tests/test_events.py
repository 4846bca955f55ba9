"""The WebSocket of events: which events users get, in-process, and how connections end, in a real process."""

import json
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from sqlalchemy import Connection
from video_calls_server import Settings, create_app
from video_calls_server.api import events as events_api
from video_calls_server.api.jwt import make_token
from video_calls_server.control.client import Control
from video_calls_server.store import UnavailableError
from video_calls_server.store import events as store_events
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.api import CALLS, USERS, Api
from support.database_contents import EVENTS_BY_STATUS
from support.listener import EVENTS, listening
from support.server_process import ServerProcess

LIFE = EVENTS_BY_STATUS["completed"]


def complete_call(api: Api) -> dict[str, Any]:
    """Return a completed call, which both participants have joined and one has joined twice."""
    call = api.call()
    for user, action in [("doctor", "join"), ("patient", "join"), ("doctor", "join"), ("patient", "end")]:
        assert api.act(user, call["id"], action).status_code == 200
    return call


# -- Events and their recipients --------------------------------------------------------------------


@pytest.mark.rule("events.call-started", "events.call-ended", "events.participant-joined")
@pytest.mark.rule("events.participant-left", "events.order")
def test_participants_get_events_in_order(api: Api) -> None:
    with listening(api, "doctor") as doctor, listening(api, "patient") as patient:
        call = complete_call(api)
        events = [doctor.next() for _ in LIFE]
        assert [event["type"] for event in events] == LIFE
        assert [patient.next() for _ in LIFE] == events
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(set(ids))
    participants = [event["data"].get("participant") for event in events]
    doctor_part, patient_part = {"uid": 101, "role": "doctor"}, {"uid": 102, "role": "patient"}
    assert participants == [None, doctor_part, patient_part, doctor_part, patient_part, None]
    assert events[0]["data"]["call"]["status"] == "ongoing"
    assert events[-1]["data"]["call"] == api.get("doctor", f"{CALLS}{call['id']}/").json()
    assert events[-1]["created_at"] == events[-1]["data"]["call"]["ended_at"]


@pytest.mark.rule("events.call-cancelled")
def test_cancel_sends_event(api: Api) -> None:
    with listening(api, "patient") as patient:
        call = api.call("cancelled")
        event = patient.next()
    assert (event["type"], event["data"]) == ("call.cancelled", {"call": call})


@pytest.mark.rule("events.own-calls")
def test_outsider_gets_no_event(api: Api) -> None:
    with listening(api, "other_doctor") as other:
        complete_call(api)
        own = api.create("other_doctor", doctor=2, patient=2, minutes=10).json()
        api.act("other_patient", own["id"], "join")
        assert other.next()["data"]["call"]["id"] == own["id"]


@pytest.mark.rule("events.changes-only")
def test_refused_actions_send_no_event(api: Api) -> None:
    with listening(api, "doctor") as doctor:
        call = api.call()
        api.act("outsider", call["id"], "join")
        for action in ("end", "join", "join", "cancel", "end", "end", "join"):
            api.act("doctor", call["id"], action)
        assert doctor.types(4) == ["call.started", "participant.joined", "participant.left", "call.ended"]
        api.call("cancelled")
        assert doctor.types(1) == ["call.cancelled"]


def test_join_is_rolled_back_if_event_fails(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    call = api.call()

    def fail(*_: object, **__: object) -> None:
        raise UnavailableError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store_events, "add_event", fail)
        assert api.act("doctor", call["id"], "join").status_code == 503
    assert api.get("doctor", f"{CALLS}{call['id']}/").json() == call
    assert api.manage("GET", "/state")["events"] == []


# -- Resuming ---------------------------------------------------------------------------------------


@pytest.mark.rule("events.resume")
def test_connection_resumes_after_any_event(api: Api) -> None:
    with listening(api, "doctor") as doctor:
        complete_call(api)
        ids = [doctor.next()["id"] for _ in LIFE]
    api.call("cancelled")
    for index, event_id in enumerate(ids):
        with listening(api, "doctor", f"?last_event_id={event_id}") as resumed:
            assert [resumed.next()["id"] for _ in ids[index + 1 :]] == ids[index + 1 :]
            assert resumed.types(1) == ["call.cancelled"]


@pytest.mark.rule("events.resume")
def test_replay_of_several_batches_is_complete(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_calls_server.operations.EVENT_BATCH", 4)
    complete_call(api)
    with listening(api, "doctor", "?last_event_id=0") as doctor:
        assert doctor.types(len(LIFE)) == LIFE


@pytest.mark.rule("events.resume")
def test_resume_after_deleted_event_is_refused(make_api: Callable[..., Api]) -> None:
    api = make_api(event_retention_hours=1)
    api.call("cancelled")
    api.clock.advance(hours=2)
    api.call("cancelled")
    with listening(api, "doctor", "?last_event_id=1") as doctor:
        assert doctor.next()["id"] == "2"
    for event_id in ("0", "3", "99"):
        with listening(api, "doctor", f"?last_event_id={event_id}") as doctor:
            assert doctor.close_code() == 4410


@pytest.mark.parametrize("event_id", ["abc", "01", "", "9" * 30])
def test_malformed_event_id_is_refused(api: Api, event_id: str) -> None:
    with listening(api, "doctor", f"?last_event_id={event_id}") as doctor:
        assert doctor.close_code() == 4400


# -- Authentication ---------------------------------------------------------------------------------


@pytest.mark.rule("events.authentication")
@pytest.mark.parametrize(
    "token",
    [
        "not.a.token",
        make_token(Settings(), USERS["doctor"], expires_in=-5),
        make_token(Settings(), USERS["inactive_doctor"], expires_in=60),
    ],
    ids=["garbage", "expired", "inactive"],
)
def test_invalid_token_closes_connection(api: Api, token: str) -> None:
    with listening(api, None, headers={"Authorization": f"Bearer {token}"}) as listener:
        assert listener.close_code() == 4401
    with listening(api, None, subprotocols=["bearer", token]) as listener:
        assert listener.close_code() == 4401


@pytest.mark.rule("events.authentication")
def test_token_in_url_is_ignored(api: Api) -> None:
    token = make_token(Settings(), USERS["doctor"], expires_in=60)
    with listening(api, None, f"?token={token}&access_token={token}") as listener:
        assert listener.close_code() == 4401


@pytest.mark.rule("events.authentication")
def test_browser_sends_token_as_subprotocol(api: Api) -> None:
    token = make_token(Settings(), USERS["patient"], expires_in=60)
    with listening(api, None, subprotocols=["bearer", token]) as patient:
        api.call("cancelled")
        assert patient.types(1) == ["call.cancelled"]


@pytest.mark.rule("events.token-expiry")
def test_connection_closes_when_token_expires(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    expiry = int(time.time()) + 3600  # when the tokens of `listening` expire
    monkeypatch.setattr(events_api, "time", SimpleNamespace(time=lambda: expiry - 0.05))
    with listening(api, "doctor") as doctor:
        assert doctor.close_code() == 4402


# -- In a real process ------------------------------------------------------------------------------


def test_server_stop_closes_connection(serve: Callable[..., ServerProcess]) -> None:
    server = serve()
    token = make_token(Settings(), USERS["doctor"], expires_in=60)
    with connect(f"{server.url}{EVENTS}".replace("http", "ws", 1), subprotocols=["bearer", token]) as doctor:  # type: ignore[list-item]
        assert doctor.subprotocol == "bearer"
        server.popen.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as error:
            doctor.recv(timeout=30)
    assert error.value.rcvd is not None
    assert error.value.rcvd.code in {1001, 1012}
    assert server.popen.wait(timeout=30) == 0


def test_handshake_response_has_last_event_id(server: ServerProcess, control: Control) -> None:
    url = f"{control.base_url}/events/".replace("http", "ws", 1)
    with connect(url, additional_headers=server.headers()) as doctor:
        assert doctor.response is not None
        assert doctor.response.headers["Last-Event-ID"] == "0"
    with connect(url, additional_headers={"Authorization": "Bearer x"}) as listener:
        assert listener.response is not None
        assert "Last-Event-ID" not in listener.response.headers


def test_slow_reader_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    is_closing = threading.Event()

    class Close(events_api.Close):
        def __init__(self, code: int, reason: str) -> None:
            super().__init__(code, reason)
            is_closing.set()

    monkeypatch.setattr(events_api, "SEND_TIMEOUT", 0.2)
    monkeypatch.setattr(events_api, "Close", Close)
    app = create_app(Settings(database=":memory:"))
    large = json.dumps({"call": 200_000 * "x"})

    def add_events(connection: Connection) -> None:
        for _ in range(100):
            store_events.add_event(connection, "call.started", large, to=(101, 102), now=datetime.now(UTC))

    app.on_startup.append(partial(app.state.namespaces.default.store.write, add_events))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="websockets-sansio", lifespan="on"))
    token = make_token(Settings(), USERS["doctor"], expires_in=60)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        running = pool.submit(server.run, sockets=[listener])
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(
                f"GET {EVENTS}?last_event_id=0 HTTP/1.1\r\nHost: x\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
                f"Authorization: Bearer {token}\r\n\r\n".encode()
            )
            assert is_closing.wait(30)
            received = bytearray()
            while struct.pack(">H", 4408) not in received[-100:]:
                data = client.recv(1 << 20)
                assert data, "the connection ended without the code"
                received += data
        server.should_exit = True
        running.result()
    assert len(received) < 100 * len(large)
