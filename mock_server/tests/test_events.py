"""The WebSocket of events, in-process for what is told and to whom, in a real process for how it ends."""

import json
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
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

from support.api import USERS, Api
from support.listener import EVENTS, listening
from support.process import Process

LIFE = [
    "call.started",
    "participant.joined",
    "participant.joined",
    "participant.left",
    "participant.left",
    "call.ended",
]


def live(api: Api) -> dict[str, Any]:
    """A call that both join, one of them twice, and that one ends."""
    call = api.call()
    for user, action in [("doctor", "join"), ("patient", "join"), ("doctor", "join"), ("patient", "end")]:
        assert api.act(user, call["id"], action).status_code == 200
    return call


# -- What is told, and to whom ----------------------------------------------------------------------


@pytest.mark.rule("events.call-started", "events.call-ended", "events.participant-joined")
@pytest.mark.rule("events.participant-left", "events.order")
def test_both_participants_are_told_of_a_calls_life_in_order(api: Api) -> None:
    with listening(api, "doctor") as doctor, listening(api, "patient") as patient:
        call = live(api)
        told = [doctor.next() for _ in LIFE]
        assert [event["type"] for event in told] == LIFE
        assert [patient.next() for _ in LIFE] == told
    ids = [int(event["id"]) for event in told]
    assert ids == sorted(set(ids))
    participants = [event["data"].get("participant") for event in told]
    doctor_part, patient_part = {"uid": 101, "role": "doctor"}, {"uid": 102, "role": "patient"}
    assert participants == [None, doctor_part, patient_part, doctor_part, patient_part, None]
    assert told[0]["data"]["call"]["status"] == "ongoing"
    assert told[-1]["data"]["call"] == api.get("doctor", f"/api/v1/video/video-calls/{call['id']}/").json()
    assert told[-1]["created_at"] == told[-1]["data"]["call"]["ended_at"]


@pytest.mark.rule("events.call-cancelled")
def test_a_cancellation_is_told(api: Api) -> None:
    with listening(api, "patient") as patient:
        call = api.call("cancelled")
        event = patient.next()
    assert (event["type"], event["data"]) == ("call.cancelled", {"call": call})


@pytest.mark.rule("events.own-calls")
def test_nobody_else_is_told(api: Api) -> None:
    with listening(api, "other_doctor") as other:
        live(api)
        own = api.create("other_doctor", doctor=2, patient=2, minutes=10).json()
        api.act("other_patient", own["id"], "join")
        assert other.next()["data"]["call"]["id"] == own["id"]


@pytest.mark.rule("events.changes-only")
def test_what_is_refused_or_changes_nothing_is_not_told(api: Api) -> None:
    with listening(api, "doctor") as doctor:
        call = api.call()
        for user, action in [
            ("outsider", "join"),
            ("doctor", "end"),
            ("doctor", "join"),
            ("doctor", "join"),
            ("doctor", "cancel"),
            ("doctor", "end"),
            ("doctor", "end"),
            ("doctor", "join"),
        ]:
            api.act(user, call["id"], action)
        assert doctor.types(4) == ["call.started", "participant.joined", "participant.left", "call.ended"]
        api.call("cancelled")
        assert doctor.types(1) == ["call.cancelled"]


def test_an_event_exists_exactly_if_its_change_does(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    call = api.call()
    newest: Callable[[], Any] = api.client.app.state.namespaces.default.operations.newest_event_id

    def fail(*_: object, **__: object) -> None:
        raise UnavailableError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(store_events, "add_event", fail)
        assert api.act("doctor", call["id"], "join").status_code == 503
    assert api.get("doctor", f"/api/v1/video/video-calls/{call['id']}/").json() == call
    assert api.client.blocking_portal.call(newest) == 0


# -- Resuming ---------------------------------------------------------------------------------------


@pytest.mark.rule("events.resume")
def test_a_connection_resumes_after_any_event_and_follows_on(api: Api) -> None:
    with listening(api, "doctor") as doctor:
        live(api)
        ids = [doctor.next()["id"] for _ in LIFE]
    for place, event_id in enumerate(ids):
        with listening(api, "doctor", f"?last_event_id={event_id}") as resumed:
            assert [resumed.next()["id"] for _ in ids[place + 1 :]] == ids[place + 1 :]
    with listening(api, "doctor", f"?last_event_id={ids[-2]}") as resumed:
        assert resumed.types(1) == ["call.ended"]
        api.call("cancelled")
        assert resumed.types(1) == ["call.cancelled"]


@pytest.mark.rule("events.resume")
def test_replay_of_more_than_one_batch_is_complete(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_calls_server.operations.EVENT_BATCH", 4)
    live(api)
    with listening(api, "doctor", "?last_event_id=0") as doctor:
        assert doctor.types(len(LIFE)) == LIFE


@pytest.mark.rule("events.resume")
def test_what_is_no_longer_kept_is_not_taken_for_quiet(make_api: Callable[..., Api]) -> None:
    api = make_api(event_retention_hours=1)
    api.call("cancelled")
    api.clock.advance(hours=2)
    api.call("cancelled")
    with listening(api, "doctor", "?last_event_id=1") as doctor:
        assert doctor.next()["id"] == "2"
    for forgotten in ("0", "3", "99"):
        with listening(api, "doctor", f"?last_event_id={forgotten}") as doctor:
            assert doctor.close_code() == 4410


@pytest.mark.parametrize("event_id", ["abc", "01", "", "9" * 30])
def test_what_is_no_id_is_refused(api: Api, event_id: str) -> None:
    with listening(api, "doctor", f"?last_event_id={event_id}") as doctor:
        assert doctor.close_code() == 4400


# -- Who may listen ---------------------------------------------------------------------------------


@pytest.mark.rule("events.authentication")
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer not.a.token",
        f"Bearer {make_token(Settings(), USERS['doctor'], expires_in=-5)}",
        f"Bearer {make_token(Settings(), USERS['inactive_doctor'], expires_in=60)}",
        f"Bearer {make_token(Settings(jwt_secret='x' * 32), USERS['doctor'], expires_in=60)}",
    ],
    ids=["none", "garbage", "expired", "inactive", "forged"],
)
def test_without_a_token_that_holds_nothing_is_told(api: Api, authorization: str | None) -> None:
    with listening(api, None, headers={"Authorization": authorization} if authorization else {}) as nobody:
        assert nobody.close_code() == 4401


@pytest.mark.rule("events.authentication")
def test_a_token_in_the_url_is_none(api: Api) -> None:
    token = make_token(Settings(), USERS["doctor"], expires_in=60)
    with listening(api, None, f"?token={token}&access_token={token}") as nobody:
        assert nobody.close_code() == 4401


@pytest.mark.rule("events.authentication")
def test_a_browser_sends_its_token_as_a_subprotocol(api: Api) -> None:
    token = make_token(Settings(), USERS["patient"], expires_in=60)
    with listening(api, None, subprotocols=["bearer", token]) as patient:
        api.call("cancelled")
        assert patient.types(1) == ["call.cancelled"]
    with listening(api, None, subprotocols=["bearer", "not.a.token"]) as nobody:
        assert nobody.close_code() == 4401


@pytest.mark.rule("events.token-expiry")
def test_the_connection_ends_with_its_token(api: Api) -> None:
    token = make_token(Settings(), USERS["doctor"], expires_in=2)
    with listening(api, None, headers={"Authorization": f"Bearer {token}"}) as doctor:
        assert doctor.close_code() == 4402


# -- How it ends, in a real process -----------------------------------------------------------------


def test_the_subprotocol_is_chosen_and_a_stop_tells_the_connections(serve: Callable[..., Process]) -> None:
    server = serve()
    token = make_token(Settings(), USERS["doctor"], expires_in=60)
    with connect(f"{server.url}{EVENTS}".replace("http", "ws", 1), subprotocols=["bearer", token]) as doctor:  # type: ignore[list-item]
        assert doctor.subprotocol == "bearer"
        server.popen.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            doctor.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code in {1001, 1012}
    assert server.popen.wait(timeout=10) == 0


def test_the_handshake_names_the_place_where_the_connection_begins(server: Process, control: Control) -> None:
    url = f"{control.base_url}/events/".replace("http", "ws", 1)
    with connect(url, additional_headers=server.headers()) as doctor:
        assert doctor.response is not None
        assert doctor.response.headers["Last-Event-ID"] == "0"
    with connect(url, additional_headers={"Authorization": "Bearer x"}) as nobody:
        assert nobody.response is not None
        assert "Last-Event-ID" not in nobody.response.headers


@contextmanager
def in_a_thread(app: Any) -> Iterator[int]:
    """The application behind a real socket, in this process; its port."""
    config = uvicorn.Config(app, log_config=None, ws="websockets-sansio", lifespan="on")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def test_who_reads_too_slowly_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off = threading.Event()

    class Close(events_api.Close):
        def __init__(self, code: int, reason: str) -> None:
            super().__init__(code, reason)
            cut_off.set()

    monkeypatch.setattr(events_api, "SEND_TIMEOUT", 0.2)
    monkeypatch.setattr(events_api, "Close", Close)
    app = create_app(Settings(database=":memory:"))
    large = json.dumps({"call": 200_000 * "x"})

    async def fill() -> None:
        def add(connection: Connection) -> None:
            for _ in range(100):
                store_events.add_event(
                    connection, "call.started", large, to=(101, 102), now=datetime.now(UTC)
                )

        await app.state.namespaces.default.store.write(add)

    app.on_startup.append(fill)
    with in_a_thread(app) as port, closing(socket.create_connection(("127.0.0.1", port))) as client:
        client.sendall(
            f"GET {EVENTS}?last_event_id=0 HTTP/1.1\r\nHost: x\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {make_token(Settings(), USERS['doctor'], expires_in=60)}\r\n\r\n".encode()
        )
        assert cut_off.wait(20)
        received = bytearray()
        while struct.pack(">H", 4408) not in received[-100:]:
            part = client.recv(1 << 20)
            assert part, "closed without the code"
            received += part
    assert len(received) < 100 * len(large)
