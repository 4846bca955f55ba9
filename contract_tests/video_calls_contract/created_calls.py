"""Creates the calls of a run, knows which of them are open, and closes them.

It watches every exchange, so that it also closes a call that the backend should not have created.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from video_calls_contract.backend import Backend
from video_calls_contract.exceptions import Blocked
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.ids import is_id
from video_calls_contract.pagination import visible_calls
from video_calls_contract.pairs import Pair
from video_calls_contract.users import User, Users

PARTICIPANTS = ("doctor", "patient", "other_doctor", "other_patient", "dual_user")
"""The identities of the configuration that may be in this run's calls."""

_STATUS_AFTER = {
    "joinVideoCall": "ongoing",
    "endVideoCall": "completed",
    "cancelVideoCall": "cancelled",
    "DELETE": "cancelled",  # some backends implement this method
}
OPEN, _CLOSED = ("scheduled", "ongoing"), ("completed", "cancelled")

OVERLAP = timedelta(minutes=30)


@dataclass(slots=True)
class Call:
    """A call that a test may change.

    Attributes:
        creation: the exchange that created it.
        steps: the requests that gave the call its status, such as a join and an end.
    """

    creation: Exchange
    pair: Pair
    steps: list[Exchange] = field(default_factory=list[Exchange])

    @property
    def id(self) -> object:
        """The call's id."""
        return self.creation.object["id"]

    @property
    def doctor(self) -> User:
        """The call's doctor."""
        return self.pair.doctor

    @property
    def patient(self) -> User:
        """The call's patient."""
        return self.pair.patient

    @property
    def participants(self) -> tuple[User, User]:
        """The call's doctor and patient."""
        return self.pair.participants

    def read(self) -> dict[str, Any]:
        """Return the call as its doctor reads it now.

        Raises:
            Blocked: if the call cannot be read.
        """
        exchange = self.doctor.get(self.id)
        if exchange.status != 200 or not exchange.object:  # noqa: PLR2004 (HTTP)
            raise Blocked(
                f"get was answered {exchange.status_text} for call {self.id}, just created", exchange
            )
        return exchange.object


@dataclass(frozen=True, slots=True)
class CreatedCall:
    """The doctor's id, the patient's id and the time of a call that this run created."""

    doctor: object
    patient: object
    at: datetime | None


class CreatedCalls:
    """The calls that a run has created.

    Attributes:
        calls: the created calls by id, the oldest first.
        creations: the exchanges that created them.
    """

    def __init__(self, backend: Backend, users: Users) -> None:
        self.calls: dict[object, CreatedCall] = {}
        self.creations: list[Exchange] = []
        self._users = users
        self.clock = backend.clock
        self._status: dict[object, object] = {}
        self._thread = threading.local()
        self._lasting: set[object] = set()
        self._doctor_creates = False
        backend.watchers.append(self._watch)

    def _watch(self, exchange: Exchange) -> None:
        # This needs no lock, because `Backend` passes one exchange at a time.
        for call in exchange.calls:
            call_id = call.get("id")
            if not isinstance(call_id, int | str):
                continue
            if exchange.operation == "createVideoCall" and call_id not in self.calls:
                if getattr(self._thread, "keeps_calls", False):
                    self._lasting.add(call_id)
                self.creations.append(exchange)
                self.calls[call_id] = _created_call(exchange, call)
            self._status[call_id] = call.get("status")
        status = _STATUS_AFTER.get(exchange.operation or exchange.method)
        if exchange.succeeded and status:
            parts = exchange.url.split("/")
            for call_id in [call_id for call_id in self._status if str(call_id) in parts]:
                self._status[call_id] = status

    def is_ours(self, call_id: object) -> bool:
        """Return whether this run created a call."""
        return isinstance(call_id, int | str) and call_id in self.calls

    def is_closed(self, call_id: object) -> bool:
        """Return whether a call is completed or cancelled, as far as this run has seen."""
        return self._status.get(call_id) in _CLOSED

    def open_far(self, pair: Pair) -> list[tuple[object, datetime]]:
        """Return ids and times of a pair's open calls that are more than a day ahead, the oldest first."""
        soon = self.clock.now() + timedelta(days=1)
        return [
            (call_id, call.at)
            for call_id, call in list(self.calls.items())
            if (call.doctor, call.patient) == (pair.doctor.doctor, pair.patient.patient)
            and call.at is not None
            and call.at > soon
            and not self.is_closed(call_id)
        ]

    def near(self, pair: Pair, at: datetime, reach: timedelta) -> list[object]:
        """Return the ids of calls of the pair's doctor or patient that are at most `reach` from a time."""
        return [
            call_id
            for call_id, call in list(self.calls.items())
            if (call.doctor == pair.doctor.doctor or call.patient == pair.patient.patient)
            and call.at is not None
            and abs(call.at - at) <= reach
        ]

    def since(self, number: int) -> list[object]:
        """Return the ids of the calls after the first `number`, without those from `keeping` blocks."""
        return [call_id for call_id in list(self.calls)[number:] if call_id not in self._lasting]

    @contextmanager
    def keeping(self) -> Generator[None]:
        """Keep the calls that this thread creates in the block: `since` leaves them out."""
        self._thread.keeps_calls = True
        try:
            yield
        finally:
            self._thread.keeps_calls = False

    # -- Creating -------------------------------------------------------------------------------------

    def create(self, pair: Pair, at: datetime) -> Exchange:
        """Create a call as its doctor; if no doctor has succeeded in this run, also try as its patient."""
        exchange = pair.create(pair.doctor, at)
        if exchange.succeeded:
            self._doctor_creates = True
        if self._doctor_creates:
            return exchange
        by_patient = pair.create(pair.patient, at)
        return by_patient if by_patient.succeeded else exchange

    def conflict(self, pair: Pair, at: datetime, *, own: bool = False) -> dict[str, Any] | None:
        """Return an open call that conflicts with a call of the pair at this time; None if there is none.

        Args:
            own: whether to consider this run's calls, too.
        """
        for user in pair.participants:
            for call in visible_calls(user):
                start = instant(call.get("scheduled_time"))
                if (
                    start is not None
                    and abs(start - at) <= OVERLAP
                    and call.get("status") in OPEN
                    and (own or not self.is_ours(call.get("id")))
                ):
                    return call
        return None

    # -- Closing --------------------------------------------------------------------------------------

    def close(self, call_id: object) -> bool:
        """Cancel or end a call of this run, unless it is closed; return whether it is closed now."""
        if self.is_closed(call_id):
            return True
        actions = ("end", "cancel") if self._status.get(call_id) == "ongoing" else ("cancel", "end")
        call, participants = self.calls[call_id], self.participants()
        owners = [
            user for user in participants if user.doctor == call.doctor or user.patient == call.patient
        ] or participants  # if the backend writes ids differently from the configuration
        for user in owners:
            for action in actions:
                if user.act(action, call_id).succeeded:
                    return True
        for user in owners:  # because the backend's cancel may be broken
            if user.join(call_id).succeeded and user.end(call_id).succeeded:
                return True
        return bool(owners) and owners[0].get(call_id).object.get("status") in _CLOSED

    def close_created(self, exchange: Exchange) -> None:
        """Close the call that an exchange created."""
        call_id = exchange.object.get("id")
        if self.is_ours(call_id):
            self.close(call_id)

    def close_all(
        self, side_by_side: Callable[[Callable[[object], bool], list[object]], list[bool]]
    ) -> list[str]:
        """Close every call of this run by `Run.side_by_side`; return a sentence for each call still open."""
        call_ids = list(self.calls)
        closed = side_by_side(self.close, call_ids)
        return [
            f"call {call_id} could be neither cancelled nor ended"
            for call_id, is_closed in zip(call_ids, closed, strict=True)
            if not is_closed
        ]

    def participants(self) -> list[User]:
        """Return the users of the configuration who may be in this run's calls."""
        return self._users.present(*PARTICIPANTS)


def _created_call(exchange: Exchange, call: dict[str, Any]) -> CreatedCall:
    """Return a new call's participants and time; if the response lacks one, take it from the request."""
    sent = exchange.sent_object
    doctor, patient = (
        call[role] if is_id(call.get(role)) else sent.get(role) for role in ("doctor", "patient")
    )
    at = instant(call.get("scheduled_time")) or instant(sent.get("scheduled_time"))
    return CreatedCall(doctor, patient, at)
