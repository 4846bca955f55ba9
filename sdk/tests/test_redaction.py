"""Errors, logs and `repr` show no secrets and no control characters that a server sends."""

import logging
import traceback
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from video_calls_sdk import (
    ConnectionFailedError,
    InvalidResponseError,
    RateLimitedError,
    RedirectError,
    SchedulingConflictError,
    StatusError,
    VideoCallsClient,
)

from support.payloads import CALL

TOKEN = "an-opaque-token-of-32-characters"
JWT = "eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjoxfQ.c2lnbmF0dXJl"
CONFLICT = "There is already a scheduled call within 30 minutes of this time"


def client_of(*answers: httpx.Response | Exception, **options: Any) -> VideoCallsClient:
    remaining = iter(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        outcome = next(remaining)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    options = {"retries": 0, **options}
    return VideoCallsClient("https://x.example/api", TOKEN, transport=httpx.MockTransport(answer), **options)


@pytest.mark.parametrize("secret", [TOKEN, JWT, f"x{JWT}", JWT.rpartition(".")[0]])
@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (StatusError, lambda secret: {"headers": {"X-Request-ID": secret, "X-Echo": f"a {secret}"}}),
        (StatusError, lambda secret: {"json": {"error": secret, secret: [{"deep": secret}], "code": secret}}),
        (StatusError, lambda secret: {"html": f"<pre>bearer {secret}</pre>"}),
        (RedirectError, lambda secret: {"status_code": 302, "headers": {"Location": f"/login/{secret}"}}),
        (InvalidResponseError, lambda secret: {"status_code": 200, "text": secret}),
    ],
)
def test_token_in_error_response_is_not_shown(
    caplog: pytest.LogCaptureFixture, error: type[StatusError], answer: Any, secret: str
) -> None:
    caplog.set_level(logging.DEBUG, "video_calls_sdk")
    with pytest.raises(error) as raised:
        client_of(httpx.Response(**{"status_code": 400, **answer(secret)})).calls.get(1)
    assert secret not in f"{raised.value} {raised.value!r} {vars(raised.value)} {caplog.text}"


def test_fields_with_secret_names_are_redacted() -> None:
    answer = httpx.Response(400, headers={"Set-Cookie": "hidden"}, json={"db": {"password": "hidden"}})
    with pytest.raises(StatusError) as raised:
        client_of(answer).calls.get(1)
    assert "hidden" not in str(vars(raised.value))


def test_error_with_token_in_message_is_not_chained() -> None:
    with pytest.raises(ConnectionFailedError) as raised:
        client_of(httpx.RemoteProtocolError(f"illegal header line: {TOKEN}\x1b[0m")).calls.get(1)
    output = "".join(traceback.format_exception(raised.value))
    assert "illegal header line: (redacted)\\x1b[0m" in output
    assert TOKEN not in output


@pytest.mark.parametrize("character", ["\x1b", "\x9b", "\n", "\u202e", "\u2066"])
@pytest.mark.parametrize("kind", ["text", "json", "header"])
def test_control_characters_are_escaped(kind: str, character: str) -> None:
    text = f"a{character}b"
    answer = {
        "text": {"text": f"<p>{text}</p>"},
        "json": {"json": {"error": text, "fields": {text: [text]}, "code": text}},
        "header": {"headers": {"X-Request-ID": text.encode()}},
    }[kind]
    with pytest.raises(StatusError) as raised:
        client_of(httpx.Response(400, **answer)).calls.get(1)
    error = raised.value
    assert character not in f"{error} {error.error} {error.code} {error.request_id} {error.body}"
    assert not any(character in text for each in error.fields.items() for text in (each[0], *each[1]))


def test_nested_token_is_not_in_repr() -> None:
    call = client_of(
        httpx.Response(200, json=CALL | {"agora": [{"access_token": "hidden"}], "app_token": "hidden"})
    ).calls.get(1)
    assert "hidden" not in f"{call!r} {call}"
    assert "<CallStatus.SCHEDULED: 'scheduled'>" in repr(call)
    assert call.model_extra is not None
    assert call.model_extra["app_token"] == "hidden"


# -- Forms of errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"non_field_errors": [CONFLICT]}},
        {"error": {"scheduled_time": [CONFLICT]}},
        {"detail": {"scheduled_time": [CONFLICT]}},
        {"error": [{"scheduled_time": CONFLICT}]},
        {"errors": [{"attr": "scheduled_time", "code": "invalid", "detail": CONFLICT}]},
        {"detail": [{"loc": ["body", "scheduled_time"], "msg": CONFLICT}]},
        {"error": "Invalid input", "details": {"scheduled_time": [CONFLICT]}},
        {"error": f"[ErrorDetail(string='{CONFLICT}', code='invalid')]"},
        {"error": f'["{CONFLICT}"]'},
        [CONFLICT],
    ],
)
def test_rule_is_found_in_nested_error(body: Any) -> None:
    with pytest.raises(SchedulingConflictError) as raised:
        client_of(httpx.Response(400, json=body)).calls.create(
            doctor=1, patient=1, scheduled_time=datetime(2999, 1, 5, tzinfo=UTC)
        )
    assert raised.value.fields == ({"scheduled_time": [CONFLICT]} if "scheduled_time" in str(body) else {})


@pytest.mark.parametrize("retry_after", ["9" * 9999, "86401", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_over_a_day_raises_at_once(retry_after: str) -> None:
    answer = httpx.Response(429, headers={"Retry-After": retry_after})
    with pytest.raises(RateLimitedError) as raised:
        client_of(answer, deadline=None, retries=4).calls.get(1)
    assert (raised.value.retry_after or 0) > 86_400
