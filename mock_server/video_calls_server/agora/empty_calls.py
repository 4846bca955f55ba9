"""Ends ongoing calls some minutes after both participants have left."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import anyio

from video_calls_server.domain.clock import Clock
from video_calls_server.store import UnavailableError

logger = logging.getLogger("video_calls_server")

RETRY_SECONDS = 1.0
"""The seconds until the next attempt after an error."""


class EmptyCalls:
    """A background task that calls `end_empty_calls` whenever a call may be due.

    `end_empty_calls` ends the calls that are due and returns when the next one is due. The task never sleeps
    longer than `after`, so it wakes in time even for a call that becomes empty during the sleep. The database
    stores when each participant left, so a restart loses no call.
    """

    def __init__(
        self,
        end_empty_calls: Callable[[], Awaitable[datetime | None]],
        clock: Clock,
        after: timedelta,
        *,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._end_empty_calls = end_empty_calls
        self._clock = clock
        self._after = after
        self._sleep = sleep

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run the task until the context ends. Calls that are already due end before it begins."""
        seconds = await self._end_due()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run, seconds)
            yield
            tasks.cancel_scope.cancel()

    async def _run(self, seconds: float) -> None:
        while True:
            await self._sleep(seconds)
            seconds = await self._end_due()

    async def _end_due(self) -> float:
        """End the calls that are due. Return the seconds until the next check."""
        checked_at = self._clock.now()
        try:
            due = await self._end_empty_calls()
        except UnavailableError as error:
            logger.warning("cannot end empty calls now; trying again: %s", error)
            return RETRY_SECONDS
        except Exception:  # an error here must not stop the server; the next check may succeed
            logger.exception("cannot end empty calls now; trying again")
            return RETRY_SECONDS
        latest = checked_at + self._after
        wait = (latest if due is None else min(due, latest)) - self._clock.now()
        return max(0.0, wait.total_seconds())
