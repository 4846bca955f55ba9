"""Recordings of browsers and Playwright (HAR 1.2), as records like those of the proxy."""

import base64
import binascii
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from video_calls_spec import Level, RuleId

from video_calls_contract.config import Agora
from video_calls_contract.exchange import as_object, instant
from video_calls_contract.observers import Finding
from video_calls_contract.results import Results
from video_calls_contract.watch.exchanges import operation_of
from video_calls_contract.watch.judgement import Judge
from video_calls_contract.watch.records import (
    Header,
    RawExchange,
    Record,
    SocketClose,
    SocketMessage,
    SocketOpen,
)

__all__ = ["HarError", "judge_recordings"]

_LARGEST = 500 * 2**20  # bytes of a file
_TEXT = 1  # the opcode of a text message
_SWITCHING = 101


class HarError(Exception):
    """A file that is no recording, or holds nothing of the API; the message names it."""


def judge_recordings(
    paths: tuple[Path, ...],
    base_url: str | None,
    agora: Agora,
    level: Level,
    report: Callable[[RuleId, Finding], None],
) -> Results:
    """Judge the exchanges of HAR files with the API at a base URL; None for where most of them were.

    Raises:
        HarError: if a file cannot be used, or none has an exchange with the API.
    """
    entries = [(path, entry) for path in paths for entry in _entries(path)]
    root = base_url or _root(entries)
    if root is None:
        names = ", ".join(str(path) for path in paths)
        raise HarError(f"{names}: no URL ends as those of the Video Calls API do; is it the right recording?")
    begun = min((_sent_at(entry) for _, entry in entries), default=datetime.now(UTC))
    judge = Judge(root, agora, level, begun, report)
    own = [entry for _, entry in entries if entry["request"]["url"].startswith(root)]
    sent = {name for entry in own for name, _ in _headers(entry, "request")}
    if "authorization" not in sent:
        judge.unjudged["auth.required"] = "the recording has no Authorization: browsers may leave it out"
    skipped = judge.reader.skipped
    records = [record for path, entry in entries for record in _records(path, entry, root, skipped)]
    for record in sorted(records, key=_time_of):
        judge.judge(record)
    return judge.results()


def _time_of(record: Record) -> float:
    return record.received_at if isinstance(record, RawExchange) else record.at


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > _LARGEST:
            raise HarError(f"{path}: has more than {_LARGEST // 2**20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise HarError(f"{path}: cannot be read: {error.strerror or error}") from None
    if content.startswith(b"PK"):
        raise HarError(f"{path}: is a zip archive; unpack it, and give the .har file in it")
    try:
        log = as_object(json.loads(content)).get("log")
    except (ValueError, RecursionError) as error:
        raise HarError(f"{path}: is not a HAR file: it is not JSON ({error})") from None
    entries = as_object(log).get("entries")
    if not isinstance(entries, list):
        raise HarError(f"{path}: is not a HAR file: it has no log.entries")
    for number, entry in enumerate(cast("list[object]", entries), start=1):
        request = as_object(as_object(entry).get("request"))
        good = isinstance(request.get("url"), str) and isinstance(request.get("method"), str)
        if not good or instant(as_object(entry).get("startedDateTime")) is None:
            raise HarError(
                f"{path}: entry {number} has no request with a url and a method, or no startedDateTime"
            )
    return cast("list[dict[str, Any]]", entries)


def _root(entries: list[tuple[Path, dict[str, Any]]]) -> str | None:
    """Return the root of the API with which most exchanges were."""
    roots: Counter[str] = Counter()
    for _, entry in entries:
        url: str = entry["request"]["url"]
        parts = urlsplit(url)
        root, called, rest = parts.path.rpartition("/video-calls/")
        if called and operation_of(entry["request"]["method"], called + rest):
            roots[f"{parts.scheme}://{parts.netloc}{root}"] += 1
    return roots.most_common(1)[0][0] if roots else None


def _records(path: Path, entry: dict[str, Any], root: str, skipped: Counter[str]) -> Iterator[Record]:
    request, response = entry["request"], as_object(entry.get("response"))
    url: str = request["url"]
    parts, own = urlsplit(url), urlsplit(root)
    is_socket = parts.scheme in ("ws", "wss")
    if parts.netloc != own.netloc:
        skipped["of other origins"] += 1
        return
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    sent = _sent_at(entry)
    if is_socket or response.get("status") == _SWITCHING:
        yield from _socket(entry, target, sent)
        return
    if why := _why_not(entry, response):
        skipped[why] += 1
        return
    body = _body(path, as_object(response.get("content")))
    headers = [header for header in _headers(entry, "response") if header[0] != "content-encoding"]
    if body is None and not _has_no_body(request["method"], response, headers):
        skipped["recorded without a body"] += 1
        return
    posted = as_object(request.get("postData")).get("text")
    took = entry.get("time")
    yield RawExchange(
        method=request["method"],
        target=target,
        request_headers=_headers(entry, "request"),
        sent_at=sent.timestamp(),
        request_body=posted.encode("utf-8", "replace") if isinstance(posted, str) else b"",
        status=response["status"],
        headers=headers,
        body=body or b"",
        received_at=sent.timestamp() + max(took if isinstance(took, int | float) else 0, 0) / 1000,
    )


def _why_not(entry: dict[str, Any], response: dict[str, Any]) -> str:
    """Return why an entry is no exchange with the backend; empty if it is one."""
    status = response.get("status")
    if not isinstance(status, int) or status <= 0 or entry.get("_wasAborted"):
        return "cancelled by the client, or without an answer"
    if entry.get("_wasFulfilled") or entry.get("_fromCache") or response.get("_fetchedViaServiceWorker"):
        return "answered by a cache or by the test itself"
    return ""


def _socket(entry: dict[str, Any], target: str, sent: datetime) -> Iterator[Record]:
    """The messages of a WebSocket, as Chromium and Playwright record them."""
    number = id(entry)
    headers = _headers(entry, "response")
    chosen = next((value for name, value in headers if name == "sec-websocket-protocol"), None)
    yield SocketOpen(number, target, _headers(entry, "request"), chosen, sent.timestamp())
    last = sent.timestamp()
    messages = entry.get("_webSocketMessages")
    for message in cast("list[object]", messages) if isinstance(messages, list) else ():
        told = as_object(message)
        data, at = told.get("data"), told.get("time")
        if told.get("type") != "receive" or not isinstance(data, str):
            continue
        # Chromium writes seconds, Playwright milliseconds.
        seconds = at / 1000 if isinstance(at, int | float) and at > 1e11 else at  # noqa: PLR2004
        last = seconds if isinstance(seconds, int | float) and seconds > 0 else last
        yield SocketMessage(number, data if told.get("opcode", _TEXT) == _TEXT else data.encode(), last)
    yield SocketClose(number, None, last)


def _sent_at(entry: dict[str, Any]) -> datetime:
    return instant(entry["startedDateTime"]) or datetime.now(UTC)


def _headers(entry: dict[str, Any], of: str) -> list[Header]:
    listed = as_object(entry.get(of)).get("headers")
    headers = [as_object(one) for one in cast("list[object]", listed)] if isinstance(listed, list) else []
    return [
        (str(one.get("name", "")).lower(), str(one.get("value", "")))
        for one in headers
        if not str(one.get("name", "")).startswith(":")
    ]


def _body(path: Path, content: dict[str, Any]) -> bytes | None:
    """Return the body of an answer; None if the recording has none."""
    text, beside = content.get("text"), content.get("_file")
    if isinstance(beside, str):
        try:
            return (path.parent / Path(beside).name).read_bytes()
        except OSError:
            return None
    if not isinstance(text, str):
        return None
    if content.get("encoding") != "base64":
        return text.encode("utf-8", "replace") if text or not content.get("size") else None
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return None


def _has_no_body(method: str, response: dict[str, Any], headers: list[Header]) -> bool:
    """Whether an answer had no body to be recorded."""
    bodiless = method == "HEAD" or response["status"] in (204, 304) or 300 <= response["status"] < 400  # noqa: PLR2004
    return bodiless or ("content-length", "0") in headers
