"""What a store is, whichever database it stands on: work is run on it, all of it or nothing.

The functions of `people`, `calls`, `idempotency`, `events` and `agora_notices` are that work: they take a
connection and need not know more. Which store a configured database has is decided in `store_for`.
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
"""Of the tables as `schema` has them; the database keeps its own, so that another version knows."""


class News(Protocol):
    """Who wants to know when another process has changed something."""

    def wake(self, user_ids: list[int]) -> None:
        """Something happened to the calls of these users."""
        ...

    def wake_all(self) -> None:
        """Something may have happened to anybody's."""
        ...


class Store(ABC):
    """The database of one server.

    Raises:
        StoreError: the database is none that this server can use.
    """

    def __init__(self, url: URL, seed: Seed) -> None:
        self.url = url
        self.seed = seed

    @property
    def name(self) -> str:
        """The database as a person would name it, without a secret."""
        return name_of(self.url)

    @abstractmethod
    async def open(self) -> None:
        """Open the database and, where nobody is in it, add the seeded people. Nothing, where it is open.

        Raises:
            StoreError: it cannot be opened, is the database of another program, or of another version.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the database; it can be opened again."""

    async def release(self) -> None:
        """Let go of what belongs to this event loop, so that another one may use the store."""
        return  # as a store may have nothing of the kind

    @abstractmethod
    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` finds. It must not change anything.

        Raises:
            UnavailableError: the database did not answer.
        """

    @abstractmethod
    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, with all of its changes kept; where it raises, none of them is.

        It may be run more than once, where what others did meanwhile undid it.

        Raises:
            OverlapError: two open calls would be too near to each other.
            UnavailableError: the database did not answer, or could not keep the changes.
        """

    @asynccontextmanager
    async def telling(self, news: News) -> AsyncGenerator[None]:  # noqa: ARG002 (one process has no others)
        """Tell of what other processes change, for as long as this lasts."""
        yield

    async def people(self) -> Seed:
        """Everybody whom the database knows."""
        return Seed(tuple(await self.read(people.all_people)))


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
        raise StoreError(f"not the URL of a database; give {_FORMS}") from error
    backend = url.get_backend_name()
    if backend == "sqlite":
        return url.set(drivername="sqlite", database=url.database or ":memory:")
    if backend in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+asyncpg")
    raise StoreError(f"cannot use a {backend} database; give {_FORMS}")


def has_password(database: str) -> bool:
    """Whether a database, which is given as `:memory:`, as a path or as a URL, has a password in it."""
    url = database_url(database)
    return url.password is not None or bool(url.query)


def name_of(url: URL) -> str:
    """Return what people call a database: the path of a file, or a URL without user, password and query."""
    if url.get_backend_name() == "sqlite":
        return url.database or ":memory:"
    host = (url.host or "").rpartition("@")[2]  # a password's `@` that was not encoded ends up here
    return URL.create("postgresql", host=host, port=url.port, database=url.database).render_as_string()


def driver_error(error: BaseException) -> BaseException:
    """What the driver said, without SQLAlchemy's words around it and without the statement."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


_FORMS = "a path, `:memory:`, sqlite:///PATH or postgresql://USER@HOST/NAME"


def check_tables(connection: Connection, name: str) -> None:
    """Let a database pass whose tables are those of this server.

    Raises:
        StoreError: it has none, or those of another program or of another revision.
    """
    found = names_of_tables(connection)
    if not found:
        raise StoreError(f"the database {name} is empty; make its tables with: video-calls-server migrate")
    check_own(name, found)
    revision = connection.scalar(revisions.select())
    check_not_newer(name, revision)
    if revision != REVISION:
        raise StoreError(
            f"the database {name} has tables of revision {revision or 'none'}, "
            f"and this server needs {REVISION}; bring it up to date with: video-calls-server migrate"
        )
    if missing := set(metadata.tables) - found:
        raise StoreError(f"the database {name} lacks the tables {', '.join(sorted(missing))}")


def check_not_newer(name: str, revision: str | None) -> None:
    """Let a database pass that no newer server has made or changed.

    Raises:
        StoreError: one has.
    """
    if revision is not None and revision > REVISION:
        raise StoreError(
            f"the database {name} has tables of revision {revision}, and this server knows {REVISION}; "
            "use the newer server that made them"
        )


def check_writable(connection: Connection) -> None:
    """Fail as a change would, and change nothing: a database that may only be read opens all the same."""
    connection.execute(revisions.update().where(false()).values(version_num=REVISION))


def names_of_tables(connection: Connection) -> set[str]:
    """The tables that a database has, of whichever program."""
    return set(inspect(connection).get_table_names()) - {"sqlite_sequence"}


def check_own(name: str, found: set[str]) -> None:
    """Let a database pass that has no tables of another program; Alembic's own may be that of any.

    Raises:
        StoreError: it has.
    """
    others = found - {revisions.name}
    if others and not (revisions.name in found and calls.name in found):
        raise StoreError(
            f"the database {name} holds other tables ({', '.join(sorted(others)[:5])}); "
            "give one of this server's own"
        )


def add_seed(connection: Connection, seed: Seed) -> None:
    """Add the people of a seed, where there is nobody yet."""
    if not people.all_people(connection):
        for user, doctor, patient in seed.people:
            people.add_person(connection, user, doctor, patient)
