"""The `contract.toml` for a run of the contract suite against this server."""

import json
import sys
from pathlib import Path

from video_calls_server.api.ids import ExternalId, ids_of
from video_calls_server.api.jwt import make_token
from video_calls_server.command.contract_identities import contract_identities
from video_calls_server.domain.people import Role, User
from video_calls_server.settings import Settings, SettingsError
from video_calls_server.store.database import has_password
from video_calls_server.store.seed import Seed

JWT_LIFETIME = 24 * 3600  # seconds: longer than a run of the contract suite
EXPIRED_SINCE = 3600  # seconds
EXPIRING_IN = "8s"


def contract_toml(settings: Settings, people: Seed, base_url: str) -> str:
    """Return the configuration for a run against `base_url`, with tokens that do not expire during the run.

    Raises:
        SettingsError: if an identity provider signs the JWTs, or a required identity is missing.
    """
    parts = contract_identities(people)
    needed = ("doctor", "patient", "other_doctor", "other_patient", "outsider", "dual_user")
    if missing := [name for name in needed if getattr(parts, name) is None]:
        raise SettingsError(
            f"no user can be {', '.join(missing)}; the suite needs two active doctors and two active "
            "patients, a user who is both, and one who is neither (or a third doctor or patient)"
        )
    project, ids = settings.agora_project, ids_of(settings.ids)
    lines = [
        f"base_url = {_toml(base_url.rstrip('/'))}",
        "",
        "[agora]",
        f"app_id = {_toml(project.app_id)}",
        f"app_certificate = {_toml(project.app_certificate)}",
    ]

    def identity(part: str, user: User, *, expires_in: int = JWT_LIFETIME, **role_ids: ExternalId) -> None:
        lines.extend(["", f"[identities.{part}]"])
        lines.extend(f"{name} = {json.dumps(value)}" for name, value in role_ids.items())
        lines.append(f"token = {_toml(make_token(settings, user.id, expires_in=expires_in))}")

    for name in ("doctor", "patient", "other_doctor", "other_patient", "inactive_doctor", "inactive_patient"):
        participant = getattr(parts, name)
        if participant is not None:
            identity(name, participant.user, id=ids.format(_role(name), participant.id))
    if parts.outsider is not None:
        identity("outsider", parts.outsider)
    if parts.dual_user is not None:
        user, doctor, patient = parts.dual_user
        doctor_id, patient_id = ids.format("doctor", doctor.id), ids.format("patient", patient.id)
        identity("dual_user", user, doctor=doctor_id, patient=patient_id)
    if parts.doctor is not None:
        identity("expired", parts.doctor.user, expires_in=-EXPIRED_SINCE)
        lines.extend(["", "[identities.expiring]", *_token_command(settings, parts.doctor.user)])
    return "\n".join([*lines, ""])


def _role(part: str) -> Role:
    return "doctor" if part.endswith("doctor") else "patient"


def _token_command(settings: Settings, user: User) -> list[str]:
    """Return the lines for a command that prints a short-lived token of a user, without secrets."""
    comments: list[str] = []
    words = [sys.executable, "-P", "-m", "video_calls_server", "token", user.email]
    words += ["--expires-in", EXPIRING_IN]
    if has_password(settings.database):
        comments.append("# The database URL has a password; VIDEO_CALLS_SERVER_DATABASE must be set.")
    else:
        words += ["--database", _absolute(settings.database)]
    if settings.seed is not None:
        words += ["--seed", str(settings.seed.resolve())]
    for name in ("jwt_user_claim", "jwt_issuer", "jwt_audience"):
        if (value := getattr(settings, name)) is not None:
            words += [f"--{name.replace('_', '-')}", value]
    return [*comments, f"token_command = {_toml(words)}"]


def _absolute(database: str) -> str:
    return database if ":" in database else str(Path(database).resolve())


def _toml(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON strings and lists of them are also TOML
