"""The options of a client, checked before anything is sent. No I/O beyond reading the environment."""

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_args

import httpx
from video_calls_spec.bodies import ACCEPTED_CODING

from video_calls_sdk._errors import ConfigurationError
from video_calls_sdk._responses import Answers

DEFAULT_TIMEOUT = 10.0  # seconds without progress, per attempt
DEFAULT_DEADLINE = 60.0  # seconds, all attempts together

EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
"""The default of headers and queries."""


class NotGiven:
    """The type of `NOT_GIVEN`. None is a value of some options, so it cannot be the default."""

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven()


@dataclass(frozen=True, slots=True)
class Retries:
    """When and how often a request is sent again.

    The client retries after connection failures and after the statuses 429, 502, 503 and 504. The backoff is
    exponential with full jitter, and not shorter than a `Retry-After`.

    Attributes:
        attempts: how many retries at most; 0 turns retries off.
        first_wait: the longest wait before the first retry, in seconds; it doubles with each retry.
        longest_wait: the longest wait before any retry, in seconds.
    """

    attempts: int = 4
    first_wait: float = 0.25
    longest_wait: float = 8.0

    def wait(self, attempt: int) -> float:
        """Return a random wait before the retry after this attempt, counted from 1, in seconds."""
        longest = min(self.longest_wait, self.first_wait * 2 ** (attempt - 1))
        return random.uniform(0, longest)  # noqa: S311 (spreads load; hides nothing)


class Options(NamedTuple):
    """The options with which a client sends its requests."""

    base_url: str
    timeout: httpx.Timeout = httpx.Timeout(DEFAULT_TIMEOUT)
    deadline: float | None = DEFAULT_DEADLINE
    retries: Retries = Retries()
    headers: Mapping[str, str] = EMPTY
    answers: Answers = "strict"

    def replace(
        self,
        *,
        headers: Mapping[str, str] | None,
        **values: Any,  # noqa: ANN401 (the client declares their types, and the functions below check them)
    ) -> "Options":
        """Return options with these values, and with these headers added.

        Raises:
            ConfigurationError: if a value cannot be used.
        """
        changes = {name: _CHECKS[name](value) for name, value in values.items() if value is not NOT_GIVEN}
        return self._replace(headers={**self.headers, **_checked_headers(headers)}, **changes)


@cache
def default_headers() -> Mapping[str, str]:
    """Return the headers that the SDK's own httpx clients send with every request."""
    return {
        "accept": "application/json",
        "accept-encoding": ACCEPTED_CODING,
        "user-agent": f"video-calls-python/{version('video-calls')}",
    }


def checked_base_url(base_url: str | None) -> str:
    """Return the root of the API without a final slash, by default from the environment.

    Raises:
        ConfigurationError: if it is missing, or is not an absolute http or https URL.
    """
    value = os.environ.get("VIDEO_CALLS_BASE_URL") if base_url is None else base_url
    if not value or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError("base_url is missing: pass it, or set VIDEO_CALLS_BASE_URL")
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"base_url is not a URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError("base_url must be absolute, such as https://api.example.com/api/v1/video")
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError("base_url must have no credentials, query or fragment")
    return str(url).rstrip("/")


def static_token(token: str | None) -> str:
    """Return the JWT to send, by default from the environment.

    Raises:
        ConfigurationError: if it is missing, or cannot be sent.
    """
    return checked_token(os.environ.get("VIDEO_CALLS_TOKEN") if token is None else token)


def checked_token(token: object) -> str:
    """Return the token after a check that a header can carry it.

    Raises:
        ConfigurationError: if the token is missing, or cannot be sent. The message does not show it.
    """
    if not token:
        raise ConfigurationError(
            "the token is missing: pass it, or a function that returns it, or set VIDEO_CALLS_TOKEN"
        )
    if not isinstance(token, str):
        raise ConfigurationError(f"the token must be a str, not {type(token).__name__}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            "the token is not a JWT: a JWT has no spaces, line ends or non-ASCII characters"
        )
    return token


def _checked_answers(answers: Answers) -> Answers:
    if answers not in get_args(Answers):
        raise ConfigurationError(f"answers must be 'strict' or 'lenient', not {answers!r}")
    return answers


def _checked_retries(retries: Retries | int) -> Retries:
    policy = Retries(attempts=retries) if isinstance(retries, int) else retries
    if not isinstance(policy, Retries) or policy.attempts < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"retries must be a Retries or an integer of 0 or more, not {retries!r}")
    return policy


def _checked_deadline(deadline: float | None) -> float | None:
    if deadline is not None and not (isinstance(deadline, int | float) and deadline > 0):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"deadline must be a positive number of seconds or None, not {deadline!r}")
    return deadline


def _checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return headers with names in lower case, so that `X-A` replaces `x-a`."""
    lowercase = {name.lower(): value for name, value in (headers or {}).items()}
    if "authorization" in lowercase:
        raise ConfigurationError("pass the token as `token`, not as a header")
    for name, value in lowercase.items():
        usable = isinstance(value, str) and value.isascii() and value.isprintable()  # pyright: ignore[reportUnnecessaryIsInstance]
        if not usable or name in {"content-length", "transfer-encoding"}:
            raise ConfigurationError(f"the header {name} cannot be sent")  # not its value: it may be a secret
    return lowercase


def _checked_timeout(timeout: float | httpx.Timeout) -> httpx.Timeout:
    if isinstance(timeout, httpx.Timeout):
        return timeout
    if isinstance(timeout, int | float) and timeout > 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        return httpx.Timeout(timeout)
    raise ConfigurationError(
        f"timeout must be a positive number of seconds or an httpx.Timeout, not {timeout!r}"
    )


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "timeout": _checked_timeout,
    "deadline": _checked_deadline,
    "retries": _checked_retries,
    "answers": _checked_answers,
}
