"""What a client is given, checked before anything is sent. No I/O beyond reading the environment."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any, Final, get_args

import httpx

from video_calls_sdk._answers import Answers
from video_calls_sdk._errors import ConfigurationError, NaiveDatetimeError
from video_calls_sdk._flow import Options, Retries


class NotGiven:
    """The type of `NOT_GIVEN`, which tells "not given" from None."""

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven()


@cache
def own_headers() -> Mapping[str, str]:
    """The defaults of an httpx client of our own; a caller's has its own."""
    return {"accept": "application/json", "user-agent": f"video-calls-python/{version('video-calls')}"}


def base_url_of(given: str | None) -> str:
    """The root of the API, such as `https://api.example.com/api/v1/video`, without a final slash.

    Raises:
        ConfigurationError: there is none, or it is no absolute http or https URL.
    """
    value = os.environ.get("VIDEO_CALLS_BASE_URL") if given is None else given
    if not value or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
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
    return checked_token(os.environ.get("VIDEO_CALLS_TOKEN") if given is None else given)


def checked_token(token: object) -> str:
    """A token that can stand in a header.

    Raises:
        ConfigurationError: it cannot. The token itself is not shown.
    """
    if not token:
        raise ConfigurationError(
            "no token: give one, or a function that returns one, or set VIDEO_CALLS_TOKEN"
        )
    if not isinstance(token, str):
        raise ConfigurationError(f"the token must be a str, not {type(token).__name__}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError("the token is not a JWT: it holds spaces, line ends or other than ASCII")
    return token


def changed(
    options: Options,
    *,
    timeout: float | httpx.Timeout | NotGiven,
    deadline: float | NotGiven | None,
    retries: Retries | int | NotGiven,
    headers: Mapping[str, str] | None,
    answers: Answers | NotGiven,
) -> Options:
    """Return options with these in place of the former ones, and with these headers added.

    Raises:
        ConfigurationError: if one of them cannot be used.
    """
    changes: dict[str, Any] = {"headers": {**options.headers, **lower(headers)}}
    if not isinstance(timeout, NotGiven):
        changes["timeout"] = checked_timeout(timeout)
    if not isinstance(deadline, NotGiven):
        changes["deadline"] = checked_deadline(deadline)
    if not isinstance(retries, NotGiven):
        changes["retries"] = retries_of(retries)
    if not isinstance(answers, NotGiven):
        changes["answers"] = checked_answers(answers)
    return options._replace(**changes)


def checked_answers(answers: Answers) -> Answers:
    """Return how answers are read.

    Raises:
        ConfigurationError: if it is neither of the two.
    """
    if answers not in get_args(Answers):
        raise ConfigurationError(f"answers must be 'strict' or 'lenient', not {answers!r}")
    return answers


def retries_of(retries: Retries | int) -> Retries:
    """A policy, from itself or from how often to try again.

    Raises:
        ConfigurationError: it is neither.
    """
    policy = Retries(attempts=retries) if isinstance(retries, int) else retries
    if not isinstance(policy, Retries) or policy.attempts < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"retries must be Retries or a whole number from 0 on, not {retries!r}")
    return policy


def checked_deadline(deadline: float | None) -> float | None:
    """A deadline in seconds.

    Raises:
        ConfigurationError: it is not positive.
    """
    if deadline is not None and not (isinstance(deadline, int | float) and deadline > 0):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"deadline must be a positive number of seconds or None, not {deadline!r}")
    return deadline


def lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers under names in lower case, so that one replaces another however it is written.

    Raises:
        ConfigurationError: one cannot be sent, or is `Authorization`, which `token` sets.
    """
    found = {name.lower(): value for name, value in (headers or {}).items()}
    if "authorization" in found:
        raise ConfigurationError("give the token as `token`, not as a header")
    for name, value in found.items():
        usable = isinstance(value, str) and value.isascii() and value.isprintable()  # pyright: ignore[reportUnnecessaryIsInstance]
        if not usable or name in {"content-length", "transfer-encoding"}:
            raise ConfigurationError(f"the header {name} cannot be sent")  # its value may be a secret
    return found


def checked_timeout(timeout: float | httpx.Timeout) -> float | httpx.Timeout:
    """A timeout in seconds, or httpx's own.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(timeout, httpx.Timeout) or (isinstance(timeout, int | float) and timeout > 0):  # pyright: ignore[reportUnnecessaryIsInstance]
        return timeout
    raise ConfigurationError(
        f"timeout must be a positive number of seconds or an httpx.Timeout, not {timeout!r}"
    )


def aware(time: datetime) -> datetime:
    """A time with an offset, in UTC.

    Raises:
        NaiveDatetimeError: it has none.
        ConfigurationError: it is no datetime, or beyond what UTC can tell.
    """
    if not isinstance(time, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise ConfigurationError(f"scheduled_time must be a datetime, not {type(time).__name__}")
    if time.utcoffset() is None:
        raise NaiveDatetimeError(
            f"scheduled_time {time.isoformat()} has no time zone; give an aware datetime, "
            "such as datetime.now(timezone.utc) + timedelta(hours=1)"
        )
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ConfigurationError(f"scheduled_time {time.isoformat()} is out of range") from error
