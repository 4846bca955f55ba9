"""Create the tables of a database, or change them to the revision of this server."""

from pathlib import Path

from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL

from video_calls_server.store.database import (
    REVISION,
    check_no_other_tables,
    check_not_newer,
    create_tables,
    driver_error,
    table_names,
)
from video_calls_server.store.errors import StoreError
from video_calls_server.store.factory import not_installed
from video_calls_server.store.pool import PoolLimits
from video_calls_server.store.schema import revisions
from video_calls_server.store.sqlite import FAILURES, begin_immediate, disable_implicit_begin, make_private

Change = tuple[str | None, str]
"""The revision before, or None, and the revision after."""

_SCRIPTS = Path(__file__).with_name("migrations")
_MIGRATION_LOCK = 0x76636D67  # any number that no other advisory lock uses


async def migrate(url: URL, name: str) -> Change:
    """Change the tables to the revision of this server. Return the revisions before and after.

    Raises:
        StoreError: if the database cannot be changed, or belongs to another program or a newer server.
    """
    try:
        if url.get_backend_name() == "sqlite":
            return _in_file(url, name)
        return await _in_postgres(url, name)
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    except CommandError as error:  # Alembic does not know the revision
        raise StoreError(f"cannot change the database {name}: {error}") from error


def _in_file(url: URL, name: str) -> Change:
    make_private(url)
    engine = create_engine(url)
    event.listen(engine, "connect", disable_implicit_begin)
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

    engine = postgres.engine_of(url, timeout=PoolLimits().connect_timeout)
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

    if connection.dialect.name == "postgresql":  # another process may migrate at the same time
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
    names = table_names(connection)
    check_no_other_tables(name, names)
    before = MigrationContext.configure(connection).get_current_revision()
    if before is None:
        if others := names - {revisions.name}:
            tables = ", ".join(sorted(others)[:5])
            raise StoreError(f"the database {name} has tables, but no revision: {tables}")
        create_tables(connection)
        return None, REVISION
    check_not_newer(name, before)
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before, REVISION
