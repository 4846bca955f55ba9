# Generated from openapi.yaml by `nox -s generate`. Edit the contract, not this file.

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

Id1: TypeAlias = Annotated[
    int,
    Meta(
        description='The id of a call, a doctor or a patient, opaque to clients: a positive integer, or a text that needs no\nescaping in a URL, such as a UUID. All calls have ids of one type, and so have all doctors and all\npatients.\n',
        ge=1,
        le=9223372036854775807,
    ),
]


Id2: TypeAlias = Annotated[
    str,
    Meta(
        description='The id of a call, a doctor or a patient, opaque to clients: a positive integer, or a text that needs no\nescaping in a URL, such as a UUID. All calls have ids of one type, and so have all doctors and all\npatients.\n',
        max_length=64,
        min_length=1,
        pattern='^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$',
    ),
]


Id: TypeAlias = Annotated[
    Id1 | Id2,
    Meta(
        description='The id of a call, a doctor or a patient, opaque to clients: a positive integer, or a text that needs no\nescaping in a URL, such as a UUID. All calls have ids of one type, and so have all doctors and all\npatients.\n'
    ),
]


CallStatus: TypeAlias = Annotated[
    Literal['scheduled', 'ongoing', 'completed', 'cancelled'],
    Meta(description='The state of the call. `completed` and `cancelled` are final.'),
]


class User(Struct, kw_only=True):
    """
    The data of a doctor's or patient's user that participants can see.
    """

    email: Annotated[
        str,
        Meta(description="The user's e-mail address.", max_length=254, min_length=3),
    ]
    full_name: Annotated[
        str,
        Meta(
            description='The full name, which the other participant sees.',
            max_length=300,
        ),
    ]


class DoctorDetails(Struct, kw_only=True):
    """
    The doctor of a call. Backends may add fields without sensitive data.
    """

    id: Annotated[
        Id, Meta(description='The id of the doctor; the same as `doctor` of the call.')
    ]
    user: User
    specialization: (
        Annotated[
            str,
            Meta(description="The doctor's field, if the backend has it.", max_length=200),
        ]
        | None
        | UnsetType
    ) = UNSET


class PatientDetails(Struct, kw_only=True):
    """
    The patient of a call. Backends may add fields without sensitive data.
    """

    id: Annotated[
        Id,
        Meta(description='The id of the patient; the same as `patient` of the call.'),
    ]
    user: User


class VideoCall(Struct, kw_only=True):
    """
    A video consultation between a doctor and a patient.
    """

    id: Annotated[Id, Meta(description="The call's id.")]
    channel_name: Annotated[
        str,
        Meta(
            description='Unique name of the Agora channel, in the characters that Agora allows.',
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
    started_at: Annotated[datetime, Meta(description='When the call started, with its first join; null before.')] | None
    ended_at: Annotated[datetime, Meta(description='When the call ended; null before, and for a cancelled call.')] | None
    created_at: Annotated[datetime, Meta(description='When the record was created.')]
    updated_at: Annotated[
        datetime, Meta(description='When the record was last updated.')
    ]


class VideoCallCreate(Struct, kw_only=True):
    """
    The request to schedule a call. Other fields are ignored.
    """

    doctor: Annotated[Id, Meta(description="The doctor's id (not their user's).")]
    patient: Annotated[Id, Meta(description="The patient's id (not their user's).")]
    scheduled_time: Annotated[
        datetime,
        Meta(
            description='The start of the call, in the future, as RFC 3339 with any offset (no leap second).'
        ),
    ]


class VideoCallPage(Struct, kw_only=True):
    """
    One page of a user's calls.
    """

    count: Annotated[
        int,
        Meta(
            description="The number of the user's calls on all pages.",
            ge=0,
            le=9223372036854775807,
        ),
    ]
    next: Annotated[str, Meta(description='The absolute URL of the next page; null on the last page.', max_length=4096)] | None
    previous: Annotated[str, Meta(description='The absolute URL of the previous page; null on the first page.', max_length=4096)] | None
    results: Annotated[
        list[VideoCall], Meta(description='The calls of this page.', max_length=1000)
    ]


class JoinCredentials(Struct, kw_only=True):
    """
    The credentials for the Agora channel of a call.
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
        datetime,
        Meta(description='When the token expires, one hour after it was made.'),
    ]
    app_id: (
        Annotated[
            str,
            Meta(
                description='The Agora app id, if the backend sends it.',
                max_length=32,
                min_length=32,
                pattern='^[0-9A-Fa-f]{32}$',
            ),
        ]
        | UnsetType
    ) = UNSET


EventType: TypeAlias = Annotated[
    Literal['call.started', 'call.ended', 'call.cancelled', 'participant.joined', 'participant.left'],
    Meta(description='The kind of change.'),
]


Role: TypeAlias = Annotated[
    Literal['doctor', 'patient'],
    Meta(description='The role of a participant in a call.'),
]


class Error(Struct, kw_only=True):
    """
    The reason of a refusal. Clients must work with `error` alone.
    """

    error: Annotated[
        str,
        Meta(
            description='The reason, as a text for users.',
            max_length=4096,
            min_length=1,
        ),
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
            Meta(description='Messages by field of the request.', max_length=100),
        ]
        | UnsetType
    ) = UNSET


class Participant(Struct, kw_only=True):
    """
    The participant of an event.
    """

    uid: Annotated[
        int,
        Meta(
            description='The Agora uid of the participant in the channel.',
            ge=1,
            le=4294967295,
        ),
    ]
    role: Role


class EventData(Struct, kw_only=True):
    """
    The call after the change and, in a `participant` event, the participant.
    """

    call: VideoCall
    participant: Participant | UnsetType = UNSET


class Event(Struct, kw_only=True):
    """
    A change of a call.
    """

    id: Annotated[
        str,
        Meta(
            description='The opaque id of the event, to resume after it.',
            max_length=64,
            min_length=1,
        ),
    ]
    type: EventType
    created_at: Annotated[datetime, Meta(description='When the change was made.')]
    data: EventData
