"""Tests of the event listener: events, evidence, and backends without events."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jwt
import pytest
from video_calls_contract.backend import Backend
from video_calls_contract.config import parse_config
from video_calls_contract.event_listener import Listener, expire, find_token_location
from video_calls_contract.exceptions import Missing, NotOffered, Violation
from video_calls_contract.exchange import NO_RESPONSE
from video_calls_contract.redaction import Redactor
from video_calls_contract.users import User, Users
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
def event_server(handler: Serve, *, choose: str | None = None) -> Iterator[str]:
    """Serve connections with a handler, and yield the base URL."""

    def select(_connection: ServerConnection, offers: object) -> Subprotocol | None:
        return Subprotocol(choose) if choose and offers else None

    with serve(handler, "127.0.0.1", 0, select_subprotocol=select) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/api/v1/video"
        finally:
            server.shutdown()
            thread.join()


def user(url: str, authorization: str | None = None) -> User:
    redactor = Redactor()
    own = authorization or token()
    redactor.learn(own, "DOCTOR_TOKEN")
    return User("doctor", f"Bearer {own}", Backend(url, redactor))


def wait_for_close(connection: ServerConnection) -> None:
    for _ in connection:
        pass


@pytest.mark.parametrize(
    ("message", "count", "reason"),
    [("x" * 2 * 2**20, 1, "more than 1 MiB"), ("x" * 2**19, 40, "more than 16 MiB")],
    ids=["one message", "many messages"],
)
def test_message_over_size_limit_ends_the_connection(message: str, count: int, reason: str) -> None:
    def flood(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            for _ in range(count):
                connection.send(message)
            wait_for_close(connection)

    with event_server(flood) as url, Listener(user(url)) as listener:
        assert listener.closes()
        assert reason in listener.evidence().text
        assert sum(len(frame) for frame in listener._frames) <= 16 * 2**20


def test_listener_selects_events_by_call_and_type() -> None:
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
        wait_for_close(connection)

    with event_server(tell) as url, Listener(user(url)) as listener:
        assert listener.wait_until(lambda events: len(events) == 2, 7)
        assert [one["id"] for one in listener.of(7)] == ["1", "4"]
        assert [one["id"] for one in listener.of(7, 8)] == ["1", "3", "4"]
        assert listener.unreadable == ["'[]'", "'no JSON'", "b'{}'"]
        assert not listener.wait_until(bool, 9, seconds=0)


@pytest.mark.parametrize("token_location", ["header", "subprotocol"])
def test_evidence_has_events_and_close_code_without_token(token_location: Any) -> None:
    def tell(connection: ServerConnection) -> None:
        connection.send(event(1))
        connection.close(4402, "The token has expired")

    own = token()
    with (
        event_server(tell, choose="bearer") as url,
        Listener(user(url, own), token_location, after="5") as listener,
    ):
        assert listener.closes()
    evidence = listener.evidence(7)
    assert listener.ending == "closed with 4402"
    assert listener.subprotocol == ("bearer" if token_location == "subprotocol" else None)
    assert evidence.request_text.startswith("GET ws://127.0.0.1:")
    assert "/api/v1/video/events/?last_event_id=5" in evidence.request_text
    assert "HTTP 101" in evidence.response_text
    assert '"code": 4402' in evidence.response_text
    assert '"channel_name": "call_1"' in evidence.response_text
    assert "$DOCTOR_TOKEN" in evidence.request_text
    assert own not in evidence.request_text + evidence.response_text + evidence.curl


def test_evidence_shortens_events_if_there_are_many() -> None:
    def tell(connection: ServerConnection) -> None:
        for number in range(9):
            connection.send(event(number))
        wait_for_close(connection)

    with event_server(tell) as url, Listener(user(url)) as listener:
        assert listener.wait_until(lambda events: len(events) == 9, 7)
        evidence = listener.evidence(7).response_text
    assert evidence.count('"call.started"') == 9
    assert "channel_name" not in evidence


def test_404_for_events_means_events_not_offered() -> None:
    def answer(request: Any) -> tuple[int, Any]:
        return (404, {"error": "no such path"}) if request.path.endswith("/events/") else scheduling(request)

    with fake_backend(answer) as backend:
        with pytest.raises(NotOffered, match=r"not offered: .* got HTTP 404"):
            find_token_location(user(backend.url))
        with Listener(user(backend.url)) as listener:
            assert not listener.stays_open()
        assert '"error": "no such path"' in listener.evidence().response_text


def test_listener_waits_once_for_connection_to_settle() -> None:
    with event_server(wait_for_close) as url, Listener(user(url)) as listener:
        assert listener.stays_open()
        settled = time.monotonic()
        assert listener.stays_open()
        assert time.monotonic() - settled < 0.4


def test_unreachable_event_server_is_recorded_as_no_response() -> None:
    with event_server(wait_for_close) as url:
        pass
    with Listener(user(url)) as listener:
        assert not listener.is_open
    assert listener.evidence().status == NO_RESPONSE


def test_close_code_outside_contract_means_events_not_offered() -> None:
    with (
        event_server(lambda connection: connection.close(1003)) as url,
        pytest.raises(NotOffered, match="closed with 1003"),
    ):
        find_token_location(user(url))


def test_close_code_4401_for_valid_token_is_violation() -> None:
    with event_server(lambda connection: connection.close(4401)) as url, pytest.raises(Violation) as caught:
        find_token_location(user(url))
    assert caught.value.rule == "events.authentication"
    assert len(caught.value.exchanges) == 2


def test_backend_may_accept_token_only_as_subprotocol() -> None:
    def tell(connection: ServerConnection) -> None:
        if connection.subprotocol is None:
            connection.close(4401)
        wait_for_close(connection)

    with event_server(tell, choose="bearer") as url:
        assert find_token_location(user(url)) == "subprotocol"


# -- A token that expires ---------------------------------------------------------------------------


def users(url: str, command: str | None) -> Users:
    lines = [f"base_url = {json.dumps(url)}"]
    for name in ("doctor", "patient"):
        lines += [f"[identities.{name}]", "id = 1", f"token = {json.dumps(token())}"]
    if command is not None:
        lines += ["[identities.expiring]", f"token_command = {json.dumps([sys.executable, '-c', command])}"]
    config = parse_config("\n".join(lines), "c")
    return Users(config, Backend(url, Redactor()))


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def close_at_expiry(connection: ServerConnection) -> None:
    """Close a connection when its token expires."""
    assert connection.request
    own = connection.request.headers["Authorization"].removeprefix("Bearer ")
    expires = jwt.decode(own, options={"verify_signature": False})["exp"]
    try:
        connection.recv(timeout=max(0.0, expires - time.time()))
    except TimeoutError:
        connection.close(4402)
    except ConnectionClosed:
        return


def test_connection_ends_when_its_token_expires() -> None:
    with event_server(close_at_expiry) as url:
        expiry = expire(users(url, f"print({token(3)!r})"), wait)
    assert expiry.code == 4402
    assert "$EXPIRING_TOKEN" in expiry.exchange.request_text


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
def test_missing_short_lived_token_is_reported(command: str | None, reason: str) -> None:
    with event_server(wait_for_close) as url, pytest.raises(Missing, match=reason):
        expire(users(url, command), wait)


def test_refused_short_lived_token_is_reported() -> None:
    with (
        event_server(close_at_expiry) as url,
        pytest.raises(Missing, match=r"refused the token .* closed with 4402"),
    ):
        expire(users(url, f"print({token(-1)!r})"), wait)
