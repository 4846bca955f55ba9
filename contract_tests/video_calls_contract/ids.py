"""Ids of calls, doctors and patients: integers, UUIDs or other short texts."""

import re
from typing import TypeAlias
from uuid import UUID

Id: TypeAlias = int | str

NO_CALL = 2_000_000_000
"""No backend uses this integer as an id, nor a larger one."""

TEXT_ID = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}", re.ASCII)
"""Matches the texts that the contract allows as ids."""

_ABSENT_UUID = "5ec0ffee-8d3a-4b6e-9f21-0c7d4ab95e13"


def is_id(value: object) -> bool:
    """Return whether a value can be an id: a positive integer below 2**63, or a text of `TEXT_ID`."""
    if isinstance(value, str):
        return TEXT_ID.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def is_uuid(value: object) -> bool:
    """Return whether an id is a UUID in its usual form."""
    try:
        return isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        return False


def absent(like: object) -> Id:
    """Return an unused id, in the form of another id."""
    if not isinstance(like, str):
        return NO_CALL
    if is_uuid(like):
        return _ABSENT_UUID
    return str(NO_CALL) if like.isdigit() else "no-such-id-5ec0ffee"
