"""What is remembered from one exchange to the next, and when it is forgotten.

Other clients, whose requests do not pass here, may join, end and cancel calls at any time. The data may be
reset between two tests, and a clock of the backend may be set. None of this is blamed.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from video_calls_spec import RuleId

from video_calls_contract.clock import BackendClock
from video_calls_contract.config import Agora
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.observers import LENIENCE, Finding, Observer, Observers, Recent
from video_calls_contract.prediction import SAMPLE
from video_calls_contract.watch.evidence import shortened, without_secrets
from video_calls_contract.watch.exchanges import bearer, call_id_of, calls_of

__all__ = ["Seen", "Traffic", "TrafficClock"]

SECOND = timedelta(seconds=1)
_RANKS = {"scheduled": 0, "ongoing": 1, "completed": 2, "cancelled": 2}
_MOST_TOKENS = 50
_NOW = {
    "createVideoCall": ("created_at", "updated_at"),
    "endVideoCall": ("ended_at", "updated_at"),
    "cancelVideoCall": ("updated_at",),
}
"""The times of an answer that are those of the request."""


class TrafficClock(BackendClock):
    """Judges times only where the application's clock is seen to be the real one.

    Attributes:
        is_trusted: whether it is in the exchange that is judged.
        unjudged: how many times were not judged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_trusted = True
        self.unjudged = 0

    def is_near(self, time: datetime | None, exchange: Exchange) -> bool:
        """Whether a time is about that of an exchange."""
        return time is not None and super().matches(time, exchange.sent_at, exchange.received_at, LENIENCE)

    def matches(self, time: datetime, sent: datetime, received: datetime, tolerance: timedelta) -> bool:
        """Whether the backend can have written `time` for what happened between these two moments."""
        if super().matches(time, sent, received, tolerance):
            return True
        self.unjudged += not self.is_trusted
        return not self.is_trusted


@dataclass(slots=True)
class Seen:
    """What was last seen of a call.

    Attributes:
        record: what tells it from another call with its id: when it was created, and its channel.
        shown: the last answer that showed it.
        joined: the first join that was accepted; `astray` is one to another channel.
        ongoing: the first answer that showed it ongoing.
        created: its creation, if that was seen; `rivals` are later creations at its time.
        is_timed: whether its `updated_at` was seen to be the real time.
    """

    record: tuple[datetime | None, object]
    shown: Exchange
    rank: int = 0
    updated: datetime | None = None
    joined: Exchange | None = None
    astray: Exchange | None = None
    ongoing: Exchange | None = None
    created: Exchange | None = None
    rivals: list[Exchange] = field(default_factory=list[Exchange])
    is_timed: bool = False


class Traffic(Observers):
    """The observers of a run, and those of traffic alone, with what they remember.

    Args:
        rules: the observers of traffic alone.
        unjudged: rules that are not judged.
        begun: calls that were created later, or changed through here, are held to making sense.
        report: is called with the first violation of each rule.
    """

    clock: TrafficClock

    def __init__(
        self,
        agora: Agora,
        rules: list[tuple[RuleId, "TrafficObserver"]],
        unjudged: Mapping[RuleId, str],
        begun: datetime,
        report: Callable[[RuleId, Finding], None] = lambda _rule, _finding: None,
    ) -> None:
        super().__init__(TrafficClock(), agora, lambda call_id: str(call_id) in self._ours)
        self.seen_calls: Recent[str, Seen] = Recent()
        self.uid_of: Recent[tuple[str, str], Exchange] = Recent()
        self.channel_of: Recent[str, tuple[str, Exchange]] = Recent()
        self.booked: Recent[tuple[str, object], deque[Exchange]] = Recent()
        self.sample: deque[Exchange] = deque(maxlen=SAMPLE)
        self.resets = 0
        self._rules = rules
        self._unjudged = unjudged
        self._begun = begun
        self._report = report
        self._ours: Recent[str, None] = Recent()
        self._tokens: deque[str] = deque(maxlen=_MOST_TOKENS)

    def watch(self, exchange: Exchange) -> None:
        """Ask every observer about an exchange, and remember it."""
        token = bearer(exchange.request_headers)
        if token and token not in self._tokens:
            self._tokens.append(token)
        if date := exchange.headers.get("date"):
            self.clock.observe_date(date, exchange.sent_at, exchange.received_at)
        self.users.clear()  # people may be renamed between two answers
        self._forget_other_records(exchange)
        self.clock.is_trusted = self._shows_real_clock(exchange)
        self._see_whose(exchange)
        super().watch(exchange)
        for rule, observer in self._rules:
            self.ask_of_traffic(rule, observer, exchange)
        self._remember(exchange)

    def ask_of_traffic(self, rule: RuleId, observer: "TrafficObserver", exchange: Exchange) -> None:
        """Ask an observer of traffic alone."""
        self.ask(rule, lambda _observers, shown: observer(self, shown), exchange)

    def ask(self, rule: RuleId, observer: Observer, exchange: Exchange) -> None:
        """Ask one observer about an exchange, and keep its first findings without secrets."""
        if rule in self._unjudged:
            return
        findings = self.findings[rule]
        before = len(findings)
        super().ask(rule, observer, exchange)
        certificate = self.agora.app_certificate
        secrets = [*self._tokens, *([certificate] if certificate else [])]
        findings[before:] = [without_secrets(finding, secrets) for finding in findings[before:]]
        if findings and not before:
            self._report(rule, findings[0])

    def shortened(self, exchange: Exchange, call_id: object) -> Exchange:
        """Return an exchange as it is kept, to compare later answers about a call with it."""
        return shortened(exchange, call_id)

    def seen_before(self, exchange: Exchange) -> Seen | None:
        """What was seen of the call that a request names, if it was before the request was sent."""
        seen = self.seen_calls.get(call_id_of(exchange.url))
        return seen if seen and seen.shown.received_at < exchange.sent_at else None

    def final_before(self, exchange: Exchange, status: str) -> Exchange | None:
        """The answer that showed a call with this last status before the request was sent."""
        for call_id in (call_id_of(exchange.url), _as_number(call_id_of(exchange.url))):
            shown = self.final.get(call_id)
            if shown and shown.received_at < exchange.sent_at:
                return shown if any(call.get("status") == status for call in shown.calls) else None
        return None

    # -- Remembering ---------------------------------------------------------------------------------

    def _see_whose(self, exchange: Exchange) -> None:
        """Note which calls are held to making sense: old data of staging systems is of all kinds."""
        changes = exchange.method == "POST" and exchange.succeeded
        if changes and (call_id := call_id_of(exchange.url)):
            self._ours[call_id] = None
        for call in calls_of(exchange):
            created = instant(call.get("created_at"))
            if changes or (created is not None and created > self._begun + self.clock.offset):
                self._ours[str(call.get("id"))] = None

    def _remember(self, exchange: Exchange) -> None:
        creates = exchange.operation == "createVideoCall"
        for call in calls_of(exchange):
            name = str(call.get("id"))
            updated = instant(call.get("updated_at"))
            is_new = name not in self.seen_calls
            shown = self.shortened(exchange, call.get("id"))
            seen = self.seen_calls.get_or_add(name, Seen(_record(call), shown))
            seen.shown, seen.rank = shown, max(seen.rank, _RANKS.get(str(call.get("status")), 0))
            seen.updated = max(filter(None, (seen.updated, updated)), default=None)
            seen.is_timed |= exchange.operation in _NOW and self.clock.is_near(updated, exchange)
            if call.get("status") == "ongoing" and seen.ongoing is None:
                seen.ongoing = shown
            if creates and is_new:
                seen.created = shown
                self.sample.append(shown)
                for role in ("doctor", "patient"):
                    self.booked.get_or_add((role, str(call.get(role))), deque(maxlen=100)).append(shown)
        if exchange.operation == "joinVideoCall" and exchange.succeeded:
            joined = self.seen_calls.get(call_id_of(exchange.url))
            if joined and exchange.object.get("channel_name") != joined.record[1]:
                joined.astray = self.shortened(exchange, None)
            elif joined and joined.joined is None:
                joined.joined = self.shortened(exchange, None)

    def _shows_real_clock(self, exchange: Exchange) -> bool:
        """Whether a time of the answer is that of now, or one that did not move and was right before."""
        if exchange.operation not in _NOW or not exchange.succeeded:
            return True
        body = exchange.object
        times = [instant(body.get(name)) for name in _NOW[exchange.operation]]
        seen = self.seen_calls.get(str(body.get("id")))
        stays = seen is not None and seen.is_timed and seen.updated == instant(body.get("updated_at"))
        return stays or any(self.clock.is_near(time, exchange) for time in times)

    # -- Forgetting ----------------------------------------------------------------------------------

    def _forget_other_records(self, exchange: Exchange) -> None:
        """Forget calls in whose place there is another one, or an earlier state: the data was reset."""
        for call in calls_of(exchange):
            seen = self.seen_calls.get(str(call.get("id")))
            if seen is None:
                continue
            created, channel = _record(call)
            other = channel != seen.record[1] and _differ(created, seen.record[0])
            updated = instant(call.get("updated_at"))
            back = (
                exchange.sent_at > seen.shown.received_at
                and _RANKS.get(str(call.get("status")), 2) < seen.rank
                and updated is not None
                and seen.updated is not None
                and updated < seen.updated
            )
            if other or back:
                self.resets += 1
                self._forget(call.get("id"))

    def _forget(self, call_id: object) -> None:
        name = str(call_id)
        self.calls.pop(call_id, None)
        self.final.pop(call_id, None)
        self.seen_calls.pop(name, None)


TrafficObserver = Callable[[Traffic, Exchange], "list[Finding] | None"]


def _record(call: dict[str, object]) -> tuple[datetime | None, object]:
    return instant(call.get("created_at")), call.get("channel_name")


def _differ(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and abs(one - other) >= SECOND


def _as_number(text: str) -> object:
    return int(text) if text.isdecimal() else text
