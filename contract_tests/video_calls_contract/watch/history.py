"""What the suite remembers between exchanges, and when it forgets it.

Clients that do not use the proxy may change calls at any time. A test of a client may reset the data, or set
the clock of the backend. None of this is a violation.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from video_calls_spec import RuleId

from video_calls_contract.checks import PRECISION
from video_calls_contract.clock import BackendClock
from video_calls_contract.config import Agora
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.observers.registry import (
    LENIENCE,
    MOST_FINDINGS,
    Finding,
    Observer,
    Observers,
    Recent,
)
from video_calls_contract.watch.decoding import bearer, call_id_of, calls_of
from video_calls_contract.watch.evidence import shortened, without_secrets

Report = Callable[[RuleId, Finding], None]
"""Receives the first finding of each rule."""

_RANKS = {"scheduled": 0, "ongoing": 1, "completed": 2, "cancelled": 2}
_TIMES_OF_CHANGES = {
    "createVideoCall": ("created_at", "updated_at"),
    "endVideoCall": ("ended_at", "updated_at"),
    "cancelVideoCall": ("updated_at",),
}


class TrafficClock(BackendClock):
    """Checks times, but accepts any time while the application seems to use a changed clock.

    Attributes:
        is_real: whether the application seems to use the real time in the current exchange.
        skip_count: how many times it accepted without a check.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_real = True
        self.skip_count = 0

    def is_near(self, time: datetime | None, exchange: Exchange) -> bool:
        """Return whether a time is near the time of an exchange."""
        return time is not None and super().matches(time, exchange.sent_at, exchange.received_at, LENIENCE)

    def matches(self, time: datetime, sent: datetime, received: datetime, tolerance: timedelta) -> bool:
        """Return whether the backend can have written `time` between these two moments."""
        if super().matches(time, sent, received, tolerance):
            return True
        self.skip_count += not self.is_real
        return not self.is_real


class LastSeen(NamedTuple):
    """The newest response about a call, and the call in it."""

    exchange: Exchange
    call: dict[str, Any]

    def time(self, name: str) -> datetime | None:
        """Return a time of the call."""
        return instant(self.call.get(name))


class Conflict(NamedTuple):
    """Two requests that created calls. If a later response shows the first call, the second is a violation.

    Attributes:
        statuses: the statuses of the first call that prove the violation.
    """

    expected: str
    first: LastSeen
    second: Exchange
    statuses: tuple[str, ...]


class History(Observers):
    """The observers, and what they and the checks remember about the traffic.

    Args:
        skip_reasons: for each rule that is not checked, why.
        started_at: observers check only calls that were created later, or that this traffic changed.

    Attributes:
        bookings: for each doctor or patient and each half hour, the last calls that were created.
        keys: for each caller and `Idempotency-Key`, the first call that was created.
        supports_keys: whether a repeated key has returned its first call.
        conflicts: the conflicts, by rule and the first call's id.
        page_sizes: each requested `page_size` for which there was a full page.
        event_ids: for each caller, the event ids on the last connections.
        returns_request_ids: whether a response has returned the `X-Request-ID` of its request.
        reset_count: how many calls were forgotten because the data was reset.
    """

    clock: TrafficClock

    def __init__(
        self, agora: Agora, skip_reasons: Mapping[RuleId, str], started_at: datetime, report: Report
    ) -> None:
        super().__init__(TrafficClock(), agora, lambda call_id: str(call_id) in self._ours)
        self.last_seen: Recent[str, LastSeen] = Recent()
        self.bookings: Recent[tuple[str, str, int], deque[LastSeen]] = Recent()
        self.keys: Recent[tuple[str, str], LastSeen] = Recent()
        self.supports_keys = False
        self.conflicts: Recent[tuple[RuleId, str], list[Conflict]] = Recent()
        self.page_sizes: set[int] = set()
        self.event_ids: Recent[str, deque[deque[str]]] = Recent()
        self.returns_request_ids = False
        self.reset_count = 0
        self._skip_reasons = skip_reasons
        self._started_at = started_at
        self._report = report
        self._ours: Recent[str, None] = Recent()
        self._tokens: Recent[str, None] = Recent()

    def prepare(self, exchange: Exchange) -> None:
        """Read what the checks of an exchange need, before they run."""
        if token := bearer(exchange.request_headers):
            self._tokens[token] = None
        if date := exchange.headers.get("date"):
            self.clock.observe_date(date, exchange.sent_at, exchange.received_at)
        self.users.clear()  # no check compares users in two responses, because clients may rename them
        self._forget_reset_calls(exchange)
        self.clock.is_real = self._shows_real_time(exchange)
        self._find_own_calls(exchange)

    def remember(self, exchange: Exchange) -> None:
        """Remember an exchange after its checks."""
        for call in calls_of(exchange):
            call_id, last = str(call["id"]), self.last_seen.get(str(call["id"]))
            if last is None or exchange.sent_at > last.exchange.received_at:
                self.last_seen[call_id] = self.excerpt(exchange, call)
            for half_hour in half_hours(call) if exchange.operation == "createVideoCall" else ():
                bookings = self.bookings.get_or_add(half_hour, deque(maxlen=MOST_FINDINGS))
                if all(booking.call["id"] != call["id"] for booking in bookings):
                    bookings.append(self.excerpt(exchange, call))

    def ask(self, rule: RuleId, observer: Observer, exchange: Exchange) -> None:
        """Show an exchange to one observer, and record its first findings without secrets."""
        if rule in self._skip_reasons:
            return
        findings = self.findings[rule]
        before = len(findings)
        super().ask(rule, observer, exchange)
        if len(findings) == before:
            return
        secrets = {*self._tokens, self.agora.app_certificate or ""} - {""}
        findings[before:] = [without_secrets(finding, secrets) for finding in findings[before:]]
        if not before:
            self._report(rule, findings[0])

    def shortened(self, exchange: Exchange, call_id: object) -> Exchange:
        """Return the form of an exchange to remember, with only one call of a long list."""
        return shortened(exchange, call_id)

    def excerpt(self, exchange: Exchange, call: dict[str, Any]) -> LastSeen:
        """Return a call and its response, in the form to remember."""
        return LastSeen(self.shortened(exchange, call["id"]), call)

    def is_replaced(self, call: dict[str, Any]) -> bool:
        """Return whether another call had this call's id before, which means that the data was reset."""
        last = self.last_seen.get(str(call.get("id")))
        if last is None:
            return False
        now, before = instant(call.get("created_at")), last.time("created_at")
        differs = now is not None and before is not None and abs(now - before) >= PRECISION
        return differs and call.get("channel_name") != last.call.get("channel_name")

    def _find_own_calls(self, exchange: Exchange) -> None:
        """Find the new and changed calls, because old data of staging systems may be inconsistent."""
        is_change = exchange.method == "POST" and exchange.succeeded
        if is_change and (call_id := call_id_of(exchange.url)):
            self._ours[call_id] = None
        for call in calls_of(exchange):
            created = instant(call.get("created_at"))
            if is_change or (created is not None and created > self._started_at + self.clock.offset):
                self._ours[str(call["id"])] = None

    def _shows_real_time(self, exchange: Exchange) -> bool:
        """Return whether the response to a change has a current time.

        A cancellation may also keep the `updated_at` of the last response, if that was current then.
        """
        if exchange.operation not in _TIMES_OF_CHANGES or not exchange.succeeded:
            return True
        body = exchange.object
        times = [instant(body.get(name)) for name in _TIMES_OF_CHANGES[exchange.operation]]
        last = self.last_seen.get(str(body.get("id"))) if exchange.operation == "cancelVideoCall" else None
        stays = last and last.time("updated_at") in times and self.clock.is_near(times[0], last.exchange)
        return bool(stays) or any(self.clock.is_near(time, exchange) for time in times)

    def _forget_reset_calls(self, exchange: Exchange) -> None:
        """Forget calls that were replaced or went back to an earlier state, because the data was reset."""
        for call in calls_of(exchange):
            last = self.last_seen.get(str(call["id"]))
            if last and (self.is_replaced(call) or _is_earlier(call, exchange, last)):
                self.reset_count += 1
                self.calls.pop(call["id"], None)
                self.final.pop(call["id"], None)
                del self.last_seen[str(call["id"])]
                for memory in (self.bookings, self.keys, self.conflicts, self.event_ids):
                    memory.clear()


def half_hours(call: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield the keys of a call in `History.bookings`: role, user id, and the number of its half hour."""
    if at := instant(call.get("scheduled_time")):
        for role in ("doctor", "patient"):
            yield role, str(call.get(role)), int(at.timestamp() // 1800)


def _is_earlier(call: dict[str, Any], exchange: Exchange, last: LastSeen) -> bool:
    now, before = instant(call.get("updated_at")), last.time("updated_at")
    rank, rank_before = (_RANKS.get(str(one.get("status")), 2) for one in (call, last.call))
    is_newer = exchange.sent_at > last.exchange.received_at
    return is_newer and rank < rank_before and now is not None and before is not None and now < before
