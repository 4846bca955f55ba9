"""The tables. A time is stored as whole microseconds since 1970 in UTC, which is exact on both databases."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint

from video_calls_server.domain.calls import MIN_DISTANCE
from video_calls_server.store.times import MICROSECOND

metadata = MetaData()

# In SQLite, only an INTEGER primary key is the row id itself. Any other primary key needs a separate index.
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

users = Table(
    "users",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=False),
    Column("email", Text, nullable=False, unique=True),
    Column("full_name", Text, nullable=False),
    Column("is_active", Boolean, nullable=False),
)
Index("ix_users_email_in_any_case", func.lower(users.c.email))

doctors = Table(
    "doctors",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=False),
    Column("user_id", BigInteger, ForeignKey("users.id"), nullable=False, unique=True),
    Column("specialization", Text),
)

patients = Table(
    "patients",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=False),
    Column("user_id", BigInteger, ForeignKey("users.id"), nullable=False, unique=True),
)

calls = Table(
    "calls",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("channel_name", Text, nullable=False, unique=True),
    Column("doctor_id", BigInteger, ForeignKey("doctors.id"), nullable=False),
    Column("patient_id", BigInteger, ForeignKey("patients.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("scheduled_time", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("doctor_present", Boolean, nullable=False),
    Column("patient_present", Boolean, nullable=False),
    Column("doctor_absent_since", BigInteger),
    Column("patient_absent_since", BigInteger),
    CheckConstraint("status IN ('scheduled', 'ongoing', 'completed', 'cancelled')", name="calls_status"),
    # The id of a deleted call is not assigned again.
    sqlite_autoincrement=True,
)

# PostgreSQL also enforces `create.no-overlap`, because several processes book at once: two open calls of one
# doctor, or of one patient, start at least `MIN_DISTANCE` apart. SQLite has one writer at a time.
_OPEN = text("status IN ('scheduled', 'ongoing')")
_SLOT = func.int8range(calls.c.scheduled_time, calls.c.scheduled_time + MIN_DISTANCE // MICROSECOND)
for _role, _of_role in (("doctor", calls.c.doctor_id), ("patient", calls.c.patient_id)):
    calls.append_constraint(
        ExcludeConstraint(
            (func.int8range(_of_role, _of_role, text("'[]'")), "&&"),
            (_SLOT, "&&"),
            where=_OPEN,
            using="gist",
            name=f"calls_of_{_role}_apart",
        ).ddl_if(dialect="postgresql")
    )

# Calls are read by participant and time: a page newest first, or the neighbours of a time. The control API
# reads the newest calls of all users.
Index("calls_of_doctor", calls.c.doctor_id, calls.c.scheduled_time, calls.c.id)
Index("calls_of_patient", calls.c.patient_id, calls.c.scheduled_time, calls.c.id)
Index("calls_by_time", calls.c.scheduled_time, calls.c.id)

_both_absent = calls.c.doctor_absent_since.is_not(None) & calls.c.patient_absent_since.is_not(None)
Index("calls_left_by_both", calls.c.id, sqlite_where=_both_absent, postgresql_where=_both_absent)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", BigInteger, ForeignKey("users.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("call_id", BigInteger, ForeignKey("calls.id"), nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),
)

events = Table(
    "events",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("type", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("data", Text, nullable=False),  # JSON, see `events.payload`
    # The id of a deleted event is not assigned again.
    sqlite_autoincrement=True,
)

event_recipients = Table(
    "event_recipients",
    metadata,
    Column("user_id", BigInteger, ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column(
        "event_id",
        BigInteger,
        ForeignKey("events.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
        index=True,
    ),
    sqlite_with_rowid=False,
)

forgotten_events = Table(
    "forgotten_events",
    metadata,
    Column("last_id", BigInteger, primary_key=True, autoincrement=False),
)

agora_notices = Table(
    "agora_notices",
    metadata,
    Column("notice_id", Text, primary_key=True),
    Column("call_id", BigInteger, ForeignKey("calls.id"), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("client_seq", Text),  # see `agora_notices.ordered_text`
    Column("received_at", BigInteger, nullable=False, index=True),
)
Index("agora_notices_of_uid", agora_notices.c.call_id, agora_notices.c.uid, agora_notices.c.client_seq)

request_windows = Table(
    "request_windows",
    metadata,
    Column("user_id", BigInteger, ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column("window_start", BigInteger, nullable=False),
    Column("requests", Integer, nullable=False),
)

revisions = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))
"""The revision of these tables. The name is the one that Alembic uses."""
