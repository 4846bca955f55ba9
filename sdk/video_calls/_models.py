# Generated from openapi.yaml by `nox -s generate`. Edit the contract, not this file.

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class User(BaseModel):
    """
    What participants may know of the person behind a doctor or a patient.
    """

    model_config = ConfigDict(
        extra='allow',
        frozen=True,
    )
    email: Annotated[
        str, Field(examples=['doctor@example.com'], max_length=254, min_length=3)
    ]
    """
    The user's e-mail address.
    """
    full_name: Annotated[str, Field(examples=['Dr. John Doe'], max_length=300)]
    """
    The user's name, as shown to the other participant.
    """


class DoctorDetails(BaseModel):
    """
    The doctor of a call. Backends may add fields, but nothing sensitive.
    """

    model_config = ConfigDict(
        extra='allow',
        frozen=True,
    )
    id: Annotated[int, Field(examples=[1], ge=1, le=9223372036854775807)]
    """
    The doctor's id; the call's `doctor`.
    """
    user: User
    specialization: Annotated[
        str | None, Field(examples=['General practice'], max_length=200)
    ] = None
    """
    The doctor's field, where the backend knows it.
    """


class PatientDetails(BaseModel):
    """
    The patient of a call. Backends may add fields, but nothing sensitive.
    """

    model_config = ConfigDict(
        extra='allow',
        frozen=True,
    )
    id: Annotated[int, Field(examples=[1], ge=1, le=9223372036854775807)]
    """
    The patient's id; the call's `patient`.
    """
    user: User


class VideoCall(BaseModel):
    """
    A video consultation between a doctor and a patient.
    """

    model_config = ConfigDict(
        extra='allow',
        frozen=True,
    )
    id: Annotated[int, Field(examples=[1], ge=1, le=9223372036854775807)]
    """
    The call's id.
    """
    channel_name: Annotated[
        str,
        Field(
            examples=['call_1704436789_5678'],
            max_length=63,
            min_length=1,
            pattern='^[A-Za-z0-9 !#$%&()+:;<=.>?@^_{}|~,\\[\\]-]+$',
        ),
    ]
    """
    Unique identifier for the Agora channel, of the characters that Agora allows.
    """
    doctor: Annotated[int, Field(examples=[1], ge=1, le=9223372036854775807)]
    """
    The doctor's id (not their user's).
    """
    patient: Annotated[int, Field(examples=[1], ge=1, le=9223372036854775807)]
    """
    The patient's id (not their user's).
    """
    doctor_details: DoctorDetails
    patient_details: PatientDetails
    status: Annotated[
        Literal['scheduled', 'ongoing', 'completed', 'cancelled'],
        Field(examples=['scheduled']),
    ]
    """
    Where the call is in its life. `completed` and `cancelled` are final.
    """
    scheduled_time: Annotated[AwareDatetime, Field(examples=['2024-01-05T10:00:00Z'])]
    """
    When the call is scheduled to start.
    """
    started_at: Annotated[AwareDatetime | None, Field(examples=[None])]
    """
    When the call actually started, with its first join; null before.
    """
    ended_at: Annotated[AwareDatetime | None, Field(examples=[None])]
    """
    When the call ended; null before, and for a cancelled call.
    """
    created_at: Annotated[AwareDatetime, Field(examples=['2024-01-05T08:00:00Z'])]
    """
    When the record was created.
    """
    updated_at: Annotated[AwareDatetime, Field(examples=['2024-01-05T08:00:00Z'])]
    """
    When the record was last updated.
    """


class VideoCallCreate(BaseModel):
    """
    What a client sends to schedule a call. Other fields are ignored.
    """

    model_config = ConfigDict(
        extra='allow',
        frozen=True,
    )
    doctor: Annotated[int, Field(examples=[1], ge=1, le=9223372036854775807)]
    """
    The doctor's id (not their user's).
    """
    patient: Annotated[int, Field(examples=[1], ge=1, le=9223372036854775807)]
    """
    The patient's id (not their user's).
    """
    scheduled_time: Annotated[AwareDatetime, Field(examples=['2024-01-05T10:00:00Z'])]
    """
    When the call is to start, in the future; RFC 3339 with any offset (no leap second).
    """


class VideoCallPage(BaseModel):
    """
    One page of a user's calls.
    """

    model_config = ConfigDict(
        extra='allow',
        frozen=True,
    )
    count: Annotated[int, Field(examples=[1], ge=0, le=9223372036854775807)]
    """
    How many calls the user has, over all pages.
    """
    next: Annotated[str | None, Field(examples=[None], max_length=4096)]
    """
    The absolute URL of the next page, or null on the last.
    """
    previous: Annotated[str | None, Field(examples=[None], max_length=4096)]
    """
    The absolute URL of the page before, or null on the first.
    """
    results: Annotated[list[VideoCall], Field(max_length=1000)]
    """
    The calls of this page.
    """


class JoinCredentials(BaseModel):
    """
    What a client needs to connect to the call's Agora channel.
    """

    model_config = ConfigDict(
        extra='allow',
        frozen=True,
    )
    channel_name: Annotated[
        str,
        Field(
            examples=['call_1704436789_5678'],
            max_length=63,
            min_length=1,
            pattern='^[A-Za-z0-9 !#$%&()+:;<=.>?@^_{}|~,\\[\\]-]+$',
        ),
    ]
    """
    The call's channel.
    """
    token: Annotated[
        str,
        Field(
            examples=['006970CA35de60c44645bbae8a215061b33IACV0fZUBw+72cVoL9eyGGh3Q6Poi8bgjwVLnyKSJyOXR7dIfRBXoFHlEAABAAAAR/QQAAEAAQCvKDdW'],
            max_length=2047,
            min_length=35,
            pattern='^00[67]',
        ),
    ]
    """
    An Agora AccessToken of version 006 or 007 for this channel and uid.
    """
    uid: Annotated[int, Field(examples=[123], ge=1, le=4294967295)]
    """
    The caller's Agora uid in the channel.
    """
    expiration_time: Annotated[AwareDatetime, Field(examples=['2024-01-05T11:00:00Z'])]
    """
    When the token lapses, one hour after it was made.
    """
    app_id: Annotated[
        str | None,
        Field(
            examples=['970CA35de60c44645bbae8a215061b33'],
            max_length=32,
            min_length=32,
            pattern='^[0-9A-Fa-f]{32}$',
        ),
    ] = None
    """
    The Agora app id, where the backend gives it.
    """


class Error(BaseModel):
    """
    Why a request was refused. Clients must work with `error` alone.
    """

    model_config = ConfigDict(
        extra='allow',
        frozen=True,
    )
    error: Annotated[
        str,
        Field(
            examples=['You are not authorized to access this call'],
            max_length=4096,
            min_length=1,
        ),
    ]
    """
    The reason, for a person.
    """
    code: Annotated[
        str | None,
        Field(examples=['get.participants-only'], max_length=100, min_length=1),
    ] = None
    """
    The slug of the rule in `x-rules` that refused, or a kind such as `not_found`.
    """
    fields: Annotated[
        dict[str, list[str]] | None,
        Field(
            examples=[{'scheduled_time': ['Scheduled time must be in the future']}],
            max_length=100,
        ),
    ] = None
    """
    Messages per field of the request.
    """
