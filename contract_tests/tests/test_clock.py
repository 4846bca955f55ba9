from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from video_calls_contract.clock import BackendClock

SENT = datetime(2024, 1, 5, 8, 0, 0, 300_000, tzinfo=UTC)
RECEIVED = SENT + timedelta(milliseconds=20)


def clock(*, date: float | None = None, created: float | None = None) -> BackendClock:
    """Return a clock that has observed a `Date` and a `created_at`, each this many seconds ahead."""
    backend_clock = BackendClock()
    if date is not None:
        header = format_datetime((RECEIVED + timedelta(seconds=date)).replace(microsecond=0), usegmt=True)
        backend_clock.observe_date(header, SENT, RECEIVED)
    if created is not None:
        backend_clock.observe_creation(RECEIVED + timedelta(seconds=created), SENT, RECEIVED)
    return backend_clock


def test_clock_without_observation_is_uncertain_with_zero_offset() -> None:
    assert BackendClock().offset == timedelta(0)
    assert not BackendClock().is_certain


@pytest.mark.parametrize("ahead", [-50, 0, 50, 4000])
def test_clock_is_certain_if_both_sources_agree(ahead: float) -> None:
    backend_clock = clock(date=ahead, created=ahead)
    assert backend_clock.is_certain
    assert abs(backend_clock.offset - timedelta(seconds=ahead)) < timedelta(seconds=1)


def test_created_at_overrides_date_within_a_minute() -> None:
    backend_clock = clock(date=0, created=55)
    assert not backend_clock.is_certain
    assert backend_clock.margin > timedelta(seconds=60)
    assert abs(backend_clock.offset - timedelta(seconds=55)) < timedelta(seconds=1)


def test_created_at_hours_from_date_is_ignored() -> None:
    assert abs(clock(date=0, created=7200).offset) < timedelta(seconds=2)


@pytest.mark.parametrize(
    "header", ["yesterday", "Fri, 05 Jan 2024 08:00:00 +9999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"]
)
def test_invalid_date_header_is_ignored(header: str) -> None:
    backend_clock = BackendClock()
    backend_clock.observe_date(header, SENT, RECEIVED)
    assert backend_clock.offset == timedelta(0)


def test_date_header_without_zone_is_utc() -> None:
    backend_clock = BackendClock()
    backend_clock.observe_date("Fri, 05 Jan 2024 08:00:00 -0000", SENT, RECEIVED)
    assert abs(backend_clock.offset) < timedelta(seconds=2)


@pytest.mark.parametrize(("seconds", "is_match"), [(0, True), (55, True), (30, False), (-20, False)])
def test_time_has_to_match_either_source(seconds: float, *, is_match: bool) -> None:
    backend_clock = clock(date=0, created=55)
    time = SENT + timedelta(seconds=seconds)
    assert backend_clock.matches(time, SENT, RECEIVED, timedelta(seconds=10)) is is_match
