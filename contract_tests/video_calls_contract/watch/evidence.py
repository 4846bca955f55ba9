"""Turns exchanges into evidence: short, and without tokens and personal data."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import cast

from video_calls_spec.redaction import REDACTED, redact

from video_calls_contract.exchange import Exchange
from video_calls_contract.observers.registry import Finding
from video_calls_contract.redaction import Redactor
from video_calls_contract.watch.decoding import bearer

_LONG = 4096  # bytes; a longer body is shortened
_SHORTEST = 3  # characters; a shorter personal text is not redacted
_EMAIL = re.compile(r"[\w.+-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+")
_DETAILS = ("doctor_details", "patient_details")
_SHOWN_HEADERS = (
    "authorization",
    "content-type",
    "idempotency-key",
    "sec-websocket-protocol",
    "x-request-id",
)


def shortened(exchange: Exchange, call_id: object) -> Exchange:
    """Return an exchange whose long body is cut: to the call with this id, or to the beginning."""
    if len(exchange.content) <= _LONG:
        return replace(exchange)  # a copy does not keep the parsed body in memory
    row = next((call for call in exchange.calls if call.get("id") == call_id), None)
    content = json.dumps({"results": [row]}).encode() if row else exchange.content[:_LONG]
    return replace(exchange, content=content, unread=f"a part of {len(exchange.content):,} bytes")


def without_secrets(finding: Finding, secrets: Iterable[str]) -> Finding:
    """Return a finding that shows no token, name or e-mail address.

    Args:
        secrets: tokens of other requests, and other texts to redact.
    """
    personal = {text for exchange in finding.exchanges for text in _personal(exchange.object)}
    redactor = _PersonalRedactor({*personal, *secrets})
    for exchange in finding.exchanges:
        redactor.learn(bearer(exchange.request_headers), "TOKEN")
    return Finding(
        redactor.redact(finding.expected[:_LONG]),
        tuple(
            replace(
                shortened(exchange, exchange.focus),
                request_headers=tuple(one for one in exchange.request_headers if one[0] in _SHOWN_HEADERS),
                redactor=redactor,
            )
            for exchange in finding.exchanges
        ),
    )


class _PersonalRedactor(Redactor):
    """Also redacts personal texts, and secrets that it recognizes by their name or form."""

    def __init__(self, texts: Iterable[str]) -> None:
        super().__init__()
        longest_first = sorted(texts, key=len, reverse=True)
        self._texts = [
            form for text in longest_first for form in {text, json.dumps(text)[1:-1], repr(text)[1:-1]}
        ]

    def redact(self, text: str) -> str:
        """Return a text without secrets and personal data."""
        text = "$TOKEN".join(redact(part) for part in super().redact(text).split("$TOKEN"))
        for form in self._texts:
            text = text.replace(form, REDACTED)
        return _EMAIL.sub(REDACTED, text)


def _personal(value: object, *, is_detail: bool = False) -> Iterator[str]:
    """Yield the texts that describe doctors and patients."""
    if isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield from _personal(inner, is_detail=is_detail or name in _DETAILS)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _personal(inner, is_detail=is_detail)
    elif is_detail and isinstance(value, str) and len(value) >= _SHORTEST and not value.isdigit():
        yield value
