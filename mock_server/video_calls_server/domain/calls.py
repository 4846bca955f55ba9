"""The state machine of a video call. Every rule that decides what may happen to a call is in `domain/`.

Rules of this module:

- It is pure. It does no I/O, reads no clock and imports no framework.
- A call is a value. An action is a function from `(call, actor, now)` to a `Transition`, which holds the
  changed call and its events in order. If a rule refuses the action, the function raises `RuleViolation`.
- The code names a rule by its slug. `openapi.yaml` holds the status and the error text of each rule.
- `NEXT` is the only place that says which action is allowed in which status. `CHANGES`, at the end, lists the
  actions that change a call.

States:

    scheduled --join--> ongoing --end--> completed
        |                 |  ^
        |                 +--+ join (a new token, the same call)
        +-----cancel-----> cancelled

`completed` and `cancelled` are final. The server can also end an ongoing call that both participants have
left (`end_empty`).

Presence: `arrive` and `leave` record who is in the call's Agora channel. They follow Agora's notifications.
Without notifications, a join counts as an arrival.

Order of checks: 401 (in `api/`), 404 (`require_call`), 403 (`role_of`, `draft_of`), then 400.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, NamedTuple, NoReturn

from video_calls_spec import RuleId

from video_calls_server.domain.events import Event, EventType
from video_calls_server.domain.people import Actor, Doctor, Patient, Role
from video_calls_server.domain.violation import RuleViolation, field_violation

Status = Literal["scheduled", "ongoing", "completed", "cancelled"]
Action = Literal["get", "join", "end", "cancel"]

MIN_DISTANCE = timedelta(minutes=30)
"""The least time between the starts of two open calls of one doctor, or of one patient."""

JOIN_WINDOW = timedelta(minutes=15)
"""How long before `scheduled_time` participants can join a call."""

OPEN: frozenset[Status] = frozenset({"scheduled", "ongoing"})
"""The statuses in which a call blocks its slot."""

NOT_FOUND: dict[Action, RuleId] = {
    "get": "get.not-found",
    "join": "join.not-found",
    "end": "end.not-found",
    "cancel": "cancel.not-found",
}
PARTICIPANTS_ONLY: dict[Action, RuleId] = {
    "get": "get.participants-only",
    "join": "join.participants-only",
    "end": "end.participants-only",
    "cancel": "cancel.participants-only",
}


@dataclass(frozen=True, slots=True)
class StatusRule:
    """The rule that forbids an action in a status."""

    rule: RuleId


NEXT: dict[Action, dict[Status, Status | StatusRule]] = {
    "join": {
        "scheduled": "ongoing",
        "ongoing": "ongoing",
        "completed": StatusRule("join.not-completed"),
        "cancelled": StatusRule("join.not-cancelled"),
    },
    "end": {
        "scheduled": StatusRule("end.ongoing-only"),
        "ongoing": "completed",
        "completed": StatusRule("end.ongoing-only"),
        "cancelled": StatusRule("end.ongoing-only"),
    },
    "cancel": {
        "scheduled": "cancelled",
        "ongoing": StatusRule("cancel.scheduled-only"),
        "completed": StatusRule("cancel.scheduled-only"),
        "cancelled": StatusRule("cancel.scheduled-only"),
    },
}
"""For each action and status: the status after it, or the rule that refuses it."""

NO_ABSENCES: Mapping[Role, datetime] = MappingProxyType({})


class Call(NamedTuple):
    """A video call.

    `present` holds the roles that are in its Agora channel. While the call is ongoing, `absent_since` holds
    the roles that have left the channel, each with the time at which it left.
    """

    id: int
    channel_name: str
    doctor: Doctor
    patient: Patient
    status: Status
    scheduled_time: datetime
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    updated_at: datetime
    present: frozenset[Role] = frozenset()
    absent_since: Mapping[Role, datetime] = NO_ABSENCES


@dataclass(frozen=True, slots=True)
class Transition:
    """A call after an action, and the events of the action in order."""

    call: Call
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A well-formed request for a new call. `scheduled_time` has an offset."""

    doctor_id: int
    patient_id: int
    scheduled_time: datetime


@dataclass(frozen=True, slots=True)
class Proposal:
    """The request for a new call: its draft, or the violation if the request is malformed.

    `doctor_id` and `patient_id` are None if they are malformed.
    """

    doctor_id: int | None
    patient_id: int | None
    draft: Draft | RuleViolation
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call that all rules allow, before the store assigns its id."""

    channel_name: str
    doctor: Doctor
    patient: Patient
    scheduled_time: datetime
    created_at: datetime

    def with_id(self, call_id: int) -> Call:
        """Return the scheduled call with the id that the store assigned."""
        return Call(
            id=call_id,
            channel_name=self.channel_name,
            doctor=self.doctor,
            patient=self.patient,
            status="scheduled",
            scheduled_time=self.scheduled_time,
            started_at=None,
            ended_at=None,
            created_at=self.created_at,
            updated_at=self.created_at,
        )


# -- Creating ---------------------------------------------------------------------------------------


def draft_of(actor: Actor, proposal: Proposal) -> Draft:
    """Return the draft of a proposal. Only the doctor or the patient of a call may schedule it.

    Raises:
        RuleViolation: if the actor is neither of them (`create.participants-only`), or the proposal is
            malformed.
    """
    doctor_id, patient_id = proposal.doctor_id, proposal.patient_id
    has_both_ids = doctor_id is not None and patient_id is not None
    if has_both_ids and actor.doctor_id != doctor_id and actor.patient_id != patient_id:
        raise RuleViolation("create.participants-only")
    if isinstance(proposal.draft, RuleViolation):
        raise proposal.draft
    return proposal.draft


def schedule(
    draft: Draft,
    *,
    doctor: Doctor | None,
    patient: Patient | None,
    neighbours: Iterable[datetime],
    channel_name: str,
    now: datetime,
) -> NewCall:
    """Schedule a call ("2. Create Video Call").

    `doctor` and `patient` have the ids of the draft, or are None if they do not exist. `neighbours` are the
    times of all open calls that the doctor or the patient already has, at least those within `MIN_DISTANCE`.

    Raises:
        RuleViolation: if a rule of `create.*` refuses the call.
    """
    if doctor is None:
        raise field_violation("create.doctor-valid", "doctor")
    if patient is None:
        raise field_violation("create.patient-valid", "patient")
    if not doctor.user.active:
        raise field_violation("create.doctor-active", "doctor")
    if not patient.user.active:
        raise field_violation("create.patient-active", "patient")
    if doctor.user.id == patient.user.id:
        raise RuleViolation("create.different-users")
    if draft.scheduled_time <= now:
        raise field_violation("create.future", "scheduled_time")
    if any(abs(draft.scheduled_time - other) < MIN_DISTANCE for other in neighbours):
        refuse_overlap()
    return NewCall(
        channel_name=channel_name,
        doctor=doctor,
        patient=patient,
        scheduled_time=draft.scheduled_time,
        created_at=now,
    )


def refuse_overlap() -> NoReturn:
    """Refuse a call because its doctor or its patient has another call less than `MIN_DISTANCE` away.

    Raises:
        RuleViolation: always (`create.no-overlap`).
    """
    raise RuleViolation("create.no-overlap")


def replay(call: Call, draft: Draft) -> Call:
    """Return the call as it was when the first request with this `Idempotency-Key` created it.

    Raises:
        RuleViolation: if this request has the same key and a different draft (`create.idempotency-key`).
    """
    if draft != Draft(call.doctor.id, call.patient.id, call.scheduled_time):
        raise RuleViolation("create.idempotency-key")
    return call._replace(status="scheduled", started_at=None, ended_at=None, updated_at=call.created_at)


# -- Reading and changing ---------------------------------------------------------------------------


def check_page(number: int, calls: Sequence[Call]) -> None:
    """Check that a page of a list exists. The first page always exists. Another page exists if it has calls.

    Raises:
        RuleViolation: if the page does not exist (`list.page-out-of-range`).
    """
    if number > 1 and not calls:
        raise RuleViolation("list.page-out-of-range")


def require_call(call: Call | None, action: Action) -> Call:
    """Return the call.

    Raises:
        RuleViolation: if it does not exist (`<action>.not-found`).
    """
    if call is None:
        raise RuleViolation(NOT_FOUND[action])
    return call


def role_of(actor: Actor, call: Call, action: Action) -> Role:
    """Return the role of the actor in the call.

    Raises:
        RuleViolation: if the actor is not a participant of the call (`<action>.participants-only`).
    """
    if actor.user_id == call.doctor.user.id:
        return "doctor"
    if actor.user_id == call.patient.user.id:
        return "patient"
    raise RuleViolation(PARTICIPANTS_ONLY[action])


def join_opens_at(call: Call) -> datetime:
    """Return the start of the call's join window."""
    return call.scheduled_time - JOIN_WINDOW


def join(call: Call, actor: Actor, now: datetime, *, agora_notifies: bool = False) -> Transition:
    """Join a call ("4. Join Video Call"). The first join starts the call.

    If Agora's notifications are on, a join only announces intent, and `arrive` records presence.

    Raises:
        RuleViolation: if a rule of `join.*` refuses it.
    """
    role = role_of(actor, call, "join")
    status = _next_status("join", call)
    if now < join_opens_at(call):
        raise RuleViolation("join.window")
    events: list[Event] = []
    if call.status != status:
        call = call._replace(status=status, started_at=now, updated_at=now)
        events.append(Event("call.started"))
    if agora_notifies:
        if role in call.absent_since:  # the participant returns, so `end_empty` waits from now on
            call = call._replace(absent_since={**call.absent_since, role: now})
        return Transition(call, tuple(events))
    arrived = arrive(call, role)
    return Transition(arrived.call, (*events, *arrived.events))


def end(call: Call, actor: Actor, now: datetime) -> Transition:
    """End an ongoing call ("5. End Video Call"). The participants who are present leave it.

    Raises:
        RuleViolation: if a rule of `end.*` refuses it.
    """
    role_of(actor, call, "end")
    return _complete(call, now)


def _complete(call: Call, now: datetime) -> Transition:
    status = _next_status("end", call)
    leaves = [_participant_event("participant.left", call, role) for role in sorted(call.present)]
    # A call must not end before its start, even if a test has set the clock back.
    ended_at = max(now, call.started_at or now)
    call = call._replace(
        status=status,
        ended_at=ended_at,
        updated_at=ended_at,
        present=frozenset(),
        absent_since=NO_ABSENCES,
    )
    return Transition(call, (*leaves, Event("call.ended")))


def cancel(call: Call, actor: Actor, now: datetime) -> Transition:
    """Cancel a scheduled call ("6. Cancel Video Call"). Its slot becomes free.

    Raises:
        RuleViolation: if a rule of `cancel.*` refuses it.
    """
    role_of(actor, call, "cancel")
    status = _next_status("cancel", call)
    return Transition(call._replace(status=status, updated_at=now), (Event("call.cancelled"),))


CHANGES: dict[Action, Callable[[Call, Actor, datetime], Transition]] = {
    "join": join,
    "end": end,
    "cancel": cancel,
}
"""The function of each action that changes a call."""


# -- Presence in the Agora channel ------------------------------------------------------------------


def role_of_uid(call: Call, uid: int) -> Role | None:
    """Return the role in the call of the user with this Agora uid, or None if the user is an outsider."""
    if uid == call.doctor.user.id:
        return "doctor"
    return "patient" if uid == call.patient.user.id else None


def arrive(call: Call, role: Role) -> Transition:
    """Record that a participant is in the channel. Only an ongoing call records presence."""
    if call.status != "ongoing" or role in call.present:
        return Transition(call, ())
    absences = {other: since for other, since in call.absent_since.items() if other != role}
    call = call._replace(present=call.present | {role}, absent_since=absences)
    return Transition(call, (_participant_event("participant.joined", call, role),))


def leave(call: Call, role: Role, now: datetime) -> Transition:
    """Record that a participant has left the channel."""
    if call.status != "ongoing" or role in call.absent_since:
        return Transition(call, ())
    was_present = role in call.present
    call = call._replace(present=call.present - {role}, absent_since={**call.absent_since, role: now})
    return Transition(call, (_participant_event("participant.left", call, role),) if was_present else ())


def empty_since(call: Call) -> datetime | None:
    """Return when the second participant left an ongoing call, or None if not both have left it."""
    both = len(call.absent_since) == 2  # noqa: PLR2004 (the doctor and the patient)
    return max(call.absent_since.values()) if both and call.status == "ongoing" else None


def end_empty(call: Call, now: datetime, *, after: timedelta) -> Transition:
    """End a call if both participants left it at least `after` ago. Otherwise return it unchanged."""
    since = empty_since(call)
    if since is None or now - since < after:
        return Transition(call, ())
    return _complete(call, now)


# -- Helpers ----------------------------------------------------------------------------------------


def _next_status(action: Action, call: Call) -> Status:
    next_status = NEXT[action][call.status]
    if isinstance(next_status, StatusRule):
        raise RuleViolation(next_status.rule)
    return next_status


def _participant_event(event_type: EventType, call: Call, role: Role) -> Event:
    user = call.doctor.user if role == "doctor" else call.patient.user
    return Event(event_type, role=role, uid=user.id)
