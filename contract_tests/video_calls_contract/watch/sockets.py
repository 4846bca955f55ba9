"""Connections for events, held to what one connection shows: its events, their order, its token."""

import json
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from video_calls_spec import RuleId

from video_calls_contract.checks import require
from video_calls_contract.clock import MOST_DIFFERENCE
from video_calls_contract.event_form import as_reading, require_event_form
from video_calls_contract.event_listener import CLOSE_DEADLINE, EXPIRED, TYPES, UNAUTHORIZED, call_in
from video_calls_contract.exchange import Exchange, Redactor, as_object
from video_calls_contract.jwt import claims
from video_calls_contract.observers import OBSERVED, Finding, Recent
from video_calls_contract.outcomes import Violation
from video_calls_contract.watch.exchanges import NOBODY, bearer, person_of
from video_calls_contract.watch.records import SocketClose, SocketMessage, SocketOpen
from video_calls_contract.watch.state import Traffic

__all__ = ["Connections"]

_MOST_SHOWN = 3  # events of a connection
_OWN_CODES = range(4400, 4500)
_LATEST = timedelta(seconds=CLOSE_DEADLINE) + MOST_DIFFERENCE
_CONSTANT: tuple[RuleId, ...] = (
    "model.details",
    "model.channel-constant",
    "model.scheduled-time",
    "model.created-at",
    "model.started-at",
    "model.ended-at",
    "model.status-values",
    "model.utc",
)
"""Rules of an answer about a call that an event keeps too, also one that is told again later."""


class Connections:
    """Those that are open; `url_of` makes the URL of a target as it was sent."""

    def __init__(self, traffic: Traffic, url_of: Callable[[str], str]) -> None:
        self._traffic = traffic
        self._url_of = url_of
        self._open: dict[int, _Connection] = {}

    def opened(self, opened: SocketOpen) -> None:
        """Begin to look at a connection."""
        self._open[opened.number] = _Connection(self._traffic, opened, self._url_of(opened.target))

    def told(self, told: SocketMessage) -> None:
        """Judge a message."""
        if connection := self._open.get(told.number):
            connection.told(told.data, datetime.fromtimestamp(told.at, UTC))

    def closed(self, closed: SocketClose) -> None:
        """Judge the end of a connection."""
        if connection := self._open.pop(closed.number, None):
            connection.closed(closed.code, datetime.fromtimestamp(closed.at, UTC))


class _Connection:
    def __init__(self, traffic: Traffic, opened: SocketOpen, url: str) -> None:
        self._traffic = traffic
        self._opened = opened
        self._url = url
        self._person = person_of(opened.request_headers)
        expires = claims(bearer(opened.request_headers)).get("exp")
        lasts = isinstance(expires, int | float) and expires > opened.at
        self._expires: float | None = expires if lasts else None
        self._shown: deque[Any] = deque(maxlen=_MOST_SHOWN)
        self._ids: Recent[str, None] = Recent()
        self._last: Recent[tuple[str, str], str] = Recent()
        self._code: int | None = None
        self._at = datetime.fromtimestamp(opened.at, UTC)

    def told(self, data: str | bytes, at: datetime) -> None:
        """Judge a message."""
        self._at = at
        try:
            event = as_object(json.loads(data)) if isinstance(data, str) else {}
        except (ValueError, RecursionError):
            event = {}
        self._shown.append(event or repr(data[:200]))
        if event.get("type") not in TYPES:
            return
        rule: RuleId = f"events.{event['type'].replace('.', '-')}"  # type: ignore[assignment]
        certificate = self._traffic.agora.app_certificate
        self._hold(
            rule, lambda: require_event_form(event, self._exchange(), [certificate] if certificate else [])
        )
        self._hold("events.order", lambda: self._is_in_order(event))
        self._hold("events.changes-only", lambda: self._is_a_change(event))
        self._hold("events.authentication", self._is_let_in)
        self._hold_expiry()
        for same in _CONSTANT:
            self._traffic.ask(same, OBSERVED[same], as_reading(event, self._exchange()))
        self._last[str(call_in(event).get("id")), _kind(event)] = event["type"]

    def closed(self, code: int | None, at: datetime) -> None:
        """Judge the end of the connection."""
        self._at, self._code = at, code
        if code in _OWN_CODES and self._person == NOBODY:
            wanted = f"a connection without a token to be closed with {UNAUTHORIZED}; it was with {code}"
            self._hold(
                "events.authentication", lambda: require(code == UNAUTHORIZED, wanted, self._exchange())
            )
        self._hold_expiry()

    def _hold(self, rule: RuleId, check: Callable[[], None]) -> None:
        def observer(_traffic: Traffic, _exchange: Exchange) -> list[Finding]:
            try:
                check()
            except Violation as violation:
                return [Finding(violation.expected, violation.exchanges)]
            return []

        self._traffic.ask_of_traffic(rule, observer, self._exchange())

    def _is_in_order(self, event: dict[str, Any]) -> None:
        number, call_id = str(event.get("id")), str(call_in(event).get("id"))
        require(number not in self._ids, f"each event once; {number} came again", self._exchange())
        self._ids[number] = None
        last = self._last.get((call_id, ""))
        over = last in ("call.ended", "call.cancelled") and event["type"] in (
            "call.started",
            "call.cancelled",
        )
        require(
            not over or last == event["type"], f"no {event['type']} of a call after {last}", self._exchange()
        )

    def _is_a_change(self, event: dict[str, Any]) -> None:
        last = self._last.get((str(call_in(event).get("id")), _kind(event)))
        require(
            last != event["type"], f"nothing to be told twice; {event['type']} came again", self._exchange()
        )

    def _is_let_in(self) -> None:
        require(
            self._person != NOBODY, "no event to be told on a connection without a token", self._exchange()
        )
        offered = [value for name, value in self._opened.request_headers if name == "sec-websocket-protocol"]
        if bearer([("sec-websocket-protocol", value) for value in offered]):
            chosen = self._opened.subprotocol
            require(chosen == "bearer", f"`bearer` to be chosen; {chosen!r} was", self._exchange())

    def _hold_expiry(self) -> None:
        if self._expires is None:
            return
        late = min(self._traffic.clock.possible_times(self._at)) - _LATEST
        if late.timestamp() > self._expires or self._code == EXPIRED:
            wanted = f"the connection to be closed with {EXPIRED} when its token expires; it was open later"
            good = late.timestamp() <= self._expires
            self._hold("events.token-expiry", lambda: require(good, wanted, self._exchange()))

    def _exchange(self) -> Exchange:
        """The connection as reports show it, with its last events."""
        content: dict[str, Any] = {"events": list(self._shown)}
        if self._code is not None:
            content["closed"] = {"code": self._code}
        return Exchange(
            operation=None,
            person=self._person,
            method="GET",
            url=self._url,
            request_headers=tuple(self._opened.request_headers),
            request_body=b"",
            status=101,
            headers=httpx.Headers(),
            content=json.dumps(content, ensure_ascii=False).encode(),
            sent_at=datetime.fromtimestamp(self._opened.at, UTC),
            received_at=self._at,
            redactor=Redactor(),
        )


def _kind(event: dict[str, Any]) -> str:
    """What tells the events of a participant from those of the call, and of the other participant."""
    participant = as_object(as_object(event.get("data")).get("participant"))
    return str(participant.get("role", "")) if event["type"].startswith("participant.") else ""
