"""Make texts of an answer safe to show: no secrets, no characters that steer a terminal. No I/O."""

import re
from collections.abc import Mapping
from typing import Any, cast

REDACTED = "[redacted]"

_SECRET = re.compile(
    r"(?i:(?<=bearer ))\S+|eyJ[\w-]{8,}(?:\.[\w-]*)*|(?<![A-Za-z0-9])00[67][A-Za-z0-9+/]{32,}=*", re.ASCII
)
_SECRET_NAMES = ("token", "secret", "password", "authorization", "apikey", "cookie", "certificate")
_UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
_LONG_PART = 16  # characters of a part of a token that gives something away


def is_secret(name: str) -> bool:
    """Whether a header or a field of this name holds a secret."""
    return name.lower().replace("-", "").replace("_", "").endswith(_SECRET_NAMES)


def redacted(value: object, token: str | None = None) -> Any:  # noqa: ANN401 (JSON of any shape)
    """Return JSON of any shape without tokens, above all without the one that was sent."""
    if isinstance(value, str):
        text = _SECRET.sub(REDACTED, _without(value, token))
        return value if text == value else text  # which may be a member of an enumeration
    if isinstance(value, list):
        return [redacted(item, token) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {
            redacted(name, token): REDACTED if is_secret(name) else redacted(item, token)
            for name, item in cast("dict[str, object]", value).items()
        }
    return value


def escaped(value: object) -> Any:  # noqa: ANN401 (JSON of any shape)
    r"""Return JSON of any shape with control characters, and marks of writing direction, as `\x1b`."""
    if isinstance(value, str):
        return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), value)
    if isinstance(value, list):
        return [escaped(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {escaped(name): escaped(item) for name, item in cast("dict[str, object]", value).items()}
    return value


def shown(text: str, token: str | None = None) -> str:
    """Return a text as an error or a log may show it."""
    safe: str = escaped(redacted(text, token))
    return safe


def shown_headers(headers: Mapping[str, str], token: str | None = None) -> dict[str, str]:
    """Return headers as an error may show them."""
    return {name: REDACTED if is_secret(name) else shown(value, token) for name, value in headers.items()}


def _without(text: str, token: str | None) -> str:
    if not token:
        return text
    text = text.replace(token, REDACTED)
    for part in token.split("."):
        if len(part) >= _LONG_PART:
            text = text.replace(part, REDACTED)
    return text
