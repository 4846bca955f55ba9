"""The embedded database: SQLite, in a file or in memory, for one process.

Its connection lives on the event loop's thread and the work runs there at once, for a statement takes
microseconds and a thread would cost more than it saves.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import StaticPool

from video_calls_server.seed import Seed
from video_calls_server.store.database import (
    REVISION,
    Store,
    StoreError,
    add_seed,
    check_tables,
    names_of_tables,
)
from video_calls_server.store.schema import metadata, revisions
from video_calls_server.unavailable import UnavailableError

T = TypeVar("T")

BUSY_SECONDS = 2.0
"""How long a change waits while another process holds the file."""

BUSY_PAUSE = 0.02
"""Seconds between its attempts."""


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
        event.listen(engine, "begin", _begin_immediate)
        try:
            connection = engine.connect()
            _prepare(connection, self.name, self.seed)
            # Only now is it known to be a file of ours: this setting is written into it.
            connection.connection.cursor().execute("PRAGMA journal_mode = WAL")
        except (DBAPIError, sqlite3.Error, ValueError, TypeError) as error:
            engine.dispose()
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise StoreError(f"cannot open the database {self.name}: {reason}") from error
        except StoreError:
            engine.dispose()
            raise
        self._engine = engine
        return connection

    async def read(self, work: Callable[[Connection], T]) -> T:
        """As `Store.read`."""
        try:
            return work(self._connection or self._opened())
        except (sqlite3.OperationalError, OperationalError) as error:
            raise UnavailableError(str(error)) from error

    async def write(self, work: Callable[[Connection], T]) -> T:
        """As `Store.write`."""
        connection = self._connection or self._opened()
        gives_up = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with connection.begin():
                    return work(connection)
            except (sqlite3.OperationalError, OperationalError) as error:
                if "locked" not in str(error) or time.monotonic() > gives_up:
                    raise UnavailableError(str(error)) from error
            await anyio.sleep(BUSY_PAUSE)  # another process is writing; other requests go on meanwhile

    async def close(self) -> None:
        """As `Store.close`; it opens again when it is next used."""
        if self._connection is not None and self._engine is not None:
            self._connection.close()
            self._engine.dispose()
        self._connection = self._engine = None

    @property
    def name(self) -> str:
        """The path of the file, or `:memory:`."""
        return self.url.database or ":memory:"

    def _opened(self) -> Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy begins them, below
    for pragma in (
        "busy_timeout = 0",  # `Store.write` waits, and lets others be served meanwhile
        "synchronous = NORMAL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(connection: Connection, name: str, seed: Seed) -> None:
    with connection.begin():
        if not names_of_tables(connection):
            metadata.create_all(connection)
            connection.execute(revisions.insert().values(version_num=REVISION))
        check_tables(connection, name)
        add_seed(connection, seed)
