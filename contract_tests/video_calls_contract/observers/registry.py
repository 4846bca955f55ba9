"""How exchanges are observed, and what is remembered of them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from video_calls_sdk.agora import InvalidTokenError, TokenInfo, inspect_token
from video_calls_spec import RuleId

from video_calls_contract.clock import BackendClock
from video_calls_contract.config import Agora
from video_calls_contract.exchange import Exchange

__all__ = [
    "LENIENCE",
    "MOST_FINDINGS",
    "OBSERVED",
    "CheckOfCall",
    "Complaint",
    "Finding",
    "Known",
    "Observer",
    "Observers",
    "Recent",
    "Verdict",
    "observes",
    "of_each_call",
    "of_each_join",
    "token_of",
]

LENIENCE = timedelta(seconds=10)
"""How far a time may be from when something happened."""

MOST_FINDINGS = 3
"""How many findings of a rule are kept."""

MOST_REMEMBERED = 2_000
"""How many calls, people and channels are remembered."""

K = TypeVar("K")
V = TypeVar("V")


class Recent(dict[K, V]):
    """A dictionary that drops its oldest entry when it has more than `MOST_REMEMBERED`."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > MOST_REMEMBERED:
            del self[next(iter(self))]

    def remembered(self, key: K, value: V) -> V:
        """Return the value of a key; a new key gets this value."""
        if key not in self:
            self[key] = value
        return self[key]


@dataclass(frozen=True, slots=True)
class Finding:
    """What an observer has to complain of."""

    expected: str
    exchanges: tuple[Exchange, ...]


@dataclass(slots=True)
class Known:
    """What was first seen of a call, and where."""

    exchange: Exchange
    values: dict[str, Any] = field(default_factory=dict[str, Any])


class Observers:
    """All of them, with what they remember.

    Args:
        is_ours: whether this run made the call of an id.
    """

    def __init__(self, clock: BackendClock, agora: Agora, is_ours: Callable[[object], bool]) -> None:
        self.clock = clock
        self.agora = agora
        self.is_ours = is_ours
        self.seen: Counter[RuleId] = Counter()
        self.findings: dict[RuleId, list[Finding]] = defaultdict(list)
        self.known: Recent[object, Known] = Recent()
        self.people: Recent[object, Known] = Recent()
        self.id_types: dict[str, Known] = {}
        self.emails: Recent[str, None] = Recent()
        self.channels: Recent[str, None] = Recent()
        self.final: Recent[object, Exchange] = Recent()
        self.uids: Recent[tuple[str, int], Exchange] = Recent()

    def watch(self, exchange: Exchange) -> None:
        """Ask every observer about an exchange."""
        for rule, observer in OBSERVED.items():
            self.ask(rule, observer, exchange)

    def ask(self, rule: RuleId, observer: "Observer", exchange: Exchange) -> None:
        """Ask one observer about an exchange, and keep its first findings."""
        found = observer(self, exchange)
        if found is None:
            return
        self.seen[rule] += 1
        room = MOST_FINDINGS - len(self.findings[rule])
        self.findings[rule] += [_finding(complaint, exchange) for complaint in found[:room]]

    def shortened(self, exchange: Exchange, call_id: object) -> Exchange:  # noqa: ARG002 (for subclasses)
        """Return an exchange as it is kept, to compare later answers about a call with it."""
        return exchange

    def first_seen(self, exchange: Exchange, call: dict[str, Any], name: str) -> tuple[Any, Exchange]:
        """The value that a field of this call had when it was first read, and where that was."""
        call_id = call["id"]
        if call_id not in self.known:
            self.known[call_id] = Known(self.shortened(exchange, call_id))
        known = self.known[call_id]
        return known.values.setdefault(name, call.get(name)), known.exchange


Complaint = tuple[Any, ...]
"""What was expected, and earlier exchanges that show it."""

Verdict = Sequence[Complaint | Finding] | None
"""What an observer says of an exchange; None if its rule has nothing to do with it."""

Observer = Callable[[Observers, Exchange], Verdict]

OBSERVED: dict[RuleId, Observer] = {}


def _finding(complaint: Complaint | Finding, exchange: Exchange) -> Finding:
    if isinstance(complaint, Finding):
        return complaint
    expected, *earlier = complaint
    return Finding(expected, (*earlier, exchange))


def observes(rule: RuleId) -> Callable[[Observer], Observer]:
    """Hold every exchange to a rule."""

    def register(observer: Observer) -> Observer:
        OBSERVED[rule] = observer
        return observer

    return register


CheckOfCall = Callable[[Observers, Exchange, dict[str, Any]], Iterator[Complaint]]


def of_each_call(check: CheckOfCall, *, ours: bool = True) -> Observer:
    """An observer that looks at every call in an exchange, or every one that this run made."""

    def observer(observers: Observers, exchange: Exchange) -> list[Finding] | None:
        calls = [
            call
            for call in exchange.calls
            if isinstance(call.get("id"), int | str) and (not ours or observers.is_ours(call["id"]))
        ]
        if not calls:
            return None
        return [
            _finding(complaint, exchange.about(call["id"]))
            for call in calls
            for complaint in check(observers, exchange, call)
        ]

    return observer


def token_of(exchange: Exchange) -> TokenInfo:
    """Return the Agora token of an answer to a join.

    Raises:
        InvalidTokenError: if it has none.
    """
    token = exchange.object.get("token")
    return inspect_token(token if isinstance(token, str) else "")


def of_each_join(check: Callable[[Observers, Exchange, TokenInfo], Iterator[Complaint]]) -> Observer:
    """An observer of the Agora token in every answer to a join."""

    def observer(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
        if exchange.operation != "joinVideoCall" or not exchange.succeeded:
            return None
        try:
            token = token_of(exchange)
        except InvalidTokenError:
            return None
        return list(check(observers, exchange, token))

    return observer
