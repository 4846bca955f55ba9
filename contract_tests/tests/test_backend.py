"""Tests of the client of the backend: retries, timeouts, links and redaction."""

import httpx
from video_calls_contract.backend import Backend
from video_calls_contract.redaction import Redactor


def test_agora_token_is_redacted_when_percent_encoded() -> None:
    token = "006" + "a" * 32 + "IAC/V0fZUBw72cVoL9eyGGh3Q6Poi8bgjwVLnyKSJyOXR7dIfRBXoFHl"
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, content=iter([b'{"token": "%s"}' % token.encode()]))
    )
    backend = Backend("http://backend.invalid", Redactor(), transport=transport)
    backend.send("POST", "/video-calls/1/join/", operation="joinVideoCall")
    assert backend.redactor.redact(f"at {token[40:].replace('V', '%56')}") == "at (redacted)"
    assert backend.redactor.redact(f"app id {'a' * 32}") == f"app id {'a' * 32}"


def test_429_with_invalid_date_is_retried() -> None:
    headers = {"Retry-After": "Fri, 05 Jan 2024 08:00:00 GMT", "Date": "now"}
    answers = iter(
        [httpx.Response(429, headers=headers, content=iter(())), httpx.Response(200, content=iter(()))]
    )
    transport = httpx.MockTransport(lambda _: next(answers))
    backend = Backend("http://backend.invalid/api/v1/video", Redactor(), transport=transport)
    assert backend.send("GET", "/video-calls/").status == 200


def test_operation_gets_short_timeout_after_two_timeouts() -> None:
    timeouts: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, content=iter(()))
        timeouts.append(request.extensions["timeout"]["read"])
        raise httpx.ReadTimeout("hangs", request=request)

    backend = Backend("http://backend.invalid", Redactor(), transport=httpx.MockTransport(answer))
    for operation in ("joinVideoCall", "joinVideoCall", "joinVideoCall", "endVideoCall"):
        backend.send("POST", "/video-calls/1/", operation=operation)
    assert timeouts == [10, 10, 1, 10]


def test_link_to_public_host_becomes_configured_address() -> None:
    backend = Backend("http://10.0.0.5:8000/api/v1/video", Redactor())
    own = "http://10.0.0.5:8000/api/v1/video/video-calls/?page=2"
    assert backend.local_url(own) == own
    assert backend.local_url("https://api.example.com/api/v1/video/video-calls/?page=2") == own
    assert backend.local_url("https://api.example.com/elsewhere/?page=2") is None
