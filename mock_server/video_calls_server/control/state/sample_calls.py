"""Sample calls in all statuses around the clock's time.

The domain schedules, joins, ends and cancels them as it does real calls, and their events go into the outbox
in order. The same number at the same time in the same state always gives the same calls.

Calls start on the half hour, on working days from 8:00 to 18:00 UTC, and the calls of one user are at least
half an hour apart. Only the ongoing calls and the next call can be outside these hours.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, cycle, islice
from math import ceil
from random import Random

from sqlalchemy import Connection, select

from video_calls_server.agora.channels import channel_name
from video_calls_server.domain import calls
from video_calls_server.domain.calls import MIN_DISTANCE, Call, Draft, NewCall, Status, Transition
from video_calls_server.domain.people import Actor, Doctor, Patient, User
from video_calls_server.events.payload import event_data
from video_calls_server.store import calls as store_calls
from video_calls_server.store import events, people, schema
from video_calls_server.store.statement import Statement
from video_calls_server.store.times import MICROSECOND, to_time

SLOT = MIN_DISTANCE
OPENING, CLOSING = 8, 18  # o'clock, UTC
_SLOTS_A_DAY = (CLOSING - OPENING) * timedelta(hours=1) // SLOT
_SATURDAY = 5

_DAYS = 14
"""Calls are spread over this many working days before now, and after now. Many calls need more days."""

_CALLS_A_DAY = 6
"""How many calls a user has in a day. If there are more calls, they are spread over more days."""

_STATUSES: tuple[Status, ...] = (
    *("scheduled", "completed", "ongoing", "cancelled"),
    *("completed", "scheduled", "completed", "completed"),
    *("completed", "scheduled", "completed", "cancelled"),
    *("completed", "scheduled", "completed", "completed"),
)
"""The statuses of the first calls. Further calls repeat this sequence."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SLOT = datetime.max.replace(tzinfo=UTC) - SLOT

_Plan = tuple[NewCall, Status]
"""A call to create, and the status that it gets."""


class SampleCallsError(Exception):
    """Sample calls are impossible; the message says why, and what to do."""


def add_sample_calls(connection: Connection, count: int, *, now: datetime) -> None:
    """Add this many calls, in the caller's transaction.

    Raises:
        SampleCallsError: if there are no active doctor and active patient who are different users.
    """
    planner = _Planner(connection, count, now)
    history: list[tuple[datetime, Transition]] = []
    for new, status in sorted(planner.plans(count), key=lambda plan: plan[0].created_at):
        call = store_calls.add_call(connection, new)
        transitions = planner.transitions(call, status)
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


class _Planner:
    """Chooses the participants, the times and the course of the calls."""

    def __init__(self, connection: Connection, count: int, now: datetime) -> None:
        persons = people.all_people(connection)
        self._doctors = [doctor for user, doctor, _ in persons if doctor is not None and user.active]
        self._patients = [patient for user, _, patient in persons if patient is not None and user.active]
        users = {doctor.user.id for doctor in self._doctors} | {each.user.id for each in self._patients}
        if not self._doctors or not self._patients or len(users) == 1:
            raise SampleCallsError(
                "calls need an active doctor and an active patient who are different users; add some"
            )
        self._max_parallel = min(len(self._doctors), len(self._patients))
        self._random = Random(f"{count} {store_calls.count_all_calls(connection)}")  # noqa: S311 (repeatable)
        self._now = now
        self._slot = _slot_of(now)
        self._occupied: set[tuple[int, datetime]] = set()  # user ids with their slots
        for doctor_user, patient_user, microseconds in _BOOKINGS.rows(connection):
            time = to_time(microseconds)
            for slot in (_slot_of(time), _slot_of(min(time, _LAST_SLOT) + SLOT - MICROSECOND)):
                self._occupied |= {(doctor_user, slot), (patient_user, slot)}

    def plans(self, count: int) -> list[_Plan]:
        """Return plans for this many calls. At most half of those that could run in parallel are ongoing."""
        numbers = Counter(islice(cycle(_STATUSES), count))
        ongoing = min(numbers["ongoing"], max(1, self._max_parallel // 2))
        completed = numbers["completed"] + numbers["ongoing"] - ongoing
        plans = [self._plan("ongoing", _slots(self._slot, -SLOT)) for _ in range(ongoing)]
        if numbers["scheduled"]:
            plans.append(self._plan("scheduled", _slots(self._slot + SLOT, SLOT)))
        cancelled = numbers["cancelled"] // 2
        past = Counter[Status]({"completed": completed, "cancelled": cancelled})
        future = Counter[Status](
            {"scheduled": numbers["scheduled"] - 1, "cancelled": numbers["cancelled"] - cancelled}
        )
        return [
            *plans,
            *self._spread(past, _slots(self._slot - SLOT, -SLOT)),
            *self._spread(future, _slots(self._slot + 2 * SLOT, SLOT)),
        ]

    def _spread(self, numbers: Counter[Status], slots: Iterator[datetime]) -> Iterator[_Plan]:
        """Yield plans for slots in working hours. A quarter of the calls get the first slot that is free."""
        a_day = self._max_parallel * _CALLS_A_DAY
        slots = filter(_is_in_working_hours, slots)
        days = max(_DAYS, ceil(numbers.total() / a_day))
        first_days = list(islice(slots, days * _SLOTS_A_DAY))
        for index, status in enumerate(numbers.elements()):
            is_early = index % 4 == 0 and index // 4 < a_day
            start = 0 if is_early else self._random.randrange(len(first_days))
            yield self._plan(status, chain(first_days[start:], slots))

    def _plan(self, status: Status, slots: Iterator[datetime]) -> _Plan:
        """Return a plan for the first of these slots in which a doctor and a patient are free."""
        time, doctor, patient = next(
            (slot, *pair) for slot in slots if (pair := self._free_pair(slot)) is not None
        )
        self._occupied |= {(doctor.user.id, time), (patient.user.id, time)}
        ahead = self._random.randrange(3600, 10 * 86400)
        created = min(time, self._now.replace(microsecond=0)) - timedelta(seconds=ahead)
        new = calls.schedule(
            Draft(doctor.id, patient.id, time),
            doctor=doctor,
            patient=patient,
            neighbours=(),  # both are free in this slot
            channel_name=channel_name(created, self._random),
            now=created,
        )
        return new, status

    def _free_pair(self, slot: datetime) -> tuple[Doctor, Patient] | None:
        def is_free(user: User) -> bool:
            return (user.id, slot) not in self._occupied

        pairs = (
            (doctor, patient)
            for doctor in self._random.sample(self._doctors, len(self._doctors))
            if is_free(doctor.user)
            for patient in self._random.sample(self._patients, len(self._patients))
            if is_free(patient.user) and patient.user.id != doctor.user.id
        )
        return next(pairs, None)

    def transitions(self, call: Call, status: Status) -> list[tuple[datetime, Transition]]:
        """Return the transitions that lead a call to this status, with their times."""
        if status == "scheduled":
            return []
        doctor = Actor(call.doctor.user.id, call.doctor.id, None)
        patient = Actor(call.patient.user.id, None, call.patient.id)
        if status == "cancelled":
            seconds = (min(call.scheduled_time, self._now) - call.created_at) // timedelta(seconds=1)
            time = self._after(call.created_at, 0, seconds)
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
        """Return a random time, `least` to `most` seconds after `time`, but not after now."""
        return min(self._now, time + timedelta(seconds=self._random.randint(least, most)))


def _slot_of(time: datetime) -> datetime:
    return time - (time - _EPOCH) % SLOT


def _slots(time: datetime, step: timedelta) -> Iterator[datetime]:
    """Yield this slot and those after it, or before it if `step` is negative."""
    while True:
        yield time
        time += step


def _is_in_working_hours(time: datetime) -> bool:
    return OPENING <= time.hour < CLOSING and time.weekday() < _SATURDAY
