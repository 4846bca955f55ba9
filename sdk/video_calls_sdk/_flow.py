"""How an operation is carried out, without doing any of it.

`carry_out` is a generator: it yields what is to be done next (`Authorize`, `Send`, `Sleep`), is sent what
came of it (or has the failure thrown in), and returns the answer. The two clients are the loops that do what
it says, one blocking, one not; every decision on retries, tokens, deadlines and doubtful outcomes is here.

What is doubtful: a request that was sent and not answered, or answered with a 5xx, may have been acted on. It
is never repeated blindly:

* `get`, `list` and `join` may be repeated, for they do the same each time.
* `create` carries one `Idempotency-Key` through all attempts, and where a repeated one is refused, for a
  conflict as a rule, the conflicting call may be the very one that it made: it is looked for, and returned.
* `end` and `cancel`, refused when repeated, read the call: where it is as wanted, that is the answer.

Any refusal may be the echo of what was done (a call that has begun by now can no longer be scheduled, and
backends have words of their own), so each with one of `_SETTLED` is looked into. Where looking fails, its
failure is raised and not the refusal, which may be untrue.
"""

import logging
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
from pydantic import BaseModel
from video_calls_spec.bodies import ACCEPTED_CODING
from video_calls_spec.retry_after import http_date

from video_calls_sdk._answers import Answer, Answers, APIResponse, failure, success
from video_calls_sdk._errors import (
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    StatusError,
    TimedOutError,
    VideoCallsError,
)
from video_calls_sdk._ids import Id, checked_id, same_id
from video_calls_sdk._models import CallStatus, VideoCall, VideoCallPage
from video_calls_sdk._redaction import shown

logger = logging.getLogger("video_calls_sdk")

Model = TypeVar("Model", bound=BaseModel)

_RETRIED = frozenset({429, 502, 503, 504})
_SETTLED = frozenset({400, 409, 422})
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_UNAUTHORIZED = 401
LONGEST_RETRY_AFTER = 86_400.0  # seconds; a later time is for the caller to wait for
_CLOCK_TOLERANCE = timedelta(seconds=2)  # of `created_at` against `Date`: stored in whole seconds, perhaps
_STORED_PRECISION = timedelta(seconds=1)  # backends keep times in milliseconds, or in seconds
_LARGEST_PAGE = "100"
_NONE: Mapping[str, str] = MappingProxyType({})

DEFAULT_TIMEOUT = 10.0  # seconds without progress, per attempt
DEFAULT_DEADLINE = 60.0  # seconds, all attempts together


@dataclass(frozen=True, slots=True)
class Retries:
    """When and how often a request is tried again.

    Tried again are connection failures and the statuses 429, 502, 503 and 504; waits are exponential with
    full jitter, and not shorter than a `Retry-After`.

    Attributes:
        attempts: how often at most after the first time; 0 turns retries off.
        first_wait: the longest wait before the first retry, in seconds; it doubles with each.
        longest_wait: the longest wait before any retry, in seconds.
    """

    attempts: int = 4
    first_wait: float = 0.25
    longest_wait: float = 8.0

    def wait(self, attempt: int) -> float:
        """A wait before the retry after this attempt, counted from 1, in seconds."""
        longest = min(self.longest_wait, self.first_wait * 2 ** (attempt - 1))
        return random.uniform(0, longest)  # noqa: S311 (spreads load; hides nothing)


class Options(NamedTuple):
    """What holds for each request of a client."""

    base_url: str
    timeout: float | httpx.Timeout = DEFAULT_TIMEOUT
    deadline: float | None = DEFAULT_DEADLINE
    retries: Retries = Retries()
    headers: Mapping[str, str] = _NONE
    answers: Answers = "strict"


class Request(NamedTuple, Generic[Model]):
    """One operation of the contract, with what it is given."""

    operation: str
    method: str
    path: str
    model: type[Model]
    query: Mapping[str, str] = _NONE
    content: bytes | None = None
    headers: Mapping[str, str] = _NONE
    wanted: "Wanted | None" = None


class Wanted(NamedTuple):
    """What the server holds if a doubtful request was acted on: a new call, or a call in a status."""

    doctor: Id = 0
    patient: Id = 0
    scheduled_time: datetime | None = None
    call_id: Id = 0
    status: CallStatus = CallStatus.SCHEDULED


class Authorize(NamedTuple):
    """Get a token; another than `stale`, where that is not None."""

    stale: str | None
    seconds: float | None
    """How long it may take; None for as long as it takes."""


class Send(NamedTuple):
    """Send a request and read its answer."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes | None
    timeout: httpx.Timeout
    seconds: float | None
    """How long sending and reading may take together; None for as long as it takes."""


class Received(NamedTuple):
    """What came of `Send`."""

    status: int
    headers: httpx.Headers
    content: bytes
    problem: str | None = None
    """Why `content` is not the whole body."""


class Sleep(NamedTuple):
    """Wait so many seconds."""

    seconds: float


class OutOfTimeError(Exception):
    """Thrown in where the `seconds` of an action have passed."""


Action = Authorize | Send | Sleep
Flow = Generator[Action, Any, APIResponse[Model]]


class _Clock:
    """How much of the deadline is left."""

    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self.began = time.monotonic()

    def passed(self) -> float:
        return time.monotonic() - self.began

    def left(self) -> float | None:
        return None if self.deadline is None else self.deadline - self.passed()

    def allows(self, wait: float) -> bool:
        left = self.left()
        return left is None or wait < left


def carry_out(  # noqa: C901, PLR0912, PLR0915 (one attempt, as it comes to a person's mind; its parts are functions)
    request: Request[Model], options: Options, clock: _Clock | None = None
) -> Flow[Model]:
    """Carry out an operation; see the module's docstring."""
    clock = clock or _Clock(options.deadline)
    url = f"{options.base_url}{request.path}"
    target = f"{url}?{urlencode(request.query)}" if request.query else url
    doubtful = False
    token = yield from _token(None, request, options, clock, doubtful)
    refreshed = False
    attempt = 1
    while True:
        left = clock.left()
        if left is not None and left <= 0:
            raise _too_late(request, options, doubtful)
        headers = {
            "accept-encoding": ACCEPTED_CODING,
            **options.headers,
            **request.headers,
            "authorization": f"Bearer {token}",
        }
        error: VideoCallsError
        try:
            received: Received = yield Send(
                request.method, target, headers, request.content, _within(options.timeout, left), left
            )
        except OutOfTimeError:
            raise _too_late(request, options, sent=True) from None
        except httpx.RequestError as failed:
            if isinstance(failed, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
                raise ConfigurationError(f"the request cannot be sent: {failed}") from failed
            doubtful = doubtful or not isinstance(failed, _UNSENT)
            error = _no_answer(request, url, failed, doubtful, token)
            wait = options.retries.wait(attempt)
            _log(request, url, attempt, type(failed).__name__)
        else:
            answer = Answer(*received[:3], request.method, url, request.operation, token, received.problem)
            _log(request, url, attempt, answer.status, answer)
            if 200 <= answer.status < 300:  # noqa: PLR2004 (the successes)
                return success(answer, request.model, options.answers)
            error = refusal = failure(answer)
            if answer.status == _UNAUTHORIZED and not refreshed:
                refreshed = True
                stale, token = token, (yield from _token(token, request, options, clock, doubtful))
                if token != stale:
                    continue
            if doubtful and answer.status in _SETTLED:
                settled = yield from _settle(request, options, clock, refusal)
                if settled is not None:
                    return settled
            refusal.doubtful = doubtful and request.method != "GET" and answer.status not in _SETTLED
            if answer.status not in _RETRIED:
                raise error
            doubtful = doubtful or answer.status >= 500  # noqa: PLR2004 (a proxy's answer, perhaps)
            wait = max(options.retries.wait(attempt), refusal.retry_after or 0.0)
        spent = attempt > options.retries.attempts or wait > LONGEST_RETRY_AFTER
        if spent or not clock.allows(wait):
            if isinstance(error, StatusError) or (spent and clock.allows(0)):
                raise error
            raise _too_late(request, options, doubtful) from error
        yield Sleep(wait)
        attempt += 1


def _token(
    stale: str | None, request: Request[Any], options: Options, clock: _Clock, doubtful: bool
) -> Generator[Action, Any, str]:
    try:
        token: str = yield Authorize(stale, clock.left())
    except OutOfTimeError:
        raise _too_late(request, options, doubtful) from None
    return token


def _settle(
    request: Request[Model], options: Options, clock: _Clock, refusal: StatusError
) -> Generator[Action, Any, APIResponse[Model] | None]:
    """What a doubtful request has done after all, where the server refuses it the second time."""
    wanted = request.wanted
    if wanted is None:
        return None
    found: APIResponse[VideoCall] | None
    try:
        if wanted.scheduled_time is not None:
            found = yield from _made_call(
                wanted, wanted.scheduled_time, options, clock, _since(clock, refusal)
            )
        else:
            read = yield from carry_out(get_call(wanted.call_id), options, clock)
            found = read if read.data.status == wanted.status else None
    except DeadlineExceededError:
        raise _too_late(request, options, sent=True) from refusal
    except VideoCallsError as error:
        error.add_note(f"whether an earlier attempt was carried out is unknown; a later one got: {refusal}")
        if isinstance(error, ConnectionFailedError):
            error.request_sent = True
        raise
    return found  # type: ignore[return-value]  # only requests for a VideoCall say what they want


def _made_call(
    wanted: Wanted, scheduled_time: datetime, options: Options, clock: _Clock, since: datetime
) -> Generator[Action, Any, APIResponse[VideoCall] | None]:
    """The call that was wanted, made since then, and still in the way of another."""
    query: Mapping[str, str] | None = {"page_size": _LARGEST_PAGE}
    asked: list[Mapping[str, str]] = []
    while query is not None and query not in asked:
        asked.append(query)
        page = yield from carry_out(list_calls(query), options, clock)
        for call in page.data.results:
            if (
                same_id(call.doctor, wanted.doctor)
                and same_id(call.patient, wanted.patient)
                and abs(call.scheduled_time - scheduled_time) < _STORED_PRECISION
                and call.created_at >= since
                and call.status not in {CallStatus.COMPLETED, CallStatus.CANCELLED}
            ):
                return APIResponse(call, status=page.status, headers=page.headers)
        try:
            query = next_query(page.data.next)
        except ValueError:
            query = None
    return None


def _since(clock: _Clock, refusal: StatusError) -> datetime:
    """Return when this operation began, by the server's clock."""
    now = http_date(refusal.headers.get("date", "")) or datetime.now(UTC)
    return now - timedelta(seconds=clock.passed()) - _CLOCK_TOLERANCE


# -- Requests ---------------------------------------------------------------------------------------


def get_call(call_id: Id) -> Request[VideoCall]:
    """The request of `getVideoCall`."""
    return Request("getVideoCall", "GET", f"/video-calls/{checked_id('id', call_id)}/", VideoCall)


def list_calls(query: Mapping[str, str]) -> Request[VideoCallPage]:
    """The request of `listVideoCalls`."""
    return Request("listVideoCalls", "GET", "/video-calls/", VideoCallPage, query=query)


def next_query(url: str | None) -> Mapping[str, str] | None:
    """The query of another page; None where there is none. Raises ValueError where it is no URL.

    Only the query is taken: whatever host and path a proxy lets a backend write, the next request goes to the
    client's own, and so does its token.
    """
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)) if url else None


# -- Failures ---------------------------------------------------------------------------------------


def reason_of(failed: Exception, token: str) -> str:
    """Return what a failed connection says, safe to show: it may quote what the server sent."""
    reason: str = shown(str(failed) or type(failed).__name__, token)
    return reason


def safe_cause(failed: Exception, token: str) -> Exception | None:
    """The failure to chain an error to; None if its own text is not safe to show."""
    return failed if str(failed) in {"", reason_of(failed, token)} else None


def _no_answer(
    request: Request[Any], url: str, failed: httpx.RequestError, sent: bool, token: str
) -> ConnectionFailedError:
    kind = TimedOutError if isinstance(failed, httpx.TimeoutException) else ConnectionFailedError
    error = kind(
        f"{request.method} {url}: {reason_of(failed, token)}",
        method=request.method,
        url=url,
        request_sent=sent,
    )
    error.__cause__ = safe_cause(failed, token)
    return error


def _too_late(request: Request[Any], options: Options, sent: bool) -> DeadlineExceededError:
    url = f"{options.base_url}{request.path}"
    return DeadlineExceededError(
        method=request.method, url=url, deadline=options.deadline or 0.0, request_sent=sent
    )


def _within(timeout: float | httpx.Timeout, left: float | None) -> httpx.Timeout:
    """The timeout of an attempt, no phase of it longer than what is left of the deadline."""
    whole = timeout if isinstance(timeout, httpx.Timeout) else httpx.Timeout(timeout)
    limits = whole.as_dict()
    if left is None or all(limit is not None and limit <= left for limit in limits.values()):
        return whole
    return httpx.Timeout(
        **{name: left if limit is None else min(limit, left) for name, limit in limits.items()}
    )


def _log(
    request: Request[Any], url: str, attempt: int, outcome: object, answer: Answer | None = None
) -> None:
    if logger.isEnabledFor(logging.INFO):
        request_id = answer and answer.request_id
        words = "%s %s: %s (attempt %d, request id %s)"
        logger.info(words, request.method, url, outcome, attempt, request_id)
