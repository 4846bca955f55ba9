"""Exchanges out of records: which operation it was, who sent it, and what the body says."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import httpx
from video_calls_spec.redaction import is_secret

from video_calls_contract.bodies import UnreadBodyError, read_body
from video_calls_contract.exchange import SOMEBODY, Exchange
from video_calls_contract.ids import is_id
from video_calls_contract.jwt import claims
from video_calls_contract.redaction import Redactor
from video_calls_contract.schema import contract
from video_calls_contract.watch.capture import Header, Record

__all__ = [
    "NOBODY",
    "bearer",
    "call_id_of",
    "calls_of",
    "exchange_of",
    "methods_of",
    "operation_of",
    "why_unjudged",
]

NOBODY = "nobody"
_CODINGS = ("", "identity", "gzip", "x-gzip")
_PLAIN = Redactor()
"""What is kept as evidence is redacted; nothing else is shown."""


def why_unjudged(record: Record, root: str) -> str:
    """Return why a request and its response are not judged; empty if they are.

    Args:
        root: the path of the API.
    """
    names = {name for name, _ in record.request_headers}
    coding = next((value for name, value in record.headers if name == "content-encoding"), "")
    reasons = {
        record.unjudged: bool(record.unjudged),
        "of other paths": not record.target.startswith(f"{root}/video-calls"),
        "HEAD or OPTIONS": record.method in ("HEAD", "OPTIONS"),
        "with a compressed request": "content-encoding" in names,
        "for a part of a response": "range" in names,
        "compressed in a way that is not read here": coding.strip().lower() not in _CODINGS,
    }
    return next((why for why, holds in reasons.items() if holds), "")


def exchange_of(record: Record, origin: str, root: str) -> Exchange:
    """Return a record as an exchange with the API at an origin and a path."""
    headers = httpx.Headers(record.headers)
    response = httpx.Response(record.status, headers=headers, stream=httpx.ByteStream(record.body))
    content, unread = b"", ""
    try:
        content = read_body(response, until=float("inf"))
    except UnreadBodyError as error:
        unread = str(error)
    return Exchange(
        operation=operation_of(record.method, record.target.partition("?")[0].removeprefix(root)),
        user=_user_of(record.request_headers),
        method=record.method,
        url=f"{origin}{record.target}",
        request_headers=tuple(record.request_headers),
        request_body=record.request_body,
        status=record.status,
        headers=headers,
        content=content,
        sent_at=datetime.fromtimestamp(record.sent_at, UTC),
        received_at=datetime.fromtimestamp(record.received_at, UTC),
        redactor=_PLAIN,
        unread=unread,
    )


@cache
def _operations() -> list[tuple[str, re.Pattern[str], str]]:
    """Return method, path and id of each operation of the contract."""
    return [
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), operation["operationId"])
        for path, methods in contract()["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
    ]


def operation_of(method: str, path: str) -> str | None:
    """Return the operation of a path below the root of the API; None if it is none."""
    return next((name for verb, form, name in _operations() if verb == method and form.fullmatch(path)), None)


def methods_of(url: str) -> set[str]:
    """Return the methods that the contract names for the path at the end of a URL."""
    path = "/video-calls" + url.partition("?")[0].rpartition("/video-calls")[2]
    return {verb for verb, form, _ in _operations() if form.fullmatch(path)}


def call_id_of(url: str) -> str:
    """Return the id of the call that a URL names; empty if it names none."""
    match = re.search(r"/video-calls/([^/?]+)/", url)
    return match[1] if match else ""


def calls_of(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """Yield the calls of an exchange that have a valid id."""
    return (call for call in exchange.calls if is_id(call.get("id")))


def bearer(headers: Iterable[Header]) -> str:
    """Return the bearer token of a request; empty if it has none."""
    headers = list(headers)
    for value in [value for name, value in headers if name == "authorization"]:
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
    offered = ",".join(value for name, value in headers if name == "sec-websocket-protocol").split(",")
    words = [word.strip() for word in offered]
    return words[words.index("bearer") + 1] if "bearer" in words[:-1] else ""


def _user_of(headers: list[Header]) -> str:
    """Return a name for the user who sent a request: the same for each token of a user.

    It is `SOMEBODY` if the credentials do not say whose they are, and `NOBODY` without any.
    """
    token = bearer(headers)
    claimed = claims(token)
    for name in ("user_id", "sub"):
        if isinstance(claimed.get(name), str | int):
            whole = f"{claimed.get('iss')} {claimed[name]}"
            return f"user {hashlib.sha256(whole.encode()).hexdigest()[:6]}"
    is_anonymous = not token and not any(is_secret(name) for name, _ in headers)
    return NOBODY if is_anonymous else SOMEBODY
