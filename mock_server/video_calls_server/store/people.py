"""Queries about users, doctors and patients. See `calls` for what these functions have in common."""

from sqlalchemy import Connection, Text, bindparam, func, insert, select, update

from video_calls_server.domain.people import Actor, Doctor, Patient, Person, User
from video_calls_server.store.schema import doctors, patients, users
from video_calls_server.store.statement import Row, Statement

_actors = (
    select(users.c.id, users.c.is_active, doctors.c.id, patients.c.id)
    .select_from(users)
    .outerjoin(doctors, doctors.c.user_id == users.c.id)
    .outerjoin(patients, patients.c.user_id == users.c.id)
)
_ACTOR_BY_ID = Statement(_actors.where(users.c.id == bindparam("user_id")))
_email = bindparam("email", type_=Text)
# Two addresses may differ only in case. The one that is spelled as in the token comes first.
_ACTOR_BY_EMAIL = Statement(
    _actors.where(func.lower(users.c.email) == func.lower(_email)).order_by((users.c.email == _email).desc())
)


def active_actor(connection: Connection, user: int | str) -> Actor | None:
    """Return the active user with this id or e-mail address, or None if there is none."""
    row = _row_of(connection, user)
    return None if row is None or not row[1] else Actor(row[0], row[2], row[3])


def actor(connection: Connection, user: int | str) -> Actor | None:
    """Return the user with this id or e-mail address, active or not, or None if there is none."""
    row = _row_of(connection, user)
    return None if row is None else Actor(row[0], row[2], row[3])


def _row_of(connection: Connection, user: int | str) -> Row | None:
    if isinstance(user, int):
        return _ACTOR_BY_ID.row(connection, user_id=user)
    if "\0" in user:  # PostgreSQL can neither store nor compare a NUL
        return None
    return _ACTOR_BY_EMAIL.row(connection, email=user)


_EMAIL = Statement(select(users.c.email).where(users.c.id == bindparam("user_id")))


def email_of(connection: Connection, user_id: int) -> str | None:
    """Return the e-mail address of the user with this id, or None if there is none."""
    row = _EMAIL.row(connection, user_id=user_id)
    return None if row is None else str(row[0])


_user_columns = (users.c.id, users.c.email, users.c.full_name, users.c.is_active)
# The exclusion constraints of PostgreSQL refuse overlaps too, but concurrent inserts into them deadlock. So a
# transaction locks the doctor and then the patient before it books them.
_LOCK_DOCTOR = Statement(
    select(doctors.c.id, doctors.c.specialization, *_user_columns)
    .join_from(doctors, users, users.c.id == doctors.c.user_id)
    .where(doctors.c.id == bindparam("doctor_id"))
    .with_for_update(of=doctors, key_share=True)
)
_LOCK_PATIENT = Statement(
    select(patients.c.id, *_user_columns)
    .join_from(patients, users, users.c.id == patients.c.user_id)
    .where(patients.c.id == bindparam("patient_id"))
    .with_for_update(of=patients, key_share=True)
)


def lock_doctor(connection: Connection, doctor_id: int) -> Doctor | None:
    """Lock the doctor with this id, before the patient, and return them, or None if they do not exist."""
    row = _LOCK_DOCTOR.row(connection, doctor_id=doctor_id)
    return None if row is None else Doctor(row[0], User(row[2], row[3], row[4], bool(row[5])), row[1])


def lock_patient(connection: Connection, patient_id: int) -> Patient | None:
    """Lock the patient with this id and return them, or None if they do not exist."""
    row = _LOCK_PATIENT.row(connection, patient_id=patient_id)
    return None if row is None else Patient(row[0], User(row[1], row[2], row[3], bool(row[4])))


_ALL_PEOPLE = Statement(
    select(*_user_columns, doctors.c.id, doctors.c.specialization, patients.c.id)
    .select_from(users)
    .outerjoin(doctors, doctors.c.user_id == users.c.id)
    .outerjoin(patients, patients.c.user_id == users.c.id)
    .order_by(users.c.id)
)


def all_people(connection: Connection) -> list[Person]:
    """Return all users in the order of their ids, each as a doctor, a patient, both or neither."""
    people: list[Person] = []
    for row in _ALL_PEOPLE.rows(connection):
        user = User(row[0], row[1], row[2], bool(row[3]))
        doctor = None if row[4] is None else Doctor(row[4], user, row[5])
        people.append((user, doctor, None if row[6] is None else Patient(row[6], user)))
    return people


_ADD_USER = Statement(insert(users))
_ADD_DOCTOR = Statement(insert(doctors))
_ADD_PATIENT = Statement(insert(patients))


def add_person(connection: Connection, user: User, doctor: Doctor | None, patient: Patient | None) -> None:
    """Insert a user, and the user's rows as a doctor and as a patient, if there are any."""
    _ADD_USER.run(connection, id=user.id, email=user.email, full_name=user.full_name, is_active=user.active)
    if doctor is not None:
        _ADD_DOCTOR.run(connection, id=doctor.id, user_id=user.id, specialization=doctor.specialization)
    if patient is not None:
        _ADD_PATIENT.run(connection, id=patient.id, user_id=user.id)


_UPDATE_USER = Statement(
    update(users)
    .where(users.c.id == bindparam("user_id"))
    .values(email=bindparam("email"), full_name=bindparam("full_name"), is_active=bindparam("is_active"))
)


def update_user(connection: Connection, user: User) -> None:
    """Store a changed user."""
    _UPDATE_USER.run(
        connection, user_id=user.id, email=user.email, full_name=user.full_name, is_active=user.active
    )
