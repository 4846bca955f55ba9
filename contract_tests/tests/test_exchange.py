import json
import subprocess
from typing import Any

import httpx
import pytest
from video_calls_contract.exchange import NO_RESPONSE, Exchange, instant, retry_after

from support import sample_results
from support.fake_backend import TOKENS

TOKEN = TOKENS["doctor"]
AGORA = "006970CA35de60c44645bbae8a215061b33IACV0fZUBw+72cVoL9eyGGh3Q6Poi8bgjwVLnyKSJyOXR7dIfRBXoFHl"


def exchange(content: bytes = b'{"id": 1}', **changes: Any) -> Exchange:
    """Return an exchange in which the doctor creates a call."""
    values: dict[str, Any] = {
        "operation": "createVideoCall",
        "method": "POST",
        "status": 201,
        "request_body": b'{"note": "it\'s $HOME"}',
    }
    return sample_results.exchange(content, **values | changes)


def curl_arguments(curl: str) -> list[str]:
    """Return the arguments that a shell passes to curl for this command line."""
    script = f"curl() {{ printf '%s\\0' \"$@\"; }}; DOCTOR_TOKEN=abc; {curl}"
    output = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True).stdout
    return output.split("\0")[:-1]


def test_curl_line_repeats_request_with_token_variable() -> None:
    arguments = curl_arguments(exchange().curl)
    assert arguments[:4] == ["-sS", "-i", "-X", "POST"]
    assert "Authorization: Bearer abc" in arguments
    assert arguments[-1] == '{"note": "it\'s $HOME"}'


def test_hostile_text_does_not_expand_in_curl_line() -> None:
    hostile = "$(echo hacked)`echo hacked`\"'; echo hacked; '$HOME"
    arguments = curl_arguments(
        exchange(
            url=f"http://x/{hostile}", request_headers=(("X-A", hostile),), request_body=hostile.encode()
        ).curl
    )
    assert f"http://x/{hostile}" in arguments
    assert f"X-A: {hostile}" in arguments
    assert arguments[-1] == hostile


def test_curl_line_has_variable_in_place_of_token() -> None:
    arguments = curl_arguments(
        exchange(url=f"http://x/?t={TOKEN}", request_body=json.dumps({"t": TOKEN}).encode()).curl
    )
    assert "http://x/?t=abc" in arguments
    assert arguments[-1] == '{"t": "abc"}'


def test_long_body_is_redacted_before_it_is_cut() -> None:
    cut_within_the_token = b"x" * 3990 + TOKEN.encode()
    assert TOKEN[:8] not in exchange(content=cut_within_the_token).response_text


def test_binary_body_is_escaped_in_curl_line() -> None:
    assert "--data-binary $'\\xff\\x00'" in exchange(request_body=b"\xff\x00").curl


def test_missing_response_has_its_reason() -> None:
    assert (
        exchange(status=NO_RESPONSE, content=b"connection reset").response_text
        == "no response: connection reset"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[1]", b"\xff", b"[" * 100_000],
    ids=["none", "HTML", "list", "bytes", "deep"],
)
def test_body_that_is_no_object_has_no_fields(content: bytes) -> None:
    assert exchange(content=content).object == {}
    assert list(exchange(content=content).calls) == []


@pytest.mark.parametrize("value", ["2024-01-05T10:00:00", "yesterday", None, 5, ""])
def test_invalid_instant_is_none(value: object) -> None:
    assert instant(value) is None


def test_same_time_in_other_offset_is_same_instant() -> None:
    assert instant("2024-01-05T10:00:00Z") == instant("2024-01-05T15:30:00.000+05:30")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "soon"}, 1),
        ({}, 1),
    ],
)
def test_wait_is_one_second_without_valid_retry_after(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(httpx.Headers(headers)) == seconds


def test_long_list_shows_violating_call_first() -> None:
    calls = [{"id": number, "doctor": 1, "note": "x" * 100} for number in range(1, 90)]
    about = exchange(
        operation="listVideoCalls", status=200, content=json.dumps({"results": calls}).encode()
    ).about(80)
    assert about.response_text.index('"id": 80') < about.response_text.index('"results"')


def test_long_refusal_shows_violating_part_first() -> None:
    content = b"." * 9000 + b"Traceback (most recent call last)"
    about = exchange(status=400, content=content).about("Traceback (most recent call last)")
    assert "Traceback" in about.response_text
    assert "Traceback" not in exchange(status=400, content=content).response_text
