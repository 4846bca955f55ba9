"""How events are followed, without doing any of it.

`Following.run` is a generator, as `_flow.carry_out` is: it yields what is to be done next and is sent what
came of it. The two streams are the loops that do what it says; where to connect and with what, what a close
code means, when to come back, from which event and with which token is decided here.

* A connection that is lost, or closed for a passing reason, is made again from the last event that was told.
  Waits are exponential with full jitter. The first connection is tried as often as a request is; once there
  has been one, it is tried for ever.
* A token that is refused, or has expired, is asked for again; the same one, or another refusal at once, is
  an error. A token that holds is kept, so that a lost connection needs nobody else to be there.
* An event that comes twice is told once.
"""

import logging
import time
from collections import deque
from collections.abc import Generator
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from video_calls_sdk._answers import Answer, failure, success
from video_calls_sdk._configuration import own_headers
from video_calls_sdk._errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    EventsClosedError,
    EventsExpiredError,
    EventsNotOfferedError,
    InvalidEventIdError,
    StatusError,
    TimedOutError,
    VideoCallsError,
)
from video_calls_sdk._flow import (
    LONGEST_RETRY_AFTER,
    Authorize,
    Options,
    OutOfTimeError,
    Sleep,
    reason_of,
    safe_cause,
)
from video_calls_sdk._models import Event
from video_calls_sdk._redaction import shown

logger = logging.getLogger("video_calls_sdk")

CLOSE_TIMEOUT = 0.5
"""Seconds that the other end may take to say goodbye; nothing that it could still say is waited for."""

LARGEST_MESSAGE = 2**20
"""Bytes of a message; an event has few thousand."""

_LONGEST_WAIT = 30.0  # seconds between two connections
_MOST_DOUBLINGS = 16  # of a wait; by then it is the longest
_STEADY = 5.0  # seconds after which a connection is no failed attempt
_REMEMBERED = 1000  # events that are known when they come again

_NORMAL, _ABNORMAL = 1000, 1006
_INVALID_ID, _REFUSED, _EXPIRED, _GONE = 4400, 4401, 4402, 4410
_PASSING = frozenset({_NORMAL, 1001, 1002, 1005, _ABNORMAL, 1011, 1012, 1013, 1014, 1015, 4408})
_NOT_OFFERED = frozenset({403, 404, 405, 426, 501})
_UNAUTHORIZED, _TOO_MANY, _SWITCHING = 401, 429, 101


class Connect(NamedTuple):
    """Open a WebSocket in place of the one before; answered by `Opened`, `Refused` or `Failed`."""

    url: str
    headers: dict[str, str]
    timeout: float | None


class Receive(NamedTuple):
    """Wait for a message; answered by its text or bytes, or `Closed`."""


class Tell(NamedTuple):
    """Give an event to whom it is for."""

    event: Event


class Opened(NamedTuple):
    """The WebSocket is open.

    Attributes:
        last_event_id: the event after which it begins, where the server said so.
    """

    last_event_id: str | None


class Refused(NamedTuple):
    """The handshake was answered with another status than 101."""

    status: int
    headers: httpx.Headers
    content: bytes


class Failed(NamedTuple):
    """The handshake was not answered."""

    error: Exception


class Closed(NamedTuple):
    """The WebSocket is closed."""

    code: int
    reason: str


Task = Authorize | Connect | Receive | Sleep
Action = Task | Tell
Outcome = Refused | Failed | Closed


LOST: Final = Closed(_ABNORMAL, "")
"""A WebSocket that ended without a word."""


class Quiet(logging.LoggerAdapter[logging.Logger]):
    """The log of the WebSocket library without its lowest level, on which it shows the token."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 (as logging has it)
        """Whether it logs on this level."""
        return level > logging.DEBUG and super().isEnabledFor(level)


QUIET: Final = Quiet(logging.getLogger("video_calls_sdk.websocket"), {})


class Following:
    """One user's events from one place on.

    Attributes:
        last_event_id: of the event told last, or the place to begin after.
    """

    def __init__(self, options: Options, after: str | None) -> None:
        if after is not None and not (isinstance(after, str) and after):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"after must be the id of an event, a str, not {after!r}")
        self.last_event_id = after
        self._options = options
        self._url = f"{options.base_url}/events/"
        self._began = time.monotonic()
        self._token_sent = ""
        self._connected = False
        self._failures = 0
        self._told: deque[str] = deque([] if after is None else [after], maxlen=_REMEMBERED)

    def run(self) -> Generator[Action, Any, None]:
        """Follow without end."""
        stale: str | None = None
        refusal: AuthenticationError | None = None
        refused_before = False
        while True:
            token = self._token_sent = yield from self._token(stale)
            if refusal is not None and token == stale:
                raise refusal
            outcome: Outcome | Opened = yield self._connect(token)
            opened, told = time.monotonic(), self.last_event_id
            if isinstance(outcome, Opened):
                outcome = yield from self._receive(outcome)
            lasted = time.monotonic() - opened
            if lasted > _STEADY or self.last_event_id != told:
                self._failures, refused_before = 0, False
            _log(self._url, outcome)
            error, passing = self._meaning(outcome)
            refusal = error if isinstance(error, AuthenticationError) else None
            if refusal is None:
                if not passing:
                    raise error
                yield from self._wait(error)
                continue
            stale = token
            if passing:  # it did hold
                refused_before = False
                if lasted < 1:
                    yield from self._wait(error)
            elif refused_before:
                raise refusal
            else:
                refused_before = True

    def _token(self, stale: str | None) -> Generator[Action, Any, str]:
        try:
            token: str = yield Authorize(stale, self._left())
        except OutOfTimeError:
            raise self._too_late() from None
        return token

    def _connect(self, token: str) -> Connect:
        # The scheme is http or https; the user agent is the client's own where none was given.
        url = f"ws{self._url.removeprefix('http')}"
        if self.last_event_id is not None:
            url = f"{url}?last_event_id={quote(self.last_event_id, safe='')}"
        agent = {"user-agent": own_headers()["user-agent"]}
        headers = {**agent, **self._options.headers, "authorization": f"Bearer {token}"}
        timeout, left = self._options.timeout, self._left()
        limit = timeout.connect if isinstance(timeout, httpx.Timeout) else timeout
        limits = [seconds for seconds in (limit, left) if seconds is not None]
        return Connect(url, headers, min(limits) if limits else None)

    def _receive(self, opened: Opened) -> Generator[Action, Any, Closed]:
        self._connected = True
        if self.last_event_id is None:
            self.last_event_id = opened.last_event_id
        while True:
            message: str | bytes | Closed = yield Receive()
            if isinstance(message, Closed):
                return message
            content = message.encode() if isinstance(message, str) else message
            answer = self._answer(_SWITCHING, httpx.Headers(), content)
            event = success(answer, Event, self._options.answers).data
            if event.id not in self._told:
                self._told.append(event.id)
                self.last_event_id = event.id
                yield Tell(event)

    # -- Failures -----------------------------------------------------------------------------------

    def _meaning(self, outcome: Outcome) -> tuple[VideoCallsError, bool]:
        """The error that an outcome stands for, and whether it may be otherwise the next time."""
        if isinstance(outcome, Failed):
            return self._no_answer(outcome.error), True
        if isinstance(outcome, Refused):
            return self._refusal(outcome)
        code, reason = outcome
        if code in {_REFUSED, _EXPIRED}:
            words = reason or "The token has expired" if code == _EXPIRED else reason
            return failure(self._answer(_UNAUTHORIZED, httpx.Headers(), words.encode())), code == _EXPIRED
        kind = {_INVALID_ID: InvalidEventIdError, _GONE: EventsExpiredError}.get(code, EventsClosedError)
        words = shown(reason, self._token_sent)
        return kind(words, code=code, url=self._url, last_event_id=self.last_event_id), code in _PASSING

    def _refusal(self, refused: Refused) -> tuple[StatusError, bool]:
        status = refused.status
        error = failure(self._answer(*refused))
        if status in _NOT_OFFERED or 200 <= status < 300:  # noqa: PLR2004 (an answer, and no WebSocket)
            words = f"no WebSocket for events here: {error.error}"
            answer = {
                name: getattr(error, name) for name in ("method", "url", "request_id", "headers", "body")
            }
            return EventsNotOfferedError(words, status=status, **answer), False
        return error, status == _TOO_MANY or status >= 500  # noqa: PLR2004 (the server's errors)

    def _answer(self, status: int, headers: httpx.Headers, content: bytes) -> Answer:
        return Answer(status, headers, content, "GET", self._url, "events", self._token_sent)

    def _no_answer(self, failed: Exception) -> ConnectionFailedError:
        kind = TimedOutError if isinstance(failed, TimeoutError) else ConnectionFailedError
        reason = reason_of(failed, self._token_sent)
        error = kind(f"GET {self._url}: {reason}", method="GET", url=self._url, request_sent=False)
        error.__cause__ = safe_cause(failed, self._token_sent)
        return error

    def _wait(self, error: VideoCallsError) -> Generator[Action, Any, None]:
        self._failures += 1
        retries = self._options.retries
        if self._connected:
            retries = replace(retries, longest_wait=_LONGEST_WAIT)
        wait = retries.wait(min(self._failures, _MOST_DOUBLINGS))
        if isinstance(error, StatusError):
            wait = max(wait, min(error.retry_after or 0.0, LONGEST_RETRY_AFTER))
        left = self._left()
        if not self._connected:
            if self._failures > retries.attempts:
                raise error
            if left is not None and wait >= left:
                raise self._too_late() from error
        yield Sleep(wait)

    def _left(self) -> float | None:
        """What is left of the deadline, which is for the first connection, and for a token after it."""
        deadline = self._options.deadline
        if deadline is None or self._connected:
            return deadline
        return max(0.0, deadline - (time.monotonic() - self._began))

    def _too_late(self) -> DeadlineExceededError:
        deadline = self._options.deadline or 0.0
        return DeadlineExceededError(method="GET", url=self._url, deadline=deadline, request_sent=False)


def _log(url: str, outcome: Outcome) -> None:
    if isinstance(outcome, Closed):
        logger.info("GET %s: closed with %d", url, outcome.code)
    elif isinstance(outcome, Refused):
        logger.info("GET %s: %d", url, outcome.status)
    else:
        logger.info("GET %s: %s", url, type(outcome.error).__name__)
