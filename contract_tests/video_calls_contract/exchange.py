"""One request and its response: the evidence that a report shows, without secrets."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import httpx
import video_calls_spec.retry_after

from video_calls_contract.redaction import Redactor

NO_RESPONSE = 0
"""The status of an exchange without a response; its content says why."""

SOMEBODY = "somebody"
"""The user of an exchange whose credentials do not show who sent it."""

_MOST_SHOWN = 4000  # characters of a body in a report
_OF_A_LINE = 300  # characters of a body in a line
_LONG = 1000  # bytes; a report on a longer body begins with the part in focus
_CONTEXT = 200  # characters to show before the part in focus
_MOST_READ = 10 * _MOST_SHOWN  # characters of a body that are redacted; the rest is not shown


class NotJsonError(Exception):
    """A body is not JSON."""


def as_object(value: object) -> dict[str, Any]:
    """Return a JSON object, or an empty one instead of any other value."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def instant(value: object) -> datetime | None:
    """Return a time in a response body, converted to UTC; None if it is not a time with an offset."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo else None
    except (ValueError, OverflowError):  # in UTC, its year may be 0 or 10000
        return None


def retry_after(headers: httpx.Headers) -> float:
    """Return the seconds to wait by `Retry-After`; 1 if the header is missing or invalid."""
    seconds = video_calls_spec.retry_after.retry_after(headers)
    return 1.0 if seconds is None else seconds


@dataclass(frozen=True)
class Exchange:
    """A request and its response.

    Attributes:
        operation: the operation id of the contract; None for other requests.
        user: the name of the user who sent the request.
        status: the status of the response, or `NO_RESPONSE`.
        unread: why the body was not read; empty if it was.
        sent_at, received_at: times of this machine's clock.
        focus: the part of a long body that a report shows first: the id of a call in a list, or a text.
    """

    operation: str | None
    user: str
    method: str
    url: str
    request_headers: tuple[tuple[str, str], ...]
    request_body: bytes
    status: int
    headers: httpx.Headers
    content: bytes
    sent_at: datetime
    received_at: datetime
    redactor: Redactor = field(repr=False)
    unread: str = ""
    focus: object = None

    def about(self, focus: object) -> "Exchange":
        """Return a copy whose `focus` is this one."""
        return replace(self, focus=focus)

    @property
    def status_text(self) -> str:
        """The status in words."""
        return "no response" if self.status == NO_RESPONSE else str(self.status)

    @property
    def request_line(self) -> str:
        """The request on one line, with the beginning of its body."""
        body = self.request_body.decode("utf-8", "backslashreplace")[:_OF_A_LINE]
        line = f"{self.method} {self.url} as {self.user}"
        return self.redactor.redact(f"{line} with {body}" if body else line)

    @property
    def response_line(self) -> str:
        """The response on one line, with the beginning of its body."""
        return self.redactor.redact(f"{self.status_text} {self.text[:_OF_A_LINE]}".rstrip())

    @property
    def succeeded(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300  # noqa: PLR2004 (HTTP)

    @property
    def text(self) -> str:
        """The response body as text, whatever its encoding."""
        return self.content.decode("utf-8", "replace")

    @cached_property
    def json(self) -> Any:  # noqa: ANN401 (the backend may send any JSON)
        """The response body as JSON.

        Raises:
            NotJsonError: if it is not JSON.
        """
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            raise NotJsonError from None

    @cached_property
    def object(self) -> dict[str, Any]:
        """The response body if it is a JSON object, else an empty one."""
        try:
            body = self.json
        except NotJsonError:
            return {}
        return as_object(body)

    @property
    def sent_object(self) -> dict[str, Any]:
        """The request body if it is a JSON object, else an empty one."""
        try:
            return as_object(json.loads(self.request_body))
        except (ValueError, RecursionError):
            return {}

    @property
    def calls(self) -> Iterator[dict[str, Any]]:
        """The calls in a successful response: one call, or those of a page."""
        if not self.succeeded or self.operation in {None, "joinVideoCall"}:
            return
        body = self.object
        results = body.get("results") if self.operation == "listVideoCalls" else [body] if body else []
        for call in cast("list[object]", results) if isinstance(results, list) else ():
            if isinstance(call, dict):
                yield cast("dict[str, Any]", call)

    # -- Texts for reports ---------------------------------------------------------------------------

    @property
    def request_text(self) -> str:
        """The request as HTTP text."""
        lines = [f"{self.method} {self.url}", *(f"{name}: {value}" for name, value in self.request_headers)]
        if self.request_body:
            lines += ["", _pretty(self.request_body, self.redactor)]
        return self.redactor.redact("\n".join(lines))

    @property
    def response_text(self) -> str:
        """The response as HTTP text, with the headers that help to find a problem."""
        if self.status == NO_RESPONSE:
            return self.redactor.redact(f"no response: {self.text}")
        names = (
            "content-type",
            "location",
            "allow",
            "www-authenticate",
            "retry-after",
            "x-request-id",
            "date",
        )
        lines = [f"HTTP {self.status}"]
        lines += [f"{name}: {self.headers[name]}" for name in names if name in self.headers]
        if self.content:
            lines += ["", *self._parts_in_focus(), _pretty(self.content, self.redactor)]
        if self.unread:
            lines += ["", f"({self.unread})"]
        return self.redactor.redact("\n".join(lines))

    def _parts_in_focus(self) -> list[str]:
        """Return the lines that show the part of a long body in focus."""
        if self.focus is None or len(self.content) <= _LONG:
            return []
        at = self.text.find(self.focus) if isinstance(self.focus, str) else -1
        if row := next((call for call in self.calls if call.get("id") == self.focus), None):
            return [f"(of {len(list(self.calls))} calls:)", json.dumps(row, indent=2, ensure_ascii=False), ""]
        if at < 0:
            return []
        start = max(0, at - _CONTEXT)
        return [f"(from character {start:,}:)", self.text[start : at + 3 * _CONTEXT], ""]

    @property
    def curl(self) -> str:
        """A curl command that repeats the request, with the token in a variable."""
        words = ["curl -sS -i"]
        if self.method != "GET":
            words.append(f"-X {self.method}")
        words.append(self.redactor.quoted(self.url))
        words += [f"-H {self.redactor.quoted(f'{name}: {value}')}" for name, value in self.request_headers]
        if self.request_body:
            words.append(f"--data-binary {_quoted(self.request_body, self.redactor)}")
        return " ".join(words)


Together = Callable[[Sequence[Callable[[], Exchange]]], list[Exchange]]
"""Sends requests simultaneously, and returns the exchanges in order."""


def _pretty(body: bytes, redactor: Redactor) -> str:
    text = redactor.redact(body.decode("utf-8", "backslashreplace")[:_MOST_READ])
    if len(text) > _MOST_SHOWN or len(body) > _MOST_READ:
        return f"{text[:_MOST_SHOWN]}… ({len(body):,} bytes)"
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _quoted(body: bytes, redactor: Redactor) -> str:
    if len(body) > _MOST_SHOWN:
        return f"@body  # {len(body):,} bytes, shown in part above"
    try:
        return redactor.quoted(body.decode())
    except UnicodeDecodeError:
        return "$'" + "".join(f"\\x{byte:02x}" for byte in body) + "'"
