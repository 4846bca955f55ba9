"""The log of the last requests: kept as bytes while they are served, made readable when somebody looks.

No secret is shown: what `video_calls_spec.redaction` knows by its name or its form is redacted.
"""

import re
import shlex
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import msgspec
from litestar.types import Scope
from video_calls_spec import RULES, RuleId
from video_calls_spec.redaction import REDACTED, is_secret, redact

from video_calls_server.api.ids import ExternalId, parse_external_id
from video_calls_server.domain.clock import instant
from video_calls_server.events.hub import Subscription
from video_calls_server.observability.request_id import sent_path

KEPT = 500
"""How many requests are kept."""

MOST_BYTES = 16 * 1024 * 1024
"""How many bytes are kept, over all of them: headers, paths, bodies, and the objects that hold these."""

LONGEST_BODY = 64 * 1024
"""How much of one body is shown, in bytes."""

_PER_REQUEST, _PER_HEADER = 1024, 128
"""Bytes that Python takes for a recorded request and for each header, beside the text itself."""

_SUBPROTOCOL = "sec-websocket-protocol"  # which carries a browser's token
_OF_THE_CONNECTION = {"accept-encoding", "connection", "content-length", "host", "user-agent"}

_SCHEMES = {"basic", "bearer"}
_OF_THE_HANDSHAKE = {"sec-websocket-key", "sec-websocket-version"}

RawHeaders = list[tuple[bytes, bytes]]


class Recorded:
    """A request and its answer, kept as they went by and made readable when somebody looks.

    `status` is that of the answer, the code with which a WebSocket was closed, or 0 where the client was told
    nothing. `server` is the address at which the server itself was reached; `size` is in bytes.
    """

    def __init__(
        self, scope: Scope, seconds: float, status: int, headers: RawHeaders, *, body: bytes, answer: bytes
    ) -> None:
        # Nothing of the scope itself is kept: it holds parsed bodies, and the whole namespace.
        state, handler = scope["state"], scope.get("route_handler")
        self.id = 0  # until it is in the log
        self.started = time.time() - seconds
        self.duration = seconds
        self.method = str(scope.get("method", "WEBSOCKET"))
        self.path = sent_path(scope).partition("?")[0]  # some test clients leave the query on it
        self.query: bytes = scope["query_string"]
        self.server: tuple[str, int | None] | None = scope.get("server")
        self.headers: RawHeaders = list(scope["headers"])
        self.body = body
        self.status = status
        self.answer_headers = headers
        self.answer = answer
        self.operation: str | None = getattr(handler, "operation_id", None) or getattr(handler, "name", None)
        self.call_id = parse_external_id(scope.get("path_params", {}).get("id", ""))
        self.user_id: int | None = getattr(scope.get("user"), "user_id", None)
        self.rule: RuleId | None = state.get("rule")
        self.fault: str | None = state.get("fault")
        self.size = _PER_REQUEST + sum(map(len, (self.path, self.query, body, answer, self.fault or "")))
        for name, value in (*self.headers, *headers):
            self.size += _PER_HEADER + len(name) + len(value)

    @property
    def target(self) -> str:
        """The path and the query, as they were sent."""
        query = self.query.decode("ascii", "backslashreplace")
        return f"{self.path}?{query}" if query else self.path


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

    def record(self, recorded: Recorded) -> None:
        """Keep a request, and drop the oldest beyond the limits."""
        self._last_id += 1
        recorded.id = self._last_id
        self._kept.append(recorded)
        self._bytes += recorded.size
        while len(self._kept) > KEPT or self._bytes > MOST_BYTES:
            self._bytes -= self._kept.popleft().size
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
    def is_followed(self) -> bool:
        """Whether somebody waits for news of further requests."""
        return bool(self._followers)

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
    call: ExternalId | None
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
    headers = _text_headers(recorded.headers)
    answer_headers = _text_headers(recorded.answer_headers)
    body = _body(recorded.body)
    return Exchange(
        id=recorded.id,
        at=instant(recorded.started),
        duration_ms=round(recorded.duration * 1000, 2),
        method=recorded.method,
        path=redact(recorded.target),
        operation=recorded.operation,
        call=recorded.call_id,
        identity=identity,
        status=recorded.status or None,
        rule=_rule(recorded.rule),
        fault=redact(recorded.fault) if recorded.fault else None,
        request_id=next((value for name, value in answer_headers if name == "x-request-id"), None),
        request=Side(headers, body),
        response=Side(answer_headers, _body(recorded.answer)),
        curl=_curl(recorded, headers, body),
    )


def _rule(slug: RuleId | None) -> RuleSaid | None:
    if slug is None:
        return None
    rule = RULES[slug]
    return RuleSaid(rule.id, rule.level, rule.section, rule.statement)


def _text_headers(headers: RawHeaders) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if _holds_secret(name):
            scheme, _, rest = value.replace(",", " ").partition(" ")
            value = f"{scheme} {REDACTED}" if rest and scheme.lower() in _SCHEMES else REDACTED
        found.append((name, redact(value)))
    return found


def _body(body: bytes) -> str | None:
    if not body:
        return None
    text = redact(body[:LONGEST_BODY].decode("utf-8", "replace"))
    return text if len(body) <= LONGEST_BODY else f"{text}… ({len(body) - LONGEST_BODY} bytes more)"


def _holds_secret(header: str) -> bool:
    return header == _SUBPROTOCOL or is_secret(header)


def _curl(recorded: Recorded, headers: list[tuple[str, str]], body: str | None) -> str:
    """A line that sends the request again, with the token from the environment."""
    words = ["curl", "-sSg", *_curl_method(recorded.method)]
    slash = "" if recorded.target.startswith("/") else "/"  # without one, it would become part of the address
    words.append(shlex.quote(f"{_origin(recorded.server)}{slash}{redact(recorded.target)}"))
    for name, value in headers:
        if name == "authorization":
            words += ["-H", '"Authorization: Bearer $TOKEN"']
        elif name == _SUBPROTOCOL:
            words += ["-H", '"Sec-WebSocket-Protocol: bearer, $TOKEN"']
        elif name in _OF_THE_HANDSHAKE or not (
            name in _OF_THE_CONNECTION or _holds_secret(name) or name.startswith(("sec-", "origin"))
        ):
            words += ["-H", shlex.quote(f"{name}: {value}" if value else f"{name};")]
    if body is not None:
        if "content-type" not in dict(headers):
            words += ["-H", "content-type:"]  # curl would say that it is a form's
        words += ["--data-raw", shlex.quote(body)]
    return " ".join(words)


def _curl_method(method: str) -> list[str]:
    if method == "WEBSOCKET":  # what comes over it is shown as it comes
        return ["-i", "-N", "--http1.1", "-H", shlex.quote("Connection: Upgrade")]
    return ["-I"] if method == "HEAD" else ["-X", shlex.quote(method)]


def _origin(server: tuple[str, int | None] | None) -> str:
    """The server's own address: a sender's `Host` could lead the token elsewhere."""
    host, port = server or ("localhost", None)
    if port is None:  # at a Unix socket, `host` is its path
        return "http://localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
    call: ExternalId | None = None
    fault: str | None = None

    def takes(self, recorded: Recorded) -> bool:
        """Whether the request is one of them."""
        return (
            self.user_id in (None, recorded.user_id)
            and self.operation in (None, recorded.operation)
            and (self.status is None or self.status in _words(recorded.status))
            and self.rule in (None, recorded.rule)
            and (self.call is None or self.call == recorded.call_id)
            and self.fault in (None, recorded.fault)
        )


def _words(status: int) -> tuple[str, ...]:
    return (str(status), f"{status // 100}xx") if status else ("none",)
