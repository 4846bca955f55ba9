"""What is asked of the backend, and what is known of the calls that it is asked about."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from video_calls_contract.backend import Person
from video_calls_contract.exchange import NO_ANSWER, Exchange
from video_calls_contract.ids import NO_CALL, Id

INT32, INT64 = 2**31, 2**63

State = Literal["scheduled", "ongoing", "closed"]


@dataclass(frozen=True, slots=True)
class Action:
    """An operation that changes a call.

    Attributes:
        name: the last part of its path.
        allowed_in: the states in which the contract may allow it.
        certain_in: the state in which the contract always allows it, whatever the time.
        leads_to: the state after its success.
        prepared_in: the state of the calls that are created for its generated requests.
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
    """What is to be sent.

    Attributes:
        operation: what the path and the method are of.
        valid: whether the request keeps the schema, so that the operation itself answers.
        flaws: why no backend may accept it.
        target: the path's id where it is one that a call may have.
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
        """Whether its success changes a call."""
        return self.operation in ACTIONS


@dataclass(slots=True)
class Knowledge:
    """What is known of the calls that generated requests are about, and what has told it."""

    states: dict[object, State | None] = field(default_factory=dict[object, "State | None"])
    told: defaultdict[object, list[Exchange]] = field(default_factory=lambda: defaultdict(list))
    unheld: int = NO_CALL

    def created(self, call_id: object, exchange: Exchange, state: State = "scheduled") -> None:
        """A call of ours."""
        self.states[call_id] = state
        self.told[call_id].append(exchange)
        self._there_is(call_id)

    def _there_is(self, call_id: object) -> None:
        """An id of a call, which may be as large as those that are taken for nobody's elsewhere."""
        self.unheld = first_unheld(self.unheld, call_id)

    def saw(self, request: Request, person: Person, exchange: Exchange) -> None:
        """Learn from an answer to this person."""
        for call in replace(exchange, operation=request.operation).calls:
            self._there_is(call.get("id"))
        if request.operation == "createVideoCall" and exchange.succeeded:
            call_id = exchange.object.get("id")
            new = isinstance(call_id, int | str) and call_id not in self.states
            # A replayed answer tells of a call as it was, and some backends let anybody schedule for others.
            if new and is_in(person, exchange.object):
                self.created(call_id, exchange)
        elif request.changes and request.target in self.states:
            if exchange.succeeded:
                self.states[request.target] = ACTIONS[request.operation].leads_to
                self.told[request.target].append(exchange)
            elif exchange.status == NO_ANSWER or exchange.status >= 500:  # noqa: PLR2004 (HTTP)
                self.states[request.target] = None  # it may have happened all the same

    def participant(self, people: list[Person], call_id: object) -> Person:
        """The first of these people who is in the call; of a call that is not known, the first."""
        call = self.told[call_id][0].object if call_id in self.states else None
        return next((person for person in people if call is None or is_in(person, call)), people[0])


def first_unheld(so_far: int, held: object) -> int:
    """From where on nothing has an id; `held` is one that something has."""
    return INT64 if isinstance(held, int) and held >= so_far else so_far


def is_in(person: Person, call: Mapping[str, object]) -> bool:
    """Whether somebody is the doctor or the patient of a call."""
    roles = (("doctor", person.doctor), ("patient", person.patient))
    return any(own is not None and call.get(role) == own for role, own in roles)
