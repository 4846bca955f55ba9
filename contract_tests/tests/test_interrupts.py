"""An interrupt in the middle of a request that makes a call."""

import signal
from collections.abc import Callable

import httpx
import pytest
from video_calls_contract.backend import Backend
from video_calls_contract.exchange import Exchange, Redactor

URL = "http://backend.invalid/api/v1/video"


@pytest.fixture(autouse=True)
def _terminated_as_interrupted() -> object:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


def seen_of(handler: Callable[[httpx.Request], httpx.Response]) -> tuple[Backend, list[Exchange]]:
    """A backend that answers so, and what is seen of its answers."""
    backend, seen = Backend(URL, Redactor(), transport=httpx.MockTransport(handler)), list[Exchange]()
    backend.watchers.append(seen.append)
    return backend, seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_made_is_known_before_the_interrupt(number: signal.Signals) -> None:
    def make(_: httpx.Request) -> httpx.Response:
        signal.raise_signal(number)
        return httpx.Response(201, content=iter([b'{"id": 7}']))

    backend, seen = seen_of(make)
    with pytest.raises(KeyboardInterrupt):
        backend.send("POST", "/video-calls/", json_body={})
    assert [exchange.object["id"] for exchange in seen] == [7]


def test_interrupts_act_as_before_once_the_answer_is_there() -> None:
    before = signal.getsignal(signal.SIGINT)
    backend, _ = seen_of(lambda _: httpx.Response(201, content=iter([b'{"id": 7}'])))
    backend.send("POST", "/video-calls/", json_body={})
    assert signal.getsignal(signal.SIGINT) is before


def test_reading_is_interrupted_at_once() -> None:
    def read(_: httpx.Request) -> httpx.Response:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError

    backend, _ = seen_of(read)
    with pytest.raises(KeyboardInterrupt):
        backend.send("GET", "/video-calls/")
