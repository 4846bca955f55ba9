"""The backend's clock, as far as it can be known from here.

Two sources: the `Date` of every response, which has whole seconds and is the HTTP server's; and `created_at`
of a call just made, which is the application's. They may differ, and `created_at` may be what is wrong.
"""

import threading
from datetime import UTC, datetime, timedelta

from video_calls_spec.retry_after import http_date

FAR = timedelta(seconds=75)
"""How far from `Date` an application's clock is still believed: a minute, and what a request takes."""

NEAR = timedelta(seconds=3)
"""How close both sources are when the clock counts as known."""

LEAST_MARGIN = timedelta(seconds=20)
"""How far from a limit a test keeps if the clock is known."""

_SECOND = timedelta(seconds=1)
_LONGEST = timedelta(days=36500)  # by which a clock can differ


class BackendClock:
    """Learns what time it is for the backend."""

    def __init__(self) -> None:
        self._low, self._high = -_LONGEST, _LONGEST
        self._application: timedelta | None = None
        self._dated = False
        self._lock = threading.Lock()

    def saw_date(self, header: str, sent: datetime, received: datetime) -> None:
        """A response with this `Date`: each narrows down by how much the clock differs."""
        date = http_date(header)
        if date is None or abs(date - received) > _LONGEST:
            return
        with self._lock:
            # A cached Date of the second before is allowed for.
            low, high = date - received, date + 2 * _SECOND - sent
            if low > self._high or high < self._low:
                self._low, self._high = low, high  # the clock was set, or another server answered
            else:
                self._low, self._high = max(self._low, low), min(self._high, high)
            self._dated = True

    def saw_creation(self, created_at: datetime, sent: datetime, received: datetime) -> None:
        """A call that was just made says that it was created then."""
        offset = created_at - (sent + (received - sent) / 2)
        with self._lock:
            if self._application is None and abs(offset - self._server_offset) <= FAR:
                self._application = offset

    @property
    def _server_offset(self) -> timedelta:
        return (self._low + self._high) / 2 if self._dated else timedelta(0)

    @property
    def offset(self) -> timedelta:
        """By how much the backend's clock is ahead of this machine's."""
        return self._server_offset if self._application is None else self._application

    @property
    def known(self) -> bool:
        """Whether both sources agree, so that tests may come close to the rules' limits."""
        return self._application is not None and abs(self._application - self._server_offset) <= NEAR

    @property
    def margin(self) -> timedelta:
        """How far from a limit of the rules a test keeps."""
        return LEAST_MARGIN if self.known else LEAST_MARGIN + timedelta(minutes=1)

    def now(self) -> datetime:
        """The backend's time."""
        return datetime.now(UTC) + self.offset

    def candidates(self, moment: datetime) -> tuple[datetime, ...]:
        """What this machine's `moment` may have been for the parts of the backend."""
        return tuple({moment, moment + self._server_offset, moment + self.offset})

    def tells_of(self, time: datetime, sent: datetime, received: datetime, tolerance: timedelta) -> bool:
        """Whether the backend can have written `time` for what happened between these two moments."""
        return any(
            start - tolerance <= time <= end + tolerance
            for offset in {self._server_offset, self.offset, timedelta(0)}
            for start, end in [(sent + offset, received + offset)]
        )
