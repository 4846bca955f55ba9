"""Exchanges out of records: which operation it was, who asked, and what the body says."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx
from video_calls_spec.redaction import is_secret

from video_calls_contract.bodies import UnreadBodyError, read_body
from video_calls_contract.exchange import NO_ANSWER, SOMEBODY, Exchange, Redactor
from video_calls_contract.ids import is_id
from video_calls_contract.jwt import claims
from video_calls_contract.schema import contract
from video_calls_contract.watch.records import Header, RawExchange

__all__ = [
    "NOBODY",
    "Reader",
    "bearer",
    "call_id_of",
    "calls_of",
    "is_of_contract",
    "operation_of",
    "person_of",
]

NOBODY = "nobody"
_WITHOUT_BODY = ("HEAD", "OPTIONS")
_PLAIN = Redactor()
"""What is kept as evidence is redacted; nothing else is shown."""


class Reader:
    """Makes exchanges of what passed.

    Args:
        base_url: the root of the API.

    Attributes:
        skipped: how many exchanges were not judged, by the reason.
    """

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self.root = parts.path.rstrip("/")
        self.skipped: Counter[str] = Counter()

    def exchange(self, passed: RawExchange) -> Exchange | None:
        """Return what can be judged of a request and its response; None if nothing can."""
        path = passed.target.partition("?")[0]
        if why := self._why_not(passed, path):
            self.skipped[why] += 1
            return None
        headers = httpx.Headers(passed.headers)
        content, unread = passed.failure.encode(), ""
        if not passed.failure:
            try:
                answer = httpx.Response(passed.status, headers=headers, stream=httpx.ByteStream(passed.body))
                content = read_body(answer, until=float("inf"))
            except UnreadBodyError as error:
                unread = str(error)
                if "Content-Encoding is" in unread:
                    self.skipped["compressed in a way that is not read here"] += 1
                    return None
        return Exchange(
            operation=operation_of(passed.method, path.removeprefix(self.root)),
            person=person_of(passed.request_headers),
            method=passed.method,
            url=f"{self._origin}{passed.target}",
            request_headers=tuple(passed.request_headers),
            request_body=passed.request_body,
            status=NO_ANSWER if passed.failure else passed.status,
            headers=headers,
            content=content,
            sent_at=datetime.fromtimestamp(passed.sent_at, UTC),
            received_at=datetime.fromtimestamp(passed.received_at, UTC),
            redactor=_PLAIN,
            unread=unread,
        )

    def _why_not(self, passed: RawExchange, path: str) -> str:
        names = {name for name, _ in passed.request_headers}
        reasons = {
            "of other paths": not path.startswith(f"{self.root}/video-calls"),
            "HEAD or OPTIONS": passed.method in _WITHOUT_BODY,
            "cancelled by the client": passed.is_cancelled,
            "without a connection to the target": passed.is_unreachable,
            "with a request body that is long or compressed": passed.is_request_cut
            or "content-encoding" in names,
            "for a part of an answer": "range" in names,
        }
        return next((why for why, holds in reasons.items() if holds), "")


@cache
def _operations() -> list[tuple[str, re.Pattern[str], str]]:
    """Method, path and id of each operation of the contract."""
    return [
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), operation["operationId"])
        for path, methods in contract()["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
    ]


def operation_of(method: str, path: str) -> str | None:
    """Return the operation of a path below the root of the API; None if it is none."""
    return next((name for verb, form, name in _operations() if verb == method and form.fullmatch(path)), None)


def is_of_contract(url: str) -> bool:
    """Whether the contract names a path that ends like this URL's, whatever its methods."""
    path = "/video-calls" + urlsplit(url).path.rpartition("/video-calls")[2]
    return any(form.fullmatch(path) for _, form, _ in _operations())


def call_id_of(url: str) -> str:
    """Return the id of the call that a URL names; empty if it names none."""
    found = re.search(r"/video-calls/([^/?]+)/", url)
    return found[1] if found else ""


def calls_of(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """Yield the calls in an exchange that can be told from others."""
    return (call for call in exchange.calls if is_id(call.get("id")))


def bearer(headers: tuple[Header, ...] | list[Header]) -> str:
    """Return the bearer token of a request; empty if it has none."""
    values = [value for name, value in headers if name == "authorization"]
    for value in values:
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
    offered = ",".join(value for name, value in headers if name == "sec-websocket-protocol").split(",")
    words = [word.strip() for word in offered]
    return words[words.index("bearer") + 1] if "bearer" in words[:-1] else ""


def person_of(headers: list[Header]) -> str:
    """Return a name for the user who sent a request: the same for each token of a user.

    It is `SOMEBODY` if the credentials do not say whose they are, and `NOBODY` without any.
    """
    token = bearer(headers)
    said = claims(token)
    for name in ("user_id", "sub"):
        if isinstance(said.get(name), str | int):
            whole = f"{said.get('iss')} {said[name]}"
            return f"user {hashlib.sha256(whole.encode()).hexdigest()[:6]}"
    is_anonymous = not token and not any(is_secret(name) for name, _ in headers)
    return NOBODY if is_anonymous else SOMEBODY
