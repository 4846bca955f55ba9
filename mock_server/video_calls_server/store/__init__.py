"""Where people and calls are kept. Written once, in SQLAlchemy Core, for every database.

`schema` holds the tables, `queries` what is asked of them (plain functions on a connection), `database`
how a connection is had. No rule is decided here.
"""

from video_calls_server.store.database import Store, StoreError

__all__ = ["Store", "StoreError"]
