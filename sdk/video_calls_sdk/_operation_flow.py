"""How an operation is carried out: retries, tokens, deadlines and doubtful outcomes. No I/O.

`carry_out` is a generator. It yields the next action (`Authorize`, `Send` or `Sleep`). A driver performs the
action, and sends its result or throws its error into the generator. In the end the generator returns the
response. There is a synchronous and an asynchronous driver; neither decides anything.

A request is doubtful if the client sent it and got no response, or a 5xx: the server may have carried it out.
The flow never repeats such a request blindly:

* `get`, `list` and `join` may be repeated, because a repeat does no harm.
* `create` sends one `Idempotency-Key` in all attempts. If the server refuses a repeat, usually because of a
  conflict, an earlier attempt may have created the conflicting call. The flow looks for it and returns it.
* `end` and `cancel`: if the server refuses a repeat, the flow reads the call. If the call has the status that
  the caller asked for, the flow returns it.

After a doubtful request, the flow checks each refusal with a status of `REFUSALS` in this way, because the
refusal does not show what the earlier attempt did. Example: the first attempt created the call, and the
server refuses the repeat because `scheduled_time` has passed meanwhile. If the check fails, the flow raises
the error of the check.
"""

import logging
import time
from collections.abc import Generator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel
from video_calls_spec.retry_after import http_date

from video_calls_sdk._configuration import Options
from video_calls_sdk._errors import (
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    RateLimitedError,
    StatusError,
    TimedOutError,
    UnavailableError,
    VideoCallsError,
)
from video_calls_sdk._ids import same_id
from video_calls_sdk._models import CallStatus, VideoCall
from video_calls_sdk._redaction import sanitize
from video_calls_sdk._requests import Effect, Request, get_call, list_calls, next_query
from video_calls_sdk._responses import REFUSALS, APIResponse, Exchange, failure, success

logger = logging.getLogger("video_calls_sdk")

Model = TypeVar("Model", bound=BaseModel)

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_UNAUTHORIZED = 401
LONGEST_RETRY_AFTER = 86_400.0  # seconds; the client does not wait longer
_CLOCK_TOLERANCE = timedelta(seconds=2)  # backends may store `created_at` in whole seconds
_STORED_PRECISION = timedelta(seconds=1)  # backends store times in milliseconds or in seconds
_LARGEST_PAGE = "100"


class Authorize(NamedTuple):
    """Get a token.

    Attributes:
        stale: the token that the server has refused, and that must be replaced; None if there is none.
        seconds: how long this may take; None for no limit.
    """

    stale: str | None
    seconds: float | None


class Send(NamedTuple):
    """Send a request and read its response.

    Attributes:
        seconds: how long sending and reading may take together; None for no limit.
    """

    method: str
    url: str
    headers: dict[str, str]
    content: bytes | None
    timeout: httpx.Timeout
    seconds: float | None


class RawResponse(NamedTuple):
    """The outcome of `Send`.

    Attributes:
        problem: why `content` is not the whole body; None if it is.
    """

    status: int
    headers: httpx.Headers
    content: bytes
    problem: str | None = None


class Sleep(NamedTuple):
    """Wait for this many seconds."""

    seconds: float


class OutOfTimeError(Exception):
    """An action took longer than its `seconds`. The driver throws this into the flow."""


Action = Authorize | Send | Sleep
Flow = Generator[Action, Any, APIResponse[Model]]


class _Clock:
    """Measures the time since an operation began, and the time left until its deadline."""

    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self.start = time.monotonic()

    def elapsed(self) -> float:
        return time.monotonic() - self.start

    def left(self) -> float | None:
        return None if self.deadline is None else self.deadline - self.elapsed()

    def allows(self, wait: float) -> bool:
        left = self.left()
        return left is None or wait < left


def carry_out(  # noqa: C901, PLR0912, PLR0915 (one attempt from top to bottom; its parts are functions)
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
            raise _deadline_error(request, options, doubtful)
        headers = {**options.headers, **request.headers, "authorization": f"Bearer {token}"}
        error: VideoCallsError
        try:
            raw: RawResponse = yield Send(
                request.method, target, headers, request.content, _within(options.timeout, left), left
            )
        except OutOfTimeError:
            raise _deadline_error(request, options, sent=True) from None
        except httpx.RequestError as cause:
            if isinstance(cause, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
                raise ConfigurationError(f"the request cannot be sent: {cause}") from cause
            doubtful = doubtful or not isinstance(cause, _NOT_SENT)
            error = connection_error(request.method, url, cause, request_sent=doubtful, token=token)
            wait = options.retries.wait(attempt)
            _log(request, url, attempt, type(cause).__name__)
        else:
            exchange = Exchange(*raw, request.method, url, request.operation, token)
            _log(request, url, attempt, exchange.status, exchange)
            if 200 <= exchange.status < 300:  # noqa: PLR2004 (the successes)
                return success(exchange, request.model, options.answers)
            error = refusal = failure(exchange)
            if exchange.status == _UNAUTHORIZED and not refreshed:
                refreshed = True
                stale, token = token, (yield from _token(token, request, options, clock, doubtful))
                if token != stale:
                    continue
            if doubtful and exchange.status in REFUSALS:
                earlier = yield from _earlier_success(request, options, clock, refusal)
                if earlier is not None:
                    return earlier
            refusal.doubtful = doubtful and request.method != "GET" and exchange.status not in REFUSALS
            if not isinstance(error, RateLimitedError | UnavailableError):
                raise error
            doubtful = doubtful or exchange.status >= 500  # noqa: PLR2004 (may come from a proxy)
            wait = max(options.retries.wait(attempt), refusal.retry_after or 0.0)
        is_last = attempt > options.retries.attempts or wait > LONGEST_RETRY_AFTER
        if is_last or not clock.allows(wait):
            if isinstance(error, StatusError) or (is_last and clock.allows(0)):
                raise error
            raise _deadline_error(request, options, doubtful) from error
        yield Sleep(wait)
        attempt += 1


def _token(
    stale: str | None, request: Request[Any], options: Options, clock: _Clock, doubtful: bool
) -> Generator[Action, Any, str]:
    try:
        token: str = yield Authorize(stale, clock.left())
    except OutOfTimeError:
        raise _deadline_error(request, options, doubtful) from None
    return token


# -- Doubtful outcomes ------------------------------------------------------------------------------


def _earlier_success(
    request: Request[Model], options: Options, clock: _Clock, refusal: StatusError
) -> Generator[Action, Any, APIResponse[Model] | None]:
    """Return the result of an earlier attempt; None if the server carried out none of them."""
    effect = request.effect
    if effect is None:
        return None
    response: APIResponse[VideoCall] | None
    try:
        if effect.scheduled_time is not None:
            since = _start_on_server(clock, refusal)
            response = yield from _created_call(effect, effect.scheduled_time, options, clock, since)
        else:
            response = yield from carry_out(get_call(effect.call_id), options, clock)
            if response.data.status != effect.status:
                response = None
    except DeadlineExceededError:
        raise _deadline_error(request, options, sent=True) from refusal
    except VideoCallsError as error:
        error.add_note(f"whether an earlier attempt was carried out is unknown; a later one got: {refusal}")
        if isinstance(error, ConnectionFailedError):
            error.request_sent = True
        raise
    return response  # type: ignore[return-value]  # only requests for a VideoCall have an effect


def _created_call(
    effect: Effect, scheduled_time: datetime, options: Options, clock: _Clock, since: datetime
) -> Generator[Action, Any, APIResponse[VideoCall] | None]:
    """Return the call that an earlier attempt created, if it still occupies its time slot."""
    query: Mapping[str, str] | None = {"page_size": _LARGEST_PAGE}
    queries: list[Mapping[str, str]] = []
    while query is not None and query not in queries:
        queries.append(query)
        page = yield from carry_out(list_calls(query), options, clock)
        for call in page.data.results:
            if (
                same_id(call.doctor, effect.doctor)
                and same_id(call.patient, effect.patient)
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


def _start_on_server(clock: _Clock, refusal: StatusError) -> datetime:
    """Return the time at which the operation began, by the server's clock."""
    now = http_date(refusal.headers.get("date", "")) or datetime.now(UTC)
    return now - timedelta(seconds=clock.elapsed()) - _CLOCK_TOLERANCE


# -- Failures ---------------------------------------------------------------------------------------


def connection_error(
    method: str, url: str, cause: Exception, *, request_sent: bool, token: str
) -> ConnectionFailedError:
    """Return the error for a connection failure.

    The text of the cause is sanitized, because it may quote what the server sent.
    """
    is_timeout = isinstance(cause, httpx.TimeoutException | TimeoutError)
    reason = sanitize(str(cause) or type(cause).__name__, token)
    error = (TimedOutError if is_timeout else ConnectionFailedError)(
        f"{method} {url}: {reason}", method=method, url=url, request_sent=request_sent
    )
    error.__cause__ = cause if str(cause) in {"", reason} else None
    return error


def _deadline_error(request: Request[Any], options: Options, sent: bool) -> DeadlineExceededError:
    url = f"{options.base_url}{request.path}"
    return DeadlineExceededError(
        method=request.method, url=url, deadline=options.deadline or 0.0, request_sent=sent
    )


def _within(timeout: httpx.Timeout, left: float | None) -> httpx.Timeout:
    """Return the timeouts of an attempt, none of them longer than the time left until the deadline."""
    limits = timeout.as_dict()
    if left is None or all(limit is not None and limit <= left for limit in limits.values()):
        return timeout
    return httpx.Timeout(
        **{name: left if limit is None else min(limit, left) for name, limit in limits.items()}
    )


def _log(
    request: Request[Any], url: str, attempt: int, outcome: object, exchange: Exchange | None = None
) -> None:
    if logger.isEnabledFor(logging.INFO):
        request_id = exchange and exchange.request_id
        message = "%s %s: %s (attempt %d, request id %s)"
        logger.info(message, request.method, url, outcome, attempt, request_id)
