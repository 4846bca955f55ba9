"""The people of a namespace as the control API shows and changes them, and tokens of all kinds for them."""

import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Annotated, Literal

from litestar import Router, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import Connection

from video_calls_server.api.ids import ExternalId, Ids
from video_calls_server.api.jwt import LARGEST_ID, make_token
from video_calls_server.control.dispatch import CONTROL
from video_calls_server.control.namespaces import Namespace
from video_calls_server.control.refusals import ControlRefusal, not_found
from video_calls_server.domain.clock import instant
from video_calls_server.domain.people import MAX_UID, Actor, Doctor, Patient, Person, User
from video_calls_server.settings import Settings, SettingsError
from video_calls_server.store import people
from video_calls_server.store.seed import Email, FullName, Specialization

LIFETIME = 3600  # seconds
_LONGEST_LIFETIME = 365 * 24 * 3600
_NOBODY = MAX_UID + 1  # for a user's id is the Agora uid, too

_ID = re.compile(r"[1-9]\d{0,17}", re.ASCII)

TokenKind = Literal["valid", "expired", "forged", "malformed", "premature", "refresh", "unknown_user"]

_Seconds = Annotated[int, Meta(ge=1, le=_LONGEST_LIFETIME, description="Seconds.")]


class DoctorRole(Struct):
    """The doctor that a user is."""

    id: ExternalId
    specialization: str | None


class PatientRole(Struct):
    """The patient that a user is."""

    id: ExternalId


class Identity(Struct):
    """A person, with a token that is good for an hour; null where JWTs are signed elsewhere."""

    user: int
    email: str
    full_name: str
    active: bool
    doctor: DoctorRole | None
    patient: PatientRole | None
    token: str | None


class NewDoctor(Struct, forbid_unknown_fields=True):
    """A doctor to add."""

    specialization: Specialization | None = None


class NewIdentity(Struct, forbid_unknown_fields=True):
    """A person to add. What is left out is chosen."""

    email: Email | None = None
    full_name: FullName | None = None
    active: bool = True
    doctor: NewDoctor | bool = False
    patient: bool = False


class IdentityChange(Struct, forbid_unknown_fields=True):
    """What to change of a person."""

    active: bool | UnsetType = UNSET
    full_name: FullName | UnsetType = UNSET


class TokenRequest(Struct, forbid_unknown_fields=True):
    """What kind of token, and for how many seconds (those since which it has expired, of an expired one)."""

    kind: TokenKind = "valid"
    expires_in: _Seconds = LIFETIME


class Token(Struct):
    """A token of the kind that was asked for. `expires_at` is in real time."""

    kind: TokenKind
    token: str
    expires_at: datetime


def identities_router(settings: Settings) -> Router:
    """The operations on people."""

    @get("/", summary="List the people, with fresh tokens")
    async def list_identities(namespace: NamedDependency[Namespace]) -> list[Identity]:
        everybody = await namespace.store.read(people.all_people)
        return [_identity(settings, namespace.ids, person) for person in everybody]

    @post("/", summary="Add a doctor, a patient, somebody who is both, or neither")
    async def add_identity(namespace: NamedDependency[Namespace], data: JSONBody[NewIdentity]) -> Identity:
        def work(connection: Connection) -> Person:
            person = _new_person(data, people.all_people(connection))
            people.add_person(connection, *person)
            return person

        return _identity(settings, namespace.ids, await namespace.store.write(work))

    @patch("/{user:str}", summary="Deactivate, reactivate or rename somebody")
    async def change_identity(
        namespace: NamedDependency[Namespace], user: FromPath[str], data: JSONBody[IdentityChange]
    ) -> Identity:
        def work(connection: Connection) -> Person:
            found, doctor, patient = _person(people.all_people(connection), user)
            if data.active is not UNSET:
                found = found._replace(active=data.active)
            if data.full_name is not UNSET:
                found = found._replace(full_name=data.full_name)
            people.update_user(connection, found)
            return found, doctor, patient

        person = await namespace.store.write(work)
        namespace.hub.wake([person[0].id])  # whoever is no longer active is told no more
        return _identity(settings, namespace.ids, person)

    @post("/{user:str}/tokens", summary="Make a token: a good one, or one that must be refused")
    async def make_identity_token(
        namespace: NamedDependency[Namespace], user: FromPath[str], data: JSONBody[TokenRequest]
    ) -> Token:
        found = await namespace.store.read(lambda connection: find_actor(connection, user))
        try:
            return _token(settings, found.user_id, data)
        except SettingsError as error:
            raise ControlRefusal(str(error), status=409, code="signed_elsewhere") from error

    return Router(
        "/identities",
        route_handlers=[list_identities, add_identity, change_identity, make_identity_token],
        tags=["identities"],
    )


def find_actor(connection: Connection, identity: str) -> Actor:
    """The user of this id or e-mail address, active or not.

    Raises:
        ControlRefusal: there is none.
    """
    named = int(identity) if _ID.fullmatch(identity) else identity
    actor = people.actor(connection, named)
    if actor is None:
        raise _unknown_user(identity)
    return actor


def _identity(settings: Settings, ids: Ids, person: Person) -> Identity:
    user, doctor, patient = person
    signs = settings.signing_secret is not None
    return Identity(
        user=user.id,
        email=user.email,
        full_name=user.full_name,
        active=user.active,
        doctor=None if doctor is None else DoctorRole(ids.format("doctor", doctor.id), doctor.specialization),
        patient=None if patient is None else PatientRole(ids.format("patient", patient.id)),
        token=make_token(settings, user.id, expires_in=LIFETIME) if signs else None,
    )


def _person(people: list[Person], named: str) -> Person:
    """The person of this user id or e-mail address."""
    for person in people:
        if named.lower() in (str(person[0].id), person[0].email.lower()):
            return person
    raise _unknown_user(named)


def _unknown_user(named: str) -> ControlRefusal:
    return not_found(f"user {named!r}; those that there are stand under {CONTROL}/identities")


def _new_person(wanted: NewIdentity, people: list[Person]) -> Person:
    user_id = _free((person[0].id for person in people), largest=MAX_UID)
    role = {
        (True, True): "dual.user",
        (True, False): "doctor",
        (False, True): "patient",
        (False, False): "user",
    }[bool(wanted.doctor), wanted.patient]
    emails = [person[0].email.lower() for person in people]
    email = wanted.email or next(
        free for number in count(user_id) if (free := f"{role}.{number}@example.com") not in emails
    )
    if email.lower() in emails:
        raise ControlRefusal(f"email {email} is somebody else's; give another, or none", field="email")
    title = "Dr. " if wanted.doctor else ""
    full_name = wanted.full_name or f"{title}{role.replace('.', ' ').title()} {user_id}"
    user = User(user_id, email, full_name, wanted.active)
    doctor = patient = None
    if wanted.doctor:
        doctor_id = _free(doctor.id for _, doctor, _ in people if doctor is not None)
        specialization = wanted.doctor.specialization if isinstance(wanted.doctor, NewDoctor) else None
        doctor = Doctor(doctor_id, user, specialization)
    if wanted.patient:
        patient = Patient(_free(patient.id for _, _, patient in people if patient is not None), user)
    return user, doctor, patient


def _free(taken: Iterable[int], *, largest: int = LARGEST_ID) -> int:
    """The id after all that are taken or, where there is none, the first that is free."""
    ids = set(taken)
    after = max(ids, default=0) + 1
    return after if after <= largest else next(number for number in count(1) if number not in ids)


def _token(settings: Settings, user_id: int, wanted: TokenRequest) -> Token:
    now, kind = int(time.time()), wanted.kind
    expires_at = now + {"expired": -1, "premature": 2}.get(kind, 1) * wanted.expires_in
    claims: dict[str, object] = {"exp": expires_at}
    if kind == "premature":
        claims["nbf"] = now + wanted.expires_in
    if kind == "refresh":
        claims["token_type"] = "refresh"  # noqa: S105 (a kind of token)
    if kind == "forged":
        settings = replace(settings, jwt_secret=secrets.token_hex(32))
    if kind == "unknown_user":
        user_id = _NOBODY
    token = make_token(settings, user_id, expires_in=expires_at - now, claims=claims)
    if kind == "malformed":
        token = token.rpartition(".")[0]
    return Token(kind, token, instant(expires_at))
