"""The log of the last requests: kept as bytes while they are served, made readable when somebody looks.

No token is ever shown: `Authorization`, the WebSocket's subprotocol, and tokens in bodies are redacted.
"""

import re
import shlex
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from video_calls_spec import RULES, RuleId

from video_calls_server.events.hub import Subscription

KEPT = 500
"""How many requests are kept."""

MOST_BYTES = 16 * 1024 * 1024
"""How much of their bodies is kept, over all of them."""

LONGEST_BODY = 64 * 1024
"""How much of one body is kept, in bytes; the rest is cut off."""

REDACTED = "(redacted)"

_SECRET_HEADERS = {
    "authorization",
    "cookie",
    "set-cookie",
    "sec-websocket-protocol",
    "video-calls-control-key",
}
_SECRET_MEMBER = re.compile(
    r'("(?:token|access|refresh|access_token|refresh_token|authorization)"\s*:\s*")(?:[^"\\]|\\.)*"',
    re.IGNORECASE,
)
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*|00[67][0-9A-Za-z+/=]{40,}", re.ASCII)
_OF_THE_CONNECTION = {"accept-encoding", "connection", "content-length", "host", "user-agent"}

_RawHeaders = list[tuple[bytes, bytes]]


class Recorded:
    """A request and its answer as they go by. Cheap to fill in, for every request is recorded.

    `status` is that of the answer, the code with which a WebSocket was closed, or None where the client was
    told nothing.
    """

    __slots__ = (
        "answer",
        "answer_headers",
        "answer_size",
        "body",
        "body_size",
        "duration",
        "fault",
        "headers",
        "id",
        "method",
        "operation",
        "path",
        "path_id",
        "root",
        "rule",
        "started",
        "status",
        "user_id",
    )

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.id = 0
        self.method: str = scope.get("method", "WEBSOCKET")
        raw = scope.get("raw_path") or scope["path"].encode()
        self.path: bytes = raw.partition(b"?")[0]
        if scope["query_string"]:
            self.path += b"?" + scope["query_string"]
        self.root: str = scope.get("root_path", "")
        self.headers: _RawHeaders = scope["headers"]
        self.started = time.time()
        self.duration = 0.0
        self.body: list[bytes] = []
        self.body_size = 0
        self.status: int | None = None
        self.answer_headers: _RawHeaders = []
        self.answer: list[bytes] = []
        self.answer_size = 0
        self.operation: str | None = None
        self.path_id: str | None = None
        self.user_id: int | None = None
        self.rule: RuleId | None = None
        self.fault: str | None = None

    def take_body(self, part: bytes) -> None:
        """A part of the request's body has come."""
        if self.body_size < LONGEST_BODY:
            self.body.append(part)
        self.body_size += len(part)

    def take_answer(self, part: bytes) -> None:
        """A part of the answer's body has gone."""
        if self.answer_size < LONGEST_BODY:
            self.answer.append(part)
        self.answer_size += len(part)

    def finish(self, scope: Mapping[str, Any]) -> None:
        """The request is served; what was found out about it on the way stands in its scope."""
        self.duration = time.time() - self.started
        handler = scope.get("route_handler")
        self.operation = getattr(handler, "operation_id", None)
        self.path_id = scope.get("path_params", {}).get("id")
        self.user_id = getattr(scope.get("user"), "user_id", None)
        state = scope["state"]
        self.rule = state.get("rule")
        self.fault = state.get("fault")

    @property
    def kept_bytes(self) -> int:
        """How much of the bodies is kept."""
        return min(self.body_size, LONGEST_BODY) + min(self.answer_size, LONGEST_BODY)


class RequestLog:
    """The last requests, oldest first."""

    def __init__(self) -> None:
        self.closed = False
        self._kept: deque[Recorded] = deque()
        self._bytes = 0
        self._last_id = 0
        self._followers: set[Subscription] = set()

    def __iter__(self) -> Iterator[Recorded]:
        return iter(self._kept)

    def add(self, recorded: Recorded) -> None:
        """Keep a request that was served, and let go of the oldest."""
        self._last_id += 1
        recorded.id = self._last_id
        self._kept.append(recorded)
        self._bytes += recorded.kept_bytes
        while len(self._kept) > KEPT or self._bytes > MOST_BYTES:
            self._bytes -= self._kept.popleft().kept_bytes
        self._wake()

    def close(self) -> None:
        """Have nobody wait for news any longer."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        for follower in self._followers:
            follower.wake()

    def clear(self) -> None:
        """Forget all of them; ids go on."""
        self._kept.clear()
        self._bytes = 0

    @property
    def last_id(self) -> int:
        """The id of the newest request, 0 before the first."""
        return self._last_id

    def after(self, request_id: int) -> list[Recorded]:
        """The kept requests after this id, oldest first."""
        found: list[Recorded] = []
        for recorded in reversed(self._kept):
            if recorded.id <= request_id:
                break
            found.append(recorded)
        return found[::-1]

    @contextmanager
    def followed(self) -> Generator[Subscription]:
        """A place in the queue for news of further requests."""
        follower = Subscription()
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)


# -- As somebody reads it ---------------------------------------------------------------------------


class RuleSaid(msgspec.Struct):
    """The rule that refused a request, with the document's own sentence."""

    id: str
    level: str
    section: str
    statement: str


class Side(msgspec.Struct):
    """What was sent, or answered."""

    headers: list[tuple[str, str]]
    body: str | None


class Exchange(msgspec.Struct):
    """A request and its answer. Times in UTC; `status` is null where the client was told nothing."""

    id: int
    at: datetime
    duration_ms: float
    method: str
    path: str
    operation: str | None
    call: int | None
    identity: str | None
    status: int | None
    rule: RuleSaid | None
    fault: str | None
    request_id: str | None
    request: Side
    response: Side
    curl: str


def readable(recorded: Recorded, identity: str | None) -> Exchange:
    """A recorded request, for people; `identity` is the e-mail address of whom its token was."""
    headers, answer_headers = _text_headers(recorded.headers), _text_headers(recorded.answer_headers)
    body = _body(recorded.body, recorded.body_size)
    return Exchange(
        id=recorded.id,
        at=datetime.fromtimestamp(recorded.started, UTC),
        duration_ms=round(recorded.duration * 1000, 2),
        method=recorded.method,
        path=_redacted_text(recorded.path.decode("ascii", "backslashreplace")),
        operation=recorded.operation,
        call=_whole(recorded.path_id),
        identity=identity,
        status=recorded.status,
        rule=_rule(recorded.rule),
        fault=recorded.fault,
        request_id=next((value for name, value in answer_headers if name == "x-request-id"), None),
        request=Side(headers, body),
        response=Side(answer_headers, _body(recorded.answer, recorded.answer_size)),
        curl=_curl(recorded, headers, body),
    )


def _rule(slug: RuleId | None) -> RuleSaid | None:
    if slug is None:
        return None
    rule = RULES[slug]
    return RuleSaid(rule.id, rule.level, rule.section, rule.statement)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else None  # noqa: PLR2004


def _text_headers(headers: _RawHeaders) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name in _SECRET_HEADERS:
            scheme, _, rest = value.replace(",", " ").partition(" ")
            value = f"{scheme} {REDACTED}" if rest and scheme.isalpha() else REDACTED
        found.append((name, _redacted_text(value)))
    return found


def _body(parts: list[bytes], size: int) -> str | None:
    if not size:
        return None
    text = _redacted_text(b"".join(parts)[:LONGEST_BODY].decode("utf-8", "replace"))
    return text if size <= LONGEST_BODY else f"{text}… ({size - LONGEST_BODY} bytes more)"


def _redacted_text(text: str) -> str:
    return _TOKEN.sub(REDACTED, _SECRET_MEMBER.sub(rf'\1{REDACTED}"', text))


def _curl(recorded: Recorded, headers: list[tuple[str, str]], body: str | None) -> str:
    """A line that sends the request again, with the token from the environment."""
    url = f"{_origin(headers)}{recorded.path.decode('ascii', 'backslashreplace')}"
    words = ["curl", "-sS", "-X", recorded.method, shlex.quote(url)]
    for name, value in headers:
        if name == "authorization":
            words += ["-H", '"Authorization: Bearer $TOKEN"']
        elif name not in _OF_THE_CONNECTION | _SECRET_HEADERS and not name.startswith(("sec-", "origin")):
            words += ["-H", shlex.quote(f"{name}: {value}")]
    if body is not None:
        words += ["--data-raw", shlex.quote(body)]
    return " ".join(words)


def _origin(headers: list[tuple[str, str]]) -> str:
    return f"http://{next((value for name, value in headers if name == 'host'), 'localhost')}"


# -- Which of them --------------------------------------------------------------------------------------

STATUS = re.compile(r"[1-5]xx|\d{3,4}|none", re.ASCII)
"""How a filter writes a status: `404`, `4xx`, or `none` where the client was told nothing."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests somebody wants to see; None is any."""

    user_id: int | None = None
    operation: str | None = None
    status: str | None = None
    rule: str | None = None
    call: int | None = None
    fault: str | None = None

    def takes(self, recorded: Recorded) -> bool:
        """Whether the request is one of them."""
        return (
            self.user_id in (None, recorded.user_id)
            and self.operation in (None, recorded.operation)
            and (self.status is None or self.status in _words(recorded.status))
            and self.rule in (None, recorded.rule)
            and (self.call is None or self.call == _whole(recorded.path_id))
            and self.fault in (None, recorded.fault)
        )


def _words(status: int | None) -> tuple[str, ...]:
    return ("none",) if status is None else (str(status), f"{status // 100}xx")
