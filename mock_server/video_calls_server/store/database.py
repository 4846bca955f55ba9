"""Opening the database and running work on it, all or nothing.

SQLite serves one process: its connection lives on the event loop's thread and the work runs there at
once, for a statement takes microseconds and a thread would cost more than it saves.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import StaticPool

from video_calls_server.seed import Seed
from video_calls_server.store import queries
from video_calls_server.store.schema import metadata
from video_calls_server.unavailable import UnavailableError

T = TypeVar("T")

BUSY_SECONDS = 2.0
"""How long a change waits while another process holds the file."""

BUSY_PAUSE = 0.02
"""Seconds between its attempts."""

SCHEMA_VERSION = 2
"""Of the tables; kept in the file, so that another version of this server knows."""


class StoreError(Exception):
    """The database cannot be used as configured; the message says why and what to do."""


class Store:
    """The database of one server.

    Args:
        database: `:memory:`, a path, or a URL (`sqlite:///calls.db`).
        seed: the people that an empty database starts with.

    Raises:
        StoreError: the database is none that this server can use.
    """

    def __init__(self, database: str, seed: Seed) -> None:
        self.url = database_url(database)
        self._seed = seed
        self._engine: Engine | None = None
        self._connection: Connection | None = None

    def open(self) -> None:
        """Open the database and, where it is empty, create the tables and the seeded people.

        Does nothing when it is open already.

        Raises:
            StoreError: it cannot be opened, or is the database of another program.
        """
        if self._connection is not None:
            return
        if self.url.query:
            raise StoreError(f"cannot use a database URL with options: {', '.join(self.url.query)}")
        engine = create_engine(self.url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_immediate)
        try:
            connection = engine.connect()
            _prepare(connection, self._seed)
            # Only now is it known to be a file of ours: this setting is written into it.
            connection.connection.cursor().execute("PRAGMA journal_mode = WAL")
        except (DBAPIError, sqlite3.Error, ValueError, TypeError) as error:
            engine.dispose()
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise StoreError(f"cannot open the database {self.name}: {reason}") from error
        except StoreError:
            engine.dispose()
            raise
        self._engine, self._connection = engine, connection

    def people(self) -> Seed:
        """Everybody whom the database knows."""
        return Seed(tuple(queries.people(self._opened())))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` finds. It must not change anything.

        Raises:
            UnavailableError: the database did not answer.
        """
        try:
            return work(self._connection or self._opened())
        except (sqlite3.OperationalError, OperationalError) as error:
            raise UnavailableError(str(error)) from error

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, with all of its changes kept; where it raises, none of them is.

        Raises:
            UnavailableError: the database did not answer, or could not keep the changes.
        """
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

    def close(self) -> None:
        """Close the database; it opens again when it is next used."""
        if self._connection is not None and self._engine is not None:
            self._connection.close()
            self._engine.dispose()
        self._connection = self._engine = None

    @property
    def name(self) -> str:
        """The database as a person would name it."""
        return self.url.database or ":memory:"

    def _opened(self) -> Connection:
        if self._connection is None:
            self.open()
        assert self._connection is not None  # noqa: S101 (for the type checkers: open() has set it)
        return self._connection


def database_url(database: str) -> URL:
    """The URL of a database that is given as `:memory:`, as a path or as a URL.

    Raises:
        StoreError: it is the URL of something that this server cannot use.
    """
    if "://" not in database:
        return URL.create("sqlite", database=database)
    try:
        url = make_url(database)
    except (ArgumentError, ValueError) as error:  # which name the URL, and so its password
        raise StoreError("not the URL of a database; give a path, `:memory:` or sqlite:///PATH") from error
    if url.get_backend_name() != "sqlite":
        raise StoreError(
            f"cannot use a {url.get_backend_name()} database; give a path, `:memory:` or sqlite:///PATH"
        )
    return url.set(drivername="sqlite", database=url.database or ":memory:")


def existing_people(database: str, seed: Seed) -> Seed:
    """The people of a database file, or those of the seed where there is no file yet.

    Raises:
        StoreError: the file cannot be read.
    """
    store = Store(database, seed)
    path = store.url.database
    if path is None or path == ":memory:" or not Path(path).exists():
        return seed
    store.open()
    try:
        return store.people()
    finally:
        store.close()


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


def _prepare(connection: Connection, seed: Seed) -> None:
    with connection.begin():
        found = set(inspect(connection).get_table_names()) - {"sqlite_sequence"}
        expected = set(metadata.tables)
        if found and not expected <= found:
            raise StoreError(
                f"the database {connection.engine.url.database} holds other tables "
                f"({', '.join(sorted(found)[:5])}); give a file of this server's own"
            )
        version = connection.exec_driver_sql("PRAGMA user_version").scalar()
        if found and version != SCHEMA_VERSION:
            raise StoreError(
                f"the database {connection.engine.url.database} has tables of version {version}, and this "
                f"server has version {SCHEMA_VERSION}; give another file, or the server that made it"
            )
        if not found:
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
            for user, doctor, patient in seed.people:
                queries.add_person(connection, user, doctor, patient)
