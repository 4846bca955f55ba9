"""Make parts of a response safe to show: no secrets, no characters that control a terminal. No I/O."""

import re
from collections.abc import Mapping
from typing import Any, cast

from video_calls_spec.redaction import REDACTED, is_secret, redact

_UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
_SECRET_LENGTH = 16  # characters; a shorter part of a token is not a secret


def sanitize(value: object, token: str | None = None) -> Any:  # noqa: ANN401 (JSON of any shape)
    r"""Return JSON of any shape, safe to show in an error or a log.

    Redact all tokens, and `token`, which the client sent. Escape control characters and marks of the writing
    direction, as in `\x1b`.
    """
    if isinstance(value, str):
        text = _UNSAFE.sub(_escape, redact(_redact_token(value, token)))
        return value if text == value else text  # keep `value`: it may be a member of an enumeration
    if isinstance(value, list):
        return [sanitize(item, token) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return sanitize_mapping(cast("dict[str, object]", value), token)
    return value


def sanitize_mapping(values: Mapping[str, object], token: str | None = None) -> dict[str, Any]:
    """Return headers or a JSON object, safe to show in an error."""
    return {
        sanitize(name, token): REDACTED if is_secret(name) else sanitize(value, token)
        for name, value in values.items()
    }


def _escape(character: re.Match[str]) -> str:
    return character[0].encode("unicode_escape").decode("ascii")


def _redact_token(text: str, token: str | None) -> str:
    if not token:
        return text
    text = text.replace(token, REDACTED)
    for part in token.split("."):
        if len(part) >= _SECRET_LENGTH:
            text = text.replace(part, REDACTED)
    return text
