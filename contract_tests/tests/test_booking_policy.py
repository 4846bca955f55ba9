"""Tests of booking policies: which times they allow, and their discovery in few requests."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from video_calls_contract.booking_policy import Policy, discover, discover_notice

NOW = datetime(2026, 11, 28, 10, 28, 13, tzinfo=UTC)  # a Saturday
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
WORKDAYS = frozenset(range(5))
BERLIN = ZoneInfo("Europe/Berlin")

CLINIC = Policy(90 * DAY, (time(8), time(16, 30)), WORKDAYS, BERLIN, 15, 30)


class Backend:
    """Accepts times by a policy, and counts the requests."""

    def __init__(self, policy: Policy, is_taken: Callable[[datetime], bool] = lambda _at: False) -> None:
        self.policy = policy
        self.requests = 0
        self.is_taken = is_taken

    def accepts(self, at: datetime) -> bool | None:
        assert at > NOW
        self.requests += 1
        return None if self.is_taken(at) else self.policy.allows(at, NOW)


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
def test_policy_says_why_it_forbids_a_time(at: str, objection: str) -> None:
    actual = CLINIC.objection(datetime.fromisoformat(at), NOW)
    assert objection in actual
    assert bool(objection) == bool(actual)


def test_hours_past_midnight_count_for_previous_weekday() -> None:
    night = Policy(hours=(time(20), time(4)), weekdays=WORKDAYS)
    saturday, monday = (datetime(2026, 11, day, 3, tzinfo=UTC) for day in (28, 30))
    assert (night.allows(saturday, saturday), night.allows(monday, monday)) == (True, False)
    assert night.next_allowed(monday, monday) == datetime(2026, 11, 30, 20, tzinfo=UTC)


def test_next_allowed_time_is_on_next_open_day() -> None:
    assert CLINIC.next_allowed(NOW, NOW) == datetime(2026, 11, 30, 7, tzinfo=UTC)
    assert CLINIC.next_allowed(NOW + 90 * DAY, NOW) is None
    assert Policy().next_allowed(NOW, NOW) == NOW


def test_hours_follow_daylight_saving_time() -> None:
    summer = datetime(2027, 6, 1, tzinfo=UTC)
    assert replace(CLINIC, furthest=None).next_allowed(summer, NOW) == summer.replace(hour=6)


def test_last_open_time_is_a_bookable_start() -> None:
    assert CLINIC.last_open(NOW) == datetime(2026, 11, 27, 15, 30, tzinfo=UTC)
    assert Policy().last_open(NOW) == NOW


@pytest.mark.parametrize(
    ("policy", "max_requests"),
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
def test_discovery_finds_the_policy_in_few_requests(policy: Policy, max_requests: int) -> None:
    backend = Backend(policy)
    discovered = discover(backend.accepts, NOW, Policy())
    assert discovered is not None
    assert (discovered.hours, discovered.weekdays, discovered.step_minutes) == (
        policy.hours,
        policy.weekdays,
        policy.step_minutes,
    )
    if policy.furthest is None:
        assert discovered.furthest is None
    else:
        assert discovered.furthest is not None
        assert policy.furthest - 4 * DAY < discovered.furthest <= policy.furthest
    assert backend.requests <= max_requests


def test_discovered_policy_is_right_in_each_time_zone() -> None:
    for place in ("Asia/Kolkata", "Australia/Sydney", "America/Los_Angeles"):
        backend = Backend(Policy(60 * DAY, (time(9), time(17)), WORKDAYS, ZoneInfo(place)))
        discovered = discover(backend.accepts, NOW, Policy())
        assert discovered is not None
        week = [NOW + hours * 60 * MINUTE for hours in range(24, 9 * 24)]
        allowed = [at for at in week if discovered.allows(at, NOW)]
        assert len(allowed) >= 30
        assert all(backend.policy.allows(at, NOW) for at in allowed)


def test_discovery_sends_no_request_for_configured_values() -> None:
    backend = Backend(CLINIC)
    assert discover(backend.accepts, NOW, replace(CLINIC, notice_minutes=None)) is not None
    assert backend.requests == 1


def test_discovery_ignores_occupied_times() -> None:
    backend = Backend(Policy(furthest=90 * DAY), is_taken=lambda at: at.hour in (10, 18))
    discovered = discover(backend.accepts, NOW, Policy())
    assert discovered is not None
    assert (discovered.hours, discovered.weekdays, discovered.step_minutes) == (None, None, None)


def test_discovery_finds_no_policy_if_backend_refuses_everything() -> None:
    assert discover(lambda _at: False, NOW, Policy()) is None
    assert discover_notice(lambda _at: False, NOW, Policy(), NOW) is None


@pytest.mark.parametrize("minutes", [5, 30, 1440])
def test_discovery_finds_the_shortest_notice(minutes: int) -> None:
    discovered = discover_notice(Backend(Policy(notice_minutes=minutes)).accepts, NOW, Policy(), NOW + MINUTE)
    assert discovered is not None
    assert discovered.notice_minutes == minutes


def test_discovery_finds_notice_shorter_than_booking_step() -> None:
    grid = Policy(step_minutes=15)
    backend = Backend(replace(grid, notice_minutes=5))
    refused_time = NOW + 2 * MINUTE
    discovered = discover_notice(backend.accepts, NOW, grid, refused_time)
    assert discovered == replace(grid, notice_minutes=5)
