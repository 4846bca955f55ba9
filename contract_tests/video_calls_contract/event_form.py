"""Checks the form of an event, which is one message on a WebSocket for events."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import httpx

from video_calls_contract import private_data
from video_calls_contract.checks import require
from video_calls_contract.event_listener import call_in
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.schema import problems

_MOST_ID = 64  # characters


def require_event_form(event: dict[str, Any], connection: Exchange, secrets: Iterable[str]) -> None:
    """Check the id, time and call of an event, and that it contains nothing private.

    Args:
        connection: the connection that received the event, as evidence.

    Raises:
        Violation: if a check does not hold.
    """
    name, event_id = event["type"], event.get("id")
    require(
        isinstance(event_id, str) and 0 < len(event_id) <= _MOST_ID,
        f"`{name}` to have an `id`, a text of 1 to {_MOST_ID} characters; got {event_id!r}",
        connection,
    )
    has_time = instant(event.get("created_at"))
    require(has_time, f"`{name}` to have a `created_at`, a time with its offset", connection)
    require(call_in(event), f"`{name}` to hold the call in `data`", connection)
    flaws = "; ".join(problems(as_get_response(event, connection)))
    require(not flaws, f"the call of `{name}` to have the form of the contract: {flaws}", connection)
    flaws = "; ".join(private_data.in_body(event, secrets))
    require(not flaws, flaws, connection, rule="privacy.details")


def as_get_response(event: dict[str, Any], connection: Exchange) -> Exchange:
    """Return the call of an event in the form of a response to get."""
    return replace(
        connection,
        operation="getVideoCall",
        status=200,
        headers=httpx.Headers({"content-type": "application/json"}),
        content=json.dumps(call_in(event)).encode(),
    )
