"""What can be configured, in one place: the command's options, the environment and the docs follow it."""

import ipaddress
import re
from dataclasses import Field, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from video_calls_server.agora.tokens import DEVELOPMENT_PROJECT, AgoraProject, TokenVersion
from video_calls_server.store.pool import PoolLimits

DEVELOPMENT_JWT_SECRET = "development-only-secret-of-video-calls-server-which-everybody-knows"  # noqa: S105 (public by intent)
"""Signs JWTs where no secret is configured. Public: good on loopback only."""

MOST_CALLS = 10_000
"""That are made up at once."""

IdForm = Literal["integer", "uuid"]
JwtAlgorithm = Literal["HS256", "RS256", "ES256"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

_LONGEST_EMPTY = 1440  # minutes
_MOST_WORKERS = 64
_LONGEST_LEEWAY = 300  # seconds
_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 3600.0  # seconds; PostgreSQL counts milliseconds, and 0 is for ever
_POSTGRESQL = re.compile(r"postgres(ql)?(\+\w+)?://", re.ASCII)
_SHORTEST_KEY = 16  # characters
_SHORTEST_SECRET = 32  # bytes; RFC 7518, 3.2: a key of the hash's size or larger
_RATE = re.compile(r"(\d{1,9})/(second|minute|hour|day)", re.ASCII)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+|null")
_RESERVED_CLAIMS = {"aud", "exp", "iat", "iss", "jti", "nbf", "token_type"}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


_IN_THE_ENVIRONMENT = " An option shows in the process list: keep secrets in the variable."


class SettingsError(Exception):
    """A setting that cannot be used; the message names it, says why, and what to give instead."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `requests` in each window of `seconds`, per user."""

    requests: int
    seconds: int


def setting(
    default: object, help_text: str, *, env: str | None = None, in_lines: bool = False, secret: bool = False
) -> Any:  # noqa: ANN401 (the field of a dataclass stands for what it holds)
    """A field of `Settings`.

    `secret` means that the value is, or may contain, a secret, which `repr` then leaves out.
    `env` is its variable where that is not VIDEO_CALLS_SERVER_<NAME>. What may be repeated is parted there by
    white space or, where it stands `in_lines`, by the ends of these.
    """
    metadata = {
        "help": help_text + _IN_THE_ENVIRONMENT if secret else help_text,
        "env": env,
        "in_lines": in_lines,
    }
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of a reference server.

    Raises:
        SettingsError: a value cannot be used.
    """

    host: str = setting("127.0.0.1", "Address to listen on. Beyond loopback, own secrets are required.")
    port: int = setting(8000, "Port to listen on; 0 takes a free one.")
    database: str = setting(
        "video-calls.db",
        "A path, sqlite:///PATH, :memory:, or postgresql://USER:PASSWORD@HOST/NAME.",
        secret=True,
    )
    workers: int = setting(
        1,
        "Processes that serve; several need PostgreSQL, and have no control API, so no clock, faults or "
        "namespaces, and no console.",
    )
    pool_size: int = setting(10, "Connections of each process to PostgreSQL at most.")
    pool_wait: float = setting(5.0, "Seconds that a request waits for a connection to PostgreSQL.")
    statement_timeout: float = setting(5.0, "Seconds that one statement may take on PostgreSQL.")
    lock_timeout: float = setting(2.0, "Seconds that a statement waits for a lock on PostgreSQL.")
    seed: Path | None = setting(None, "YAML file with the people of a new database; see `seed.yaml`.")
    seed_calls: int = setting(0, "Realistic calls that a new database starts with, in all states.")
    snapshot: Path | None = setting(None, "JSON file with the whole state that a new database starts with.")
    clock: str | None = setting(
        None, "Time at which the server's clock starts, such as 2030-01-05T10:00:00Z; tokens are real."
    )
    fault: tuple[str, ...] = setting(
        (),
        "What goes wrong, such as 'status=503; times=1; operation=joinVideoCall'; repeatable, in the "
        "environment one a line.",
        in_lines=True,
    )
    ids: IdForm = setting(
        "integer",
        "Form of the ids of calls, doctors and patients: as in the document, or UUIDs, for frontends whose "
        "backend has those.",
    )
    agora_app_id: str | None = setting(
        None, "App id of the Agora project, 32 hex digits.", env="AGORA_APP_ID"
    )
    agora_app_certificate: str | None = setting(
        None,
        "App certificate of the Agora project, 32 hex digits.",
        env="AGORA_APP_CERTIFICATE",
        secret=True,
    )
    agora_token_version: TokenVersion = setting(
        "006", "Version of the Agora tokens.", env="AGORA_TOKEN_VERSION"
    )
    agora_ncs_secret: str | None = setting(
        None,
        "Secret of Agora's notifications (NCS), which are then taken at /agora/notifications/.",
        env="AGORA_NCS_SECRET",
        secret=True,
    )
    jwt_algorithm: JwtAlgorithm = setting("HS256", "The one algorithm in which JWTs are accepted.")
    jwt_secret: str | None = setting(None, "Secret of HS256 JWTs, 32 bytes or more.", secret=True)
    jwt_public_key: Path | None = setting(None, "PEM file with the public key of RS256 or ES256 JWTs.")
    jwt_jwks_url: str | None = setting(None, "URL of the key set (JWKS) of RS256 or ES256 JWTs.", secret=True)
    jwt_user_claim: str = setting("user_id", "Claim that names the user, by id or by e-mail address.")
    jwt_issuer: str | None = setting(None, "Required `iss` of JWTs.")
    jwt_audience: str | None = setting(None, "Required `aud` of JWTs.")
    jwt_leeway: int = setting(10, "Seconds by which `iat` and `nbf` of JWTs may be ahead of this machine.")
    rate_limit: str | None = setting(
        None, "Requests per user, such as 100/minute (second, minute, hour, day)."
    )
    request_timeout: float = setting(
        60.0, "Seconds in which a request has to arrive, head and body; a slower one is refused with 408."
    )
    keep_alive_timeout: int = setting(75, "Seconds after which an idle connection is closed.")
    event_retention_hours: int = setting(168, "Hours for which events are kept, to be resumed from.")
    event_heartbeat: int = setting(20, "Seconds between the pings of an event connection, and to its pong.")
    end_when_empty_minutes: int = setting(
        0, "Minutes after which a call that both have left ends by itself; 0 is never. Needs notifications."
    )
    cors_origin: tuple[str, ...] = setting(
        (),
        "Origin of a frontend, such as https://app.example.com or capacitor://localhost; repeatable, "
        "separated by spaces in the environment. Loopback origins are always allowed.",
    )
    static: Path | None = setting(None, "Directory with a frontend of your own, served at /app/.")
    control: bool = setting(
        True, "The control API under /_control/ and the console; on loopback, or with a key."
    )
    control_key: str | None = setting(
        None, "Key of the control API, 16 characters or more; needed beyond loopback.", secret=True
    )
    namespace_idle_minutes: int = setting(30, "Minutes after which a namespace that nobody uses is dropped.")
    log_level: LogLevel = setting("info", "Least level of log messages; `info` has a line for each request.")
    log_format: LogFormat = setting("text", "Form of the log; `json` has an object with fields in each line.")
    metrics: bool = setting(False, "Metrics for Prometheus at /metrics, for everybody who can reach it.")
    otel: bool = setting(False, "Spans of requests for OpenTelemetry, as its OTEL_ variables say.")

    def __post_init__(self) -> None:
        for name, allowed in (
            ("ids", get_args(IdForm)),
            ("agora_token_version", get_args(TokenVersion)),
            ("jwt_algorithm", get_args(JwtAlgorithm)),
            ("log_level", get_args(LogLevel)),
            ("log_format", get_args(LogFormat)),
        ):
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        if not 0 <= self.port <= 65535:  # noqa: PLR2004 (the range of TCP ports)
            raise SettingsError(f"port: {self.port} is not a port; give 0 to 65535")
        for origin in self.cors_origin:
            if not _ORIGIN.fullmatch(origin):
                raise SettingsError(
                    f"cors_origin: {origin!r} is not like https://app.example.com or capacitor://localhost"
                )
        if self.static is not None and not self.static.is_dir():
            raise SettingsError(f"static: {self.static} is not a directory")
        self._check_processes()
        self._check_control()
        _ = self.agora_project, self.rate  # a wrong one is refused now, not at the first request
        self._check_events()
        self._check_jwt()
        if self.uses_development_secrets and not self._is_local:
            raise SettingsError(
                f"host: {self.host} is reachable from other machines, and the built-in development secrets "
                "are public; set VIDEO_CALLS_SERVER_JWT_SECRET (or a public key or JWKS URL), AGORA_APP_ID "
                "and AGORA_APP_CERTIFICATE, or listen on 127.0.0.1"
            )

    @property
    def agora_project(self) -> AgoraProject:
        """The Agora project whose tokens are minted: the configured one, else the development pair."""
        app_id, certificate = self.agora_app_id, self.agora_app_certificate
        if not app_id and not certificate:
            return DEVELOPMENT_PROJECT
        if not app_id or not certificate:
            missing = "AGORA_APP_CERTIFICATE" if app_id else "AGORA_APP_ID"
            raise SettingsError(
                f"{missing} is missing; app id and certificate are set together or not at all"
            )
        try:
            return AgoraProject(app_id, certificate)
        except ValueError as error:
            raise SettingsError(f"AGORA_APP_ID or AGORA_APP_CERTIFICATE: {error}") from error

    @property
    def rate(self) -> RateLimit | None:
        """`rate_limit`, read."""
        if not self.rate_limit:
            return None
        match = _RATE.fullmatch(self.rate_limit)
        if match is None or int(match[1]) == 0:
            raise SettingsError(f"rate_limit: {self.rate_limit!r} is not like 100/minute or 5/second")
        return RateLimit(int(match[1]), _SECONDS[match[2]])

    @property
    def signing_secret(self) -> str | None:
        """The secret that signs and checks JWTs, None where others sign them."""
        if self.jwt_algorithm != "HS256":
            return None
        return self.jwt_secret or DEVELOPMENT_JWT_SECRET

    @property
    def uses_development_secrets(self) -> bool:
        """Whether anything is signed with a secret that everybody knows."""
        return self.signing_secret == DEVELOPMENT_JWT_SECRET or self.uses_development_project

    @property
    def uses_development_project(self) -> bool:
        """Whether Agora tokens are signed with the built-in certificate, also if it was configured."""
        return self.agora_project.app_certificate.lower() == DEVELOPMENT_PROJECT.app_certificate

    @property
    def pool(self) -> PoolLimits:
        """How the connections to PostgreSQL are used."""
        return PoolLimits(self.pool_size, self.pool_wait, self.statement_timeout, self.lock_timeout)

    @property
    def has_control(self) -> bool:
        """Whether there is a control layer: in one process only, and beyond loopback only behind a key."""
        return self.control and self.workers == 1 and (self._is_local or self.control_key is not None)

    @property
    def _is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host == "localhost" or self.host.endswith(".localhost") or bool(is_loopback(self.host))

    def _check_processes(self) -> None:
        if not 1 <= self.workers <= _MOST_WORKERS:
            raise SettingsError(f"workers: {self.workers} is not in 1 to {_MOST_WORKERS}")
        if self.workers > 1 and not _POSTGRESQL.match(self.database):
            raise SettingsError(
                f"workers: {self.workers} processes need PostgreSQL; give --database postgresql://…, "
                "or one worker"
            )
        if self.pool_size < 1:
            raise SettingsError(f"pool_size: {self.pool_size} is less than 1")
        for name in (
            "pool_wait",
            "statement_timeout",
            "lock_timeout",
            "request_timeout",
            "keep_alive_timeout",
        ):
            seconds = getattr(self, name)
            if not _SHORTEST_WAIT <= seconds <= _LONGEST_WAIT:
                raise SettingsError(
                    f"{name}: {seconds:g} is not in {_SHORTEST_WAIT:g} to {_LONGEST_WAIT:g} seconds"
                )

    def _check_control(self) -> None:
        key = self.control_key
        if key is not None and (len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable()):
            raise SettingsError(f"control_key: give {_SHORTEST_KEY} or more printable ASCII characters")
        if not 0 <= self.seed_calls <= MOST_CALLS:
            raise SettingsError(f"seed_calls: {self.seed_calls} is not in 0 to {MOST_CALLS}")
        for name in ("seed_calls", "snapshot", "clock", "fault"):
            if getattr(self, name) and self.workers > 1:
                raise SettingsError(f"{name}: several workers have no control API; give one worker")
            if getattr(self, name) and not self.has_control:
                raise SettingsError(f"{name}: control is off; see --control and --control-key")
        if self.namespace_idle_minutes < 1:
            raise SettingsError(f"namespace_idle_minutes: {self.namespace_idle_minutes} is less than 1")

    def _check_events(self) -> None:
        for name in ("event_retention_hours", "event_heartbeat"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: {getattr(self, name)} is less than 1")
        minutes = self.end_when_empty_minutes
        if not 0 <= minutes <= _LONGEST_EMPTY:
            raise SettingsError(f"end_when_empty_minutes: {minutes} is not in 0 to {_LONGEST_EMPTY}")
        if minutes and not self.agora_ncs_secret:
            raise SettingsError(
                "end_when_empty_minutes: only Agora's notifications tell who has left; set AGORA_NCS_SECRET"
            )

    def _check_jwt(self) -> None:
        keys = [
            name
            for name in ("jwt_secret", "jwt_public_key", "jwt_jwks_url")
            if getattr(self, name) is not None
        ]
        if self.jwt_algorithm == "HS256":
            if keys not in ([], ["jwt_secret"]):
                raise SettingsError(
                    f"{keys[-1]}: HS256 takes jwt_secret alone; set jwt_algorithm to RS256 or ES256"
                )
            if self.jwt_secret is not None and len(self.jwt_secret.encode()) < _SHORTEST_SECRET:
                raise SettingsError(f"jwt_secret: shorter than {_SHORTEST_SECRET} bytes; give a longer one")
        elif len(keys) != 1 or keys == ["jwt_secret"]:
            raise SettingsError(
                f"jwt_algorithm: {self.jwt_algorithm} takes jwt_public_key or jwt_jwks_url, one of them"
            )
        elif self.jwt_jwks_url is not None and not _is_web_url(self.jwt_jwks_url):
            raise SettingsError("jwt_jwks_url: give an http or https URL")
        if not 0 <= self.jwt_leeway <= _LONGEST_LEEWAY:
            raise SettingsError(f"jwt_leeway: {self.jwt_leeway} is not in 0 to {_LONGEST_LEEWAY} seconds")
        if self.jwt_user_claim in _RESERVED_CLAIMS:
            raise SettingsError(f"jwt_user_claim: {self.jwt_user_claim} means something else in every JWT")


def _is_web_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def without_credentials(url: str) -> str:
    """Return a URL to show to people: without user, password and query, which can be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def environment_variable(setting: "Field[Any]") -> str:
    """The environment variable that sets this field of `Settings`."""
    return setting.metadata["env"] or f"VIDEO_CALLS_SERVER_{setting.name.upper()}"


def setting_fields() -> "tuple[Field[Any], ...]":
    """The fields of `Settings`, in order."""
    return fields(Settings)


@lru_cache  # each request asks, and reading an address takes a while
def is_loopback(text: str) -> bool | None:
    """Whether an IP address is a loopback address, also if it is an IPv4 address within an IPv6 one.

    Return None if the text is not an IP address.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
