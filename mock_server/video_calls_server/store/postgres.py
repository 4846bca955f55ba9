"""The database of a larger deployment: PostgreSQL, for several processes on several machines.

SQLAlchemy runs the work of a store in a greenlet, so that synchronous work does not block the event loop
while it waits for the driver (asyncpg). Transactions run concurrently: they lock a call before they change
it, two exclusion constraints refuse overlaps, and a lock orders the ids of events (`events.lock_outbox`).
"""

import logging
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
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
    ChangeListener,
    Store,
    add_seed,
    check_tables,
    driver_error,
)
from video_calls_server.store.errors import OverlapError, StoreError, UnavailableError
from video_calls_server.store.events import CHANNEL
from video_calls_server.store.pool import PoolLimits
from video_calls_server.store.seed import Seed

logger = logging.getLogger("video_calls_server")

T = TypeVar("T")

ATTEMPTS = 5
"""How often a transaction is attempted if concurrent transactions make it fail."""

_OVERLAP = "23P01"  # exclusion_violation
# Serialization failure, deadlock, unique violation, tables changed since a statement was prepared.
_CONFLICTS = {"40001", "40P01", "23505", "0A000", _OVERLAP}
_LOST_CONNECTION = ("08", "57P", "53", "58")  # connection, shutdown, resources, system
_TIMEOUTS = {"57014", "55P03", "25P03"}  # statement, lock, idle
_READ_ONLY = "25006"  # the server is a standby

_FIRST_BACKOFF, _MAX_BACKOFF = 0.05, 2.0
"""The seconds before the listener connects again, at first and at most. They double with each attempt."""

_CONFLICT_BACKOFF, _LOSS_BACKOFF = 0.02, 0.1
"""The most seconds before the second attempt at a transaction. They double with each attempt.

After a lost connection, the pool needs some time to notice which other connections are lost.
"""

PING_INTERVAL = 15.0
"""The seconds between two pings of the listener's connection, which can be lost without a signal."""

_SEED_LOCK = 0x76637364  # any number that no other advisory lock uses


class PostgresStore(Store):
    """A store on PostgreSQL, with a pool of connections."""

    def __init__(self, url: URL, seed: Seed, pool: PoolLimits) -> None:
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
            timeout=pool.connect_timeout,
            server_settings={
                "application_name": "video-calls-server",
                # Plan a statement only once, because to plan a page takes longer than to read it.
                "plan_cache_mode": "force_generic_plan",
                "statement_timeout": f"{int(pool.statement_timeout * 1000)}",
                "lock_timeout": f"{int(pool.lock_timeout * 1000)}",
                "idle_in_transaction_session_timeout": f"{int(pool.statement_timeout * 2000)}",
            },
            pool_size=pool.size,
            max_overflow=0,
            pool_timeout=pool.connect_timeout,
            isolation_level="AUTOCOMMIT",  # `_run` begins transactions
        )
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.dispose)
            try:
                await _run(engine, self._prepare, in_transaction=True)
            except (*FAILURES, UnavailableError, _Retryable) as error:
                raise StoreError(f"cannot open the database {self.name}: {reason_of(error)}") from error
            stack.pop_all()
        self._engine = engine

    def _prepare(self, connection: Connection) -> None:
        check_tables(connection, self.name)
        if not people.all_people(connection):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SEED_LOCK})")
            add_seed(connection, self.seed)  # checks again: another process may have added them

    async def release(self) -> None:
        """As `Store.release`."""
        await self.close()

    async def close(self) -> None:
        """As `Store.close`."""
        if self._engine is not None:
            with anyio.CancelScope(shield=True):  # this task may already be cancelled
                await self._engine.dispose()
        self._engine = None

    async def read(self, work: Callable[[Connection], T]) -> T:
        """As `Store.read`."""
        return await self._retry(work, in_transaction=False)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """As `Store.write`."""
        return await self._retry(work, in_transaction=True)

    async def _retry(self, work: Callable[[Connection], T], *, in_transaction: bool) -> T:
        engine = self._engine or await self._ensure_open()
        failures: Counter[int] = Counter()  # conflicts and losses are counted apart, by their attempts
        while True:
            try:
                return await _run(engine, work, in_transaction=in_transaction)
            except _Retryable as error:
                failures[error.attempts] += 1
                if failures[error.attempts] == error.attempts:
                    raise error.final from error
                backoff = error.backoff * 2 ** (failures.total() - 1)
            # Wait a random time, because transactions that start again together conflict again.
            await anyio.sleep(random.uniform(backoff / 2, backoff))  # noqa: S311 (no secret)

    @asynccontextmanager
    async def listening(self, listener: ChangeListener) -> AsyncGenerator[None]:
        """As `Store.listening`. Each transaction notifies when it commits (`events.lock_outbox`)."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._listen, listener)
            yield
            tasks.cancel_scope.cancel()

    async def _listen(self, listener: ChangeListener, *, task_status: TaskStatus[None]) -> None:
        backoff, is_started = _FIRST_BACKOFF, False

        def on_notification(_connection: object, _pid: int, _channel: str, user_ids: object) -> None:
            listener.wake([int(user_id) for user_id in str(user_ids).split(",")])

        while True:
            try:
                async with self._listening_connection(on_notification) as wait_until_lost:
                    if not is_started:
                        task_status.started()
                    backoff, is_started = _FIRST_BACKOFF, True
                    listener.wake_all()  # events may have come before the connection listened
                    await wait_until_lost()
                logger.warning("the connection that listens for changes was lost; connecting again")
            except FAILURES as error:
                logger.warning("cannot listen to the database: %s", reason_of(error))
            await anyio.sleep(backoff)
            backoff = min(2 * backoff, _MAX_BACKOFF)

    @asynccontextmanager
    async def _listening_connection(
        self, on_notification: Callable[..., None]
    ) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """Listen on a separate connection. Yield a function that waits until the connection is lost."""
        connection: Any = await _connect(self.url, self._pool.connect_timeout)
        ended = anyio.Event()

        def on_end(_connection: object) -> None:
            ended.set()

        connection.add_termination_listener(on_end)

        async def wait_until_lost() -> None:
            while not ended.is_set():
                with anyio.move_on_after(PING_INTERVAL):
                    await ended.wait()
                if not ended.is_set():
                    await connection.execute("SELECT 1", timeout=self._pool.connect_timeout)

        try:
            await connection.add_listener(CHANNEL, on_notification)
            yield wait_until_lost
        finally:
            connection.terminate()

    async def _ensure_open(self) -> AsyncEngine:
        """Open the store, because a mounted application gets no start-up event that opens it."""
        try:
            await self.open()
        except StoreError as error:
            raise UnavailableError(str(error)) from error
        assert self._engine is not None  # noqa: S101 (for the type checkers: `open` sets it)
        return self._engine


class _Retryable(Exception):
    """The work was not committed, and can run again. `final` is the error to raise after all `attempts`."""

    def __init__(
        self, final: Exception, attempts: int = ATTEMPTS, backoff: float = _CONFLICT_BACKOFF
    ) -> None:
        super().__init__(str(final))
        self.final = final
        self.attempts = attempts
        self.backoff = backoff  # seconds


async def _run(engine: AsyncEngine, work: Callable[[Connection], T], *, in_transaction: bool) -> T:
    """Run work on a connection of the pool and return its result.

    Raises:
        UnavailableError: if there is no connection, or the database fails for now.
        _Retryable: if the work can run again.
    """
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(engine.connect())
        except FAILURES as error:
            raise UnavailableError(reason_of(error)) from error
        is_committing = False
        try:
            if not in_transaction:
                return await connection.run_sync(work)
            # `Statement` uses the driver directly, so the transaction is the driver's too.
            async with (await connection.get_raw_connection()).driver_connection.transaction():  # type: ignore[union-attr]
                result = await connection.run_sync(work)
                is_committing = True
                return result
        except FAILURES as error:
            state: str | None = getattr(driver_error(error), "sqlstate", None)
            translated = _translate(error, state, is_committing=is_committing)
            if translated is None:
                raise
            if state not in _CONFLICTS:
                await connection.invalidate()
            raise translated from error
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):  # its transaction may still be open
                await connection.invalidate()
            raise


FAILURES = (
    AsyncAdapt_asyncpg_dbapi.Error,
    DBAPIError,
    PoolTimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection was lost during a statement
    OSError,
    TimeoutError,
)
"""The errors of the database and the network, from SQLAlchemy and from the driver."""


def _translate(error: Exception, state: str | None, *, is_committing: bool) -> Exception | None:
    """Return the error to raise for a failure of the database, or None if it is a bug of this server."""
    if state == _OVERLAP:
        return _Retryable(OverlapError(reason_of(error)))
    if state in _CONFLICTS:
        return _Retryable(UnavailableError(f"other changes came first: {reason_of(error)}"))
    unavailable = UnavailableError(reason_of(error))
    if state in _TIMEOUTS or state == _READ_ONLY:
        return unavailable
    if state is None or state.startswith(_LOST_CONNECTION):
        return unavailable if is_committing else _Retryable(unavailable, 2, _LOSS_BACKOFF)
    return None


def reason_of(error: BaseException) -> str:
    """Return the first line of the driver's message. The other lines are SQL."""
    if isinstance(error, DBAPIError):
        adapted = driver_error(error)
        error = adapted.__cause__ or adapted
    return (str(error) or type(error).__name__).partition("\n")[0]


async def _connect(url: URL, seconds: float, settings: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
    """Return a connection of asyncpg. Its type is Any, because asyncpg has no types."""
    connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        return await connect(dsn, timeout=seconds, server_settings=dict(settings or {}))
    except (ValueError, OverflowError) as error:  # an invalid host or port
        raise OSError(str(error)) from error


def engine_of(
    url: URL,
    *,
    timeout: float,
    server_settings: Mapping[str, str] | None = None,
    **pool: Any,  # noqa: ANN401
) -> AsyncEngine:
    """Return an engine whose connections asyncpg opens, so that a URL can have every option of asyncpg."""
    connect = partial(_connect, url, timeout, server_settings)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, **pool)
    event.listen(engine.sync_engine, "checkout", _replace_closed)
    return engine


def _replace_closed(connection: Any, _record: object, _proxy: object) -> None:  # noqa: ANN401 (SQLAlchemy's adapter)
    """Replace a connection of the pool that was lost while it was idle: the database may have restarted."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError
