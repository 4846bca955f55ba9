"""The life of a video call. Everything that affects its state is here, and nowhere else.

A call is a value. What happens to it is a function from `(call, actor, now)` to a `Transition`: the call
as it is afterwards and the events to tell; or a `RuleViolation`, and nothing has happened.

    scheduled --join--> ongoing --end--> completed
        |                 |  ^
        |                 +--+ join (a fresh token, the same call)
        +-----cancel-----> cancelled

An ongoing call that both participants have left can also end by itself (`end_empty`).
`completed` and `cancelled` are final. `NEXT` holds these arrows and, for every other pair of action and
status, the rule that refuses it.

The order of checks is the contract's: 401 (before this module), 404 (`existing`), 403 (`role_of`,
`draft_of`), then 400.

Each rule is named by its slug in `openapi.yaml`, where its status and error text stand.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, NamedTuple, NoReturn

from video_calls_spec import RuleId

from video_calls_server.domain.events import Event, EventType
from video_calls_server.domain.people import Actor, Doctor, Patient, Role
from video_calls_server.domain.violation import RuleViolation, refused_field

Status = Literal["scheduled", "ongoing", "completed", "cancelled"]
Action = Literal["get", "join", "end", "cancel"]

MIN_DISTANCE = timedelta(minutes=30)
"""Two calls of one doctor, or of one patient, start at least this far apart."""

JOIN_WINDOW = timedelta(minutes=15)
"""How long before `scheduled_time` a call can be joined."""

OPEN: frozenset[Status] = frozenset({"scheduled", "ongoing"})
"""The statuses in which a call takes up its slot."""

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
class Refusal:
    """The rule that forbids an action in a status."""

    rule: RuleId


NEXT: dict[Action, dict[Status, Status | Refusal]] = {
    "join": {
        "scheduled": "ongoing",
        "ongoing": "ongoing",
        "completed": Refusal("join.not-completed"),
        "cancelled": Refusal("join.not-cancelled"),
    },
    "end": {
        "scheduled": Refusal("end.ongoing-only"),
        "ongoing": "completed",
        "completed": Refusal("end.ongoing-only"),
        "cancelled": Refusal("end.ongoing-only"),
    },
    "cancel": {
        "scheduled": "cancelled",
        "ongoing": Refusal("cancel.scheduled-only"),
        "completed": Refusal("cancel.scheduled-only"),
        "cancelled": Refusal("cancel.scheduled-only"),
    },
}


NOBODY: Mapping[Role, datetime] = MappingProxyType({})


class Call(NamedTuple):
    """A video call, as it stands.

    `present` holds the roles now in its Agora channel. `absent_since` holds those that were in it and have
    left it, while the call is ongoing, and since when.
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
    absent_since: Mapping[Role, datetime] = NOBODY


@dataclass(frozen=True, slots=True)
class Transition:
    """A call after something happened to it, and what to tell its participants, in order."""

    call: Call
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A well-formed request for a new call; `scheduled_time` is aware."""

    doctor_id: int
    patient_id: int
    scheduled_time: datetime


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the request for a new call says: a draft, or the refusal of what is malformed in it.

    `doctor_id` and `patient_id` are None if they are malformed.
    """

    doctor_id: int | None
    patient_id: int | None
    draft: Draft | RuleViolation
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call that all rules allow, before the store has given it an id."""

    channel_name: str
    doctor: Doctor
    patient: Patient
    scheduled_time: datetime
    created_at: datetime

    def stored(self, call_id: int) -> Call:
        """The call under the id that the store gave it."""
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
    """Return what the actor asks for. Only the doctor or the patient of a call may schedule it.

    Raises:
        RuleViolation: `create.participants-only`, or the proposal's own refusal.
    """
    doctor_id, patient_id, draft = proposal.doctor_id, proposal.patient_id, proposal.draft
    named_both = doctor_id is not None and patient_id is not None
    if named_both and actor.doctor_id != doctor_id and actor.patient_id != patient_id:
        raise RuleViolation("create.participants-only")
    if isinstance(draft, RuleViolation):
        raise draft
    return draft


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

    `doctor` and `patient` are those that the draft names, None where there is none. `neighbours` are the
    scheduled times of the open calls of either; ones further away than `MIN_DISTANCE` may be left out.

    Raises:
        RuleViolation: one of `create.*`.
    """
    if doctor is None:
        raise refused_field("create.doctor-valid", "doctor")
    if patient is None:
        raise refused_field("create.patient-valid", "patient")
    if not doctor.user.active:
        raise refused_field("create.doctor-active", "doctor")
    if not patient.user.active:
        raise refused_field("create.patient-active", "patient")
    if doctor.user.id == patient.user.id:
        raise RuleViolation("create.different-users")
    if draft.scheduled_time <= now:
        raise refused_field("create.future", "scheduled_time")
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
    """Refuse a call because its doctor or its patient has another one less than `MIN_DISTANCE` away.

    Raises:
        RuleViolation: `create.no-overlap`.
    """
    raise RuleViolation("create.no-overlap")


def first_answer(call: Call, draft: Draft) -> Call:
    """Return the call as it was when its `Idempotency-Key` was first used, if this request asks for the same.

    Raises:
        RuleViolation: `create.idempotency-key`.
    """
    if draft != Draft(call.doctor.id, call.patient.id, call.scheduled_time):
        raise RuleViolation("create.idempotency-key")
    return call._replace(status="scheduled", started_at=None, ended_at=None, updated_at=call.created_at)


# -- Reading and changing ---------------------------------------------------------------------------


def check_page(number: int, found: Sequence[Call]) -> None:
    """Check that a page of a list exists: the first page always does, another one if it has calls.

    Raises:
        RuleViolation: `list.page-out-of-range`.
    """
    if number > 1 and not found:
        raise RuleViolation("list.page-out-of-range")


def existing(call: Call | None, action: Action) -> Call:
    """The call that an action is about.

    Raises:
        RuleViolation: `<action>.not-found`.
    """
    if call is None:
        raise RuleViolation(NOT_FOUND[action])
    return call


def role_of(actor: Actor, call: Call, action: Action) -> Role:
    """In which role the actor takes part in the call.

    Raises:
        RuleViolation: `<action>.participants-only`.
    """
    if actor.user_id == call.doctor.user.id:
        return "doctor"
    if actor.user_id == call.patient.user.id:
        return "patient"
    raise RuleViolation(PARTICIPANTS_ONLY[action])


def join_opens_at(call: Call) -> datetime:
    """Return the start of the call's join window."""
    return call.scheduled_time - JOIN_WINDOW


def join(call: Call, actor: Actor, now: datetime, *, presence_is_noticed: bool = False) -> Transition:
    """Join a call ("4. Join Video Call"): the first join starts it, later ones change nothing of it.

    If Agora notifies of presence, a join only announces intent: `arrive` records the presence.

    Raises:
        RuleViolation: one of `join.*`.
    """
    role = role_of(actor, call, "join")
    status = _next_status("join", call)
    if now < join_opens_at(call):
        raise RuleViolation("join.window")
    events: list[Event] = []
    if call.status != status:
        call = call._replace(status=status, started_at=now, updated_at=now)
        events.append(Event("call.started"))
    if presence_is_noticed:
        if role in call.absent_since:  # and on the way back: it is not yet time to end the call
            call = call._replace(absent_since={**call.absent_since, role: now})
        return Transition(call, tuple(events))
    arrived = arrive(call, role)
    return Transition(arrived.call, (*events, *arrived.events))


def end(call: Call, actor: Actor, now: datetime) -> Transition:
    """End an ongoing call ("5. End Video Call"): it is completed, and whoever was present has left.

    Raises:
        RuleViolation: one of `end.*`.
    """
    role_of(actor, call, "end")
    return _completed(call, now)


def _completed(call: Call, now: datetime) -> Transition:
    status = _next_status("end", call)
    left = tuple(_participant("participant.left", call, role) for role in sorted(call.present))
    ended = max(now, call.started_at or now)  # a clock can be put back, and no call ends before it starts
    call = call._replace(status=status, ended_at=ended, updated_at=ended, present=frozenset())
    return Transition(call._replace(absent_since=NOBODY), (*left, Event("call.ended")))


def cancel(call: Call, actor: Actor, now: datetime) -> Transition:
    """Cancel a scheduled call ("6. Cancel Video Call"): its slot is free again.

    Raises:
        RuleViolation: one of `cancel.*`.
    """
    role_of(actor, call, "cancel")
    status = _next_status("cancel", call)
    return Transition(call._replace(status=status, updated_at=now), (Event("call.cancelled"),))


# -- Who is there, where Agora notices it -----------------------------------------------------------


def role_of_uid(call: Call, uid: int) -> Role | None:
    """In which role an Agora uid takes part in the call, None where it is nobody's of it."""
    if uid == call.doctor.user.id:
        return "doctor"
    return "patient" if uid == call.patient.user.id else None


def arrive(call: Call, role: Role) -> Transition:
    """A participant is in the channel. Only an ongoing call has anybody present."""
    if call.status != "ongoing" or role in call.present:
        return Transition(call, ())
    absent = {other: since for other, since in call.absent_since.items() if other != role}
    call = call._replace(present=call.present | {role}, absent_since=absent)
    return Transition(call, (_participant("participant.joined", call, role),))


def leave(call: Call, role: Role, now: datetime) -> Transition:
    """A participant is no longer in the channel."""
    if call.status != "ongoing" or role in call.absent_since:
        return Transition(call, ())
    was_present = role in call.present
    call = call._replace(present=call.present - {role}, absent_since={**call.absent_since, role: now})
    return Transition(call, (_participant("participant.left", call, role),) if was_present else ())


def empty_since(call: Call) -> datetime | None:
    """Since when both have left an ongoing call; None while one is there or has never been."""
    both = len(call.absent_since) == 2  # noqa: PLR2004 (the doctor and the patient)
    return max(call.absent_since.values()) if both and call.status == "ongoing" else None


def end_empty(call: Call, now: datetime, *, after: timedelta) -> Transition:
    """End a call that both have left for so long; any other stays as it is."""
    since = empty_since(call)
    if since is None or now - since < after:
        return Transition(call, ())
    return _completed(call, now)


# -- Both -------------------------------------------------------------------------------------------


def _next_status(action: Action, call: Call) -> Status:
    following = NEXT[action][call.status]
    if isinstance(following, Refusal):
        raise RuleViolation(following.rule)
    return following


def _participant(event: EventType, call: Call, role: Role) -> Event:
    user = call.doctor.user if role == "doctor" else call.patient.user
    return Event(event, role=role, uid=user.id)
