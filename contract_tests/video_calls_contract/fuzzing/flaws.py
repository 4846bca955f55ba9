"""Flaws in the body of a new call that no backend may accept, not even a lenient one."""

import re
from typing import cast

from video_calls_contract.exchange import instant
from video_calls_contract.ids import NO_CALL, is_id

NO_TIMES = ("", "not a time", "----", "2099-13-45T10:00:00Z", "2099-01-01T25:61:61Z")
"""Texts that no parser reads as a time."""


def body_flaws(body: object, unused_from: int = NO_CALL, *, text_ids: bool = False) -> tuple[str, ...]:
    """Return why no backend may create a call from this JSON; empty if a lenient backend may.

    Args:
        unused_from: no user has this id or a larger one.
        text_ids: whether ids are texts; then only the type of an id can be wrong.
    """
    if not isinstance(body, dict):
        return ("a body that is not a JSON object",)
    fields = cast("dict[str, object]", body)
    flaws = [
        f"`{name}`: {flaw}"
        for name in ("doctor", "patient")
        if (flaw := _id_flaw(fields.get(name), unused_from, text_ids=text_ids))
    ]
    if flaw := _time_flaw(fields.get("scheduled_time")):
        flaws.append(f"`scheduled_time`: {flaw}")
    return tuple(flaws)


def _id_flaw(value: object, unused_from: int, *, text_ids: bool) -> str:
    if value is None:
        return "missing or null"
    if isinstance(value, list | dict):
        return "a list or an object instead of an id"
    if text_ids:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < unused_from:
        return "an unused id"
    if isinstance(value, str) and not has_digit(value):
        return "a text without a digit instead of an id"
    return ""


def _time_flaw(value: object) -> str:
    match value:
        case None:
            return "missing or null"
        case bool() | list() | dict():
            return "another type instead of a time"
        case str() if value in NO_TIMES or not re.search(r"\w", value):
            return "not a date"
        case _:
            return ""


def has_digit(text: str) -> bool:
    """Return whether a lenient parser might read a number from a text."""
    return any(character.isnumeric() for character in text)


def keeps_schema(body: object) -> bool:
    """Return whether a body is valid by the contract."""
    if not isinstance(body, dict):
        return False
    fields = cast("dict[str, object]", body)
    ids = (fields.get("doctor"), fields.get("patient"))
    return all(map(is_id, ids)) and (instant(fields.get("scheduled_time")) is not None)
