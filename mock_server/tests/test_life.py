"""Sections 3 to 6 of the document: reading, joining, ending and cancelling a call."""

import time
from collections.abc import Callable
from datetime import datetime
from itertools import product
from typing import Any

import pytest
from video_calls_server.agora.tokens import DEVELOPMENT_PROJECT

from support.api import CALLS, USERS, Api

ERRORS = {
    "join.not-cancelled": "This call has been cancelled",
    "join.not-completed": "This call has already been completed",
    "end.ongoing-only": "Only an ongoing call can be ended",
    "cancel.scheduled-only": "Only a scheduled call can be cancelled",
}


def read(api: Api, call: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = api.get("doctor", f"{CALLS}{call['id']}/").json()
    return record


# -- Which user, and which call ---------------------------------------------------------------------


@pytest.mark.rule("get.returns-call", "model.schema", "model.integer-ids", "model.status-values")
@pytest.mark.parametrize("user", ["doctor", "patient"])
def test_get_returns_call_to_both_participants(api: Api, user: str) -> None:
    call = api.create().json()
    assert api.get(user, f"{CALLS}{call['id']}/").json() == call


@pytest.mark.rule("get.not-found", "join.not-found", "end.not-found", "cancel.not-found")
@pytest.mark.parametrize(
    "call_id",
    ["2", "0", "9223372036854775807", "9223372036854775808", "9" * 400, "abc", "+1", "%00", "%D9%A1"],
)
def test_unknown_call_is_not_found(api: Api, call_id: str) -> None:
    api.call()
    for action in ("get", "join", "end", "cancel"):
        path = f"{CALLS}{call_id}/" if action == "get" else f"{CALLS}{call_id}/{action}/"
        refusal = api.get("doctor", path) if action == "get" else api.post("doctor", path)
        assert refusal.status_code == 404
        assert refusal.json() == {"error": "Video call not found", "code": f"{action}.not-found"}


@pytest.mark.rule(
    "get.participants-only", "join.participants-only", "end.participants-only", "cancel.participants-only"
)
@pytest.mark.rule("errors.order")
@pytest.mark.parametrize("status", ["scheduled", "ongoing", "completed", "cancelled"])
def test_outsider_is_refused_by_every_operation(api: Api, status: str) -> None:
    call = api.call(status)
    path = f"{CALLS}{call['id']}/"
    for user, action in product(
        ("outsider", "other_doctor", "other_patient"), ("get", "join", "end", "cancel")
    ):
        refusal = api.get(user, path) if action == "get" else api.post(user, f"{path}{action}/")
        assert refusal.status_code == 403
        assert refusal.json() == {
            "error": "You are not authorized to access this call",
            "code": f"{action}.participants-only",
        }
    assert read(api, call) == call


# -- The state machine ------------------------------------------------------------------------------


@pytest.mark.rule("join.not-cancelled", "join.not-completed", "end.ongoing-only", "cancel.scheduled-only")
@pytest.mark.rule("model.updated-at", "model.started-at", "model.ended-at", "model.channel-constant")
@pytest.mark.rule("end.completes", "cancel.cancels", "join.starts-call", "join.started-once", "join.again")
@pytest.mark.parametrize("user", ["doctor", "patient"])
@pytest.mark.parametrize(
    ("status", "action", "outcome"),
    [
        ("scheduled", "join", "ongoing"),
        ("scheduled", "end", "end.ongoing-only"),
        ("scheduled", "cancel", "cancelled"),
        ("ongoing", "join", "ongoing"),
        ("ongoing", "end", "completed"),
        ("ongoing", "cancel", "cancel.scheduled-only"),
        ("completed", "join", "join.not-completed"),
        ("completed", "end", "end.ongoing-only"),
        ("completed", "cancel", "cancel.scheduled-only"),
        ("cancelled", "join", "join.not-cancelled"),
        ("cancelled", "end", "end.ongoing-only"),
        ("cancelled", "cancel", "cancel.scheduled-only"),
    ],
)
def test_call_status_decides_if_action_is_refused(
    api: Api, user: str, status: str, action: str, outcome: str
) -> None:
    before = api.call(status)
    api.clock.advance(minutes=5)
    now = "2024-01-05T08:05:00Z"
    answer = api.act(user, before["id"], action)
    after = read(api, before)
    if outcome in ERRORS:
        assert answer.status_code == 400
        assert answer.json() == {"error": ERRORS[outcome], "code": outcome}
        assert after == before
        return
    assert answer.status_code == 200
    changes: dict[str, Any] = {
        "ongoing": {"status": "ongoing", "started_at": now, "updated_at": now},
        "completed": {"status": "completed", "ended_at": now, "updated_at": now},
        "cancelled": {"status": "cancelled", "updated_at": now},
    }[outcome]
    assert after == before | (changes if outcome != status else {})
    if action != "join":
        assert answer.json() == after


# -- Joining ----------------------------------------------------------------------------------------


@pytest.mark.rule("join.window")
@pytest.mark.parametrize("minutes", [15.001, 60])
def test_join_before_window_is_refused(api: Api, minutes: float) -> None:
    call = api.create(minutes=minutes).json()
    refusal = api.act("doctor", call["id"], "join")
    assert refusal.status_code == 400
    assert refusal.json() == {"error": "This call is not scheduled to start yet", "code": "join.window"}
    assert read(api, call) == call


def test_join_window_opens_15_minutes_before_start(api: Api) -> None:
    assert api.act("doctor", api.create(minutes=15).json()["id"], "join").status_code == 200


def test_join_window_does_not_close(api: Api) -> None:
    call = api.call()
    api.clock.advance(days=365)
    assert api.act("doctor", call["id"], "join").status_code == 200
    api.clock.advance(days=365)
    assert api.act("patient", call["id"], "join").status_code == 200


def test_join_checks_status_before_window(api: Api) -> None:
    call = api.create(minutes=60).json()
    api.act("doctor", call["id"], "cancel")
    assert api.act("doctor", call["id"], "join").json()["code"] == "join.not-cancelled"


@pytest.mark.rule("join.credentials", "join.app-id", "join.expiration-time", "join.token-lifetime")
def test_join_returns_credentials_for_one_hour(api: Api) -> None:
    call = api.call()
    before = int(time.time())
    answer = api.act("doctor", call["id"], "join")
    after = int(time.time())
    assert answer.headers["cache-control"] == "no-store"
    credentials = answer.json()
    assert credentials.pop("token").startswith("006" + DEVELOPMENT_PROJECT.app_id)
    expires = datetime.fromisoformat(credentials.pop("expiration_time"))
    assert before + 3600 <= expires.timestamp() <= after + 3600
    assert credentials == {
        "channel_name": call["channel_name"],
        "uid": USERS["doctor"],
        "app_id": DEVELOPMENT_PROJECT.app_id,
    }


@pytest.mark.rule("join.same-channel", "join.uid-differs", "join.uid-stable")
def test_join_returns_same_channel_and_separate_uids(api: Api) -> None:
    call = api.call()
    joins = [api.act(user, call["id"], "join").json() for user in ("doctor", "patient", "doctor", "patient")]
    assert {join["channel_name"] for join in joins} == {call["channel_name"]}
    assert [join["uid"] for join in joins] == [101, 102, 101, 102]
    assert len({join["token"] for join in joins}) == 4


@pytest.mark.rule("join.token-channel", "join.token-uid", "join.token-privileges")
@pytest.mark.rule("join.token-lifetime", "join.token-timestamp")
@pytest.mark.parametrize("version", ["006", "007"])
def test_join_token_matches_response(make_api: Callable[..., Api], version: str) -> None:
    api = make_api(agora_token_version=version)
    joined = api.act("doctor", api.call()["id"], "join").json()
    names = {name: joined[name] for name in ("token", "channel_name", "uid")}
    content = api.manage("POST", "/agora/inspect", names)
    assert (content["version"], content["app_id"]) == (version, joined["app_id"])
    assert content["signature_valid"] is True
    assert content["expires_at"] == joined["expiration_time"]
    assert list(content["privileges"].values()) == [joined["expiration_time"]] * 4
    other_uid = api.manage("POST", "/agora/inspect", names | {"uid": USERS["patient"]})
    assert other_uid["signature_valid"] is False
