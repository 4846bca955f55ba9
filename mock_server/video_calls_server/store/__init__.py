"""The database of the server. It is written once, in SQLAlchemy Core, for SQLite and PostgreSQL.

`schema` has the tables. `calls`, `people`, `idempotency`, `rate_limit`, `events` and `agora_notices` have the
queries, as functions that take a connection. `database` has the interface of a store, and `sqlite` and
`postgres` implement it. This package decides no rule, except that PostgreSQL also refuses overlaps.
"""

from video_calls_server.store.database import Store
from video_calls_server.store.errors import OverlapError, StoreError, UnavailableError
from video_calls_server.store.factory import store_for

__all__ = ["OverlapError", "Store", "StoreError", "UnavailableError", "store_for"]
