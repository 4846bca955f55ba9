"""How a client with `answers="lenient"` reads answers that depart from the contract."""

import copy
import logging
import pickle
from typing import Any

import httpx
import pytest
from video_calls_sdk import (
    ConfigurationError,
    DoctorDetails,
    InvalidResponseError,
    UnreadableFieldError,
    VideoCallsClient,
)

BASE = "https://api.example.com/api/v1/video"
UUID = "9278b13a-0fde-4bdf-b4ee-47dc8d945fce"
CALL: dict[str, Any] = {
    "id": UUID,
    "channel_name": "call_1704436789_5678",
    "doctor": UUID,
    "patient": 2,
    "doctor_details": {"id": UUID, "name": "Dr. John Doe", "email": "doctor@example.com"},
    "patient_details": {"id": 2, "user": {"email": "patient@example.com", "full_name": None}},
    "status": "scheduled",
    "scheduled_time": "2030-01-05T10:00:00Z",
    "started_at": "soon",
    "ended_at": None,
    "created_at": "2030-01-05T08:00:00Z",
    "updated_at": "2030-01-05T08:00:00Z",
    "duration": 0,
}
DEPARTURES = (
    "doctor_details.user: missing",
    "patient_details.user.full_name: ",
    "started_at: ",
)


def client(body: object, *, answers: Any = "lenient") -> VideoCallsClient:
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=body))
    return VideoCallsClient(BASE, "token", transport=transport, answers=answers)


def test_strict_client_refuses_invalid_call() -> None:
    strict = client(CALL, answers="strict")
    with pytest.raises(InvalidResponseError) as caught:
        strict.calls.get(UUID)
    assert len(caught.value.problems) == len(DEPARTURES)
    assert strict.with_options(answers="lenient").calls.get(UUID).id == UUID


def test_lenient_client_keeps_valid_fields() -> None:
    answer = client(CALL).calls.with_response.get(UUID)
    call = answer.data
    assert (call.id, call.patient, call.status, call.ended_at) == (UUID, 2, "scheduled", None)
    assert call.scheduled_time.isoformat() == "2030-01-05T10:00:00+00:00"
    assert isinstance(call.doctor_details, DoctorDetails)
    assert call.doctor_details.model_extra == {"name": "Dr. John Doe", "email": "doctor@example.com"}
    assert call.patient_details.user.email == "patient@example.com"
    assert call.model_extra == {"duration": 0, "started_at": "soon"}
    for departure, expected in zip(answer.departures, DEPARTURES, strict=True):
        assert departure.startswith(expected)


def test_use_of_unreadable_field_raises() -> None:
    call = client(CALL).calls.get(UUID)
    user = call.patient_details.user
    for holder, name in ((call, "started_at"), (call.doctor_details, "user"), (user, "full_name")):
        with pytest.raises(UnreadableFieldError, match=rf"\.{name} cannot be read"):
            getattr(holder, name)
    with pytest.raises(AttributeError, match="nothing_of_the_sort"):
        _ = call.nothing_of_the_sort  # type: ignore[attr-defined]


def test_lenient_call_survives_copy_and_pickle() -> None:
    call = client(CALL).calls.get(UUID)
    for other in (copy.deepcopy(call), pickle.loads(pickle.dumps(call))):  # noqa: S301 (our own)
        assert other == call
        assert other.model_extra == call.model_extra
    assert UUID in repr(call)


def test_lenient_page_omits_items_that_are_null() -> None:
    page = client({"count": 2, "next": None, "results": [CALL, None]}).calls.list()
    assert [call.id for call in page.results] == [UUID]
    assert page.count == 2
    with pytest.raises(UnreadableFieldError):
        _ = page.previous


def test_same_deviation_from_contract_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "video_calls_sdk")
    broken = CALL | {"channel_name": 17}
    list(client({"count": 2, "next": None, "previous": None, "results": [broken, broken]}).calls.list())
    about = [record.getMessage() for record in caplog.records if "channel_name" in record.getMessage()]
    assert len(about) == 1
    assert "listVideoCalls" in about[0]
    assert "results.N.channel_name" in about[0]


@pytest.mark.parametrize("body", [[CALL], "a page", None], ids=["list", "text", "null"])
def test_answer_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(InvalidResponseError):
        client(body).calls.get(UUID)


def test_unknown_answers_option_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'strict' or 'lenient'"):
        client(CALL, answers="loose")
