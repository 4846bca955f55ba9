"""Queries about Agora's notices. Stored notices let the server ignore a repeated or an outdated notice.

See `calls` for what these functions have in common.
"""

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from video_calls_server.store.schema import agora_notices
from video_calls_server.store.statement import Statement
from video_calls_server.store.times import to_microseconds

_STORED = Statement(
    select(agora_notices.c.notice_id).where(agora_notices.c.notice_id == bindparam("notice_id"))
)


def ordered_text(sequence: int | None) -> str | None:
    """Return a sequence number as the table stores it: a text of 20 digits, which sorts like the number.

    An unsigned 64-bit number does not fit the integers of the databases.
    """
    return None if sequence is None else f"{sequence:020d}"


def has_notice(connection: Connection, notice_id: str) -> bool:
    """Return whether the notice was stored before."""
    return _STORED.row(connection, notice_id=notice_id) is not None


_NEWEST = Statement(
    select(func.max(agora_notices.c.client_seq)).where(
        agora_notices.c.call_id == bindparam("call_id"), agora_notices.c.uid == bindparam("uid")
    )
)


def newest_sequence(connection: Connection, call_id: int, uid: int) -> int | None:
    """Return the largest `clientSeq` of the uid's notices of a call, or None if no notice has one."""
    row = _NEWEST.row(connection, call_id=call_id, uid=uid)
    return None if row is None or row[0] is None else int(row[0])


_DELETE_OLD = Statement(delete(agora_notices).where(agora_notices.c.received_at <= bindparam("oldest")))
_ADD = Statement(insert(agora_notices))


def add_notice(
    connection: Connection,
    notice_id: str,
    *,
    call_id: int,
    uid: int,
    client_seq: int | None,
    now: datetime,
    oldest: datetime,
) -> None:
    """Store a notice, and delete notices that are as old as `oldest`."""
    _DELETE_OLD.run(connection, oldest=to_microseconds(oldest))
    _ADD.run(
        connection,
        notice_id=notice_id,
        call_id=call_id,
        uid=uid,
        client_seq=ordered_text(client_seq),
        received_at=to_microseconds(now),
    )
