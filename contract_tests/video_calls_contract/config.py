"""The configuration of a run: where the backend is, and who the suite may be there.

It is TOML, in the form that `video-calls-server identities --contract-config URL` prints. A text may hold
`${VARIABLE}`, and `token_command` in place of `token` names a command that prints one, so that no secret
need lie in the file. A command is a list of words, which are texts like all others, or one text, whose
variables are the shell's to expand. That of `expiring`, whose token lives for seconds, is run when it is
needed.
"""

import os
import re
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from video_calls_spec.encoding import EncodingError, decoded

from video_calls_contract.booking import WEEKDAYS, Policy
from video_calls_contract.ids import Id, is_id

__all__ = [
    "TEMPLATE",
    "Agora",
    "Config",
    "ConfigError",
    "Identity",
    "TokenCommand",
    "read_config",
    "valid_base_url",
]

API_PATH = "/api/v1/video"
COMMAND_SECONDS = 30
_OF_BOOKING = {"days_ahead", "hours", "weekdays", "timezone", "step_minutes", "notice_minutes"}
_MOST_DAYS = 3650
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEX = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)

TEMPLATE = Path(__file__).with_name("template.toml").read_text(encoding="utf-8")
"""The configuration that `init` writes."""

DOCTORS = ("doctor", "other_doctor", "inactive_doctor")
PATIENTS = ("patient", "other_patient", "inactive_patient")
EXPIRING = "expiring"
NAMES = (*DOCTORS, *PATIENTS, "outsider", "dual_user", "expired", EXPIRING)
REQUIRED = ("doctor", "patient")


class ConfigError(Exception):
    """What cannot be used of a configuration; the message names it and says how to mend it."""


@dataclass(frozen=True, slots=True)
class TokenCommand:
    """A command that prints a token.

    Attributes:
        words: a shell command, or a list of words.
        key: where it stands, for messages.
    """

    words: str | tuple[str, ...] = field(repr=False)
    key: str

    def token(self) -> str:
        """Run it.

        Raises:
            ConfigError: it prints none.
        """
        try:
            done = subprocess.run(  # noqa: S603 (the user's own command, from the user's own file)
                self.words,
                shell=isinstance(self.words, str),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{self.key}: did not end within {COMMAND_SECONDS} seconds") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.key}: could not be run: {error}") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ConfigError(f"{self.key}: failed with status {done.returncode}: {last}")
        return _clean(done.stdout, self.key)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the backend whom the suite may be.

    Attributes:
        name: the part that the user plays, such as "doctor" or "outsider".
        token: a JWT, None where the part needs none (somebody inactive, whom others only name) or has one
            made when it is needed.
        doctor, patient: the ids under which calls name the user.
        command: makes the token.
    """

    name: str
    token: str | None = field(repr=False)
    doctor: Id | None = None
    patient: Id | None = None
    command: TokenCommand | None = field(default=None, repr=False)

    @property
    def variable(self) -> str:
        """How a report calls the token."""
        return f"{self.name.upper()}_TOKEN"


@dataclass(frozen=True, slots=True)
class Agora:
    """The Agora project of the backend, as far as it may be told."""

    app_id: str | None = None
    app_certificate: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for TLS.

    Attributes:
        ca: the authorities that are trusted, in place of the public ones.
        cert: the client's certificate, and what leads to its authority.
        key: its private key; None if `cert` holds it.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that can be used.

    Attributes:
        proxied: whether a proxy of the environment is used.
        booking: the times that the backend books, as far as the configuration says.
    """

    base_url: str
    identities: Mapping[str, Identity]
    agora: Agora = Agora()
    tls: Tls = Tls()
    proxied: bool = True
    booking: Policy = Policy()  # noqa: RUF009 (frozen)


def read_config(path: Path, *, base_url: str | None = None, tls: Tls = Tls()) -> Config:
    """Read a configuration file; `base_url` and each file of `tls` replace the configuration's.

    Raises:
        ConfigError: the file cannot be read or used.
    """
    try:
        text = decoded(path.read_bytes())
    except EncodingError as error:
        raise ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); `video-calls-contract init` writes one"
        ) from None
    return parse_config(text, str(path), base_url=base_url, tls=tls)


def parse_config(
    text: str,
    source: str,
    *,
    base_url: str | None = None,
    tls: Tls = Tls(),
) -> Config:
    """Read a configuration from its text; `source` is its name in messages.

    Paths in the text are relative to the folder of `source`.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from None
    reader = _Reader(source)
    reader.only(data, {"base_url", "ca", "cert", "key", "agora", "booking", "identities"}, "")
    url = base_url or reader.text(data, "base_url", "")
    if url is None:
        raise ConfigError(f'{source}: base_url is missing; add base_url = "https://…" or give --base-url')
    agora = reader.table(data, "agora", "")
    reader.only(agora, {"app_id", "app_certificate"}, "agora.")
    described = reader.table(data, "identities", "")
    reader.only(described, set(NAMES), "identities.")
    identities = {
        name: reader.identity(name, reader.table(described, name, "identities.")) for name in described
    }
    if missing := [name for name in REQUIRED if name not in identities]:
        raise ConfigError(
            f"{source}: there is no [identities.{missing[0]}]; at least a doctor and a patient are needed"
        )
    return Config(
        base_url=valid_base_url(url),
        identities=identities,
        agora=Agora(
            reader.hex32(agora, "app_id", "agora."), reader.hex32(agora, "app_certificate", "agora.")
        ),
        tls=reader.tls(data, tls),
        booking=reader.booking(reader.table(data, "booking", "")),
    )


def valid_base_url(url: str) -> str:
    """Return the root of an API as it was given, without a slash at its end.

    Raises:
        ConfigError: if it is no such URL.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        named = parts.username is not None
    except ValueError:
        good = named = False
    if named:
        raise ConfigError(
            "base_url: holds a user name or password, which cannot be sent beside a bearer token; take it out"
        )
    if not good or urlsplit(url).query or urlsplit(url).fragment:
        raise ConfigError(
            f"base_url: {url!r} is not an http or https URL such as https://staging.example.com{API_PATH}"
        )
    return url.rstrip("/")


class _Reader:
    """Takes values out of tables, and says where one is wrong."""

    def __init__(self, source: str) -> None:
        self._source = source

    def fail(self, key: str, problem: str) -> ConfigError:
        return ConfigError(f"{self._source}: {key}: {problem}")

    def only(self, table: Mapping[str, Any], known: set[str], prefix: str) -> None:
        for key in table:
            if key not in known:
                raise self.fail(prefix + key, f"unknown; known are {', '.join(sorted(known))}")

    def table(self, data: Mapping[str, Any], key: str, prefix: str) -> dict[str, Any]:
        value = data.get(key, {})
        if not isinstance(value, dict):
            raise self.fail(prefix + key, "must be a table")
        return cast("dict[str, Any]", value)

    def text(self, data: Mapping[str, Any], key: str, prefix: str) -> str | None:
        value = data.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.fail(prefix + key, "must be a text")
        return self.expanded(value, prefix + key)

    def expanded(self, text: str, key: str) -> str:
        def variable(match: re.Match[str]) -> str:
            found = os.environ.get(match[1])
            if not found:
                raise self.fail(key, f"the environment variable {match[1]} is not set")
            return found

        return _VARIABLE.sub(variable, text)

    def tls(self, data: Mapping[str, Any], chosen: Tls) -> Tls:
        ca, cert, key = (self.path(data, name) for name in ("ca", "cert", "key"))
        if chosen.cert is not None:
            cert, key = chosen.cert, chosen.key
        elif chosen.key is not None:
            key = chosen.key
        if key is not None and cert is None:
            raise self.fail("key", "is given without its certificate; add cert, or give --cert")
        return Tls(chosen.ca or ca, cert, key)

    def path(self, data: Mapping[str, Any], key: str) -> Path | None:
        text = self.text(data, key, "")
        return None if text is None else Path(self._source).parent / Path(text).expanduser()

    def hex32(self, data: Mapping[str, Any], key: str, prefix: str) -> str | None:
        value = self.text(data, key, prefix)
        if value is not None and not _HEX.fullmatch(value):
            raise self.fail(
                prefix + key, "must be 32 hexadecimal digits; leave it out if you may not tell it"
            )
        return value

    def id(self, data: Mapping[str, Any], key: str, prefix: str) -> Id | None:
        value = data.get(key)
        if isinstance(value, str):
            value = self.expanded(value, prefix + key)
        if value is None or is_id(value):
            return value
        raise self.fail(
            prefix + key,
            "must be a positive whole number, or a text of 1 to 64 letters, digits and -._~ such as a UUID",
        )

    def booking(self, data: Mapping[str, Any]) -> Policy:
        self.only(data, _OF_BOOKING, "booking.")
        days = self.whole(data, "days_ahead", 1, _MOST_DAYS)
        return Policy(
            furthest=None if days is None else timedelta(days=days),
            hours=self.hours(data.get("hours")),
            weekdays=self.weekdays(data.get("weekdays")),
            timezone=self.timezone(data),
            step_minutes=self.whole(data, "step_minutes", 1, 24 * 60),
            notice_minutes=self.whole(data, "notice_minutes", 0, _MOST_DAYS * 24 * 60),
        )

    def whole(self, data: Mapping[str, Any], key: str, least: int, most: int) -> int | None:
        value = data.get(key)
        if value is None or (type(value) is int and least <= value <= most):
            return value
        raise self.fail(f"booking.{key}", f"must be a whole number from {least} to {most}")

    def hours(self, value: object) -> tuple[time, time] | None:
        if value is None:
            return None
        try:
            first, last = (
                one if isinstance(one, time) else time.fromisoformat(one) for one in cast("list[Any]", value)
            )
        except (TypeError, ValueError):
            raise self.fail(
                "booking.hours", 'must be the first and the last start of a day, such as ["08:00", "16:30"]'
            ) from None
        if first.tzinfo or last.tzinfo:
            raise self.fail("booking.hours", "must have no offset; add booking.timezone")
        return first, last

    def weekdays(self, value: object) -> frozenset[int] | None:
        if value is None:
            return None
        numbers = {name[:3].lower(): number for number, name in enumerate(WEEKDAYS)}
        names = [str(name).lower() for name in cast("list[object]", value)] if isinstance(value, list) else []
        if not names or not set(names) <= set(numbers):
            raise self.fail("booking.weekdays", f"must be a list of days out of {', '.join(numbers)}")
        return frozenset(numbers[name] for name in names)

    def timezone(self, data: Mapping[str, Any]) -> tzinfo:
        name = self.text(data, "timezone", "booking.")
        if name is None:
            return UTC
        try:
            return ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            raise self.fail(
                "booking.timezone",
                f"{name!r} is not known here; names are such as Europe/Berlin, and on Windows they need "
                "`pip install tzdata`",
            ) from None

    def identity(self, name: str, data: Mapping[str, Any]) -> Identity:
        prefix = f"identities.{name}."
        self.only(data, {"id", "doctor", "patient", "token", "token_command"}, prefix)
        own_id = self.id(data, "id", prefix)
        doctor, patient = (self.id(data, role, prefix) for role in ("doctor", "patient"))
        if name in DOCTORS:
            doctor = own_id if own_id is not None else doctor
        elif name in PATIENTS:
            patient = own_id if own_id is not None else patient
        elif own_id is not None:
            raise self.fail(
                prefix + "id", "say whether it is a doctor's or a patient's: doctor = … or patient = …"
            )
        if name in DOCTORS and doctor is None:
            raise self.fail(prefix + "id", "is missing; it is the doctor's id, as in the `doctor` of a call")
        if name in PATIENTS and patient is None:
            raise self.fail(
                prefix + "id", "is missing; it is the patient's id, as in the `patient` of a call"
            )
        if name == "dual_user" and (doctor is None or patient is None):
            raise self.fail(prefix + "doctor", "the dual user is both: give doctor = … and patient = …")
        command = self.command(data, prefix)
        if name == EXPIRING:
            if command is None:
                raise self.fail(prefix + "token_command", "is missing; this token is made when it is needed")
            return Identity(name, None, doctor, patient, command)
        token = self.token(data, prefix, command)
        if token is None and not name.startswith("inactive_"):
            raise self.fail(prefix + "token", 'is missing; give token = "${VARIABLE}" or token_command = "…"')
        return Identity(name, token, doctor, patient, command)

    def token(self, data: Mapping[str, Any], prefix: str, command: TokenCommand | None) -> str | None:
        if command is not None:
            return command.token()
        token = self.text(data, "token", prefix)
        return None if token is None else _clean(token, f"{self._source}: {prefix}token")

    def command(self, data: Mapping[str, Any], prefix: str) -> TokenCommand | None:
        command = data.get("token_command")
        if command is None:
            return None
        if "token" in data:
            raise self.fail(prefix + "token", "give token or token_command, not both")
        key = f"{prefix}token_command"
        words: list[object] = cast("list[object]", command) if isinstance(command, list) else [command]
        if not command or not all(isinstance(word, str) for word in words):
            raise self.fail(key, "must be a shell command, or a list of words")
        # The shell expands what it is given, by its own quotes.
        given = (
            command
            if isinstance(command, str)
            else tuple(self.expanded(word, key) for word in cast("list[str]", words))
        )
        return TokenCommand(given, f"{self._source}: {key}")


def _clean(token: str, key: str) -> str:
    token = token.strip().removeprefix("\ufeff").removeprefix("Bearer ")
    if not token or not token.isascii() or any(character.isspace() for character in token):
        raise ConfigError(f"{key}: is empty, or holds what no token does")
    return token
