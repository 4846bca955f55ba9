"""The embedded database: SQLite, in a file or in memory, for one process.

Work runs on the thread of the event loop, because a statement takes microseconds and a thread would cost
more. A committed change survives a crash of the process. Because of `synchronous = NORMAL`, a power failure
may lose the last transactions, each as a whole.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import anyio
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from video_calls_server.store.database import (
    Store,
    add_seed,
    check_tables,
    create_tables,
    driver_error,
    table_names,
)
from video_calls_server.store.errors import StoreError, UnavailableError
from video_calls_server.store.seed import Seed

T = TypeVar("T")

BUSY_TIMEOUT = 2.0
"""The seconds to wait for a lock of another process on the file."""

_BUSY_PAUSE = 0.02
"""The seconds between two attempts to get the lock."""

_MMAP_SIZE = 2**30
"""How many bytes of a file SQLite maps into memory.

With a million calls, a read takes 1.15 times as long as with a thousand. Without this mapping, it takes 1.32
times as long. A larger page cache changed nothing.
"""


class SqliteStore(Store):
    """A store on SQLite, with one connection."""

    def __init__(self, url: URL, seed: Seed) -> None:
        super().__init__(url, seed)
        self._engine: Engine | None = None
        self._connection: Connection | None = None

    async def open(self) -> None:
        """As `Store.open`."""
        self._ensure_open()

    def _open(self) -> Connection:
        if self.url.query:
            raise StoreError(f"cannot use a database URL with options: {', '.join(self.url.query)}")
        engine = create_engine(self.url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", begin_immediate)
        make_private(self.url)
        try:
            connection = engine.connect()
            _prepare(connection, self.name, self.seed)
            cursor = connection.connection.cursor()
            # This changes the file. Therefore `_prepare` has checked before that it is a file of this server.
            cursor.execute("PRAGMA journal_mode = WAL")
            # From here on, SQLite does not wait for a lock. `_retry` waits, and other requests continue.
            cursor.execute("PRAGMA busy_timeout = 0")
        except (*FAILURES, ValueError, TypeError) as error:
            engine.dispose()
            raise StoreError(f"cannot open the database {self.name}: {driver_error(error)}") from error
        except StoreError:
            engine.dispose()
            raise
        self._engine = engine
        return connection

    async def read(self, work: Callable[[Connection], T]) -> T:
        """As `Store.read`."""
        return await self._retry(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """As `Store.write`."""

        def unit(connection: Connection) -> T:
            with connection.begin():
                return work(connection)

        return await self._retry(unit)

    async def _retry(self, unit: Callable[[Connection], T]) -> T:
        """Run a unit of work. While another process locks the file, retry until `BUSY_TIMEOUT`."""
        connection = self._ensure_open()
        deadline = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                return unit(connection)
            except FAILURES as error:
                self._check_busy(error, deadline)
            await anyio.sleep(_BUSY_PAUSE)  # other requests continue

    def _check_busy(self, error: Exception, deadline: float) -> None:
        """Raise an error, unless the file is locked and the deadline has not passed.

        Raises:
            UnavailableError: if the file or its disk cannot be used for now.
        """
        cause = driver_error(error)
        # `DatabaseError` itself means a damaged file. Its other subclasses mean a bug of this server.
        if not isinstance(cause, sqlite3.OperationalError) and type(cause) is not sqlite3.DatabaseError:
            raise error
        # The lowest byte of an error code is the kind of the failure, and the others are details.
        is_busy = getattr(cause, "sqlite_errorcode", 0) & 0xFF in _BUSY
        if not is_busy or time.monotonic() > deadline:
            raise UnavailableError(f"the database {self.name}: {cause}") from error

    async def close(self) -> None:
        """As `Store.close`. The next use opens it again."""
        if self._connection is not None and self._engine is not None:
            self._connection.close()
            self._engine.dispose()
        self._connection = self._engine = None

    def _ensure_open(self) -> Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection


def make_private(url: URL) -> None:
    """Create a new database file that only this user can read. SQLite would let all users read it."""
    if url.database in {None, "", ":memory:"}:
        return
    path = Path(url.database or "").resolve()  # a symbolic link's target may not exist yet
    with suppress(OSError):  # SQLite reports the error when it opens the file
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


FAILURES = (sqlite3.Error, DBAPIError)
"""The errors of SQLite, from the driver and from SQLAlchemy."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def disable_implicit_begin(connection: sqlite3.Connection, _record: object) -> None:
    """Keep sqlite3 from beginning transactions itself, because `begin_immediate` begins all of them."""
    connection.isolation_level = None


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    disable_implicit_begin(connection, _record)
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT * 1000:.0f}",  # only while the database opens, without requests
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"mmap_size = {_MMAP_SIZE}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def begin_immediate(connection: Connection) -> None:
    """Begin a transaction and lock the file for writing."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(connection: Connection, name: str, seed: Seed) -> None:
    with connection.begin():
        if not table_names(connection):
            create_tables(connection)
        check_tables(connection, name)
        add_seed(connection, seed)
