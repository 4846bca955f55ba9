"""Book, join, end and cancel calls with the client that openapi-python-client generates."""

import json
import os
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TypeVar

from video_calls_api_client import AuthenticatedClient
from video_calls_api_client.api.video_calls import (
    cancel_video_call,
    create_video_call,
    end_video_call,
    get_video_call,
    join_video_call,
    list_video_calls,
)
from video_calls_api_client.models import CallStatus, Error, VideoCall, VideoCallCreate
from video_calls_api_client.types import Response

T = TypeVar("T")


def client_of(token: str) -> AuthenticatedClient:
    return AuthenticatedClient(os.environ["BASE_URL"], token, raise_on_unexpected_status=True)


def result_of(answer: T | Error | None) -> T:
    assert answer is not None
    assert not isinstance(answer, Error), answer
    return answer


def refusal_of(answer: Response[Error | T]) -> tuple[HTTPStatus, str, object]:
    assert isinstance(answer.parsed, Error), answer
    return answer.status_code, answer.parsed.error, answer.parsed.code


def book(minutes: int) -> Response[Error | VideoCall]:
    soon = datetime.now(UTC) + timedelta(minutes=minutes)
    return create_video_call.sync_detailed(client=doctor, body=VideoCallCreate(*people, soon))


people: tuple[int | str, int | str] = (json.loads(os.environ["DOCTOR"]), json.loads(os.environ["PATIENT"]))
doctor, patient = client_of(os.environ["DOCTOR_TOKEN"]), client_of(os.environ["PATIENT_TOKEN"])

call = result_of(book(10).parsed)
assert call.status is CallStatus.SCHEDULED
assert call.doctor_details.user.email == "doctor@example.com"
assert call.started_at is None
assert (call.doctor, call.patient) == people
assert call.scheduled_time.utcoffset() == timedelta()

assert result_of(get_video_call.sync(call.id, client=patient)) == call
page = result_of(list_video_calls.sync(client=patient, page=1, page_size=5))
assert page.results == [call]
assert page.next_ is None

overlap = "There is already a scheduled call within 30 minutes of this time"
assert refusal_of(book(20)) == (HTTPStatus.BAD_REQUEST, overlap, "create.no-overlap")

credentials = result_of(join_video_call.sync(call.id, client=doctor))
assert credentials.channel_name == call.channel_name
assert result_of(join_video_call.sync(call.id, client=patient)).uid != credentials.uid
assert result_of(end_video_call.sync(call.id, client=doctor)).status is CallStatus.COMPLETED

later = result_of(book(60).parsed)
assert result_of(cancel_video_call.sync(later.id, client=patient)).status is CallStatus.CANCELLED
refusal = refusal_of(join_video_call.sync_detailed(later.id, client=patient))
assert refusal == (HTTPStatus.BAD_REQUEST, "This call has been cancelled", "join.not-cancelled")

anonymous = list_video_calls.sync_detailed(client=client_of("no-token"))
assert anonymous.status_code is HTTPStatus.UNAUTHORIZED
