"""Registers observers, and stores what they remember and find."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

from video_calls_sdk.agora import InvalidTokenError, TokenInfo, inspect_token
from video_calls_spec import RuleId

from video_calls_contract.clock import BackendClock
from video_calls_contract.config import Agora
from video_calls_contract.exchange import Exchange

LENIENCE = timedelta(seconds=10)
"""How much a time in a response may differ from the correct time."""

MOST_FINDINGS = 3
"""How many findings of each rule are recorded."""

_MOST_ENTRIES = 2_000

K = TypeVar("K")
V = TypeVar("V")


class Recent(dict[K, V]):
    """A dictionary of at most 2,000 entries: a new entry replaces the oldest."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > _MOST_ENTRIES:
            del self[next(iter(self))]

    def get_or_add(self, key: K, value: V) -> V:
        """Return the value of a key. If the key is new, store this value first."""
        if key not in self:
            self[key] = value
        return self[key]


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation that an observer found.

    Attributes:
        expected: what a correct backend does, and what this one did.
        exchanges: the evidence, in the order of time.
    """

    expected: str
    exchanges: tuple[Exchange, ...]


@dataclass(slots=True)
class FirstSeen:
    """The first exchange that showed a call or a user, and the values in it."""

    exchange: Exchange
    values: dict[str, Any] = field(default_factory=dict[str, Any])


class Observers:
    """Passes exchanges to every observer, and stores what the observers remember.

    Args:
        is_ours: returns whether this run created the call with an id.

    Attributes:
        checked: for each rule, how many exchanges it concerned.
    """

    def __init__(self, clock: BackendClock, agora: Agora, is_ours: Callable[[object], bool]) -> None:
        self.clock = clock
        self.agora = agora
        self.is_ours = is_ours
        self.checked: Counter[RuleId] = Counter()
        self.findings: dict[RuleId, list[Finding]] = defaultdict(list)
        self.calls: Recent[object, FirstSeen] = Recent()
        self.users: Recent[object, FirstSeen] = Recent()
        self.id_types: dict[str, FirstSeen] = {}
        self.emails: Recent[str, None] = Recent()
        self.channels: Recent[str, None] = Recent()
        self.final: Recent[object, Exchange] = Recent()
        self.uids: Recent[tuple[str, int], Exchange] = Recent()

    def watch(self, exchange: Exchange) -> None:
        """Show an exchange to every observer."""
        for rule, observer in OBSERVED.items():
            self.ask(rule, observer, exchange)

    def ask(self, rule: RuleId, observer: "Observer", exchange: Exchange) -> None:
        """Show an exchange to one observer, and record its first findings."""
        verdict = observer(self, exchange)
        if verdict is None:
            return
        self.checked[rule] += 1
        room = MOST_FINDINGS - len(self.findings[rule])
        self.findings[rule] += [_as_finding(one, exchange) for one in verdict[:room]]

    def shortened(self, exchange: Exchange, call_id: object) -> Exchange:  # noqa: ARG002 (for subclasses)
        """Return the form of an exchange in which the observers remember it."""
        return exchange

    def first_seen(self, exchange: Exchange, call: dict[str, Any], name: str) -> tuple[Any, Exchange]:
        """Return the first value of a call's field, and the exchange that showed it."""
        call_id = call["id"]
        if call_id not in self.calls:
            self.calls[call_id] = FirstSeen(self.shortened(exchange, call_id))
        first = self.calls[call_id]
        return first.values.setdefault(name, call.get(name)), first.exchange


Verdict: TypeAlias = Sequence[str | Finding] | None
"""What an observer finds, in words or with evidence; None if its rule does not concern the exchange."""

Observer: TypeAlias = Callable[[Observers, Exchange], Verdict]

OBSERVED: dict[RuleId, Observer] = {}


def _as_finding(finding: str | Finding, exchange: Exchange) -> Finding:
    return finding if isinstance(finding, Finding) else Finding(finding, (exchange,))


def observes(rule: RuleId) -> Callable[[Observer], Observer]:
    """Register an observer of a rule."""

    def register(observer: Observer) -> Observer:
        OBSERVED[rule] = observer
        return observer

    return register


CallCheck: TypeAlias = Callable[[Observers, Exchange, dict[str, Any]], Iterator[str | Finding]]


def of_each_call(check: CallCheck) -> Observer:
    """Return an observer that checks those calls in an exchange that this run created."""

    def observer(observers: Observers, exchange: Exchange) -> list[Finding] | None:
        calls = [
            call
            for call in exchange.calls
            if isinstance(call.get("id"), int | str) and observers.is_ours(call["id"])
        ]
        if not calls:
            return None
        return [
            _as_finding(finding, exchange.about(call["id"]))
            for call in calls
            for finding in check(observers, exchange, call)
        ]

    return observer


def token_of(exchange: Exchange) -> TokenInfo:
    """Return the Agora token in a response to a join.

    Raises:
        InvalidTokenError: if there is none.
    """
    token = exchange.object.get("token")
    return inspect_token(token if isinstance(token, str) else "")


JoinCheck: TypeAlias = Callable[[Observers, Exchange, TokenInfo], Iterator[str]]


def of_each_join(check: JoinCheck) -> Observer:
    """Return an observer that checks the Agora token of every successful join."""

    def observer(observers: Observers, exchange: Exchange) -> list[str] | None:
        if exchange.operation != "joinVideoCall" or not exchange.succeeded:
            return None
        try:
            token = token_of(exchange)
        except InvalidTokenError:
            return None
        return list(check(observers, exchange, token))

    return observer
