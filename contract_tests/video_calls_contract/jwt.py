"""Tokens that a backend must not take for genuine, made from a genuine one without its key."""

import base64
import hmac
import json
import secrets
from typing import Any

from video_calls_contract.backend import Person
from video_calls_contract.claims import decoded

__all__ = ["FORGERIES", "forged"]

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
"""The kinds, each with its description."""

_PARTS = 3


def forged(person: Person, kind: str) -> str:  # noqa: PLR0911 (one a kind)
    """A token like this person's that is not genuine."""
    token = person.token
    if kind == "no-jwt":
        return secrets.token_urlsafe(24)
    if kind == "truncated":
        return token[: len(token) * 2 // 3]
    parts = token.split(".")
    if len(parts) != _PARTS:
        return _altered(token)
    header, claims, signature = parts
    match kind:
        case "other-signature":
            return _signed(header, claims, secrets.token_bytes(32))
        case "empty-key":
            return _signed(header, claims, b"")
        case "altered-signature":
            return f"{header}.{claims}.{_altered(signature)}"
        case "altered-claims":
            said = decoded(claims)
            later = said["exp"] + 1000 if isinstance(said.get("exp"), int | float) else 4102444800
            return f"{header}.{_encoded({**said, 'exp': later})}.{signature}"
        case "alg-none" | "alg-None" | "alg-NONE":
            return f"{_encoded({'alg': kind.removeprefix('alg-'), 'typ': 'JWT'})}.{claims}."
        case "alg-none-signed":
            return f"{_encoded({'alg': 'none', 'typ': 'JWT'})}.{claims}.{signature}"
        case _:
            return f"{header}.{claims}."


def _signed(header: str, claims: str, key: bytes) -> str:
    text = f"{_encoded({**decoded(header), 'alg': 'HS256'})}.{claims}"
    return f"{text}.{_base64(hmac.digest(key, text.encode(), 'sha256'))}"


def _altered(text: str) -> str:
    """The text with a character in its middle changed; its last ones may hold spare bits."""
    middle = len(text) // 2
    return text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]


def _encoded(data: dict[str, Any]) -> str:
    return _base64(json.dumps(data, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
