"""Queries for the rate limit. See `calls` for what these functions have in common."""

from sqlalchemy import Connection, bindparam, case, insert, update

from video_calls_server.domain.people import Actor
from video_calls_server.store.schema import request_windows
from video_calls_server.store.statement import Statement

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
