"""Reads recordings from browsers and Playwright (HAR 1.2) as captures."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from video_calls_spec import Level

from video_calls_contract.config import Agora
from video_calls_contract.exchange import as_object, instant
from video_calls_contract.results import Results
from video_calls_contract.watch.capture import Capture, Header
from video_calls_contract.watch.decoding import operation_of
from video_calls_contract.watch.history import Report
from video_calls_contract.watch.traffic import Traffic

_SWITCHING = 101


class HarError(Exception):
    """A file is not a recording, or contains no exchange with the API; the message names the file."""


def check_recordings(
    paths: tuple[Path, ...], base_url: str | None, agora: Agora, level: Level, report: Report
) -> Results:
    """Check the exchanges of HAR files with the API at a base URL.

    Args:
        base_url: the root of the API; None for the API that has the most exchanges.

    Raises:
        HarError: if a file cannot be read, or no file contains an exchange with the API.
    """
    entries = [entry for path in paths for entry in _entries(path)]
    root = base_url or _root(entries)
    if root is None:
        names = ", ".join(str(path) for path in paths)
        raise HarError(f"{names}: no URL looks like one of the Video Calls API; is it the right recording?")
    started_at = min((_sent_at(entry) for entry in entries), default=0.0)
    traffic = Traffic(root, agora, level, datetime.fromtimestamp(started_at, UTC), report)
    own = [entry for entry in entries if entry["request"]["url"].startswith(root)]
    if "authorization" not in {name for entry in own for name, _ in _headers(entry["request"])}:
        traffic.skip_reasons["auth.required"] = "the recording has no Authorization; browsers may omit it"
    captures = [capture for entry in entries for capture in _captures(entry, root)]
    for capture in sorted(captures, key=lambda capture: capture.received_at):
        traffic.check(capture)
    return traffic.results()


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = as_object(as_object(json.loads(path.read_bytes())).get("log")).get("entries")
    except OSError as error:
        raise HarError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise HarError(f"{path}: is not a HAR file: it is not JSON ({error})") from None
    if not isinstance(entries, list):
        raise HarError(f"{path}: is not a HAR file: it has no log.entries")
    for number, entry in enumerate(cast("list[object]", entries), start=1):
        request = as_object(as_object(entry).get("request"))
        is_request = isinstance(request.get("url"), str) and isinstance(request.get("method"), str)
        if not is_request or instant(as_object(entry).get("startedDateTime")) is None:
            raise HarError(
                f"{path}: entry {number} has no request with a url and a method, or no startedDateTime"
            )
    return cast("list[dict[str, Any]]", entries)


def _root(entries: list[dict[str, Any]]) -> str | None:
    """Return the root of the API that has the most exchanges; None if there is no such API."""
    roots: Counter[str] = Counter()
    for entry in entries:
        root, calls, rest = entry["request"]["url"].partition("?")[0].rpartition("/video-calls/")
        if calls and operation_of(entry["request"]["method"], calls + rest):
            roots[root] += 1
    return roots.most_common(1)[0][0] if roots else None


def _captures(entry: dict[str, Any], root: str) -> Iterator[Capture]:
    request, response = entry["request"], as_object(entry.get("response"))
    url: str = request["url"]
    parts, sent_at = urlsplit(url), _sent_at(entry)
    request_text, duration, status = (
        as_object(request.get("postData")).get("text"),
        entry.get("time"),
        response.get("status"),
    )
    body = _body(as_object(response.get("content")))
    capture = Capture(
        method=request["method"],
        target=parts.path + (f"?{parts.query}" if parts.query else ""),
        request_headers=_headers(request),
        sent_at=sent_at,
        request_body=request_text.encode("utf-8", "replace") if isinstance(request_text, str) else b"",
        status=status if isinstance(status, int) else 0,
        headers=[header for header in _headers(response) if header[0] != "content-encoding"],
        body=body or b"",
        received_at=sent_at + max(duration if isinstance(duration, int | float) else 0, 0) / 1000,
    )
    if parts.netloc != urlsplit(root).netloc:
        capture.skip_reason = "of other origins"
    elif parts.scheme in ("ws", "wss") or status == _SWITCHING:
        yield from _messages(entry, capture)
        return
    elif capture.status <= 0 or entry.get("_wasAborted"):
        capture.skip_reason = "cancelled by the client, or without a response"
    elif entry.get("_wasFulfilled") or entry.get("_fromCache") or response.get("_fetchedViaServiceWorker"):
        capture.skip_reason = "answered by a cache or by the test itself"
    elif body is None and not _has_no_body(capture):
        capture.skip_reason = "recorded without a body"
    yield capture


def _messages(entry: dict[str, Any], opened: Capture) -> Iterator[Capture]:
    """Yield the messages that the target sent over a WebSocket."""
    opened = replace(opened, status=_SWITCHING, body=b"", socket=id(entry), position=-1)
    messages = entry.get("_webSocketMessages")
    for message in map(as_object, cast("list[object]", messages) if isinstance(messages, list) else ()):
        data, at = message.get("data"), message.get("time")
        if message.get("type") == "receive" and isinstance(data, str) and isinstance(at, int | float):
            seconds = at / 1000 if at > 1e11 else at  # noqa: PLR2004 (Playwright writes milliseconds)
            content, position = data.encode("utf-8", "replace"), opened.position + 1
            opened = replace(opened, body=content, received_at=seconds, position=position)
            yield opened
    yield replace(opened, body=b"", is_end=True)


def _sent_at(entry: dict[str, Any]) -> float:
    return (instant(entry["startedDateTime"]) or datetime.now(UTC)).timestamp()


def _headers(message: dict[str, Any]) -> list[Header]:
    listed = message.get("headers")
    headers = [as_object(one) for one in cast("list[object]", listed)] if isinstance(listed, list) else []
    return [
        (str(one.get("name", "")).lower(), str(one.get("value", "")))
        for one in headers
        if not str(one.get("name", "")).startswith(":")
    ]


def _body(content: dict[str, Any]) -> bytes | None:
    """Return the body of a response; None if the recording has none."""
    text = content.get("text")
    if not isinstance(text, str):
        return None
    if content.get("encoding") != "base64":
        return text.encode("utf-8", "replace") if text or not content.get("size") else None
    return base64.b64decode(text)


def _has_no_body(capture: Capture) -> bool:
    """Return whether a response has no body by the rules of HTTP."""
    is_bodiless = capture.method == "HEAD" or capture.status in (204, 304) or 300 <= capture.status < 400  # noqa: PLR2004
    return is_bodiless or ("content-length", "0") in capture.headers
