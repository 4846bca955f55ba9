"""The operations of the contract as requests: what is sent for each, and what is wanted of the server."""

import json
from collections.abc import Mapping
from datetime import datetime
from uuid import uuid4

from video_calls_sdk._configuration import aware
from video_calls_sdk._errors import ConfigurationError
from video_calls_sdk._flow import Request, Wanted
from video_calls_sdk._ids import Id, checked_id
from video_calls_sdk._models import CallStatus, JoinCredentials, VideoCall


def page_query(page: int | None, page_size: int | None) -> Mapping[str, str]:
    """Return the query of a page; what is None is left to the server."""
    given = (("page", page), ("page_size", page_size))
    return {name: str(value) for name, value in given if value is not None}


def create_call(
    doctor: Id, patient: Id, scheduled_time: datetime, idempotency_key: str | None
) -> Request[VideoCall]:
    """The request of `createVideoCall`."""
    time = aware(scheduled_time)
    doctor, patient = checked_id("doctor", doctor), checked_id("patient", patient)
    body = {
        "doctor": doctor,
        "patient": patient,
        "scheduled_time": time.isoformat().replace("+00:00", "Z"),
    }
    key = uuid4().hex if idempotency_key is None else idempotency_key
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("idempotency_key must be visible ASCII characters")
    return Request(
        "createVideoCall",
        "POST",
        "/video-calls/",
        VideoCall,
        content=json.dumps(body).encode(),
        headers={"content-type": "application/json", "idempotency-key": key},
        wanted=Wanted(doctor=doctor, patient=patient, scheduled_time=time),
    )


def join_call(call_id: Id) -> Request[JoinCredentials]:
    """The request of `joinVideoCall`."""
    return Request(
        "joinVideoCall", "POST", f"/video-calls/{checked_id('id', call_id)}/join/", JoinCredentials
    )


def end_call(call_id: Id) -> Request[VideoCall]:
    """The request of `endVideoCall`."""
    return _transition("endVideoCall", call_id, "end", CallStatus.COMPLETED)


def cancel_call(call_id: Id) -> Request[VideoCall]:
    """The request of `cancelVideoCall`."""
    return _transition("cancelVideoCall", call_id, "cancel", CallStatus.CANCELLED)


def _transition(operation: str, call_id: Id, action: str, status: CallStatus) -> Request[VideoCall]:
    path = f"/video-calls/{checked_id('id', call_id)}/{action}/"
    return Request(operation, "POST", path, VideoCall, wanted=Wanted(call_id=call_id, status=status))
