"""The clock of a namespace, which tests can set, advance and stop."""

from datetime import UTC, datetime, timedelta

import anyio

from video_calls_server.domain.clock import Clock

EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""The bounds of a clock: rules compute times some days before and after it."""


class SettableClock:
    """A clock that can be set, put forward and stopped; until then it shows the time of its base."""

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._ahead = timedelta(0)
        self._stands_at: datetime | None = None
        self._changed = anyio.Event()

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        return self._stands_at or self._base.now() + self._ahead

    @property
    def running(self) -> bool:
        """Whether time goes by."""
        return self._stands_at is None

    @property
    def offset(self) -> timedelta:
        """How far this clock is ahead of its base, negative where it is behind."""
        return self._ahead if self._stands_at is None else self._stands_at - self._base.now()

    def set(self, time: datetime) -> None:
        """Put the clock to this time; it runs on, or stands still, as before.

        Raises:
            ValueError: the time has no offset, or is not within `EARLIEST` and `LATEST`.
        """
        if self._stands_at is None:
            self._ahead = checked(time) - self._base.now()
        else:
            self._stands_at = checked(time)
        self._wake()

    def advance(self, by: timedelta) -> None:
        """Put the clock forward, or back where `by` is negative.

        Raises:
            ValueError: it would leave `EARLIEST` and `LATEST`.
        """
        try:
            time = self.now() + by
        except OverflowError:
            raise ValueError(f"{by} leads out of the calendar") from None
        self.set(time)

    def freeze(self, time: datetime | None = None) -> None:
        """Let the clock stand still where it is, or at this very time.

        Raises:
            ValueError: as of `set`.
        """
        self._stands_at = self.now() if time is None else checked(time)
        self._wake()

    def resume(self) -> None:
        """Let the clock run on from where it stands."""
        if self._stands_at is not None:
            self._ahead, self._stands_at = self._stands_at - self._base.now(), None
            self._wake()

    def reset(self) -> None:
        """Let the clock show the time of its base again."""
        self._ahead, self._stands_at = timedelta(0), None
        self._wake()

    async def sleep(self, seconds: float) -> None:
        """Until so many real seconds have passed, or the clock was changed."""
        with anyio.move_on_after(seconds):
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def checked(time: datetime) -> datetime:
    """Return a time to which a clock can be set, in UTC.

    Raises:
        ValueError: if it has no offset, or is not within `EARLIEST` and `LATEST`.
    """
    if time.utcoffset() is None:
        raise ValueError(f"{time.isoformat()} has no time zone; give an offset, such as Z")
    if not EARLIEST <= time <= LATEST:
        raise ValueError(f"{time.isoformat()} is not within the years {EARLIEST.year} to {LATEST.year}")
    return time.astimezone(UTC)
