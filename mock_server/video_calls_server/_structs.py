# Generated from openapi.yaml by `nox -s generate`. Edit the contract, not this file.

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

Id1: TypeAlias = Annotated[
    int,
    Meta(
        description='The id of a call, a doctor or a patient, opaque to clients: a positive integer, or a text that needs no\nescaping in a URL, such as a UUID. A backend uses one of the two for all calls, one for all doctors,\nand one for all patients.\n',
        ge=1,
        le=9223372036854775807,
    ),
]


Id2: TypeAlias = Annotated[
    str,
    Meta(
        description='The id of a call, a doctor or a patient, opaque to clients: a positive integer, or a text that needs no\nescaping in a URL, such as a UUID. A backend uses one of the two for all calls, one for all doctors,\nand one for all patients.\n',
        max_length=64,
        min_length=1,
        pattern='^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$',
    ),
]


Id: TypeAlias = Annotated[
    Id1 | Id2,
    Meta(
        description='The id of a call, a doctor or a patient, opaque to clients: a positive integer, or a text that needs no\nescaping in a URL, such as a UUID. A backend uses one of the two for all calls, one for all doctors,\nand one for all patients.\n'
    ),
]


CallStatus: TypeAlias = Annotated[
    Literal['scheduled', 'ongoing', 'completed', 'cancelled'],
    Meta(
        description='Where the call is in its life. `completed` and `cancelled` are final.'
    ),
]


class User(Struct, kw_only=True):
    """
    What participants may know of the person behind a doctor or a patient.
    """

    email: Annotated[
        str,
        Meta(description="The user's e-mail address.", max_length=254, min_length=3),
    ]
    full_name: Annotated[
        str,
        Meta(
            description="The user's name, as shown to the other participant.",
            max_length=300,
        ),
    ]


class DoctorDetails(Struct, kw_only=True):
    """
    The doctor of a call. Backends may add fields, but nothing sensitive.
    """

    id: Annotated[Id, Meta(description="The doctor's id; the call's `doctor`.")]
    user: User
    specialization: (
        Annotated[
            str,
            Meta(description="The doctor's field, where the backend knows it.", max_length=200),
        ]
        | None
        | UnsetType
    ) = UNSET


class PatientDetails(Struct, kw_only=True):
    """
    The patient of a call. Backends may add fields, but nothing sensitive.
    """

    id: Annotated[Id, Meta(description="The patient's id; the call's `patient`.")]
    user: User


class VideoCall(Struct, kw_only=True):
    """
    A video consultation between a doctor and a patient.
    """

    id: Annotated[Id, Meta(description="The call's id.")]
    channel_name: Annotated[
        str,
        Meta(
            description='Unique identifier for the Agora channel, of the characters that Agora allows.',
            max_length=63,
            min_length=1,
            pattern='^[A-Za-z0-9 !#$%&()+:;<=.>?@^_{}|~,\\[\\]-]+$',
        ),
    ]
    doctor: Annotated[Id, Meta(description="The doctor's id (not their user's).")]
    patient: Annotated[Id, Meta(description="The patient's id (not their user's).")]
    doctor_details: DoctorDetails
    patient_details: PatientDetails
    status: CallStatus
    scheduled_time: Annotated[
        datetime, Meta(description='When the call is scheduled to start.')
    ]
    started_at: Annotated[datetime, Meta(description='When the call actually started, with its first join; null before.')] | None
    ended_at: Annotated[datetime, Meta(description='When the call ended; null before, and for a cancelled call.')] | None
    created_at: Annotated[datetime, Meta(description='When the record was created.')]
    updated_at: Annotated[
        datetime, Meta(description='When the record was last updated.')
    ]


class VideoCallCreate(Struct, kw_only=True):
    """
    What a client sends to schedule a call. Other fields are ignored.
    """

    doctor: Annotated[Id, Meta(description="The doctor's id (not their user's).")]
    patient: Annotated[Id, Meta(description="The patient's id (not their user's).")]
    scheduled_time: Annotated[
        datetime,
        Meta(
            description='When the call is to start, in the future; RFC 3339 with any offset (no leap second).'
        ),
    ]


class VideoCallPage(Struct, kw_only=True):
    """
    One page of a user's calls.
    """

    count: Annotated[
        int,
        Meta(
            description='How many calls the user has, over all pages.',
            ge=0,
            le=9223372036854775807,
        ),
    ]
    next: Annotated[str, Meta(description='The absolute URL of the next page, or null on the last.', max_length=4096)] | None
    previous: Annotated[str, Meta(description='The absolute URL of the page before, or null on the first.', max_length=4096)] | None
    results: Annotated[
        list[VideoCall], Meta(description='The calls of this page.', max_length=1000)
    ]


class JoinCredentials(Struct, kw_only=True):
    """
    What a client needs to connect to the call's Agora channel.
    """

    channel_name: Annotated[
        str,
        Meta(
            description="The call's channel.",
            max_length=63,
            min_length=1,
            pattern='^[A-Za-z0-9 !#$%&()+:;<=.>?@^_{}|~,\\[\\]-]+$',
        ),
    ]
    token: Annotated[
        str,
        Meta(
            description='An Agora AccessToken of version 006 or 007 for this channel and uid.',
            max_length=2047,
            min_length=35,
            pattern='^00[67]',
        ),
    ]
    uid: Annotated[
        int,
        Meta(description="The caller's Agora uid in the channel.", ge=1, le=4294967295),
    ]
    expiration_time: Annotated[
        datetime, Meta(description='When the token lapses, one hour after it was made.')
    ]
    app_id: (
        Annotated[
            str,
            Meta(
                description='The Agora app id, where the backend gives it.',
                max_length=32,
                min_length=32,
                pattern='^[0-9A-Fa-f]{32}$',
            ),
        ]
        | UnsetType
    ) = UNSET


EventType: TypeAlias = Annotated[
    Literal['call.started', 'call.ended', 'call.cancelled', 'participant.joined', 'participant.left'],
    Meta(description='What happened.'),
]


Role: TypeAlias = Annotated[
    Literal['doctor', 'patient'],
    Meta(description='As what somebody takes part in a call.'),
]


class Error(Struct, kw_only=True):
    """
    Why a request was refused. Clients must work with `error` alone.
    """

    error: Annotated[
        str,
        Meta(description='The reason, for a person.', max_length=4096, min_length=1),
    ]
    code: (
        Annotated[
            str,
            Meta(
                description='The slug of the rule in `x-rules` that refused, or a kind such as `unavailable`.',
                max_length=100,
                min_length=1,
            ),
        ]
        | UnsetType
    ) = UNSET
    fields: (
        Annotated[
            dict[str, list[str]],
            Meta(description='Messages per field of the request.', max_length=100),
        ]
        | UnsetType
    ) = UNSET


class Participant(Struct, kw_only=True):
    """
    The participant whom an event is about.
    """

    uid: Annotated[
        int, Meta(description='Their Agora uid in the channel.', ge=1, le=4294967295)
    ]
    role: Role


class EventData(Struct, kw_only=True):
    """
    The call as it was after what happened and, of a `participant` event, the participant.
    """

    call: VideoCall
    participant: Participant | UnsetType = UNSET


class Event(Struct, kw_only=True):
    """
    Something that happened to a call.
    """

    id: Annotated[
        str,
        Meta(
            description='Names the event, to resume after it; opaque.',
            max_length=64,
            min_length=1,
        ),
    ]
    type: EventType
    created_at: Annotated[datetime, Meta(description='When it happened.')]
    data: EventData
