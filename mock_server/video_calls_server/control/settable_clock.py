"""The clock of a namespace, which tests can set, advance and stop."""

from datetime import UTC, datetime, timedelta

import anyio

from video_calls_server.domain.clock import Clock

EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""The bounds of a clock. They leave room, because rules compute times some days before and after its time."""


class SettableClock:
    """A clock that can be set, advanced and frozen. Until it is changed, it shows the time of `base`."""

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._ahead = timedelta(0)
        self._frozen_at: datetime | None = None
        self._changed = anyio.Event()

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return self._frozen_at or self._base.now() + self._ahead

    @property
    def running(self) -> bool:
        """Whether the clock runs. If not, it is frozen."""
        return self._frozen_at is None

    @property
    def offset(self) -> timedelta:
        """How far this clock is ahead of its base; negative if it is behind."""
        return self._ahead if self._frozen_at is None else self._frozen_at - self._base.now()

    def set(self, time: datetime) -> None:
        """Set the clock. It stays running or frozen.

        Raises:
            ValueError: if the time has no offset, or is not within `EARLIEST` and `LATEST`.
        """
        if self._frozen_at is None:
            self._ahead = check_time(time) - self._base.now()
        else:
            self._frozen_at = check_time(time)
        self._wake()

    def advance(self, by: timedelta) -> None:
        """Advance the clock, or set it back if `by` is negative.

        Raises:
            ValueError: if the new time is not within `EARLIEST` and `LATEST`.
        """
        try:
            time = self.now() + by
        except OverflowError:
            raise ValueError(f"{by} leads out of the calendar") from None
        self.set(time)

    def freeze(self, time: datetime | None = None) -> None:
        """Freeze the clock, at its current time or at `time`.

        Raises:
            ValueError: as for `set`.
        """
        self._frozen_at = self.now() if time is None else check_time(time)
        self._wake()

    def resume(self) -> None:
        """Let a frozen clock run from the time that it shows."""
        if self._frozen_at is not None:
            self._ahead, self._frozen_at = self._frozen_at - self._base.now(), None
            self._wake()

    def reset(self) -> None:
        """Show the time of the base again."""
        self._ahead, self._frozen_at = timedelta(0), None
        self._wake()

    async def sleep(self, seconds: float) -> None:
        """Wait this many real seconds, or until the clock is changed."""
        with anyio.move_on_after(seconds):
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def check_time(time: datetime) -> datetime:
    """Return a valid time for a clock, in UTC.

    Raises:
        ValueError: if it has no offset, or is not within `EARLIEST` and `LATEST`.
    """
    if time.utcoffset() is None:
        raise ValueError(f"{time.isoformat()} has no time zone; give an offset, such as Z")
    if not EARLIEST <= time <= LATEST:
        raise ValueError(f"{time.isoformat()} is not within the years {EARLIEST.year} to {LATEST.year}")
    return time.astimezone(UTC)
