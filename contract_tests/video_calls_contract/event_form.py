"""What an event is: one message of a connection for events, held to its form."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import httpx

from video_calls_contract import privacy
from video_calls_contract.checks import require
from video_calls_contract.event_listener import call_in
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.schema import problems

__all__ = ["as_reading", "is_event"]

_MOST_ID = 64  # characters


def is_event(event: dict[str, Any], shown: Exchange, secrets: Iterable[str]) -> None:
    """Hold an event that the document names to its form; `shown` is the connection.

    Raises:
        Violation: it has another form, or holds what nobody should see.
    """
    name, number = event["type"], event.get("id")
    good = isinstance(number, str) and 0 < len(number) <= _MOST_ID
    require(good, f"`{name}` to have an `id`, a text of 1 to {_MOST_ID} characters; got {number!r}", shown)
    require(
        instant(event.get("created_at")), f"`{name}` to have a `created_at`, a time with its offset", shown
    )
    require(call_in(event), f"`{name}` to hold the call in `data`", shown)
    found = problems(as_reading(event, shown))
    require(not found, f"the call of `{name}` to be as it is elsewhere: {'; '.join(found)}", shown)
    found = list(privacy.in_body(event, secrets))
    require(not found, "; ".join(found), shown, rule="privacy.details")


def as_reading(event: dict[str, Any], shown: Exchange) -> Exchange:
    """Return the call of an event as if it had been read."""
    return replace(
        shown,
        operation="getVideoCall",
        status=200,
        headers=httpx.Headers({"content-type": "application/json"}),
        content=json.dumps(call_in(event)).encode(),
    )
