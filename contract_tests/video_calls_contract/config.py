"""The configuration of a run: the address of the backend and its users.

It is TOML, in the form that `video-calls-server identities --contract-config URL` prints. Secrets need not be
in the file: a string may contain `${VARIABLE}`, and `token_command` is a command that prints a token. The
command is a list of words, or one string for the shell. The command of the identity `expiring` runs only when
a test needs its token, because that token is valid for seconds.
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

from video_calls_contract.booking_policy import WEEKDAYS, Policy
from video_calls_contract.ids import Id, is_id

API_PATH = "/api/v1/video"
COMMAND_SECONDS = 30
_BOOKING_KEYS = {"days_ahead", "hours", "weekdays", "timezone", "step_minutes", "notice_minutes"}
_MAX_DAYS = 3650
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
    """The configuration cannot be used; the message names the key and says what to change."""


@dataclass(frozen=True, slots=True)
class TokenCommand:
    """A command that prints a token.

    Attributes:
        words: a command for the shell, or a list of words.
        key: the configuration file and the key in it, for messages.
    """

    words: str | tuple[str, ...] = field(repr=False)
    key: str

    def token(self) -> str:
        """Run the command and return the token.

        Raises:
            ConfigError: if the command fails or prints no token.
        """
        try:
            process = subprocess.run(  # noqa: S603 (the user's own command, from the user's own file)
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
        if process.returncode:
            last_line = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise ConfigError(f"{self.key}: failed with status {process.returncode}: {last_line}")
        return _valid_token(process.stdout, self.key)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the backend whose token the suite may use.

    Attributes:
        name: the role in the tests, such as "doctor" or "outsider".
        token: a JWT; None for an inactive user without a token, and for `expiring`.
        doctor, patient: the user's ids in calls.
        command: prints the token.
    """

    name: str
    token: str | None = field(repr=False)
    doctor: Id | None = None
    patient: Id | None = None
    command: TokenCommand | None = field(default=None, repr=False)

    @property
    def variable(self) -> str:
        """Return the name that reports use in place of the token."""
        return f"{self.name.upper()}_TOKEN"


@dataclass(frozen=True, slots=True)
class Agora:
    """The Agora project of the backend. A value is None if the configuration does not give it."""

    app_id: str | None = None
    app_certificate: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for TLS.

    Attributes:
        ca: the authorities to trust instead of the public ones.
        cert: the client certificate and its chain.
        key: the private key; None if `cert` contains it.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A valid configuration.

    Attributes:
        use_proxy: whether to use the proxy that the environment variables name.
        booking: the times that the backend accepts, as far as the configuration says.
    """

    base_url: str
    identities: Mapping[str, Identity]
    agora: Agora = Agora()
    tls: Tls = Tls()
    use_proxy: bool = True
    booking: Policy = Policy()  # noqa: RUF009 (frozen)


def read_config(path: Path, *, base_url: str | None = None, tls: Tls = Tls()) -> Config:
    """Read a configuration file.

    Args:
        base_url: replaces the configuration's.
        tls: each file replaces the configuration's.

    Raises:
        ConfigError: if the file cannot be read or is invalid.
    """
    try:
        text = decoded(path.read_bytes())
    except EncodingError as error:
        raise ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); `video-calls-contract init` writes a configuration"
        ) from None
    return parse_config(text, str(path), base_url=base_url, tls=tls)


def parse_config(
    text: str,
    source: str,
    *,
    base_url: str | None = None,
    tls: Tls = Tls(),
) -> Config:
    """Read a configuration from its text.

    Args:
        source: the file's name, for messages; paths in the text are relative to its folder.
        base_url: replaces the configuration's.
        tls: each file replaces the configuration's.

    Raises:
        ConfigError: if the configuration is invalid.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from None
    reader = _Reader(source)
    reader.check_keys(data, {"base_url", "ca", "cert", "key", "agora", "booking", "identities"}, "")
    url = base_url or reader.text(data, "base_url", "")
    if url is None:
        raise ConfigError(f'{source}: base_url is missing; add base_url = "https://…" or use --base-url')
    agora = reader.table(data, "agora", "")
    reader.check_keys(agora, {"app_id", "app_certificate"}, "agora.")
    tables = reader.table(data, "identities", "")
    reader.check_keys(tables, set(NAMES), "identities.")
    identities = {name: reader.identity(name, reader.table(tables, name, "identities.")) for name in tables}
    if missing := [name for name in REQUIRED if name not in identities]:
        raise ConfigError(
            f"{source}: there is no [identities.{missing[0]}]; a doctor and a patient are required"
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
    """Return the root of an API without a slash at its end.

    Raises:
        ConfigError: if it is not an http or https URL, or contains a user name.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        has_user = parts.username is not None
    except ValueError:
        is_valid = has_user = False
    if has_user:
        raise ConfigError(
            "base_url: contains a user name or password, which the suite cannot send with a bearer token; "
            "remove it"
        )
    if not is_valid or urlsplit(url).query or urlsplit(url).fragment:
        raise ConfigError(
            f"base_url: {url!r} is not an http or https URL such as https://staging.example.com{API_PATH}"
        )
    return url.rstrip("/")


class _Reader:
    """Reads values from tables, and names the key of a wrong value."""

    def __init__(self, source: str) -> None:
        self._source = source

    def error(self, key: str, problem: str) -> ConfigError:
        return ConfigError(f"{self._source}: {key}: {problem}")

    def check_keys(self, table: Mapping[str, Any], keys: set[str], prefix: str) -> None:
        for key in table:
            if key not in keys:
                raise self.error(prefix + key, f"unknown; known are {', '.join(sorted(keys))}")

    def table(self, data: Mapping[str, Any], key: str, prefix: str) -> dict[str, Any]:
        value = data.get(key, {})
        if not isinstance(value, dict):
            raise self.error(prefix + key, "must be a table")
        return cast("dict[str, Any]", value)

    def text(self, data: Mapping[str, Any], key: str, prefix: str) -> str | None:
        value = data.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.error(prefix + key, "must be a string")
        return self.expand(value, prefix + key)

    def expand(self, text: str, key: str) -> str:
        def variable(match: re.Match[str]) -> str:
            value = os.environ.get(match[1])
            if not value:
                raise self.error(key, f"the environment variable {match[1]} is not set")
            return value

        return _VARIABLE.sub(variable, text)

    def tls(self, data: Mapping[str, Any], options: Tls) -> Tls:
        ca, cert, key = (self.path(data, name) for name in ("ca", "cert", "key"))
        if options.cert is not None:
            cert, key = options.cert, options.key
        elif options.key is not None:
            key = options.key
        if key is not None and cert is None:
            raise self.error("key", "has no certificate; add cert, or use --cert")
        return Tls(options.ca or ca, cert, key)

    def path(self, data: Mapping[str, Any], key: str) -> Path | None:
        text = self.text(data, key, "")
        return None if text is None else Path(self._source).parent / Path(text).expanduser()

    def hex32(self, data: Mapping[str, Any], key: str, prefix: str) -> str | None:
        value = self.text(data, key, prefix)
        if value is not None and not _HEX.fullmatch(value):
            raise self.error(prefix + key, "must be 32 hexadecimal digits; leave it out if it is secret")
        return value

    def id(self, data: Mapping[str, Any], key: str, prefix: str) -> Id | None:
        value = data.get(key)
        if isinstance(value, str):
            value = self.expand(value, prefix + key)
        if value is None or is_id(value):
            return value
        raise self.error(
            prefix + key,
            "must be a positive integer, or a string of 1 to 64 letters, digits and -._~ such as a UUID",
        )

    def booking(self, data: Mapping[str, Any]) -> Policy:
        self.check_keys(data, _BOOKING_KEYS, "booking.")
        days = self.integer(data, "days_ahead", 1, _MAX_DAYS)
        return Policy(
            furthest=None if days is None else timedelta(days=days),
            hours=self.hours(data.get("hours")),
            weekdays=self.weekdays(data.get("weekdays")),
            timezone=self.timezone(data),
            step_minutes=self.integer(data, "step_minutes", 1, 24 * 60),
            notice_minutes=self.integer(data, "notice_minutes", 0, _MAX_DAYS * 24 * 60),
        )

    def integer(self, data: Mapping[str, Any], key: str, minimum: int, maximum: int) -> int | None:
        value = data.get(key)
        if value is None or (type(value) is int and minimum <= value <= maximum):
            return value
        raise self.error(f"booking.{key}", f"must be an integer from {minimum} to {maximum}")

    def hours(self, value: object) -> tuple[time, time] | None:
        if value is None:
            return None
        try:
            first, last = (
                one if isinstance(one, time) else time.fromisoformat(one) for one in cast("list[Any]", value)
            )
        except (TypeError, ValueError):
            raise self.error(
                "booking.hours", 'must be the first and the last start of a day, such as ["08:00", "16:30"]'
            ) from None
        if first.tzinfo or last.tzinfo:
            raise self.error("booking.hours", "must have no offset; add booking.timezone")
        return first, last

    def weekdays(self, value: object) -> frozenset[int] | None:
        if value is None:
            return None
        numbers = {name[:3].lower(): number for number, name in enumerate(WEEKDAYS)}
        names = [str(name).lower() for name in cast("list[object]", value)] if isinstance(value, list) else []
        if not names or not set(names) <= set(numbers):
            raise self.error("booking.weekdays", f"must be a list of days from {', '.join(numbers)}")
        return frozenset(numbers[name] for name in names)

    def timezone(self, data: Mapping[str, Any]) -> tzinfo:
        name = self.text(data, "timezone", "booking.")
        if name is None:
            return UTC
        try:
            return ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            raise self.error(
                "booking.timezone",
                f"unknown time zone {name!r}; use a name such as Europe/Berlin (on Windows after "
                "`pip install tzdata`)",
            ) from None

    def identity(self, name: str, data: Mapping[str, Any]) -> Identity:
        prefix = f"identities.{name}."
        self.check_keys(data, {"id", "doctor", "patient", "token", "token_command"}, prefix)
        own_id = self.id(data, "id", prefix)
        doctor, patient = (self.id(data, role, prefix) for role in ("doctor", "patient"))
        if name in DOCTORS:
            doctor = own_id if own_id is not None else doctor
        elif name in PATIENTS:
            patient = own_id if own_id is not None else patient
        elif own_id is not None:
            raise self.error(prefix + "id", "is ambiguous; use doctor = … or patient = …")
        if name in DOCTORS and doctor is None:
            raise self.error(prefix + "id", "is missing; it is the value of `doctor` in a call")
        if name in PATIENTS and patient is None:
            raise self.error(prefix + "id", "is missing; it is the value of `patient` in a call")
        if name == "dual_user" and (doctor is None or patient is None):
            raise self.error(prefix + "doctor", "the dual user needs both doctor = … and patient = …")
        command = self.command(data, prefix)
        if name == EXPIRING:
            if command is None:
                raise self.error(prefix + "token_command", "is missing; the suite runs it during the tests")
            return Identity(name, None, doctor, patient, command)
        token = self.token(data, prefix, command)
        if token is None and not name.startswith("inactive_"):
            raise self.error(prefix + "token", 'is missing; add token = "${VARIABLE}" or token_command = "…"')
        return Identity(name, token, doctor, patient, command)

    def token(self, data: Mapping[str, Any], prefix: str, command: TokenCommand | None) -> str | None:
        if command is not None:
            return command.token()
        token = self.text(data, "token", prefix)
        return None if token is None else _valid_token(token, f"{self._source}: {prefix}token")

    def command(self, data: Mapping[str, Any], prefix: str) -> TokenCommand | None:
        command = data.get("token_command")
        if command is None:
            return None
        if "token" in data:
            raise self.error(prefix + "token", "use token or token_command, not both")
        key = f"{prefix}token_command"
        words: list[object] = cast("list[object]", command) if isinstance(command, list) else [command]
        if not command or not all(isinstance(word, str) for word in words):
            raise self.error(key, "must be a shell command, or a list of words")
        if isinstance(command, str):  # `${VARIABLE}` stays, because the shell expands it
            return TokenCommand(command, f"{self._source}: {key}")
        expanded = tuple(self.expand(word, key) for word in cast("list[str]", words))
        return TokenCommand(expanded, f"{self._source}: {key}")


def _valid_token(token: str, key: str) -> str:
    token = token.strip().removeprefix("\ufeff").removeprefix("Bearer ")
    if not token or not token.isascii() or any(character.isspace() for character in token):
        raise ConfigError(f"{key}: is empty, or has characters that no token has")
    return token
