"""Bringing a database up to date: its tables made, or changed to those of this server."""

from pathlib import Path

from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL

from video_calls_server.store.database import (
    REVISION,
    check_not_newer,
    check_own,
    driver_error,
    names_of_tables,
)
from video_calls_server.store.errors import StoreError
from video_calls_server.store.factory import not_installed
from video_calls_server.store.pool import Pool
from video_calls_server.store.sqlite import FAILURES, begin_immediate, begin_where_told, make_private

Change = tuple[str | None, str]
"""The revisions before and after."""

_SCRIPTS = Path(__file__).with_name("migrations")
_MIGRATING = 0x76636D67  # any number that nobody else locks by


async def migrate(url: URL, name: str) -> Change:
    """Change the tables to those of this server; the revisions before and after.

    Raises:
        StoreError: the database cannot be had, or is that of another program or of a newer server.
    """
    try:
        if url.get_backend_name() == "sqlite":
            return _in_file(url, name)
        return await _in_postgres(url, name)
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    except CommandError as error:  # which is what Alembic says of revisions that it does not know
        raise StoreError(f"cannot change the database {name}: {error}") from error


def _in_file(url: URL, name: str) -> Change:
    make_private(url)
    engine = create_engine(url)
    event.listen(engine, "connect", begin_where_told)
    event.listen(engine, "begin", begin_immediate)
    try:
        with engine.begin() as connection:
            return _upgrade(connection, name)
    except FAILURES as error:
        raise StoreError(f"cannot change the database {name}: {driver_error(error)}") from error
    finally:
        engine.dispose()


async def _in_postgres(url: URL, name: str) -> Change:
    from video_calls_server.store import postgres

    engine = postgres.engine_of(url, timeout=Pool().wait)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(_upgrade, name)
    except postgres.FAILURES as error:
        raise StoreError(f"cannot change the database {name}: {postgres.reason_of(error)}") from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, name: str) -> Change:
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext

    if connection.dialect.name == "postgresql":  # another process may be about to do the same
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
    check_own(name, names_of_tables(connection))
    before = MigrationContext.configure(connection).get_current_revision()
    check_not_newer(name, before)
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before, REVISION
