"""How exchanges are observed, and what is remembered of them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

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
    "Verdict",
    "observes",
    "of_each_call",
    "of_each_join",
]

LENIENCE = timedelta(seconds=10)
"""How far a time may be from when something happened."""

MOST_FINDINGS = 3
"""How many findings of a rule are kept."""


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
        self.known: dict[object, Known] = {}
        self.emails: set[str] = set()
        self.channels: set[str] = set()
        self.final: dict[object, Exchange] = {}
        self.uids: dict[tuple[str, int], Exchange] = {}

    def watch(self, exchange: Exchange) -> None:
        """Ask every observer about an exchange."""
        for rule, observer in OBSERVED.items():
            found = observer(self, exchange)
            if found is None:
                continue
            self.seen[rule] += 1
            room = MOST_FINDINGS - len(self.findings[rule])
            self.findings[rule] += [_finding(complaint, exchange) for complaint in found[:room]]

    def first_seen(self, exchange: Exchange, call: dict[str, Any], name: str) -> tuple[Any, Exchange]:
        """The value that a field of this call had when it was first read, and where that was."""
        known = self.known.setdefault(call["id"], Known(exchange))
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


def of_each_join(check: Callable[[Observers, Exchange, TokenInfo], Iterator[Complaint]]) -> Observer:
    """An observer of the Agora token in every answer to a join."""

    def observer(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
        if exchange.operation != "joinVideoCall" or not exchange.succeeded:
            return None
        try:
            token = inspect_token(exchange.object.get("token", ""))
        except InvalidTokenError:
            return None
        return list(check(observers, exchange, token))

    return observer
