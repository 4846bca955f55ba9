"""Ends, as time goes by, the calls that both participants have left."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio

from video_calls_server.domain.clock import Clock
from video_calls_server.operations import CallService
from video_calls_server.store.unavailable import UnavailableError

logger = logging.getLogger("video_calls_server")

RETRY_SECONDS = 1.0
"""The pause after the database did not answer."""


class EmptyCalls:
    """Looks whenever a call may have become due.

    A call that is left after a look is due no sooner than `after` from it, so nothing has to wake this up;
    and what is due stands in the database, so that a restart forgets none.
    """

    def __init__(
        self,
        service: CallService,
        clock: Clock,
        after: timedelta,
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._service = service
        self._clock = clock
        self._after = after
        self._sleep = sleep

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Watch for as long as the application runs."""
        seconds = await self._look()  # what became due while the server was down ends before it serves
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, seconds)
            yield
            tasks.cancel_scope.cancel()

    async def _watch(self, seconds: float) -> None:
        while True:
            await self._sleep(seconds)
            seconds = await self._look()

    async def _look(self) -> float:
        """End what is due, and find the seconds until the next look."""
        looked = self._clock.now()
        try:
            due = await self._service.end_empty_calls()
        except UnavailableError as error:
            logger.warning("empty calls cannot be ended for the moment: %s", error)
            return RETRY_SECONDS
        except Exception:  # the server is not to stop for it, and the next look may do better
            logger.exception("empty calls cannot be ended for the moment")
            return RETRY_SECONDS
        latest = looked + self._after
        wait = (latest if due is None else min(due, latest)) - self._clock.now()
        return max(0.0, wait.total_seconds())
