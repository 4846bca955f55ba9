"""The interface of a store, and what both implementations share: URLs, and checks of the tables.

A store runs `work` in a transaction. `work` is a function that takes a connection, such as those in `calls`.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from sqlalchemy import Connection, false, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from video_calls_server.store import people
from video_calls_server.store.errors import StoreError
from video_calls_server.store.schema import calls, metadata, revisions
from video_calls_server.store.seed import Seed

T = TypeVar("T")

REVISION = "0001"
"""The revision of the tables in `schema`. A database stores the revision of its own tables."""


class ChangeListener(Protocol):
    """A listener for changes that other processes make."""

    def wake(self, user_ids: list[int]) -> None:
        """Handle a change of the calls of these users."""
        ...

    def wake_all(self) -> None:
        """Handle a possible change of the calls of all users."""
        ...


class Store(ABC):
    """The database of a server. `seed` holds the users that an empty database starts with."""

    def __init__(self, url: URL, seed: Seed) -> None:
        self.url = url
        self.seed = seed

    @property
    def name(self) -> str:
        """The name of the database for messages, without secrets."""
        return name_of(self.url)

    @abstractmethod
    async def open(self) -> None:
        """Open the database unless it is open. If it has no users, add those of the seed.

        Raises:
            StoreError: if the database cannot be opened, or belongs to another program or another version.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the database. It can be opened again."""

    async def release(self) -> None:
        """Release the connections that belong to this event loop, so that another loop can use the store."""
        return  # SQLite has nothing that belongs to an event loop

    @abstractmethod
    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return the result of `work`, which must not change anything.

        Raises:
            UnavailableError: if the database did not respond.
        """

    @abstractmethod
    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction and return its result. If `work` raises, roll back its changes.

        `work` runs again if a concurrent transaction made it fail.

        Raises:
            OverlapError: if two open calls would overlap.
            UnavailableError: if the database did not respond, or could not store the changes.
        """

    @asynccontextmanager
    async def listening(self, listener: ChangeListener) -> AsyncGenerator[None]:  # noqa: ARG002 (SQLite has one process)
        """Call the listener for changes of other processes, until the context ends."""
        yield

    async def people(self) -> Seed:
        """Return all users of the database."""
        return Seed(tuple(await self.read(people.all_people)))


def database_url(database: str) -> URL:
    """Return the URL of a database. `database` is `:memory:`, a path or a URL.

    Raises:
        StoreError: if `database` has an invalid URL, or this server cannot use that kind of database.
    """
    if "://" not in database:
        return URL.create("sqlite", database=database)
    try:
        url = make_url(database)
    except (ArgumentError, ValueError) as error:  # its message contains the URL with its password
        raise StoreError(f"not the URL of a database; give {_FORMS}") from error
    backend = url.get_backend_name()
    if backend == "sqlite":
        return url.set(drivername="sqlite", database=url.database or ":memory:")
    if backend in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+asyncpg")
    raise StoreError(f"cannot use a {backend} database; give {_FORMS}")


def has_password(database: str) -> bool:
    """Return whether the URL of a database may contain a secret."""
    url = database_url(database)
    return url.password is not None or bool(url.query)


def name_of(url: URL) -> str:
    """Return a database's name for messages: the path of its file, or its URL without secrets."""
    if url.get_backend_name() == "sqlite":
        return url.database or ":memory:"
    # If the password contains an unencoded `@`, `host` begins with a part of the password.
    host = (url.host or "").rpartition("@")[2]
    return URL.create("postgresql", host=host, port=url.port, database=url.database).render_as_string()


def driver_error(error: BaseException) -> BaseException:
    """Return the error of the driver, without the text and the statement that SQLAlchemy adds."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


_FORMS = "a path, `:memory:`, sqlite:///PATH or postgresql://USER@HOST/NAME"


def create_tables(connection: Connection) -> None:
    """Create all tables in a new database, and store their revision."""
    metadata.create_all(connection)
    connection.execute(revisions.insert().values(version_num=REVISION))


def check_tables(connection: Connection, name: str) -> None:
    """Check that a database has the tables of this server.

    Raises:
        StoreError: if it has no tables, or those of another program or another revision.
    """
    names = table_names(connection)
    if not names:
        raise StoreError(f"the database {name} is empty; make its tables with: video-calls-server migrate")
    check_no_other_tables(name, names)
    revision = connection.scalar(revisions.select())
    check_not_newer(name, revision)
    if revision != REVISION:
        raise StoreError(
            f"the database {name} has tables of revision {revision or 'none'}, "
            f"and this server needs {REVISION}; bring it up to date with: video-calls-server migrate"
        )
    if missing := set(metadata.tables) - names:
        raise StoreError(f"the database {name} lacks the tables {', '.join(sorted(missing))}")


def check_not_newer(name: str, revision: str | None) -> None:
    """Check that no newer server made the tables.

    Raises:
        StoreError: if a newer server made them.
    """
    if revision is not None and revision > REVISION:
        raise StoreError(
            f"the database {name} has tables of revision {revision}, and this server knows {REVISION}; "
            "use the newer server that made them"
        )


def check_writable(connection: Connection) -> None:
    """Run an update that changes no row. It fails in a read-only database, which `open` does not notice."""
    connection.execute(revisions.update().where(false()).values(version_num=REVISION))


def table_names(connection: Connection) -> set[str]:
    """Return the names of all tables in a database, of any program."""
    return set(inspect(connection).get_table_names()) - {"sqlite_sequence"}


def check_no_other_tables(name: str, names: set[str]) -> None:
    """Check that a database has no tables of another program.

    Alembic's table is no evidence of this server, because another program may use Alembic too.

    Raises:
        StoreError: if the database has tables of another program.
    """
    others = names - {revisions.name}
    if others and not (revisions.name in names and calls.name in names):
        raise StoreError(
            f"the database {name} holds other tables ({', '.join(sorted(others)[:5])}); "
            "give one of this server's own"
        )


def add_seed(connection: Connection, seed: Seed) -> None:
    """Add the users of a seed if the database has none."""
    if not people.all_people(connection):
        for user, doctor, patient in seed.people:
            people.add_person(connection, user, doctor, patient)
