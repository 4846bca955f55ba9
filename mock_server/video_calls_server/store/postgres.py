"""The database of a larger deployment: PostgreSQL, for several processes on several machines.

The work of a store is written against a synchronous connection. SQLAlchemy runs it in a greenlet, which waits
for the driver (asyncpg) and does not block the event loop. SQLite has one writer at a time. Here the database
itself keeps writers apart: calls are locked before they change, two exclusion constraints keep calls from
overlapping, and events are numbered in the order in which they are committed (`events`).
"""

import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from typing import Any, TypeVar

import anyio
import asyncpg
from anyio.abc import TaskStatus
from sqlalchemy import Connection, event
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from video_calls_server.store import people
from video_calls_server.store.database import (
    News,
    Store,
    add_seed,
    check_tables,
    driver_error,
)
from video_calls_server.store.errors import OverlapError, StoreError, UnavailableError
from video_calls_server.store.events import CHANNEL
from video_calls_server.store.pool import Pool
from video_calls_server.store.seed import Seed

logger = logging.getLogger("video_calls_server")

T = TypeVar("T")

ATTEMPTS = 5
"""How often a change is tried that other transactions undo."""

_OVERLAP = "23P01"  # exclusion_violation: only calls that are too near to each other have such a constraint
# Serialization failure, deadlock, somebody else was first, tables changed since a statement was prepared.
_UNDONE = {"40001", "40P01", "23505", "0A000", _OVERLAP}
_GONE = ("08", "57P", "53", "58")  # no connection, shutting down, out of resources, system errors
_TOO_LONG = {"57014", "55P03", "25P03"}  # statement, lock and idle timeouts
_READ_ONLY = "25006"  # a standby, or what has become one

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
"""Seconds before the listener connects again."""

_LONGEST_RIVALRY = 0.02
"""Seconds before a change is tried again, at most and at first."""

LISTENS_STILL = 15.0
"""Seconds after which the listener asks whether its connection is there: one can end without a word."""

_SEEDING = 0x76637364  # any number that nobody else locks by


class PostgresStore(Store):
    """A store on PostgreSQL, with a pool of connections."""

    def __init__(self, url: URL, seed: Seed, pool: Pool) -> None:
        super().__init__(url, seed)
        self._pool = pool
        self._engine: AsyncEngine | None = None
        self._opening = anyio.Lock()

    async def open(self) -> None:
        """As `Store.open`."""
        async with self._opening:
            if self._engine is None:
                await self._open()

    async def _open(self) -> None:
        pool = self._pool
        engine = engine_of(
            self.url,
            timeout=pool.wait,
            server_settings={
                "application_name": "video-calls-server",
                # Planning a page anew each time took longer than reading it.
                "plan_cache_mode": "force_generic_plan",
                "statement_timeout": f"{int(pool.statement * 1000)}",
                "lock_timeout": f"{int(pool.lock * 1000)}",
                "idle_in_transaction_session_timeout": f"{int(pool.statement * 2000)}",
            },
            pool_size=pool.size,
            max_overflow=0,
            pool_timeout=pool.wait,
            isolation_level="AUTOCOMMIT",  # transactions begin where `_on` begins them
        )
        try:
            await _on(engine, self._prepare, in_transaction=True)
        except (*FAILURES, UnavailableError, _Lost, _Undone) as error:
            await engine.dispose()
            raise StoreError(f"cannot open the database {self.name}: {reason_of(error)}") from error
        except StoreError:
            await engine.dispose()
            raise
        self._engine = engine

    def _prepare(self, connection: Connection) -> None:
        check_tables(connection, self.name)
        if not people.all_people(connection):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SEEDING})")
            add_seed(connection, self.seed)  # unless another process was first

    async def release(self) -> None:
        """As `Store.release`."""
        await self.close()

    async def close(self) -> None:
        """As `Store.close`."""
        if self._engine is not None:
            with anyio.CancelScope(shield=True):  # whoever stops may be cancelled already
                await self._engine.dispose()
        self._engine = None

    async def read(self, work: Callable[[Connection], T]) -> T:
        """As `Store.read`. A connection that was lost while nobody used it is replaced at once."""
        engine = self._engine or await self._opened()
        unit = partial(_on, engine, work, in_transaction=False)
        try:
            return await unit()
        except (_Lost, _Undone):  # a standby undoes what its recovery is in conflict with
            return await _again(unit)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """As `Store.write`."""
        engine = self._engine or await self._opened()
        unit = partial(_on, engine, work, in_transaction=True)
        for attempt in count(1):
            try:
                return await unit()
            except _Undone as undone:
                if attempt == ATTEMPTS:
                    raise undone.final from undone
            except _Lost:
                return await _again(unit)
            # Not all at once: rivals that begin again together undo each other again.
            await anyio.sleep(random.uniform(0, _LONGEST_RIVALRY * 2 ** (attempt - 1)))  # noqa: S311 (no secret)
        raise AssertionError  # for the type checkers: counting has no end

    @asynccontextmanager
    async def telling(self, news: News) -> AsyncGenerator[None]:
        """As `Store.telling`: listens to what each change notifies of when it is committed."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._listen, news)
            yield
            tasks.cancel_scope.cancel()

    async def _listen(self, news: News, *, task_status: TaskStatus[None]) -> None:
        pause, started = _FIRST_PAUSE, False

        def heard(_connection: object, _pid: int, _channel: str, users: object) -> None:
            news.wake([int(user_id) for user_id in str(users).split(",")])

        while True:
            try:
                async with self._listening(heard) as lost:
                    if not started:
                        task_status.started()
                    pause, started = _FIRST_PAUSE, True
                    news.wake_all()  # what happened while nobody listened stands in the outbox
                    await lost()
                logger.warning("the database no longer tells of changes; connecting again")
            except FAILURES as error:
                logger.warning("cannot listen to the database: %s", reason_of(error))
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    @asynccontextmanager
    async def _listening(self, heard: Callable[..., None]) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """A connection that listens; what it gives waits for its end."""
        connection: Any = await _connect(self.url, self._pool.wait)
        ended = anyio.Event()

        def end(_connection: object) -> None:
            ended.set()

        connection.add_termination_listener(end)

        async def lost() -> None:
            while not ended.is_set():
                with anyio.move_on_after(LISTENS_STILL):
                    await ended.wait()
                if not ended.is_set():
                    await connection.execute("SELECT 1", timeout=self._pool.wait)

        try:
            await connection.add_listener(CHANNEL, heard)
            yield lost
        finally:
            connection.terminate()

    async def _opened(self) -> AsyncEngine:
        """The engine of an application that nobody told of its start."""
        try:
            await self.open()
        except StoreError as error:
            raise UnavailableError(str(error)) from error
        assert self._engine is not None  # noqa: S101 (for the type checkers: open() has set it)
        return self._engine


class _Lost(Exception):
    """The connection broke before anything was committed."""


class _Undone(Exception):
    """Another transaction came first, and nothing was changed.

    Args:
        final: what to say of it where that is so every time.
    """

    def __init__(self, final: Exception) -> None:
        super().__init__(str(final))
        self.final = final


async def _on(engine: AsyncEngine, work: Callable[[Connection], T], *, in_transaction: bool) -> T:
    """Return what work returns on a connection of the pool.

    Raises:
        UnavailableError: if there is no connection, or the database fails for now.
        _Lost, _Undone: if the work can be tried again.
    """
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(engine.connect())
        except FAILURES as error:
            raise UnavailableError(reason_of(error)) from error
        committing = False
        try:
            if not in_transaction:
                return await connection.run_sync(work)
            # `Statement` speaks to the driver, and so the transaction is the driver's.
            async with (await connection.get_raw_connection()).driver_connection.transaction():  # type: ignore[union-attr]
                result = await connection.run_sync(work)
                committing = True
                return result
        except FAILURES as error:
            meaning = _meaning_of(error, committing=committing)
            if meaning is None:
                raise
            if not isinstance(meaning, _Undone):
                await connection.invalidate()
            raise meaning from error
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):  # nobody knows how far its transaction has come
                await connection.invalidate()
            raise


async def _again(unit: Callable[[], Awaitable[T]]) -> T:
    """Once more, after a connection was lost before anything was committed."""
    await anyio.sleep(_FIRST_PAUSE)  # until it is known which of the others ended too
    try:
        return await unit()
    except _Undone as undone:
        raise undone.final from undone
    except _Lost as lost:
        raise UnavailableError(str(lost)) from lost


FAILURES = (
    AsyncAdapt_asyncpg_dbapi.Error,
    DBAPIError,
    PoolTimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that ends in the middle of a statement
    OSError,
    TimeoutError,
)
"""What the database, and the way to it, may raise: through SQLAlchemy, past it, and before it is reached."""


def _meaning_of(error: Exception, *, committing: bool) -> Exception | None:
    """Return what a failure of the database means for the work; None if it is a mistake of ours."""
    state: str | None = getattr(driver_error(error), "sqlstate", None)
    if state == _OVERLAP:
        return _Undone(OverlapError(reason_of(error)))
    if state in _UNDONE:
        return _Undone(UnavailableError(f"other changes came first: {reason_of(error)}"))
    if state in _TOO_LONG or state == _READ_ONLY:
        return UnavailableError(reason_of(error))
    if state is None or state.startswith(_GONE):
        return UnavailableError(reason_of(error)) if committing else _Lost(reason_of(error))
    return None


def reason_of(error: BaseException) -> str:
    """The first line of what went wrong, as the driver says it; the rest is SQL."""
    if isinstance(error, DBAPIError):
        adapted = driver_error(error)
        error = adapted.__cause__ or adapted
    return (str(error) or type(error).__name__).partition("\n")[0]


async def _connect(url: URL, within: float, settings: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
    """A connection of asyncpg's, which has no types."""
    connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    try:
        return await connect(_dsn(url), timeout=within, server_settings=dict(settings or {}))
    except (ValueError, OverflowError) as error:  # a host or a port that none can be
        raise OSError(str(error)) from error


def engine_of(
    url: URL,
    *,
    timeout: float,
    server_settings: Mapping[str, str] | None = None,
    **pool: Any,  # noqa: ANN401
) -> AsyncEngine:
    """An engine whose connections asyncpg makes, so that what a URL may hold is what asyncpg knows."""

    async def connect() -> Any:  # noqa: ANN401 (asyncpg's connection, which has no types)
        return await _connect(url, timeout, server_settings or {})

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, **pool)
    event.listen(engine.sync_engine, "checkout", _replace_closed)
    return engine


def _dsn(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _replace_closed(connection: Any, _record: object, _proxy: object) -> None:  # noqa: ANN401 (SQLAlchemy's adapter)
    """A connection that ended while nobody used it, as all do when the server restarts, is made anew."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError
