"""The life of a call, with the client and a server process, for both forms of ids."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from video_calls_sdk import (
    CallNotFoundError,
    CallNotScheduledError,
    SchedulingConflictError,
    VideoCallsClient,
)
from video_calls_server.control.client import Control

if TYPE_CHECKING:
    from support.server_process import ServerProcess


@pytest.mark.parametrize("ids", ["integer", "uuid"])
def test_call_lifecycle_works_with_both_id_types(serve: "Callable[..., ServerProcess]", ids: str) -> None:
    server = serve("--database", ":memory:", "--ids", ids)
    with Control(server.url) as control:
        people = {person.email: person for person in control.identities.list()}
        doctor, patient = people["doctor@example.com"].doctor, people["patient@example.com"].patient
        token = control.token("doctor@example.com")
    assert doctor is not None
    assert patient is not None
    soon = datetime.now(UTC) + timedelta(minutes=10)
    with VideoCallsClient(f"{server.url}/api/v1/video", token) as client:
        calls = client.calls
        call = calls.create(doctor=doctor.id, patient=patient.id, scheduled_time=soon)
        with pytest.raises(SchedulingConflictError):
            calls.create(doctor=doctor.id, patient=patient.id, scheduled_time=soon)
        assert [(each.id, each.doctor, each.patient) for each in calls.list()] == [
            (call.id, doctor.id, patient.id)
        ]
        assert calls.join(call.id).channel_name == call.channel_name
        assert calls.end(call.id).status == "completed"
        assert calls.get(call.id).doctor_details.id == doctor.id
        with pytest.raises(CallNotScheduledError):
            calls.cancel(call.id)
        with client.events(after="0") as events:
            types = [next(events).type for _ in range(4)]
        assert types == ["call.started", "participant.joined", "participant.left", "call.ended"]
        with pytest.raises(CallNotFoundError):
            calls.get(patient.id if ids == "uuid" else 999)
    for id_ in (call.id, call.doctor, call.patient):
        assert isinstance(id_, int) if ids == "integer" else str(UUID(str(id_))) == id_
