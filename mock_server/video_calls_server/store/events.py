"""The outbox: events are kept in the transaction of the change that they tell of, and read in their order.

As `calls`: one statement and one function for each thing that is asked. An event that is older than the
retention is forgotten, and the id of the last one forgotten is known, so that a gap is never taken for quiet.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, Text, bindparam, delete, func, insert, literal_column, select

from video_calls_server.domain.events import EventType
from video_calls_server.store.calls import time_of, to_microseconds
from video_calls_server.store.schema import event_recipients, events, forgotten_events
from video_calls_server.store.statement import Row, Statement

CHANNEL = "video_calls_events"
"""The channel of PostgreSQL's notifications that tells other processes whose events to look for."""

_TURN = 0x76636576  # any number that nobody else locks by


class StoredEvent(NamedTuple):
    """An event as it is kept; `data` is JSON."""

    id: int
    type: EventType
    created_at: datetime
    data: str


_ADD = Statement(
    insert(events)
    .values(type=bindparam("type"), created_at=bindparam("created_at"), data=bindparam("data"))
    .returning(events.c.id)
)
_ADDRESS = Statement(
    insert(event_recipients).values(
        [{"user_id": bindparam(user), "event_id": bindparam("event_id")} for user in ("one", "other")]
    )
)


def add_event(
    connection: Connection, event_type: EventType, data: str, *, to: tuple[int, int], now: datetime
) -> None:
    """Keep an event for these users."""
    added = _ADD.rows(connection, type=event_type, created_at=to_microseconds(now), data=data)
    one, other = to
    _ADDRESS.run(connection, one=one, other=other, event_id=added[0][0])


_AFTER = Statement(
    select(events.c.id, events.c.type, events.c.created_at, events.c.data)
    .join_from(event_recipients, events, events.c.id == event_recipients.c.event_id)
    .where(
        event_recipients.c.user_id == bindparam("user_id"), event_recipients.c.event_id > bindparam("after")
    )
    .order_by(event_recipients.c.event_id)
    .limit(bindparam("most"))
)


def events_after(connection: Connection, user_id: int, after: int, *, most: int) -> list[StoredEvent]:
    """The user's next events after this id, in order."""
    return [_stored(row) for row in _AFTER.rows(connection, user_id=user_id, after=after, most=most)]


_LAST = Statement(select(func.max(events.c.id)))
_FORGOTTEN = Statement(select(func.max(forgotten_events.c.last_id)))


def forgotten_through(connection: Connection) -> int:
    """The id of the last event that is no longer kept, 0 where all are."""
    row = _FORGOTTEN.row(connection)
    return 0 if row is None or row[0] is None else int(row[0])


def last_event_id(connection: Connection) -> int:
    """The id of the newest event, 0 where nothing has happened yet."""
    row = _LAST.row(connection)
    return forgotten_through(connection) if row is None or row[0] is None else int(row[0])


def take_turn(connection: Connection, user_ids: tuple[int, int]) -> None:
    """Before events are added: have them numbered in the order in which they are committed, and told.

    A reader goes by ids, and would miss an event that is committed after one of a higher id. One transaction
    at a time therefore adds events, from here to its end; all else goes on beside it. SQLite has one writer
    anyway.
    """
    if connection.dialect.name == "postgresql":
        _TAKE_TURN.row(connection, turn=_TURN, channel=CHANNEL, users=",".join(map(str, user_ids)))


_TAKE_TURN = Statement(
    select(
        func.pg_advisory_xact_lock(bindparam("turn", type_=BigInteger)),
        func.pg_notify(bindparam("channel", type_=Text), bindparam("users", type_=Text)),
    )
)
_OLD_AT_ONCE = 1000
"""How many old events one change forgets: after a quiet week it is not one request that pays for all."""

# The oldest by their time, so that its index is used: by their ids, all that are kept would be looked at.
_old = (
    select(events.c.id)
    .where(events.c.created_at <= bindparam("oldest"))
    .order_by(events.c.created_at)
    .limit(literal_column(str(_OLD_AT_ONCE)))
    .subquery()
)
_NEWEST_OLD = Statement(select(func.max(_old.c.id)))
_FORGET_RECIPIENTS = Statement(
    delete(event_recipients).where(event_recipients.c.event_id <= bindparam("last"))
)
_FORGET = Statement(delete(events).where(events.c.id <= bindparam("last")))
_CLEAR_FORGOTTEN = Statement(delete(forgotten_events))
_NOTE_FORGOTTEN = Statement(insert(forgotten_events).values(last_id=bindparam("last")))


def forget_events(connection: Connection, *, oldest: datetime) -> None:
    """Forget events as old as `oldest`, and all before them; where they are many, some of them."""
    row = _NEWEST_OLD.row(connection, oldest=to_microseconds(oldest))
    if row is None or row[0] is None:
        return
    for statement in (_FORGET_RECIPIENTS, _FORGET):
        statement.run(connection, last=row[0])
    _CLEAR_FORGOTTEN.run(connection)
    _NOTE_FORGOTTEN.run(connection, last=row[0])


def _stored(row: Row) -> StoredEvent:
    return StoredEvent(row[0], row[1], time_of(row[2]), row[3])
