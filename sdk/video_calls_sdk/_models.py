# Generated from openapi.yaml by `nox -s generate`. Edit the contract, not this file.

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field
from video_calls_sdk._base import Model
from video_calls_sdk._ids import StrictId


class CallStatus(StrEnum):
    """
    Where the call is in its life. `completed` and `cancelled` are final.
    """

    SCHEDULED = 'scheduled'
    ONGOING = 'ongoing'
    COMPLETED = 'completed'
    CANCELLED = 'cancelled'


class User(Model):
    """
    What participants may know of the person behind a doctor or a patient.
    """

    email: str
    """
    The user's e-mail address.
    """
    full_name: str
    """
    The user's name, as shown to the other participant.
    """


class DoctorDetails(Model):
    """
    The doctor of a call. Backends may add fields, but nothing sensitive.
    """

    id: StrictId
    """
    The doctor's id; the call's `doctor`.
    """
    user: User
    specialization: str | None = None
    """
    The doctor's field, where the backend knows it.
    """


class PatientDetails(Model):
    """
    The patient of a call. Backends may add fields, but nothing sensitive.
    """

    id: StrictId
    """
    The patient's id; the call's `patient`.
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
    Unique identifier for the Agora channel, of the characters that Agora allows.
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
    When the call actually started, with its first join; null before.
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
    What a client sends to schedule a call. Other fields are ignored.
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
    When the call is to start, in the future; RFC 3339 with any offset (no leap second).
    """


class VideoCallPage(Model):
    """
    One page of a user's calls.
    """

    count: int
    """
    How many calls the user has, over all pages.
    """
    next: str | None
    """
    The absolute URL of the next page, or null on the last.
    """
    previous: str | None
    """
    The absolute URL of the page before, or null on the first.
    """
    results: Annotated[list[VideoCall], Field(max_length=1000)]
    """
    The calls of this page.
    """


class JoinCredentials(Model):
    """
    What a client needs to connect to the call's Agora channel.
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
    When the token lapses, one hour after it was made.
    """
    app_id: str | None = None
    """
    The Agora app id, where the backend gives it.
    """


class EventType(StrEnum):
    """
    What happened.
    """

    CALL_STARTED = 'call.started'
    CALL_ENDED = 'call.ended'
    CALL_CANCELLED = 'call.cancelled'
    PARTICIPANT_JOINED = 'participant.joined'
    PARTICIPANT_LEFT = 'participant.left'


class Role(StrEnum):
    """
    As what somebody takes part in a call.
    """

    DOCTOR = 'doctor'
    PATIENT = 'patient'


class Error(Model):
    """
    Why a request was refused. Clients must work with `error` alone.
    """

    error: str
    """
    The reason, for a person.
    """
    code: str | None = None
    """
    The slug of the rule in `x-rules` that refused, or a kind such as `unavailable`.
    """
    fields: dict[str, list[str]] | None = None
    """
    Messages per field of the request.
    """


class Participant(Model):
    """
    The participant whom an event is about.
    """

    uid: int
    """
    Their Agora uid in the channel.
    """
    role: Annotated[Role | str, Field(union_mode='left_to_right')]


class EventData(Model):
    """
    The call as it was after what happened and, of a `participant` event, the participant.
    """

    call: VideoCall
    participant: Participant | None = None


class Event(Model):
    """
    Something that happened to a call.
    """

    id: str
    """
    Names the event, to resume after it; opaque.
    """
    type: Annotated[EventType | str, Field(union_mode='left_to_right')]
    created_at: AwareDatetime
    """
    When it happened.
    """
    data: EventData
