"""The `contract.toml` that lets the contract suite run against this server."""

import json
import sys
from pathlib import Path

from video_calls_server.api.ids import ShownId, ids_of
from video_calls_server.api.jwt import make_token
from video_calls_server.domain.people import Role, User
from video_calls_server.settings import Settings, SettingsError
from video_calls_server.store.database import has_password
from video_calls_server.store.seed import Seed, cast

JWT_LIFETIME = 24 * 3600  # seconds: longer than a run of the contract suite
EXPIRED_SINCE = 3600  # seconds
EXPIRING_IN = "8s"


def contract_toml(settings: Settings, people: Seed, base_url: str) -> str:
    """The configuration for a run against `base_url`, with tokens that outlive it.

    Raises:
        SettingsError: JWTs are signed elsewhere, or the people do not fill the parts that the suite needs.
    """
    parts = cast(people)
    needed = ("doctor", "patient", "other_doctor", "other_patient", "outsider", "dual_user")
    if missing := [name for name in needed if getattr(parts, name) is None]:
        raise SettingsError(
            f"there is nobody to be {', '.join(missing)}; the suite needs two active doctors and two active "
            "patients, a user who is both, and one who is neither (or a third doctor or patient)"
        )
    project, ids = settings.agora_project, ids_of(settings.ids)
    lines = [
        f"base_url = {_text(base_url.rstrip('/'))}",
        "",
        "[agora]",
        f"app_id = {_text(project.app_id)}",
        f"app_certificate = {_text(project.app_certificate)}",
    ]

    def identity(part: str, user: User, *, expires_in: int = JWT_LIFETIME, **shown: ShownId) -> None:
        lines.extend(["", f"[identities.{part}]"])
        lines.extend(f"{name} = {json.dumps(value)}" for name, value in shown.items())
        lines.append(f"token = {_text(make_token(settings, user.id, expires_in=expires_in))}")

    for name in ("doctor", "patient", "other_doctor", "other_patient"):
        participant = getattr(parts, name)
        if participant is not None:
            identity(name, participant.user, id=ids.show(_role(name), participant.id))
    if parts.outsider is not None:
        identity("outsider", parts.outsider)
    for name in ("inactive_doctor", "inactive_patient"):
        participant = getattr(parts, name)
        if participant is not None:
            identity(name, participant.user, id=ids.show(_role(name), participant.id))
    if parts.dual_user is not None:
        user, doctor, patient = parts.dual_user
        identity(
            "dual_user", user, doctor=ids.show("doctor", doctor.id), patient=ids.show("patient", patient.id)
        )
    if parts.doctor is not None:
        identity("expired", parts.doctor.user, expires_in=-EXPIRED_SINCE)
        lines.extend(["", "[identities.expiring]", *_token_command(settings, parts.doctor.user)])
    return "\n".join([*lines, ""])


def _role(part: str) -> Role:
    return "doctor" if part.endswith("doctor") else "patient"


def _token_command(settings: Settings, user: User) -> list[str]:
    """Return the lines for a command that prints a user's short-lived token; no secret is among them."""
    comments: list[str] = []
    words = [
        sys.executable,
        "-P",
        "-m",
        "video_calls_server",
        "token",
        user.email,
        "--expires-in",
        EXPIRING_IN,
    ]
    if has_password(settings.database):
        comments.append("# The database, whose URL has a password, is read from VIDEO_CALLS_SERVER_DATABASE.")
    else:
        words += ["--database", _absolute(settings.database)]
    if settings.seed is not None:
        words += ["--seed", str(settings.seed.resolve())]
    for name in ("jwt_user_claim", "jwt_issuer", "jwt_audience"):
        if (value := getattr(settings, name)) is not None:
            words += [f"--{name.replace('_', '-')}", value]
    return [*comments, f"token_command = {_text(words)}"]


def _absolute(database: str) -> str:
    return database if ":" in database else str(Path(database).resolve())


def _text(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON's texts, and lists of them, are TOML's
