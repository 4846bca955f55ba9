"""The `contract.toml` for a run of the contract suite against this server."""

import json
import sys
from pathlib import Path

from video_calls_server.api.ids import Ids, ids_of
from video_calls_server.api.jwt import make_token
from video_calls_server.domain.people import Doctor, Patient, Person, Role, User
from video_calls_server.settings import Settings, SettingsError
from video_calls_server.store.database import has_password
from video_calls_server.store.seed import Seed

JWT_LIFETIME = 24 * 3600  # seconds: longer than a run of the contract suite
EXPIRED_SINCE = 3600  # seconds
EXPIRING_IN = "6s"

_REQUIRED = ("doctor", "patient", "other_doctor", "other_patient", "outsider", "dual_user")


def contract_identities(people: Seed) -> dict[str, Person]:
    """Return a user for each identity of the contract suite, by the identity's name.

    It is the first user who fits the identity. An identity that no user fits is not in the result.
    """

    def users(*, active: bool = True, doctor: bool = False, patient: bool = False) -> list[Person]:
        return [
            person
            for person in people.people
            if (person[0].active, bool(person[1]), bool(person[2])) == (active, doctor, patient)
        ]

    doctors, patients = users(doctor=True), users(patient=True)
    candidates = {
        "doctor": doctors,
        "patient": patients,
        "other_doctor": doctors[1:],
        "other_patient": patients[1:],
        "inactive_doctor": users(active=False, doctor=True),
        "inactive_patient": users(active=False, patient=True),
        "outsider": [*users(), *doctors[2:], *patients[2:]],
        "dual_user": users(doctor=True, patient=True),
    }
    return {name: persons[0] for name, persons in candidates.items() if persons}


def contract_toml(settings: Settings, people: Seed, base_url: str) -> str:
    """Return the configuration for a run against `base_url`, with tokens that do not expire during the run.

    Raises:
        SettingsError: if an identity provider signs the JWTs, or a required identity is missing.
    """
    identities = contract_identities(people)
    if missing := [name for name in _REQUIRED if name not in identities]:
        raise SettingsError(
            f"no user can be {', '.join(missing)}; the suite needs two active doctors and two active "
            "patients, a user who is both, and one who is neither (or a third doctor or patient)"
        )
    project, doctor = settings.agora_project, identities["doctor"][0]
    lines = [
        f"base_url = {_toml(base_url.rstrip('/'))}",
        "",
        "[agora]",
        f"app_id = {_toml(project.app_id)}",
        f"app_certificate = {_toml(project.app_certificate)}",
    ]
    for name, person in identities.items():
        lines += ["", f"[identities.{name}]", *_role_ids(name, person, ids_of(settings.ids))]
        lines.append(f"token = {_toml(make_token(settings, person[0].id, expires_in=JWT_LIFETIME))}")
    expired = make_token(settings, doctor.id, expires_in=-EXPIRED_SINCE)
    lines += ["", "[identities.expired]", f"token = {_toml(expired)}"]
    lines += ["", "[identities.expiring]", *_token_command(settings, doctor)]
    return "\n".join([*lines, ""])


def _role_ids(name: str, person: Person, ids: Ids) -> list[str]:
    """Return the lines with an identity's id as doctor or patient. The suite needs no id of an outsider."""
    _, doctor, patient = person
    participants: dict[Role, Doctor | Patient | None] = {"doctor": doctor, "patient": patient}
    if name == "outsider":
        return []
    return [
        f"{role if name == 'dual_user' else 'id'} = {json.dumps(ids.format(role, each.id))}"
        for role, each in participants.items()
        if each is not None
    ]


def _token_command(settings: Settings, user: User) -> list[str]:
    """Return the lines with a command that prints a short-lived token of a user. They hold no secret."""
    comments: list[str] = []
    words = [sys.executable, "-P", "-m", "video_calls_server", "token", user.email]
    words += ["--expires-in", EXPIRING_IN]
    if has_password(settings.database):
        comments.append("# The database URL has a password; VIDEO_CALLS_SERVER_DATABASE must be set.")
    else:
        is_path = ":" not in settings.database
        words += ["--database", str(Path(settings.database).resolve()) if is_path else settings.database]
    if settings.seed is not None:
        words += ["--seed", str(settings.seed.resolve())]
    for name in ("jwt_user_claim", "jwt_issuer", "jwt_audience"):
        if (value := getattr(settings, name)) is not None:
            words += [f"--{name.replace('_', '-')}", value]
    return [*comments, f"token_command = {_toml(words)}"]


def _toml(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)  # a JSON string or a list of them is valid TOML
