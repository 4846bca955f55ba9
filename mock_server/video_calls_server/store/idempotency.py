"""Queries about idempotency keys. See `calls` for what these functions have in common."""

from datetime import datetime

from sqlalchemy import BigInteger, Connection, Text, bindparam, delete, func, insert, select

from video_calls_server.domain.calls import Call
from video_calls_server.domain.people import Actor
from video_calls_server.store.calls import call
from video_calls_server.store.schema import idempotency_keys
from video_calls_server.store.statement import Statement
from video_calls_server.store.times import to_microseconds

_CALL_OF_KEY = Statement(
    select(idempotency_keys.c.call_id).where(
        idempotency_keys.c.user_id == bindparam("user_id"),
        idempotency_keys.c.key == bindparam("key"),
        idempotency_keys.c.created_at > bindparam("oldest"),
    )
)
_DELETE_OLD_KEYS = Statement(
    delete(idempotency_keys).where(idempotency_keys.c.created_at <= bindparam("oldest"))
)
_ADD_KEY = Statement(insert(idempotency_keys))
_LOCK_KEY = Statement(
    select(
        func.pg_advisory_xact_lock(
            func.hashtextextended(bindparam("key", type_=Text), bindparam("user_id", type_=BigInteger))
        )
    )
)


def call_of_key(connection: Connection, actor: Actor, key: str, *, oldest: datetime) -> Call | None:
    """Lock the key. Return the call that the actor created with the key after `oldest`, or None."""
    if connection.dialect.name == "postgresql":  # a concurrent request with the same key waits
        _LOCK_KEY.row(connection, key=key, user_id=actor.user_id)
    row = _CALL_OF_KEY.row(connection, user_id=actor.user_id, key=key, oldest=to_microseconds(oldest))
    return None if row is None else call(connection, row[0])


def add_key(
    connection: Connection, actor: Actor, key: str, call: Call, *, now: datetime, oldest: datetime
) -> None:
    """Store the key of a call, and delete keys that are as old as `oldest`."""
    _DELETE_OLD_KEYS.run(connection, oldest=to_microseconds(oldest))
    _ADD_KEY.run(connection, user_id=actor.user_id, key=key, call_id=call.id, created_at=to_microseconds(now))
