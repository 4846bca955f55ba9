"""One request and what came back: the evidence that a report shows, with nothing secret in it."""

import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import httpx
import video_calls_spec.retry_after
from video_calls_spec.redaction import REDACTED, redact_tokens

from video_calls_contract.traces import Traces

NO_ANSWER = 0
"""The status of an exchange to which nothing came back; its content says why."""

SOMEBODY = "somebody"
"""The person of an exchange whose credentials do not say who sent it."""

_MOST_SHOWN = 4000  # characters of a body
_OF_A_LINE = 300  # characters of a body
_LONG = 1000  # bytes of a body; in a longer one, what matters is shown first
_AROUND = 200  # characters before what matters
_MOST_READ = 10 * _MOST_SHOWN  # characters of a body that are searched for secrets


class NotJsonError(Exception):
    """A body that should be JSON and is not."""


class Redactor:
    """Takes secrets out of everything that is shown.

    Secrets are learned by value, and found in other encodings and in pieces too. JWTs and the tokens of Agora
    are known by their form as well.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._traces = Traces()
        self._lock = threading.Lock()

    def learn(self, secret: str, name: str) -> None:
        """From now on, show `$name` in place of this text."""
        if secret:
            with self._lock:
                self._names.setdefault(secret, f"${name}")
                self._traces.learn(secret)

    def learn_traces(self, secret: str) -> None:
        """From now on, redact this text in other encodings and in pieces; its own form is known."""
        with self._lock:
            self._traces.learn(secret)

    def quoted(self, text: str) -> str:
        """A shell word of this text, redacted, in which our variables are the only thing that expands."""
        names = sorted(set(self._names.values()), key=len, reverse=True)
        if not names:
            return shlex.quote(self.redact(text))
        parts = re.split("(" + "|".join(map(re.escape, names)) + ")", self.redact(text))
        return "".join(f'"{part}"' if part in names else shlex.quote(part) for part in parts if part) or "''"

    def redact(self, text: str) -> str:
        """The text, without what must not be seen."""
        for secret in sorted(self._names.copy(), key=len, reverse=True):
            text = text.replace(secret, self._names[secret])
        text = redact_tokens(text)
        shown, last = list[str](), 0
        for start, end in self._traces.find(text):
            shown += [text[last:start], REDACTED]
            last = end
        return "".join([*shown, text[last:]])


def as_object(value: object) -> dict[str, Any]:
    """A JSON object, or an empty one in place of anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def instant(value: object) -> datetime | None:
    """A time of a response, aware, in UTC; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo else None
    except (ValueError, OverflowError):  # in UTC it may be of the year 0, or of 10000
        return None


def retry_after(headers: httpx.Headers) -> float:
    """Return the seconds that a `Retry-After` asks to wait; one if there is no valid `Retry-After`."""
    seconds = video_calls_spec.retry_after.retry_after(headers)
    return 1.0 if seconds is None else seconds


@dataclass(frozen=True)
class Exchange:
    """A request and its response.

    Attributes:
        operation: the operation id of the contract, None for what the contract does not name.
        person: who asked: the name of an identity, or what else stood in the header.
        status: of the response, or `NO_ANSWER`.
        unread: why the body was not read; empty if it was.
        sent_at, received_at: by this machine's clock.
        focus: what matters in a long body: the id of a call in a list, or a part of the text.
    """

    operation: str | None
    person: str
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
        """Return the same exchange, shown with what matters in it."""
        return replace(self, focus=focus)

    @property
    def answer(self) -> str:
        """The status as it is told."""
        return "no answer" if self.status == NO_ANSWER else str(self.status)

    @property
    def request_line(self) -> str:
        """The request in a line, with the beginning of its body."""
        body = self.request_body.decode("utf-8", "backslashreplace")[:_OF_A_LINE]
        line = f"{self.method} {self.url} as {self.person}"
        return self.redactor.redact(f"{line} with {body}" if body else line)

    @property
    def answer_line(self) -> str:
        """The answer in a line, with the beginning of its body."""
        return self.redactor.redact(f"{self.answer} {self.text[:_OF_A_LINE]}".rstrip())

    @property
    def succeeded(self) -> bool:
        """Whether the backend did what was asked."""
        return 200 <= self.status < 300  # noqa: PLR2004 (HTTP)

    @property
    def text(self) -> str:
        """The response body, however it is encoded."""
        return self.content.decode("utf-8", "replace")

    @cached_property
    def json(self) -> Any:  # noqa: ANN401 (JSON is whatever the backend sent)
        """The response body, read.

        Raises:
            NotJsonError: it is not JSON.
        """
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            raise NotJsonError from None

    @cached_property
    def object(self) -> dict[str, Any]:
        """The response body where it is a JSON object, else an empty one."""
        try:
            body = self.json
        except NotJsonError:
            return {}
        return as_object(body)

    @property
    def calls(self) -> Iterator[dict[str, Any]]:
        """Every call that a successful response holds: the one it answers with, or those of a page."""
        if not self.succeeded or self.operation in {None, "joinVideoCall"}:
            return
        body = self.object
        results = body.get("results") if self.operation == "listVideoCalls" else [body] if body else []
        for call in cast("list[object]", results) if isinstance(results, list) else ():
            if isinstance(call, dict):
                yield cast("dict[str, Any]", call)

    # -- As it is shown ------------------------------------------------------------------------------

    @property
    def request_text(self) -> str:
        """The request as HTTP would show it."""
        lines = [f"{self.method} {self.url}", *(f"{name}: {value}" for name, value in self.request_headers)]
        if self.request_body:
            lines += ["", _shown(self.request_body, self.redactor)]
        return self.redactor.redact("\n".join(lines))

    @property
    def response_text(self) -> str:
        """The response as HTTP would show it; of its headers, those that tell something."""
        if self.status == NO_ANSWER:
            return self.redactor.redact(f"no answer: {self.text}")
        telling = (
            "content-type",
            "location",
            "allow",
            "www-authenticate",
            "retry-after",
            "x-request-id",
            "date",
        )
        lines = [f"HTTP {self.status}"]
        lines += [f"{name}: {self.headers[name]}" for name in telling if name in self.headers]
        if self.content:
            lines += ["", *self._parts_in_focus(), _shown(self.content, self.redactor)]
        if self.unread:
            lines += ["", f"({self.unread})"]
        return self.redactor.redact("\n".join(lines))

    def _parts_in_focus(self) -> list[str]:
        """What matters of a body that is too long to be shown as a whole."""
        if self.focus is None or len(self.content) <= _LONG:
            return []
        at = self.text.find(self.focus) if isinstance(self.focus, str) else -1
        if row := next((call for call in self.calls if call.get("id") == self.focus), None):
            return [f"(of {len(list(self.calls))} calls:)", json.dumps(row, indent=2, ensure_ascii=False), ""]
        if at < 0:
            return []
        start = max(0, at - _AROUND)
        return [f"(from character {start:,} on:)", self.text[start : at + 3 * _AROUND], ""]

    @property
    def curl(self) -> str:
        """A command that sends the request again, with the token in a variable."""
        words = ["curl -sS -i"]
        if self.method != "GET":
            words.append(f"-X {self.method}")
        words.append(self.redactor.quoted(self.url))
        words += [f"-H {self.redactor.quoted(f'{name}: {value}')}" for name, value in self.request_headers]
        if self.request_body:
            words.append(f"--data-binary {_quoted(self.request_body, self.redactor)}")
        return " ".join(words)


Together = Callable[[Sequence[Callable[[], Exchange]]], list[Exchange]]
"""Sends requests at the same time, and gives their exchanges in order."""


def _shown(body: bytes, redactor: Redactor) -> str:
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
