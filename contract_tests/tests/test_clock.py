from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from video_calls_contract.clock import BackendClock

SENT = datetime(2024, 1, 5, 8, 0, 0, 300_000, tzinfo=UTC)
RECEIVED = SENT + timedelta(milliseconds=20)


def clock(*, date: float | None = None, created: float | None = None) -> BackendClock:
    """A clock that saw a Date, and a creation, so many seconds ahead of ours."""
    found = BackendClock()
    if date is not None:
        header = format_datetime((RECEIVED + timedelta(seconds=date)).replace(microsecond=0), usegmt=True)
        found.observe_date(header, SENT, RECEIVED)
    if created is not None:
        found.observe_creation(RECEIVED + timedelta(seconds=created), SENT, RECEIVED)
    return found


def test_unseen_it_is_ours_and_not_known() -> None:
    assert BackendClock().offset == timedelta(0)
    assert not BackendClock().is_certain


@pytest.mark.parametrize("ahead", [-50, 0, 50, 4000])
def test_two_sources_that_agree_are_known(ahead: float) -> None:
    found = clock(date=ahead, created=ahead)
    assert found.is_certain
    assert abs(found.offset - timedelta(seconds=ahead)) < timedelta(seconds=1)


def test_the_application_is_believed_up_to_a_minute_from_date() -> None:
    found = clock(date=0, created=55)
    assert not found.is_certain
    assert found.margin > timedelta(seconds=60)
    assert abs(found.offset - timedelta(seconds=55)) < timedelta(seconds=1)


def test_a_creation_that_cannot_be_is_not_believed() -> None:
    assert abs(clock(date=0, created=7200).offset) < timedelta(seconds=2)


@pytest.mark.parametrize(
    "header", ["yesterday", "Fri, 05 Jan 2024 08:00:00 +9999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"]
)
def test_a_date_that_cannot_be_is_passed_over(header: str) -> None:
    found = BackendClock()
    found.observe_date(header, SENT, RECEIVED)
    assert found.offset == timedelta(0)


def test_a_date_without_a_zone_is_in_utc() -> None:
    found = BackendClock()
    found.observe_date("Fri, 05 Jan 2024 08:00:00 -0000", SENT, RECEIVED)
    assert abs(found.offset) < timedelta(seconds=2)


@pytest.mark.parametrize(("seconds", "told"), [(0, True), (55, True), (30, False), (-20, False)])
def test_a_time_is_told_by_one_of_the_clocks(seconds: float, *, told: bool) -> None:
    found = clock(date=0, created=55)
    time = SENT + timedelta(seconds=seconds)
    assert found.matches(time, SENT, RECEIVED, timedelta(seconds=10)) is told
