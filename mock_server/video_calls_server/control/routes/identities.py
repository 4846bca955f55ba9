"""Routes that list, add and change the users of a namespace, and issue valid and invalid tokens for them."""

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

DEFAULT_LIFETIME = 3600  # seconds
_MAX_LIFETIME = 365 * 24 * 3600
_UNUSED_USER = MAX_UID + 1  # no user has this id, because it is too large for an Agora uid

_ID = re.compile(r"[1-9]\d{0,17}", re.ASCII)

TokenKind = Literal["valid", "expired", "forged", "malformed", "premature", "refresh", "unknown_user"]

_Seconds = Annotated[int, Meta(ge=1, le=_MAX_LIFETIME, description="Seconds.")]


class DoctorRole(Struct):
    """The data of a user as a doctor."""

    id: ExternalId
    specialization: str | None


class PatientRole(Struct):
    """The data of a user as a patient."""

    id: ExternalId


class Identity(Struct):
    """A user. `token` is valid for an hour. It is null if the server cannot sign JWTs."""

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
    """A user to add. The server chooses each missing value."""

    email: Email | None = None
    full_name: FullName | None = None
    active: bool = True
    doctor: NewDoctor | bool = False
    patient: bool = False


class IdentityChange(Struct, forbid_unknown_fields=True):
    """The fields of a user to change."""

    active: bool | UnsetType = UNSET
    full_name: FullName | UnsetType = UNSET


class TokenRequest(Struct, forbid_unknown_fields=True):
    """A token to issue. `expires_in` is its lifetime or, for an expired token, the time since its expiry."""

    kind: TokenKind = "valid"
    expires_in: _Seconds = DEFAULT_LIFETIME


class Token(Struct):
    """A token. `expires_at` follows the machine's clock, not the settable one."""

    kind: TokenKind
    token: str
    expires_at: datetime


def identities_router(settings: Settings) -> Router:
    """Return the operations on users."""

    @get("/", summary="List the users, with new tokens")
    async def list_identities(namespace: NamedDependency[Namespace]) -> list[Identity]:
        users = await namespace.store.read(people.all_people)
        return [_identity(settings, namespace.ids, person) for person in users]

    @post("/", summary="Add a user: a doctor, a patient, both or neither")
    async def add_identity(namespace: NamedDependency[Namespace], data: JSONBody[NewIdentity]) -> Identity:
        def work(connection: Connection) -> Person:
            person = _new_person(data, people.all_people(connection))
            people.add_person(connection, *person)
            return person

        return _identity(settings, namespace.ids, await namespace.store.write(work))

    @patch("/{user:str}", summary="Deactivate, reactivate or rename a user")
    async def change_identity(
        namespace: NamedDependency[Namespace], user: FromPath[str], data: JSONBody[IdentityChange]
    ) -> Identity:
        def work(connection: Connection) -> Person:
            account, doctor, patient = _person(people.all_people(connection), user)
            if data.active is not UNSET:
                account = account._replace(active=data.active)
            if data.full_name is not UNSET:
                account = account._replace(full_name=data.full_name)
            people.update_user(connection, account)
            return account, doctor, patient

        person = await namespace.store.write(work)
        namespace.hub.wake([person[0].id])  # event connections of an inactive user close
        return _identity(settings, namespace.ids, person)

    @post("/{user:str}/tokens", summary="Issue a valid or an invalid token")
    async def make_identity_token(
        namespace: NamedDependency[Namespace], user: FromPath[str], data: JSONBody[TokenRequest]
    ) -> Token:
        actor = await namespace.store.read(lambda connection: find_actor(connection, user))
        try:
            return _token(settings, actor.user_id, data)
        except SettingsError as error:
            raise ControlRefusal(str(error), status=409, code="signed_elsewhere") from error

    return Router(
        "/identities",
        route_handlers=[list_identities, add_identity, change_identity, make_identity_token],
        tags=["identities"],
    )


def find_actor(connection: Connection, identity: str) -> Actor:
    """Return the user of this id or e-mail address, active or not.

    Raises:
        ControlRefusal: if there is no such user.
    """
    user = int(identity) if _ID.fullmatch(identity) else identity
    actor = people.actor(connection, user)
    if actor is None:
        raise _unknown_user(identity)
    return actor


def _identity(settings: Settings, ids: Ids, person: Person) -> Identity:
    user, doctor, patient = person
    can_sign = settings.signing_secret is not None
    return Identity(
        user=user.id,
        email=user.email,
        full_name=user.full_name,
        active=user.active,
        doctor=None if doctor is None else DoctorRole(ids.format("doctor", doctor.id), doctor.specialization),
        patient=None if patient is None else PatientRole(ids.format("patient", patient.id)),
        token=make_token(settings, user.id, expires_in=DEFAULT_LIFETIME) if can_sign else None,
    )


def _person(people: list[Person], identity: str) -> Person:
    for person in people:
        if identity.lower() in (str(person[0].id), person[0].email.lower()):
            return person
    raise _unknown_user(identity)


def _unknown_user(identity: str) -> ControlRefusal:
    return not_found(f"user {identity!r}; {CONTROL}/identities lists the users")


def _new_person(new: NewIdentity, people: list[Person]) -> Person:
    user_id = _free_id((person[0].id for person in people), largest=MAX_UID)
    role = {
        (True, True): "dual.user",
        (True, False): "doctor",
        (False, True): "patient",
        (False, False): "user",
    }[bool(new.doctor), new.patient]
    emails = [person[0].email.lower() for person in people]
    email = new.email or next(
        free for number in count(user_id) if (free := f"{role}.{number}@example.com") not in emails
    )
    if email.lower() in emails:
        raise ControlRefusal(f"another user has the email {email}; give another one, or none", field="email")
    title = "Dr. " if new.doctor else ""
    full_name = new.full_name or f"{title}{role.replace('.', ' ').title()} {user_id}"
    user = User(user_id, email, full_name, new.active)
    doctor = patient = None
    if new.doctor:
        doctor_id = _free_id(doctor.id for _, doctor, _ in people if doctor is not None)
        specialization = new.doctor.specialization if isinstance(new.doctor, NewDoctor) else None
        doctor = Doctor(doctor_id, user, specialization)
    if new.patient:
        patient = Patient(_free_id(patient.id for _, _, patient in people if patient is not None), user)
    return user, doctor, patient


def _free_id(existing: Iterable[int], *, largest: int = LARGEST_ID) -> int:
    """Return the id after the largest one or, if that is too large, the first free one."""
    ids = set(existing)
    after = max(ids, default=0) + 1
    return after if after <= largest else next(number for number in count(1) if number not in ids)


def _token(settings: Settings, user_id: int, request: TokenRequest) -> Token:
    now, kind = int(time.time()), request.kind
    expires_at = now + {"expired": -1, "premature": 2}.get(kind, 1) * request.expires_in
    claims: dict[str, object] = {"exp": expires_at}
    if kind == "premature":
        claims["nbf"] = now + request.expires_in
    if kind == "refresh":
        claims["token_type"] = "refresh"  # noqa: S105 (a kind of token)
    if kind == "forged":
        settings = replace(settings, jwt_secret=secrets.token_hex(32))
    if kind == "unknown_user":
        user_id = _UNUSED_USER
    token = make_token(settings, user_id, expires_in=expires_at - now, claims=claims)
    if kind == "malformed":
        token = token.rpartition(".")[0]
    return Token(kind, token, instant(expires_at))
