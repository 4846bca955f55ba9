"""Tests of recordings of browsers and Playwright."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from video_calls_contract.command import main

from support.traffic import NOW, call, event, iso, jwt

URL = "https://api.example.com/api/v1/video"
TOKEN = [{"name": "Authorization", "value": f"Bearer {jwt()}"}]


def entry(path: str = "/video-calls/7/", status: int = 200, body: Any = None, **more: Any) -> dict[str, Any]:
    """Return an entry as Playwright writes it. An argument `content_X` sets X in the response's content."""
    content: dict[str, Any] = {"size": 9, "mimeType": "application/json", "text": json.dumps(body or call())}
    content |= {
        name.removeprefix("content_"): more.pop(name) for name in [*more] if name.startswith("content_")
    }
    headers = [{"name": "Content-Type", "value": "application/json"}]
    return {
        "startedDateTime": iso(5),
        "time": 12.5,
        "request": {
            "method": more.pop("method", "GET"),
            "url": more.pop("url", URL + path),
            "headers": TOKEN,
        },
        "response": {"status": status, "headers": headers, "content": content},
        **more,
    }


def har(tmp_path: Path, *entries: dict[str, Any]) -> tuple[int, dict[str, Any], str]:
    """Return the exit status, the JSON report and the output of the command for a recording."""
    recording, report = tmp_path / "one.har", tmp_path / "report.json"
    recording.write_text(json.dumps({"log": {"version": "1.2", "entries": entries}}))
    result = CliRunner().invoke(main, ["har", str(recording), "--json", str(report)])
    return result.exit_code, json.loads(report.read_text()), result.output


def test_violation_in_recording_is_reported(tmp_path: Path) -> None:
    coded = base64.b64encode(json.dumps({"id": 7}).encode()).decode()
    status, report, _ = har(tmp_path, entry(content_text=coded, content_encoding="base64"))
    assert status == 1
    assert "model.schema" in [one["id"] for one in report["rules"] if one["fails"]]


MESSAGES = [
    {"type": "send", "time": NOW.timestamp(), "opcode": 1, "data": "not checked"},
    {"type": "receive", "time": NOW.timestamp() + 6, "opcode": 1, "data": event(number="")},
]


def test_websocket_messages_are_checked(tmp_path: Path) -> None:
    url = URL.replace("https", "wss") + "/events/"
    _, report, _ = har(tmp_path, entry(), entry(url=url, status=101, _webSocketMessages=MESSAGES))
    assert [one["id"] for one in report["rules"] if one["outcome"] == "failed"] == ["events.call-started"]


SKIPPED = {
    "of other origins": entry(url="https://cdn.example.com/agora.js"),
    "of other paths": entry(url="https://api.example.com/app/"),
    "recorded without a body": entry(content_text=None),
    "cancelled by the client": entry(status=-1),
    "answered by a cache or by the test itself": entry(status=500, _wasFulfilled=True),
}


def test_skipped_entries_are_counted_by_reason(tmp_path: Path) -> None:
    redirect = entry(status=302, content_text="")
    status, report, _ = har(tmp_path, entry(), redirect, *SKIPPED.values())
    assert status == 0
    [note] = report["notes"]
    for words in SKIPPED:
        assert f"1 {words}" in note


def test_recording_without_authorization_has_no_finding(tmp_path: Path) -> None:
    stripped = entry()
    stripped["request"]["headers"] = []
    status, report, _ = har(tmp_path, stripped)
    [reason] = [one["reason"] for one in report["rules"] if one["id"] == "auth.required"]
    assert (status, "Authorization" in reason) == (0, True)


BAD: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"<html>", "not JSON"),
    "no log": (b"[]", "no log.entries"),
    "an entry without a request": (b'{"log": {"entries": [{}]}}', "entry 1"),
    "nothing of the API": (b'{"log": {"entries": []}}', "no URL"),
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD.keys())
def test_invalid_recording_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    recording = tmp_path / "bad.har"
    recording.write_bytes(content)
    result = CliRunner().invoke(main, ["har", str(recording)])
    assert (result.exit_code, words in result.output, "bad.har" in result.output) == (2, True, True)
