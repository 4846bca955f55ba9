"""The embedded database: SQLite, in a file or in memory, for one process.

Its connection lives on the event loop's thread and the work runs there at once, for a statement takes
microseconds and a thread would cost more than it saves. An acknowledged change outlives the process, however
that ends; with `synchronous = NORMAL` a power cut may undo the last ones, each as a whole.
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
    REVISION,
    Store,
    add_seed,
    check_tables,
    driver_error,
    names_of_tables,
)
from video_calls_server.store.errors import StoreError, UnavailableError
from video_calls_server.store.schema import metadata, revisions
from video_calls_server.store.seed import Seed

T = TypeVar("T")

BUSY_SECONDS = 2.0
"""How long a change, a reader or a start waits while another process holds the file."""

BUSY_PAUSE = 0.02
"""Seconds between its attempts."""

MAPPED = 2**30
"""Bytes of a file that are read where the operating system keeps them, and are not copied into a cache.

Reading any of a million calls took 1.32 times as long as any of a thousand, and takes 1.15 times as long so.
A larger cache changed nothing.
"""


class SqliteStore(Store):
    """A store on SQLite.

    Args:
        url: of a file, or of `:memory:`.
        seed: the people that an empty database starts with.
    """

    def __init__(self, url: URL, seed: Seed) -> None:
        super().__init__(url, seed)
        self._engine: Engine | None = None
        self._connection: Connection | None = None

    async def open(self) -> None:
        """As `Store.open`."""
        self._opened()

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
            # Only now is it known to be a file of ours: this setting is written into it.
            cursor.execute("PRAGMA journal_mode = WAL")
            # From here on the store waits, and serves others meanwhile.
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
        return await self._patiently(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """As `Store.write`."""

        def unit(connection: Connection) -> T:
            with connection.begin():
                return work(connection)

        return await self._patiently(unit)

    async def _patiently(self, unit: Callable[[Connection], T]) -> T:
        """What a unit of work returns, which waits for as long as another process holds the file."""
        connection = self._connection or self._opened()
        gives_up = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return unit(connection)
            except FAILURES as error:
                self._let_pass(error, gives_up)
            await anyio.sleep(BUSY_PAUSE)  # other requests go on meanwhile

    def _let_pass(self, error: Exception, gives_up: float) -> None:
        """Return where another process holds the file, and there is time to wait for it.

        Raises:
            UnavailableError: the file, or the disk under it, is of no use for now.
        """
        cause = driver_error(error)
        # The base class alone stands for a file that is damaged or is none of SQLite's; a mistake of ours has
        # one of its others. (Wrong SQL has not, and nor has a file whose tables somebody took away.)
        if not isinstance(cause, sqlite3.OperationalError) and type(cause) is not sqlite3.DatabaseError:
            raise error
        # The lowest byte is the kind of the failure, those above it say more of it.
        busy = getattr(cause, "sqlite_errorcode", 0) & 0xFF in _BUSY
        if not busy or time.monotonic() > gives_up:
            raise UnavailableError(f"the database {self.name}: {cause}") from error

    async def close(self) -> None:
        """As `Store.close`; it opens again when it is next used."""
        if self._connection is not None and self._engine is not None:
            self._connection.close()
            self._engine.dispose()
        self._connection = self._engine = None

    def _opened(self) -> Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection


def make_private(url: URL) -> None:
    """Make a new database file, readable by this user only; SQLite lets everybody read it."""
    if url.database in {None, "", ":memory:"}:
        return
    path = Path(url.database or "").resolve()  # a symbolic link may lead to a file that does not exist yet
    with suppress(OSError):  # what is wrong is what SQLite will say
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


FAILURES = (sqlite3.Error, DBAPIError)
"""What SQLite raises: past SQLAlchemy, and through it."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def begin_where_told(connection: sqlite3.Connection, _record: object) -> None:
    """Transactions, of tables too, begin where SQLAlchemy begins them, below."""
    connection.isolation_level = None


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    begin_where_told(connection, _record)
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000:.0f}",  # while it opens, when there is nobody else to serve
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"mmap_size = {MAPPED}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def begin_immediate(connection: Connection) -> None:
    """Begin as the one writer."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(connection: Connection, name: str, seed: Seed) -> None:
    with connection.begin():
        if not names_of_tables(connection):
            metadata.create_all(connection)
            connection.execute(revisions.insert().values(version_num=REVISION))
        check_tables(connection, name)
        add_seed(connection, seed)
