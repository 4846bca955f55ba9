"""The operations of the contract as requests: what the client sends, and the model that it expects.

No I/O. These functions raise an error for an argument that cannot be sent.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

from pydantic import BaseModel

from video_calls_sdk._configuration import EMPTY
from video_calls_sdk._errors import ConfigurationError, NaiveDatetimeError
from video_calls_sdk._ids import Id, checked_id
from video_calls_sdk._models import CallStatus, JoinCredentials, VideoCall, VideoCallPage

Model = TypeVar("Model", bound=BaseModel)


class Effect(NamedTuple):
    """The change that a request makes on the server: a new call, or a new status of a call."""

    doctor: Id = 0
    patient: Id = 0
    scheduled_time: datetime | None = None
    call_id: Id = 0
    status: CallStatus = CallStatus.SCHEDULED


class Request(NamedTuple, Generic[Model]):
    """One operation of the contract with its arguments.

    Attributes:
        effect: the change to look for after an attempt without a response, because it shows whether the
            server carried out the request; None if a repeat does no harm.
    """

    operation: str
    method: str
    path: str
    model: type[Model]
    query: Mapping[str, str] = EMPTY
    content: bytes | None = None
    headers: Mapping[str, str] = EMPTY
    effect: Effect | None = None


def list_calls(query: Mapping[str, str]) -> Request[VideoCallPage]:
    """Return the request of `listVideoCalls`."""
    return Request("listVideoCalls", "GET", "/video-calls/", VideoCallPage, query=query)


def page_query(page: int | None, page_size: int | None) -> Mapping[str, str]:
    """Return the query of a page, without the parameters that are None."""
    parameters = {"page": page, "page_size": page_size}
    return {name: str(value) for name, value in parameters.items() if value is not None}


def next_query(url: str | None) -> Mapping[str, str] | None:
    """Return the query of a page's `next`; None if there is no next page.

    The client uses only the query, because a backend behind a proxy may write another host or path into
    `next`, and the token must not go there.

    Raises:
        ValueError: if `next` is not a URL.
    """
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)) if url else None


def create_call(
    doctor: Id, patient: Id, scheduled_time: datetime, idempotency_key: str | None
) -> Request[VideoCall]:
    """Return the request of `createVideoCall`.

    Raises:
        NaiveDatetimeError: if `scheduled_time` has no offset.
        ConfigurationError: if another argument cannot be sent.
    """
    time = _to_utc(scheduled_time)
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
        effect=Effect(doctor=doctor, patient=patient, scheduled_time=time),
    )


def get_call(call_id: Id) -> Request[VideoCall]:
    """Return the request of `getVideoCall`."""
    return Request("getVideoCall", "GET", f"/video-calls/{checked_id('id', call_id)}/", VideoCall)


def join_call(call_id: Id) -> Request[JoinCredentials]:
    """Return the request of `joinVideoCall`."""
    return Request(
        "joinVideoCall", "POST", f"/video-calls/{checked_id('id', call_id)}/join/", JoinCredentials
    )


def end_call(call_id: Id) -> Request[VideoCall]:
    """Return the request of `endVideoCall`."""
    return _transition("endVideoCall", call_id, "end", CallStatus.COMPLETED)


def cancel_call(call_id: Id) -> Request[VideoCall]:
    """Return the request of `cancelVideoCall`."""
    return _transition("cancelVideoCall", call_id, "cancel", CallStatus.CANCELLED)


def _transition(operation: str, call_id: Id, action: str, status: CallStatus) -> Request[VideoCall]:
    path = f"/video-calls/{checked_id('id', call_id)}/{action}/"
    return Request(operation, "POST", path, VideoCall, effect=Effect(call_id=call_id, status=status))


def _to_utc(time: datetime) -> datetime:
    if not isinstance(time, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise ConfigurationError(f"scheduled_time must be a datetime, not {type(time).__name__}")
    if time.utcoffset() is None:
        raise NaiveDatetimeError(
            f"scheduled_time {time.isoformat()} has no time zone; pass an aware datetime, "
            "such as datetime.now(timezone.utc) + timedelta(hours=1)"
        )
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ConfigurationError(f"scheduled_time {time.isoformat()} is out of range") from error
