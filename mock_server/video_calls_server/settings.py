"""The settings of the server, which define the command's options and the environment variables too."""

import ipaddress
import math
import re
from dataclasses import Field, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from video_calls_server.agora.tokens import DEVELOPMENT_PROJECT, AgoraProject, TokenVersion
from video_calls_server.store.pool import PoolLimits

DEVELOPMENT_JWT_SECRET = "development-only-secret-of-video-calls-server-which-everybody-knows"  # noqa: S105 (public by intent)
"""Signs JWTs if no secret is configured. It is public, so the server accepts it only on loopback."""

MAX_SAMPLE_CALLS = 10_000
"""The largest number of sample calls that are added at once."""

IdForm = Literal["integer", "uuid"]
JwtAlgorithm = Literal["HS256", "RS256", "ES256"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

_POSTGRESQL = re.compile(r"postgres(ql)?(\+\w+)?://", re.ASCII)
_MIN_KEY_LENGTH = 16  # characters
_MIN_SECRET_LENGTH = 32  # bytes; RFC 7518, 3.2 requires a key as long as the hash
_RATE = re.compile(r"(\d{1,9})/(second|minute|hour|day)", re.ASCII)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+|null")
_RESERVED_CLAIMS = {"aud", "exp", "iat", "iss", "jti", "nbf", "token_type"}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_HELP_ON_SECRETS = " An option shows in the process list: keep secrets in the variable."


_TIMEOUT = (0.001, 3600.0)  # seconds; PostgreSQL reads less than 1 ms as no timeout
_LIMITS: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "workers": (1, 64),
    "pool_size": (1, math.inf),
    "pool_wait": _TIMEOUT,
    "statement_timeout": _TIMEOUT,
    "lock_timeout": _TIMEOUT,
    "request_timeout": _TIMEOUT,
    "keep_alive_timeout": _TIMEOUT,
    "seed_calls": (0, MAX_SAMPLE_CALLS),
    "namespace_idle_minutes": (1, math.inf),
    "event_retention_hours": (1, math.inf),
    "event_heartbeat": (1, math.inf),
    "end_when_empty_minutes": (0, 1440),
    "jwt_leeway": (0, 300),
}
"""The smallest and the largest value of each setting that is a number."""


class SettingsError(Exception):
    """A setting is invalid. The message names it, the reason, and a valid value."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Each user may send `requests` requests in a window of `seconds` seconds."""

    requests: int
    seconds: int


def setting(
    default: object, help_text: str, *, env: str | None = None, in_lines: bool = False, secret: bool = False
) -> Any:  # noqa: ANN401 (a dataclass field has the type of its value)
    """Return a field of `Settings`.

    Args:
        default: the value if the setting is not given.
        help_text: for the command line and the docs.
        env: the environment variable, by default VIDEO_CALLS_SERVER_<NAME>.
        in_lines: whether each line of the variable is a value; otherwise spaces separate the values.
        secret: whether the value may contain a secret, which `repr` then leaves out.
    """
    metadata = {
        "help": help_text + _HELP_ON_SECRETS if secret else help_text,
        "env": env,
        "in_lines": in_lines,
    }
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of a reference server.

    Raises:
        SettingsError: if a value is invalid.
    """

    host: str = setting("127.0.0.1", "Address to listen on. Beyond loopback, set secrets of your own.")
    port: int = setting(8000, "Port to listen on; 0 chooses a free one.")
    database: str = setting(
        "video-calls.db",
        "A path, sqlite:///PATH, :memory:, or postgresql://USER:PASSWORD@HOST/NAME.",
        secret=True,
    )
    workers: int = setting(
        1,
        "Processes that serve. Several need PostgreSQL and have no control API: no clock, faults, namespaces "
        "or console.",
    )
    pool_size: int = setting(10, "Maximum number of connections of each process to PostgreSQL.")
    pool_wait: float = setting(5.0, "Seconds that a request waits for a connection to PostgreSQL.")
    statement_timeout: float = setting(5.0, "Seconds that one statement may take on PostgreSQL.")
    lock_timeout: float = setting(2.0, "Seconds that a statement waits for a lock on PostgreSQL.")
    seed: Path | None = setting(None, "YAML file with the people of a new database; see `seed.yaml`.")
    seed_calls: int = setting(0, "Number of sample calls in a new database, in all states.")
    snapshot: Path | None = setting(None, "JSON file with the state of a new database.")
    clock: str | None = setting(
        None,
        "Start of the server's clock, such as 2030-01-05T10:00:00Z. Tokens follow real time.",
    )
    fault: tuple[str, ...] = setting(
        (),
        "Fault to inject, such as 'status=503; times=1; operation=joinVideoCall'; repeatable, one in each "
        "line of the environment variable.",
        in_lines=True,
    )
    ids: IdForm = setting(
        "integer",
        "Form of the ids of calls, doctors and patients: integers as in the document, or UUIDs if your "
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
        "Secret of Agora's notifications (NCS), which the server then receives at /agora/notifications/.",
        env="AGORA_NCS_SECRET",
        secret=True,
    )
    jwt_algorithm: JwtAlgorithm = setting("HS256", "Algorithm of the JWTs that the server accepts.")
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
        60.0, "Seconds for a request to arrive, head and body; a slower one is refused with 408."
    )
    keep_alive_timeout: int = setting(75, "Seconds after which an idle connection is closed.")
    event_retention_hours: int = setting(168, "Hours for which events are kept for reconnecting clients.")
    event_heartbeat: int = setting(20, "Seconds between two pings of an event connection, and for the pong.")
    end_when_empty_minutes: int = setting(
        0, "Minutes after which a call ends that both have left; 0 is never. Needs Agora's notifications."
    )
    cors_origin: tuple[str, ...] = setting(
        (),
        "Origin of a frontend, such as https://app.example.com or capacitor://localhost; repeatable, "
        "separated by spaces in the environment variable. Loopback origins are always allowed.",
    )
    static: Path | None = setting(None, "Directory of your frontend, served at /app/.")
    control: bool = setting(
        True, "The control API under /_control/ and the console; on loopback, or with a key."
    )
    control_key: str | None = setting(
        None, "Key of the control API, 16 characters or more; needed beyond loopback.", secret=True
    )
    namespace_idle_minutes: int = setting(30, "Minutes after which an unused namespace is dropped.")
    log_level: LogLevel = setting("info", "Lowest level of log messages; `info` includes each request.")
    log_format: LogFormat = setting("text", "Form of the log; `json` writes one object per line.")
    metrics: bool = setting(False, "Metrics for Prometheus at /metrics, without authentication.")
    otel: bool = setting(False, "Spans of requests for OpenTelemetry, configured by its OTEL_ variables.")

    def __post_init__(self) -> None:
        self._check_values()
        if self.workers > 1 and not _POSTGRESQL.match(self.database):
            raise SettingsError(
                f"workers: {self.workers} processes need PostgreSQL; give --database postgresql://…, "
                "or one worker"
            )
        self._check_control()
        _ = self.agora_project, self.rate  # raise errors now, not at the first request
        if self.end_when_empty_minutes and not self.agora_ncs_secret:
            raise SettingsError(
                "end_when_empty_minutes: this needs Agora's notifications; set AGORA_NCS_SECRET"
            )
        self._check_jwt()
        if self.uses_development_secrets and not self._is_local:
            raise SettingsError(
                f"host: {self.host} is reachable from other machines, and the built-in development secrets "
                "are public; set VIDEO_CALLS_SERVER_JWT_SECRET (or a public key or JWKS URL), AGORA_APP_ID "
                "and AGORA_APP_CERTIFICATE, or listen on 127.0.0.1"
            )

    @property
    def agora_project(self) -> AgoraProject:
        """The Agora project of the tokens: the configured one or, without one, the development project."""
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
        """The rate limit that `rate_limit` describes, or None without one."""
        if not self.rate_limit:
            return None
        match = _RATE.fullmatch(self.rate_limit)
        if match is None or int(match[1]) == 0:
            raise SettingsError(f"rate_limit: {self.rate_limit!r} is not like 100/minute or 5/second")
        return RateLimit(int(match[1]), _SECONDS[match[2]])

    @property
    def signing_secret(self) -> str | None:
        """The secret that signs and verifies JWTs, or None if an identity provider signs them."""
        if self.jwt_algorithm != "HS256":
            return None
        return self.jwt_secret or DEVELOPMENT_JWT_SECRET

    @property
    def uses_development_secrets(self) -> bool:
        """Whether JWTs or Agora tokens are signed with a public secret."""
        return self.signing_secret == DEVELOPMENT_JWT_SECRET or self.uses_development_project

    @property
    def uses_development_project(self) -> bool:
        """Whether Agora tokens are signed with the built-in certificate, by default or by configuration."""
        return self.agora_project.app_certificate.lower() == DEVELOPMENT_PROJECT.app_certificate

    @property
    def pool(self) -> PoolLimits:
        """The settings of the connections to PostgreSQL."""
        return PoolLimits(self.pool_size, self.pool_wait, self.statement_timeout, self.lock_timeout)

    @property
    def has_control(self) -> bool:
        """Whether the server has the control API. It needs a single process and, beyond loopback, a key."""
        return self.control and self.workers == 1 and (self._is_local or self.control_key is not None)

    @property
    def _is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host == "localhost" or self.host.endswith(".localhost") or bool(is_loopback(self.host))

    def _check_values(self) -> None:
        for name, (least, most) in _LIMITS.items():
            if not least <= getattr(self, name) <= most:
                valid = f"{least} or more" if most == math.inf else f"{least} to {most}"
                raise SettingsError(f"{name}: {getattr(self, name)} is out of range; give {valid}")
        for each in setting_fields():
            choices = get_args(each.type) if get_origin(each.type) is Literal else ()
            value = getattr(self, each.name)
            if choices and value not in choices:
                raise SettingsError(f"{each.name}: {value!r} is not one of {', '.join(choices)}")
        for origin in self.cors_origin:
            if not _ORIGIN.fullmatch(origin):
                raise SettingsError(
                    f"cors_origin: {origin!r} is not like https://app.example.com or capacitor://localhost"
                )
        if self.static is not None and not self.static.is_dir():
            raise SettingsError(f"static: {self.static} is not a directory")

    def _check_control(self) -> None:
        key = self.control_key
        if key is not None and (len(key) < _MIN_KEY_LENGTH or not key.isascii() or not key.isprintable()):
            raise SettingsError(f"control_key: give {_MIN_KEY_LENGTH} or more printable ASCII characters")
        for name in ("seed_calls", "snapshot", "clock", "fault"):
            if getattr(self, name) and self.workers > 1:
                raise SettingsError(f"{name}: several workers have no control API; set one worker")
            if getattr(self, name) and not self.has_control:
                raise SettingsError(f"{name}: control is off; see --control and --control-key")

    def _check_jwt(self) -> None:
        names = ("jwt_secret", "jwt_public_key", "jwt_jwks_url")
        keys = [name for name in names if getattr(self, name) is not None]
        if self.jwt_algorithm == "HS256":
            if keys not in ([], ["jwt_secret"]):
                raise SettingsError(
                    f"{keys[-1]}: HS256 takes only jwt_secret; set jwt_algorithm to RS256 or ES256"
                )
            if self.jwt_secret is not None and len(self.jwt_secret.encode()) < _MIN_SECRET_LENGTH:
                raise SettingsError(f"jwt_secret: shorter than {_MIN_SECRET_LENGTH} bytes; give a longer one")
        elif len(keys) != 1 or keys == ["jwt_secret"]:
            raise SettingsError(
                f"jwt_algorithm: {self.jwt_algorithm} takes either jwt_public_key or jwt_jwks_url"
            )
        elif self.jwt_jwks_url is not None and not _is_web_url(self.jwt_jwks_url):
            raise SettingsError("jwt_jwks_url: give an http or https URL")
        if self.jwt_user_claim in _RESERVED_CLAIMS:
            raise SettingsError(f"jwt_user_claim: {self.jwt_user_claim} has another meaning in JWTs")


def _is_web_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def without_credentials(url: str) -> str:
    """Return a URL without its user, password and query, which can be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def environment_variable(setting: "Field[Any]") -> str:
    """Return the environment variable of a field of `Settings`."""
    return setting.metadata["env"] or f"VIDEO_CALLS_SERVER_{setting.name.upper()}"


def setting_fields() -> "tuple[Field[Any], ...]":
    """Return the fields of `Settings`, in order."""
    return fields(Settings)


@lru_cache  # each request needs it, and parsing an address is slow
def is_loopback(text: str) -> bool | None:
    """Return whether an IP address is loopback, or None if the text is not an IP address.

    An IPv4 address inside an IPv6 address counts as the IPv4 address.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
