"""Queries about calls.

These functions, and those of the other modules of queries, take a connection and plain values, and return
values of the domain. Functions that change or lock a row need `Store.write`. On
PostgreSQL `lock_...` locks the row until the transaction ends. SQLite has one writer at a time.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    bindparam,
    func,
    insert,
    or_,
    select,
    union,
    union_all,
    update,
)

from video_calls_server.domain.calls import MIN_DISTANCE, NO_ABSENCES, OPEN, Call, NewCall
from video_calls_server.domain.people import Actor, Doctor, Patient, Role, User
from video_calls_server.store.schema import calls, doctors, patients, users
from video_calls_server.store.statement import Row, Statement
from video_calls_server.store.times import MICROSECOND, to_microseconds, to_time


def _microseconds_or_none(time: datetime | None) -> int | None:
    return None if time is None else to_microseconds(time)


def _time_or_none(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else to_time(microseconds)


_doctor_user = users.alias("doctor_user")
_patient_user = users.alias("patient_user")
_calls = (
    select(
        calls.c.id,
        calls.c.channel_name,
        calls.c.status,
        calls.c.scheduled_time,
        calls.c.started_at,
        calls.c.ended_at,
        calls.c.created_at,
        calls.c.updated_at,
        calls.c.doctor_present,
        calls.c.patient_present,
        doctors.c.id,
        doctors.c.specialization,
        _doctor_user.c.id,
        _doctor_user.c.email,
        _doctor_user.c.full_name,
        _doctor_user.c.is_active,
        patients.c.id,
        _patient_user.c.id,
        _patient_user.c.email,
        _patient_user.c.full_name,
        _patient_user.c.is_active,
        calls.c.doctor_absent_since,
        calls.c.patient_absent_since,
    )
    .select_from(calls)
    .join(doctors, doctors.c.id == calls.c.doctor_id)
    .join(_doctor_user, _doctor_user.c.id == doctors.c.user_id)
    .join(patients, patients.c.id == calls.c.patient_id)
    .join(_patient_user, _patient_user.c.id == patients.c.user_id)
)


def _call(row: Row) -> Call:
    present: frozenset[Role] = frozenset()
    if row[8] or row[9]:
        flags: dict[Role, bool] = {"doctor": row[8], "patient": row[9]}
        present = frozenset(role for role, is_in in flags.items() if is_in)
    absences: Mapping[Role, datetime] = NO_ABSENCES
    if row[21] is not None or row[22] is not None:
        times: dict[Role, int | None] = {"doctor": row[21], "patient": row[22]}
        absences = {role: to_time(time) for role, time in times.items() if time is not None}
    return Call(
        id=row[0],
        channel_name=row[1],
        status=row[2],
        scheduled_time=to_time(row[3]),
        started_at=_time_or_none(row[4]),
        ended_at=_time_or_none(row[5]),
        created_at=to_time(row[6]),
        updated_at=to_time(row[7]),
        present=present,
        absent_since=absences,
        doctor=Doctor(row[10], User(row[12], row[13], row[14], bool(row[15])), row[11]),
        patient=Patient(row[16], User(row[17], row[18], row[19], bool(row[20]))),
    )


def _first(statement: Statement, connection: Connection, **parameters: object) -> Call | None:
    row = statement.row(connection, **parameters)
    return None if row is None else _call(row)


_CALL = Statement(_calls.where(calls.c.id == bindparam("call_id")))


def call(connection: Connection, call_id: int | None) -> Call | None:
    """Return the call with this id, or None if it does not exist."""
    return _first(_CALL, connection, call_id=call_id)


_LOCK_CALL = Statement(_calls.where(calls.c.id == bindparam("call_id")).with_for_update(of=calls))


def lock_call(connection: Connection, call_id: int | None) -> Call | None:
    """Lock the call with this id and return it, or None if it does not exist."""
    return _first(_LOCK_CALL, connection, call_id=call_id)


_LOCK_CALL_OF_CHANNEL = Statement(
    _calls.where(calls.c.channel_name == bindparam("channel_name")).with_for_update(of=calls)
)


def lock_call_of_channel(connection: Connection, channel_name: str) -> Call | None:
    """Lock the call with this channel and return it, or None if it does not exist."""
    return _first(_LOCK_CALL_OF_CHANNEL, connection, channel_name=channel_name)


_LOCK_CALLS_LEFT_BY_BOTH = Statement(
    _calls.where(
        calls.c.doctor_absent_since.is_not(None), calls.c.patient_absent_since.is_not(None)
    ).with_for_update(of=calls, skip_locked=True)
)


def lock_calls_left_by_both(connection: Connection) -> list[Call]:
    """Lock the calls that both participants have left and return them. Skip calls that are locked already."""
    return [_call(row) for row in _LOCK_CALLS_LEFT_BY_BOTH.rows(connection)]


_NEWEST_FIRST = calls.c.scheduled_time.desc(), calls.c.id.desc()
_keys = select(calls.c.id, calls.c.scheduled_time)  # an index holds both columns


def _calls_of_keys(keys: Any, *more: Any) -> Statement:  # noqa: ANN401 (the checkers disagree on a Select's parameters)
    """Return a statement for the calls with these keys, newest first.

    The keys come from an index. Therefore the database reads no rows of calls that a page skips.
    """
    page = keys.subquery("page")
    return Statement(_calls.add_columns(*more).join(page, page.c.id == calls.c.id).order_by(*_NEWEST_FIRST))


_NEWEST_CALLS = _calls_of_keys(_keys.order_by(*_NEWEST_FIRST).limit(bindparam("most")))


def newest_calls(connection: Connection, *, most: int) -> list[Call]:
    """Return the calls of all users, newest `scheduled_time` first, at most `most`."""
    return [_call(row) for row in _NEWEST_CALLS.rows(connection, most=most)]


_COUNT_ALL = Statement(select(func.count()).select_from(calls))


def count_all_calls(connection: Connection) -> int:
    """Return the number of calls."""
    row = _COUNT_ALL.row(connection)
    return 0 if row is None else int(row[0])


# A page of a user's calls. Each row also has the number of all their calls, read in the same statement.


def _page_in_role(own: ColumnElement[bool]) -> Statement:
    """Return the statement for a page of a doctor or a patient. An index has these calls in page order."""
    page = _keys.where(own).order_by(*_NEWEST_FIRST).limit(bindparam("size")).offset(bindparam("skip"))
    return _calls_of_keys(page, _count(own))


def _page_in_both_roles(own: ColumnElement[bool], too: ColumnElement[bool]) -> Statement:
    """Return the statement for a page of a user who is both doctor and patient.

    It merges two index reads, because no index covers an OR.
    """
    reads = [
        _keys.where(each).order_by(*_NEWEST_FIRST).limit(bindparam("through")).subquery()
        for each in (own, too)
    ]
    both = union(*(select(each) for each in reads)).subquery()
    page = (
        select(both)
        .order_by(both.c.scheduled_time.desc(), both.c.id.desc())
        .limit(bindparam("size"))
        .offset(bindparam("skip"))
    )
    return _calls_of_keys(page, _count(own) + _count(too & ~own))


def _count(own: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).select_from(calls).where(own).correlate(None).scalar_subquery()


_of_doctor = calls.c.doctor_id == bindparam("doctor_id")
_of_patient = calls.c.patient_id == bindparam("patient_id")
_PAGE_OF_DOCTOR = _page_in_role(_of_doctor)
_PAGE_OF_PATIENT = _page_in_role(_of_patient)
_PAGE_OF_BOTH = _page_in_both_roles(_of_doctor, _of_patient)


def _page_of(actor: Actor) -> tuple[Statement, dict[str, object]] | None:
    if actor.doctor_id is not None and actor.patient_id is not None:
        return _PAGE_OF_BOTH, {"doctor_id": actor.doctor_id, "patient_id": actor.patient_id}
    if actor.doctor_id is not None:
        return _PAGE_OF_DOCTOR, {"doctor_id": actor.doctor_id}
    if actor.patient_id is not None:
        return _PAGE_OF_PATIENT, {"patient_id": actor.patient_id}
    return None


_MOST_CALLS = 2**53


def page_of_calls(connection: Connection, actor: Actor, *, size: int, skip: int) -> tuple[int, list[Call]]:
    """Return how many calls the actor has, and one page of them: skip `skip` calls, then take at most `size`.

    The newest call comes first. After the last page, the number is 0 and the page is empty.
    """
    query = _page_of(actor)
    if query is None:
        return 0, []
    statement, of_actor = query
    skip = min(skip, _MOST_CALLS)  # the page in a request may exceed the database's integers
    rows = statement.rows(connection, size=size, skip=skip, through=skip + size, **of_actor)
    return (rows[0][-1] if rows else 0), [_call(row) for row in rows]


# The rows contain a call of this doctor with this patient twice. To drop one costs more than to read it.
_NEIGHBOURS = Statement(
    union_all(
        *(
            select(calls.c.scheduled_time).where(
                of_one,
                or_(*(calls.c.status == status for status in sorted(OPEN))),
                calls.c.scheduled_time >= bindparam("earliest"),
                calls.c.scheduled_time <= bindparam("latest"),
            )
            for of_one in (_of_doctor, _of_patient)
        )
    )
)


def neighbours(connection: Connection, doctor_id: int, patient_id: int, time: datetime) -> list[datetime]:
    """Return when the doctor's and the patient's open calls near `time` start. Lock both people first."""
    near, distance = to_microseconds(time), MIN_DISTANCE // MICROSECOND
    rows = _NEIGHBOURS.rows(
        connection,
        doctor_id=doctor_id,
        patient_id=patient_id,
        earliest=near - distance,
        latest=near + distance,
    )
    return [to_time(row[0]) for row in rows]


_ADD_CALL = Statement(
    insert(calls)
    .values(
        channel_name=bindparam("channel_name"),
        doctor_id=bindparam("doctor_id"),
        patient_id=bindparam("patient_id"),
        status="scheduled",
        scheduled_time=bindparam("scheduled_time"),
        created_at=bindparam("created_at"),
        updated_at=bindparam("created_at"),
        doctor_present=False,
        patient_present=False,
    )
    .returning(calls.c.id)
)


def add_call(connection: Connection, new: NewCall) -> Call:
    """Insert a new call and return it with its id."""
    rows = _ADD_CALL.rows(
        connection,
        channel_name=new.channel_name,
        doctor_id=new.doctor.id,
        patient_id=new.patient.id,
        scheduled_time=to_microseconds(new.scheduled_time),
        created_at=to_microseconds(new.created_at),
    )
    return new.with_id(rows[0][0])


_UPDATE_CALL = Statement(
    update(calls)
    .where(calls.c.id == bindparam("call_id"))
    .values(
        status=bindparam("status"),
        started_at=bindparam("started_at"),
        ended_at=bindparam("ended_at"),
        updated_at=bindparam("updated_at"),
        doctor_present=bindparam("doctor_present"),
        patient_present=bindparam("patient_present"),
        doctor_absent_since=bindparam("doctor_absent_since"),
        patient_absent_since=bindparam("patient_absent_since"),
    )
)


def update_call(connection: Connection, call: Call) -> None:
    """Store a changed call."""
    _UPDATE_CALL.run(
        connection,
        call_id=call.id,
        status=call.status,
        started_at=_microseconds_or_none(call.started_at),
        ended_at=_microseconds_or_none(call.ended_at),
        updated_at=to_microseconds(call.updated_at),
        doctor_present="doctor" in call.present,
        patient_present="patient" in call.present,
        doctor_absent_since=_microseconds_or_none(call.absent_since.get("doctor")),
        patient_absent_since=_microseconds_or_none(call.absent_since.get("patient")),
    )
