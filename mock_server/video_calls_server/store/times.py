"""Times as the tables store them: whole microseconds since 1970 in UTC."""

from datetime import UTC, datetime, timedelta

MICROSECOND = timedelta(microseconds=1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_microseconds(time: datetime) -> int:
    """Return an aware time as the tables store it."""
    return (time - _EPOCH) // MICROSECOND


def to_time(microseconds: int) -> datetime:
    """Return the aware time of a stored value."""
    return _EPOCH + timedelta(microseconds=microseconds)
