"""Tests of reading the body of a response: encodings and limits."""

import gzip
import json
import time
import tracemalloc
from collections.abc import Iterable

import httpx
import pytest
from video_calls_contract.backend import Backend
from video_calls_contract.exchange import NO_RESPONSE, Exchange
from video_calls_contract.redaction import Redactor
from video_calls_spec.bodies import LARGEST_BODY

MIB = 2**20


def receive(body: Iterable[bytes], coding: str = "", timeout: float = 10) -> Exchange:
    """Return the exchange that the suite records for a 200 with this body."""

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": coding}, content=iter(body))

    transport = httpx.MockTransport(handler)
    return Backend("http://backend.invalid", Redactor(), timeout=timeout, transport=transport).send(
        "GET", "/"
    )


def test_gzip_body_in_chunks_is_decoded() -> None:
    coded = gzip.compress(b'{"id": 7}')
    assert receive([coded[:5], coded[5:]], "gzip").object == {"id": 7}


@pytest.mark.parametrize(
    ("body", "coding", "reason"),
    [
        (gzip.compress(bytes(64 * MIB)), "gzip", "more than 2,097,152 bytes"),
        (gzip.compress(gzip.compress(bytes(64 * MIB))), "gzip, gzip", "gzip, gzip"),
        (bytes(LARGEST_BODY + 1), "", "more than 2,097,152 bytes"),
        (gzip.compress(b"{}") + bytes(64 * MIB), "gzip", "more than 2,097,152 bytes"),
        (b"[" + b"0," * 300_000 + b"0]", "", "more than 200,000 values"),
        (b"\x0b\x02\x80", "br", "'br'"),
        (b"{}", "gzip", "not gzip"),
        (gzip.compress(b"{}")[:-4], "gzip", "cut off"),
    ],
    ids=["bomb", "bomb in a bomb", "long", "long after gzip", "list", "other coding", "no gzip", "cut off"],
)
def test_unreadable_body_is_reported_with_little_memory(body: bytes, coding: str, reason: str) -> None:
    tracemalloc.start()
    exchange = receive([body], coding)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MIB
    assert (exchange.status, exchange.content, exchange.object) == (200, b"", {})
    assert reason in exchange.unread
    assert reason in exchange.response_text


def test_page_of_100_long_calls_is_read() -> None:
    page = {"results": [{"id": number, "note": "x" * 10_000} for number in range(100)]}
    assert len(receive([json.dumps(page).encode()]).object["results"]) == 100


def test_slow_body_ends_at_the_timeout() -> None:
    exchange = receive(iter(lambda: time.sleep(0.01) or b"x", None), timeout=0.1)
    assert exchange.status == NO_RESPONSE
    assert "within 0.1 s" in exchange.text
