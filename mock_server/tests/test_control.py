"""The control API: users, tokens, the clock, verdicts, presence and the description of the server."""

import json
import re
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from video_calls_server.__main__ import main
from video_calls_server.agora.empty_calls import EmptyCalls
from video_calls_server.agora.tokens import DEVELOPMENT_PROJECT
from video_calls_server.control.client import Control
from video_calls_server.control.routes import identities
from video_calls_server.domain.calls import CHANGES
from video_calls_spec import RULES

from support.api import CALLS, USERS, Api, FakeClock
from support.listener import EVENTS, listening
from support.server_process import ServerProcess

SECRET = "agora-ncs-test-secret"
HUGE = 2**63
TOKEN_RULES = {
    "expired": "auth.expired-token",
    "forged": "auth.valid-token",
    "malformed": "auth.valid-token",
    "premature": "auth.valid-token",
    "refresh": "auth.valid-token",
    "unknown_user": "auth.active-user",
}


def error(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    """Return the body of a refusal, after checking its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) <= {"error", "code", "fields"}
    assert body["error"]
    return body


# -- Users -------------------------------------------------------------------------------------------


def test_listed_users_have_valid_tokens(api: Api) -> None:
    users = api.manage("GET", "/identities")
    assert [user["user"] for user in users] == sorted(USERS.values())
    for user in users:
        response = api.client.get(CALLS, headers={"Authorization": f"Bearer {user['token']}"})
        assert response.status_code == (200 if user["active"] else 401)
        claims = jwt.decode(user["token"], options={"verify_signature": False})
        assert (claims["user_id"], claims["exp"] - claims["iat"]) == (user["user"], 3600)
        del user["token"]
    assert users[0] == {
        "user": 101,
        "email": "doctor@example.com",
        "full_name": "Dr. John Doe",
        "active": True,
        "doctor": {"id": 1, "specialization": "General practice"},
        "patient": None,
    }
    assert users[6]["doctor"] == {"id": 4, "specialization": "Dermatology"}
    assert users[6]["patient"] == {"id": 4}
    assert not users[4]["active"]


def test_deactivation_closes_event_connection_of_user(api: Api) -> None:
    call = api.call()
    with listening(api, "doctor") as doctor, listening(api, "patient") as patient:
        api.manage("PATCH", "/identities/doctor@example.com", {"active": False})
        assert doctor.close_code() == 4401
        api.act("patient", call["id"], "cancel")
        assert patient.types(1) == ["call.cancelled"]


@pytest.mark.parametrize(
    ("fields", "email", "full_name"),
    [
        ({}, "user.109@example.com", "User 109"),
        ({"doctor": True, "patient": True}, "dual.user.109@example.com", "Dr. Dual User 109"),
    ],
)
def test_new_user_gets_defaults(api: Api, fields: dict[str, object], email: str, full_name: str) -> None:
    user = api.manage("POST", "/identities", fields)
    assert (user["user"], user["email"], user["full_name"]) == (109, email, full_name)
    assert user["doctor"] == ({"id": 5, "specialization": None} if fields else None)
    assert user["patient"] == ({"id": 5} if fields else None)


def test_new_user_can_act_at_once(api: Api, clock: FakeClock) -> None:
    fields = {"email": "dr.no@example.com", "full_name": "Dr. No", "doctor": {"specialization": "Islands"}}
    user = api.manage("POST", "/identities", fields)
    assert user["doctor"] == {"id": 5, "specialization": "Islands"}
    body = {"doctor": 5, "patient": 1, "scheduled_time": (clock.now() + timedelta(hours=1)).isoformat()}
    headers = {"Authorization": f"Bearer {user['token']}"}
    call = api.client.post(CALLS, json=body, headers=headers).json()
    assert call["doctor_details"]["user"] == {"email": "dr.no@example.com", "full_name": "Dr. No"}


def test_email_of_another_user_is_refused(api: Api) -> None:
    refusal = error(api.control("POST", "/identities", {"email": "Doctor@Example.com"}))
    assert list(refusal["fields"]) == ["email"]
    api.manage("POST", "/identities", {"email": "user.110@example.com"})
    user = api.manage("POST", "/identities", {})
    assert user["user"] == 110
    assert user["email"] != "user.110@example.com"


def test_new_user_gets_next_free_id(api: Api) -> None:
    largest = {"id": 2**32 - 1, "email": "last@example.com", "full_name": "Last"}
    roles = {"doctor": {"id": 2**63 - 1}, "patient": {"id": 2**63 - 1}}
    api.manage("PUT", "/state", {"users": [largest | roles]})
    user = api.manage("POST", "/identities", {"doctor": True, "patient": True})
    assert (user["user"], user["doctor"]["id"], user["patient"]["id"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "two@lines@example.com"}, "email"),
        ({"full_name": "Jane\0Smith"}, "full_name"),
        ({"active": "yes"}, "active"),
        ({"nickname": "Jo"}, "data"),
    ],
)
def test_invalid_user_is_refused(read_only_api: Api, body: dict[str, object], field: str) -> None:
    assert field in " ".join(error(read_only_api.control("POST", "/identities", body))["fields"])


def test_renamed_user_is_shown_in_calls(api: Api) -> None:
    call = api.call()
    api.manage("PATCH", "/identities/102", {"full_name": "Jane <b>Doe</b>"})
    user = api.get("doctor", f"{CALLS}{call['id']}/").json()["patient_details"]["user"]
    assert user == {"email": "patient@example.com", "full_name": "Jane <b>Doe</b>"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "nobody@example.com"), ("POST", f"{'9' * 30}/tokens"), ("POST", "%00/tokens")],
)
def test_unknown_user_is_not_found(read_only_api: Api, method: str, path: str) -> None:
    assert error(read_only_api.control(method, f"/identities/{path}", {}), 404)["code"] == "not_found"


# -- Tokens ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["valid", *sorted(TOKEN_RULES)])
def test_each_token_kind_gets_response_of_its_rule(api: Api, kind: str) -> None:
    api.manage("PUT", "/clock", {"time": "2040-01-01T00:00:00Z"})  # tokens use the real time
    request = {} if kind == "valid" else {"kind": kind}
    token = api.manage("POST", "/identities/101/tokens", request | {"expires_in": 60})
    response = api.client.get(CALLS, headers={"Authorization": f"Bearer {token['token']}"})
    assert (token["kind"], response.json().get("code")) == (kind, TOKEN_RULES.get(kind))
    expires_in = datetime.fromisoformat(token["expires_at"]) - datetime.now(UTC)
    expected = {"expired": -60, "premature": 120}.get(kind, 60)
    assert abs(expires_in - timedelta(seconds=expected)) < timedelta(seconds=10)


@pytest.mark.parametrize("body", [{"kind": "good"}, {"expires_in": 0}, {"expires_in": 10**30}])
def test_invalid_token_request_is_refused(read_only_api: Api, body: dict[str, object]) -> None:
    error(read_only_api.control("POST", "/identities/101/tokens", body))


def test_server_without_signing_secret_issues_no_tokens(make_api: Callable[..., Api], tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text(PUBLIC_KEY)
    api = make_api(jwt_algorithm="ES256", jwt_public_key=key)
    assert {user["token"] for user in api.manage("GET", "/identities")} == {None}
    assert api.manage("POST", "/identities", {})["token"] is None
    refusal = error(api.control("POST", "/identities/101/tokens", {}), 409)
    assert refusal["code"] == "signed_elsewhere"
    assert not api.manage("GET", "/server")["tokens"]


PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHYZ/Dp5WiSDEZ3R+Kk9YtUoZNIwS
vdRf875JPdXG+kEhftcBKjctJ8NozxIrEHAqBL9nPabnH5bZlInCpWSKEA==
-----END PUBLIC KEY-----
"""


# -- The clock ---------------------------------------------------------------------------------------


def test_set_clock_runs_and_has_offset(api: Api, clock: FakeClock) -> None:
    assert api.manage("GET", "/clock") == {"time": "2024-01-05T08:00:00Z", "running": True, "offset": 0.0}
    api.manage("PUT", "/clock", {"time": "2024-01-05T12:00:00+02:00"})
    clock.advance(seconds=5)
    assert api.manage("GET", "/clock") == {"time": "2024-01-05T10:00:05Z", "running": True, "offset": 7200.0}
    assert api.control("DELETE", "/clock").status_code == 204
    assert api.manage("GET", "/clock") == {"time": "2024-01-05T08:00:05Z", "running": True, "offset": 0.0}


def test_frozen_clock_stands_until_resumed(api: Api, clock: FakeClock) -> None:
    api.manage("PUT", "/clock", {"running": False})
    clock.advance(hours=1)
    frozen = {"time": "2024-01-05T08:00:00Z", "running": False, "offset": -3600.0}
    assert api.manage("GET", "/clock") == frozen
    step = {"days": 1, "hours": 2, "minutes": 3, "seconds": 4.5}
    assert api.manage("POST", "/clock/advance", step)["time"] == "2024-01-06T10:03:04.500000Z"
    back = {name: -by for name, by in step.items()}
    assert api.manage("POST", "/clock/advance", back) == frozen
    assert api.manage("PUT", "/clock", {"running": True})["running"] is True
    clock.advance(hours=1)
    assert api.manage("GET", "/clock")["time"] == "2024-01-05T09:00:00Z"


def test_clock_jumps_to_join_window(api: Api) -> None:
    call = api.create(minutes=120).json()
    assert api.act("doctor", call["id"], "join").json()["code"] == "join.window"
    response = api.manage("PUT", "/clock", {"join_window_of": call["id"], "running": False})
    assert (response["time"], response["running"]) == ("2024-01-05T09:45:00Z", False)
    assert api.act("doctor", call["id"], "join").status_code == 200


def test_rules_follow_the_clock(api: Api) -> None:
    api.manage("PUT", "/clock", {"time": "2031-05-05T05:00:00Z"})
    body = {"doctor": 1, "patient": 1, "scheduled_time": "2031-05-05T04:59:59Z"}
    assert api.post("doctor", CALLS, json=body).json()["code"] == "create.future"
    call = api.post("doctor", CALLS, json=body | {"scheduled_time": "2031-05-05T05:00:01Z"}).json()
    assert call["created_at"] == "2031-05-05T05:00:00Z"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "", {"time": "2026-01-01T00:00:00"}, 400),
        ("PUT", "", {"time": "1970-12-31T23:59:59Z", "running": False}, 400),
        ("PUT", "", {"time": "2026-01-01T00:00:00Z", "join_window_of": 1}, 400),
        ("PUT", "", {"runing": False}, 400),
        ("PUT", "", {"join_window_of": 1}, 404),
        ("PUT", "", {"join_window_of": -HUGE - 1}, 404),
        ("POST", "/advance", {"days": 1e308}, 400),
        ("POST", "/advance", {"days": 4_000_000}, 400),
        ("POST", "/advance", {"days": -99_999}, 400),
    ],
)
def test_invalid_clock_change_is_refused(
    read_only_api: Api, method: str, path: str, body: object, status: int
) -> None:
    before = read_only_api.manage("GET", "/clock")
    error(read_only_api.control(method, f"/clock{path}", body), status)
    assert read_only_api.manage("GET", "/clock") == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/clock/advance", {"seconds": 1}),
        ("PUT", "/clock", {"time": "2024-01-05T08:05:00Z"}),
        ("DELETE", "/clock", None),
    ],
)
def test_clock_change_ends_due_empty_calls_before_response(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: object
) -> None:
    @asynccontextmanager
    async def run_nothing(_: EmptyCalls) -> AsyncGenerator[None]:
        yield

    monkeypatch.setattr(EmptyCalls, "running", run_nothing)
    api = make_api(agora_ncs_secret=SECRET, end_when_empty_minutes=5)
    call = api.call("ongoing")["id"]
    for present in (True, False):
        for role in ("doctor", "patient"):
            api.manage("PUT", f"/calls/{call}/participants/{role}", {"present": present})
    api.manage("PUT", "/clock", {"running": False})
    api.clock.advance(minutes=5)
    api.manage("POST", "/clock/advance", {"minutes": 4, "seconds": 59})
    assert api.get("doctor", f"{CALLS}{call}/").json()["status"] == "ongoing"
    api.manage(method, path, body)
    ended = api.get("doctor", f"{CALLS}{call}/").json()
    assert (ended["status"], ended["ended_at"]) == ("completed", "2024-01-05T08:05:00Z")


# -- Calls -------------------------------------------------------------------------------------------


def test_calls_are_listed_newest_first(api: Api) -> None:
    first = api.create(minutes=60).json()
    second = api.create("other_doctor", minutes=120, doctor=2, patient=2).json()
    third = api.create(minutes=10).json()
    api.act("doctor", third["id"], "join")
    calls = api.manage("GET", "/calls")
    assert [call["id"] for call in calls] == [second["id"], first["id"], third["id"]]
    assert [call["present"] for call in calls] == [[], [], ["doctor"]]
    assert calls[1].items() >= first.items()
    mine = api.manage("GET", "/calls?identity=patient@example.com")
    assert [call["id"] for call in mine] == [first["id"], third["id"]]
    assert api.manage("GET", "/calls?identity=outsider@example.com") == []
    error(api.control("GET", "/calls?identity=nobody@example.com"), 404)


def test_at_most_five_hundred_calls_are_listed(api: Api) -> None:
    api.manage("POST", "/state/calls", {"count": 501})
    assert len(api.manage("GET", "/calls")) == 500


# -- Verdicts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "minutes", "opens"),
    [
        ("scheduled", 16, "2024-01-05T08:01:00Z"),
        ("scheduled", 15, "2024-01-05T08:00:00Z"),
        ("ongoing", 16, "2024-01-05T08:01:00Z"),
        ("completed", 16, None),
        ("cancelled", 16, None),
    ],
)
def test_verdicts_match_the_responses_of_the_api(
    api: Api, status: str, minutes: int, opens: str | None
) -> None:
    for user in ("outsider", "inactive_doctor", "patient"):
        call = put_call(api, status, minutes)
        verdicts = api.manage("GET", f"/calls/{call}/verdicts?identity={USERS[user]}")
        assert (verdicts["call"], verdicts["time"]) == (call, "2024-01-05T08:00:00Z")
        assert [each["action"] for each in verdicts["actions"]] == ["get", *CHANGES]
        listed = api.manage("GET", "/calls")[0]
        for each in verdicts["actions"]:
            put_call(api, status, minutes)  # again, because the last action changed the call
            if each["action"] == "get":
                response = api.get(user, f"{CALLS}{call}/")
            else:
                response = api.act(user, call, each["action"])
            assert each["allowed"] is response.is_success, (user, each)
            assert each["refused_by"] == response.json().get("code"), (user, each)
            assert each["error"] == response.json().get("error")
            refusing = {rule["id"] for rule in each["rules"] if rule["refuses"]}
            assert (each["refused_by"] in refusing) if each["refused_by"] else not refusing
    allowed_to_patient = [each["action"] for each in verdicts["actions"][1:] if each["allowed"]]
    assert (listed["allowed"], listed["join_opens_at"]) == (allowed_to_patient, opens)


def put_call(api: Api, status: str, minutes: int) -> int:
    """Replace all calls by one of doctor 1 and patient 1. Return its id."""
    users = api.manage("GET", "/state")["users"]
    time = (api.clock.now() + timedelta(minutes=minutes)).isoformat()
    call = {"id": 3, "doctor": 1, "patient": 1, "status": status, "scheduled_time": time}
    api.manage("PUT", "/state", {"users": users, "calls": [call]})
    return 3


def test_verdict_checks_each_rule_independently(api: Api) -> None:
    call = put_call(api, "completed", 60)
    actions = api.manage("GET", f"/calls/{call}/verdicts?identity=outsider@example.com")["actions"]
    _, join, _, _ = actions
    assert {rule["id"]: rule["refuses"] for rule in join["rules"]} == {
        "join.participants-only": True,
        "join.not-completed": True,
        "join.not-cancelled": False,
        "join.window": True,
    }
    assert join["operation"] == "joinVideoCall"
    for rule in join["rules"]:
        assert rule["statement"] == RULES[rule["id"]].statement


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/calls/{'9' * 5000}/verdicts?identity=doctor@example.com", 404),
        ("/calls/one/verdicts?identity=doctor@example.com", 404),
        ("/calls/1/verdicts?identity=nobody@example.com", 404),
        ("/calls/1/verdicts", 400),
    ],
)
def test_verdicts_of_unknown_call_or_user_are_refused(api: Api, path: str, status: int) -> None:
    api.create()
    error(api.control("GET", path), status)


# -- Participants and event connections --------------------------------------------------------------


@pytest.mark.parametrize("present", [True, False])
def test_presence_needs_an_ongoing_call(api: Api, present: bool) -> None:
    call = api.call("scheduled")["id"]
    response = api.manage("PUT", f"/calls/{call}/participants/doctor", {"present": present})
    assert response == {"call": call, "present": [], "changed": False}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/calls/1/participants/nurse", {"present": True}, 400),
        ("/calls/9/participants/doctor", {"present": True}, 404),
        ("/calls/1/participants/doctor", {}, 400),
    ],
)
def test_invalid_participant_is_refused(api: Api, path: str, body: object, status: int) -> None:
    api.create()
    error(api.control("PUT", path, body), status)


def test_event_connections_are_closed_with_a_code(api: Api) -> None:
    with listening(api, "doctor") as doctor:
        for code in (1005, "soon"):
            error(api.control("POST", "/events/disconnect", {"code": code}))
        assert api.manage("POST", "/events/disconnect", {"code": 4408}) == {"closed": 1}
        assert doctor.close_code() == 4408


def test_presence_change_sends_events(api: Api) -> None:
    path = f"/calls/{api.call('ongoing')['id']}/participants"
    with listening(api, "patient") as patient:
        for role, present, changed in (
            ("doctor", True, False),  # joined
            ("patient", True, True),
            ("doctor", False, True),
            ("doctor", False, False),
        ):
            presence = api.manage("PUT", f"{path}/{role}", {"present": present})
            assert presence["changed"] is changed
        events = [patient.next() for _ in range(2)]
    assert presence["present"] == ["patient"]
    assert [(each["type"], each["data"]["participant"]["role"]) for each in events] == [
        ("participant.joined", "patient"),
        ("participant.left", "doctor"),
    ]


# -- The server itself -------------------------------------------------------------------------------


def test_rules_route_returns_the_catalogue(read_only_api: Api) -> None:
    rules = read_only_api.manage("GET", "/rules")
    assert [rule["id"] for rule in rules] == list(RULES)
    for rule in rules:
        for name, value in rule.items():
            assert value == getattr(RULES[rule["id"]], name)


def test_server_route_describes_settings(make_api: Callable[..., Api]) -> None:
    app_id = DEVELOPMENT_PROJECT.app_id
    assert make_api().manage("GET", "/server") == {
        "version": "0.1.0",
        "namespace": "",
        "agora": "development",
        "app_id": app_id,
        "key_required": False,
        "tokens": True,
        "notifications": False,
        "events_url": EVENTS,
    }
    pair = {"agora_app_id": "0123456789abcdef" * 2, "agora_app_certificate": "fedcba9876543210" * 2}
    key = "a key of sixteen and more"
    api = make_api(**pair, agora_ncs_secret=SECRET, control_key=key)
    response = api.control("GET", "/server", headers={"Video-Calls-Control-Key": key})
    assert (response.json()["agora"], response.json()["app_id"]) == ("configured", pair["agora_app_id"])
    assert (response.json()["key_required"], response.json()["notifications"]) == (True, True)
    for secret in (pair["agora_app_certificate"], SECRET, key):
        assert secret not in response.text


@pytest.mark.parametrize("version", ["006", "007"])
def test_agora_token_is_decoded(make_api: Callable[..., Api], version: str) -> None:
    api = make_api(agora_token_version=version)
    call = api.call()
    joined = api.act("doctor", call["id"], "join").json()
    whole = {"token": joined["token"], "channel_name": call["channel_name"], "uid": joined["uid"]}
    content = api.manage("POST", "/agora/inspect", whole)
    assert (content["version"], content["app_id"]) == (version, joined["app_id"])
    assert content["expires_at"] == content["privileges"]["join_channel"] == joined["expiration_time"]
    assert content["signature_valid"] is True
    alone = api.manage("POST", "/agora/inspect", {"token": joined["token"]})
    if version == "006":
        assert (alone["channel_name"], alone["uid"], alone["issued_at"]) == (None, None, None)
        assert alone["signature_valid"] is None
    else:
        assert (alone["channel_name"], alone["uid"]) == (call["channel_name"], "101")
        issued, lapses = (datetime.fromisoformat(alone[name]) for name in ("issued_at", "expires_at"))
        assert lapses - issued == timedelta(hours=1)
        assert alone["signature_valid"] is True
    for wrong in ({"uid": 102}, {"channel_name": "call_1_2"}, {"uid": -1}):
        assert api.manage("POST", "/agora/inspect", whole | wrong)["signature_valid"] is False


@pytest.mark.parametrize("token", ["", "007" + "eJ" * 30, "é" * 99])
def test_invalid_agora_token_is_refused(read_only_api: Api, token: str) -> None:
    refusal = error(read_only_api.control("POST", "/agora/inspect", {"token": token}))
    assert list(refusal["fields"]) == ["token"]


# -- The docs page and the description ---------------------------------------------------------------

METHODS = {"get", "put", "post", "patch", "delete"}


def describe(api: Api) -> dict[str, Any]:
    response = api.control("GET", "/openapi.json")
    assert response.status_code == 200, response.text
    description: dict[str, Any] = response.json()
    return description


def test_control_openapi_description_is_valid_and_complete(read_only_api: Api) -> None:
    description = describe(read_only_api)
    OpenAPIV31SpecValidator(description).validate()
    for path, item in description["paths"].items():
        for method in METHODS & set(item):
            assert item[method]["summary"], (method, path)
            assert item[method]["tags"], (method, path)
            responses = item[method]["responses"]
            assert "400" not in responses
            error_schema = responses["default"]["content"]["application/json"]["schema"]
            assert error_schema == {"$ref": "#/components/schemas/Error"}


@pytest.mark.parametrize("place", ["", "/_ns/worker-1"])
def test_docs_page_uses_no_other_server(api: Api, place: str) -> None:
    page = api.client.get(f"{place}/_control/docs", headers={"Host": "localhost"})
    assert page.headers["content-type"].startswith("text/html")
    links = re.findall(r'(?:src|href|url)[=:]\s*"([^"]+)"', page.text)
    assert f"{place}/_control/openapi.json" in links
    assert "://" not in page.text
    for link in links:
        if not link.startswith("data:"):
            assert api.client.get(link, headers={"Host": "localhost"}).status_code == 200, link


# -- Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/clock", 405)])
def test_unknown_operation_is_refused(read_only_api: Api, method: str, path: str, status: int) -> None:
    error(read_only_api.control(method, path), status)


@pytest.mark.parametrize("content", [b"{", b"", b"null", b"[]", b"[" * 5000, b'{"time": "\xff"}'])
def test_invalid_json_is_refused(read_only_api: Api, content: bytes) -> None:
    headers = {"Host": "localhost", "Content-Type": "application/json"}
    error(read_only_api.client.put("/_control/clock", content=content, headers=headers))


def test_too_large_body_is_refused(read_only_api: Api) -> None:
    headers = {"Host": "localhost", "Content-Length": str(64 * 1024 * 1024 + 1)}
    refusal = error(read_only_api.client.put("/_control/clock", content=b"{}", headers=headers), 413)
    assert refusal["code"] == "errors.body-size"
    assert "65536" not in refusal["error"]


# -- Generated requests ------------------------------------------------------------------------------

WORDS = ["doctor@example.com", "101", "doctor", "1", "a", "..", "", "%00", "%ff", "é", "9" * 30, "-1", "true"]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([HUGE, -HUGE - 1, 2**32, 1e308, -0.0, 1, 101])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
SHORT = settings(max_examples=60, derandomize=True, deadline=None, database=None)
LONG = settings(max_examples=20_000, deadline=None, database=None)


@st.composite
def requests(draw: st.DrawFn, description: dict[str, Any]) -> tuple[str, str, Any]:
    """Generate a request to one of the operations, mostly with known fields."""
    path = draw(st.sampled_from(sorted(set(description["paths"]) - {"/_control/requests/stream"})))
    item = description["paths"][path]
    method = draw(st.sampled_from(sorted(METHODS & set(item))))
    path = re.sub(r"\{\w+\}", lambda _: draw(st.sampled_from([word for word in WORDS if word])), path)
    parameters = [each["name"] for each in item[method].get("parameters", []) if each["in"] == "query"]
    query = "&".join(f"{name}={draw(st.sampled_from(WORDS))}" for name in parameters if draw(st.booleans()))
    content = item[method].get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    fields = sorted(description["components"]["schemas"].get(schema, {}).get("properties", {}))
    body = draw(st.dictionaries(st.sampled_from(fields), VALUES, max_size=4) | VALUES if fields else VALUES)
    return method, f"{path}?{query}", body


@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param(SHORT, id="short"),
        pytest.param(LONG, id="long", marks=[pytest.mark.long, pytest.mark.timeout(0)]),
    ],
)
def test_generated_requests_get_json_and_never_500(api: Api, bounds: settings) -> None:
    statuses = set()

    @bounds
    @given(requests(describe(api)))
    def send(request: tuple[str, str, Any]) -> None:
        method, path, body = request
        response = api.client.request(method, path, json=body, headers={"Host": "localhost"})
        statuses.add(response.status_code)
        assert response.status_code < 500, response.text
        if response.content:
            response.json()
        if response.status_code >= 400:
            assert response.json()["error"]

    send()
    assert {200, 400, 404} <= statuses


# -- The command -------------------------------------------------------------------------------------


def test_command_starts_with_clock_calls_and_faults(serve: Callable[..., ServerProcess]) -> None:
    fault = "status=503; times=1; operation=listVideoCalls; name=busy"
    process = serve(
        "--clock", "2030-01-05T10:00:00Z", "--seed-calls", "25", "--fault", fault, "--database", ":memory:"
    )

    def statuses(control: Control) -> list[int]:
        url = f"{control.base_url}/video-calls/"
        return [httpx.get(url, headers=process.headers()).status_code for _ in range(2)]

    with Control(process.url) as control, Control(process.url, namespace="other") as other:
        for each in (control, other):
            assert each.clock.now().isoformat().startswith("2030-01-05T10:0")
            assert len(each.calls.list()) == 25
            assert [fault.name for fault in each.faults.list()] == ["busy"]
            assert statuses(each) == [503, 200]
        control.clock.advance(days=3)
        control.faults.clear()
        control.state.reset()
        assert control.clock.now() < datetime(2030, 1, 5, 11, tzinfo=UTC)
        assert statuses(control) == [503, 200]


def test_command_starts_with_snapshot(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    document = {
        "users": [
            {"id": 1, "email": "a@example.com", "full_name": "A", "doctor": {"id": 1}},
            {"id": 2, "email": "b@example.com", "full_name": "B", "patient": {"id": 1}},
        ],
        "calls": [{"doctor": 1, "patient": 1, "scheduled_time": "2030-01-01T00:00:00Z"}],
        "clock": {"time": "2029-12-31T23:50:00Z", "running": False},
    }
    # Windows PowerShell writes `… > state.json` in this encoding.
    (tmp_path / "state.json").write_text(json.dumps(document), encoding="utf-16")
    process = serve("--snapshot", "state.json", "--database", ":memory:")
    with Control(process.url) as control:
        assert control.clock.now() == datetime(2029, 12, 31, 23, 50, tzinfo=UTC)
        headers = {"Authorization": f"Bearer {control.token('b@example.com')}"}
        joined = httpx.post(f"{control.base_url}/video-calls/1/join/", headers=headers)
        assert joined.status_code == 200


def test_console_command_reports_missing_console() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        unused = str(listener.getsockname()[1])  # bound, but not listening
        for options, text in (
            (["--port", unused], "start one with: video-calls-server serve"),
            (["--no-control"], "the console is off; see --control"),
        ):
            result = CliRunner().invoke(main, ["console", "--print", *options])
            assert (result.exit_code, result.stdout) == (2, "")
            assert text in result.stderr


def test_path_cannot_forge_log_line(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(identities, "find_actor", lambda *_: 1 / 0)
    response = api.client.post("/_control/identities/x%0Aforged/tokens", json={})
    assert response.status_code == 500
    assert "/_control/identities/x%0Aforged/tokens" in caplog.text
    assert "\nforged" not in caplog.text
