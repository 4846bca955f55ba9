"""What is kept of other people's exchanges: little, and without their tokens and personal data."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import cast

import httpx
from video_calls_spec.redaction import REDACTED, is_secret, redact

from video_calls_contract.exchange import Exchange, Redactor
from video_calls_contract.observers import Finding
from video_calls_contract.watch.exchanges import bearer

__all__ = ["shortened", "without_secrets"]

_LONG = 4096  # bytes of a body
_EMAIL = re.compile(r"[\w.+-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+")
_SHORTEST = 3  # characters of a personal datum
_TOKEN = "TOKEN"  # noqa: S105 (the name of a variable in a curl line)
_OF_CLIENTS = re.compile(
    "host|user-agent|referer|connection|content-length|cache-control|pragma|accept-(encoding|language)"
    "|sec-(?!websocket-protocol).*|upgrade.*"
)
"""Headers that browsers add to every request, which show nothing."""
_SHOWN = Redactor()
_SHOWN.learn(f"${_TOKEN}", _TOKEN)


def shortened(exchange: Exchange, call_id: object) -> Exchange:
    """Return an exchange with no more of its body than what concerns a call."""
    if len(exchange.content) <= _LONG:
        return replace(exchange)  # without the body as it was parsed
    row = next((call for call in exchange.calls if call.get("id") == call_id), None)
    content = json.dumps({"results": [row]}).encode() if row else exchange.content[:_LONG]
    return replace(
        exchange, content=content, unread=f"a part of {len(exchange.content):,} bytes", focus=call_id
    )


def without_secrets(finding: Finding, secrets: Iterable[str]) -> Finding:
    """Return a finding that shows nobody's token, name or e-mail address.

    Args:
        secrets: tokens of other requests, and what else must not be seen.
    """
    redactor = Redactor()
    personal: set[str] = set()
    for exchange in finding.exchanges:
        redactor.learn(bearer(exchange.request_headers), _TOKEN)
        personal.update(_personal(exchange))
    known = [*sorted(personal, key=len, reverse=True), *secrets]

    def redacted(text: str) -> str:
        text = redact(redactor.redact(text))
        for value in known:
            for form in {value, json.dumps(value)[1:-1], repr(value)[1:-1]}:
                text = text.replace(form, REDACTED)
        return _EMAIL.sub(REDACTED, text)

    shown = tuple(_redacted(shortened(exchange, exchange.focus), redacted) for exchange in finding.exchanges)
    return Finding(redacted(finding.expected[:_LONG]), shown)


def _redacted(exchange: Exchange, redacted: Callable[[str], str]) -> Exchange:
    token = bearer(exchange.request_headers)

    def value_of(name: str, value: str) -> str:
        if token and token in value:
            return value.replace(token, f"${_TOKEN}")
        return REDACTED if is_secret(name) else redacted(value)

    return replace(
        exchange,
        url=redacted(exchange.url),
        request_headers=tuple(
            (name, value_of(name, value))
            for name, value in exchange.request_headers
            if not _OF_CLIENTS.fullmatch(name)
        ),
        request_body=redacted(exchange.request_body.decode("utf-8", "replace")).encode(),
        headers=httpx.Headers([(name, value_of(name, value)) for name, value in exchange.headers.items()]),
        content=redacted(exchange.text).encode(),
        focus=None,
        redactor=_SHOWN,
    )


def _personal(exchange: Exchange) -> Iterator[str]:
    """What an answer tells of doctors and patients."""
    for call in exchange.calls:
        for role in ("doctor_details", "patient_details"):
            yield from _texts(call.get(role))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str) and len(value) >= _SHORTEST and not value.isdigit():
        yield value
    elif isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            if name != "id":
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _texts(inner)
