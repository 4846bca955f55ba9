"""Sample calls in all statuses around the clock's time.

The domain schedules, joins, ends and cancels them as it does real calls, and their events go into the outbox
in order. The same number at the same time in the same state always gives the same calls.

Calls start on the half hour, on working days from 8:00 to 18:00 UTC, and the calls of one user are at least
half an hour apart. Only the ongoing calls and the next call can be outside these hours.
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
from video_calls_server.store.times import to_time

SLOT = MIN_DISTANCE
OPENING, CLOSING = 8, 18  # o'clock, UTC
_SLOTS_A_DAY = (CLOSING - OPENING) * timedelta(hours=1) // SLOT
_SATURDAY = 5

_DAYS = 14
"""Working days before now, and as many after, over which calls are spread; more if needed."""

_CALLS_A_DAY = 6
"""The calls of one user in a day; more calls are spread over more days."""

_SHARES: dict[Status, float] = {"scheduled": 0.3, "cancelled": 0.12, "ongoing": 0.05}
"""The share of each status; the remaining calls are completed."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_FIRST_STATUSES: tuple[Status, ...] = ("scheduled", "completed", "ongoing")
"""The statuses of the calls if there are too few for every status."""

Participant = TypeVar("Participant", Doctor, Patient)


class SampleCallsError(Exception):
    """Sample calls are impossible; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A call to create, and the status that it gets."""

    new: NewCall
    status: Status


def add_sample_calls(connection: Connection, count: int, *, now: datetime) -> None:
    """Add this many calls, in one transaction of the caller.

    Raises:
        SampleCallsError: if there are no two active users for a call.
    """
    planner = _Planner(connection, Random(count), now)  # noqa: S311 (the calls must be repeatable)
    plans = planner.plans(count)
    history: list[tuple[datetime, Transition]] = []
    for plan in sorted(plans, key=lambda plan: plan.new.created_at):
        call = store_calls.add_call(connection, plan.new)
        transitions = planner.transitions(call, plan.status)
        if transitions:
            store_calls.update_call(connection, transitions[-1][1].call)
            history += transitions
    for time, transition in sorted(history, key=lambda each: each[0]):
        call = transition.call
        to = call.doctor.user.id, call.patient.user.id
        for event in transition.events:
            events.add_event(connection, event.type, event_data(event, call), to=to, now=time)


_BOOKINGS = Statement(
    select(schema.doctors.c.user_id, schema.patients.c.user_id, schema.calls.c.scheduled_time)
    .select_from(schema.calls)
    .join(schema.doctors)
    .join(schema.patients)
    .where(schema.calls.c.status != "cancelled")
)
_CHANNELS = Statement(select(schema.calls.c.channel_name))


class _Bookings:
    """The scheduled times of each user."""

    def __init__(self, connection: Connection) -> None:
        self._times: defaultdict[tuple[int, int], list[datetime]] = defaultdict(list)
        for doctor_user, patient_user, time in _BOOKINGS.rows(connection):
            for user_id in (doctor_user, patient_user):
                self.add(user_id, to_time(time))

    def add(self, user_id: int, time: datetime) -> None:
        """Add the time of a call."""
        self._times[user_id, _slot_number(time)].append(time)

    def near(self, user_id: int, time: datetime) -> list[datetime]:
        """Return the times of the user's calls in this slot and the two next to it."""
        number = _slot_number(time)
        return [
            at for near in (number - 1, number, number + 1) for at in self._times.get((user_id, near), ())
        ]

    def is_free(self, user_id: int, time: datetime) -> bool:
        """Return whether the user can have a call at this time."""
        return all(abs(time - other) >= MIN_DISTANCE for other in self.near(user_id, time))


class _Planner:
    """Chooses the participants, the times and the course of the calls."""

    def __init__(self, connection: Connection, random: Random, now: datetime) -> None:
        persons = people.all_people(connection)
        self._doctors = [doctor for user, doctor, _ in persons if doctor is not None and user.active]
        self._patients = [patient for user, _, patient in persons if patient is not None and user.active]
        self._bookings = _Bookings(connection)
        self._channels = {row[0] for row in _CHANNELS.rows(connection)}
        self._random = random
        self._now = now
        self._slot = now - (now - _EPOCH) % SLOT
        users = {doctor.user.id for doctor in self._doctors} | {each.user.id for each in self._patients}
        if not self._doctors or not self._patients or len(users) == 1:
            raise SampleCallsError(
                "calls need an active doctor and an active patient who are different users; add some"
            )

    def plans(self, count: int) -> list[_Plan]:
        """Return plans for this many calls."""
        max_parallel = min(len(self._doctors), len(self._patients))
        numbers = _numbers(count, max_parallel)
        around = [self._plan("ongoing", _slots(self._slot, -SLOT)) for _ in range(numbers["ongoing"])]
        if numbers["scheduled"]:
            around.append(self._plan("scheduled", _slots(self._slot + SLOT, SLOT)))
        cancelled = numbers["cancelled"] // 2
        past = _repeat("completed", numbers["completed"]) + _repeat("cancelled", cancelled)
        future = _repeat("scheduled", numbers["scheduled"] - 1)
        future += _repeat("cancelled", numbers["cancelled"] - cancelled)
        return [
            *around,
            *self._spread(past, -1, max_parallel * _CALLS_A_DAY),
            *self._spread(future, 1, max_parallel * _CALLS_A_DAY),
        ]

    def _spread(self, statuses: list[Status], step: int, a_day: int) -> list[_Plan]:
        """Return plans over past days, or future ones if `step` is 1; a quarter of them today if possible."""
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
        """Return a plan for the first of these slots in which a doctor and a patient are free."""
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
            neighbours=[*self._bookings.near(doctor_user, time), *self._bookings.near(patient_user, time)],
            channel_name=channel,
            now=created,
        )
        for user_id in (doctor_user, patient_user):
            self._bookings.add(user_id, time)
        return _Plan(new, status)

    def _free_pair(self, time: datetime) -> tuple[Doctor, Patient] | None:
        for doctor in self._rotate(self._doctors):
            if not self._bookings.is_free(doctor.user.id, time):
                continue
            for patient in self._rotate(self._patients):
                if patient.user.id != doctor.user.id and self._bookings.is_free(patient.user.id, time):
                    return doctor, patient
        return None

    def _rotate(self, candidates: list[Participant]) -> Iterator[Participant]:
        """Yield all items, starting at a random one."""
        start = self._random.randrange(len(candidates))
        for index in range(len(candidates)):
            yield candidates[(start + index) % len(candidates)]

    def transitions(self, call: Call, status: Status) -> list[tuple[datetime, Transition]]:
        """Return the transitions that lead a call to this status, with their times."""
        if status == "scheduled":
            return []
        doctor = Actor(call.doctor.user.id, call.doctor.id, None)
        patient = Actor(call.patient.user.id, None, call.patient.id)
        if status == "cancelled":
            time = self._between(call.created_at, min(call.scheduled_time, self._now))
            return [(time, calls.cancel(call, self._random.choice((doctor, patient)), time))]
        first, second = self._random.sample((doctor, patient), 2)
        first_join = self._after(call.scheduled_time, -240, 120)
        second_join = self._after(first_join, 10, 150)
        transitions = [(first_join, calls.join(call, first, first_join))]
        if second_join < self._now:
            transitions.append((second_join, calls.join(transitions[-1][1].call, second, second_join)))
        if status == "completed":
            end = self._after(second_join, 8 * 60, 25 * 60)
            transitions.append((end, calls.end(transitions[-1][1].call, doctor, end)))
        return transitions

    def _after(self, time: datetime, least: int, most: int) -> datetime:
        """Return a time this many seconds later, but not after now."""
        return min(self._now, time + timedelta(seconds=self._random.randint(least, most)))

    def _between(self, earliest: datetime, latest: datetime) -> datetime:
        seconds = (latest - earliest) // timedelta(seconds=1)
        return earliest + timedelta(seconds=self._random.randint(0, seconds))


def _numbers(count: int, max_parallel: int) -> dict[Status, int]:
    """Return the number of calls of each status; at most half of `max_parallel` are ongoing."""
    numbers: dict[Status, int] = dict.fromkeys(_FIRST_STATUSES[:count], 1)
    if count > len(_FIRST_STATUSES):
        numbers = {status: max(1, int(count * share)) for status, share in _SHARES.items()}
        numbers["ongoing"] = min(numbers["ongoing"], max(1, max_parallel // 2))
        numbers["completed"] = count - sum(numbers.values())
    return {status: numbers.get(status, 0) for status in get_args(Status)}


def _repeat(status: Status, number: int) -> list[Status]:
    return [status for _ in range(number)]


def _slot_number(time: datetime) -> int:
    return (time - _EPOCH) // SLOT


def _slots(time: datetime, step: timedelta) -> Iterator[datetime]:
    """Yield this slot and those after it, or before it if `step` is negative."""
    while True:
        yield time
        time += step


def _is_in_working_hours(time: datetime) -> bool:
    return OPENING <= time.hour < CLOSING and time.weekday() < _SATURDAY


def _working_days(now: datetime, step: int, number: int) -> list[datetime]:
    """Return the openings of the next working days, or of the previous ones if `step` is -1."""
    day = now.replace(hour=OPENING, minute=0)
    days: list[datetime] = []
    while len(days) < number:
        day += timedelta(days=step)
        if _is_in_working_hours(day):
            days.append(day)
    return days
