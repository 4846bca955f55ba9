"""The time that the domain rules read. Tokens and JWTs follow real time and do not ask here."""

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
    """Something that knows what time it is."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        return instant(time.time())
