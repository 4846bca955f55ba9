"""Sample calls: their number, statuses and times, and that they are repeatable and keep the rules."""

import asyncio
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from video_calls_server.control.state.sample_calls import add_sample_calls
from video_calls_server.domain.calls import MIN_DISTANCE, Call
from video_calls_server.domain.people import Doctor, Patient, User
from video_calls_server.store import calls as store_calls
from video_calls_server.store import schema, store_for
from video_calls_server.store.dump import Dump, dump
from video_calls_server.store.seed import Seed, load_seed

MONDAY = datetime(2026, 1, 5, 10, 12, 3, 5, tzinfo=UTC)


def add_calls(*counts: int, now: datetime = MONDAY, people: Seed | None = None) -> tuple[Dump, list[Call]]:
    """Return the dump of a database after sample calls were added, and these calls, sorted by id."""

    async def work() -> tuple[Dump, list[Call]]:
        store = store_for(":memory:", people or load_seed())
        try:
            for count in counts:
                await store.write(
                    lambda connection, count=count: add_sample_calls(connection, count, now=now)
                )  # type: ignore[misc]
            calls = await store.read(lambda connection: store_calls.newest_calls(connection, most=20_000))
            return await store.write(dump), sorted(calls)
        finally:
            await store.close()

    return asyncio.run(work())


def statuses(calls: list[Call]) -> Counter[str]:
    return Counter(call.status for call in calls)


@pytest.mark.parametrize(("count", "now"), [(2, MONDAY), (5, datetime(2026, 1, 10, 23, 59, tzinfo=UTC))])
def test_calls_have_all_possible_statuses(count: int, now: datetime) -> None:
    _, calls = add_calls(count, now=now)
    assert len(calls) == count
    assert len(statuses(calls)) == min(count, 4)


def test_same_number_and_time_give_same_calls() -> None:
    assert add_calls(40) == add_calls(40)
    assert add_calls(40)[0] != add_calls(41)[0]
    assert add_calls(40)[0] != add_calls(40, now=MONDAY + timedelta(days=1))[0]


@pytest.mark.parametrize("counts", [(400,), (60, 60, 7)])
def test_calls_do_not_overlap_and_have_active_users(counts: tuple[int, ...]) -> None:
    _, calls = add_calls(*counts)
    assert len({call.channel_name for call in calls}) == sum(counts)
    people = {user.id for call in calls for user in (call.doctor.user, call.patient.user)}
    assert people == {101, 102, 103, 104, 107}
    assert all(call.doctor.user.id != call.patient.user.id for call in calls)
    times_of_user: defaultdict[int, list[datetime]] = defaultdict(list)
    for call in calls:
        if call.status != "cancelled":
            for user in (call.doctor.user, call.patient.user):
                times_of_user[user.id].append(call.scheduled_time)
    assert all(b - a >= MIN_DISTANCE for times in times_of_user.values() for a, b in pairwise(sorted(times)))


def test_calls_of_two_users_spread_over_days() -> None:
    doctor, patient = User(1, "d@example.com", "D", active=True), User(2, "p@example.com", "P", active=True)
    _, calls = add_calls(
        500, people=Seed(((doctor, Doctor(1, doctor), None), (patient, None, Patient(1, patient))))
    )
    assert len({call.scheduled_time for call in calls}) == 500
    calls_per_day = Counter(call.scheduled_time.date() for call in calls)
    assert max(calls_per_day.values()) <= 20
    assert len(calls_per_day) > 60


def test_calls_except_current_ones_are_in_working_hours() -> None:
    _, calls = add_calls(300)
    assert all(call.scheduled_time.weekday() < 5 and 8 <= call.scheduled_time.hour < 18 for call in calls)
    sunday = datetime(2026, 1, 11, 3, 40, tzinfo=UTC)
    _, calls = add_calls(300, now=sunday)
    outside = [call for call in calls if call.scheduled_time.date() == sunday.date()]
    assert statuses(outside) == {"ongoing": 1, "scheduled": 1}


@pytest.mark.parametrize(("count", "now"), [(100, MONDAY), (50, MONDAY.replace(minute=0))])
def test_times_of_call_fit_status_and_clock(count: int, now: datetime) -> None:
    _, calls = add_calls(count, now=now)
    for call in calls:
        assert call.created_at < call.scheduled_time
        assert call.created_at <= call.updated_at <= now
        started, ended = call.started_at, call.ended_at
        assert (started is not None) is (call.status in {"ongoing", "completed"})
        assert (ended is not None) is (call.status == "completed")
        if call.status == "scheduled":
            assert call.scheduled_time > now
        if started and not ended:
            assert started <= now
            assert call.present
        if started and ended:
            assert timedelta(minutes=8) <= ended - started <= timedelta(minutes=30)
            assert ended < now
    assert max(call.scheduled_time for call in calls) > now + timedelta(days=7)


def test_each_call_has_the_events_of_its_transitions() -> None:
    rows, calls = add_calls(200)
    assert [call.id for call in sorted(calls, key=lambda call: call.created_at)] == list(range(1, 201))
    events = sorted(rows.of(schema.events), key=lambda event: event["id"])
    times = [event["created_at"] for event in events]
    assert times == sorted(times)
    recipients = defaultdict(set)
    for recipient in rows.of(schema.event_recipients):
        recipients[recipient["event_id"]].add(recipient["user_id"])
    events_by_call = defaultdict(list)
    for event in events:
        events_by_call[msgspec.json.decode(event["data"])["call"]["id"]].append(event)
    both_joined = ["call.started", "participant.joined", "participant.joined"]
    for call in calls:
        expected = {
            "scheduled": [],
            "cancelled": ["call.cancelled"],
            "ongoing": both_joined[: 1 + len(call.present)],
            "completed": [*both_joined, "participant.left", "participant.left", "call.ended"],
        }
        assert [event["type"] for event in events_by_call[call.id]] == expected[call.status]
        for event in events_by_call[call.id]:
            assert recipients[event["id"]] == {call.doctor.user.id, call.patient.user.id}
