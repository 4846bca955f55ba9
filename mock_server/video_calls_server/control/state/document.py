"""The state of a namespace as one JSON document. Pure: no I/O.

`loading` restores the same state from the document. A document that is written by hand needs only users and
calls.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, cast, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from video_calls_spec.encoding import EncodingError, decoded

from video_calls_server.api.ids import INTEGERS, Ids, Kind
from video_calls_server.control.faults.model import Fault
from video_calls_server.control.state.snapshots import Contents
from video_calls_server.domain.calls import Status
from video_calls_server.domain.events import EventType
from video_calls_server.domain.people import Role
from video_calls_server.store import schema
from video_calls_server.store.dump import Dump
from video_calls_server.store.seed import DoctorEntry, Id, PatientEntry, UserEntry, UserId
from video_calls_server.store.times import to_time

ROLES: tuple[Role, ...] = get_args(Role)
_MAX_QUOTE = 80  # characters; an error text quotes no more of an invalid id
_LARGEST_NUMBER = 2**53 - 1  # exact in every JSON reader, and far below the largest id
_Number = Annotated[int, Meta(ge=1, le=_LARGEST_NUMBER)]
_Time = Annotated[datetime, Meta(tz=True, description="RFC 3339 with any offset.")]
_MaybeTime = _Time | UnsetType | None
_Text = Annotated[str, Meta(pattern=r"^[^\0]+(?![\s\S])", max_length=255)]


class StateError(ValueError):
    """An invalid document; the message names the place in it and the reason."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")


class ClockReading(Struct, forbid_unknown_fields=True):
    """The time that the clock shows, and whether it runs."""

    time: _Time
    running: bool = True


class CallEntry(Struct, kw_only=True, forbid_unknown_fields=True):
    """A call. In a document that is written by hand, doctor, patient and scheduled time are enough."""

    id: _Number | UnsetType = UNSET
    channel_name: Annotated[str, Meta(max_length=63)] | UnsetType = UNSET
    doctor: Id
    patient: Id
    status: Status = "scheduled"
    scheduled_time: _Time
    started_at: _MaybeTime = UNSET
    ended_at: _MaybeTime = UNSET
    created_at: _Time | UnsetType = UNSET
    updated_at: _Time | UnsetType = UNSET
    present: list[Role] = []
    absent_since: dict[Role, _Time] = {}


class EventEntry(Struct, kw_only=True, forbid_unknown_fields=True):
    """An event, and the users who receive it."""

    id: _Number
    type: EventType
    created_at: _Time
    to: list[UserId]
    data: dict[str, Any]  # the contract's `EventData`, as it was at the time of the event


class KeyEntry(Struct, kw_only=True, forbid_unknown_fields=True):
    """An `Idempotency-Key` of a user, and the call that was created with it."""

    user: UserId
    key: _Text
    call: _Number
    created_at: _Time


class State(Struct, kw_only=True, forbid_unknown_fields=True):
    """All data of a namespace. A missing list is empty. Without `clock`, an import does not change the clock.

    A state has no rate limit counters and no Agora notifications, because these follow real time.
    """

    version: Literal[1] = 1
    clock: ClockReading | UnsetType = UNSET
    users: Annotated[list[UserEntry], Meta(min_length=1)]
    calls: list[CallEntry] = []
    events: list[EventEntry] = []
    last_forgotten_event: Annotated[int, Meta(ge=0, le=_LARGEST_NUMBER)] = 0
    idempotency_keys: list[KeyEntry] = []
    faults: list[Fault] = []


_DECODER = msgspec.json.Decoder(State)


def read_state(body: bytes, ids: Ids) -> State:
    """Return the document in a request's body. `loading` checks its content.

    Raises:
        StateError: if the body does not have the form of a document.
    """
    try:
        if ids is INTEGERS:
            return _DECODER.decode(decoded(body))
        document = msgspec.json.decode(decoded(body))
        for kind, *steps in _IDS:
            _change(document, steps, "", partial(_parse_id, ids, kind))
        return msgspec.convert(document, State)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        raise StateError(where.strip("`.") or "the document", reason) from error
    except (msgspec.DecodeError, EncodingError, UnicodeError, RecursionError) as error:
        raise StateError("the document", f"not JSON: {error}") from error


def state_json(state: State, ids: Ids) -> bytes:
    """Return the document as JSON, with ids as the API shows them."""
    document = msgspec.to_builtins(state)
    if ids is not INTEGERS:
        for kind, *steps in _IDS:
            _change(document, steps, "", partial(_format_id, ids, kind))
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


_IDS: tuple[tuple[Kind, *tuple[str, ...]], ...] = (
    ("doctor", "users", "doctor", "id"),
    ("patient", "users", "patient", "id"),
    ("call", "calls", "id"),
    ("doctor", "calls", "doctor"),
    ("patient", "calls", "patient"),
    ("call", "events", "data", "call", "id"),
    ("doctor", "events", "data", "call", "doctor"),
    ("patient", "events", "data", "call", "patient"),
    ("doctor", "events", "data", "call", "doctor_details", "id"),
    ("patient", "events", "data", "call", "patient_details", "id"),
    ("call", "idempotency_keys", "call"),
)
"""The kind of each id in a document, and the path to it."""


def _change(node: object, steps: list[str], where: str, change: Callable[[object, str], object]) -> None:
    """Change each value at the path `steps`. If the path leads through a list, follow it in every item."""
    if isinstance(node, list):
        for index, item in enumerate(cast("list[object]", node)):
            _change(item, steps, f"{where}[{index}]", change)
    elif isinstance(node, dict) and steps[0] in node:
        fields, (name, *rest) = cast("dict[str, object]", node), steps
        where = f"{where}.{name}" if where else name
        if rest:
            _change(fields[name], rest, where, change)
        else:
            fields[name] = change(fields[name], where)


def _parse_id(ids: Ids, kind: Kind, value: object, where: str) -> object:
    if not isinstance(value, str):
        return value
    number = ids.parse(kind, value)
    if number is None:
        raise StateError(where, f"{value[:_MAX_QUOTE]!r} is not the id of a {kind} on this server")
    return number


def _format_id(ids: Ids, kind: Kind, value: object, _: str) -> object:
    return ids.format(kind, value) if isinstance(value, int) else value


def state_of(contents: Contents) -> State:
    """Return the contents of a namespace as a document."""
    dump = contents.dump
    recipients: dict[int, list[int]] = {}
    for row in dump.of(schema.event_recipients):
        recipients.setdefault(row["event_id"], []).append(row["user_id"])
    return State(
        clock=ClockReading(contents.time, contents.running),
        users=_user_entries(dump),
        calls=[_call_entry(row) for row in dump.of(schema.calls)],
        events=[
            EventEntry(
                id=row["id"],
                type=row["type"],
                created_at=to_time(row["created_at"]),
                to=sorted(recipients.get(row["id"], [])),
                data=msgspec.json.decode(row["data"]),
            )
            for row in dump.of(schema.events)
        ],
        last_forgotten_event=max((row["last_id"] for row in dump.of(schema.forgotten_events)), default=0),
        idempotency_keys=[
            KeyEntry(
                user=row["user_id"],
                key=row["key"],
                call=row["call_id"],
                created_at=to_time(row["created_at"]),
            )
            for row in dump.of(schema.idempotency_keys)
        ],
        faults=list(contents.faults),
    )


def _user_entries(dump: Dump) -> list[UserEntry]:
    doctors = {row["user_id"]: row for row in dump.of(schema.doctors)}
    patients = {row["user_id"]: row for row in dump.of(schema.patients)}
    entries: list[UserEntry] = []
    for row in dump.of(schema.users):
        doctor, patient = doctors.get(row["id"]), patients.get(row["id"])
        entries.append(
            UserEntry(
                id=row["id"],
                email=row["email"],
                full_name=row["full_name"],
                active=bool(row["is_active"]),
                doctor=None if doctor is None else DoctorEntry(doctor["id"], doctor["specialization"]),
                patient=None if patient is None else PatientEntry(patient["id"]),
            )
        )
    return entries


def _call_entry(row: Mapping[str, Any]) -> CallEntry:
    return CallEntry(
        id=row["id"],
        channel_name=row["channel_name"],
        doctor=row["doctor_id"],
        patient=row["patient_id"],
        status=row["status"],
        scheduled_time=to_time(row["scheduled_time"]),
        started_at=None if row["started_at"] is None else to_time(row["started_at"]),
        ended_at=None if row["ended_at"] is None else to_time(row["ended_at"]),
        created_at=to_time(row["created_at"]),
        updated_at=to_time(row["updated_at"]),
        present=[role for role in ROLES if row[f"{role}_present"]],
        absent_since={
            role: to_time(row[f"{role}_absent_since"])
            for role in ROLES
            if row[f"{role}_absent_since"] is not None
        },
    )
