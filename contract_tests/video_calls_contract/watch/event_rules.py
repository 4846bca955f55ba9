"""Rules about events, checked in the messages of WebSockets: form, order, resuming and tokens."""

import json
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from video_calls_spec import RULES, RuleId

from video_calls_contract.checks import require
from video_calls_contract.clock import MOST_DIFFERENCE
from video_calls_contract.event_form import require_event_form
from video_calls_contract.event_listener import CLOSE_DEADLINE, EXPIRED, TYPES, UNAUTHORIZED, call_in
from video_calls_contract.exchange import Exchange, as_object
from video_calls_contract.jwt import claims
from video_calls_contract.observers.registry import Recent
from video_calls_contract.watch.capture import Capture
from video_calls_contract.watch.decoding import NOBODY, bearer, caller_of
from video_calls_contract.watch.history import History
from video_calls_contract.watch.registration import apply

EVENT_RULES = {slug for slug in RULES if slug.startswith("events.")} - {"events.own-calls"}
"""The rules by which connections are checked."""

_MOST_SHOWN = 3  # events that a report shows of a connection
_MOST_CONNECTIONS, _MOST_IDS = 3, 100  # connections of a user, event ids of each connection
_OWN_CODES = range(4400, 4500)


class Connection:
    """A connection that the target has accepted; `opened` is its handshake.

    A connection may resume after an event that an earlier connection of the user received. Then it has to
    begin with the events that followed on the earlier connection.
    """

    def __init__(self, history: History, opened: Exchange) -> None:
        self._history = history
        self._exchange = opened
        self._last_events: deque[Any] = deque(maxlen=_MOST_SHOWN)
        self._ids: Recent[str, None] = Recent()
        self._last_types: Recent[tuple[str, str], str] = Recent()
        self._position = 0
        start = parse_qs(urlsplit(opened.url).query).get("last_event_id", [])[-1:]
        self._log = deque(start, _MOST_IDS)
        self._earlier, self._following = list[str](), deque[str]()
        if caller := caller_of(opened):
            logs = history.event_ids.get_or_add(caller, deque(maxlen=_MOST_CONNECTIONS))
            log = next((list(log) for log in reversed(logs) if start and start[0] in log), list[str]())
            at = log.index(start[0]) + 1 if log else 0
            self._earlier, self._following = log[:at], deque(log[at:])
            logs.append(self._log)

    def check(self, capture: Capture) -> None:
        """Check a message, or the end of the connection."""
        try:
            event = as_object(json.loads(capture.body))
        except (ValueError, RecursionError):
            event = {}
        if not capture.is_end:
            self._last_events.append(event or repr(capture.body[:200]))
        content: dict[str, Any] = {"events": list(self._last_events)}
        if capture.close_code is not None:
            content["closed"] = {"code": capture.close_code}
        self._exchange = replace(
            self._exchange,
            content=json.dumps(content, ensure_ascii=False).encode(),
            received_at=datetime.fromtimestamp(capture.received_at, UTC),
        )
        if event.get("type") in TYPES:
            self._check_resumption(event, capture.position)
            self._check_event(event)
        self._position = capture.position + 1
        if capture.close_code in _OWN_CODES and self._exchange.user == NOBODY:
            good = capture.close_code == UNAUTHORIZED
            expected = f"a connection without a token to be closed with {UNAUTHORIZED}"
            self._require("events.authentication", good, f"{expected}; it was with {capture.close_code}")
        self._check_expiry(is_closed=capture.close_code == EXPIRED)

    def _check_resumption(self, event: dict[str, Any], position: int) -> None:
        number = str(event.get("id"))
        if position > self._position:  # the proxy has dropped messages
            self._log.clear()
            self._following.clear()
        elif self._history.is_replaced(call_in(event)):
            self._earlier.clear()
            self._following.clear()
        elif self._earlier and number not in self._ids:
            start = self._earlier[-1]
            expected = f"only events after {start}; {number} came again"
            following = self._following.popleft() if self._following else number
            is_new = number not in self._earlier
            if is_new and number != following:
                expected = f"the events after {start} without gaps; {number} came before {following}"
                self._following.clear()
            self._require("events.resume", is_new and number == following, expected)
        self._log.append(number)

    def _check_event(self, event: dict[str, Any]) -> None:
        name, number, call_id = event["type"], str(event.get("id")), str(call_in(event).get("id"))
        certificate = self._history.agora.app_certificate
        form: RuleId = f"events.{name.replace('.', '-')}"  # type: ignore[assignment]

        def has_form(_: object, exchange: Exchange) -> None:
            require_event_form(event, exchange, [certificate] if certificate else [])

        apply(self._history, form, has_form, self._exchange)
        last = self._last_types.get((call_id, ""))
        is_over = last in ("call.ended", "call.cancelled") and name in ("call.started", "call.cancelled")
        self._require("events.order", number not in self._ids, f"each event once; {number} came again")
        self._require("events.order", not is_over or last == name, f"no {name} of a call after {last}")
        # The last event type is remembered for the call, and separately for each participant.
        role = as_object(as_object(event.get("data")).get("participant")).get("role")
        kind = call_id, str(role) if name.startswith("participant.") else ""
        is_change = self._last_types.get(kind) != name
        self._require("events.changes-only", is_change, f"an event for each change; {name} came again")
        has_token = self._exchange.user != NOBODY
        self._require("events.authentication", has_token, "no event on a connection without a token")
        self._ids[number] = None
        self._last_types[kind] = name

    def _check_expiry(self, *, is_closed: bool) -> None:
        expires = claims(bearer(self._exchange.request_headers)).get("exp")
        if not isinstance(expires, int | float) or expires <= self._exchange.sent_at.timestamp():
            return
        now = min(self._history.clock.possible_times(self._exchange.received_at))
        is_late = (now - MOST_DIFFERENCE - timedelta(seconds=CLOSE_DEADLINE)).timestamp() > expires
        if is_closed or is_late:
            expected = f"the connection to be closed with {EXPIRED} when its token expires; it was open later"
            self._require("events.token-expiry", not is_late, expected)

    def _require(self, rule: RuleId, holds: bool, expected: str) -> None:
        apply(self._history, rule, lambda _, exchange: require(holds, expected, exchange), self._exchange)
