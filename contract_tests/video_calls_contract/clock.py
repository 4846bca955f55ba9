"""The backend's clock, as far as responses show it.

Two sources show the time. The HTTP server writes the `Date` of every response, in whole seconds. The
application writes the `created_at` of a new call. The two may differ, and `created_at` may be wrong.
"""

import threading
from datetime import UTC, datetime, timedelta

from video_calls_spec.retry_after import http_date

MOST_DIFFERENCE = timedelta(seconds=75)
"""The suite ignores an application's clock that differs more from `Date`: a minute, plus a request's time."""

LEAST_MARGIN = timedelta(seconds=20)
"""How far from the limit of a rule a test stays if the clock is certain."""

_AGREEMENT = timedelta(seconds=3)  # the clock is certain if the two sources differ by at most this
_SECOND = timedelta(seconds=1)
_MOST_OFFSET = timedelta(days=36500)


class BackendClock:
    """Estimates the backend's time."""

    def __init__(self) -> None:
        self._range = (-_MOST_OFFSET, _MOST_OFFSET)  # the offsets that fit every `Date` so far
        self._application: timedelta | None = None
        self._has_date = False
        self._lock = threading.Lock()

    def observe_date(self, header: str, sent: datetime, received: datetime) -> None:
        """Use the `Date` of a response to narrow down the offset."""
        date = http_date(header)
        if date is None or abs(date - received) > _MOST_OFFSET:
            return
        with self._lock:
            # Two seconds instead of one, because a server may cache the `Date` for a second.
            low, high = date - received, date + 2 * _SECOND - sent
            known_low, known_high = self._range
            if low <= known_high and high >= known_low:
                low, high = max(known_low, low), min(known_high, high)
            # Otherwise the clock was set, or another server answered: the new range replaces the old one.
            self._range = (low, high)
            self._has_date = True

    def observe_creation(self, created_at: datetime, sent: datetime, received: datetime) -> None:
        """Set the application's offset, from the first plausible `created_at` of a new call."""
        offset = created_at - (sent + (received - sent) / 2)
        with self._lock:
            if self._application is None and abs(offset - self._server_offset) <= MOST_DIFFERENCE:
                self._application = offset

    @property
    def _server_offset(self) -> timedelta:
        low, high = self._range
        return (low + high) / 2 if self._has_date else timedelta(0)

    @property
    def offset(self) -> timedelta:
        """How far the backend's clock is ahead of this machine's."""
        return self._server_offset if self._application is None else self._application

    @property
    def is_certain(self) -> bool:
        """Whether both sources agree, so that tests may come close to the limits of rules."""
        return self._application is not None and abs(self._application - self._server_offset) <= _AGREEMENT

    @property
    def margin(self) -> timedelta:
        """How far from the limit of a rule a test stays."""
        return LEAST_MARGIN if self.is_certain else LEAST_MARGIN + timedelta(minutes=1)

    def now(self) -> datetime:
        """Return the backend's time."""
        return datetime.now(UTC) + self.offset

    def possible_times(self, moment: datetime) -> tuple[datetime, ...]:
        """Return the times that parts of the backend may have had at a moment of this machine's clock."""
        return tuple({moment, moment + self._server_offset, moment + self.offset})

    def matches(self, time: datetime, sent: datetime, received: datetime, tolerance: timedelta) -> bool:
        """Return whether a part of the backend may have written this time between two moments."""
        return any(
            sent + offset - tolerance <= time <= received + offset + tolerance
            for offset in (self._server_offset, self.offset, timedelta(0))
        )
