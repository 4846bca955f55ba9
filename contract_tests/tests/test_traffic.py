"""Tests of the rules that traffic shows: which exchanges are findings, and which are not."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from video_calls_contract.config import Agora
from video_calls_contract.results import Results
from video_calls_contract.watch.capture import Capture
from video_calls_contract.watch.traffic import Traffic

from support.traffic import DETAILS, NOW, ONGOING, call, event, iso, jwt

ROOT = "/api/v1/video"
CALLS = f"{ROOT}/video-calls/"

COMPLETED = {"status": "completed", "started_at": iso(2), "ended_at": iso(4), "updated_at": iso(4)}
CANCELLED = {"status": "cancelled", "updated_at": iso(4)}


def exchange(
    method: str, path: str, status: int, body: Any = None, *, at: float = 0, token: str = "", **more: Any
) -> Capture:
    """Return an exchange that starts at this second and takes a tenth of a second."""
    headers = [("authorization", f"Bearer {token or jwt()}"), ("content-type", "application/json")]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent_at = NOW.timestamp() + at
    capture = Capture(
        method, CALLS + path, headers, sent_at, b"", status, headers[1:], content, sent_at + 0.1
    )
    return replace(capture, **more)


def creation(
    record: dict[str, Any], sent: dict[str, Any] | None = None, at: float = 0, **more: Any
) -> Capture:
    names = ("doctor", "patient", "scheduled_time")
    content = json.dumps({name: record[name] for name in names} if sent is None else sent).encode()
    return exchange("POST", "", 201, record, at=at, request_body=content, **more)


def keyed(
    record: dict[str, Any], sent: dict[str, Any] | None = None, at: float = 0, user: int = 1
) -> Capture:
    """Return a creation with an `Idempotency-Key`. All such creations have the same key."""
    capture = creation(record, sent, at, token=jwt(user))
    return replace(capture, request_headers=[*capture.request_headers, ("idempotency-key", "key-1")])


def read(record: dict[str, Any], at: float = 9, **more: Any) -> Capture:
    return exchange("GET", f"{record['id']}/", 200, record, at=at, **more)


def page(*records: dict[str, Any], query: str = "", **links: str | None) -> Capture:
    body = {"count": len(records), "next": None, "previous": None, "results": records, **links}
    return exchange("GET", query, 200, body, at=9)


def pages(*numbers: tuple[str, int]) -> list[Capture]:
    """Return a page for each query and number of calls. Each page has a link to a next page."""
    url = f"http://target.example{CALLS}?page=2"
    return [
        page(*(call(100 + index) for index in range(number)), query=query, next=url)
        for query, number in numbers
    ]


def act(action: str, record: dict[str, Any], at: float = 4) -> Capture:
    return exchange("POST", f"{record['id']}/{action}/", 200, record, at=at)


def join(at: float = 2) -> Capture:
    return exchange("POST", "7/join/", 200, {"channel_name": "call_7_8362910475"}, at=at)


def connection(
    *messages: str, lasts: float = 5, token: str = "", query: str = "", position: int = 0
) -> list[Capture]:
    start = NOW.timestamp()
    headers = [("authorization", f"Bearer {token}")] if token else []
    opened = Capture("GET", f"{ROOT}/events/{query}", headers, start, status=101, socket=1)
    captures = [
        replace(opened, body=message.encode(), received_at=start + 3, position=position + index)
        for index, message in enumerate(messages)
    ]
    return [*captures, replace(opened, received_at=start + lasts, is_end=True)]


def events(first: int, *numbers: int, user: int = 1, **more: Any) -> list[Capture]:
    """Return a connection with these events. It resumes after the event `first`; 0 means a new connection."""
    messages = [event(number=str(number), id=number) for number in numbers]
    query = f"?last_event_id={first}" if first else ""
    return connection(*messages, token=jwt(user), query=query, **more)


def results_of(*captures: Capture) -> Results:
    traffic = Traffic(f"http://target.example{ROOT}", Agora(), "must", NOW - timedelta(seconds=1))
    for capture in captures:
        traffic.check(capture)
    results = traffic.results()
    assert not results.broken
    return results


def broken_rules(*captures: Capture) -> set[str]:
    return {one.rule.id for one in results_of(*captures).rules if one.outcome in ("failed", "noted")}


LATE = {"scheduled_time": iso(3600)}
REOPENED = {**ONGOING, "updated_at": iso(9)}
FORM = [("authorization", f"Bearer {jwt()}"), ("content-type", "text/plain"), ("x-request-id", "one")]
ECHO = [("content-type", "application/json"), ("x-request-id", "one")]

SECOND = call(8, scheduled_time=iso(600 + 1740))
APART = call(8, scheduled_time=iso(600 + 1800))
OTHER_BODY = call(8, scheduled_time=iso(90_000))
BELA = {"id": 2, "user": {"email": "bela@clinic.example", "full_name": "Bela"}}
OF_BELA = {**SECOND, "doctor": 2, "doctor_details": BELA}
OF_OTHERS = {**OF_BELA, "patient": 2, "patient_details": BELA}
REPEATED = [keyed(call()), keyed(call(), at=1)]
SIZES = ("?page_size=1", 1), ("?page_size=2", 2)

VIOLATIONS: list[tuple[str, list[Capture]]] = [
    ("model.schema", [read({"id": 7})]),
    ("errors.no-server-error", [exchange("GET", "7/", 500, {"error": "oh"})]),
    ("privacy.details", [read(call(doctor_details={**DETAILS, "password": "hunter2"}))]),
    ("auth.required", [read(call(), request_headers=[])]),
    ("auth.expired-token", [read(call(), token=jwt(lasts=-600))]),
    ("create.schedules", [creation(call(**ONGOING))]),
    ("create.valid-body", [creation(call(), {"doctor": 1})]),
    ("create.aware-time", [creation(call(), {**call(), "scheduled_time": "2031-01-05T10:00:00"})]),
    ("errors.malformed-json", [exchange("POST", "", 201, call(), request_body=b"{")]),
    ("errors.media-type", [exchange("POST", "", 201, call(), request_headers=FORM)]),
    ("create.future", [creation(call(scheduled_time=iso(-600)))]),
    ("model.scheduled-time", [creation(call(), {**call(), "scheduled_time": iso(900)})]),
    ("model.updated-at", [creation(call()), act("cancel", call(status="cancelled"), at=60)]),
    ("get.returns-call", [exchange("GET", "7/", 200, call(8))]),
    ("get.returns-call", [creation(call()), read(call(**COMPLETED)), read(call(**REOPENED), 20)]),
    ("join.not-cancelled", [read(call(**CANCELLED), at=0), join(at=5)]),
    ("join.window", [creation(call(**LATE)), read(call(**ONGOING, **LATE))]),
    ("end.completes", [act("end", call(**ONGOING))]),
    ("cancel.scheduled-only", [read(call(**ONGOING), at=2), act("cancel", call(**CANCELLED))]),
    ("list.pages", [page(call(), call())]),
    ("list.pages", [page(call(), next="/elsewhere/")]),
    ("list.newest-first", [page(call(), call(8, **LATE))]),
    ("list.page-size", pages(*SIZES, ("?page_size=3", 4))),
    ("list.page-size", pages(*SIZES, ("?page_size=1000", 101))),
    ("create.no-overlap", [creation(call()), creation(SECOND, at=1), page(SECOND, call())]),
    ("create.no-overlap", [creation(call()), creation(OF_BELA, at=1), read(call(**ONGOING))]),
    ("create.idempotency-key", [*REPEATED, keyed(OTHER_BODY, at=2), read(call())]),
    ("create.idempotency-key", [*REPEATED, keyed(call(8), at=2), read(call(**CANCELLED))]),
    ("create.idempotency-key", [keyed(call()), keyed(call(), {**call(), "patient": 3}, at=1)]),
    ("events.resume", [*events(0, 1, 2, 3), *events(2, 3, 2)]),
    ("events.resume", [*events(0, 1, 2, 3), *events(1, 3, 4)]),
    ("events.resume", [*events(0, 1, 2), *events(2, 3, 5), *events(2, 5)]),
    ("errors.method-not-allowed", [exchange("PATCH", "7/", 200, call())]),
    ("errors.allow-header", [exchange("PATCH", "7/", 405, {"error": "no"})]),
    (
        "tracing.request-id",
        [read(call(), request_headers=FORM, headers=ECHO), read(call(), request_headers=FORM)],
    ),
    ("events.call-started", connection(event(number=""), token=jwt())),
    ("events.changes-only", connection(event(), event(number="2"), token=jwt())),
    ("events.order", connection(event("call.ended"), event(number="2"), token=jwt())),
    ("events.authentication", connection(event())),
    ("events.token-expiry", connection(lasts=600, token=jwt(lasts=60))),
]


@pytest.mark.parametrize(("rule", "captures"), VIOLATIONS, ids=[rule for rule, _ in VIOLATIONS])
def test_violation_in_traffic_is_found(rule: str, captures: list[Capture]) -> None:
    assert rule in broken_rules(*captures)


AHEAD = {"created_at": iso(7200), "updated_at": iso(7200), "scheduled_time": iso(7800)}
CANCELLED_AHEAD = {**AHEAD, "status": "cancelled", "updated_at": iso(7260)}
RESET = {"created_at": iso(9), "updated_at": iso(9), "channel_name": "call_7_99"}
RENAMED = {"id": 1, "user": {"email": "j@clinic.example", "full_name": "Jane"}}
RESUMED_AFTER_RESET = connection(
    event(number="3", **{**RESET, "id": 3}), token=jwt(), query="?last_event_id=1"
)
REPLAYED = connection(event(), event("call.ended", "2", **COMPLETED), token=jwt())

CONFORMING: dict[str, list[Capture]] = {
    "another client joins": [creation(call()), act("end", call(**COMPLETED))],
    "an older response comes last": [
        read(call(**COMPLETED), at=5),
        read(call(**ONGOING), at=2, received_at=NOW.timestamp() + 9),
    ],
    "a creation is sent again": [creation(call()), creation(call(), at=30)],
    "not modified": [exchange("GET", "7/", 304, b"")],
    "HEAD and OPTIONS": [exchange("OPTIONS", "", 204, b""), exchange("HEAD", "7/", 405, b"")],
    "another path": [Capture("GET", "/metrics", [], 0.0, status=500, body=b"oh")],
    "a gateway answers": [exchange("GET", "7/", 503, b"<html>", headers=[("content-type", "text/html")])],
    "an unknown coding": [exchange("GET", "7/", 200, b"?", headers=[("content-encoding", "br")])],
    "the data is reset": [read(call(**COMPLETED)), read(call(**RESET), 20)],
    "a clock is set": [creation(call(**AHEAD)), act("cancel", call(**CANCELLED_AHEAD))],
    "a user is renamed": [read(call()), read(call(doctor_details=RENAMED, patient_details=RENAMED))],
    "request ids of its own": [read(call(), request_headers=FORM)],
    "an old record": [read(call(created_at=iso(-9000), started_at=iso(-9000)))],
    "a replayed event": [read(call(**COMPLETED), at=1), *REPLAYED],
    "an overlap with a cancelled call": [creation(call()), creation(SECOND, at=1), read(call(**CANCELLED))],
    "calls half an hour apart": [creation(call()), creation(APART, at=1), page(APART, call())],
    "an overlap of other users": [creation(call()), creation(OF_OTHERS, at=1), read(call())],
    "simultaneous creations": [creation(call()), creation(SECOND, at=0.05), read(call())],
    "an overlap that was read before": [creation(call()), creation(SECOND, at=9.05), read(call())],
    "an overlap with a reset call": [creation(call()), creation(SECOND, at=1), read(call(**RESET))],
    "keys have no effect": [keyed(call()), keyed(OTHER_BODY, at=1), read(call())],
    "a key of two users": [*REPEATED, keyed(OTHER_BODY, at=2, user=2), read(call())],
    "a key after a reset": [*REPEATED, keyed(OTHER_BODY, at=2), read(call(**RESET))],
    "simultaneous creations with a key": [*REPEATED, keyed(OTHER_BODY, at=0.05), read(call())],
    "pages of another size": pages(("?page_size=20", 20), ("?page_size=5", 20), ("", 50)),
    "a page without a size": pages(*SIZES, ("?page=1", 150)),
    "events of another user": [*events(0, 1, 2, 3), *events(1, 3, user=2)],
    "events before the connection": [*events(0, 1, 2), *events(0, 7), *events(2, 5, 7)],
    "an event that the proxy dropped": [*events(0, 1, 2, 3), *events(1, 3, 4, position=1)],
    "events after a reset": [read(call(3)), *events(0, 1, 2, 3), *RESUMED_AFTER_RESET],
    "an event during two connections": [*events(0, 1, 2, 3), *events(1, 2, 3, 4), *events(2, 3, 4, 5)],
}


@pytest.mark.parametrize("captures", CONFORMING.values(), ids=CONFORMING.keys())
def test_conforming_traffic_has_no_findings(captures: list[Capture]) -> None:
    assert broken_rules(*captures) == set()


def test_join_after_reset_has_no_finding() -> None:
    assert "join.not-completed" not in broken_rules(
        read(call(**COMPLETED, channel_name="call_7_1"), at=1), join()
    )


LEAKING = exchange("GET", "7/", 200, {**call(), "status": 5, "note": jwt(2)}, token="opaque-token-1234567890")


@pytest.mark.parametrize(
    "captures", [[LEAKING], connection(event(), event("call.ended"), token="opaque-token")]
)
def test_evidence_hides_tokens_and_personal_data(captures: list[Capture]) -> None:
    result, *_ = results_of(*captures).violations
    text = result.reason + "".join(
        f"{one.request_text}{one.response_text}{one.curl}" for one in result.exchanges
    )
    assert '"$TOKEN"' in text
    for private in ("opaque-token", "Jane", "clinic.example", jwt(2)):
        assert private not in text


def test_unchecked_rules_have_a_reason() -> None:
    results = results_of(read(call()))
    reasons = {one.rule.id: one.reason for one in results.of("not_checked")}
    checked = len(results.rules) - len(reasons)
    assert f"no rule in this traffic ({checked} rules checked, {len(reasons)} not)" in results.verdict
    assert "`video-calls-contract run`" in reasons["join.started-once"]
    assert "whose calls" in reasons["list.own-calls"]
    assert "no exchange" in reasons["join.token-format"]
