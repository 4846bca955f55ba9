"""How a stream of events connects, reconnects and delivers. No I/O.

`EventFlow.run` is a generator like `_operation_flow.carry_out`: it yields the next action and receives the
outcome of that action. The two streams perform the actions. This module decides where to connect, what a
close code means, when to reconnect, with which token, and after which event.

* If a connection is lost, or closed for a temporary reason, the flow reconnects after the last event that it
  delivered. The backoff is exponential with full jitter. `Retries` limit the first connection only.
* If the server refuses a token, or the token expires, the flow gets another token. It raises an error if it
  gets the same token again, or if the server refuses the new token too. The flow keeps a token as long as it
  is valid, so that it can reconnect without calling the token function.
* The flow delivers an event once, even if the server sends it twice.
"""

import logging
import time
from collections import deque
from collections.abc import Generator
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from video_calls_sdk._configuration import Options, default_headers
from video_calls_sdk._errors import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    EventsClosedError,
    EventsExpiredError,
    EventsNotOfferedError,
    InvalidEventIdError,
    RateLimitedError,
    ServerError,
    StatusError,
    VideoCallsError,
)
from video_calls_sdk._models import Event
from video_calls_sdk._operation_flow import (
    LONGEST_RETRY_AFTER,
    Authorize,
    OutOfTimeError,
    Sleep,
    connection_error,
)
from video_calls_sdk._redaction import sanitize
from video_calls_sdk._responses import Exchange, failure, success

logger = logging.getLogger("video_calls_sdk")

_LONGEST_WAIT = 30.0  # seconds between two connections
_MOST_DOUBLINGS = 16  # how often the wait doubles; it reaches its limit before
_STEADY = 5.0  # seconds; if a connection lasted longer, the backoff starts from the beginning
_MOST_REMEMBERED = 1000  # ids, to detect duplicates

_NORMAL, _ABNORMAL = 1000, 1006
_INVALID_ID, _TOKEN_REFUSED, _TOKEN_EXPIRED, _EVENTS_EXPIRED = 4400, 4401, 4402, 4410
_TEMPORARY = frozenset({_NORMAL, 1001, 1002, 1005, _ABNORMAL, 1011, 1012, 1013, 1014, 1015, 4408})
_NOT_OFFERED = frozenset({403, 404, 405, 426, 501})
_UNAUTHORIZED, _SWITCHING = 401, 101


class Connect(NamedTuple):
    """Open a WebSocket in place of the previous one. The outcome is one of the `Handshake…` classes."""

    url: str
    headers: dict[str, str]
    timeout: float | None


class Receive(NamedTuple):
    """Wait for a message. The outcome is its text or bytes, or a `CloseFrame`."""


class Deliver(NamedTuple):
    """Deliver an event to the caller."""

    event: Event


class HandshakeSuccess(NamedTuple):
    """The WebSocket is open.

    Attributes:
        last_event_id: the event after which the stream begins, if the server names it.
    """

    last_event_id: str | None


class HandshakeRefusal(NamedTuple):
    """The response to the handshake has a status other than 101."""

    status: int
    headers: httpx.Headers
    content: bytes


class HandshakeFailure(NamedTuple):
    """The handshake got no response."""

    error: Exception


class CloseFrame(NamedTuple):
    """The WebSocket was closed."""

    code: int
    reason: str


Task = Authorize | Connect | Receive | Sleep
Action = Task | Deliver
Handshake = HandshakeSuccess | HandshakeRefusal | HandshakeFailure
Disconnection = HandshakeRefusal | HandshakeFailure | CloseFrame

LOST: Final = CloseFrame(_ABNORMAL, "")
"""A connection that ended without a close frame."""


class EventFlow:
    """The stream of one user's events.

    Attributes:
        last_event_id: the id of the last event that was delivered; before the first, `after`.
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
        self._delivered: deque[str] = deque([] if after is None else [after], maxlen=_MOST_REMEMBERED)

    def run(self) -> Generator[Action, Any, None]:
        """Yield one action after the other, until an error that a reconnect cannot repair."""
        stale: str | None = None
        refusal: AuthenticationError | None = None
        refused_before = False
        while True:
            token = self._token_sent = yield from self._token(stale)
            if refusal is not None and token == stale:
                raise refusal
            outcome: Handshake | CloseFrame = yield self._connect(token)
            start, previous_event_id = time.monotonic(), self.last_event_id
            if isinstance(outcome, HandshakeSuccess):
                outcome = yield from self._receive(outcome)
            lasted = time.monotonic() - start
            if lasted > _STEADY or self.last_event_id != previous_event_id:
                self._failures, refused_before = 0, False
            _log(self._url, outcome)
            error, is_temporary = self._error(outcome)
            refusal = error if isinstance(error, AuthenticationError) else None
            if refusal is None:
                if not is_temporary:
                    raise error
                yield from self._wait(error)
                continue
            stale = token
            if is_temporary:  # the token has expired, so the server had accepted it before
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
            raise self._deadline_error() from None
        return token

    def _connect(self, token: str) -> Connect:
        # http becomes ws, and https becomes wss.
        url = f"ws{self._url.removeprefix('http')}"
        if self.last_event_id is not None:
            url = f"{url}?last_event_id={quote(self.last_event_id, safe='')}"
        agent = {"user-agent": default_headers()["user-agent"]}
        headers = {**agent, **self._options.headers, "authorization": f"Bearer {token}"}
        limits = [limit for limit in (self._options.timeout.connect, self._left()) if limit is not None]
        return Connect(url, headers, min(limits) if limits else None)

    def _receive(self, opened: HandshakeSuccess) -> Generator[Action, Any, CloseFrame]:
        self._connected = True
        if self.last_event_id is None:
            self.last_event_id = opened.last_event_id
        while True:
            message: str | bytes | CloseFrame = yield Receive()
            if isinstance(message, CloseFrame):
                return message
            content = message.encode() if isinstance(message, str) else message
            exchange = self._exchange(_SWITCHING, httpx.Headers(), content)
            event = success(exchange, Event, self._options.answers).data
            if event.id not in self._delivered:
                self._delivered.append(event.id)
                self.last_event_id = event.id
                yield Deliver(event)

    # -- Failures -----------------------------------------------------------------------------------

    def _error(self, outcome: Disconnection) -> tuple[VideoCallsError, bool]:
        """Return the error of an outcome, and whether the error is temporary."""
        if isinstance(outcome, HandshakeFailure):
            cause = outcome.error
            return connection_error("GET", self._url, cause, request_sent=False, token=self._token_sent), True
        if isinstance(outcome, HandshakeRefusal):
            return self._refusal_error(outcome)
        code, reason = outcome
        if code in {_TOKEN_REFUSED, _TOKEN_EXPIRED}:
            text = reason or "The token has expired" if code == _TOKEN_EXPIRED else reason
            return failure(
                self._exchange(_UNAUTHORIZED, httpx.Headers(), text.encode())
            ), code == _TOKEN_EXPIRED
        kind = {_INVALID_ID: InvalidEventIdError, _EVENTS_EXPIRED: EventsExpiredError}.get(
            code, EventsClosedError
        )
        message = sanitize(reason, self._token_sent)
        return kind(message, code=code, url=self._url, last_event_id=self.last_event_id), code in _TEMPORARY

    def _refusal_error(self, refusal: HandshakeRefusal) -> tuple[StatusError, bool]:
        status = refusal.status
        error = failure(self._exchange(*refusal))
        if status in _NOT_OFFERED or 200 <= status < 300:  # noqa: PLR2004 (a success without a WebSocket)
            message = f"no WebSocket for events here: {error.error}"
            response = {
                name: getattr(error, name) for name in ("method", "url", "request_id", "headers", "body")
            }
            return EventsNotOfferedError(message, status=status, **response), False
        return error, isinstance(error, RateLimitedError | ServerError)

    def _exchange(self, status: int, headers: httpx.Headers, content: bytes) -> Exchange:
        return Exchange(status, headers, content, None, "GET", self._url, "events", self._token_sent)

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
                raise self._deadline_error() from error
        yield Sleep(wait)

    def _left(self) -> float | None:
        """Return how many seconds the next action may take.

        The deadline limits the whole time to the first connection; later, it limits each action.
        """
        deadline = self._options.deadline
        if deadline is None or self._connected:
            return deadline
        return max(0.0, deadline - (time.monotonic() - self._began))

    def _deadline_error(self) -> DeadlineExceededError:
        deadline = self._options.deadline or 0.0
        return DeadlineExceededError(method="GET", url=self._url, deadline=deadline, request_sent=False)


def _log(url: str, outcome: Disconnection) -> None:
    if isinstance(outcome, CloseFrame):
        logger.info("GET %s: closed with %d", url, outcome.code)
    elif isinstance(outcome, HandshakeRefusal):
        logger.info("GET %s: %d", url, outcome.status)
    else:
        logger.info("GET %s: %s", url, type(outcome.error).__name__)
