"""The backend under test: what is sent again, and when."""

import httpx
from video_calls_contract.backend import Backend
from video_calls_contract.exchange import Redactor


def test_a_429_with_a_date_that_is_none_is_waited_out() -> None:
    headers = {"Retry-After": "Fri, 05 Jan 2024 08:00:00 GMT", "Date": "now"}
    answers = iter(
        [httpx.Response(429, headers=headers, content=iter(())), httpx.Response(200, content=iter(()))]
    )
    transport = httpx.MockTransport(lambda _: next(answers))
    backend = Backend("http://backend.invalid/api/v1/video", Redactor(), transport=transport)
    assert backend.send("GET", "/video-calls/").status == 200
