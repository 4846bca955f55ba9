"""The contents of a namespace that a state document describes. Pure: no I/O.

Missing fields get values that fit the others. An invalid document is refused with the place and the reason,
as in `calls[3].doctor: there is no doctor 9`.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from video_calls_server._structs import EventData
from video_calls_server.agora.channels import channel_name
from video_calls_server.agora.tokens import CHANNEL_NAME
from video_calls_server.control.settable_clock import EARLIEST, LATEST
from video_calls_server.control.state.document import (
    ROLES,
    CallEntry,
    KeyEntry,
    State,
    StateError,
)
from video_calls_server.control.state.snapshots import Contents
from video_calls_server.domain.calls import Status
from video_calls_server.domain.people import Role
from video_calls_server.store import schema
from video_calls_server.store.dump import Dump
from video_calls_server.store.seed import UserEntry, find_repetition
from video_calls_server.store.times import to_microseconds

_TIMES_OF: dict[Status, tuple[str, ...]] = {
    "scheduled": (),
    "ongoing": ("started_at",),
    "completed": ("started_at", "ended_at"),
    "cancelled": (),
}
_MIN_TIME, _MAX_TIME = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

_Values = dict[str, Any]  # a row: its values by column; the table defines their types

_encode = msgspec.json.Encoder().encode

_USUAL_DURATION = timedelta(minutes=30)
_LEAD_TIME = timedelta(days=1)
"""How long before its scheduled time a past call was created, if the document does not say it."""


def contents_of(state: State, *, now: datetime, running: bool) -> Contents:
    """Return the contents that a document describes. Without `clock` in it, `now` and `running` apply.

    Raises:
        StateError: if the document contradicts itself.
    """
    if state.clock is not UNSET:
        now, running = _utc(state.clock.time, "clock.time"), state.clock.running
        if not EARLIEST <= now <= LATEST:
            raise StateError("clock.time", f"must be within the years {EARLIEST.year} to {LATEST.year}")
    _check_people(state.users)
    references = _References(state.users)
    calls = _call_rows(state.calls, references, now)
    references.calls = {row["id"] for row in calls}
    events, recipients = _event_rows(state, references)
    dump = Dump.from_rows(
        {
            schema.users: [
                {"id": user.id, "email": user.email, "full_name": user.full_name, "is_active": user.active}
                for user in state.users
            ],
            schema.doctors: [
                {"id": user.doctor.id, "user_id": user.id, "specialization": user.doctor.specialization}
                for user in state.users
                if user.doctor is not None
            ],
            schema.patients: [
                {"id": user.patient.id, "user_id": user.id}
                for user in state.users
                if user.patient is not None
            ],
            schema.calls: calls,
            schema.events: events,
            schema.event_recipients: recipients,
            schema.forgotten_events: [{"last_id": last} for last in [state.last_forgotten_event] if last],
            schema.idempotency_keys: _key_rows(state.idempotency_keys, references),
        },
        counters={
            schema.calls.name: max(references.calls, default=0),
            schema.events.name: max([state.last_forgotten_event, *(event.id for event in state.events)]),
        },
    )
    return Contents(dump, tuple(state.faults), now, running)


class _References:
    """The ids of users, doctors, patients and calls to which other parts of a document can refer."""

    def __init__(self, users: Iterable[UserEntry]) -> None:
        self.users = {user.id for user in users}
        self.doctors = {user.doctor.id: user.id for user in users if user.doctor is not None}
        self.patients = {user.patient.id: user.id for user in users if user.patient is not None}
        self.calls: set[int] = set()

    def check(self, kind: Literal["user", "doctor", "patient", "call"], number: int, where: str) -> None:
        """Raise StateError if the document does not have this id."""
        ids: Collection[int] = getattr(self, f"{kind}s")
        if number not in ids:
            raise StateError(where, f"there is no {kind} {number}")


def _check_people(users: list[UserEntry]) -> None:
    repetition = find_repetition(users)
    if repetition is not None:
        (index, *field), value = repetition
        where = ".".join([f"users[{index}]", *field])
        raise StateError(where, f"{value} is not unique; another user has it too")


def _call_rows(entries: list[CallEntry], references: _References, now: datetime) -> list[_Values]:
    ids = {entry.id for entry in entries if entry.id is not UNSET}
    next_ids = (number for number in count(1) if number not in ids)
    unique_ids, unique_channels = _UniqueValues("call"), _UniqueValues("call")
    rows: list[_Values] = []
    for index, entry in enumerate(entries):
        where = f"calls[{index}]"
        references.check("doctor", entry.doctor, f"{where}.doctor")
        references.check("patient", entry.patient, f"{where}.patient")
        if references.doctors[entry.doctor] == references.patients[entry.patient]:
            raise StateError(where, f"doctor {entry.doctor} and patient {entry.patient} are the same user")
        call_id = next(next_ids) if entry.id is UNSET else entry.id
        unique_ids.add(call_id, f"{where}.id")
        times = _call_times(entry, where, now)
        channel = channel_name(times.created_at) if entry.channel_name is UNSET else entry.channel_name
        if not CHANNEL_NAME.fullmatch(channel):
            raise StateError(f"{where}.channel_name", "must be 1 to 63 characters that Agora allows")
        unique_channels.add(channel, f"{where}.channel_name")
        absent_since = _absent_since(entry, where)
        rows.append(
            {
                "id": call_id,
                "channel_name": channel,
                "doctor_id": entry.doctor,
                "patient_id": entry.patient,
                "status": entry.status,
                **{
                    name: None if time is None else to_microseconds(time)
                    for name, time in times._asdict().items()
                },
                **{f"{role}_present": role in entry.present for role in ROLES},
                **{f"{role}_absent_since": absent_since.get(role) for role in ROLES},
            }
        )
    return rows


class _CallTimes(NamedTuple):
    scheduled_time: datetime
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    updated_at: datetime


def _call_times(entry: CallEntry, where: str, now: datetime) -> _CallTimes:
    """Return the times of a call; missing ones fit its status."""
    scheduled = _utc(entry.scheduled_time, f"{where}.scheduled_time")
    started = _status_time(entry, "started_at", where)
    ended = _status_time(entry, "ended_at", where)
    if started is UNSET:
        started = min(scheduled, ended or now)
    if ended is UNSET:
        usual_end = now if started is None else started + min(_USUAL_DURATION, _MAX_TIME - started)
        ended = usual_end if started is None else max(started, min(usual_end, now))
    if started is not None and ended is not None and ended < started:
        raise StateError(f"{where}.ended_at", "is before started_at")
    earliest = min(scheduled, started or scheduled)
    usual_creation = now if now < earliest else earliest - min(_LEAD_TIME, earliest - _MIN_TIME)
    created = usual_creation if entry.created_at is UNSET else _utc(entry.created_at, f"{where}.created_at")
    updated = max(created, started or created, ended or created)
    if entry.updated_at is not UNSET:
        updated = _utc(entry.updated_at, f"{where}.updated_at")
    return _CallTimes(scheduled, started, ended, created, updated)


def _status_time(
    entry: CallEntry, field: Literal["started_at", "ended_at"], where: str
) -> datetime | UnsetType | None:
    """Return a time that only calls in some statuses have, or UNSET if the document does not say it."""
    time: datetime | UnsetType | None = getattr(entry, field)
    a_call = f"{'an' if entry.status == 'ongoing' else 'a'} {entry.status} call"
    if field not in _TIMES_OF[entry.status]:
        if time:
            raise StateError(f"{where}.{field}", f"{a_call} must not have one")
        return None
    if time is None:
        raise StateError(f"{where}.{field}", f"{a_call} must have one")
    return UNSET if time is UNSET else _utc(time, f"{where}.{field}")


def _absent_since(entry: CallEntry, where: str) -> dict[Role, int]:
    """Return since when each role is absent. Only an ongoing call may have presence."""
    for field in ("present", "absent_since"):
        if getattr(entry, field) and entry.status != "ongoing":
            raise StateError(
                f"{where}.{field}", f"only an ongoing call can have this, and the call is {entry.status}"
            )
    return {
        role: to_microseconds(_utc(time, f"{where}.absent_since.{role}"))
        for role, time in entry.absent_since.items()
    }


def _event_rows(state: State, references: _References) -> tuple[list[_Values], list[_Values]]:
    """Return the rows of the events, and those of their recipients."""
    events: list[_Values] = []
    recipients: list[_Values] = []
    last = state.last_forgotten_event
    for index, event in enumerate(state.events):
        where = f"events[{index}]"
        if event.id <= last:
            raise StateError(
                f"{where}.id", f"{event.id} is not above {last}; events must be in the order of their ids"
            )
        last = event.id
        try:
            msgspec.convert(event.data, EventData)
        except msgspec.ValidationError as error:
            reason, _, field = str(error).partition(" - at `$")
            raise StateError(f"{where}.data{field.rstrip('`')}", reason) from error
        events.append(
            {
                "id": event.id,
                "type": event.type,
                "created_at": to_microseconds(_utc(event.created_at, f"{where}.created_at")),
                "data": _encode(event.data).decode(),
            }
        )
        unique = _UniqueValues("recipient")
        for place, user_id in enumerate(event.to):
            references.check("user", user_id, f"{where}.to[{place}]")
            unique.add(user_id, f"{where}.to[{place}]")
            recipients.append({"user_id": user_id, "event_id": event.id})
    return events, recipients


def _key_rows(entries: list[KeyEntry], references: _References) -> list[_Values]:
    rows: list[_Values] = []
    unique = _UniqueValues("call of this user")
    for index, entry in enumerate(entries):
        where = f"idempotency_keys[{index}]"
        references.check("user", entry.user, f"{where}.user")
        references.check("call", entry.call, f"{where}.call")
        unique.add((entry.user, entry.key), f"{where}.key", label=entry.key)
        created = to_microseconds(_utc(entry.created_at, f"{where}.created_at"))
        rows.append({"user_id": entry.user, "key": entry.key, "call_id": entry.call, "created_at": created})
    return rows


class _UniqueValues:
    """Values that must be unique in the document."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._values: set[object] = set()

    def add(self, value: object, where: str, *, label: object = None) -> None:
        """Add a value. The error for a duplicate shows `label`, by default the value itself."""
        if value in self._values:
            raise StateError(where, f"{label or value} is not unique; another {self._kind} has it too")
        self._values.add(value)


def _utc(time: datetime, where: str) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise StateError(where, "is not a time between the years 1 and 9999") from None
