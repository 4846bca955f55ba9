"""What JWTs say, unverified."""

import base64
import json
from typing import Any

from video_calls_contract.exchange import as_object

__all__ = ["claims", "decoded"]


def claims(token: str) -> dict[str, Any]:
    """Return what a token says; empty if it cannot be read."""
    parts = token.split(".")
    return decoded(parts[1]) if len(parts) == 3 else {}  # noqa: PLR2004 (header, claims, signature)


def decoded(part: str) -> dict[str, Any]:
    """The header or the claims of a JWT; empty where they cannot be read."""
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return {}
    return as_object(found)
