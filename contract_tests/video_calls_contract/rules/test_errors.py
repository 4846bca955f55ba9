"""Endpoints, status codes and error responses. The observers check the bodies of all errors."""

import json
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import urlencode

import pytest

from video_calls_contract.backend import UNSET
from video_calls_contract.checks import (
    require,
    require_any_refusal,
    require_refusal,
    require_success,
    require_unchanged,
)
from video_calls_contract.exceptions import Blocked, NotOffered, Violation
from video_calls_contract.exchange import Exchange, Together
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import Users

JSON = {"Content-Type": "application/json"}

# "400: Bad Request (validation error)"


@pytest.mark.rule("errors.malformed-json")
@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"not json", b'{"doctor": 1,}', b"[1]", b'"text"', b"null", b"42", b'\xff\xfe{"doctor": 1}'],
    ids=["cut off", "empty", "text", "comma", "list", "string", "null", "number", "not UTF-8"],
)
def test_body_without_json_object_is_refused(users: Users, body: bytes) -> None:
    exchange = users.doctor.post_call(headers=JSON, content=body)
    require_refusal(exchange, 400, because="a body that is not a JSON object")


@pytest.mark.rule("errors.no-server-error")
def test_unusual_query_causes_no_server_error(users: Users, together: Together) -> None:
    queries = (
        "page=%00", "page=1e9", "page=1" + 40 * "0", "page[]=1", "page_size=%27", "page=1&page=2",
        "ordering=%27--", "cursor=abc", "search=%F0%9F%98%80", "%",
        "limit=-1&offset=-1", "status=%27%20OR%201=1",
    )  # fmt: skip
    for exchange in together([partial(users.doctor.list, query) for query in queries]):
        if not exchange.succeeded:
            require_any_refusal(exchange, "an unusual query to return a page, or")


# "The API returns detailed error messages for validation failures:"


@pytest.mark.rule("errors.detailed")
def test_different_refusals_have_different_texts(calls: Calls) -> None:
    pair, call = calls.pair, calls.scheduled()
    refusals = [
        pair.create(pair.doctor, calls.backend.clock.now() - timedelta(days=1)),
        pair.create(pair.doctor, call.creation.object.get("scheduled_time")),
        pair.doctor.post_call({}),
        call.doctor.join(call.id),
        call.doctor.end(call.id),
    ]
    texts = {exchange.object.get("error") for exchange in refusals if exchange.status == 400}
    require(
        len(texts) != 1 or sum(exchange.status == 400 for exchange in refusals) == 1,
        f"a past time, an overlap, a body without fields, a join months before the call and the end of a "
        f"scheduled call to be refused with different texts; got {next(iter(texts), None)!r} for each",
        *refusals,
    )


# "404: Not Found"


@pytest.mark.rule("errors.unknown-path")
@pytest.mark.parametrize("path", ["/nothing/", "/video-calls/1/nothing/", "/video-calls/1/join/nothing/"])
def test_unknown_path_is_not_found(users: Users, path: str) -> None:
    require_refusal(users.doctor.send("GET", path), 404, because="an unknown path")


# Section "Endpoints" of the document: the methods of each path.

CHANGES = {"status": "cancelled", "scheduled_time": "2031-01-05T10:00:00Z"}
"""A body that would change a call."""

METHODS = {
    "/video-calls/": ("GET", "POST"),
    "/video-calls/{id}/": ("GET",),
    "/video-calls/{id}/join/": ("POST",),
    "/video-calls/{id}/end/": ("POST",),
    "/video-calls/{id}/cancel/": ("POST",),
}


def other_methods(path: str) -> list[str]:
    """Return the methods that a path does not support."""
    return [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if method not in METHODS[path]]


@pytest.mark.rule("errors.method-not-allowed")
@pytest.mark.parametrize("path", METHODS)
def test_other_method_is_refused_and_changes_nothing(calls: Calls, together: Together, path: str) -> None:
    # Use calls whose status allows the action: if another method acts, the call changes.
    with calls.ongoing() if "/end/" in path else calls.soon() as call:
        before, url = call.read(), path.format(id=call.id)
        exchanges = together(
            [
                partial(user.send, method, url, json_body=UNSET if method == "GET" else CHANGES)
                for method in other_methods(path)
                for user in call.participants
            ]
        )
        for exchange in exchanges:
            require_any_refusal(exchange, f"{exchange.method} at {path}")
        require_unchanged(before, call.doctor, *exchanges)


@pytest.mark.rule("errors.allow-header")
@pytest.mark.parametrize("path", METHODS)
def test_refusal_of_method_names_allowed_methods(calls: Calls, together: Together, path: str) -> None:
    call = calls.scheduled()
    url = path.format(id=call.id)
    for exchange in together([partial(call.doctor.send, method, url) for method in other_methods(path)]):
        require_refusal(exchange, 405, because=f"{exchange.method}, which this path does not support")
        header = exchange.headers.get("allow", "")
        allowed = {word.strip().upper() for word in header.split(",")}
        expected = f"`Allow` to name {', '.join(METHODS[path])}; got {header!r}"
        require(set(METHODS[path]) <= allowed, expected, exchange)


@pytest.mark.rule("errors.media-type")
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_body_with_other_media_type_is_refused(calls: Calls, media_type: str) -> None:
    body = calls.pair.body(calls.free_times.take())
    content = urlencode(body) if "urlencoded" in media_type else json.dumps(body)
    exchange = calls.pair.doctor.post_call(headers={"Content-Type": media_type}, content=content.encode())
    require_refusal(exchange, 415, 400, because=f"a body of {media_type}")


# Extension: the backend checks whether a user may access a call before it checks the call's status.


@pytest.mark.rule("errors.order")
def test_refusal_of_outsider_hides_status_of_call(calls: Calls) -> None:
    ended, cancelled, far = calls.completed(), calls.cancelled(), calls.scheduled()
    for call in (ended, cancelled, far):
        for outsider in call.pair.outsiders:
            for action in ("join", "end", "cancel"):
                if call is far and action == "cancel":
                    continue
                exchange = outsider.act(action, call.id)
                require_refusal(
                    exchange, 403, 404, because=f"the {outsider.name}, whatever the status of the call"
                )


@pytest.mark.rule("errors.order")
def test_unknown_call_without_token_is_unauthorized(users: Users) -> None:
    for action in ("get", "join", "end", "cancel"):
        exchange = users.nobody.act(action, users.doctor.backend.no_call)
        require_refusal(exchange, 401, because="a request without a token for an unknown call")


@pytest.mark.rule("errors.order")
@pytest.mark.parametrize("body", [b"{}", b"{"], ids=["without fields", "no JSON"])
def test_invalid_body_without_token_is_unauthorized(users: Users, body: bytes) -> None:
    exchange = users.nobody.post_call(headers=JSON, content=body)
    require_refusal(exchange, 401, because="a request without a token, whatever its body")


# Extension: paths end in a slash.


@pytest.mark.rule("errors.trailing-slash")
def test_path_without_slash_changes_nothing(calls: Calls) -> None:
    with calls.soon() as call:
        before = call.read()
        reading = call.doctor.send("GET", f"/video-calls/{call.id}")
        if reading.succeeded:
            raise NotOffered("not offered: paths work without their final slash, too")
        for action in ("join", "cancel"):
            exchange = call.doctor.send("POST", f"/video-calls/{call.id}/{action}")
            require(
                300 <= exchange.status < 500,
                f"404 or a redirect, for a path without its slash; got {exchange.status_text}",
                exchange,
            )
            require_unchanged(before, call.doctor, exchange)


# Extension: the size of bodies is limited.


@pytest.mark.rule("errors.body-size")
def test_body_over_64_kib_is_refused(calls: Calls) -> None:
    pair = calls.pair
    exchange = pair.doctor.post_call({**pair.body(None), "note": "x" * 70_000})
    if exchange.status != 413:
        raise NotOffered("not offered: the backend reads a body of 70,000 bytes")
    calls.scheduled()
    # Spaces make the body long, because a backend may refuse an unknown field.
    small = pair.doctor.post_call(
        headers=JSON, content=json.dumps(pair.body(calls.free_times.take())).encode() + b" " * 10_000
    )
    require_success(small, 201, exchange, because="a body of 10 KiB")


# Extension: an Idempotency-Key creates one call, however often it is sent.


def idempotent_creation(calls: Calls, at: datetime) -> tuple[dict[str, str], Exchange]:
    """Create a call twice with the same key; return the header with the key, and the first response."""
    pair = calls.pair
    key = {"Idempotency-Key": f"contract-{at:%Y%m%d%H%M%S}-{calls.scheduled().id}"}
    first = pair.create(pair.doctor, at, headers=key)
    if not first.succeeded:
        raise Blocked("no call could be scheduled")
    again = pair.create(pair.doctor, at, headers=key)
    if again.succeeded and again.object.get("id") != first.object.get("id"):
        raise Violation("the first response again, or a refusal of a second call at this time", first, again)
    if not again.succeeded:
        raise NotOffered("not offered: the same Idempotency-Key does not return the first response again")
    require(again.status == 201, "the first response again, with its 201", first, again)
    return key, first


@pytest.mark.rule("create.idempotency-key")
def test_idempotency_key_with_other_body_is_refused(calls: Calls) -> None:
    key, first = idempotent_creation(calls, calls.free_times.take())
    other = calls.pair.create(calls.pair.doctor, calls.free_times.take(), headers=key)
    require_any_refusal(other, "the key with another body", first)


@pytest.mark.rule("create.idempotency-key")
def test_idempotency_key_does_not_reveal_other_users_call(calls: Calls) -> None:
    other_pair, at = calls.pair_of("other_doctor", "other_patient"), calls.free_times.take()
    key, first = idempotent_creation(calls, at)
    second = other_pair.create(other_pair.patient, at, headers=key)
    require(
        second.object.get("id") != first.object.get("id")
        and (second.status == 201 or 400 <= second.status < 500),
        f"another user with the same key to get an own call, or a refusal; got {second.status_text}",
        first,
        second,
    )


# Extension: every exchange has a request id.


@pytest.mark.rule("tracing.request-id")
def test_response_carries_request_id(users: Users) -> None:
    headers = {"X-Request-ID": "contract-suite-1"}
    exchange = users.doctor.send("GET", "/video-calls/", headers=headers)
    if exchange.headers.get("x-request-id") != "contract-suite-1":
        raise NotOffered("not offered: responses do not carry the `X-Request-ID` of their request")
    for user in (users.doctor, users.nobody):
        exchange = user.send(
            "GET", f"/video-calls/{user.backend.no_call}/", headers={"X-Request-ID": "contract-suite-2"}
        )
        actual = exchange.headers.get("x-request-id")
        require(
            actual == "contract-suite-2",
            f"every response to carry the `X-Request-ID` of its request; got {actual!r}",
            exchange,
        )
    exchanges = [users.doctor.send("GET", "/video-calls/") for _ in range(2)]
    ids = [exchange.headers.get("x-request-id") for exchange in exchanges]
    require(
        all(ids) and len(set(ids)) == 2,
        f"a new request id for each request that has none; got {ids}",
        *exchanges,
    )
