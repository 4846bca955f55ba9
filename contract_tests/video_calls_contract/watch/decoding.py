"""Decodes captures into exchanges, with operation, user and decoded body."""

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
from video_calls_contract.watch.capture import Capture, Header

NOBODY = "nobody"
"""The user of an exchange without credentials."""

_CODINGS = ("", "identity", "gzip", "x-gzip")
_PLAIN = Redactor()
"""Knows no secrets: `evidence` redacts findings when they are recorded."""


def skip_reason(capture: Capture, root: str) -> str:
    """Return why a capture is not checked; empty if it is.

    Args:
        root: the path of the API.
    """
    coding = header(capture.headers, "content-encoding").strip().lower()
    reasons = {
        capture.skip_reason: bool(capture.skip_reason),
        "of other paths": not capture.target.startswith(f"{root}/video-calls"),
        "HEAD or OPTIONS": capture.method in ("HEAD", "OPTIONS"),
        "with a compressed request": header(capture.request_headers, "content-encoding") != "",
        "for a part of a response": header(capture.request_headers, "range") != "",
        "compressed with a coding that the suite cannot read": coding not in _CODINGS,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def decode(capture: Capture, origin: str, root: str) -> Exchange:
    """Return a capture as an exchange with the API at an origin and a path."""
    headers = httpx.Headers(capture.headers)
    response = httpx.Response(capture.status, headers=headers, stream=httpx.ByteStream(capture.body))
    content, unread = b"", ""
    try:
        content = read_body(response, until=float("inf"))
    except UnreadBodyError as error:
        unread = str(error)
    return Exchange(
        operation=operation_of(capture.method, capture.target.partition("?")[0].removeprefix(root)),
        user=_user_of(capture.request_headers),
        method=capture.method,
        url=f"{origin}{capture.target}",
        request_headers=tuple(capture.request_headers),
        request_body=capture.request_body,
        status=capture.status,
        headers=headers,
        content=content,
        sent_at=datetime.fromtimestamp(capture.sent_at, UTC),
        received_at=datetime.fromtimestamp(capture.received_at, UTC),
        redactor=_PLAIN,
        unread=unread,
    )


@cache
def _operations() -> list[tuple[str, re.Pattern[str], str]]:
    """Return the method, path and id of each operation of the contract."""
    return [
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), operation["operationId"])
        for path, methods in contract()["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
    ]


def operation_of(method: str, path: str) -> str | None:
    """Return the operation of a path below the root of the API; None if there is none."""
    return next((name for verb, form, name in _operations() if verb == method and form.fullmatch(path)), None)


def methods_of(url: str) -> set[str]:
    """Return the methods that the contract allows for the path of a URL."""
    path = "/video-calls" + url.partition("?")[0].rpartition("/video-calls")[2]
    return {verb for verb, form, _ in _operations() if form.fullmatch(path)}


def call_id_of(url: str) -> str:
    """Return the id of the call in a URL; empty if there is none."""
    match = re.search(r"/video-calls/([^/?]+)/", url)
    return match[1] if match else ""


def calls_of(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """Yield the calls of an exchange that have a valid id."""
    return (call for call in exchange.calls if is_id(call.get("id")))


def header(headers: Iterable[Header], name: str) -> str:
    """Return the first header of a name; empty if there is none."""
    return next((value for key, value in headers if key == name), "")


def bearer(headers: Iterable[Header]) -> str:
    """Return the bearer token of a request; empty if it has none."""
    headers = list(headers)
    for value in [value for name, value in headers if name == "authorization"]:
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
    protocols = ",".join(value for name, value in headers if name == "sec-websocket-protocol").split(",")
    words = [word.strip() for word in protocols]
    return words[words.index("bearer") + 1] if "bearer" in words[:-1] else ""


def caller_of(exchange: Exchange) -> str:
    """Return a text that identifies the user who sent a request; empty if the user is unknown."""
    if exchange.user in (NOBODY, SOMEBODY):
        return bearer(exchange.request_headers)
    return exchange.user


def _user_of(headers: list[Header]) -> str:
    """Return a name for the user who sent a request; all tokens of a user give the same name.

    The name is `SOMEBODY` if the credentials do not show the user, and `NOBODY` without credentials.
    """
    token = bearer(headers)
    content = claims(token)
    for name in ("user_id", "sub"):
        if isinstance(content.get(name), str | int):
            identity = f"{content.get('iss')} {content[name]}"
            return f"user {hashlib.sha256(identity.encode()).hexdigest()[:6]}"
    is_anonymous = not token and not any(is_secret(name) for name, _ in headers)
    return NOBODY if is_anonymous else SOMEBODY
