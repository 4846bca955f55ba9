"""Booking policies: which times they allow, and that a few requests find out those of a backend."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from video_calls_contract.booking import Policy, discover, discover_notice

NOW = datetime(2026, 11, 28, 10, 28, 13, tzinfo=UTC)  # a Saturday
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
WORKDAYS = frozenset(range(5))
BERLIN = ZoneInfo("Europe/Berlin")

CLINIC = Policy(90 * DAY, (time(8), time(16, 30)), WORKDAYS, BERLIN, 15, 30)


class Backend:
    """Books by a policy, and counts the requests."""

    def __init__(self, policy: Policy, taken: Callable[[datetime], bool] = lambda _at: False) -> None:
        self.policy = policy
        self.requests = 0
        self.taken = taken

    def accepts(self, at: datetime) -> bool | None:
        assert at > NOW
        self.requests += 1
        return None if self.taken(at) else self.policy.allows(at, NOW)


@pytest.mark.parametrize(
    ("at", "objection"),
    [
        ("2026-11-30T09:15:00+01:00", ""),
        ("2026-11-30T16:30:00+01:00", ""),
        ("2026-11-30T16:45:00+01:00", "from 08:00 to 16:30 Europe/Berlin"),
        ("2026-11-29T09:15:00+01:00", "Monday, Tuesday, Wednesday, Thursday, Friday"),
        ("2026-11-30T09:15:41+01:00", "every 15 minutes"),
        ("2027-02-26T11:30:00+01:00", "after 2027-02-26 (about 90 days ahead)"),
        ("2026-11-28T11:30:00+01:00", "less than 30 minutes ahead"),
    ],
)
def test_policy_names_what_excludes_a_time(at: str, objection: str) -> None:
    found = CLINIC.objection(datetime.fromisoformat(at), NOW)
    assert objection in found
    assert bool(objection) == bool(found)


def test_hours_past_midnight_belong_to_the_day_on_which_they_begin() -> None:
    night = Policy(hours=(time(20), time(4)), weekdays=WORKDAYS)
    saturday, monday = (datetime(2026, 11, day, 3, tzinfo=UTC) for day in (28, 30))
    assert (night.allows(saturday, saturday), night.allows(monday, monday)) == (True, False)
    assert night.next_allowed(monday, monday) == datetime(2026, 11, 30, 20, tzinfo=UTC)


def test_next_allowed_time_is_the_first_of_the_next_open_day() -> None:
    assert CLINIC.next_allowed(NOW, NOW) == datetime(2026, 11, 30, 7, tzinfo=UTC)
    assert CLINIC.next_allowed(NOW + 90 * DAY, NOW) is None
    assert Policy().next_allowed(NOW, NOW) == NOW


def test_hours_follow_the_clocks_of_their_place() -> None:
    summer = datetime(2027, 6, 1, tzinfo=UTC)
    assert replace(CLINIC, furthest=None).next_allowed(summer, NOW) == summer.replace(hour=6)


def test_last_open_time_of_the_past_is_on_the_grid() -> None:
    assert CLINIC.last_open(NOW) == datetime(2026, 11, 27, 15, 30, tzinfo=UTC)
    assert Policy().last_open(NOW) == NOW


@pytest.mark.parametrize(
    ("policy", "most"),
    [
        (Policy(furthest=90 * DAY), 25),
        (Policy(furthest=7 * DAY), 25),
        (Policy(hours=(time(7), time(15, 30)), weekdays=WORKDAYS), 30),
        (Policy(hours=(time(22), time(6))), 25),
        (Policy(weekdays=frozenset({6, 0, 1, 2, 3})), 15),
        (Policy(step_minutes=30), 25),
        (Policy(90 * DAY, (time(8), time(17)), WORKDAYS, UTC, 15), 40),
    ],
)
def test_discovery_finds_the_policy_in_few_requests(policy: Policy, most: int) -> None:
    backend = Backend(policy)
    found = discover(backend.accepts, NOW, Policy())
    assert found is not None
    assert (found.hours, found.weekdays, found.step_minutes) == (
        policy.hours,
        policy.weekdays,
        policy.step_minutes,
    )
    if policy.furthest is None:
        assert found.furthest is None
    else:
        assert found.furthest is not None
        assert policy.furthest - 4 * DAY < found.furthest <= policy.furthest
    assert backend.requests <= most


def test_discovered_policy_allows_no_refused_time_whatever_the_place() -> None:
    for place in ("Asia/Kolkata", "Australia/Sydney", "America/Los_Angeles"):
        backend = Backend(Policy(60 * DAY, (time(9), time(17)), WORKDAYS, ZoneInfo(place)))
        found = discover(backend.accepts, NOW, Policy())
        assert found is not None
        week = [NOW + hours * 60 * MINUTE for hours in range(24, 9 * 24)]
        allowed = [at for at in week if found.allows(at, NOW)]
        assert len(allowed) >= 30
        assert all(backend.policy.allows(at, NOW) for at in allowed)


def test_discovery_asks_nothing_that_the_configuration_says() -> None:
    backend = Backend(CLINIC)
    assert discover(backend.accepts, NOW, replace(CLINIC, notice_minutes=None)) is not None
    assert backend.requests == 1


def test_taken_times_count_as_bookable() -> None:
    backend = Backend(Policy(furthest=90 * DAY), taken=lambda at: at.hour in (10, 18))
    found = discover(backend.accepts, NOW, Policy())
    assert found is not None
    assert (found.hours, found.weekdays, found.step_minutes) == (None, None, None)


def test_backend_that_books_nothing_has_no_policy() -> None:
    assert discover(lambda _at: False, NOW, Policy()) is None
    assert discover_notice(lambda _at: False, NOW, Policy(), NOW) is None


@pytest.mark.parametrize("minutes", [5, 30, 1440])
def test_shortest_notice_is_found(minutes: int) -> None:
    found = discover_notice(Backend(Policy(notice_minutes=minutes)).accepts, NOW, Policy(), NOW + MINUTE)
    assert found is not None
    assert found.notice_minutes == minutes


def test_notice_on_a_grid_is_the_shortest_that_explains_the_refusal() -> None:
    grid = Policy(step_minutes=15)
    backend = Backend(replace(grid, notice_minutes=5))
    found = discover_notice(backend.accepts, NOW, grid, NOW + 2 * MINUTE)  # 10:30 was refused
    assert found == replace(grid, notice_minutes=5)
