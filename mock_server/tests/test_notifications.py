"""Agora's notifications: whose they are, what they tell of who is there; and calls that both have left."""

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
from video_calls_server.domain.calls import NewCall, end_empty, leave
from video_calls_server.domain.events import Event
from video_calls_server.domain.people import Actor, Doctor, Patient, User
from video_calls_server.operations import NOTICE_LIFETIME, Operations
from video_calls_server.settings import SettingsError
from video_calls_server.store import Store, UnavailableError
from video_calls_server.store.sqlite import SqliteStore

from support.api import CALLS, USERS, Api, FakeClock

PATH = "/agora/notifications/"
SECRET = "agora-ncs-test-secret"
EXAMPLES: list[dict[str, str]] = json.loads(
    Path(__file__).with_name("data").joinpath("agora_notifications.json").read_text()
)
JOINED, LEFT = "participant.joined", "participant.left"


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"Agora-Signature-V2": hmac.new(secret.encode(), body, sha256).hexdigest()}


class Agora:
    """Agora's server, as it notifies of one call."""

    def __init__(self, api: Api, call: dict[str, Any]) -> None:
        self.api = api
        self.call = call
        self._ids = count(1)

    def message(self, event: int, user: str = "doctor", *, seq: int | None = None, **payload: Any) -> bytes:
        told: dict[str, Any] = {"channelName": self.call["channel_name"], "uid": USERS[user], "platform": 7}
        told |= {"ts": 1704436790} | ({} if seq is None else {"clientSeq": seq}) | payload
        notice = f"2000001428:{next(self._ids)}:{event}"
        message = {"noticeId": notice, "productId": 1, "eventType": event, "notifyMs": 1704436790672}
        return json.dumps({**message, "payload": told}).encode()

    def send(self, body: bytes) -> None:
        answer = self.api.client.post(PATH, content=body, headers=signed(body))
        assert (answer.status_code, answer.json()) == (200, {"status": "received"})

    def tell(self, event: int, user: str = "doctor", *, seq: int | None = None, **payload: Any) -> None:
        self.send(self.message(event, user, seq=seq, **payload))


def operations_of(api: Api) -> Operations:
    operations: Operations = api.client.app.state.namespaces.default.operations
    return operations


def told(api: Api) -> list[tuple[str, str | None]]:
    """Every event of doctor 1's so far, with the role of the participant."""
    events = anyio.run(operations_of(api).events_after, Actor(USERS["doctor"], 1, None), 0)
    return [
        (event.type, json.loads(event.data).get("participant", {}).get("role"))
        for event in events
        if event.type != "call.started"
    ]


@pytest.fixture
def noticing(make_api: Callable[..., Api]) -> Api:
    return make_api(agora_ncs_secret=SECRET)


@pytest.fixture
def agora(noticing: Api) -> Agora:
    """Agora, for a call that is ongoing."""
    return Agora(noticing, noticing.call("ongoing"))


# -- Whose it is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["name"])
def test_an_example_of_agoras_is_signed_and_is_answered(
    make_api: Callable[..., Api], example: dict[str, str]
) -> None:
    api = make_api(agora_ncs_secret=example["secret"])
    body, headers = example["body"].encode(), {"Agora-Signature-V2": example["signature"]}
    answer = api.client.post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"status": "received"})
    assert answer.headers["content-type"] == "application/json"
    assert is_signed(body, example["signature"], example["secret"])
    assert not is_signed(body, example["signature"], f"{example['secret']}!")


@pytest.mark.parametrize(
    "headers",
    [{}, {"Agora-Signature-V2": "0" * 64}, {"Agora-Signature-V2": "é" * 64}],
)
def test_what_agora_did_not_sign_is_refused(agora: Agora, headers: dict[str, str]) -> None:
    body = agora.message(103)
    wire = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = agora.api.client.post(PATH, content=body, headers=wire)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["www-authenticate"] == "Agora-Signature-V2"
    assert told(agora.api) == []


def test_the_signature_is_of_the_very_bytes(agora: Agora) -> None:
    body = agora.message(103)
    for other, secret in ((body + b" ", SECRET), (body.replace(b"103", b"104"), SECRET), (body, "another")):
        answer = agora.api.client.post(PATH, content=other, headers=signed(body, secret))
        assert answer.status_code == 401
    assert told(agora.api) == []


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_secret_there_is_no_such_path(make_api: Callable[..., Api], secret: str | None) -> None:
    api = make_api(agora_ncs_secret=secret)
    answer = api.client.post(PATH, content=b"{}", headers=signed(b"{}", secret or ""))
    assert (answer.status_code, answer.json()["code"]) == (404, "errors.unknown-path")


def test_the_secret_is_in_no_text_of_the_settings() -> None:
    assert SECRET not in repr(Settings(agora_ncs_secret=SECRET))


# -- What it says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"\xff{}", b'{"noticeId": "\\ud800"}'),
        pytest.param(b'{"payload":' * 5_000, id="nested objects"),
    ],
)
def test_what_is_no_json_object_is_refused(noticing: Api, body: bytes) -> None:
    answer = noticing.client.post(PATH, content=body, headers=signed(body))
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
def test_an_unknown_shape_is_ignored_and_logged(
    agora: Agora, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    message = json.loads(agora.message(103)) | changes
    with caplog.at_level(logging.WARNING, "video_calls_server.agora"):
        agora.send(json.dumps(message).encode())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert told(agora.api) == []


@pytest.mark.parametrize(
    "changes",
    [{"eventType": 101}, {"eventType": 999}, {"productId": 3}],
)
def test_unknown_types_and_other_products_are_ignored(agora: Agora, changes: dict[str, Any]) -> None:
    agora.send(json.dumps(json.loads(agora.message(103)) | changes).encode())
    assert told(agora.api) == []


def test_the_health_check_and_strangers_are_ignored(agora: Agora) -> None:
    agora.tell(103, channelName="test_webhook", uid=12121212)
    agora.tell(103, channelName="call_\0_é")
    agora.tell(103, "other_doctor")
    for uid in (0, -1, 2**32, 2**63, 2**64, 10**400):
        agora.tell(103, uid=uid)
    agora.send(agora.message(103).replace(b": 101", b": 1" + b"0" * 10_000))
    assert told(agora.api) == []


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
def test_each_type_is_taken_for_what_it_means(agora: Agora, user: str, joined: int, left: int) -> None:
    agora.tell(joined, user, seq=1)
    assert told(agora.api) == [(JOINED, user)]
    agora.tell(left, user, seq=2, reason=1, duration=600)
    assert told(agora.api) == [(JOINED, user), (LEFT, user)]
    agora.tell(joined, user, seq=3)
    assert told(agora.api) == [(JOINED, user), (LEFT, user), (JOINED, user)]


def test_a_participant_who_changes_the_role_is_still_there(agora: Agora) -> None:
    for seq, event in enumerate((103, 112, 111, 112), 1):
        agora.tell(event, seq=seq)
    assert told(agora.api) == [(JOINED, "doctor")]


def test_a_participant_who_goes_on_at_another_device_has_not_left(agora: Agora) -> None:
    agora.tell(103, seq=1)
    agora.tell(104, seq=2, reason=5)
    assert told(agora.api) == [(JOINED, "doctor")]
    agora.tell(104, seq=3, reason=2)
    assert told(agora.api) == [(JOINED, "doctor"), (LEFT, "doctor")]


# -- Once, and in order -----------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [None, 1])
def test_a_notice_counts_once(agora: Agora, seq: int | None) -> None:
    joined = agora.message(103, seq=seq)
    agora.send(joined)
    agora.tell(104, seq=seq and seq + 1)
    agora.send(joined)
    assert told(agora.api) == [(JOINED, "doctor"), (LEFT, "doctor")]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_an_older_notice_undoes_nothing(agora: Agora, order: tuple[int, ...]) -> None:
    messages = [agora.message(103, seq=9), agora.message(104, seq=10), agora.message(103, seq=11)]
    for index in order:
        agora.send(messages[index])
    events = told(agora.api)
    assert events[-1] == (JOINED, "doctor")
    assert events == [(JOINED, "doctor"), (LEFT, "doctor"), (JOINED, "doctor")][-len(events) :]
    agora.tell(104, seq=8)
    agora.tell(104, seq=11)
    assert told(agora.api) == events


def test_numbers_are_ordered_as_numbers_up_to_64_bits(agora: Agora) -> None:
    for seq, event in ((9, 103), (10, 104), (2**63 + 1, 103), (2**64 - 1, 104), (2**63, 103)):
        agora.tell(event, seq=seq)
    assert told(agora.api) == [(JOINED, "doctor"), (LEFT, "doctor")] * 2


def test_each_participant_and_each_call_has_an_order_of_its_own(agora: Agora) -> None:
    agora.tell(103, "doctor", seq=100)
    agora.tell(103, "patient", seq=1)
    created = agora.api.create(minutes=50).json()
    agora.api.clock.advance(minutes=40)
    assert agora.api.act("doctor", created["id"], "join").status_code == 200
    other = Agora(agora.api, created)
    other.send(other.message(107, seq=2).replace(b"2000001428", b"2000001429"))
    assert told(agora.api) == [(JOINED, "doctor"), (JOINED, "patient"), (JOINED, "doctor")]


def test_notices_are_forgotten_after_their_time(agora: Agora) -> None:
    first = agora.message(103, seq=1)
    agora.send(first)
    agora.api.clock.advance(seconds=NOTICE_LIFETIME.total_seconds())
    agora.tell(104, seq=2)
    store: Store = agora.api.client.app.state.namespaces.default.store

    def kept(connection: Any) -> list[str]:
        rows = connection.exec_driver_sql("SELECT notice_id FROM agora_notices").fetchall()
        return [row[0] for row in rows]

    assert anyio.run(store.read, kept) == ["2000001428:2:104"]


# -- The truth about who is there -------------------------------------------------------------------


@pytest.mark.rule("events.participant-joined")
def test_a_join_alone_tells_no_participant(agora: Agora) -> None:
    assert agora.api.act("patient", agora.call["id"], "join").status_code == 200
    assert told(agora.api) == []


@pytest.mark.rule("events.call-ended", "events.participant-left")
def test_at_the_end_whoever_is_present_has_left(agora: Agora) -> None:
    agora.tell(103, "doctor", seq=1)
    agora.tell(103, "patient", seq=1)
    agora.tell(104, "patient", seq=2)
    assert agora.api.act("patient", agora.call["id"], "end").status_code == 200
    ended = [
        (JOINED, "doctor"),
        (JOINED, "patient"),
        (LEFT, "patient"),
        (LEFT, "doctor"),
        ("call.ended", None),
    ]
    assert told(agora.api) == ended
    agora.tell(104, "doctor", seq=2)
    agora.tell(103, "patient", seq=3)
    assert told(agora.api) == ended


@pytest.mark.parametrize("status", ["scheduled", "completed", "cancelled"])
def test_nobody_is_present_in_a_call_that_is_not_ongoing(noticing: Api, status: str) -> None:
    call = noticing.call(status)
    before = told(noticing)
    agora = Agora(noticing, call)
    agora.tell(103, seq=1)
    agora.tell(104, seq=2)
    assert told(noticing) == before
    assert noticing.get("doctor", f"{CALLS}{call['id']}/").json() == call


@pytest.mark.rule("model.updated-at")
def test_notice_wakes_followers_and_leaves_the_call_unchanged(agora: Agora) -> None:
    agora.api.clock.advance(minutes=1)
    headers = agora.api.headers("patient")
    with agora.api.client.websocket_connect("/api/v1/video/events/", headers=headers) as session:
        agora.tell(103)
        event: dict[str, Any] = session.receive_json(timeout=5)
    assert (event["type"], event["data"]["participant"]) == (
        JOINED,
        {"uid": USERS["doctor"], "role": "doctor"},
    )
    assert event["data"]["call"] == agora.call
    assert agora.api.get("doctor", f"{CALLS}{agora.call['id']}/").json() == agora.call


def test_agora_sends_again_what_could_not_be_kept(agora: Agora, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_: object) -> None:
        raise UnavailableError("database is locked")

    body = agora.message(103)
    with monkeypatch.context() as patched:
        patched.setattr(SqliteStore, "write", unavailable)
        assert agora.api.client.post(PATH, content=body, headers=signed(body)).status_code == 503
    agora.send(body)
    assert told(agora.api) == [(JOINED, "doctor")]


# -- Calls that end by themselves -------------------------------------------------------------------

FIVE = timedelta(minutes=5)


@pytest.fixture
def ending(make_api: Callable[..., Api]) -> Agora:
    """Agora, for a call that ends when both have left it for five minutes."""
    api = make_api(agora_ncs_secret=SECRET, end_when_empty_minutes=5)
    return Agora(api, api.call("ongoing"))


def look(api: Api) -> datetime | None:
    return anyio.run(operations_of(api).end_empty_calls)


def status_of(agora: Agora) -> str:
    status: str = agora.api.get("doctor", f"{CALLS}{agora.call['id']}/").json()["status"]
    return status


def leave_both(agora: Agora) -> None:
    """Both come, the doctor leaves, and a minute later the patient."""
    agora.tell(103, "doctor", seq=1)
    agora.tell(103, "patient", seq=1)
    agora.tell(104, "doctor", seq=2)
    agora.api.clock.advance(minutes=1)
    agora.tell(104, "patient", seq=2)


@pytest.mark.rule("events.call-ended")
def test_a_call_ends_once_both_have_left_for_long_enough(ending: Agora) -> None:
    leave_both(ending)
    clock = ending.api.clock
    due = clock.now() + FIVE
    assert look(ending.api) == due
    clock.advance(minutes=5, microseconds=-1)
    assert (look(ending.api), status_of(ending)) == (due, "ongoing")
    clock.advance(microseconds=1)
    assert look(ending.api) is None
    found = ending.api.get("doctor", f"{CALLS}{ending.call['id']}/").json()
    assert (found["status"], found["ended_at"]) == ("completed", "2024-01-05T08:06:00Z")
    assert found["updated_at"] == found["ended_at"]
    assert told(ending.api)[-2:] == [(LEFT, "patient"), ("call.ended", None)]
    assert look(ending.api) is None
    assert told(ending.api).count(("call.ended", None)) == 1


def test_a_call_goes_on_while_one_is_there_or_has_never_been(ending: Agora) -> None:
    ending.tell(103, "doctor", seq=1)
    ending.tell(104, "doctor", seq=2)
    ending.api.clock.advance(hours=1)
    assert (look(ending.api), status_of(ending)) == (None, "ongoing")  # the patient may be late
    ending.tell(103, "patient", seq=1)
    ending.api.clock.advance(hours=1)
    assert (look(ending.api), status_of(ending)) == (None, "ongoing")


def test_who_comes_back_starts_the_time_anew(ending: Agora) -> None:
    leave_both(ending)
    ending.api.clock.advance(minutes=4)
    ending.tell(103, "doctor", seq=3)
    ending.api.clock.advance(minutes=4)
    assert look(ending.api) is None
    ending.tell(104, "doctor", seq=4)
    assert look(ending.api) == ending.api.clock.now() + FIVE


def test_who_joins_anew_is_given_the_time_to_come(ending: Agora) -> None:
    leave_both(ending)
    ending.api.clock.advance(minutes=4)
    assert ending.api.act("doctor", ending.call["id"], "join").status_code == 200
    assert look(ending.api) == ending.api.clock.now() + FIVE


def test_who_is_gone_already_does_not_leave_again(ending: Agora) -> None:
    leave_both(ending)
    due, events = ending.api.clock.now() + FIVE, told(ending.api)
    ending.api.clock.advance(minutes=2)
    ending.tell(104, "patient", seq=3)
    assert (look(ending.api), told(ending.api)) == (due, events)


def test_the_first_of_several_is_due_first(ending: Agora) -> None:
    api = ending.api
    created = api.create(minutes=50).json()
    api.clock.advance(minutes=36)
    assert api.act("doctor", created["id"], "join").status_code == 200
    other = Agora(api, created)
    leave_both(ending)
    first = api.clock.now() + FIVE
    api.clock.advance(minutes=1)
    for event, user, seq in (
        (103, "doctor", 1),
        (104, "doctor", 2),
        (103, "patient", 1),
        (104, "patient", 2),
    ):
        other.send(other.message(event, user, seq=seq).replace(b"2000001428", b"2000001429"))
    assert look(api) == first
    api.clock.time = first
    assert look(api) == first + timedelta(minutes=1)
    assert (status_of(ending), status_of(other)) == ("completed", "ongoing")


def test_one_who_left_does_not_empty_a_call() -> None:
    now = FakeClock().now()
    doctor, patient = Doctor(1, User(101, "d@x", "D", True)), Patient(1, User(102, "p@x", "P", True))
    call = NewCall("call", doctor, patient, now, now).with_id(1)._replace(status="ongoing")
    left = leave(call, "doctor", now).call
    assert end_empty(left, now + FIVE, after=FIVE).events == ()
    assert end_empty(leave(left, "patient", now).call, now + FIVE, after=FIVE).events == (
        Event("call.ended"),
    )


def test_what_became_due_while_the_server_was_down_ends_as_it_starts(
    make_api: Callable[..., Api], tmp_path: Path
) -> None:
    options = {"database": str(tmp_path / "calls.db"), "agora_ncs_secret": SECRET}
    agora = Agora(first := make_api(**options), first.call("ongoing"))  # whose calls go on
    leave_both(agora)
    first.clock.advance(minutes=5)
    assert status_of(agora) == "ongoing"
    again = make_api(**options, end_when_empty_minutes=5)
    assert again.get("doctor", f"{CALLS}{agora.call['id']}/").json()["status"] == "completed"


class Woken(Exception):
    """The test has seen enough."""


@pytest.fixture
def passing(ending: Agora) -> tuple[Agora, EmptyCalls, list[float]]:
    """The watch over a clock that every sleep moves, until it has slept four times."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        if len(slept) == 4:
            raise Woken
        slept.append(seconds)
        ending.api.clock.advance(seconds=seconds)

    return (
        ending,
        EmptyCalls(operations_of(ending.api).end_empty_calls, ending.api.clock, FIVE, sleep=sleep),
        slept,
    )


async def run_watch(empty_calls: EmptyCalls) -> None:
    async with empty_calls.running():
        await anyio.sleep_forever()


def watch(empty_calls: EmptyCalls) -> None:
    with pytest.raises(ExceptionGroup) as ended:
        anyio.run(run_watch, empty_calls)
    assert ended.group_contains(Woken)


def test_the_watch_looks_when_a_call_is_due(passing: tuple[Agora, EmptyCalls, list[float]]) -> None:
    agora, empty_calls, slept = passing
    leave_both(agora)
    agora.api.clock.advance(minutes=2)
    watch(empty_calls)
    assert slept == [180, 300, 300, 300]
    found = agora.api.get("doctor", f"{CALLS}{agora.call['id']}/").json()
    assert (found["status"], found["ended_at"]) == ("completed", "2024-01-05T08:06:00Z")


def test_the_watch_goes_on_after_the_database_did_not_answer(
    passing: tuple[Agora, EmptyCalls, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    agora, empty_calls, slept = passing
    leave_both(agora)
    agora.api.clock.advance(minutes=5)
    attempts: list[int] = []
    write = SqliteStore.write

    async def sometimes(store: SqliteStore, work: Any) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            raise UnavailableError("database is locked")
        return await write(store, work)

    monkeypatch.setattr(SqliteStore, "write", sometimes)
    watch(empty_calls)
    assert slept[:2] == [RETRY_SECONDS, 300]
    assert status_of(agora) == "completed"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"end_when_empty_minutes": 5}, "AGORA_NCS_SECRET"),
        ({"end_when_empty_minutes": -1, "agora_ncs_secret": SECRET}, "0 to 1440"),
        ({"end_when_empty_minutes": 1441, "agora_ncs_secret": SECRET}, "0 to 1440"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings(**options)
