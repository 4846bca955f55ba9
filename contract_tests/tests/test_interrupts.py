"""Tests of an interrupt during a request."""

import signal
from collections.abc import Callable

import httpx
import pytest
from video_calls_contract.backend import Backend
from video_calls_contract.exchange import Exchange
from video_calls_contract.redaction import Redactor

URL = "http://backend.invalid/api/v1/video"


@pytest.fixture(autouse=True)
def _sigterm_as_interrupt() -> object:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


def backend_and_exchanges(
    handler: Callable[[httpx.Request], httpx.Response],
) -> tuple[Backend, list[Exchange]]:
    """Return a backend with this handler, and the list of its exchanges."""
    backend, exchanges = Backend(URL, Redactor(), transport=httpx.MockTransport(handler)), list[Exchange]()
    backend.watchers.append(exchanges.append)
    return backend, exchanges


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_created_call_is_recorded_before_the_interrupt(number: signal.Signals) -> None:
    def make(_: httpx.Request) -> httpx.Response:
        signal.raise_signal(number)
        return httpx.Response(201, content=iter([b'{"id": 7}']))

    backend, exchanges = backend_and_exchanges(make)
    with pytest.raises(KeyboardInterrupt):
        backend.send("POST", "/video-calls/", json_body={})
    assert [exchange.object["id"] for exchange in exchanges] == [7]


def test_signal_handlers_are_restored_after_response() -> None:
    before = signal.getsignal(signal.SIGINT)
    backend, _ = backend_and_exchanges(lambda _: httpx.Response(201, content=iter([b'{"id": 7}'])))
    backend.send("POST", "/video-calls/", json_body={})
    assert signal.getsignal(signal.SIGINT) is before


def test_get_request_is_interrupted_immediately() -> None:
    def read(_: httpx.Request) -> httpx.Response:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError

    backend, _ = backend_and_exchanges(read)
    with pytest.raises(KeyboardInterrupt):
        backend.send("GET", "/video-calls/")
