"""Applying a changed seed file to a database that has people, and perhaps calls, already.

What a call refers to stays: a doctor or a patient of some call is never given to another user, nor removed.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import Column, Connection, Table, delete, insert, select, update

from video_calls_server.domain.people import User
from video_calls_server.seed import Person, Seed
from video_calls_server.store import people
from video_calls_server.store.database import StoreError
from video_calls_server.store.schema import calls, doctors, patients

_Rows = dict[int, dict[str, object]]


class SeedChanges(NamedTuple):
    """How many users a seed file has added, changed and, for it no longer has them, deactivated."""

    added: int
    changed: int
    deactivated: int


def apply_seed(connection: Connection, seed: Seed) -> SeedChanges:
    """Have the database's people be those of a seed; whoever is not in it is deactivated.

    Within `Store.write`, so that nothing is changed where it raises.

    Raises:
        StoreError: it cannot be, for the calls that there are or for somebody whom the seed does not have.
    """
    before = {person[0].id: person for person in people.everybody(connection)}
    after = {person[0].id: person for person in seed.people}
    gone = [
        (user._replace(active=False), doctor, patient)
        for user, doctor, patient in before.values()
        if user.id not in after
    ]
    _apply_users(connection, {user.id: user for user, _, _ in before.values()}, seed.people, gone)
    # Whoever is gone keeps the ids that the seed has not given to somebody else.
    everybody = [*gone, *seed.people]
    _apply_roles(connection, doctors, calls.c.doctor_id, _doctors(before.values()), _doctors(everybody))
    _apply_roles(connection, patients, calls.c.patient_id, _patients(before.values()), _patients(everybody))
    known = [person for user_id, person in after.items() if user_id in before]
    return SeedChanges(
        added=len(after) - len(known),
        changed=sum(person != before[person[0].id] for person in known),
        deactivated=sum(before[user.id][0].active for user, _, _ in gone),
    )


def _apply_users(
    connection: Connection, before: Mapping[int, User], seeded: Iterable[Person], gone: Iterable[Person]
) -> None:
    of_address = {user.email.lower(): user.id for user, _, _ in gone}
    wanted = [user for user, _, _ in seeded]
    for user in wanted:
        if (other := of_address.get(user.email.lower())) is not None:
            raise StoreError(
                f"{user.email} is user {user.id} in the seed file and user {other} in the database; "
                f"keep the id {other}, or give user {user.id} another address"
            )
    for user in wanted:  # an address can go from one to the other: whoever changes theirs first gives it up
        if user.id in before and user.email != before[user.id].email:
            people.update_user(connection, user._replace(email=f"user {user.id}"))
    for user in (*wanted, *(user for user, _, _ in gone)):
        if user.id not in before:
            people.add_person(connection, user, None, None)
        elif user != before[user.id]:
            people.update_user(connection, user)


def _apply_roles(
    connection: Connection, table: Table, of_call: Column[int], before: _Rows, after: _Rows
) -> None:
    role = of_call.name.removesuffix("_id")
    removed = [
        role_id for role_id, row in before.items() if row["user_id"] != after.get(role_id, {}).get("user_id")
    ]
    in_calls = set(connection.execute(select(of_call).where(of_call.in_(removed))).scalars())
    for role_id in removed:
        if role_id in in_calls:
            user_id = before[role_id]["user_id"]
            raise StoreError(
                f"{role} {role_id} is user {user_id} in the database and has calls, and the seed gives the "
                f"id to {_holder(after.get(role_id))}; leave it with user {user_id}, or take a new database"
            )
    connection.execute(delete(table).where(table.c.id.in_(removed)))
    for role_id, row in after.items():
        if role_id not in before or role_id in removed:
            connection.execute(insert(table).values(row))
        elif row != before[role_id]:
            connection.execute(update(table).where(table.c.id == role_id).values(row))


def _holder(row: Mapping[str, object] | None) -> str:
    return "nobody" if row is None else f"user {row['user_id']}"


def _doctors(people: Iterable[Person]) -> _Rows:
    return {
        doctor.id: {"id": doctor.id, "user_id": user.id, "specialization": doctor.specialization}
        for user, doctor, _ in people
        if doctor is not None
    }


def _patients(people: Iterable[Person]) -> _Rows:
    return {
        patient.id: {"id": patient.id, "user_id": user.id}
        for user, _, patient in people
        if patient is not None
    }
