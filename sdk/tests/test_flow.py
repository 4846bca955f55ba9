"""What `carry_out` decides, played by hand: each test says what is to be done next, and what comes of it."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from video_calls_sdk import _flow
from video_calls_sdk._answers import APIResponse
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
from video_calls_sdk._flow import (
    Action,
    Authorize,
    OutOfTimeError,
    RawAnswer,
    Send,
    Sleep,
    carry_out,
)
from video_calls_sdk._requests import Request, cancel_call, create_call, end_call, get_call, join_call

BASE = "https://api.example.com/api/v1/video"
TIME = datetime(2999, 1, 5, 10, 0, 0, 123456, tzinfo=UTC)
CREATE = create_call(1, 1, TIME, "key")
CONFLICT = {"error": "…", "code": "create.no-overlap"}
RESET = httpx.ReadError("reset")
REFUSED = httpx.ConnectError("refused")
NOT_ONGOING = {"error": "…", "code": "end.ongoing-only"}


class Clock(_flow._Clock):
    """Stands still until a test moves it."""

    seconds = 0.0

    def elapsed(self) -> float:
        return self.seconds


class Play:
    """An operation under way."""

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

    def gets(self, outcome: RawAnswer | Exception | str) -> "Play":
        """The action to be done has this outcome; on the way to the next, tokens are given, sleeps slept."""
        self._step(outcome)
        while isinstance(self.next, Sleep) or (isinstance(self.next, Authorize) and self.next.stale is None):
            if isinstance(self.next, Sleep):
                self.slept.append(self.next.seconds)
            self._step("token")
        return self

    def _step(self, outcome: RawAnswer | Exception | str) -> None:
        if isinstance(self.next, Send):
            self.sent.append(f"{self.next.method} {self.next.url.removeprefix(BASE)}")
        try:
            if isinstance(outcome, Exception):
                self.next = self.flow.throw(outcome)
            else:
                self.next = self.flow.send(outcome)
        except StopIteration as done:
            self.next, self.result = None, done.value


def play(request: Request[Any], *outcomes: RawAnswer | Exception, **options: Any) -> Play:
    """An operation whose attempts have had these outcomes."""
    playing = Play(request, **options).gets("token")
    for outcome in outcomes:
        playing.gets(outcome)
    return playing


def answer(status: int, body: object = None, **headers: str) -> RawAnswer:
    return RawAnswer(status, httpx.Headers(headers), b"" if body is None else json.dumps(body).encode())


def call(**fields: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "channel_name": "call_1704436789_5678",
        "doctor": 1,
        "patient": 1,
        "doctor_details": {"id": 1, "user": {"email": "doctor@example.com", "full_name": "Dr. John Doe"}},
        "patient_details": {"id": 1, "user": {"email": "patient@example.com", "full_name": "Jane Smith"}},
        "status": "scheduled",
        "scheduled_time": TIME.isoformat(),
        "started_at": None,
        "ended_at": None,
        "created_at": datetime.now(UTC).isoformat(),
        "updated_at": datetime.now(UTC).isoformat(),
    } | fields


def page(*calls: dict[str, Any], next_url: str | None = None) -> RawAnswer:
    return answer(200, {"count": len(calls), "next": next_url, "previous": None, "results": calls})


# -- What is sent again -----------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [REFUSED, httpx.ConnectTimeout(""), httpx.ProxyError("no tunnel")])
def test_a_conflict_after_a_request_that_never_left_is_another_program_s(failed: Exception) -> None:
    with pytest.raises(SchedulingConflictError):
        play(CREATE, failed, answer(400, CONFLICT))


def test_all_attempts_of_a_create_carry_one_key() -> None:
    playing = Play(CREATE).gets("token")
    keys = []
    for outcome in (RESET, answer(503), answer(429)):
        keys.append(playing.next.headers["idempotency-key"])  # type: ignore[union-attr]
        playing.gets(outcome)
    assert keys == ["key"] * 3


def test_a_join_is_repeated_after_an_ambiguous_failure() -> None:
    playing = play(join_call(1), RESET)
    with pytest.raises(CallCancelledError):
        playing.gets(answer(400, {"error": "…", "code": "join.not-cancelled"}))


def test_a_request_that_cannot_be_sent_at_all_is_not_sent_again() -> None:
    with pytest.raises(ConfigurationError):
        play(get_call(1), httpx.UnsupportedProtocol("ftp"))


def test_the_failure_of_all_attempts_says_whether_any_was_sent() -> None:
    with pytest.raises(ConnectionFailedError) as raised:
        play(CREATE, RESET, REFUSED, attempts=1)
    assert raised.value.request_sent
    assert raised.value.__cause__ is REFUSED
    with pytest.raises(ConnectionFailedError) as raised:
        play(CREATE, REFUSED, REFUSED, attempts=1)
    assert not raised.value.request_sent


# -- What a doubtful create has done ----------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        answer(400, CONFLICT),
        answer(409, {"detail": "Conflict."}),
        answer(422, {"detail": "A request with this key is being worked on."}),
    ],
)
def test_a_create_that_was_carried_out_returns_its_call_however_the_second_was_refused(
    refusal: RawAnswer,
) -> None:
    playing = play(CREATE, RESET, refusal, page(call(id=7)))
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


@pytest.mark.parametrize("stored", [TIME.replace(microsecond=0), TIME.replace(microsecond=123000)])
def test_our_call_is_known_by_its_time_as_a_backend_stores_it(stored: datetime) -> None:
    assert play(CREATE, RESET, answer(400, CONFLICT), page(call(scheduled_time=stored.isoformat()))).result


def test_our_call_is_known_where_a_backend_s_ids_are_texts() -> None:
    ours = call(id="c-7", doctor="1", patient="1")
    playing = play(CREATE, RESET, answer(400, CONFLICT), page(ours))
    assert playing.result
    assert playing.result.data.id == "c-7"


@pytest.mark.parametrize("ahead", [timedelta(minutes=-1), timedelta(hours=-8), timedelta(minutes=1)])
def test_when_a_call_was_made_is_judged_by_the_server_s_clock(ahead: timedelta) -> None:
    playing = play(CREATE, RESET)
    playing.clock.seconds = 20.0
    servers_now = datetime.now(UTC) + ahead
    playing.gets(answer(400, CONFLICT, date=format_datetime(servers_now, usegmt=True)))
    before, during = servers_now - timedelta(seconds=25), servers_now - timedelta(seconds=15)
    playing.gets(page(call(id=6, created_at=before.isoformat()), call(id=7, created_at=during.isoformat())))
    assert playing.result
    assert playing.result.data.id == 7


def test_our_call_is_found_on_a_later_page_whatever_host_its_url_names() -> None:
    following = "http://inner.invalid/elsewhere/?page=2&page_size=100"
    playing = play(CREATE, RESET, answer(400, CONFLICT), page(next_url=following), page(call(id=7)))
    assert playing.sent[2:] == ["GET /video-calls/?page_size=100", "GET /video-calls/?page=2&page_size=100"]
    assert playing.result


def test_pages_that_lead_in_a_circle_end_the_search() -> None:
    circle = f"{BASE}/video-calls/?page_size=100"
    with pytest.raises(SchedulingConflictError):
        play(CREATE, RESET, answer(400, CONFLICT), page(next_url=circle))


def test_the_token_is_refreshed_while_looking_for_our_call() -> None:
    playing = play(CREATE, RESET, answer(400, CONFLICT), answer(401))
    assert isinstance(playing.next, Authorize)
    assert playing.next.stale == "token"
    assert playing.gets("fresh").gets(page(call(id=7))).result


@pytest.mark.parametrize(
    ("outcomes", "error"),
    [
        ([REFUSED, REFUSED], ConnectionFailedError),
        ([answer(500)], ServerError),
        ([answer(429), answer(429)], RateLimitedError),
    ],
)
def test_where_looking_fails_no_conflict_is_claimed(
    outcomes: list[RawAnswer | Exception], error: type[VideoCallsError]
) -> None:
    with pytest.raises(error) as raised:
        play(CREATE, RESET, answer(400, CONFLICT), *outcomes, attempts=1)
    assert "whether an earlier attempt was carried out is unknown" in raised.value.__notes__[0]
    assert getattr(raised.value, "request_sent", True)


def test_where_the_deadline_ends_while_looking_the_deadline_of_the_create_is_raised() -> None:
    playing = play(CREATE, RESET, answer(400, CONFLICT))
    playing.clock.seconds = 61.0
    with pytest.raises(DeadlineExceededError) as raised:
        playing.gets(RESET)
    assert (raised.value.method, raised.value.url) == ("POST", f"{BASE}/video-calls/")
    assert raised.value.request_sent
    assert isinstance(raised.value.__cause__, SchedulingConflictError)


def test_after_an_answer_by_the_gateway_a_create_is_as_doubtful_as_after_none() -> None:
    assert play(CREATE, answer(502), answer(400, CONFLICT), page(call())).result


# -- What a doubtful end or cancel has done ---------------------------------------------------------


@pytest.mark.parametrize("refusal", [answer(400, NOT_ONGOING), answer(400, {"detail": "No."}), answer(409)])
@pytest.mark.parametrize(("request_", "status"), [(end_call(1), "completed"), (cancel_call(1), "cancelled")])
def test_a_call_found_as_wanted_is_returned(request_: Request[Any], status: str, refusal: RawAnswer) -> None:
    playing = play(request_, RESET, refusal, answer(200, call(status=status)))
    assert playing.result
    assert playing.result.data.status == status


@pytest.mark.parametrize("status", ["scheduled", "cancelled", "ongoing"])
def test_a_call_found_otherwise_raises_the_refusal(status: str) -> None:
    with pytest.raises(CallNotOngoingError):
        play(end_call(1), RESET, answer(400, NOT_ONGOING), answer(200, call(status=status)))


def test_a_refusal_without_doubt_is_raised_at_once() -> None:
    with pytest.raises(CallNotOngoingError):
        play(end_call(1), answer(429), answer(400, NOT_ONGOING))


# -- Tokens, waits and the deadline -----------------------------------------------------------------


def test_a_fresh_token_is_asked_for_once() -> None:
    playing = play(get_call(1), answer(401))
    assert isinstance(playing.next, Authorize)
    with pytest.raises(VideoCallsError, match="401"):
        playing.gets("fresh").gets(answer(401))


def test_a_wait_that_the_server_asks_for_is_kept() -> None:
    date = datetime.now(UTC)
    later = format_datetime(date + timedelta(seconds=7), usegmt=True)
    playing = play(
        get_call(1),
        answer(429, **{"retry-after": "5"}),
        answer(503, **{"retry-after": later, "date": format_datetime(date, usegmt=True)}),
    )
    assert playing.slept == [5.0, 7.0]


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    with pytest.raises(RateLimitedError) as raised:
        play(get_call(1), answer(429, **{"retry-after": "61"}))
    assert raised.value.retry_after == 61.0
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("attempts", [0, 4])
def test_a_timeout_cut_short_by_the_deadline_is_the_deadline_s(attempts: int) -> None:
    playing = play(get_call(1), attempts=attempts, deadline=2.0)
    playing.clock.seconds = 2.0
    with pytest.raises(DeadlineExceededError) as raised:
        playing.gets(httpx.ReadTimeout("timed out"))
    assert isinstance(raised.value.__cause__, TimedOutError)
    assert raised.value.request_sent


def test_no_attempt_may_take_longer_than_what_is_left() -> None:
    playing = play(get_call(1), deadline=12.0)
    playing.clock.seconds = 5.0
    playing.gets(answer(503))
    assert isinstance(playing.next, Send)
    assert playing.next.seconds == 7.0
    assert playing.next.timeout == httpx.Timeout(7.0)


def test_a_token_that_does_not_come_in_time_is_too_late() -> None:
    playing = Play(CREATE)
    assert playing.next == Authorize(None, 60.0)
    with pytest.raises(DeadlineExceededError) as raised:
        playing.gets(OutOfTimeError())
    assert not raised.value.request_sent
