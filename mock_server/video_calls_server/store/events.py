"""The outbox: the queries about events. See `calls` for what these functions have in common.

The transaction that changes a call also inserts its events. Events that are older than the retention are
deleted. The outbox stores the id of the last deleted event, so that a reader can detect a gap.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, Text, bindparam, delete, func, insert, literal_column, select

from video_calls_server.domain.events import EventType
from video_calls_server.store.schema import event_recipients, events, forgotten_events
from video_calls_server.store.statement import Statement
from video_calls_server.store.times import to_microseconds, to_time

CHANNEL = "video_calls_events"
"""The channel on which PostgreSQL notifies other processes. The payload is the ids of the users."""

_OUTBOX_LOCK = 0x76636576  # any number that no other advisory lock uses


class StoredEvent(NamedTuple):
    """A stored event. `data` is JSON."""

    id: int
    type: EventType
    created_at: datetime
    data: str


_ADD = Statement(
    insert(events)
    .values(type=bindparam("type"), created_at=bindparam("created_at"), data=bindparam("data"))
    .returning(events.c.id)
)
_ADD_RECIPIENTS = Statement(
    insert(event_recipients).values(
        [{"user_id": bindparam(user), "event_id": bindparam("event_id")} for user in ("one", "other")]
    )
)


def add_event(
    connection: Connection, event_type: EventType, data: str, *, to: tuple[int, int], now: datetime
) -> None:
    """Store an event for these users."""
    rows = _ADD.rows(connection, type=event_type, created_at=to_microseconds(now), data=data)
    one, other = to
    _ADD_RECIPIENTS.run(connection, one=one, other=other, event_id=rows[0][0])


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
    """Return the user's next events after this event id, in order, at most `most`."""
    return [
        StoredEvent(row[0], row[1], to_time(row[2]), row[3])
        for row in _AFTER.rows(connection, user_id=user_id, after=after, most=most)
    ]


_LAST = Statement(select(func.max(events.c.id)))
_LAST_DELETED = Statement(select(func.max(forgotten_events.c.last_id)))


def last_deleted_id(connection: Connection) -> int:
    """Return the id of the last deleted event, or 0 if no event was deleted."""
    row = _LAST_DELETED.row(connection)
    return 0 if row is None or row[0] is None else int(row[0])


def last_event_id(connection: Connection) -> int:
    """Return the id of the newest event, or 0 if there was none yet."""
    row = _LAST.row(connection)
    return last_deleted_id(connection) if row is None or row[0] is None else int(row[0])


def lock_outbox(connection: Connection, user_ids: tuple[int, int]) -> None:
    """Lock the outbox until the transaction ends, and notify other processes when it commits.

    Call this before `add_event`. A reader continues after the last id that it read, so it would miss an event
    that is committed after one with a higher id. The lock lets one transaction at a time add events, so their
    ids have the order of the commits. SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        _LOCK_OUTBOX.row(connection, lock=_OUTBOX_LOCK, channel=CHANNEL, users=",".join(map(str, user_ids)))


_LOCK_OUTBOX = Statement(
    select(
        func.pg_advisory_xact_lock(bindparam("lock", type_=BigInteger)),
        func.pg_notify(bindparam("channel", type_=Text), bindparam("users", type_=Text)),
    )
)
_DELETE_BATCH = 1000
"""How many events one transaction deletes at most, so that no request has to delete those of a week."""

# Order by the time, because it has an index. With an order by id, the database would read every event.
_old = (
    select(events.c.id)
    .where(events.c.created_at <= bindparam("oldest"))
    .order_by(events.c.created_at)
    .limit(literal_column(str(_DELETE_BATCH)))
    .subquery()
)
_NEWEST_OLD = Statement(select(func.max(_old.c.id)))
_DELETE_RECIPIENTS = Statement(
    delete(event_recipients).where(event_recipients.c.event_id <= bindparam("last"))
)
_DELETE = Statement(delete(events).where(events.c.id <= bindparam("last")))
_CLEAR_LAST_DELETED = Statement(delete(forgotten_events))
_SET_LAST_DELETED = Statement(insert(forgotten_events).values(last_id=bindparam("last")))


def delete_old_events(connection: Connection, *, oldest: datetime) -> None:
    """Delete the oldest events up to `oldest`, at most `_DELETE_BATCH`, and all events with lower ids."""
    row = _NEWEST_OLD.row(connection, oldest=to_microseconds(oldest))
    if row is None or row[0] is None:
        return
    for statement in (_DELETE_RECIPIENTS, _DELETE):
        statement.run(connection, last=row[0])
    _CLEAR_LAST_DELETED.run(connection)
    _SET_LAST_DELETED.run(connection, last=row[0])
