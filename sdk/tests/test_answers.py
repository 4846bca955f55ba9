"""How the clients read answers, and what they send."""

import copy
import json
import logging
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
import respx
import video_calls_sdk
from pydantic import ValidationError
from video_calls_sdk import CallStatus, Retries, VideoCall, VideoCallsClient

from support.payloads import CALL

BASE = "https://api.example.com/api/v1/video"
CALLS = f"{BASE}/video-calls/"
TOKEN = "a.secret.token"
TIME = datetime(2999, 1, 5, 10, 0, tzinfo=UTC)
CONFLICT = "There is already a scheduled call within 30 minutes of this time"


@pytest.fixture
def client() -> VideoCallsClient:
    return VideoCallsClient(BASE, TOKEN, retries=0)


def page(*calls: dict[str, Any], next_url: str | None = None) -> dict[str, Any]:
    return {"count": 9, "next": next_url, "previous": None, "results": list(calls)}


# -- Models -----------------------------------------------------------------------------------------


@respx.mock
def test_call_is_frozen_and_has_all_fields(client: VideoCallsClient) -> None:
    respx.get(f"{CALLS}1/").respond(json=CALL)
    call = client.calls.get(1)
    assert call.model_dump(mode="json", exclude_unset=True) == CALL
    assert call.scheduled_time == TIME
    assert call.status is CallStatus.SCHEDULED
    with pytest.raises(ValidationError):
        call.status = CallStatus.CANCELLED  # type: ignore[misc]


@respx.mock
def test_unknown_fields_and_statuses_are_kept(client: VideoCallsClient) -> None:
    details = CALL["doctor_details"] | {"rating": 5}
    fields = {"room": "A", "doctor_details": details, "status": "rescheduled"}
    respx.get(f"{CALLS}1/").respond(json=CALL | fields, headers={"X-Request-ID": "r-1"})
    answer = client.calls.with_response.get(1)
    call = answer.data
    assert (answer.status, answer.request_id) == (200, "r-1")
    assert call.status == "rescheduled"
    assert call.model_extra == {"room": "A"}
    assert call.doctor_details.model_extra == {"rating": 5}


@respx.mock
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>welcome</html>", "body: Invalid JSON"),
        (b"[]", "body: "),
        (json.dumps(CALL | {"id": None}).encode(), "id: Input should be an integer or a text"),
        (json.dumps(CALL | {"doctor": True}).encode(), "doctor: Input should be an integer or a text"),
        (json.dumps(CALL | {"doctor": 1.5}).encode(), "doctor: Input should be an integer or a text"),
        (json.dumps(CALL | {"created_at": "2024-01-05T08:00:00"}).encode(), "created_at: "),
        (json.dumps(CALL | {"doctor_details": {"id": 1}}).encode(), "doctor_details.user: Field required"),
    ],
)
def test_invalid_success_response_names_the_field(
    client: VideoCallsClient, content: bytes, problem: str
) -> None:
    respx.get(f"{CALLS}1/").respond(content=content, headers={"X-Request-ID": "r-1"})
    with pytest.raises(video_calls_sdk.InvalidResponseError) as caught:
        client.calls.get(1)
    assert caught.value.problems[0].startswith(problem)
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")


@respx.mock
def test_invalid_join_answer_shows_no_token(client: VideoCallsClient) -> None:
    respx.post(f"{CALLS}1/join/").respond(json={"token": "006secret", "uid": "many"})
    with pytest.raises(video_calls_sdk.InvalidResponseError) as caught:
        client.calls.join(1)
    error = caught.value
    assert "006secret" not in f"{error!s} {error!r} {error.body} {error.__context__!r:.0}"
    assert error.__suppress_context__


# -- Ids --------------------------------------------------------------------------------------------

IDS: list[int | str] = [2**63 - 1, "7", "9F0C2B7E-5d1a-4c3b-8a60-1e2f3a4b5c6d", "a" * 64, "~x..y"]


@respx.mock
@pytest.mark.parametrize("id_", IDS)
def test_id_in_response_keeps_its_type(client: VideoCallsClient, id_: int | str) -> None:
    details = {"doctor_details": CALL["doctor_details"] | {"id": id_}}
    answer = CALL | details | {"id": id_, "doctor": id_, "patient": id_}
    create = respx.post(CALLS).respond(201, json=answer)
    respx.get(f"{CALLS}{id_}/").respond(json=answer)
    created = client.calls.create(doctor=id_, patient=id_, scheduled_time=TIME)
    assert json.loads(create.calls.last.request.content)["doctor"] == id_
    call = client.calls.get(created.id)
    assert [call.id, call.doctor, call.patient, call.doctor_details.id] == [id_] * 4
    assert type(call.id) is type(id_)
    assert pickle.loads(pickle.dumps(call)) == call == created  # noqa: S301 (our own)
    assert hash(call.id) == hash(id_)


@respx.mock
@pytest.mark.parametrize(
    "id_",
    [None, True, 0, 2**63, b"1", "", "..", "1/join", "1?page=2", "%2e%2e", "1\n", "é", "a" * 65],
    ids=lambda value: f"{value!r:.12}",
)
def test_invalid_id_is_refused_before_sending(client: VideoCallsClient, id_: Any) -> None:
    for operation in (client.calls.get, client.calls.join, client.calls.end, client.calls.cancel):
        with pytest.raises(video_calls_sdk.ConfigurationError, match=r"^id must be"):
            operation(id_)
    for people in ({"doctor": id_, "patient": 1}, {"doctor": 1, "patient": id_}):
        with pytest.raises(video_calls_sdk.ConfigurationError, match=r"^(doctor|patient) must be"):
            client.calls.create(**people, scheduled_time=TIME)
    assert not respx.calls


# -- Errors -----------------------------------------------------------------------------------------


@respx.mock
@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (400, {"error": "Scheduled time must be in the future"}, "ScheduledInPastError", None),
        (400, {"error": CONFLICT}, "SchedulingConflictError", None),
        (400, {"error": "Belegt", "code": "create.no-overlap"}, "SchedulingConflictError", "Belegt"),
        (400, {"detail": "Scheduled time must be in the future."}, "ScheduledInPastError", None),
        (401, {"error": "x", "code": "join.window"}, "AuthenticationError", "x"),
        (400, {"non_field_errors": ["No"], "doctor": ["Bad"]}, "BadRequestError", "No; doctor: Bad"),
        (400, ["One", "Two"], "BadRequestError", "One; Two"),
        (401, {"error": "The token has expired"}, "TokenExpiredError", None),
        (403, {"error": "x", "code": "create.participants-only"}, "NotParticipantError", "x"),
        (405, {"error": {"message": "deep"}}, "StatusError", "deep"),
        (409, {"error": "x"}, "ConflictError", "x"),
        (422, {"detail": [{"loc": ["body"], "msg": "required"}]}, "UnprocessableError", "required"),
        (422, {"error": "x", "code": "create.idempotency-key"}, "IdempotencyKeyReusedError", "x"),
        (429, {"error": "slow"}, "RateLimitedError", "slow"),
        (502, None, "UnavailableError", "Bad Gateway"),
        (599, None, "ServerError", "no reason given"),
        (400, {"error": None, "code": 7, "fields": "x"}, "BadRequestError", None),
        (400, 17, "BadRequestError", "Bad Request"),
    ],
)
def test_error_answer_raises_most_specific_class(
    client: VideoCallsClient, status: int, body: Any, error: str, text: str | None
) -> None:
    respx.post(CALLS).respond(status, json=body) if body is not None else respx.post(CALLS).respond(status)
    with pytest.raises(video_calls_sdk.StatusError) as caught:
        client.calls.create(doctor=1, patient=1, scheduled_time=TIME)
    assert type(caught.value).__name__ == error
    assert caught.value.status == status
    assert caught.value.body == body
    if text is not None:
        assert caught.value.error == text


@respx.mock
@pytest.mark.parametrize("page_", ["<h1>502</h1>nginx", "<" * 200_000])
def test_message_of_error_page_is_status_phrase(client: VideoCallsClient, page_: str) -> None:
    respx.get(f"{CALLS}1/").respond(502, text=page_)
    with pytest.raises(video_calls_sdk.UnavailableError) as caught:
        client.calls.get(1)
    assert caught.value.error == "Bad Gateway"


@respx.mock
def test_deeply_nested_error_is_read(client: VideoCallsClient) -> None:
    respx.get(f"{CALLS}1/").respond(400, text="[" * 900 + "]" * 900)
    with pytest.raises(video_calls_sdk.BadRequestError):
        client.calls.get(1)


@respx.mock
@pytest.mark.parametrize(
    ("time", "error"),
    [
        ("2999-01-01T00:00:00Z", video_calls_sdk.ConfigurationError),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))), video_calls_sdk.ConfigurationError),
        (datetime(2999, 1, 1), video_calls_sdk.NaiveDatetimeError),  # noqa: DTZ001
    ],
)
def test_invalid_time_is_refused_before_sending(
    client: VideoCallsClient, time: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^scheduled_time"):
        client.calls.create(doctor=1, patient=1, scheduled_time=time)
    assert not respx.calls


def test_closed_http_client_is_refused() -> None:
    http = httpx.Client()
    http.close()
    with pytest.raises(video_calls_sdk.ConfigurationError, match="http_client is closed"):
        VideoCallsClient(BASE, TOKEN, http_client=http).calls.get(1)


@pytest.mark.parametrize(
    ("client", "http_client"),
    [(VideoCallsClient, httpx.Client), (video_calls_sdk.AsyncVideoCallsClient, httpx.AsyncClient)],
)
def test_transport_with_http_client_is_refused(client: Any, http_client: Any) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with pytest.raises(video_calls_sdk.ConfigurationError, match="not both"):
        client(BASE, TOKEN, http_client=http_client(), transport=transport)


@respx.mock
@pytest.mark.parametrize(
    ("call", "rule", "error"),
    [
        (lambda calls: calls.join(1), "join.window", "JoinWindowError"),
        (lambda calls: calls.cancel(1), "cancel.not-found", "CallNotFoundError"),
        (lambda calls: calls.get(1), "get.participants-only", "NotParticipantError"),
        (lambda calls: calls.list(page=7), "list.page-out-of-range", "PageNotFoundError"),
    ],
)
def test_error_without_code_is_recognised_by_its_text(
    client: VideoCallsClient, call: Callable[[Any], Any], rule: str, error: str
) -> None:
    from video_calls_spec import RULES

    violation = RULES[rule]  # type: ignore[index]
    respx.route().respond(violation.status, json={"error": violation.error})
    with pytest.raises(getattr(video_calls_sdk, error)) as caught:
        call(client.calls)
    assert caught.value.rule == rule
    assert caught.value.code is None


@respx.mock
def test_error_survives_pickle_and_copy(client: VideoCallsClient) -> None:
    answer = {"error": "Slow down", "code": "limits.rate", "fields": {"a": ["b"]}}
    respx.get(CALLS).respond(429, json=answer, headers={"X-Request-ID": "r-1", "Retry-After": "7"})
    with pytest.raises(video_calls_sdk.RateLimitedError) as caught:
        client.calls.list(page=2)
    error = caught.value
    assert (error.status, error.method, error.url, error.request_id) == (429, "GET", CALLS, "r-1")
    assert (error.error, error.code, error.fields) == ("Slow down", "limits.rate", {"a": ["b"]})
    assert (error.retry_after, error.headers["retry-after"], error.body) == (7.0, "7", answer)
    assert str(error) == f"GET {CALLS}: 429: Slow down (request id r-1)"
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert (str(same), vars(same)) == (str(error), vars(error))


# -- Pages ------------------------------------------------------------------------------------------


@respx.mock
def test_next_page_is_fetched_from_base_url(client: VideoCallsClient) -> None:
    inner = "http://inner-host:8080/another/path/?page=2&page_size=1"
    second = respx.get(CALLS, params={"page": "2", "page_size": "1"}).respond(json=page(CALL | {"id": 2}))
    first = respx.get(CALLS, params={"page_size": "1"}).respond(json=page(CALL, next_url=inner))
    assert [call.id for call in client.calls.list(page_size=1)] == [1, 2]
    assert (first.call_count, second.call_count) == (1, 1)
    assert {call.request.url.host for call in respx.calls} == {"api.example.com"}


@respx.mock
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"{CALLS}?page=2", "is the URL of an earlier page"),
        ("http://h:abc/?page=2", "is the URL of an earlier page"),
        ("http://[h/?page=2", "is not a URL"),
    ],
)
def test_unusable_next_url_is_an_error(client: VideoCallsClient, url: str, problem: str) -> None:
    respx.get(CALLS).respond(json=page(CALL, next_url=url))
    with pytest.raises(video_calls_sdk.InvalidResponseError, match=problem):
        list(client.calls.list())


# -- Secrets -------------------------------------------------------------------------------------


@respx.mock
@pytest.mark.parametrize("follow", [False, True])
def test_redirect_is_not_followed(follow: bool) -> None:
    elsewhere = respx.route(host="evil.example").respond(json=CALL)
    location = {"Location": "https://me:secret@evil.example/?secret=1"}
    respx.get(f"{CALLS}1/").respond(302, headers=location, html="<h1>302 Found</h1>")
    with httpx.Client(follow_redirects=follow) as http:
        client = VideoCallsClient(BASE, TOKEN, http_client=http)
        with pytest.raises(video_calls_sdk.RedirectError) as caught:
            client.calls.get(1)
    assert not elsewhere.called
    assert caught.value.error == "redirected to https://evil.example/; is base_url right?"
    assert "secret" not in str(caught.value)


@respx.mock
def test_no_secret_is_logged(client: VideoCallsClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "video_calls_sdk")
    body = {"channel_name": "c", "token": "006secret", "uid": 7, "expiration_time": "2999-01-05T11:00:00Z"}
    respx.post(f"{CALLS}1/join/").respond(json=body, headers={"X-Request-ID": "r-1"})
    client.with_options(headers={"X-Api-Key": "my-key"}).calls.join(1)
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name == "video_calls_sdk")
    assert "POST https://api.example.com/api/v1/video/video-calls/1/join/: 200" in logged
    for secret in (TOKEN, "006secret", "my-key"):
        assert secret not in logged


# -- What is sent -----------------------------------------------------------------------------------


@respx.mock
def test_create_sends_utc_time_and_new_idempotency_key(client: VideoCallsClient) -> None:
    route = respx.post(CALLS).respond(201, json=CALL)
    time = datetime.fromisoformat("2999-01-05T12:00:00.123456+02:00")
    for _ in range(2):
        assert isinstance(client.calls.create(doctor=1, patient=2, scheduled_time=time), VideoCall)
    sent = [call.request for call in route.calls]
    assert json.loads(sent[0].content) == {
        "doctor": 1, "patient": 2, "scheduled_time": "2999-01-05T10:00:00.123456Z",
    }  # fmt: skip
    assert sent[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert len({request.headers["idempotency-key"] for request in sent}) == 2


@respx.mock
def test_with_options_leaves_client_unchanged(client: VideoCallsClient) -> None:
    route = respx.get(f"{CALLS}1/").respond(json=CALL)
    client.with_options(headers={"X-Team": "a"}, timeout=1.0, deadline=None, retries=Retries(2)).calls.get(1)
    client.calls.get(1)
    first, second = (call.request for call in route.calls)
    assert first.headers["x-team"] == "a"
    assert first.extensions["timeout"]["read"] == 1.0
    assert "x-team" not in second.headers
    assert second.extensions["timeout"]["read"] == 10.0


@respx.mock
def test_http_client_keeps_its_settings_and_stays_open() -> None:
    methods: list[str] = []
    route = respx.get(f"{CALLS}1/").respond(json=CALL)
    hooks = {"request": [lambda request: methods.append(request.method)]}
    with httpx.Client(
        headers={"X-Mine": "1"}, cookies={"c": "2"}, auth=("u", "p"), event_hooks=hooks
    ) as http:
        with VideoCallsClient(BASE, TOKEN, http_client=http) as client:
            client.calls.get(1)
        assert not http.is_closed
    request = route.calls[0].request
    assert (request.headers["x-mine"], request.headers["cookie"]) == ("1", "c=2")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert methods == ["GET"]


# -- Configuration ----------------------------------------------------------------------------------


def test_environment_gives_default_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_CALLS_BASE_URL", f"{BASE}/")
    monkeypatch.setenv("VIDEO_CALLS_TOKEN", "from.the.environment")
    with respx.mock:
        route = respx.get(f"{CALLS}1/").respond(json=CALL)
        with VideoCallsClient() as client:
            client.calls.get(1)
        assert route.calls[0].request.headers["authorization"] == "Bearer from.the.environment"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"token": TOKEN}, "base_url is missing"),
        ({"base_url": "api.example.com", "token": TOKEN}, "must be absolute"),
        ({"base_url": "https://u:p@example.com", "token": TOKEN}, "no credentials"),
        ({"base_url": "https://example.com/?a=1", "token": TOKEN}, "no credentials, query"),
        ({"base_url": "https://example.com:port", "token": TOKEN}, "not a URL"),
        ({"base_url": BASE}, "token is missing"),
        ({"base_url": BASE, "token": "two words"}, "not a JWT"),
        ({"base_url": BASE, "token": TOKEN, "deadline": 0}, "deadline must be"),
        ({"base_url": BASE, "token": TOKEN, "timeout": "x"}, "timeout must be"),
        ({"base_url": BASE, "token": TOKEN, "retries": -1}, "retries must be"),
        ({"base_url": BASE, "token": TOKEN, "headers": {"x": "two words\n"}}, "header x cannot be sent"),
        ({"base_url": BASE, "token": TOKEN, "headers": {"Content-Length": "9"}}, "cannot be sent"),
        ({"base_url": BASE, "token": b"bytes"}, "must be a str"),
        ({"base_url": BASE, "token": "a\x7f"}, "not a JWT"),
        ({"base_url": BASE, "token": TOKEN, "headers": {"Authorization": "x"}}, "not as a header"),
    ],
)
def test_invalid_configuration_is_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], problem: str
) -> None:
    monkeypatch.delenv("VIDEO_CALLS_BASE_URL", raising=False)
    monkeypatch.delenv("VIDEO_CALLS_TOKEN", raising=False)
    with pytest.raises(video_calls_sdk.ConfigurationError, match=problem) as caught:
        VideoCallsClient(**options)
    assert "two words" not in str(caught.value)
