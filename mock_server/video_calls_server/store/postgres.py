"""The database of a larger deployment: PostgreSQL, for several processes on several machines.

The work of a store is written against a synchronous connection and runs here in a greenlet, which waits for
the driver (asyncpg) without holding up the event loop. What SQLite keeps by having one writer at a time is
kept here by the database itself: calls are locked before they change, two exclusion constraints keep calls
apart, and events are numbered in the order in which they are committed (`outbox`).
"""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import asyncpg
from anyio.abc import TaskStatus
from sqlalchemy import Connection, inspect
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from video_calls_server.domain.violation import RuleViolation
from video_calls_server.pool import Pool
from video_calls_server.seed import Seed
from video_calls_server.store.database import News, Store, StoreError, add_seed, check_revision
from video_calls_server.store.outbox import CHANNEL
from video_calls_server.store.schema import metadata, revisions
from video_calls_server.unavailable import UnavailableError

logger = logging.getLogger("video_calls_server")

T = TypeVar("T")

ATTEMPTS = 5
"""How often a change is tried that other transactions undo."""

_OVERLAP = "23P01"  # exclusion_violation: only calls that are too near to each other have such a constraint
_UNDONE = {"40001", "40P01", "23505"}  # serialization failure, deadlock, somebody else was first
_GONE = ("08", "57P", "53", "58")  # no connection, shutting down, out of resources, system errors
_TOO_LONG = {"57014", "55P03", "25P03"}  # statement, lock and idle timeouts

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
"""Seconds before the listener connects again."""


class PostgresStore(Store):
    """A store on PostgreSQL, with a pool of connections."""

    def __init__(self, url: URL, seed: Seed, pool: Pool) -> None:
        super().__init__(url, seed)
        self._pool = pool
        self._engine: AsyncEngine | None = None
        self._reading: AsyncEngine | None = None
        self._opening = anyio.Lock()

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=True)

    async def open(self) -> None:
        """As `Store.open`."""
        async with self._opening:
            if self._engine is None:
                await self._open()

    async def _open(self) -> None:
        pool = self._pool
        engine = create_async_engine(
            self.url,
            pool_size=pool.size,
            max_overflow=0,
            pool_timeout=pool.wait,
            connect_args={
                "timeout": pool.wait,
                "server_settings": {
                    "application_name": "video-calls-server",
                    "statement_timeout": f"{int(pool.statement * 1000)}",
                    "lock_timeout": f"{int(pool.lock * 1000)}",
                    "idle_in_transaction_session_timeout": f"{int(pool.statement * 2000)}",
                },
            },
        )
        try:
            async with engine.begin() as connection:
                await connection.run_sync(self._prepare)
        except (DBAPIError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            await engine.dispose()
            raise StoreError(f"cannot open the database {self.name}: {_reason(error)}") from error
        except StoreError:
            await engine.dispose()
            raise
        self._engine = engine
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    def _prepare(self, connection: Connection) -> None:
        found = set(inspect(connection).get_table_names())
        if not found:
            raise StoreError(
                f"the database {self.name} is empty; make its tables with: video-calls-server migrate"
            )
        if revisions.name not in found:
            raise StoreError(
                f"the database {self.name} holds other tables ({', '.join(sorted(found)[:5])}); "
                "give a database of this server's own"
            )
        check_revision(self.name, connection.scalar(revisions.select()))
        missing = set(metadata.tables) - found
        if missing:
            raise StoreError(f"the database {self.name} lacks the tables {', '.join(sorted(missing))}")
        # Of several processes that start at once, one adds the people.
        connection.exec_driver_sql("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
        add_seed(connection, self.seed)

    async def release(self) -> None:
        """As `Store.release`."""
        await self.close()

    async def close(self) -> None:
        """As `Store.close`."""
        if self._engine is not None:
            await self._engine.dispose()
        self._engine = self._reading = None

    async def read(self, work: Callable[[Connection], T]) -> T:
        """As `Store.read`. A connection that was lost while nobody used it is replaced at once."""
        engine = self._reading or await self._opened(reading=True)
        try:
            return await _on(engine, work)
        except _Lost:
            return await self._again(engine, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """As `Store.write`."""
        engine = self._engine or await self._opened(reading=False)
        for _ in range(ATTEMPTS):
            try:
                return await _on(engine, work)
            except _Undone as undone:
                reason = undone
            except _Lost:
                return await self._again(engine, work)
        raise UnavailableError(f"other changes came first, {ATTEMPTS} times: {reason}")

    @asynccontextmanager
    async def telling(self, news: News) -> AsyncGenerator[None]:
        """As `Store.telling`: listens to what each change notifies of when it is committed."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._listen, news)
            yield
            tasks.cancel_scope.cancel()

    async def _listen(self, news: News, *, task_status: TaskStatus[None]) -> None:
        pause, url = _FIRST_PAUSE, self.url.set(drivername="postgresql").render_as_string(hide_password=False)

        def heard(_connection: object, _pid: int, _channel: str, users: object) -> None:
            news.wake([int(user_id) for user_id in str(users).split(",")])

        while True:
            try:
                connection = await asyncpg.connect(url, timeout=self._pool.wait)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                logger.warning("cannot listen to the database: %s", _reason(error))
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            lost = anyio.Event()
            connection.add_termination_listener(lambda _connection, lost=lost: lost.set())
            try:
                await connection.add_listener(CHANNEL, heard)
                pause = _FIRST_PAUSE
                task_status.started()  # twice is once
                news.wake_all()  # what happened while nobody listened stands in the outbox
                await lost.wait()
                logger.warning("the database no longer tells of changes; connecting again")
            finally:
                connection.terminate()

    async def _opened(self, *, reading: bool) -> AsyncEngine:
        """The engine of an application that nobody told of its start."""
        try:
            await self.open()
        except StoreError as error:
            raise UnavailableError(str(error)) from error
        engine = self._reading if reading else self._engine
        assert engine is not None  # noqa: S101 (for the type checkers: open() has set it)
        return engine

    async def _again(self, engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
        """Once more, after a connection was lost before anything was committed."""
        try:
            return await _on(engine, work)
        except (_Lost, _Undone) as error:
            raise UnavailableError(str(error)) from error


class _Lost(Exception):
    """The connection broke before anything was committed."""


class _Undone(Exception):
    """Another transaction came first, and nothing was changed."""


async def _on(engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
    """Run work on a connection of the pool, and commit."""
    try:
        async with engine.connect() as connection:
            committing = False
            try:
                await connection.begin()  # by itself it would not see what goes past it to the driver
                result = await connection.run_sync(work)
                committing = True
                await connection.commit()
            except _FAILURES as error:
                told = _told(error, committing=committing)
                if not isinstance(told, RuleViolation | _Undone):
                    await connection.invalidate()
                raise told from error
            return result
    except _FAILURES as error:  # there was no connection to be had
        raise UnavailableError(_reason(error)) from error


_FAILURES = (AsyncAdapt_asyncpg_dbapi.Error, DBAPIError, PoolTimeoutError, OSError, TimeoutError)


def _told(error: Exception, *, committing: bool) -> Exception:
    """What a failure of the database means for the work; itself, where it is a mistake of ours."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state: str | None = getattr(cause, "sqlstate", None)
    if state == _OVERLAP:
        return RuleViolation("create.no-overlap")
    if state in _UNDONE:
        return _Undone(str(cause))
    if state in _TOO_LONG:
        return UnavailableError(_reason(error))
    if state is None or state.startswith(_GONE):
        return UnavailableError(_reason(error)) if committing else _Lost(_reason(error))
    return error


def _reason(error: BaseException) -> str:
    """The first line of what went wrong; the rest is SQL."""
    return (str(error) or type(error).__name__).partition("\n")[0]
