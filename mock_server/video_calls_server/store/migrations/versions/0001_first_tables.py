"""Create the first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "events",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_created_at", "events", ["created_at"])

    op.create_table(
        "forgotten_events",
        sa.Column("last_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("last_id"),
    )
    op.create_table(
        "users",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("full_name", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email"),
    )
    op.create_index("ix_users_email_in_any_case", "users", [sa.text("lower(email)")])
    op.create_table(
        "doctors",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("specialization", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_id"),
    )
    op.create_table(
        "event_recipients",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.PrimaryKeyConstraint("user_id", "event_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_event_recipients_event_id", "event_recipients", ["event_id"])

    op.create_table(
        "patients",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_id"),
    )
    op.create_table(
        "request_windows",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_table(
        "calls",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("channel_name", sa.Text(), nullable=False),
        sa.Column("doctor_id", sa.BigInteger(), nullable=False),
        sa.Column("patient_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("scheduled_time", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("doctor_present", sa.Boolean(), nullable=False),
        sa.Column("patient_present", sa.Boolean(), nullable=False),
        sa.Column("doctor_absent_since", sa.BigInteger(), nullable=True),
        sa.Column("patient_absent_since", sa.BigInteger(), nullable=True),
        *_overlap_constraints(),
        sa.CheckConstraint(
            "status IN ('scheduled', 'ongoing', 'completed', 'cancelled')", name="calls_status"
        ),
        sa.ForeignKeyConstraint(["doctor_id"], ["doctors.id"]),
        sa.ForeignKeyConstraint(["patient_id"], ["patients.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("channel_name"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "calls_left_by_both",
        "calls",
        ["id"],
        sqlite_where=sa.text("doctor_absent_since IS NOT NULL AND patient_absent_since IS NOT NULL"),
        postgresql_where=sa.text("doctor_absent_since IS NOT NULL AND patient_absent_since IS NOT NULL"),
    )
    op.create_index("calls_by_time", "calls", ["scheduled_time", "id"])
    op.create_index("calls_of_doctor", "calls", ["doctor_id", "scheduled_time", "id"])
    op.create_index("calls_of_patient", "calls", ["patient_id", "scheduled_time", "id"])

    op.create_table(
        "agora_notices",
        sa.Column("notice_id", sa.Text(), nullable=False),
        sa.Column("call_id", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("client_seq", sa.Text(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"]),
        sa.PrimaryKeyConstraint("notice_id"),
    )
    op.create_index("agora_notices_of_uid", "agora_notices", ["call_id", "uid", "client_seq"])
    op.create_index("ix_agora_notices_received_at", "agora_notices", ["received_at"])

    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("call_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"]),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.PrimaryKeyConstraint("user_id", "key"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def _overlap_constraints() -> list[sa.Constraint]:
    """Return the constraints that refuse overlaps. SQLite has no such constraint."""
    if op.get_bind().dialect.name != "postgresql":
        return []
    return [
        postgresql.ExcludeConstraint(
            (sa.text(f"int8range({role}_id, {role}_id, '[]')"), "&&"),
            (sa.text("int8range(scheduled_time, scheduled_time + 1800000000)"), "&&"),
            where=sa.text("status IN ('scheduled', 'ongoing')"),
            using="gist",
            name=f"calls_of_{role}_apart",
        )
        for role in ("doctor", "patient")
    ]
