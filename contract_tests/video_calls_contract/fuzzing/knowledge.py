"""Generated requests, and what is known about their calls."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from video_calls_contract.exchange import NO_RESPONSE, Exchange
from video_calls_contract.ids import NO_CALL, Id
from video_calls_contract.users import User

INT32, INT64 = 2**31, 2**63

State = Literal["scheduled", "ongoing", "closed"]


@dataclass(frozen=True, slots=True)
class Action:
    """An operation that changes a call.

    Attributes:
        name: the last part of its path.
        allowed_in: the states in which the contract may allow it, for example at some times.
        certain_in: the state in which the contract always allows it.
        leads_to: the call's state after a success.
        prepared_in: the state of the call that the suite prepares for generated requests.
    """

    name: str
    allowed_in: tuple[State, ...]
    certain_in: State
    leads_to: State
    prepared_in: State


ACTIONS = {
    "joinVideoCall": Action("join", ("scheduled", "ongoing"), "ongoing", "ongoing", "scheduled"),
    "endVideoCall": Action("end", ("ongoing",), "ongoing", "closed", "ongoing"),
    "cancelVideoCall": Action("cancel", ("scheduled",), "scheduled", "closed", "ongoing"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """A generated request.

    Attributes:
        operation: the operation of the path and the method.
        valid: whether the request keeps the schema; then the operation itself responds, not the framework.
        flaws: why no backend may accept the request.
        target: the id in the path, if a call can have it.
    """

    operation: str
    method: str
    path: str
    valid: bool
    flaws: tuple[str, ...] = ()
    target: Id | None = None
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: object = None
    content: bytes | None = None

    @property
    def changes(self) -> bool:
        """Return whether the request changes a call if it succeeds."""
        return self.operation in ACTIONS


@dataclass(slots=True)
class Knowledge:
    """What is known about the calls of the generated requests.

    Attributes:
        states: the state of each call of the fuzzer, by id; None if it is uncertain.
        evidence: the exchanges that show the state, by id.
        unused_from: no call has this id or a larger one.
    """

    states: dict[object, State | None] = field(default_factory=dict[object, "State | None"])
    evidence: defaultdict[object, list[Exchange]] = field(default_factory=lambda: defaultdict(list))
    unused_from: int = NO_CALL

    def created(self, call_id: object, exchange: Exchange, state: State = "scheduled") -> None:
        """Add a call that the suite has created."""
        self.states[call_id] = state
        self.evidence[call_id].append(exchange)
        self.unused_from = raise_unused(self.unused_from, call_id)

    def learn(self, request: Request, user: User, exchange: Exchange) -> None:
        """Update the state of a call from the response to this user."""
        for call in replace(exchange, operation=request.operation).calls:
            self.unused_from = raise_unused(self.unused_from, call.get("id"))
        if request.operation == "createVideoCall" and exchange.succeeded:
            call_id = exchange.object.get("id")
            is_new = isinstance(call_id, int | str) and call_id not in self.states
            # Some backends let a user schedule calls of other users. The suite must not change these.
            if is_new and is_participant(user, exchange.object):
                self.created(call_id, exchange)
        elif request.changes and request.target in self.states:
            if exchange.succeeded:
                self.states[request.target] = ACTIONS[request.operation].leads_to
                self.evidence[request.target].append(exchange)
            elif exchange.status == NO_RESPONSE or exchange.status >= 500:  # noqa: PLR2004 (HTTP)
                self.states[request.target] = None  # the backend may have changed the call

    def participant(self, users: list[User], call_id: object) -> User:
        """Return the first of these users who is in the call; if the call is unknown, the first of all."""
        call = self.evidence[call_id][0].object if call_id in self.states else None
        return next((user for user in users if call is None or is_participant(user, call)), users[0])


def raise_unused(unused_from: int, used: object) -> int:
    """Return `unused_from`, raised if the existing id `used` is not below it."""
    return INT64 if isinstance(used, int) and used >= unused_from else unused_from


def is_participant(user: User, call: Mapping[str, object]) -> bool:
    """Return whether a user is the doctor or the patient of a call."""
    roles = (("doctor", user.doctor), ("patient", user.patient))
    return any(own is not None and call.get(role) == own for role, own in roles)
