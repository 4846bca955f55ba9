"""Where people and calls are kept. Written once, in SQLAlchemy Core, for every database.

`schema` holds the tables; `people`, `calls`, `idempotency`, `events` and `agora_notices` what is asked of
them (plain functions on a connection); `database` what a store is, `sqlite` and `postgres` the two that there
are. No rule is decided here.
"""

from video_calls_server.store.database import Store
from video_calls_server.store.errors import OverlapError, StoreError, UnavailableError
from video_calls_server.store.factory import store_for

__all__ = ["OverlapError", "Store", "StoreError", "UnavailableError", "store_for"]
