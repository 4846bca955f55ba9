"""The server with `--ids uuid`: requests and responses contain UUIDs."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from video_calls_server.__main__ import main
from video_calls_server.api.ids import Kind, ids_of
from video_calls_server.command.banner import banner
from video_calls_server.settings import Settings
from video_calls_server.store.seed import load_seed

from support.api import CALLS, Api
from support.listener import listening

UUIDS = ids_of("uuid")
DOCTOR, PATIENT = UUIDS.format("doctor", 1), UUIDS.format("patient", 1)
UNKNOWN = UUID("9f0c2b7e-5d1a-4c3b-8a60-1e2f3a4b5c6d")
KINDS: tuple[Kind, ...] = ("call", "doctor", "patient")


@pytest.fixture
def uuid_api(make_api: Callable[..., Api]) -> Api:
    return make_api(ids="uuid")


def create(api: Api, *, doctor: Any = DOCTOR, patient: Any = PATIENT) -> Any:
    time = (api.clock.now() + timedelta(minutes=10)).isoformat()
    return api.post("doctor", CALLS, json={"doctor": doctor, "patient": patient, "scheduled_time": time})


@pytest.mark.parametrize("number", [1, 2, 2**63 - 1])
def test_uuid_contains_kind_and_number(number: int) -> None:
    for kind in KINDS:
        text = str(UUIDS.format(kind, number))
        assert (str(UUID(text)), UUID(text).version) == (text, 4)
        assert UUIDS.parse(kind, text) == UUIDS.parse(kind, text.upper()) == number
        others = [other for other in KINDS if other != kind]
        assert [UUIDS.parse(other, text) for other in others] == [None, None]


def test_uuid_of_number_never_changes() -> None:
    assert DOCTOR == "fcf036d0-5912-43dd-8b96-43d1747ae2a9"


@pytest.mark.parametrize("change", range(0, 128, 9))
def test_uuid_with_flipped_bit_is_unknown(change: int) -> None:
    changed = UUID(int=UUID(str(DOCTOR)).int ^ 1 << change)
    assert UUIDS.parse("doctor", str(changed)) is None


def test_call_is_addressed_by_uuid(uuid_api: Api) -> None:
    response = create(uuid_api)
    call = response.json()
    assert UUIDS.parse("call", call["id"]) == 1
    assert response.headers["location"] == f"{CALLS}{call['id']}/"
    assert (call["doctor"], call["doctor_details"]["id"], call["patient"]) == (DOCTOR, DOCTOR, PATIENT)
    assert uuid_api.get("patient").json()["results"] == [call]
    assert uuid_api.get("patient", f"{CALLS}{call['id'].upper()}/").json() == call
    with listening(uuid_api, "patient") as events:
        joined = uuid_api.act("doctor", call["id"], "join").json()
        assert joined["uid"] == 101
        event = events.next()["data"]["call"]
    ended = uuid_api.act("doctor", call["id"], "end").json()
    assert {event[name] for name in ("id", "doctor", "patient")} == {call["id"], DOCTOR, PATIENT}
    assert ended["id"] == call["id"]


@pytest.mark.parametrize("call_id", ["1", str(DOCTOR), str(UNKNOWN), f"{{{UNKNOWN}}}", UNKNOWN.hex])
def test_unknown_call_id_is_not_found(uuid_api: Api, call_id: str) -> None:
    create(uuid_api)
    assert uuid_api.get("doctor", f"{CALLS}{call_id}/").json()["code"] == "get.not-found"


@pytest.mark.parametrize(
    ("patient", "code"),
    [
        (1, "create.valid-body"),
        ("1", "create.valid-body"),
        (str(DOCTOR) + "\n", "create.valid-body"),
        (str(UNKNOWN), "create.patient-valid"),
        (DOCTOR, "create.patient-valid"),
    ],
)
def test_invalid_patient_id_is_refused(uuid_api: Api, patient: Any, code: str) -> None:
    assert create(uuid_api, patient=patient).json()["code"] == code


def test_control_api_uses_uuids(uuid_api: Api) -> None:
    call_id = create(uuid_api).json()["id"]
    uuid_api.manage("POST", "/faults", {"call": call_id, "status": 503, "times": 1})
    assert uuid_api.get("doctor", f"{CALLS}{call_id}/").status_code == 503
    assert uuid_api.manage("GET", f"/requests?call={call_id}")[0]["call"] == call_id
    assert [call["id"] for call in uuid_api.manage("GET", "/calls")] == [call_id]
    verdicts = uuid_api.manage("GET", f"/calls/{call_id}/verdicts?identity=101")
    assert verdicts["call"] == call_id
    uuid_api.manage("PUT", "/clock", {"join_window_of": call_id})
    uuid_api.act("doctor", call_id, "join")
    present = uuid_api.manage("PUT", f"/calls/{call_id}/participants/patient", {"present": True})
    assert present["call"] == call_id
    users = {user["email"]: user for user in uuid_api.manage("GET", "/identities")}
    assert users["doctor@example.com"]["doctor"]["id"] == DOCTOR
    assert uuid_api.control("GET", f"/calls/{DOCTOR}/verdicts?identity=101").status_code == 404


def test_state_document_uses_uuids(uuid_api: Api) -> None:
    call_id = create(uuid_api).json()["id"]
    uuid_api.act("doctor", call_id, "cancel")
    state = uuid_api.manage("GET", "/state")
    assert (state["calls"][0]["id"], state["calls"][0]["doctor"]) == (call_id, DOCTOR)
    assert state["events"][0]["data"]["call"]["id"] == call_id
    uuid_api.manage("PUT", "/state", state)
    assert uuid_api.manage("GET", "/state") == state
    state["calls"][0]["doctor"] = PATIENT
    refusal = uuid_api.control("PUT", "/state", state).json()
    assert refusal["error"] == f"calls[0].doctor: {PATIENT!r} is not the id of a doctor on this server"


def test_stored_integer_ids_are_sent_as_uuids(make_api: Callable[..., Api], tmp_path: Path) -> None:
    database = str(tmp_path / "calls.db")
    numbers = make_api(database=database)
    numbers.act("doctor", numbers.call()["id"], "cancel")
    with listening(make_api(database=database, ids="uuid"), "doctor", "?last_event_id=0") as events:
        assert events.next()["data"]["call"]["doctor"] == DOCTOR


def test_commands_print_uuids() -> None:
    options = ("--ids", "uuid", "--database", ":memory:")
    result = CliRunner().invoke(main, ["identities", "--json", *options])
    assert json.loads(result.output)[0]["doctor"] == DOCTOR
    config = CliRunner().invoke(main, ["identities", "--contract-config", "http://127.0.0.1/x", *options])
    assert f'[identities.doctor]\nid = "{DOCTOR}"\n' in config.output
    text = banner(Settings(ids="uuid"), "http://127.0.0.1", "", load_seed(), options="")
    assert f"doctor {DOCTOR}" in text
