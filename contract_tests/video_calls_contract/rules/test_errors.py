"""Endpoints, status codes and error responses. Bodies of errors are watched over in every exchange."""

import json
from datetime import datetime, timedelta
from functools import partial

import pytest

from video_calls_contract.backend import UNSET, Backend, People, wire_time
from video_calls_contract.checks import require, require_refusal, require_success, require_unchanged
from video_calls_contract.exchange import Exchange, Together
from video_calls_contract.outcomes import Blocked, NotOffered, Violation
from video_calls_contract.scheduling import Calls
from video_calls_contract.slots import Slots

JSON = {"Content-Type": "application/json"}

# "400: Bad Request (validation error)"


@pytest.mark.rule("errors.malformed-json")
@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"not json", b'{"doctor": 1,}', b"[1]", b'"text"', b"null", b"42", b'\xff\xfe{"doctor": 1}'],
    ids=["cut off", "empty", "text", "comma", "list", "string", "null", "number", "not UTF-8"],
)
def test_a_body_that_is_no_json_object_is_refused(people: People, body: bytes) -> None:
    exchange = people.doctor.send(
        "POST", "/video-calls/", operation="createVideoCall", headers=JSON, content=body
    )
    require_refusal(exchange, 400, because="a body that is no JSON object")


@pytest.mark.rule("errors.no-server-error")
def test_odd_queries_are_no_server_error(people: People, together: Together) -> None:
    queries = (
        "page=%00", "page=1e9", "page=1" + 40 * "0", "page[]=1", "page_size=%27", "page=1&page=2",
        "ordering=%27--", "cursor=abc", "search=%F0%9F%98%80", "%",
        "limit=-1&offset=-1", "status=%27%20OR%201=1",
    )  # fmt: skip
    for exchange in together([partial(people.doctor.list, query) for query in queries]):
        require(
            exchange.succeeded or 400 <= exchange.status < 500,
            f"a page or a refusal; got {exchange.answer}",
            exchange,
        )


# "The API returns detailed error messages for validation failures:"


@pytest.mark.rule("errors.detailed")
def test_refusals_for_different_reasons_have_different_texts(calls: Calls, backend: Backend) -> None:
    pair, call = calls.pair, calls.scheduled()
    refusals = [
        pair.create(pair.doctor, backend.clock.now() - timedelta(days=1)),
        pair.create(pair.doctor, call.record.get("scheduled_time")),
        pair.doctor.post_call({}),
        call.doctor.join(call.id),
        call.doctor.end(call.id),
    ]
    texts = {exchange.object.get("error") for exchange in refusals if exchange.status == 400}
    require(
        len(texts) != 1 or sum(exchange.status == 400 for exchange in refusals) == 1,
        f"different texts for a time that has passed, an overlap, a body without fields, a join months "
        f"before the call and the end of a scheduled call; got {next(iter(texts), None)!r} for each",
        *refusals,
    )


# "404: Not Found"


@pytest.mark.rule("errors.unknown-path")
@pytest.mark.parametrize("path", ["/nothing/", "/video-calls/1/nothing/", "/video-calls/1/join/nothing/"])
def test_a_path_that_the_document_does_not_name_is_not_found(people: People, path: str) -> None:
    require_refusal(people.doctor.send("GET", path), 404, because="an unknown path")


# Endpoints: what the document names for a path, and nothing else.

CHANGES = {"status": "cancelled", "scheduled_time": "2031-01-05T10:00:00Z"}
"""What a client might wish to change."""

METHODS = {
    "/video-calls/": ("GET", "POST"),
    "/video-calls/{id}/": ("GET",),
    "/video-calls/{id}/join/": ("POST",),
    "/video-calls/{id}/end/": ("POST",),
    "/video-calls/{id}/cancel/": ("POST",),
}


def others(path: str) -> list[str]:
    """The methods that a path does not take."""
    return [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if method not in METHODS[path]]


@pytest.mark.rule("errors.method-not-allowed")
@pytest.mark.parametrize("path", METHODS)
def test_another_method_is_refused_and_changes_nothing(calls: Calls, together: Together, path: str) -> None:
    # Ongoing for `end`, scheduled for the rest: an action that acted would be seen.
    with calls.ongoing() if "/end/" in path else calls.soon() as call:
        before, url = call.read(), path.format(id=call.id)
        exchanges = together(
            [
                partial(person.send, method, url, json_body=UNSET if method == "GET" else CHANGES)
                for method in others(path)
                for person in call.participants
            ]
        )
        for exchange in exchanges:
            require(
                400 <= exchange.status < 500,
                f"a refusal of {exchange.method} on {path}; got {exchange.answer}",
                exchange,
            )
        require_unchanged(before, call.doctor, *exchanges)


@pytest.mark.rule("errors.allow-header")
@pytest.mark.parametrize("path", METHODS)
def test_that_refusal_names_the_methods_of_the_path(calls: Calls, together: Together, path: str) -> None:
    call = calls.scheduled()
    url = path.format(id=call.id)
    for exchange in together([partial(call.doctor.send, method, url) for method in others(path)]):
        require_refusal(exchange, 405, because=f"{exchange.method}, which this path does not take")
        allowed = {word.strip().upper() for word in exchange.headers.get("allow", "").split(",")}
        missing = set(METHODS[path]) - allowed
        require(not missing, f"`Allow` with {', '.join(METHODS[path])}", exchange)


@pytest.mark.rule("errors.media-type")
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_a_body_that_is_not_declared_as_json_is_refused(calls: Calls, slots: Slots, media_type: str) -> None:
    pair = calls.pair
    time = wire_time(slots.take())
    content = (
        f'{{"doctor": {pair.doctor.doctor}, "patient": {pair.patient.patient}, "scheduled_time": "{time}"}}'
    )
    if "urlencoded" in media_type:
        content = f"doctor={pair.doctor.doctor}&patient={pair.patient.patient}&scheduled_time={time}"
    exchange = pair.doctor.send(
        "POST",
        "/video-calls/",
        operation="createVideoCall",
        headers={"Content-Type": media_type},
        content=content.encode(),
    )
    require_refusal(exchange, 415, 400, because=f"a body of {media_type}")


# Extension: the order of checks.


@pytest.mark.rule("errors.order")
def test_who_may_not_see_a_call_does_not_learn_its_state(calls: Calls) -> None:
    ended, cancelled, far = calls.completed(), calls.cancelled(), calls.scheduled()
    for call in (ended, cancelled, far):
        for stranger in call.pair.outsiders:
            for action in ("join", "end", "cancel"):
                if call is far and action == "cancel":
                    continue
                exchange = stranger.act(action, call.id)
                require_refusal(
                    exchange, 403, 404, because=f"the {stranger.name}, whatever the state of the call"
                )


@pytest.mark.rule("errors.order")
def test_who_has_no_token_does_not_learn_which_calls_exist(people: People) -> None:
    for action in ("get", "join", "end", "cancel"):
        exchange = people.nobody.act(action, people.doctor.backend.no_call)
        require_refusal(exchange, 401, because="a request without a token, for a call that does not exist")


@pytest.mark.rule("errors.order")
@pytest.mark.parametrize("body", [b"{}", b"{"], ids=["without fields", "no JSON"])
def test_who_has_no_token_does_not_learn_what_is_wrong_with_a_body(people: People, body: bytes) -> None:
    exchange = people.nobody.send(
        "POST", "/video-calls/", operation="createVideoCall", headers=JSON, content=body
    )
    require_refusal(exchange, 401, because="a request without a token, whatever its body is")


# Extension: paths end in a slash.


@pytest.mark.rule("errors.trailing-slash")
def test_a_path_without_its_slash_never_acts(calls: Calls) -> None:
    with calls.soon() as call:
        before = call.read()
        reading = call.doctor.send("GET", f"/video-calls/{call.id}")
        if reading.succeeded:
            raise NotOffered("not offered: paths are served without their final slash, too")
        for action in ("join", "cancel"):
            exchange = call.doctor.send("POST", f"/video-calls/{call.id}/{action}")
            require(
                300 <= exchange.status < 500,
                f"404, or a redirect, for a path without its slash; got {exchange.answer}",
                exchange,
            )
            require_unchanged(before, call.doctor, exchange)


# Extension: bodies are bounded.


@pytest.mark.rule("errors.body-size")
def test_a_body_over_64_kib_is_refused(calls: Calls, slots: Slots) -> None:
    pair = calls.pair
    body = {"doctor": pair.doctor.doctor, "patient": pair.patient.patient}
    exchange = pair.doctor.post_call({**body, "note": "x" * 70_000})
    if exchange.status != 413:
        raise NotOffered("not offered: a body of 70,000 bytes is read as any other")
    calls.scheduled()
    # Spaces, for a backend may refuse a field that it does not know.
    small = pair.doctor.send(
        "POST",
        "/video-calls/",
        operation="createVideoCall",
        headers=JSON,
        content=json.dumps({**body, "scheduled_time": wire_time(slots.take())}).encode() + b" " * 10_000,
    )
    require_success(small, 201, exchange, because="a body of 10 KiB")


# Extension: a call is created once under an Idempotency-Key.


def kept_key(calls: Calls, at: datetime) -> tuple[dict[str, str], Exchange]:
    """A key under which the doctor has booked this time, and the answer that was given twice."""
    pair = calls.pair
    key = {"Idempotency-Key": f"contract-{at:%Y%m%d%H%M%S}-{calls.scheduled().id}"}
    first = pair.create(pair.doctor, at, headers=key)
    if not first.succeeded:
        raise Blocked("no call could be scheduled")
    again = pair.create(pair.doctor, at, headers=key)
    if again.succeeded and again.object.get("id") != first.object.get("id"):
        raise Violation("the first answer again, or a refusal of a second call at this time", first, again)
    if not again.succeeded:
        raise NotOffered("not offered: the same Idempotency-Key does not give the first answer again")
    require(again.status == 201, "the first answer again, with its 201", first, again)
    return key, first


@pytest.mark.rule("create.idempotency-key")
def test_a_key_with_another_body_is_refused(calls: Calls, slots: Slots) -> None:
    key, first = kept_key(calls, slots.take())
    other = calls.pair.create(calls.pair.doctor, slots.take(), headers=key)
    require(
        400 <= other.status < 500, f"a refusal of the key with another body; got {other.answer}", first, other
    )


@pytest.mark.rule("create.idempotency-key")
def test_nobody_is_given_the_call_of_another_user_with_the_same_key(calls: Calls, slots: Slots) -> None:
    others, at = calls.pair_of("other_doctor", "other_patient"), slots.take()
    key, first = kept_key(calls, at)
    theirs = others.create(others.patient, at, headers=key)
    require(
        theirs.object.get("id") != first.object.get("id")
        and (theirs.status == 201 or 400 <= theirs.status < 500),
        f"a call of their own, or a refusal, for another user with the same key; got {theirs.answer}",
        first,
        theirs,
    )


# Extension: every exchange has a request id.


@pytest.mark.rule("tracing.request-id")
def test_every_answer_carries_the_request_id(people: People) -> None:
    def sent(request_id: str) -> str | None:
        given = {"X-Request-ID": request_id} if request_id else {}
        exchange = people.doctor.send("GET", "/video-calls/", headers=given)
        echoed: str | None = exchange.headers.get("x-request-id")
        return echoed

    if sent("contract-suite-1") != "contract-suite-1":
        raise NotOffered("not offered: answers do not carry the `X-Request-ID` of their request")
    for person in (people.doctor, people.nobody):
        exchange = person.send(
            "GET", f"/video-calls/{person.backend.no_call}/", headers={"X-Request-ID": "contract-suite-2"}
        )
        got = exchange.headers.get("x-request-id")
        require(
            got == "contract-suite-2",
            f"the request's own `X-Request-ID` on every answer; got {got!r}",
            exchange,
        )
    exchanges = [people.doctor.send("GET", "/video-calls/") for _ in range(2)]
    ids = [exchange.headers.get("x-request-id") for exchange in exchanges]
    require(
        all(ids) and len(set(ids)) == 2, f"a request id for each request that has none; got {ids}", *exchanges
    )
