"""What no backend may accept in the body of a new call, however lenient it is."""

import re
from typing import cast

from video_calls_contract.exchange import instant
from video_calls_contract.ids import NO_CALL, is_id

NO_TIMES = ("", "not a time", "----", "2099-13-45T10:00:00Z", "2099-01-01T25:61:61Z")
"""Texts in which no parser, however lenient, sees a time."""


def body_flaws(body: object, unheld: int = NO_CALL, *, text_ids: bool = False) -> tuple[str, ...]:
    """Why no backend may make a call of this JSON, however lenient it is; empty where one might.

    From `unheld` on nobody has an id. Where ids are texts, only their type can be wrong.
    """
    if not isinstance(body, dict):
        return ("a body that is no JSON object",)
    fields = cast("dict[str, object]", body)
    found = [
        f"`{name}`: {why}"
        for name in ("doctor", "patient")
        if (why := _no_id(fields.get(name), unheld, text_ids=text_ids))
    ]
    if why := _no_time(fields.get("scheduled_time")):
        found.append(f"`scheduled_time`: {why}")
    return tuple(found)


def _no_id(value: object, unheld: int, *, text_ids: bool) -> str:
    if value is None:
        return "missing or null"
    if isinstance(value, list | dict):
        return "a list or an object in place of an id"
    if text_ids:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < unheld:
        return "an id that nobody has"
    if isinstance(value, str) and not has_digit(value):
        return "no number in place of an id"
    return ""


def _no_time(value: object) -> str:
    match value:
        case None:
            return "missing or null"
        case bool() | list() | dict():
            return "another type in place of a time"
        case str() if value in NO_TIMES or not re.search(r"\w", value):
            return "no date"
        case _:
            return ""


def has_digit(text: str) -> bool:
    """Whether a lenient parser might see a number in a text."""
    return any(character.isnumeric() for character in text)


def keeps_schema(body: object) -> bool:
    """Whether a body is one that the contract describes."""
    if not isinstance(body, dict):
        return False
    fields = cast("dict[str, object]", body)
    ids = (fields.get("doctor"), fields.get("patient"))
    return all(map(is_id, ids)) and (instant(fields.get("scheduled_time")) is not None)
