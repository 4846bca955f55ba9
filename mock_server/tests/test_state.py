"""State: export and import, reset, sample calls and snapshots."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from video_calls_server.control.state import snapshots
from video_calls_server.store import UnavailableError, store_for
from video_calls_server.store.dump import Dump, restore
from video_calls_server.store.seed import load_seed

from support.api import CALLS, Api, FakeClock, in_memory
from support.listener import listening

USERS = [
    {"id": 101, "email": "doctor@example.com", "full_name": "Dr. John Doe", "doctor": {"id": 1}},
    {"id": 102, "email": "patient@example.com", "full_name": "Jane Smith", "patient": {"id": 1}},
    {
        "id": 107,
        "email": "dual.user@example.com",
        "full_name": "D",
        "doctor": {"id": 4},
        "patient": {"id": 4},
    },
]
TIME = "2024-01-05T10:00:00Z"


def state(api: Api) -> dict[str, Any]:
    document: dict[str, Any] = api.manage("GET", "/state")
    return document


def put_calls(api: Api, *calls: dict[str, Any]) -> list[dict[str, Any]]:
    """Import calls. Return them as the server exports them."""
    pair = {"doctor": 1, "patient": 1, "scheduled_time": TIME}
    api.manage("PUT", "/state", {"users": USERS, "calls": [pair | call for call in calls]})
    exported: list[dict[str, Any]] = state(api)["calls"]
    return exported


@pytest.fixture
def full(make_api: Callable[..., Api], clock: FakeClock) -> Api:
    """Return a server with data of every kind."""
    api = make_api(rate_limit="1000/minute")
    assert api.create(minutes=600, headers={"Idempotency-Key": "one"}).status_code == 201
    call = api.create(minutes=10).json()
    api.manage("POST", "/state/calls", {"count": 30})
    for user in ("doctor", "patient"):
        assert api.act(user, call["id"], "join").status_code == 200
    assert api.manage("PUT", f"/calls/{call['id']}/participants/doctor", {"present": False})["changed"]
    clock.advance(days=0.3, microseconds=7)
    api.manage("POST", "/faults", {"status": 503, "times": 2, "operation": "joinVideoCall"})
    api.manage("PUT", "/clock", {"running": False})
    return api


# -- Export and import -------------------------------------------------------------------------------


def test_exported_state_survives_import(full: Api, make_api: Callable[..., Api]) -> None:
    export = full.control("GET", "/state")
    document = export.json()
    assert {name for name, value in document.items() if not value} == set()
    for api in (full, make_api()):
        assert api.control("PUT", "/state", content=export.content).status_code == 204
        assert api.control("GET", "/state").content == export.content


def test_server_continues_after_import_like_the_original(full: Api, make_api: Callable[..., Api]) -> None:
    document = state(full)
    other = make_api()
    other.manage("PUT", "/state", document)
    first, second = (api.create(minutes=3000).json() for api in (full, other))
    assert first["id"] == second["id"]
    repeated = other.create(minutes=600 - 0.3 * 1440, headers={"Idempotency-Key": "one"})
    assert repeated.status_code == 422  # the key belongs to a call at another time
    ongoing = document["calls"][1]
    assert other.act("doctor", ongoing["id"], "end").json()["status"] == "completed"
    assert state(other)["events"][-1]["id"] == document["events"][-1]["id"] + 2


def test_import_sets_clock_only_if_given(api: Api) -> None:
    api.manage("PUT", "/clock", {"time": "2030-01-01T00:00:00Z"})
    put_calls(api)
    assert api.manage("GET", "/clock")["time"] == "2030-01-01T00:00:00Z"
    api.manage("PUT", "/state", {"users": USERS, "clock": {"time": "2031-01-01T01:00:00+01:00"}})
    clock = api.manage("GET", "/clock")
    assert (clock["time"], clock["running"]) == ("2031-01-01T00:00:00Z", True)


def test_import_replaces_faults(api: Api) -> None:
    api.manage("POST", "/faults", {"status": 503})
    put_calls(api)
    assert api.manage("GET", "/faults") == []
    api.manage("PUT", "/state", {"users": USERS, "faults": [{"status": 500, "times": 1}]})
    assert api.get("doctor").status_code == 500
    assert api.get("doctor").status_code == 200
    assert state(api)["faults"] == []  # the fault has acted once


# -- Minimal documents -------------------------------------------------------------------------------


def test_minimal_call_of_each_status_is_imported(api: Api, clock: FakeClock) -> None:
    clock.time = datetime(2024, 1, 5, 10, 10, tzinfo=UTC)
    statuses = ["scheduled", "ongoing", "completed", "cancelled"]
    calls = put_calls(api, *({"status": status} for status in statuses))
    assert len({call["channel_name"] for call in calls}) == 4
    assert all(re.fullmatch(r"call_\d+_\d{16}", call["channel_name"]) for call in calls)
    assert [call["updated_at"] for call in calls] == [
        "2024-01-04T10:00:00Z",
        TIME,
        "2024-01-05T10:10:00Z",
        "2024-01-04T10:00:00Z",
    ]
    listed_statuses = {call["id"]: call["status"] for call in api.get("doctor").json()["results"]}
    assert listed_statuses == dict(enumerate(statuses, 1))
    assert api.act("patient", 2, "join").status_code == 200
    assert api.act("doctor", 2, "end").status_code == 200
    assert api.create(minutes=60).json()["id"] == 5


@pytest.mark.parametrize(
    ("call", "times"),
    [
        ({"scheduled_time": "2024-01-05T12:00:00Z"}, ["2024-01-05T08:00:00Z", None, None]),
        (
            {"scheduled_time": "2024-01-05T08:10:00Z", "status": "ongoing"},
            ["2024-01-04T08:00:00Z", "2024-01-05T08:00:00Z", None],
        ),
        (
            {"scheduled_time": "2024-01-04T10:00:00Z", "status": "completed"},
            ["2024-01-03T10:00:00Z", "2024-01-04T10:00:00Z", "2024-01-04T10:30:00Z"],
        ),
        (
            {"status": "completed", "ended_at": "2024-01-05T09:50:00Z"},
            ["2024-01-05T08:00:00Z", "2024-01-05T09:50:00Z", "2024-01-05T09:50:00Z"],
        ),
        (
            {"status": "completed", "started_at": "9999-12-31T23:59:59Z"},
            ["2024-01-05T08:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"],
        ),
        ({"scheduled_time": "0001-01-01T00:00:00Z"}, ["0001-01-01T00:00:00Z", None, None]),
    ],
)
def test_import_fills_in_times_that_fit(api: Api, call: dict[str, Any], times: list[str | None]) -> None:
    (imported,) = put_calls(api, call)
    assert [imported[name] for name in ("created_at", "started_at", "ended_at")] == times


def test_import_assigns_free_ids(api: Api) -> None:
    calls = put_calls(api, {}, {"id": 1}, {}, {"id": 7}, {})
    assert [call["id"] for call in calls] == [1, 2, 3, 4, 7]
    assert api.create().json()["id"] == 8


# -- Invalid documents -------------------------------------------------------------------------------

EVENT_CALL = {
    "id": 1,
    "channel_name": "c",
    "doctor": 1,
    "patient": 1,
    "doctor_details": {"id": 1, "user": {"email": "doctor@example.com", "full_name": "D"}},
    "patient_details": {"id": 1, "user": {"email": "patient@example.com", "full_name": "P"}},
    "status": "cancelled",
    "scheduled_time": TIME,
    "started_at": None,
    "ended_at": None,
    "created_at": TIME,
    "updated_at": TIME,
}
EVENT = {"type": "call.cancelled", "created_at": TIME, "to": [101, 102], "data": {"call": EVENT_CALL}}
CALL = {"doctor": 1, "patient": 1, "scheduled_time": TIME}
KEY_OF_CALL = {"key": "k", "call": 1, "created_at": TIME}
WHOLE: dict[str, Any] = {
    "users": USERS,
    "calls": [CALL | {"id": 1, "channel_name": "c"}, CALL | {"status": "ongoing"}],
    "events": [EVENT | {"id": 1}, EVENT | {"id": 2}],
    "idempotency_keys": [{"user": 101} | KEY_OF_CALL, {"user": 102} | KEY_OF_CALL],
    "clock": {"time": TIME, "running": False},
    "faults": [{"status": 503}],
}


@pytest.fixture(scope="module")
def in_use() -> Iterator[Api]:
    """Yield an application with data, which no invalid document may change."""
    with in_memory() as api:
        api.manage("PUT", "/state", WHOLE)
        yield api


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        ("people", [], "the document: "),
        ("users", [], "users: "),
        ("users.1.id", 101, "users[1].id: 101 is not unique; another user has it too"),
        ("calls.1.doctor", 9, "calls[1].doctor: there is no doctor 9"),
        ("calls.1.id", 1, "calls[1].id: 1 is not unique; another call has it too"),
        ("calls.1.id", 2**53, "calls[1].id: "),
        ("calls.1.channel_name", "c", "calls[1].channel_name: c is not unique; another call has it too"),
        ("calls.1.channel_name", "c\n", "calls[1].channel_name: must be 1 to 63 characters"),
        ("calls.1.status", "over", "calls[1].status: "),
        ("calls.1", CALL | {"doctor": 4, "patient": 4}, "calls[1]: doctor 4 and patient 4 are the same user"),
        (
            "calls.1",
            CALL | {"status": "completed", "started_at": TIME, "ended_at": "2024-01-05T09:59:59Z"},
            "calls[1].ended_at: is before started_at",
        ),
        ("calls.1.scheduled_time", "2024-01-05T10:00:00", "calls[1].scheduled_time: "),
        ("calls.1.scheduled_time", "9999-12-31T23:59:59-01:00", "calls[1].scheduled_time: is not a time"),
        ("calls.1.started_at", None, "calls[1].started_at: an ongoing call must have one"),
        ("calls.1.ended_at", TIME, "calls[1].ended_at: an ongoing call must not have one"),
        ("calls.0.present", ["doctor"], "calls[0].present: only an ongoing call can have this"),
        ("events.1.id", 1, "events[1].id: 1 is not above 1; events must be in"),
        ("events.1.to", [101, 9], "events[1].to[1]: there is no user 9"),
        ("events.1.to", [101, 101], "events[1].to[1]: 101 is not unique; another recipient has it too"),
        ("events.1.data.call.id", 1.5, "events[1].data.call.id: "),
        ("idempotency_keys.1.user", 101, "idempotency_keys[1].key: k is not unique"),
        ("idempotency_keys.0.call", 9, "idempotency_keys[0].call: there is no call 9"),
        ("clock.time", "1970-01-01T00:00:00Z", "clock.time: must be within the years 1971 to 9000"),
        ("faults.0", {}, "faults[0]: status: the fault would do nothing"),
    ],
)
def test_invalid_document_is_refused_with_its_place(
    in_use: Api, place: str, value: object, error: str
) -> None:
    before = state(in_use)
    document = json.loads(json.dumps(WHOLE))
    *way, field = place.split(".")
    target: Any = document
    for step in way:
        target = target[int(step) if step.isdigit() else step]
    target[int(field) if field.isdigit() else field] = value
    refusal = in_use.control("PUT", "/state", document)
    assert (refusal.status_code, refusal.json()["code"]) == (400, "invalid")
    assert refusal.json()["error"].startswith(error)
    assert state(in_use) == before


# -- Reset, and sample calls -------------------------------------------------------------------------


def test_reset_restores_users_and_first_ids(api: Api) -> None:
    api.call("completed")
    api.manage("PUT", "/clock", {"time": "2030-01-01T00:00:00Z", "running": False})
    api.manage("POST", "/faults", {"status": 503})
    api.manage("POST", "/state/reset")
    empty = state(api)
    assert (empty["calls"], empty["events"], empty["faults"]) == ([], [], [])
    assert empty["clock"] == {"time": "2024-01-05T08:00:00Z", "running": True}
    assert len(empty["users"]) == 8
    assert api.create().json()["id"] == 1


def test_sample_calls_are_added_to_existing_ones(api: Api) -> None:
    existing = api.call()
    last = datetime.max.replace(tzinfo=UTC) - api.clock.now()
    assert api.create(minutes=last // timedelta(minutes=1)).status_code == 201
    assert api.manage("POST", "/state/calls", {"count": 20}) == {"count": 20}
    calls = api.manage("GET", "/calls")
    assert len(calls) == 22
    assert {call["status"] for call in calls} == {"scheduled", "ongoing", "completed", "cancelled"}
    assert api.get("doctor", f"{CALLS}{existing['id']}/").json() == existing


def test_sample_calls_need_active_users(api: Api) -> None:
    doctor, patient, both = USERS
    for users in ([both], [doctor, patient | {"active": False}]):
        api.manage("PUT", "/state", {"users": users})
        refusal = api.control("POST", "/state/calls", {"count": 4})
        assert refusal.status_code == 400
        assert "active doctor and an active patient" in refusal.json()["error"]


# -- Snapshots ---------------------------------------------------------------------------------------


def test_restored_snapshot_has_state_clock_and_faults(full: Api) -> None:
    before = full.control("GET", "/state").content
    full.manage("PUT", "/snapshots/before")
    assert full.control("GET", "/snapshots/before").content == before
    full.manage("PUT", "/state", {"users": USERS, "clock": {"time": TIME}, "faults": [{"status": 500}]})
    full.manage("POST", "/snapshots/before/restore")
    assert full.control("GET", "/state").content == before


def test_restore_resets_next_call_and_event_ids(api: Api) -> None:
    api.call("completed")
    api.manage("PUT", "/snapshots/s")
    first = [api.call("cancelled")["id"], state(api)["events"][-1]["id"]]
    api.manage("POST", "/snapshots/s/restore")
    assert [api.call("cancelled")["id"], state(api)["events"][-1]["id"]] == first


def test_running_clock_continues_after_restore(api: Api, clock: FakeClock) -> None:
    api.manage("PUT", "/snapshots/s")
    clock.advance(hours=5)
    api.manage("POST", "/snapshots/s/restore")
    assert api.manage("GET", "/clock")["time"] == "2024-01-05T08:00:00Z"
    clock.advance(hours=1)
    assert api.manage("GET", "/clock")["time"] == "2024-01-05T09:00:00Z"


def test_snapshots_are_listed_replaced_and_deleted(api: Api) -> None:
    api.manage("PUT", "/snapshots/b")
    api.call()
    api.manage("PUT", "/snapshots/a.1_-")
    listed = api.manage("GET", "/snapshots")
    assert [(each["name"], each["calls"]) for each in listed] == [("a.1_-", 1), ("b", 0)]
    saved_at = datetime.fromisoformat(listed[0]["saved_at"])
    assert abs(datetime.now(UTC) - saved_at) < timedelta(minutes=1)
    api.manage("PUT", "/snapshots/b")
    api.manage("DELETE", "/snapshots/a.1_-")
    assert [(each["name"], each["calls"]) for each in api.manage("GET", "/snapshots")] == [("b", 1)]


def test_number_of_snapshots_is_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MAX_SNAPSHOTS", 3)
    for name in ("a", "b", "c", "a"):
        api.manage("PUT", f"/snapshots/{name}")
    refusal = api.control("PUT", "/snapshots/d")
    assert refusal.status_code == 400
    assert "already 3 snapshots" in refusal.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "other", 404), ("POST", "other/restore", 404), ("DELETE", "other", 404), ("PUT", "a%0A", 400)],
)
def test_unknown_or_invalid_snapshot_is_refused(
    read_only_api: Api, method: str, path: str, status: int
) -> None:
    assert read_only_api.control(method, f"/snapshots/{path}").status_code == status


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/state", {"users": USERS}),
        ("POST", "/state/reset", None),
        ("POST", "/state/calls", {"count": 4}),
        ("POST", "/snapshots/s/restore", None),
    ],
)
def test_import_closes_event_connections(api: Api, method: str, path: str, body: object) -> None:
    api.manage("PUT", "/snapshots/s")
    with listening(api, "doctor") as session:
        api.manage(method, path, body)
        assert session.close_code() == 4410


def test_restore_into_locked_database_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("video_calls_server.store.sqlite.BUSY_TIMEOUT", 0.05)
    store = store_for(str(tmp_path / "calls.db"), load_seed())
    users = asyncio.run(store.people())
    other = sqlite3.connect(tmp_path / "calls.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError):
        asyncio.run(restore(store, Dump()))
    other.execute("ROLLBACK")
    other.close()
    assert asyncio.run(store.people()) == users
    asyncio.run(store.close())
