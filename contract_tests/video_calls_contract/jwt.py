"""JWTs without their keys: reads claims, and makes invalid tokens from a valid one.

This module verifies nothing.
"""

import base64
import hmac
import json
import secrets
from datetime import UTC, datetime
from typing import Any

from video_calls_contract.exchange import as_object

FORGERIES = {
    "other-signature": "signed with another key",
    "empty-key": "signed with an empty key",
    "altered-signature": "signed wrongly",
    "altered-claims": "altered after it was signed",
    "alg-none": "not signed (`alg: none`)",
    "alg-None": "not signed (`alg: None`)",
    "alg-NONE": "not signed (`alg: NONE`)",
    "alg-none-signed": "of `alg: none` with a signature",
    "no-signature": "without its signature",
    "truncated": "cut off",
    "no-jwt": "no JWT at all",
}
"""The kinds of invalid tokens, each with its description."""

_PARTS = 3  # header, claims, signature
_FAR_FUTURE = 4102444800  # the year 2100


def claims(token: str) -> dict[str, Any]:
    """Return the claims of a token; empty if they cannot be read."""
    parts = token.split(".")
    return _decoded(parts[1]) if len(parts) == _PARTS else {}


def expiry(token: str) -> datetime | None:
    """Return the time at which a token expires; None if its `exp` cannot be read."""
    expires = claims(token).get("exp")
    if not isinstance(expires, int | float):
        return None
    try:
        return datetime.fromtimestamp(expires, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def forged(token: str, kind: str) -> str:  # noqa: PLR0911 (one for each kind)
    """Return an invalid token, made from a valid one; `kind` is one of `FORGERIES`."""
    if kind == "no-jwt":
        return secrets.token_urlsafe(24)
    if kind == "truncated":
        return token[: len(token) * 2 // 3]
    parts = token.split(".")
    if len(parts) != _PARTS:
        return _altered(token)
    header, body, signature = parts
    match kind:
        case "other-signature":
            return _signed(header, body, secrets.token_bytes(32))
        case "empty-key":
            return _signed(header, body, b"")
        case "altered-signature":
            return f"{header}.{body}.{_altered(signature)}"
        case "altered-claims":
            original = _decoded(body)
            expires = original.get("exp")
            later = expires + 1000 if isinstance(expires, int | float) else _FAR_FUTURE
            return f"{header}.{_encoded({**original, 'exp': later})}.{signature}"
        case "alg-none" | "alg-None" | "alg-NONE":
            return f"{_encoded({'alg': kind.removeprefix('alg-'), 'typ': 'JWT'})}.{body}."
        case "alg-none-signed":
            return f"{_encoded({'alg': 'none', 'typ': 'JWT'})}.{body}.{signature}"
        case _:
            return f"{header}.{body}."


def _signed(header: str, body: str, key: bytes) -> str:
    text = f"{_encoded({**_decoded(header), 'alg': 'HS256'})}.{body}"
    return f"{text}.{_base64(hmac.digest(key, text.encode(), 'sha256'))}"


def _altered(text: str) -> str:
    """Return the text with its middle character changed. The last one may have bits that decoding ignores."""
    middle = len(text) // 2
    return text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]


def _decoded(part: str) -> dict[str, Any]:
    """Return a part of a JWT as an object; empty if it cannot be read."""
    try:
        content = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return {}
    return as_object(content)


def _encoded(data: dict[str, Any]) -> str:
    return _base64(json.dumps(data, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
