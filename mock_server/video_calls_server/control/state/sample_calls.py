"""Realistic calls, in all statuses, around the time that the clock shows.

They are made as real ones are: the domain schedules each, has it joined, ended or cancelled, and what it
tells goes into the outbox, in order. The same number at the same time added to the same state is the same
calls.

Calls begin on the half hour, on working days from 8:00 to 18:00 UTC, and no two of one person less than half
an hour apart. Only those around now may be outside these hours: the ongoing ones, and the one that is next.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TypeVar, get_args

from sqlalchemy import Connection, select

from video_calls_server.agora.channels import channel_name
from video_calls_server.domain import calls
from video_calls_server.domain.calls import MIN_DISTANCE, Call, Draft, NewCall, Status, Transition
from video_calls_server.domain.people import Actor, Doctor, Patient
from video_calls_server.events.payload import event_data
from video_calls_server.store import calls as store_calls
from video_calls_server.store import events, people, schema
from video_calls_server.store.statement import Statement

SLOT = MIN_DISTANCE
OPENING, CLOSING = 8, 18  # o'clock, UTC
_SLOTS_A_DAY = (CLOSING - OPENING) * timedelta(hours=1) // SLOT
_SATURDAY = 5

_DAYS = 14
"""Working days back, and as many ahead, over which calls are spread where that is enough."""

_CALLS_A_DAY = 6
"""Of one person; where there were more, calls are spread over more days."""

_PARTS: dict[Status, float] = {"scheduled": 0.3, "cancelled": 0.12, "ongoing": 0.05}
"""How large a part of all calls these are; the others are completed."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_FIRST: tuple[Status, ...] = ("scheduled", "completed", "ongoing")
"""What there is where there are too few calls for every status."""

Somebody = TypeVar("Somebody", Doctor, Patient)


class SampleCallsError(Exception):
    """There can be no such calls; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A call to be made, and what is to become of it."""

    new: NewCall
    status: Status


def add_sample_calls(connection: Connection, count: int, *, now: datetime) -> None:
    """Add so many calls. Within `Store.write`, so that either all of them are added or none.

    Raises:
        SampleCallsError: nobody is there who could call somebody.
    """
    planner = _Planner(connection, Random(count), now)  # noqa: S311 (it is to be predicted)
    plans = planner.plans(count)
    told: list[tuple[datetime, Transition]] = []
    for plan in sorted(plans, key=lambda plan: plan.new.created_at):
        call = store_calls.add_call(connection, plan.new)
        lived = planner.life(call, plan.status)
        if lived:
            store_calls.update_call(connection, lived[-1][1].call)
            told += lived
    for time, transition in sorted(told, key=lambda each: each[0]):
        call = transition.call
        to = call.doctor.user.id, call.patient.user.id
        for event in transition.events:
            events.add_event(connection, event.type, event_data(event, call), to=to, now=time)


_SLOTS_TAKEN = Statement(
    select(schema.doctors.c.user_id, schema.patients.c.user_id, schema.calls.c.scheduled_time)
    .select_from(schema.calls)
    .join(schema.doctors)
    .join(schema.patients)
    .where(schema.calls.c.status != "cancelled")
)
_CHANNELS = Statement(select(schema.calls.c.channel_name))


class _Diary:
    """Who has a call when."""

    def __init__(self, connection: Connection) -> None:
        self._times: defaultdict[tuple[int, int], list[datetime]] = defaultdict(list)
        for doctor_user, patient_user, time in _SLOTS_TAKEN.rows(connection):
            for user_id in (doctor_user, patient_user):
                self.note(user_id, store_calls.time_of(time))

    def note(self, user_id: int, time: datetime) -> None:
        """The user has a call then."""
        self._times[user_id, _slot_number(time)].append(time)

    def near(self, user_id: int, time: datetime) -> list[datetime]:
        """The times of the user's calls around a time, all that are less than a slot away among them."""
        number = _slot_number(time)
        return [
            at for near in (number - 1, number, number + 1) for at in self._times.get((user_id, near), ())
        ]

    def is_free(self, user_id: int, time: datetime) -> bool:
        """Whether the user can have a call then."""
        return all(abs(time - other) >= MIN_DISTANCE for other in self.near(user_id, time))


class _Planner:
    """Chooses who, when and how it goes."""

    def __init__(self, connection: Connection, random: Random, now: datetime) -> None:
        everybody = people.all_people(connection)
        self._doctors = [doctor for user, doctor, _ in everybody if doctor is not None and user.active]
        self._patients = [patient for user, _, patient in everybody if patient is not None and user.active]
        self._diary = _Diary(connection)
        self._channels = {row[0] for row in _CHANNELS.rows(connection)}
        self._random = random
        self._now = now
        self._slot = now - (now - _EPOCH) % SLOT
        users = {doctor.user.id for doctor in self._doctors} | {each.user.id for each in self._patients}
        if not self._doctors or not self._patients or len(users) == 1:
            raise SampleCallsError(
                "calls need an active doctor and an active patient who are two people; add some"
            )

    def plans(self, count: int) -> list[_Plan]:
        """So many calls, none of them yet made."""
        most = min(len(self._doctors), len(self._patients))
        numbers = _numbers(count, most)
        around = [self._plan("ongoing", _slots(self._slot, -SLOT)) for _ in range(numbers["ongoing"])]
        if numbers["scheduled"]:
            around.append(self._plan("scheduled", _slots(self._slot + SLOT, SLOT)))
        cancelled = numbers["cancelled"] // 2
        past = _some("completed", numbers["completed"]) + _some("cancelled", cancelled)
        coming = _some("scheduled", numbers["scheduled"] - 1)
        coming += _some("cancelled", numbers["cancelled"] - cancelled)
        return [
            *around,
            *self._spread(past, -1, most * _CALLS_A_DAY),
            *self._spread(coming, 1, most * _CALLS_A_DAY),
        ]

    def _spread(self, statuses: list[Status], step: int, a_day: int) -> list[_Plan]:
        """Plans for calls over the days before now, or after it; every fourth of them today, while it can."""
        days = _working_days(self._slot, step, max(_DAYS, -(-len(statuses) // a_day)))
        plans: list[_Plan] = []
        for index, status in enumerate(statuses):
            today = index % 4 == 0 and index // 4 < a_day
            start = (
                self._slot
                if today
                else self._random.choice(days) + SLOT * self._random.randrange(_SLOTS_A_DAY)
            )
            if step < 0:
                slots = _slots(min(start, self._slot - SLOT), -SLOT)
            else:
                slots = _slots(max(start, self._slot + 2 * SLOT), SLOT)
            plans.append(self._plan(status, filter(_is_in_working_hours, slots)))
        return plans

    def _plan(self, status: Status, slots: Iterator[datetime]) -> _Plan:
        """A call in the first of these slots in which two people are free."""
        time, doctor, patient = next(
            (time, *pair) for time in slots if (pair := self._free_pair(time)) is not None
        )
        ahead = self._random.randrange(3600, 10 * 86400)
        created = min(time, self._now.replace(microsecond=0)) - timedelta(seconds=ahead)
        channel = channel_name(created, self._random)
        while channel in self._channels:
            channel = channel_name(created, self._random)
        self._channels.add(channel)
        doctor_user, patient_user = doctor.user.id, patient.user.id
        new = calls.schedule(
            Draft(doctor.id, patient.id, time),
            doctor=doctor,
            patient=patient,
            neighbours=[*self._diary.near(doctor_user, time), *self._diary.near(patient_user, time)],
            channel_name=channel,
            now=created,
        )
        for user_id in (doctor_user, patient_user):
            self._diary.note(user_id, time)
        return _Plan(new, status)

    def _free_pair(self, time: datetime) -> tuple[Doctor, Patient] | None:
        for doctor in self._from_any(self._doctors):
            if not self._diary.is_free(doctor.user.id, time):
                continue
            for patient in self._from_any(self._patients):
                if patient.user.id != doctor.user.id and self._diary.is_free(patient.user.id, time):
                    return doctor, patient
        return None

    def _from_any(self, people: list[Somebody]) -> Iterator[Somebody]:
        """All of them, in a circle that begins anywhere."""
        start = self._random.randrange(len(people))
        for index in range(len(people)):
            yield people[(start + index) % len(people)]

    # -- What becomes of a call ------------------------------------------------------------------------

    def life(self, call: Call, status: Status) -> list[tuple[datetime, Transition]]:
        """What happens to a call until it has this status, and when."""
        if status == "scheduled":
            return []
        doctor = Actor(call.doctor.user.id, call.doctor.id, None)
        patient = Actor(call.patient.user.id, None, call.patient.id)
        if status == "cancelled":
            time = self._between(call.created_at, min(call.scheduled_time, self._now))
            return [(time, calls.cancel(call, self._random.choice((doctor, patient)), time))]
        first, second = self._random.sample((doctor, patient), 2)
        begins = self._after(call.scheduled_time, -240, 120)
        joins = self._after(begins, 10, 150)
        lived = [(begins, calls.join(call, first, begins))]
        if joins < self._now:
            lived.append((joins, calls.join(lived[-1][1].call, second, joins)))
        if status == "completed":
            ends = self._after(joins, 8 * 60, 25 * 60)
            lived.append((ends, calls.end(lived[-1][1].call, doctor, ends)))
        return lived

    def _after(self, time: datetime, least: int, most: int) -> datetime:
        """So many seconds after a time, but not after now."""
        return min(self._now, time + timedelta(seconds=self._random.randint(least, most)))

    def _between(self, earliest: datetime, latest: datetime) -> datetime:
        seconds = (latest - earliest) // timedelta(seconds=1)
        return earliest + timedelta(seconds=self._random.randint(0, seconds))


def _numbers(count: int, most: int) -> dict[Status, int]:
    """How many calls there are to be of each status, with `most` of them at one time."""
    numbers: dict[Status, int] = dict.fromkeys(_FIRST[:count], 1)
    if count > len(_FIRST):
        numbers = {status: max(1, int(count * part)) for status, part in _PARTS.items()}
        numbers["ongoing"] = min(numbers["ongoing"], max(1, most // 2))
        numbers["completed"] = count - sum(numbers.values())
    return {status: numbers.get(status, 0) for status in get_args(Status)}


def _some(status: Status, number: int) -> list[Status]:
    return [status for _ in range(number)]


def _slot_number(time: datetime) -> int:
    return (time - _EPOCH) // SLOT


def _slots(time: datetime, step: timedelta) -> Iterator[datetime]:
    """Yield this slot and those after it, or before it if the step is negative."""
    while True:
        yield time
        time += step


def _is_in_working_hours(time: datetime) -> bool:
    return OPENING <= time.hour < CLOSING and time.weekday() < _SATURDAY


def _working_days(now: datetime, step: int, number: int) -> list[datetime]:
    """When so many working days begin that are next after today, or before it where `step` is -1."""
    day = now.replace(hour=OPENING, minute=0)
    days: list[datetime] = []
    while len(days) < number:
        day += timedelta(days=step)
        if _is_in_working_hours(day):
            days.append(day)
    return days
