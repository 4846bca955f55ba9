"""Connections for events, as the suite has them: what it hears, what it shows, and who has none."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jwt
import pytest
from video_calls_contract.backend import Backend, People, Person
from video_calls_contract.config import parse_config
from video_calls_contract.event_listener import Listener, expire, find_way
from video_calls_contract.exchange import NO_ANSWER, Redactor
from video_calls_contract.outcomes import Missing, NotOffered, Violation
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from support.fake_backend import fake_backend, scheduling

Serve = Callable[[ServerConnection], None]

SECRET = "a secret of the tests alone, of 32 bytes and more"


def token(seconds: float = 3600) -> str:
    return jwt.encode({"exp": int(time.time() + seconds)}, SECRET)


def event(number: int, call_id: int = 7, kind: str = "call.started") -> str:
    return json.dumps(
        {"id": str(number), "type": kind, "data": {"call": {"id": call_id, "channel_name": "call_1"}}}
    )


@contextmanager
def telling(handler: Serve, *, choose: str | None = None) -> Iterator[str]:
    """A server that does this with each connection, at the base URL of an API."""

    def chosen(_connection: ServerConnection, offered: object) -> Subprotocol | None:
        return Subprotocol(choose) if choose and offered else None

    with serve(handler, "127.0.0.1", 0, select_subprotocol=chosen) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/api/v1/video"
        finally:
            server.shutdown()
            thread.join()


def person(url: str, authorization: str | None = None) -> Person:
    redactor = Redactor()
    own = authorization or token()
    redactor.learn(own, "DOCTOR_TOKEN")
    return Person("doctor", f"Bearer {own}", Backend(url, redactor))


def until_it_goes(connection: ServerConnection) -> None:
    for _ in connection:
        pass


@pytest.mark.parametrize(
    ("message", "count", "why"),
    [("x" * 2 * 2**20, 1, "more than 1 MiB"), ("x" * 2**19, 40, "more than 16 MiB")],
    ids=["one message", "many messages"],
)
def test_messages_beyond_a_bound_end_the_connection(message: str, count: int, why: str) -> None:
    def flood(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            for _ in range(count):
                connection.send(message)
            until_it_goes(connection)

    with telling(flood) as url, Listener(person(url)) as listener:
        assert listener.closes()
        assert why in listener.evidence().text
        assert sum(len(frame) for frame in listener._frames) <= 16 * 2**20


def test_events_are_heard_by_call_and_other_kinds_are_passed_over() -> None:
    def tell(connection: ServerConnection) -> None:
        for message in (
            event(1),
            event(2, kind="call.created"),
            event(3, call_id=8),
            "[]",
            "no JSON",
            b"{}",
            event(4),
        ):
            connection.send(message)
        until_it_goes(connection)

    with telling(tell) as url, Listener(person(url)) as listener:
        assert listener.wait_until(lambda events: len(events) == 2, 7)
        assert [one["id"] for one in listener.of(7)] == ["1", "4"]
        assert [one["id"] for one in listener.of(7, 8)] == ["1", "3", "4"]
        assert listener.unreadable == ["'[]'", "'no JSON'", "b'{}'"]
        assert not listener.wait_until(bool, 9, seconds=0)


@pytest.mark.parametrize("way", ["header", "subprotocol"])
def test_the_evidence_shows_events_and_closing_and_no_token(way: Any) -> None:
    def tell(connection: ServerConnection) -> None:
        connection.send(event(1))
        connection.close(4402, "The token has expired")

    own = token()
    with telling(tell, choose="bearer") as url, Listener(person(url, own), way, after="5") as listener:
        assert listener.closes()
    shown = listener.evidence(7)
    assert listener.ending == "closed with 4402"
    assert listener.subprotocol == ("bearer" if way == "subprotocol" else None)
    assert shown.request_text.startswith("GET ws://127.0.0.1:")
    assert "/api/v1/video/events/?last_event_id=5" in shown.request_text
    assert "HTTP 101" in shown.response_text
    assert '"code": 4402' in shown.response_text
    assert '"channel_name": "call_1"' in shown.response_text
    assert "$DOCTOR_TOKEN" in shown.request_text
    assert own not in shown.request_text + shown.response_text + shown.curl


def test_many_events_are_shown_short() -> None:
    def tell(connection: ServerConnection) -> None:
        for number in range(9):
            connection.send(event(number))
        until_it_goes(connection)

    with telling(tell) as url, Listener(person(url)) as listener:
        assert listener.wait_until(lambda events: len(events) == 9, 7)
        shown = listener.evidence(7).response_text
    assert shown.count('"call.started"') == 9
    assert "channel_name" not in shown


def test_a_backend_without_events_offers_none() -> None:
    def answer(request: Any) -> tuple[int, Any]:
        return (404, {"error": "no such path"}) if request.path.endswith("/events/") else scheduling(request)

    with fake_backend(answer) as backend:
        with pytest.raises(NotOffered, match=r"not offered: .* got HTTP 404"):
            find_way(person(backend.url))
        with Listener(person(backend.url)) as listener:
            assert not listener.stays_open()
        assert '"error": "no such path"' in listener.evidence().response_text


def test_where_nobody_listens_there_is_no_answer() -> None:
    with telling(until_it_goes) as url:
        pass
    with Listener(person(url)) as listener:
        assert not listener.is_open
    assert listener.evidence().status == NO_ANSWER


def test_a_connection_that_is_closed_at_once_is_another_protocols() -> None:
    with (
        telling(lambda connection: connection.close(1003)) as url,
        pytest.raises(NotOffered, match="closed with 1003"),
    ):
        find_way(person(url))


def test_a_connection_that_is_refused_with_a_code_of_the_contract_is_offered_and_closed_to_its_owner() -> (
    None
):
    with telling(lambda connection: connection.close(4401)) as url, pytest.raises(Violation) as caught:
        find_way(person(url))
    assert caught.value.rule == "events.authentication"
    assert len(caught.value.exchanges) == 2


def test_a_token_as_subprotocol_alone_is_a_way() -> None:
    def tell(connection: ServerConnection) -> None:
        if connection.subprotocol is None:
            connection.close(4401)
        until_it_goes(connection)

    with telling(tell, choose="bearer") as url:
        assert find_way(person(url)) == "subprotocol"


# -- A token that expires ---------------------------------------------------------------------------


def people(url: str, command: str | None) -> People:
    lines = [f"base_url = {json.dumps(url)}"]
    for name in ("doctor", "patient"):
        lines += [f"[identities.{name}]", "id = 1", f"token = {json.dumps(token())}"]
    if command is not None:
        lines += ["[identities.expiring]", f"token_command = {json.dumps([sys.executable, '-c', command])}"]
    config = parse_config("\n".join(lines), "c")
    return People(config, Backend(url, Redactor()))


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def told_to_expire(connection: ServerConnection) -> None:
    """Close connections whose token has little time left, when that is over."""
    assert connection.request
    own = connection.request.headers["Authorization"].removeprefix("Bearer ")
    expires = jwt.decode(own, options={"verify_signature": False})["exp"]
    try:
        connection.recv(timeout=max(0.0, expires - time.time()))
    except TimeoutError:
        connection.close(4402)
    except ConnectionClosed:
        return


def test_a_connection_is_seen_to_end_with_its_token() -> None:
    with telling(told_to_expire) as url:
        seen = expire(people(url, f"print({token(3)!r})"), wait)
    assert seen.code == 4402
    assert "$EXPIRING_TOKEN" in seen.exchange.request_text


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (None, r"no \[identities.expiring\]"),
        ("raise SystemExit('nobody there')", "nobody there"),
        ("print('opaque')", "`exp` .* cannot be read"),
        (f"print({token(4000)!r})", "expire within seconds"),
    ],
    ids=["none", "failing", "opaque", "long-lived"],
)
def test_without_a_token_that_expires_soon_nothing_is_known(command: str | None, reason: str) -> None:
    with telling(until_it_goes) as url, pytest.raises(Missing, match=reason):
        expire(people(url, command), wait)


def test_a_token_that_is_not_taken_tells_nothing_either() -> None:
    with (
        telling(told_to_expire) as url,
        pytest.raises(Missing, match=r"refused the token .* closed with 4402"),
    ):
        expire(people(url, f"print({token(-1)!r})"), wait)
