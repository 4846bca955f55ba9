"""Agora's notifications: signatures, presence, and the end of calls that both participants have left."""

import hmac
import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from video_calls_server import Settings
from video_calls_server.agora.empty_calls import RETRY_SECONDS, EmptyCalls
from video_calls_server.agora.notifications import is_signed
from video_calls_server.domain.people import Actor
from video_calls_server.operations import NOTICE_LIFETIME, Operations
from video_calls_server.settings import SettingsError
from video_calls_server.store import Store, UnavailableError
from video_calls_server.store.sqlite import SqliteStore

from support.api import CALLS, USERS, Api

PATH = "/agora/notifications/"
SECRET = "agora-ncs-test-secret"
EXAMPLES: list[dict[str, str]] = json.loads(
    Path(__file__).with_name("data").joinpath("agora_notifications.json").read_text()
)
JOINED, LEFT = "participant.joined", "participant.left"


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"Agora-Signature-V2": hmac.new(secret.encode(), body, sha256).hexdigest()}


class Agora:
    """The server of Agora, which sends notifications of one call."""

    _ids = count(1)

    def __init__(self, api: Api, call: dict[str, Any]) -> None:
        self.api = api
        self.call = call
        self.operations: Operations = api.client.app.state.namespaces.default.operations

    def message(self, event: int, user: str = "doctor", *, seq: int | None = None, **payload: Any) -> bytes:
        content: dict[str, Any] = {"channelName": self.call["channel_name"], "uid": USERS[user]}
        content |= {"platform": 7, "ts": 1704436790} | ({} if seq is None else {"clientSeq": seq}) | payload
        notice = f"2000001428:{next(self._ids)}:{event}"
        message = {"noticeId": notice, "productId": 1, "eventType": event, "notifyMs": 1704436790672}
        return json.dumps({**message, "payload": content}).encode()

    def send(self, body: bytes) -> None:
        answer = self.api.client.post(PATH, content=body, headers=signed(body))
        assert (answer.status_code, answer.json()) == (200, {"status": "received"})

    def notify(self, event: int, user: str = "doctor", *, seq: int | None = None, **payload: Any) -> None:
        self.send(self.message(event, user, seq=seq, **payload))

    def read(self) -> dict[str, Any]:
        call: dict[str, Any] = self.api.get("doctor", f"{CALLS}{self.call['id']}/").json()
        return call

    def events(self) -> list[tuple[str, str | None]]:
        """Return the events of the doctor except `call.started`, with the role of the participant."""
        events = anyio.run(self.operations.events_after, Actor(USERS["doctor"], 1, None), 0)
        return [
            (event.type, json.loads(event.data).get("participant", {}).get("role"))
            for event in events
            if event.type != "call.started"
        ]

    def end_empty(self) -> datetime | None:
        return anyio.run(self.operations.end_empty_calls)


@pytest.fixture
def api_with_agora(make_api: Callable[..., Api]) -> Api:
    return make_api(agora_ncs_secret=SECRET)


@pytest.fixture
def agora(api_with_agora: Api) -> Agora:
    """Return Agora's server for an ongoing call."""
    return Agora(api_with_agora, api_with_agora.call("ongoing"))


# -- Signatures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["name"])
def test_example_of_agora_is_accepted(make_api: Callable[..., Api], example: dict[str, str]) -> None:
    api = make_api(agora_ncs_secret=example["secret"])
    body, headers = example["body"].encode(), {"Agora-Signature-V2": example["signature"]}
    answer = api.client.post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"status": "received"})
    assert answer.headers["content-type"] == "application/json"
    assert is_signed(body, example["signature"], example["secret"])
    assert not is_signed(body, example["signature"], f"{example['secret']}!")


@pytest.mark.parametrize(
    ("signed_body", "signature"),
    [
        (b"{}", None),
        (b"{}", "é" * 64),
        (b"{} ", signed(b"{}")["Agora-Signature-V2"]),
        (b"{}", signed(b"{}", "another")["Agora-Signature-V2"]),
    ],
)
def test_invalid_signature_is_refused(api_with_agora: Api, signed_body: bytes, signature: str | None) -> None:
    headers = [] if signature is None else [(b"Agora-Signature-V2", signature.encode("latin-1"))]
    answer = api_with_agora.client.post(PATH, content=signed_body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["www-authenticate"] == "Agora-Signature-V2"


@pytest.mark.parametrize("secret", [None, ""])
def test_notification_path_is_unknown_without_secret(
    make_api: Callable[..., Api], secret: str | None
) -> None:
    api = make_api(agora_ncs_secret=secret)
    answer = api.client.post(PATH, content=b"{}", headers=signed(b"{}", secret or ""))
    assert (answer.status_code, answer.json()["code"]) == (404, "errors.unknown-path")


# -- Contents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b'{"noticeId": "\\ud800"}'),
        pytest.param(b'{"payload":' * 5_000, id="nested objects"),
    ],
)
def test_body_without_json_object_is_refused(api_with_agora: Api, body: bytes) -> None:
    answer = api_with_agora.client.post(PATH, content=body, headers=signed(body))
    assert (answer.status_code, answer.json()["code"]) == (400, "errors.malformed-json")


@pytest.mark.parametrize(
    "changes",
    [
        {"eventType": "103"},
        {"payload": None},
        {"payload": {"channelName": "call", "uid": True}},
        {"payload": {"channelName": "call", "uid": 101, "clientSeq": -1}},
        {"payload": {"channelName": "call\0", "uid": 101, "clientSeq": 1}},
        {"payload": {"channelName": "call", "uid": 101, "clientSeq": 2**64}},
    ],
)
def test_notice_of_unknown_shape_is_only_logged(
    agora: Agora, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    message = json.loads(agora.message(103)) | changes
    with caplog.at_level(logging.WARNING, "video_calls_server.agora"):
        agora.send(json.dumps(message).encode())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert agora.events() == []


@pytest.mark.parametrize("changes", [{"eventType": 101}, {"eventType": 999}, {"productId": 3}], ids=str)
def test_other_event_types_and_products_are_ignored(agora: Agora, changes: dict[str, Any]) -> None:
    agora.send(json.dumps(json.loads(agora.message(103)) | changes).encode())
    assert agora.events() == []


def test_unknown_channel_or_uid_is_ignored(agora: Agora) -> None:
    agora.notify(103, channelName="test_webhook", uid=12121212)
    agora.notify(103, channelName="call_\0_é")
    agora.notify(103, "other_doctor")
    for uid in (0, -1, 2**32, 2**63, 2**64, 10**400):
        agora.notify(103, uid=uid)
    agora.send(agora.message(103).replace(b": 101", b": 1" + b"0" * 10_000))
    assert agora.events() == []


@pytest.mark.rule("events.participant-joined", "events.participant-left")
@pytest.mark.parametrize(
    ("user", "joined", "left"),
    [
        ("doctor", 103, 104),
        ("patient", 105, 106),
        ("doctor", 107, 108),
        ("patient", 111, 104),
        ("doctor", 112, 106),
    ],
)
def test_join_and_leave_notices_send_events(agora: Agora, user: str, joined: int, left: int) -> None:
    agora.notify(joined, user, seq=1)
    assert agora.events() == [(JOINED, user)]
    agora.notify(left, user, seq=2, reason=1, duration=600)
    assert agora.events() == [(JOINED, user), (LEFT, user)]
    agora.notify(joined, user, seq=3)
    assert agora.events() == [(JOINED, user), (LEFT, user), (JOINED, user)]


def test_change_of_agora_role_keeps_presence(agora: Agora) -> None:
    for seq, event in enumerate((103, 112, 111, 112), 1):
        agora.notify(event, seq=seq)
    assert agora.events() == [(JOINED, "doctor")]


def test_leave_is_ignored_if_user_switched_device(agora: Agora) -> None:
    agora.notify(103, seq=1)
    agora.notify(104, seq=2, reason=5)
    assert agora.events() == [(JOINED, "doctor")]
    agora.notify(104, seq=3, reason=2)
    assert agora.events() == [(JOINED, "doctor"), (LEFT, "doctor")]


# -- Order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [None, 1])
def test_repeated_notice_is_ignored(agora: Agora, seq: int | None) -> None:
    joined = agora.message(103, seq=seq)
    agora.send(joined)
    agora.notify(104, seq=seq and seq + 1)
    agora.send(joined)
    assert agora.events() == [(JOINED, "doctor"), (LEFT, "doctor")]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_notice_with_older_sequence_number_is_ignored(agora: Agora, order: tuple[int, ...]) -> None:
    messages = [agora.message(103, seq=9), agora.message(104, seq=10), agora.message(103, seq=11)]
    for index in order:
        agora.send(messages[index])
    events = agora.events()
    assert events[-1] == (JOINED, "doctor")
    assert events == [(JOINED, "doctor"), (LEFT, "doctor"), (JOINED, "doctor")][-len(events) :]
    agora.notify(104, seq=8)
    agora.notify(104, seq=11)
    assert agora.events() == events


def test_sequence_numbers_are_ordered_up_to_64_bits(agora: Agora) -> None:
    for seq, event in ((9, 103), (10, 104), (2**63 + 1, 103), (2**64 - 1, 104), (2**63, 103)):
        agora.notify(event, seq=seq)
    assert agora.events() == [(JOINED, "doctor"), (LEFT, "doctor")] * 2


def test_each_participant_of_each_call_has_own_sequence(agora: Agora) -> None:
    agora.notify(103, "doctor", seq=100)
    agora.notify(103, "patient", seq=1)
    call = agora.api.create(minutes=50).json()
    agora.api.clock.advance(minutes=40)
    assert agora.api.act("doctor", call["id"], "join").status_code == 200
    Agora(agora.api, call).notify(107, seq=2)
    assert agora.events() == [(JOINED, "doctor"), (JOINED, "patient"), (JOINED, "doctor")]


def test_notice_is_deleted_after_its_lifetime(agora: Agora) -> None:
    first = agora.message(103, seq=1)
    agora.send(first)
    agora.api.clock.advance(seconds=NOTICE_LIFETIME.total_seconds())
    agora.notify(104, seq=2)
    store: Store = agora.api.client.app.state.namespaces.default.store

    def notice_ids(connection: Any) -> list[str]:
        rows = connection.exec_driver_sql("SELECT notice_id FROM agora_notices").fetchall()
        return [row[0] for row in rows]

    assert [notice_id[-4:] for notice_id in anyio.run(store.read, notice_ids)] == [":104"]


# -- Presence ---------------------------------------------------------------------------------------


@pytest.mark.rule("events.participant-joined")
def test_join_sends_no_presence_before_agora_notifies(agora: Agora) -> None:
    assert agora.api.act("patient", agora.call["id"], "join").status_code == 200
    assert agora.events() == []


@pytest.mark.rule("events.call-ended", "events.participant-left")
def test_end_sends_leave_of_present_participants(agora: Agora) -> None:
    agora.notify(103, "doctor", seq=1)
    agora.notify(103, "patient", seq=1)
    agora.notify(104, "patient", seq=2)
    assert agora.api.act("patient", agora.call["id"], "end").status_code == 200
    leaves = [(LEFT, "patient"), (LEFT, "doctor")]
    events = [(JOINED, "doctor"), (JOINED, "patient"), *leaves, ("call.ended", None)]
    assert agora.events() == events
    agora.notify(104, "doctor", seq=2)
    agora.notify(103, "patient", seq=3)
    assert agora.events() == events


@pytest.mark.parametrize("status", ["scheduled", "completed", "cancelled"])
def test_notice_of_call_not_ongoing_is_ignored(api_with_agora: Api, status: str) -> None:
    call = api_with_agora.call(status)
    agora = Agora(api_with_agora, call)
    before = agora.events()
    agora.notify(103, seq=1)
    agora.notify(104, seq=2)
    assert (agora.events(), agora.read()) == (before, call)


@pytest.mark.rule("model.updated-at")
def test_notice_reaches_event_connection_without_changing_the_call(agora: Agora) -> None:
    agora.api.clock.advance(minutes=1)
    headers = agora.api.headers("patient")
    with agora.api.client.websocket_connect("/api/v1/video/events/", headers=headers) as session:
        agora.notify(103)
        event: dict[str, Any] = session.receive_json(timeout=30)
    participant = {"uid": USERS["doctor"], "role": "doctor"}
    assert (event["type"], event["data"]) == (JOINED, {"call": agora.call, "participant": participant})
    assert agora.read() == agora.call


def test_notice_is_accepted_after_database_failure(agora: Agora, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_: object) -> None:
        raise UnavailableError("database is locked")

    body = agora.message(103)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "write", unavailable)
        assert agora.api.client.post(PATH, content=body, headers=signed(body)).status_code == 503
    agora.send(body)
    assert agora.events() == [(JOINED, "doctor")]


# -- Empty calls ------------------------------------------------------------------------------------

FIVE = timedelta(minutes=5)


@pytest.fixture
def ending_agora(make_api: Callable[..., Api]) -> Agora:
    """Return Agora's server for a call that ends five minutes after both participants have left."""
    api = make_api(agora_ncs_secret=SECRET, end_when_empty_minutes=5)
    return Agora(api, api.call("ongoing"))


def leave_both(agora: Agora) -> None:
    """Let both participants join, the doctor leave, and a minute later the patient leave."""
    agora.notify(103, "doctor", seq=1)
    agora.notify(103, "patient", seq=1)
    agora.notify(104, "doctor", seq=2)
    agora.api.clock.advance(minutes=1)
    agora.notify(104, "patient", seq=2)


@pytest.mark.rule("events.call-ended")
def test_empty_call_ends_after_configured_minutes(ending_agora: Agora) -> None:
    leave_both(ending_agora)
    clock = ending_agora.api.clock
    due = clock.now() + FIVE
    assert ending_agora.end_empty() == due
    clock.advance(minutes=5, microseconds=-1)
    assert (ending_agora.end_empty(), ending_agora.read()["status"]) == (due, "ongoing")
    clock.advance(microseconds=1)
    assert ending_agora.end_empty() is None
    call = ending_agora.read()
    assert (call["status"], call["ended_at"]) == ("completed", "2024-01-05T08:06:00Z")
    assert call["updated_at"] == call["ended_at"]
    assert ending_agora.events()[-2:] == [(LEFT, "patient"), ("call.ended", None)]
    assert ending_agora.end_empty() is None
    assert ending_agora.events().count(("call.ended", None)) == 1


def test_call_with_one_participant_present_continues(ending_agora: Agora) -> None:
    ending_agora.notify(103, "doctor", seq=1)
    ending_agora.notify(104, "doctor", seq=2)
    ending_agora.api.clock.advance(hours=1)
    assert ending_agora.end_empty() is None  # the patient has not joined yet
    ending_agora.notify(103, "patient", seq=1)
    ending_agora.api.clock.advance(hours=1)
    assert (ending_agora.end_empty(), ending_agora.read()["status"]) == (None, "ongoing")


def test_return_of_participant_restarts_the_time(ending_agora: Agora) -> None:
    leave_both(ending_agora)
    ending_agora.api.clock.advance(minutes=4)
    ending_agora.notify(103, "doctor", seq=3)
    ending_agora.api.clock.advance(minutes=4)
    assert ending_agora.end_empty() is None
    ending_agora.notify(104, "doctor", seq=4)
    assert ending_agora.end_empty() == ending_agora.api.clock.now() + FIVE


def test_join_of_empty_call_restarts_the_time(ending_agora: Agora) -> None:
    leave_both(ending_agora)
    ending_agora.api.clock.advance(minutes=4)
    assert ending_agora.api.act("doctor", ending_agora.call["id"], "join").status_code == 200
    assert ending_agora.end_empty() == ending_agora.api.clock.now() + FIVE


def test_repeated_leave_does_not_restart_the_time(ending_agora: Agora) -> None:
    leave_both(ending_agora)
    due, events = ending_agora.api.clock.now() + FIVE, ending_agora.events()
    ending_agora.api.clock.advance(minutes=2)
    ending_agora.notify(104, "patient", seq=3)
    assert (ending_agora.end_empty(), ending_agora.events()) == (due, events)


def test_empty_calls_end_in_order(ending_agora: Agora) -> None:
    api = ending_agora.api
    call = api.create(minutes=50).json()
    api.clock.advance(minutes=36)
    assert api.act("doctor", call["id"], "join").status_code == 200
    other = Agora(api, call)
    leave_both(ending_agora)
    due = api.clock.now() + FIVE
    leave_both(other)
    assert ending_agora.end_empty() == due
    api.clock.time = due
    assert ending_agora.end_empty() == due + timedelta(minutes=1)
    assert (ending_agora.read()["status"], other.read()["status"]) == ("completed", "ongoing")


def test_server_start_ends_overdue_empty_calls(make_api: Callable[..., Api], tmp_path: Path) -> None:
    options = {"database": str(tmp_path / "calls.db"), "agora_ncs_secret": SECRET}
    agora = Agora(first := make_api(**options), first.call("ongoing"))  # ends no empty calls
    leave_both(agora)
    first.clock.advance(minutes=5)
    assert agora.read()["status"] == "ongoing"
    again = make_api(**options, end_when_empty_minutes=5)
    assert again.get("doctor", f"{CALLS}{agora.call['id']}/").json()["status"] == "completed"


class StopTask(Exception):
    """Stops the task at the end of a test."""


def run_task(agora: Agora) -> list[float]:
    """Run the task that ends empty calls. Return its first four pauses, each of which advances the clock."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        if len(pauses) == 4:
            raise StopTask
        pauses.append(seconds)
        agora.api.clock.advance(seconds=seconds)

    async def run() -> None:
        task = EmptyCalls(agora.operations.end_empty_calls, agora.api.clock, FIVE, sleep=sleep)
        async with task.running():
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as error:
        anyio.run(run)
    assert error.group_contains(StopTask)
    return pauses


def test_task_ends_empty_call_when_due(ending_agora: Agora) -> None:
    leave_both(ending_agora)
    ending_agora.api.clock.advance(minutes=2)
    assert run_task(ending_agora) == [180, 300, 300, 300]
    call = ending_agora.read()
    assert (call["status"], call["ended_at"]) == ("completed", "2024-01-05T08:06:00Z")


def test_task_continues_after_database_failure(ending_agora: Agora, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_both(ending_agora)
    ending_agora.api.clock.advance(minutes=5)
    write = SqliteStore.write

    async def fail_once(*_: Any) -> None:
        monkeypatch.setattr(SqliteStore, "write", write)
        raise UnavailableError("database is locked")

    monkeypatch.setattr(SqliteStore, "write", fail_once)
    assert run_task(ending_agora)[:2] == [RETRY_SECONDS, 300]
    assert ending_agora.read()["status"] == "completed"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"end_when_empty_minutes": 5}, "AGORA_NCS_SECRET"),
        ({"end_when_empty_minutes": 1441, "agora_ncs_secret": SECRET}, "0 to 1440"),
    ],
)
def test_invalid_end_when_empty_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings(**options)
