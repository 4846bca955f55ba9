"""Queries about requests: the call of an `Idempotency-Key`, and the count for the rate limit."""

from datetime import datetime

from sqlalchemy import BigInteger, Connection, Text, bindparam, case, delete, func, insert, select, update

from video_calls_server.domain.calls import Call
from video_calls_server.domain.people import Actor
from video_calls_server.store.calls import call, to_microseconds
from video_calls_server.store.schema import idempotency_keys, request_windows
from video_calls_server.store.statement import Statement

# -- Idempotency keys -------------------------------------------------------------------------------

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
_ADD_KEY = Statement(
    insert(idempotency_keys).values(
        user_id=bindparam("user_id"),
        key=bindparam("key"),
        call_id=bindparam("call_id"),
        created_at=bindparam("created_at"),
    )
)


_LOCK_KEY = Statement(
    select(
        func.pg_advisory_xact_lock(
            func.hashtextextended(bindparam("key", type_=Text), bindparam("user_id", type_=BigInteger))
        )
    )
)


def call_of_key(connection: Connection, actor: Actor, key: str, *, oldest: datetime) -> Call | None:
    """Lock the key. Return the call that the actor created with it after `oldest`, if any."""
    if connection.dialect.name == "postgresql":  # a concurrent request with the key waits for this one
        _LOCK_KEY.row(connection, key=key, user_id=actor.user_id)
    row = _CALL_OF_KEY.row(connection, user_id=actor.user_id, key=key, oldest=to_microseconds(oldest))
    return None if row is None else call(connection, row[0])


def add_key(
    connection: Connection, actor: Actor, key: str, call: Call, *, now: datetime, oldest: datetime
) -> None:
    """Store the key of a call, and delete keys that are as old as `oldest`."""
    _DELETE_OLD_KEYS.run(connection, oldest=to_microseconds(oldest))
    _ADD_KEY.run(connection, user_id=actor.user_id, key=key, call_id=call.id, created_at=to_microseconds(now))


# -- Rate limit -------------------------------------------------------------------------------------

_COUNT_REQUEST = Statement(
    update(request_windows)
    .where(request_windows.c.user_id == bindparam("of_user"))
    .values(
        requests=case(
            (request_windows.c.window_start == bindparam("window"), request_windows.c.requests + 1), else_=1
        ),
        window_start=bindparam("window"),
    )
    .returning(request_windows.c.requests)
)
_FIRST_REQUEST = Statement(
    insert(request_windows).values(user_id=bindparam("of_user"), window_start=bindparam("window"), requests=1)
)


def count_request(connection: Connection, actor: Actor, *, window: int) -> int:
    """Count a request. Return the number of the actor's requests in this window."""
    row = _COUNT_REQUEST.row(connection, of_user=actor.user_id, window=window)
    if row is not None:
        return int(row[0])
    _FIRST_REQUEST.run(connection, of_user=actor.user_id, window=window)
    return 1
