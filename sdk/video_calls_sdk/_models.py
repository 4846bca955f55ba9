# Generated from openapi.yaml by `nox -s generate`. Edit the contract, not this file.

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field
from video_calls_sdk._base_model import Model
from video_calls_sdk._ids import StrictId


class CallStatus(StrEnum):
    """
    The state of the call. `completed` and `cancelled` are final.
    """

    SCHEDULED = 'scheduled'
    ONGOING = 'ongoing'
    COMPLETED = 'completed'
    CANCELLED = 'cancelled'


class User(Model):
    """
    The data of a doctor's or patient's user that participants can see.
    """

    email: str
    """
    The user's e-mail address.
    """
    full_name: str
    """
    The full name, which the other participant sees.
    """


class DoctorDetails(Model):
    """
    The doctor of a call. Backends may add fields without sensitive data.
    """

    id: StrictId
    """
    The id of the doctor; the same as `doctor` of the call.
    """
    user: User
    specialization: str | None = None
    """
    The doctor's field, if the backend has it.
    """


class PatientDetails(Model):
    """
    The patient of a call. Backends may add fields without sensitive data.
    """

    id: StrictId
    """
    The id of the patient; the same as `patient` of the call.
    """
    user: User


class VideoCall(Model):
    """
    A video consultation between a doctor and a patient.
    """

    id: StrictId
    """
    The call's id.
    """
    channel_name: str
    """
    Unique name of the Agora channel, in the characters that Agora allows.
    """
    doctor: StrictId
    """
    The doctor's id (not their user's).
    """
    patient: StrictId
    """
    The patient's id (not their user's).
    """
    doctor_details: DoctorDetails
    patient_details: PatientDetails
    status: Annotated[CallStatus | str, Field(union_mode='left_to_right')]
    scheduled_time: AwareDatetime
    """
    When the call is scheduled to start.
    """
    started_at: AwareDatetime | None
    """
    When the call started, with its first join; null before.
    """
    ended_at: AwareDatetime | None
    """
    When the call ended; null before, and for a cancelled call.
    """
    created_at: AwareDatetime
    """
    When the record was created.
    """
    updated_at: AwareDatetime
    """
    When the record was last updated.
    """


class VideoCallCreate(Model):
    """
    The request to schedule a call. Other fields are ignored.
    """

    doctor: StrictId
    """
    The doctor's id (not their user's).
    """
    patient: StrictId
    """
    The patient's id (not their user's).
    """
    scheduled_time: AwareDatetime
    """
    The start of the call, in the future, as RFC 3339 with any offset (no leap second).
    """


class VideoCallPage(Model):
    """
    One page of a user's calls.
    """

    count: int
    """
    The number of the user's calls on all pages.
    """
    next: str | None
    """
    The absolute URL of the next page; null on the last page.
    """
    previous: str | None
    """
    The absolute URL of the previous page; null on the first page.
    """
    results: Annotated[list[VideoCall], Field(max_length=1000)]
    """
    The calls of this page.
    """


class JoinCredentials(Model):
    """
    The credentials for the Agora channel of a call.
    """

    channel_name: str
    """
    The call's channel.
    """
    token: str
    """
    An Agora AccessToken of version 006 or 007 for this channel and uid.
    """
    uid: int
    """
    The caller's Agora uid in the channel.
    """
    expiration_time: AwareDatetime
    """
    When the token expires, one hour after it was made.
    """
    app_id: str | None = None
    """
    The Agora app id, if the backend sends it.
    """


class EventType(StrEnum):
    """
    The kind of change.
    """

    CALL_STARTED = 'call.started'
    CALL_ENDED = 'call.ended'
    CALL_CANCELLED = 'call.cancelled'
    PARTICIPANT_JOINED = 'participant.joined'
    PARTICIPANT_LEFT = 'participant.left'


class Role(StrEnum):
    """
    The role of a participant in a call.
    """

    DOCTOR = 'doctor'
    PATIENT = 'patient'


class Error(Model):
    """
    The reason of a refusal. Clients must work with `error` alone.
    """

    error: str
    """
    The reason, as a text for users.
    """
    code: str | None = None
    """
    The slug of the rule in `x-rules` that refused, or a kind such as `unavailable`.
    """
    fields: dict[str, list[str]] | None = None
    """
    Messages by field of the request.
    """


class Participant(Model):
    """
    The participant of an event.
    """

    uid: int
    """
    The Agora uid of the participant in the channel.
    """
    role: Annotated[Role | str, Field(union_mode='left_to_right')]


class EventData(Model):
    """
    The call after the change and, in a `participant` event, the participant.
    """

    call: VideoCall
    participant: Participant | None = None


class Event(Model):
    """
    A change of a call.
    """

    id: str
    """
    The opaque id of the event, to resume after it.
    """
    type: Annotated[EventType | str, Field(union_mode='left_to_right')]
    created_at: AwareDatetime
    """
    When the change was made.
    """
    data: EventData
