"""What a client is given, checked before anything is sent. No I/O beyond reading the environment."""

import os
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import version
from typing import Final

import httpx

from video_calls._errors import ConfigurationError, NaiveDatetimeError
from video_calls._flow import Options, Retries


class NotGiven:
    """The type of `NOT_GIVEN`, which tells "not given" from None."""

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven()

DEFAULT_TIMEOUT = 10.0  # seconds without progress, per attempt
DEFAULT_DEADLINE = 60.0  # seconds, all attempts together


@cache
def own_headers() -> Mapping[str, str]:
    """The defaults of an httpx client of our own; a caller's has its own."""
    return {"accept": "application/json", "user-agent": f"video-calls-python/{version('video-calls')}"}


def base_url_of(given: str | None) -> str:
    """The root of the API, such as `https://api.example.com/api/v1/video`, without a final slash.

    Raises:
        ConfigurationError: there is none, or it is no absolute http or https URL.
    """
    value = given or os.environ.get("VIDEO_CALLS_BASE_URL")
    if not value:
        raise ConfigurationError("no base_url: give one, or set VIDEO_CALLS_BASE_URL")
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"base_url is not a URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError("base_url must be absolute, such as https://api.example.com/api/v1/video")
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError("base_url must have no credentials, query or fragment")
    return str(url).rstrip("/")


def token_of(given: str | None) -> str:
    """The JWT to send.

    Raises:
        ConfigurationError: there is none.
    """
    return checked_token(given or os.environ.get("VIDEO_CALLS_TOKEN") or "")


def checked_token(token: object) -> str:
    """A token that can stand in a header.

    Raises:
        ConfigurationError: it cannot. The token itself is not shown.
    """
    if not token:
        raise ConfigurationError(
            "no token: give one, or a function that returns one, or set VIDEO_CALLS_TOKEN"
        )
    if not isinstance(token, str) or not token.isascii() or any(character <= " " for character in token):
        raise ConfigurationError("the token is not a JWT: it holds spaces, line ends or other than ASCII")
    return token


def options_of(
    *,
    base_url: str,
    timeout: float | httpx.Timeout,
    deadline: float | None,
    retries: Retries | int,
    headers: Mapping[str, str] | None,
) -> Options:
    """The options of a new client."""
    return Options(base_url, timeout, checked_deadline(deadline), retries_of(retries), lower(headers))


def retries_of(retries: Retries | int) -> Retries:
    """A policy, from itself or from the number of attempts."""
    return Retries(attempts=retries) if isinstance(retries, int) else retries


def checked_deadline(deadline: float | None) -> float | None:
    """A deadline in seconds.

    Raises:
        ConfigurationError: it is not positive.
    """
    if deadline is not None and deadline <= 0:
        raise ConfigurationError(f"deadline must be a positive number of seconds or None, not {deadline}")
    return deadline


def lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers under names in lower case, so that one replaces another however it is written.

    Raises:
        ConfigurationError: one is `Authorization`, which `token` sets.
    """
    found = {name.lower(): value for name, value in (headers or {}).items()}
    if "authorization" in found:
        raise ConfigurationError("give the token as `token`, not as a header")
    return found


def aware(time: datetime) -> datetime:
    """A time with an offset.

    Raises:
        NaiveDatetimeError: it has none.
    """
    if time.tzinfo is None or time.utcoffset() is None:
        raise NaiveDatetimeError(
            f"scheduled_time {time.isoformat()} has no time zone; give an aware datetime, "
            "such as datetime.now(timezone.utc) + timedelta(hours=1)"
        )
    return time
