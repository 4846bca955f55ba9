"""What is isolated from one namespace to the next: a database, a clock, connections, faults and a log.

A server has one namespace, without a name; where the control layer is on, each test worker can have one of
its own, made when it is first named and dropped on request or when nobody has used it for long.
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
from anyio.abc import TaskGroup, TaskStatus
from litestar.types import Scope

from video_calls_server.agora.empty_calls import EmptyCalls
from video_calls_server.control.faults.matching import Faults
from video_calls_server.control.refusals import ControlRefusal
from video_calls_server.control.request_log import RequestLog
from video_calls_server.control.settable_clock import SettableClock
from video_calls_server.control.state.initial import Beginning, beginning_of
from video_calls_server.control.state.snapshots import NAME, Moment, Snapshots
from video_calls_server.domain.clock import Clock, instant
from video_calls_server.settings import Settings
from video_calls_server.store import StoreError, calls, store_for
from video_calls_server.store.dump import Dump, dump, restore
from video_calls_server.world import World

logger = logging.getLogger("video_calls_server")

MOST = 100
"""How many namespaces there are at most, beside the unnamed one."""

REPLACED = 4410, "The state was replaced; fetch the calls anew"
"""With what event connections are closed when there is no going on from where they were."""


class Namespace(World):
    """A world with what the reference server adds: a clock to set, faults, a request log, snapshots."""

    def __init__(
        self, name: str, settings: Settings, beginning: Beginning, clock: Clock, database: str
    ) -> None:
        self.clock = SettableClock(clock)
        super().__init__(settings, store_for(database, beginning.people, settings.pool), self.clock)
        self.name = name
        self.created_at = instant(time.time())
        self.faults = Faults(beginning.faults)
        self.log = RequestLog()
        self.snapshots = Snapshots()
        self._beginning = beginning
        minutes = settings.end_when_empty_minutes
        self._empty_calls = (
            EmptyCalls(
                self.operations.end_empty_calls,
                self.clock,
                timedelta(minutes=minutes),
                sleep=self.clock.sleep,
            )
            if minutes
            else None
        )
        self.is_open = False
        self._used = time.monotonic()
        self._over = anyio.Event()

    def use(self) -> None:
        """Somebody has just used it."""
        self._used = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """For how long nobody has used it; whoever follows its events or its requests does."""
        if not self.hub.is_quiet or self.log.is_followed:
            self.use()
        return time.monotonic() - self._used

    async def open(self) -> None:
        """Be as at the start; a database that is in use already stays as it is.

        Raises:
            StoreError: it is none that this server can use.
        """
        if self.is_open:
            return
        self.log = RequestLog()
        self.snapshots = Snapshots()
        self._over = anyio.Event()
        self._set_out()
        await self.store.open()
        self.is_open = True
        if self._beginning.calls or self._beginning.state is not None:
            if await self.store.read(calls.count_all_calls):
                logger.warning("%s has calls already and stays as it is", self.store.name)
            else:
                await restore(self.store, await self._first_rows())

    async def begin_anew(self) -> None:
        """Be as at the start, whatever there is."""
        rows = await self._first_rows()
        await restore(self.store, rows)
        self._set_out()
        await self.replaced()

    async def moment(self) -> Moment:
        """What it is now."""
        rows = await self.store.write(dump)
        return Moment(rows, self.faults.remaining(), self.clock.now(), self.clock.running)

    async def become(self, moment: Moment, *, with_clock: bool = True) -> None:
        """Be as at a moment; without the clock, that goes on as it is."""
        await restore(self.store, moment.dump)
        if with_clock:
            self.clock.freeze(moment.time)
            if moment.running:
                self.clock.resume()
        self.faults.replace(moment.faults)
        await self.replaced()

    async def moved(self) -> None:
        """Let happen what has become due, after the clock or the state was changed."""
        if self._empty_calls is not None:
            await self.operations.end_empty_calls()

    async def replaced(self) -> None:
        """Have who follows events begin anew, for what they knew is no more; let happen what is due."""
        self.hub.close(*REPLACED)
        await self.moved()

    def _set_out(self) -> None:
        self.clock.reset()
        if not self._beginning.running:
            self.clock.freeze(self._beginning.time)
        elif self._beginning.time is not None:
            self.clock.set(self._beginning.time)
        self.faults.reset()

    async def _first_rows(self) -> Dump:
        """What a new database holds."""
        beginning, now = self._beginning, self._beginning.time or self.clock.now() - self.clock.offset
        if beginning.state is not None:
            from video_calls_server.control.state.loading import moment_of

            return moment_of(beginning.state, now=now, running=True).dump
        from video_calls_server.control.state.sample_calls import PopulationError, populate

        store = store_for(":memory:", beginning.people)
        try:
            if beginning.calls:
                await store.write(lambda connection: populate(connection, beginning.calls, now=now))
            return await store.write(dump)
        except PopulationError as error:
            raise StoreError(f"cannot make calls: {error}") from error
        finally:
            await store.close()

    async def delay(self, seconds: float) -> None:
        """Wait for so many seconds, though not for longer than there is something to wait for."""
        if seconds:
            with anyio.move_on_after(seconds):
                await self._over.wait()

    def stop(self) -> None:
        """Have nobody wait for anything of it any longer."""
        self._over.set()
        self.log.close()

    async def watch(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """End the calls that are due as time goes by, until the namespace is dropped."""
        if self._empty_calls is None:
            task_status.started()
            return
        async with self._empty_calls.running():
            task_status.started()
            await self._over.wait()

    async def drop(self) -> None:
        """Stop and close it."""
        self.stop()
        self.hub.close(*REPLACED)
        await self.close()

    async def close(self) -> None:
        """Close its database; it can be opened again."""
        await self.store.close()
        self.is_open = False


class Namespaces:
    """The namespaces of one server. `default` is the one without a name, on the configured database."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._beginning = beginning_of(settings)
        self.default = Namespace("", settings, self._beginning, clock, settings.database)
        self._settings = settings
        self._clock = clock
        self._named: dict[str, Namespace] = {}
        self._making = anyio.Lock()
        self._tasks: TaskGroup | None = None

    async def used(self) -> list[Namespace]:
        """Those that are in use; the default one first."""
        await self._drop_idle()
        return [self.default, *self._named.values()]

    def existing(self, name: str | None) -> Namespace | None:
        """Return the namespace of this name, or None if it does not exist; the default one without a name."""
        return self.default if name is None else self._named.get(name)

    async def named(self, name: str | None, *, check: Callable[[], None]) -> Namespace:
        """Return the namespace of this name, the default one without a name; make it if it does not exist.

        It begins as the server itself did. `check` is called before one is made.

        Raises:
            ControlRefusal: if this cannot be a name, there are too many, or `check` raises it.
        """
        if name is None:
            await self.default.open()
            self.default.use()
            return self.default
        async with self._making:
            await self._drop_idle()
            namespace = self._named.get(name)
            if namespace is None:
                namespace = self._made(name, check)
                await namespace.open()
                self._named[name] = namespace
                if self._tasks is not None:
                    await self._tasks.start(namespace.watch)
        namespace.use()
        return namespace

    async def drop(self, name: str) -> bool:
        """Drop the namespace of this name, with all that is in it; whether there was one."""
        namespace = self._named.pop(name, None)
        if namespace is None:
            return False
        await namespace.drop()
        return True

    def stop(self) -> None:
        """End what would otherwise go on for long, or for ever: the server is about to stop."""
        for namespace in (self.default, *self._named.values()):
            namespace.stop()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep the namespaces for as long as the application runs."""
        await self.default.open()
        try:
            async with (
                self.default.store.telling(self.default.hub),
                anyio.create_task_group() as tasks,
            ):
                await tasks.start(self.default.watch)
                self._tasks = tasks
                try:
                    yield
                finally:
                    self._tasks = None
                    tasks.cancel_scope.cancel()
        finally:  # not within the scope that is cancelled, where no connection could say goodbye
            for name in list(self._named):
                await self.drop(name)
            await self.default.close()

    def _made(self, name: str, check: Callable[[], None]) -> Namespace:
        if not NAME.fullmatch(name):
            text = f"{name[:80]!r} cannot be a namespace's name; give 1 to 64 letters, digits, '.', '_', '-'"
            raise ControlRefusal(text, code="namespace")
        check()
        if len(self._named) >= MOST:
            text = f"there are {MOST} namespaces already; drop those that are done with"
            raise ControlRefusal(text, code="namespace")
        return Namespace(name, self._settings, self._beginning, self._clock, ":memory:")

    async def _drop_idle(self) -> None:
        longest = self._settings.namespace_idle_minutes * 60
        for name in [each.name for each in self._named.values() if each.idle_seconds > longest]:
            await self.drop(name)


def namespace_of(scope: Scope) -> Namespace:
    """Return the namespace that a request is for."""
    namespace: Namespace = scope["state"]["world"]
    return namespace
