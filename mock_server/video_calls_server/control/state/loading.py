"""The moment that a document of the state says. Pure: nothing here does I/O.

What the document does not say is chosen so that it fits. A wrong one is refused with the place in it and the
reason, as in `calls[3].doctor: there is no doctor 9`.
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
    wrong,
)
from video_calls_server.control.state.snapshots import Contents
from video_calls_server.domain.calls import Status
from video_calls_server.domain.people import Role
from video_calls_server.store import schema
from video_calls_server.store.calls import to_microseconds
from video_calls_server.store.dump import Dump
from video_calls_server.store.seed import UserEntry, find_repetition

_TIMES_OF: dict[Status, tuple[str, ...]] = {
    "scheduled": (),
    "ongoing": ("started_at",),
    "completed": ("started_at", "ended_at"),
    "cancelled": (),
}
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

_Values = dict[str, Any]  # a row by the names of its columns, whose types are the table's

_encode = msgspec.json.Encoder().encode

_USUAL_DURATION = timedelta(minutes=30)
_MADE_BEFORE = timedelta(days=1)
"""How long before its time a past call was made, where the document does not say."""


def contents_of(state: State, *, now: datetime, running: bool) -> Contents:
    """The moment that a document says; its clock is as given where the document has none.

    Raises:
        StateError: it says what cannot be.
    """
    if state.clock is not UNSET:
        now, running = _utc(state.clock.time, "clock.time"), state.clock.running
        if not EARLIEST <= now <= LATEST:
            raise wrong("clock.time", f"must be within the years {EARLIEST.year} to {LATEST.year}")
    _check_people(state.users)
    known = _References(state.users)
    calls = _call_rows(state.calls, known, now)
    known.calls = {row["id"] for row in calls}
    events, recipients = _event_rows(state, known)
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
            schema.idempotency_keys: _key_rows(state.idempotency_keys, known),
        },
        counters={
            schema.calls.name: max(known.calls, default=0),
            schema.events.name: max([state.last_forgotten_event, *(event.id for event in state.events)]),
        },
    )
    return Contents(dump, tuple(state.faults), now, running)


class _References:
    """What the rest of a document can refer to."""

    def __init__(self, users: Iterable[UserEntry]) -> None:
        self.users = {user.id for user in users}
        self.doctors = {user.doctor.id: user.id for user in users if user.doctor is not None}
        self.patients = {user.patient.id: user.id for user in users if user.patient is not None}
        self.calls: set[int] = set()

    def check(self, kind: Literal["user", "doctor", "patient", "call"], wanted: int, where: str) -> None:
        """There is one of this id."""
        ids: Collection[int] = getattr(self, f"{kind}s")
        if wanted not in ids:
            raise wrong(where, f"there is no {kind} {wanted}")


def _check_people(users: list[UserEntry]) -> None:
    repetition = find_repetition(users)
    if repetition is not None:
        index, *field = repetition.steps
        where = ".".join([f"users[{index}]", *field])
        raise wrong(where, f"{repetition.value} is given to another user too")


def _call_rows(entries: list[CallEntry], known: _References, now: datetime) -> list[_Values]:
    ids = {entry.id for entry in entries if entry.id is not UNSET}
    next_ids = (number for number in count(1) if number not in ids)
    given_ids, given_channels = _UniqueValues("call"), _UniqueValues("call")
    rows: list[_Values] = []
    for index, entry in enumerate(entries):
        where = f"calls[{index}]"
        known.check("doctor", entry.doctor, f"{where}.doctor")
        known.check("patient", entry.patient, f"{where}.patient")
        if known.doctors[entry.doctor] == known.patients[entry.patient]:
            raise wrong(where, f"doctor {entry.doctor} and patient {entry.patient} are the same user")
        call_id = next(next_ids) if entry.id is UNSET else entry.id
        given_ids.take(call_id, f"{where}.id")
        times = _call_times(entry, where, now)
        channel = channel_name(times.created_at) if entry.channel_name is UNSET else entry.channel_name
        if not CHANNEL_NAME.fullmatch(channel):
            raise wrong(f"{where}.channel_name", "must be 1 to 63 of the characters that Agora allows")
        given_channels.take(channel, f"{where}.channel_name")
        absent = _absence(entry, where)
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
                **{f"{role}_absent_since": absent.get(role) for role in ROLES},
            }
        )
    return rows


class _CallTimes(NamedTuple):
    """The times of a call, all of them in UTC."""

    scheduled_time: datetime
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    updated_at: datetime


def _call_times(entry: CallEntry, where: str, now: datetime) -> _CallTimes:
    """Those that a call has, and of those that it does not say ones that fit its status."""
    scheduled = _utc(entry.scheduled_time, f"{where}.scheduled_time")
    started = _of_status(entry, "started_at", where)
    ended = _of_status(entry, "ended_at", where)
    if started is UNSET:
        started = min(scheduled, ended or now)
    if ended is UNSET:
        usual = now if started is None else started + min(_USUAL_DURATION, _LAST - started)
        ended = usual if started is None else max(started, min(usual, now))
    if started is not None and ended is not None and ended < started:
        raise wrong(f"{where}.ended_at", "is before started_at")
    first = min(scheduled, started or scheduled)
    made = now if now < first else first - min(_MADE_BEFORE, first - _FIRST)
    created = made if entry.created_at is UNSET else _utc(entry.created_at, f"{where}.created_at")
    updated = max(created, started or created, ended or created)
    if entry.updated_at is not UNSET:
        updated = _utc(entry.updated_at, f"{where}.updated_at")
    return _CallTimes(scheduled, started, ended, created, updated)


def _of_status(
    entry: CallEntry, field: Literal["started_at", "ended_at"], where: str
) -> datetime | UnsetType | None:
    """A time that a call of some statuses has, and others have not; unset where it is to be chosen."""
    time: datetime | UnsetType | None = getattr(entry, field)
    a_call = f"{'an' if entry.status == 'ongoing' else 'a'} {entry.status} call"
    if field not in _TIMES_OF[entry.status]:
        if time:
            raise wrong(f"{where}.{field}", f"{a_call} has none")
        return None
    if time is None:
        raise wrong(f"{where}.{field}", f"{a_call} has one")
    return UNSET if time is UNSET else _utc(time, f"{where}.{field}")


def _absence(entry: CallEntry, where: str) -> dict[Role, int]:
    """Who has left, and when; also looks at who is present."""
    for field in ("present", "absent_since"):
        if getattr(entry, field) and entry.status != "ongoing":
            raise wrong(
                f"{where}.{field}", f"only an ongoing call has anybody, and this one is {entry.status}"
            )
    return {
        role: to_microseconds(_utc(time, f"{where}.absent_since.{role}"))
        for role, time in entry.absent_since.items()
    }


def _event_rows(state: State, known: _References) -> tuple[list[_Values], list[_Values]]:
    """Those of the events, and those of the users to whom they are told."""
    events: list[_Values] = []
    recipients: list[_Values] = []
    last = state.last_forgotten_event
    for index, event in enumerate(state.events):
        where = f"events[{index}]"
        if event.id <= last:
            raise wrong(f"{where}.id", f"{event.id} does not come after {last}; events are in their order")
        last = event.id
        try:
            msgspec.convert(event.data, EventData)
        except msgspec.ValidationError as error:
            reason, _, field = str(error).partition(" - at `$")
            raise wrong(f"{where}.data{field.rstrip('`')}", reason) from error
        events.append(
            {
                "id": event.id,
                "type": event.type,
                "created_at": to_microseconds(_utc(event.created_at, f"{where}.created_at")),
                "data": _encode(event.data).decode(),
            }
        )
        once = _UniqueValues("place of the list")
        for place, user_id in enumerate(event.to):
            known.check("user", user_id, f"{where}.to[{place}]")
            once.take(user_id, f"{where}.to[{place}]")
            recipients.append({"user_id": user_id, "event_id": event.id})
    return events, recipients


def _key_rows(entries: list[KeyEntry], known: _References) -> list[_Values]:
    rows: list[_Values] = []
    once = _UniqueValues("call of this user")
    for index, entry in enumerate(entries):
        where = f"idempotency_keys[{index}]"
        known.check("user", entry.user, f"{where}.user")
        known.check("call", entry.call, f"{where}.call")
        once.take((entry.user, entry.key), f"{where}.key", shown=entry.key)
        created = to_microseconds(_utc(entry.created_at, f"{where}.created_at"))
        rows.append({"user_id": entry.user, "key": entry.key, "call_id": entry.call, "created_at": created})
    return rows


class _UniqueValues:
    """What may be given once."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._given: set[object] = set()

    def take(self, value: object, where: str, *, shown: object = None) -> None:
        """Give it; `shown` is how a person would name it, where that is not the value."""
        if value in self._given:
            raise wrong(where, f"{shown or value} is given to another {self._kind} too")
        self._given.add(value)


def _utc(time: datetime, where: str) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise wrong(where, "is not a time between the years 1 and 9999") from None
