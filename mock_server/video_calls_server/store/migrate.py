"""Bringing a database up to date: its tables made, or changed to those of this server."""

from pathlib import Path

from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from video_calls_server.store.database import REVISION, StoreError

_SCRIPTS = Path(__file__).with_name("migrations")


async def migrate(url: URL, name: str) -> tuple[str | None, str]:
    """Change the tables to those of this server; the revisions before and after.

    Raises:
        StoreError: the database cannot be had, or is that of another program or of a newer server.
    """
    try:
        if url.get_backend_name() == "sqlite":
            engine = create_engine(url)
            try:
                with engine.begin() as connection:
                    return _upgrade(connection, name)
            finally:
                engine.dispose()
        from sqlalchemy.ext.asyncio import create_async_engine

        async_engine = create_async_engine(url)
        try:
            async with async_engine.begin() as async_connection:
                return await async_connection.run_sync(_upgrade, name)
        finally:
            await async_engine.dispose()
    except (DBAPIError, OSError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise StoreError(f"cannot change the database {name}: {reason}") from error


def _upgrade(connection: Connection, name: str) -> tuple[str | None, str]:
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import inspect

    before = MigrationContext.configure(connection).get_current_revision()
    if before is not None and before > REVISION:
        raise StoreError(
            f"the database {name} is of revision {before}, and this server knows {REVISION} only"
        )
    tables = set(inspect(connection).get_table_names()) - {"sqlite_sequence"}
    if before is None and tables:
        raise StoreError(
            f"the database {name} holds other tables ({', '.join(sorted(tables)[:5])}); "
            "give one of this server's own"
        )
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before, REVISION
