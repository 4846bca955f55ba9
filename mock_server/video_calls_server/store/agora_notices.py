"""The notices of Agora's that were taken in: each once, and of one participant in their order.

As `calls`: one statement and one function for each thing that is asked.
"""

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from video_calls_server.store.calls import to_microseconds
from video_calls_server.store.schema import agora_notices
from video_calls_server.store.statement import Statement

_SEQUENCE_DIGITS = 20

_KNOWN = Statement(
    select(agora_notices.c.notice_id).where(agora_notices.c.notice_id == bindparam("notice_id"))
)


def ordered_text(sequence: int | None) -> str | None:
    """A sequence number as the table holds it: texts of one length are ordered as numbers are."""
    return None if sequence is None else f"{sequence:0{_SEQUENCE_DIGITS}d}"


def knows_notice(connection: Connection, notice_id: str) -> bool:
    """Whether the notice was taken in before."""
    return _KNOWN.row(connection, notice_id=notice_id) is not None


_NEWEST = Statement(
    select(func.max(agora_notices.c.client_seq)).where(
        agora_notices.c.call_id == bindparam("call_id"), agora_notices.c.uid == bindparam("uid")
    )
)


def newest_sequence(connection: Connection, call_id: int, uid: int) -> int | None:
    """The largest `clientSeq` of the uid's notices of a call, None where none had one."""
    row = _NEWEST.row(connection, call_id=call_id, uid=uid)
    return None if row is None or row[0] is None else int(row[0])


_FORGET = Statement(delete(agora_notices).where(agora_notices.c.received_at <= bindparam("oldest")))
_ADD = Statement(
    insert(agora_notices).values(
        notice_id=bindparam("notice_id"),
        call_id=bindparam("call_id"),
        uid=bindparam("uid"),
        client_seq=bindparam("client_seq"),
        received_at=bindparam("received_at"),
    )
)


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
    """Remember a notice, and forget those as old as `oldest`."""
    _FORGET.run(connection, oldest=to_microseconds(oldest))
    _ADD.run(
        connection,
        notice_id=notice_id,
        call_id=call_id,
        uid=uid,
        client_seq=ordered_text(client_seq),
        received_at=to_microseconds(now),
    )
