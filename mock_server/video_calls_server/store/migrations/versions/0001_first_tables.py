"""The first tables. Every new database gets its tables from `schema`, so this revision has no changes."""

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
