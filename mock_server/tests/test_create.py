"""Section 2 of the document: scheduling a call."""

from typing import Any

import pytest

from support.api import CALLS, Api


def body(**changes: Any) -> dict[str, Any]:
    return {"doctor": 1, "patient": 1, "scheduled_time": "2024-01-05T10:00:00Z"} | changes


@pytest.mark.rule(
    "create.schedules", "model.scheduled-time", "model.created-at", "model.details", "model.utc"
)
@pytest.mark.rule("privacy.details")
def test_create_valid_request_schedules_call(api: Api) -> None:
    answer = api.post("doctor", CALLS, json=body())
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{CALLS}1/"
    call = answer.json()
    assert call.pop("channel_name").startswith("call_1704441600_")
    assert call == {
        "id": 1,
        "doctor": 1,
        "patient": 1,
        "doctor_details": {
            "id": 1,
            "user": {"email": "doctor@example.com", "full_name": "Dr. John Doe"},
            "specialization": "General practice",
        },
        "patient_details": {"id": 1, "user": {"email": "patient@example.com", "full_name": "Jane Smith"}},
        "status": "scheduled",
        "scheduled_time": "2024-01-05T10:00:00Z",
        "started_at": None,
        "ended_at": None,
        "created_at": "2024-01-05T08:00:00Z",
        "updated_at": "2024-01-05T08:00:00Z",
    }


@pytest.mark.rule("create.participants-only")
@pytest.mark.parametrize("user", ["outsider", "other_doctor", "other_patient"])
@pytest.mark.parametrize("changes", [{}, {"scheduled_time": "yesterday"}, {"doctor": 77}], ids=str)
def test_outsider_is_refused_before_other_create_errors(read_only_api: Api, user: str, changes: Any) -> None:
    invalid_key = {"Idempotency-Key": ""}
    refusal = read_only_api.post(user, CALLS, json=body(**changes), headers=invalid_key if changes else {})
    assert (refusal.status_code, refusal.json()["code"]) == (403, "create.participants-only")
    assert read_only_api.get("doctor").json()["count"] == 0


@pytest.mark.rule("create.future")
@pytest.mark.parametrize("minutes", [-60, -0.001, 0])
def test_create_not_in_future_is_refused(read_only_api: Api, minutes: float) -> None:
    refusal = read_only_api.create(minutes=minutes)
    assert refusal.status_code == 400
    assert refusal.json() == {
        "error": "Scheduled time must be in the future",
        "code": "create.future",
        "fields": {"scheduled_time": ["Scheduled time must be in the future"]},
    }


@pytest.mark.rule("create.different-users")
def test_create_with_one_user_as_both_is_refused(read_only_api: Api) -> None:
    refusal = read_only_api.create("dual_user", doctor=4, patient=4)
    assert refusal.status_code == 400
    assert refusal.json() == {
        "error": "Doctor and patient cannot be the same user",
        "code": "create.different-users",
    }


def test_equal_doctor_and_patient_ids_are_accepted(api: Api) -> None:
    assert api.create(doctor=1, patient=1).status_code == 201
    assert api.create("dual_user", doctor=4, patient=2).status_code == 201
    assert api.create("dual_user", doctor=2, patient=4, minutes=200).status_code == 201


@pytest.mark.rule(
    "create.doctor-valid", "create.patient-valid", "create.doctor-active", "create.patient-active"
)
@pytest.mark.rule("errors.detailed")
@pytest.mark.parametrize(
    ("user", "doctor", "patient", "field", "rule", "error"),
    [
        ("patient", 77, 1, "doctor", "create.doctor-valid", "Doctor must be a valid user"),
        ("doctor", 1, 77, "patient", "create.patient-valid", "Patient must be a valid user"),
        ("patient", 3, 1, "doctor", "create.doctor-active", "Doctor must be an active user"),
        ("doctor", 1, 3, "patient", "create.patient-active", "Patient must be an active user"),
    ],
)
def test_create_with_unknown_or_inactive_user_is_refused(  # noqa: PLR0917 (a table of six columns)
    read_only_api: Api, user: str, doctor: int, patient: int, field: str, rule: str, error: str
) -> None:
    refusal = read_only_api.create(user, doctor=doctor, patient=patient)
    assert refusal.status_code == 400
    assert refusal.json() == {"error": error, "code": rule, "fields": {field: [error]}}


# -- Overlap ----------------------------------------------------------------------------------------


@pytest.mark.rule("create.no-overlap")
@pytest.mark.parametrize(
    ("user", "doctor", "patient"), [("doctor", 1, 2), ("patient", 2, 1)], ids=["same doctor", "same patient"]
)
def test_create_within_30_minutes_is_refused(api: Api, user: str, doctor: int, patient: int) -> None:
    assert api.create(minutes=120).status_code == 201
    for distance in (-29.99, 0, 29.99):
        refusal = api.create(user, doctor=doctor, patient=patient, minutes=120 + distance)
        assert refusal.status_code == 400
        assert refusal.json() == {
            "error": "There is already a scheduled call within 30 minutes of this time",
            "code": "create.no-overlap",
        }


@pytest.mark.rule("create.adjacent")
def test_create_30_minutes_apart_is_accepted(api: Api) -> None:
    for minutes in (30.001, 60.001, 0.001):  # the last one starts just after now
        assert api.create(minutes=minutes).status_code == 201


def test_calls_of_other_users_block_nothing(api: Api) -> None:
    assert api.create(minutes=120).status_code == 201
    assert api.create("other_doctor", doctor=2, patient=2, minutes=120).status_code == 201


@pytest.mark.rule("create.frees-slot")
@pytest.mark.parametrize(("status", "answer"), [("ongoing", 400), ("cancelled", 201), ("completed", 201)])
def test_only_open_call_blocks_its_slot(api: Api, status: str, answer: int) -> None:
    api.call(status)
    assert api.create(minutes=10).status_code == answer


# -- The body ---------------------------------------------------------------------------------------


@pytest.mark.rule("create.valid-body")
@pytest.mark.parametrize("value", [..., None, "abc", True, [], 1.5, 0, 10**400, "2024-13-45T99:99:99Z"])
def test_create_error_names_the_malformed_field(read_only_api: Api, value: Any) -> None:
    for field in ("doctor", "patient", "scheduled_time"):
        request = body(**{field: value})
        if value is ...:
            del request[field]
        refusal = read_only_api.post("doctor", CALLS, json=request)
        assert refusal.status_code == 400
        answer = refusal.json()
        assert answer["code"] == "create.valid-body"
        assert list(answer["fields"]) == [field]
        assert answer["error"] == f"{field}: {answer['fields'][field][0]}"


def test_create_error_names_every_malformed_field(read_only_api: Api) -> None:
    refusal = read_only_api.post("doctor", CALLS, json={"doctor": "one"})
    assert set(refusal.json()["fields"]) == {"doctor", "patient", "scheduled_time"}


@pytest.mark.parametrize("number", ["1.0", "10E-1"])
def test_create_accepts_integer_with_zero_fraction(api: Api, number: str) -> None:
    content = '{"doctor": %s, "patient": 1, "scheduled_time": "2024-01-05T10:00:00Z"}' % number  # noqa: UP031
    answer = api.post("doctor", CALLS, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json().get("doctor")) == (201, 1)


@pytest.mark.rule("create.aware-time")
def test_create_with_naive_time_is_refused(read_only_api: Api) -> None:
    refusal = read_only_api.post("doctor", CALLS, json=body(scheduled_time="2024-01-05T10:00:00"))
    assert (refusal.status_code, refusal.json()["code"]) == (400, "create.aware-time")
    assert "offset" in refusal.json()["error"]


@pytest.mark.parametrize(
    "time", ["9999-12-31T23:59:59-23:59", "2024-02-30T10:00:00Z", "2024-01-05", "2024-01-05 10:00:00Z"]
)
def test_create_with_malformed_time_is_refused(read_only_api: Api, time: Any) -> None:
    assert read_only_api.post("doctor", CALLS, json=body(scheduled_time=time)).status_code == 400


def test_create_in_year_9999_is_accepted(api: Api) -> None:
    answer = api.post("doctor", CALLS, json=body(scheduled_time="9999-12-31T23:59:59.999999Z"))
    assert answer.status_code == 201
    assert api.get("doctor").json()["results"][0]["scheduled_time"] == "9999-12-31T23:59:59.999999Z"


@pytest.mark.rule("create.time-offset")
@pytest.mark.parametrize(
    "time", ["2024-01-05T12:00:00+02:00", "2024-01-05T04:30:00-05:30", "2024-01-05t10:00:00z"]
)
def test_create_converts_time_to_utc(api: Api, time: str) -> None:
    answer = api.post("doctor", CALLS, json=body(scheduled_time=time))
    assert answer.json()["scheduled_time"] == "2024-01-05T10:00:00Z"


@pytest.mark.rule("create.read-only-fields")
def test_create_ignores_read_only_and_unknown_fields(api: Api) -> None:
    ignored = {
        "id": 999,
        "channel_name": "mine",
        "status": "completed",
        "started_at": "2020-01-01T00:00:00Z",
        "ended_at": "2020-01-01T00:00:00Z",
        "created_at": "2020-01-01T00:00:00Z",
        "updated_at": "2020-01-01T00:00:00Z",
        "doctor_details": {"id": 2},
        "unknown": [1, 2, 3],
    }
    answer = api.post("doctor", CALLS, json=body(**ignored))
    assert answer.status_code == 201
    assert [answer.json().get(name) == value for name, value in ignored.items()] == [False] * len(ignored)


@pytest.mark.rule("create.unique-channel", "create.random-channel")
def test_channel_names_are_unique_and_random(api: Api) -> None:
    names = [api.create(minutes=60 + 30 * index).json()["channel_name"] for index in range(30)]
    digits = [name.removeprefix("call_1704441600_") for name in names]
    assert len(set(digits)) == 30
    assert {(len(tail), tail.isdigit()) for tail in digits} == {(16, True)}
    for digits_at_position in zip(*digits, strict=True):
        assert len(set(digits_at_position)) > 1


# -- Idempotency keys -------------------------------------------------------------------------------


@pytest.mark.rule("create.idempotency-key")
def test_repeated_idempotency_key_returns_first_call(api: Api) -> None:
    first = api.create(headers={"Idempotency-Key": "k-1"}, minutes=10)
    call_id = first.json()["id"]
    api.act("doctor", call_id, "join")
    again = api.create(headers={"Idempotency-Key": "k-1"}, minutes=10)
    assert (again.status_code, again.json()) == (201, first.json())
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert api.get("doctor").json()["count"] == 1


def test_idempotency_key_with_other_body_is_refused(api: Api) -> None:
    api.create(headers={"Idempotency-Key": "k-1"})
    refusal = api.create(headers={"Idempotency-Key": "k-1"}, minutes=240)
    assert (refusal.status_code, refusal.json()["code"]) == (422, "create.idempotency-key")
    assert api.get("doctor").json()["count"] == 1


def test_two_users_may_use_same_idempotency_key(api: Api) -> None:
    api.create("doctor", headers={"Idempotency-Key": "k-1"})
    other = api.create("patient", headers={"Idempotency-Key": "k-1"}, minutes=240)
    assert (other.status_code, other.json()["id"]) == (201, 2)


def test_idempotency_key_of_refused_request_is_usable(api: Api) -> None:
    blocking = api.call()
    assert api.create(headers={"Idempotency-Key": "k-1"}, minutes=10).status_code == 400
    api.act("doctor", blocking["id"], "cancel")
    assert api.create(headers={"Idempotency-Key": "k-1"}, minutes=10).status_code == 201


def test_idempotency_key_expires_after_a_day(api: Api) -> None:
    api.create(headers={"Idempotency-Key": "k-1"})
    api.clock.advance(hours=24)
    assert api.create(headers={"Idempotency-Key": "k-1"}).json()["id"] == 2


@pytest.mark.parametrize("key", ["", "a b", "é", "k" * 256])
def test_create_with_malformed_idempotency_key_is_refused(read_only_api: Api, key: str) -> None:
    refusal = read_only_api.create(headers={"Idempotency-Key": key.encode("latin-1")})  # type: ignore[dict-item]
    assert refusal.status_code == 400
    assert "Idempotency-Key" in refusal.json()["error"]
