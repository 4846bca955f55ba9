"""What is remembered from one exchange to the next, and when it is forgotten.

Other clients, whose requests do not pass here, may join, end and cancel calls at any time. The data may be
reset between two tests, and a clock of the backend may be set. None of this is blamed.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from video_calls_spec import RuleId

from video_calls_contract.checks import PRECISION
from video_calls_contract.clock import BackendClock
from video_calls_contract.config import Agora
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.observers.registry import LENIENCE, Finding, Observer, Observers, Recent
from video_calls_contract.watch.decoding import bearer, call_id_of, calls_of
from video_calls_contract.watch.evidence import shortened, without_secrets

__all__ = ["LastSeen", "Report", "Traffic", "TrafficClock"]

Report = Callable[[RuleId, Finding], None]
"""Is called with the first finding of a rule."""

_RANKS = {"scheduled": 0, "ongoing": 1, "completed": 2, "cancelled": 2}
_TIMES_OF_CHANGES = {
    "createVideoCall": ("created_at", "updated_at"),
    "endVideoCall": ("ended_at", "updated_at"),
    "cancelVideoCall": ("updated_at",),
}


class TrafficClock(BackendClock):
    """Judges times only if the application's clock is seen to be the real one.

    Attributes:
        is_trusted: whether it is in the exchange that is judged.
        unjudged: how many times were not judged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_trusted = True
        self.unjudged = 0

    def is_near(self, time: datetime | None, exchange: Exchange) -> bool:
        """Return whether a time is about that of an exchange."""
        return time is not None and super().matches(time, exchange.sent_at, exchange.received_at, LENIENCE)

    def matches(self, time: datetime, sent: datetime, received: datetime, tolerance: timedelta) -> bool:
        """Return whether the backend can have written `time` for what happened between these two moments."""
        if super().matches(time, sent, received, tolerance):
            return True
        self.unjudged += not self.is_trusted
        return not self.is_trusted


class LastSeen(NamedTuple):
    """The newest response about a call, and the call in it."""

    exchange: Exchange
    call: dict[str, Any]

    def time(self, name: str) -> datetime | None:
        """Return a time of the call."""
        return instant(self.call.get(name))


class Traffic(Observers):
    """The observers of a run, with what traffic makes them remember.

    Args:
        unjudged: rules that are not judged.
        begun: calls that were created later, or changed through here, are held to making sense.

    Attributes:
        sends_ids_back: whether a response has had the `X-Request-ID` of its request.
        resets: how many calls became other ones.
    """

    clock: TrafficClock

    def __init__(self, agora: Agora, unjudged: Mapping[RuleId, str], begun: datetime, report: Report) -> None:
        super().__init__(TrafficClock(), agora, lambda call_id: str(call_id) in self._ours)
        self.last_seen: Recent[str, LastSeen] = Recent()
        self.sends_ids_back = False
        self.resets = 0
        self._unjudged = unjudged
        self._begun = begun
        self._report = report
        self._ours: Recent[str, None] = Recent()
        self._tokens: Recent[str, None] = Recent()

    def prepare(self, exchange: Exchange) -> None:
        """Take from an exchange what its judgement needs."""
        if token := bearer(exchange.request_headers):
            self._tokens[token] = None
        if date := exchange.headers.get("date"):
            self.clock.observe_date(date, exchange.sent_at, exchange.received_at)
        self.users.clear()  # users may be renamed between two responses
        self._forget_reset_calls(exchange)
        self.clock.is_trusted = self._shows_real_clock(exchange)
        self._see_whose(exchange)

    def remember(self, exchange: Exchange) -> None:
        """Remember an exchange after it was judged."""
        for call in calls_of(exchange):
            last = self.last_seen.get(str(call["id"]))
            if last is None or exchange.sent_at > last.exchange.received_at:
                self.last_seen[str(call["id"])] = LastSeen(self.shortened(exchange, call["id"]), call)

    def ask(self, rule: RuleId, observer: Observer, exchange: Exchange) -> None:
        """Ask one observer about an exchange, and keep its first findings without secrets."""
        if rule in self._unjudged:
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
        """Return an exchange as it is kept, to compare later responses about a call with it."""
        return shortened(exchange, call_id)

    def _see_whose(self, exchange: Exchange) -> None:
        """Note which calls are held to making sense: staging systems have old data of all kinds."""
        is_change = exchange.method == "POST" and exchange.succeeded
        if is_change and (call_id := call_id_of(exchange.url)):
            self._ours[call_id] = None
        for call in calls_of(exchange):
            created = instant(call.get("created_at"))
            if is_change or (created is not None and created > self._begun + self.clock.offset):
                self._ours[str(call["id"])] = None

    def _shows_real_clock(self, exchange: Exchange) -> bool:
        """Return whether a time of a change is about now, or a cancellation did not move a time that was."""
        if exchange.operation not in _TIMES_OF_CHANGES or not exchange.succeeded:
            return True
        body = exchange.object
        times = [instant(body.get(name)) for name in _TIMES_OF_CHANGES[exchange.operation]]
        last = self.last_seen.get(str(body.get("id"))) if exchange.operation == "cancelVideoCall" else None
        stays = last and last.time("updated_at") in times and self.clock.is_near(times[0], last.exchange)
        return bool(stays) or any(self.clock.is_near(time, exchange) for time in times)

    def _forget_reset_calls(self, exchange: Exchange) -> None:
        """Forget calls that became other ones, or went back to an earlier state: the data was reset."""
        for call in calls_of(exchange):
            last = self.last_seen.get(str(call["id"]))
            if last and (_is_another(call, last) or _is_earlier(call, exchange, last)):
                self.resets += 1
                self.calls.pop(call["id"], None)
                self.final.pop(call["id"], None)
                del self.last_seen[str(call["id"])]


def _is_another(call: dict[str, Any], last: LastSeen) -> bool:
    now, before = instant(call.get("created_at")), last.time("created_at")
    differs = now is not None and before is not None and abs(now - before) >= PRECISION
    return differs and call.get("channel_name") != last.call.get("channel_name")


def _is_earlier(call: dict[str, Any], exchange: Exchange, last: LastSeen) -> bool:
    now, before = instant(call.get("updated_at")), last.time("updated_at")
    rank, rank_before = (_RANKS.get(str(one.get("status")), 2) for one in (call, last.call))
    is_newer = exchange.sent_at > last.exchange.received_at
    return is_newer and rank < rank_before and now is not None and before is not None and now < before
