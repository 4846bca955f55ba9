"""Make texts of an answer safe to show: no secrets, no characters that steer a terminal. No I/O."""

import re
from collections.abc import Mapping
from typing import Any, cast

from video_calls_spec.redaction import REDACTED, is_secret, redact

_UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
_LONG_PART = 16  # characters of a part of a token that gives something away


def shown(value: object, token: str | None = None) -> Any:  # noqa: ANN401 (JSON of any shape)
    r"""Return JSON of any shape as an error or a log may show it.

    Tokens, above all the one that was sent, are redacted. Control characters, and marks of writing direction,
    are written as `\x1b`.
    """
    if isinstance(value, str):
        text = _UNSAFE.sub(_escaped, redact(_without(value, token)))
        return value if text == value else text  # which may be a member of an enumeration
    if isinstance(value, list):
        return [shown(item, token) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return shown_mapping(cast("dict[str, object]", value), token)
    return value


def shown_mapping(values: Mapping[str, object], token: str | None = None) -> dict[str, Any]:
    """Return headers, or a JSON object, as an error may show them."""
    return {
        shown(name, token): REDACTED if is_secret(name) else shown(value, token)
        for name, value in values.items()
    }


def _escaped(character: re.Match[str]) -> str:
    return character[0].encode("unicode_escape").decode("ascii")


def _without(text: str, token: str | None) -> str:
    if not token:
        return text
    text = text.replace(token, REDACTED)
    for part in token.split("."):
        if len(part) >= _LONG_PART:
            text = text.replace(part, REDACTED)
    return text
