"""WebSockets for events, judged by what one connection shows: its events, their order, its token."""

import json
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from video_calls_spec import RULES, RuleId

from video_calls_contract.checks import require
from video_calls_contract.clock import MOST_DIFFERENCE
from video_calls_contract.event_form import require_event_form
from video_calls_contract.event_listener import CLOSE_DEADLINE, EXPIRED, TYPES, UNAUTHORIZED, call_in
from video_calls_contract.exchange import Exchange, as_object
from video_calls_contract.jwt import claims
from video_calls_contract.observers.registry import Recent
from video_calls_contract.watch.capture import Record
from video_calls_contract.watch.decoding import NOBODY, bearer
from video_calls_contract.watch.exchange_rules import hold
from video_calls_contract.watch.history import Traffic

__all__ = ["JUDGED_EVENTS", "Connection"]

JUDGED_EVENTS = {slug for slug in RULES if slug.startswith("events.")} - {"events.own-calls", "events.resume"}
"""The rules that connections are judged by."""

_MOST_SHOWN = 3  # events of a connection
_OWN_CODES = range(4400, 4500)


class Connection:
    """A connection that the target has accepted; `opened` is its handshake."""

    def __init__(self, traffic: Traffic, opened: Exchange) -> None:
        self._traffic = traffic
        self._exchange = opened
        self._last_events: deque[Any] = deque(maxlen=_MOST_SHOWN)
        self._ids: Recent[str, None] = Recent()
        self._last_types: Recent[tuple[str, str], str] = Recent()

    def judge(self, record: Record) -> None:
        """Judge a message, or the end."""
        try:
            event = as_object(json.loads(record.body))
        except (ValueError, RecursionError):
            event = {}
        if not record.is_end:
            self._last_events.append(event or repr(record.body[:200]))
        content: dict[str, Any] = {"events": list(self._last_events)}
        if record.close_code is not None:
            content["closed"] = {"code": record.close_code}
        self._exchange = replace(
            self._exchange,
            content=json.dumps(content, ensure_ascii=False).encode(),
            received_at=datetime.fromtimestamp(record.received_at, UTC),
        )
        if event.get("type") in TYPES:
            self._judge_event(event)
        if record.close_code in _OWN_CODES and self._exchange.user == NOBODY:
            good = record.close_code == UNAUTHORIZED
            expected = f"a connection without a token to be closed with {UNAUTHORIZED}"
            self._hold("events.authentication", good, f"{expected}; it was with {record.close_code}")
        self._judge_expiry(is_closed=record.close_code == EXPIRED)

    def _judge_event(self, event: dict[str, Any]) -> None:
        name, number, call_id = event["type"], str(event.get("id")), str(call_in(event).get("id"))
        certificate = self._traffic.agora.app_certificate
        form: RuleId = f"events.{name.replace('.', '-')}"  # type: ignore[assignment]

        def has_form(_: object, exchange: Exchange) -> None:
            require_event_form(event, exchange, [certificate] if certificate else [])

        hold(self._traffic, form, has_form, self._exchange)
        last = self._last_types.get((call_id, ""))
        is_over = last in ("call.ended", "call.cancelled") and name in ("call.started", "call.cancelled")
        self._hold("events.order", number not in self._ids, f"each event once; {number} came again")
        self._hold("events.order", not is_over or last == name, f"no {name} of a call after {last}")
        # The events of each participant are apart from those of the call.
        role = as_object(as_object(event.get("data")).get("participant")).get("role")
        kind = call_id, str(role) if name.startswith("participant.") else ""
        is_change = self._last_types.get(kind) != name
        self._hold("events.changes-only", is_change, f"an event for each change; {name} came again")
        is_known = self._exchange.user != NOBODY
        self._hold("events.authentication", is_known, "no event on a connection without a token")
        self._ids[number] = None
        self._last_types[kind] = name

    def _judge_expiry(self, *, is_closed: bool) -> None:
        expires = claims(bearer(self._exchange.request_headers)).get("exp")
        if not isinstance(expires, int | float) or expires <= self._exchange.sent_at.timestamp():
            return
        now = min(self._traffic.clock.possible_times(self._exchange.received_at))
        is_late = (now - MOST_DIFFERENCE - timedelta(seconds=CLOSE_DEADLINE)).timestamp() > expires
        if is_closed or is_late:
            expected = f"the connection to be closed with {EXPIRED} when its token expires; it was open later"
            self._hold("events.token-expiry", not is_late, expected)

    def _hold(self, rule: RuleId, holds: bool, expected: str) -> None:
        hold(self._traffic, rule, lambda _, exchange: require(holds, expected, exchange), self._exchange)
