"""Create the store of a configured database."""

import anyio

from video_calls_server.store.database import Store, database_url
from video_calls_server.store.errors import StoreError
from video_calls_server.store.pool import PoolLimits
from video_calls_server.store.seed import Seed
from video_calls_server.store.sqlite import SqliteStore


def store_for(database: str, seed: Seed, pool: PoolLimits = PoolLimits()) -> Store:  # noqa: B008 (it is immutable)
    """Return the store of a database. `database` is `:memory:`, a path or a URL.

    Raises:
        StoreError: if this server cannot use the database, or a package that it needs is not installed.
    """
    url = database_url(database)
    if url.get_backend_name() == "sqlite":
        return SqliteStore(url, seed)
    try:
        from video_calls_server.store.postgres import PostgresStore
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    return PostgresStore(url, seed, pool)


def not_installed(error: ModuleNotFoundError) -> StoreError:
    """Return the error for a missing package that PostgreSQL needs."""
    return StoreError(
        f"{error.name} is not installed; install what PostgreSQL needs with: "
        'pip install "video-calls[server,postgres]"'
    )


async def existing_people(database: str, seed: Seed) -> Seed:
    """Return the users of a database, or the users of the seed if the database's file does not exist.

    Raises:
        StoreError: if the database cannot be opened.
    """
    store = store_for(database, seed)
    path = store.url.database
    if isinstance(store, SqliteStore) and not await anyio.Path(path or ":memory:").exists():
        return seed
    await store.open()
    try:
        return await store.people()
    finally:
        await store.close()
