"""The clock that the domain rules read. Tokens and JWTs follow real time and do not use it."""

import time
from datetime import UTC, datetime
from typing import Protocol

_from_timestamp = datetime.fromtimestamp


def instant(seconds: float) -> datetime:
    """Return a time in Unix seconds as an aware datetime, in UTC.

    Under freezegun, `datetime` names a class that msgspec refuses. This returns a plain datetime.
    """
    return _from_timestamp(seconds, UTC)


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return instant(time.time())
