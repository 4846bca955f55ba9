"""Namespaces: isolated parts of one server. Each has a store, a clock, faults, snapshots and a request log.

A server always has the default namespace, which has no name. If the control API is on, a request can name
another one, such as that of a test worker. The server creates it at the first request. It drops it on request
or after a long idle time.
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
from video_calls_server.control.state.initial import InitialState, initial_state
from video_calls_server.control.state.snapshots import NAME, Contents, Snapshots
from video_calls_server.domain.clock import Clock, instant
from video_calls_server.settings import Settings
from video_calls_server.store import StoreError, calls, store_for
from video_calls_server.store.dump import Dump, dump, restore
from video_calls_server.world import World

logger = logging.getLogger("video_calls_server")

MAX_NAMESPACES = 100
"""How many namespaces a server has at most, not counting the default one."""

STATE_REPLACED = 4410, "The state was replaced; fetch the calls again"
"""The code and reason that close event connections which cannot resume from their last event."""


class Namespace(World):
    """A `World` with features of the reference server: a clock to set, faults, a request log, snapshots."""

    def __init__(
        self, name: str, settings: Settings, initial: InitialState, clock: Clock, database: str
    ) -> None:
        self.clock = SettableClock(clock)
        super().__init__(settings, store_for(database, initial.people, settings.pool), self.clock)
        self.name = name
        self.created_at = instant(time.time())
        self.faults = Faults(initial.faults)
        self.log = RequestLog()
        self.snapshots = Snapshots()
        self._initial = initial
        self._empty_calls: EmptyCalls | None = None
        if settings.end_when_empty_minutes:
            end, after = self.operations.end_empty_calls, timedelta(minutes=settings.end_when_empty_minutes)
            self._empty_calls = EmptyCalls(end, self.clock, after, sleep=self.clock.sleep)
        self.is_open = False
        self._last_use = time.monotonic()
        self._stopping = anyio.Event()

    def touch(self) -> None:
        """Restart the idle time."""
        self._last_use = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """Seconds since the last use. Open event connections and request streams count as use."""
        if not self.hub.is_quiet or self.log.has_subscribers:
            self.touch()
        return time.monotonic() - self._last_use

    async def open(self) -> None:
        """Open the store and set the initial state. A database that has calls keeps its rows.

        Raises:
            StoreError: if this server cannot use the database.
        """
        if self.is_open:
            return
        self.log = RequestLog()
        self.snapshots = Snapshots()
        self._stopping = anyio.Event()
        self._reset_clock_and_faults()
        await self.store.open()
        self.is_open = True
        if self._initial.calls or self._initial.state is not None:
            if await self.store.read(calls.count_all_calls):
                logger.warning("%s already has calls; the initial state is not loaded", self.store.name)
            else:
                await restore(self.store, await self._initial_rows())

    async def reset(self) -> None:
        """Replace the state by the initial state."""
        await restore(self.store, await self._initial_rows())
        self._reset_clock_and_faults()
        await self.announce_new_state()

    async def contents(self) -> Contents:
        """Return a copy of the rows, the faults and the clock."""
        rows = await self.store.write(dump)
        return Contents(rows, self.faults.remaining(), self.clock.now(), self.clock.running)

    async def load(self, contents: Contents, *, with_clock: bool = True) -> None:
        """Replace the state with these contents. Without `with_clock`, the clock does not change."""
        await restore(self.store, contents.dump)
        if with_clock:
            self.clock.freeze(contents.time)
            if contents.running:
                self.clock.resume()
        self.faults.replace(contents.faults)
        await self.announce_new_state()

    async def announce_new_state(self) -> None:
        """Close the event connections, because they cannot resume, and end the empty calls that are due."""
        self.hub.close(*STATE_REPLACED)
        await self.end_due_calls()

    async def end_due_calls(self) -> None:
        """End the empty calls that are due now. Call this after a change of the clock or the state."""
        if self._empty_calls is not None:
            await self.operations.end_empty_calls()

    def _reset_clock_and_faults(self) -> None:
        self.clock.reset()
        if not self._initial.running:
            self.clock.freeze(self._initial.time)
        elif self._initial.time is not None:
            self.clock.set(self._initial.time)
        self.faults.reset()

    async def _initial_rows(self) -> Dump:
        initial, now = self._initial, self._initial.time or self.clock.now() - self.clock.offset
        if initial.state is not None:
            from video_calls_server.control.state.loading import contents_of

            return contents_of(initial.state, now=now, running=True).dump
        from video_calls_server.control.state.sample_calls import SampleCallsError, add_sample_calls

        store = store_for(":memory:", initial.people)
        try:
            if initial.calls:
                await store.write(lambda connection: add_sample_calls(connection, initial.calls, now=now))
            return await store.write(dump)
        except SampleCallsError as error:
            raise StoreError(f"cannot make sample calls: {error}") from error
        finally:
            await store.close()

    async def delay(self, seconds: float) -> None:
        """Wait this many seconds, or until the namespace stops."""
        if seconds:
            with anyio.move_on_after(seconds):
                await self._stopping.wait()

    def stop(self) -> None:
        """End the delays, the request streams and the background task."""
        self._stopping.set()
        self.log.close()

    async def end_empty_calls(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """End empty calls when they become due, until the namespace stops."""
        if self._empty_calls is None:
            task_status.started()
            return
        async with self._empty_calls.running():
            task_status.started()
            await self._stopping.wait()

    async def drop(self) -> None:
        """Stop the namespace and close its connections and its database."""
        self.stop()
        self.hub.close(*STATE_REPLACED)
        await self.close()

    async def close(self) -> None:
        """Close the database. The namespace can be opened again."""
        await self.store.close()
        self.is_open = False


class Namespaces:
    """The namespaces of one server. `default` uses the configured database; each other one is in memory."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._initial = initial_state(settings)
        self.default = Namespace("", settings, self._initial, clock, settings.database)
        self._settings = settings
        self._clock = clock
        self._by_name: dict[str, Namespace] = {}
        self._creation_lock = anyio.Lock()
        self._tasks: TaskGroup | None = None

    async def all(self) -> list[Namespace]:
        """Return all namespaces, the default one first, after dropping the idle ones."""
        await self._drop_idle()
        return [self.default, *self._by_name.values()]

    def get(self, name: str | None) -> Namespace | None:
        """Return the namespace with this name, or None. Without a name, return the default namespace."""
        return self.default if name is None else self._by_name.get(name)

    async def get_or_create(self, name: str | None, *, check: Callable[[], None]) -> Namespace:
        """Return the namespace with this name, or create it. Without a name, return the default namespace.

        A new namespace has the server's initial state. `check` is called before a namespace is created.

        Raises:
            ControlRefusal: if the name is invalid, if there are too many namespaces, or if `check` raises it.
        """
        if name is None:
            await self.default.open()
            self.default.touch()
            return self.default
        async with self._creation_lock:
            await self._drop_idle()
            namespace = self._by_name.get(name)
            if namespace is None:
                namespace = self._new(name, check)
                await namespace.open()
                self._by_name[name] = namespace
                if self._tasks is not None:
                    await self._tasks.start(namespace.end_empty_calls)
        namespace.touch()
        return namespace

    async def drop(self, name: str) -> bool:
        """Drop the namespace of this name with its state. Return whether it existed."""
        namespace = self._by_name.pop(name, None)
        if namespace is None:
            return False
        await namespace.drop()
        return True

    def stop(self) -> None:
        """Stop all namespaces, because their delays, streams and tasks would delay the server's shutdown."""
        for namespace in (self.default, *self._by_name.values()):
            namespace.stop()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Open the default namespace and run the background tasks; on exit, close all namespaces."""
        await self.default.open()
        try:
            async with self.default.store.listening(self.default.hub), anyio.create_task_group() as tasks:
                await tasks.start(self.default.end_empty_calls)
                self._tasks = tasks
                try:
                    yield
                finally:
                    self._tasks = None
                    tasks.cancel_scope.cancel()
        finally:  # outside the task group, because no connection can be closed in its cancelled scope
            for name in list(self._by_name):
                await self.drop(name)
            await self.default.close()

    def _new(self, name: str, check: Callable[[], None]) -> Namespace:
        if not NAME.fullmatch(name):
            text = f"{name[:80]!r} cannot be a namespace's name; give 1 to 64 letters, digits, '.', '_', '-'"
            raise ControlRefusal(text, code="namespace")
        check()
        if len(self._by_name) >= MAX_NAMESPACES:
            text = f"there are already {MAX_NAMESPACES} namespaces; drop those that are no longer used"
            raise ControlRefusal(text, code="namespace")
        return Namespace(name, self._settings, self._initial, self._clock, ":memory:")

    async def _drop_idle(self) -> None:
        limit = self._settings.namespace_idle_minutes * 60
        for name in [each.name for each in self._by_name.values() if each.idle_seconds > limit]:
            await self.drop(name)


def namespace_of(scope: Scope) -> Namespace:
    """Return the namespace of a request."""
    namespace: Namespace = scope["state"]["world"]
    return namespace
