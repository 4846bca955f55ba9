"""The decisions of `carry_out`: a test performs the actions of the flow by hand."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from video_calls_sdk import _operation_flow
from video_calls_sdk._configuration import Options, Retries
from video_calls_sdk._errors import (
    CallCancelledError,
    CallNotOngoingError,
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    RateLimitedError,
    SchedulingConflictError,
    ServerError,
    TimedOutError,
    VideoCallsError,
)
from video_calls_sdk._operation_flow import (
    Action,
    Authorize,
    OutOfTimeError,
    RawResponse,
    Send,
    Sleep,
    carry_out,
)
from video_calls_sdk._requests import Request, cancel_call, create_call, end_call, get_call, join_call
from video_calls_sdk._responses import APIResponse

from support.payloads import CALL

BASE = "https://api.example.com/api/v1/video"
TIME = datetime(2999, 1, 5, 10, 0, 0, 123456, tzinfo=UTC)
CREATE = create_call(1, 1, TIME, "key")
CONFLICT = {"error": "…", "code": "create.no-overlap"}
RESET = httpx.ReadError("reset")
REFUSED = httpx.ConnectError("refused")
NOT_ONGOING = {"error": "…", "code": "end.ongoing-only"}


class Clock(_operation_flow._Clock):
    """A clock that a test sets."""

    seconds = 0.0

    def elapsed(self) -> float:
        return self.seconds


class Play:
    """An operation in progress."""

    def __init__(self, request: Request[Any], *, attempts: int = 4, deadline: float | None = 60.0) -> None:
        retries = Retries(attempts=attempts, first_wait=0.0)
        self.clock = Clock(deadline)
        self.flow = carry_out(
            request, Options(BASE, httpx.Timeout(10.0), deadline, retries, {}, "strict"), self.clock
        )
        self.next: Action | None = next(self.flow)
        self.result: APIResponse[Any] | None = None
        self.sent: list[str] = []
        self.slept: list[float] = []

    def receive(self, outcome: RawResponse | Exception | str) -> "Play":
        """Give the action its outcome, and perform what precedes the next request."""
        self._step(outcome)
        while isinstance(self.next, Sleep) or (isinstance(self.next, Authorize) and self.next.stale is None):
            if isinstance(self.next, Sleep):
                self.slept.append(self.next.seconds)
            self._step("token")
        return self

    def _step(self, outcome: RawResponse | Exception | str) -> None:
        if isinstance(self.next, Send):
            self.sent.append(f"{self.next.method} {self.next.url.removeprefix(BASE)}")
        try:
            if isinstance(outcome, Exception):
                self.next = self.flow.throw(outcome)
            else:
                self.next = self.flow.send(outcome)
        except StopIteration as stop:
            self.next, self.result = None, stop.value


def play(request: Request[Any], *outcomes: RawResponse | Exception, **options: Any) -> Play:
    """Return an operation after attempts with these outcomes."""
    playing = Play(request, **options).receive("token")
    for outcome in outcomes:
        playing.receive(outcome)
    return playing


def answer(status: int, body: object = None, **headers: str) -> RawResponse:
    return RawResponse(status, httpx.Headers(headers), b"" if body is None else json.dumps(body).encode())


def call(**fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return CALL | {"scheduled_time": TIME.isoformat(), "created_at": now, "updated_at": now} | fields


def page(*calls: dict[str, Any], next_url: str | None = None) -> RawResponse:
    return answer(200, {"count": len(calls), "next": next_url, "previous": None, "results": calls})


# -- Retries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [REFUSED, httpx.ConnectTimeout(""), httpx.ProxyError("no tunnel")])
def test_conflict_after_unsent_request_is_raised(failed: Exception) -> None:
    with pytest.raises(SchedulingConflictError):
        play(CREATE, failed, answer(400, CONFLICT))


def test_create_retries_use_same_idempotency_key() -> None:
    playing = Play(CREATE).receive("token")
    keys = []
    for outcome in (RESET, answer(503), answer(429)):
        keys.append(playing.next.headers["idempotency-key"])  # type: ignore[union-attr]
        playing.receive(outcome)
    assert keys == ["key"] * 3


def test_join_is_retried_after_reset() -> None:
    playing = play(join_call(1), RESET)
    with pytest.raises(CallCancelledError):
        playing.receive(answer(400, {"error": "…", "code": "join.not-cancelled"}))


def test_unsendable_request_is_not_retried() -> None:
    with pytest.raises(ConfigurationError):
        play(get_call(1), httpx.UnsupportedProtocol("ftp"))


def test_connection_error_tells_if_request_was_sent() -> None:
    with pytest.raises(ConnectionFailedError) as raised:
        play(CREATE, RESET, REFUSED, attempts=1)
    assert raised.value.request_sent
    assert raised.value.__cause__ is REFUSED
    with pytest.raises(ConnectionFailedError) as raised:
        play(CREATE, REFUSED, REFUSED, attempts=1)
    assert not raised.value.request_sent


# -- A create with an unknown outcome ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "refusal"),
    [
        (RESET, answer(400, CONFLICT)),
        (answer(502), answer(400, CONFLICT)),
        (RESET, answer(409, {"detail": "Conflict."})),
        (RESET, answer(422, {"detail": "A request with this key is being worked on."})),
    ],
)
def test_refused_retry_of_create_returns_created_call(
    lost: RawResponse | Exception, refusal: RawResponse
) -> None:
    playing = play(CREATE, lost, refusal, page(call(id=7)))
    assert playing.result
    assert playing.result.data.id == 7


@pytest.mark.parametrize(
    "other",
    [
        {"scheduled_time": (TIME + timedelta(minutes=10)).isoformat()},
        {"scheduled_time": (TIME + timedelta(seconds=1)).isoformat()},
        {"doctor": 2},
        {"created_at": (datetime.now(UTC) - timedelta(minutes=1)).isoformat()},
        {"status": "cancelled"},
    ],
)
def test_conflict_with_another_call_is_raised(other: dict[str, Any]) -> None:
    with pytest.raises(SchedulingConflictError):
        play(CREATE, RESET, answer(400, CONFLICT), page(call(**other)))


@pytest.mark.parametrize(
    "fields",
    [
        {"scheduled_time": TIME.replace(microsecond=0).isoformat()},
        {"scheduled_time": TIME.replace(microsecond=123000).isoformat()},
        {"id": "c-7", "doctor": "1", "patient": "1"},
    ],
)
def test_created_call_is_found_despite_different_formats(fields: dict[str, Any]) -> None:
    assert play(CREATE, RESET, answer(400, CONFLICT), page(call(**fields))).result


@pytest.mark.parametrize("ahead", [timedelta(minutes=-1), timedelta(hours=-8), timedelta(minutes=1)])
def test_creation_time_is_compared_by_server_clock(ahead: timedelta) -> None:
    playing = play(CREATE, RESET)
    playing.clock.seconds = 20.0
    servers_now = datetime.now(UTC) + ahead
    playing.receive(answer(400, CONFLICT, date=format_datetime(servers_now, usegmt=True)))
    before, during = servers_now - timedelta(seconds=25), servers_now - timedelta(seconds=15)
    playing.receive(
        page(call(id=6, created_at=before.isoformat()), call(id=7, created_at=during.isoformat()))
    )
    assert playing.result
    assert playing.result.data.id == 7


def test_created_call_is_searched_on_later_pages() -> None:
    following = "http://inner.invalid/elsewhere/?page=2&page_size=100"
    playing = play(CREATE, RESET, answer(400, CONFLICT), page(next_url=following), page(call(id=7)))
    assert playing.sent[2:] == ["GET /video-calls/?page_size=100", "GET /video-calls/?page=2&page_size=100"]
    assert playing.result


def test_repeated_page_ends_the_search() -> None:
    circle = f"{BASE}/video-calls/?page_size=100"
    with pytest.raises(SchedulingConflictError):
        play(CREATE, RESET, answer(400, CONFLICT), page(next_url=circle))


def test_token_is_refreshed_during_the_search() -> None:
    playing = play(CREATE, RESET, answer(400, CONFLICT), answer(401))
    assert isinstance(playing.next, Authorize)
    assert playing.next.stale == "token"
    assert playing.receive("fresh").receive(page(call(id=7))).result


@pytest.mark.parametrize(
    ("outcomes", "error"),
    [
        ([REFUSED, REFUSED], ConnectionFailedError),
        ([answer(500)], ServerError),
        ([answer(429), answer(429)], RateLimitedError),
    ],
)
def test_failed_search_raises_error_of_the_search(
    outcomes: list[RawResponse | Exception], error: type[VideoCallsError]
) -> None:
    with pytest.raises(error) as raised:
        play(CREATE, RESET, answer(400, CONFLICT), *outcomes, attempts=1)
    assert "whether an earlier attempt was carried out is unknown" in raised.value.__notes__[0]
    assert getattr(raised.value, "request_sent", True)


def test_deadline_during_search_names_the_create() -> None:
    playing = play(CREATE, RESET, answer(400, CONFLICT))
    playing.clock.seconds = 61.0
    with pytest.raises(DeadlineExceededError) as raised:
        playing.receive(RESET)
    assert (raised.value.method, raised.value.url) == ("POST", f"{BASE}/video-calls/")
    assert raised.value.request_sent
    assert isinstance(raised.value.__cause__, SchedulingConflictError)


# -- An end or cancel with an unknown outcome------------------------------------------------------


@pytest.mark.parametrize("refusal", [answer(400, NOT_ONGOING), answer(400, {"detail": "No."}), answer(409)])
@pytest.mark.parametrize(("change", "status"), [(end_call(1), "completed"), (cancel_call(1), "cancelled")])
def test_refused_retry_of_change_returns_changed_call(
    change: Request[Any], status: str, refusal: RawResponse
) -> None:
    playing = play(change, RESET, refusal, answer(200, call(status=status)))
    assert playing.result
    assert playing.result.data.status == status


@pytest.mark.parametrize("status", ["scheduled", "cancelled", "ongoing"])
def test_refusal_is_raised_if_status_is_different(status: str) -> None:
    with pytest.raises(CallNotOngoingError):
        play(end_call(1), RESET, answer(400, NOT_ONGOING), answer(200, call(status=status)))


def test_refusal_after_rejected_attempt_is_raised() -> None:
    with pytest.raises(CallNotOngoingError):
        play(end_call(1), answer(429), answer(400, NOT_ONGOING))


# -- Tokens, waits and the deadline -----------------------------------------------------------------


def test_token_is_refreshed_once() -> None:
    playing = play(get_call(1), answer(401))
    assert isinstance(playing.next, Authorize)
    with pytest.raises(VideoCallsError, match="401"):
        playing.receive("fresh").receive(answer(401))


def test_retry_after_is_waited_for() -> None:
    date = datetime.now(UTC)
    later = format_datetime(date + timedelta(seconds=7), usegmt=True)
    playing = play(
        get_call(1),
        answer(429, **{"retry-after": "5"}),
        answer(503, **{"retry-after": later, "date": format_datetime(date, usegmt=True)}),
    )
    assert playing.slept == [5.0, 7.0]


def test_retry_wait_beyond_deadline_raises_at_once() -> None:
    with pytest.raises(RateLimitedError) as raised:
        play(get_call(1), answer(429, **{"retry-after": "61"}))
    assert raised.value.retry_after == 61.0
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("attempts", [0, 4])
def test_timeout_at_deadline_raises_deadline_error(attempts: int) -> None:
    playing = play(get_call(1), attempts=attempts, deadline=2.0)
    playing.clock.seconds = 2.0
    with pytest.raises(DeadlineExceededError) as raised:
        playing.receive(httpx.ReadTimeout("timed out"))
    assert isinstance(raised.value.__cause__, TimedOutError)
    assert raised.value.request_sent


def test_timeout_of_attempt_is_limited_by_deadline() -> None:
    playing = play(get_call(1), deadline=12.0)
    playing.clock.seconds = 5.0
    playing.receive(answer(503))
    assert isinstance(playing.next, Send)
    assert playing.next.seconds == 7.0
    assert playing.next.timeout == httpx.Timeout(7.0)


def test_token_after_deadline_raises_deadline_error() -> None:
    playing = Play(CREATE)
    assert playing.next == Authorize(None, 60.0)
    with pytest.raises(DeadlineExceededError) as raised:
        playing.receive(OutOfTimeError())
    assert not raised.value.request_sent
