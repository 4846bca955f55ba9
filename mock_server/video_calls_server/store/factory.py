"""Which store a configured database has."""

import anyio

from video_calls_server.store.database import Store, database_url
from video_calls_server.store.errors import StoreError
from video_calls_server.store.pool import Pool
from video_calls_server.store.seed import Seed
from video_calls_server.store.sqlite import SqliteStore


def store_for(database: str, seed: Seed, pool: Pool = Pool()) -> Store:  # noqa: B008 (it is immutable)
    """The store of a database that is given as `:memory:`, as a path or as a URL.

    Raises:
        StoreError: it is nothing that this server can use, or what that needs is not installed.
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
    """What to do where something that PostgreSQL needs is not there."""
    return StoreError(
        f"{error.name} is not installed; install what PostgreSQL needs with: "
        'pip install "video-calls[server,postgres]"'
    )


async def existing_people(database: str, seed: Seed) -> Seed:
    """The people of a database, or those of the seed where it is a file that is not there yet.

    Raises:
        StoreError: it cannot be read.
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
