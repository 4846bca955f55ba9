"""Changes of the tables, applied by Alembic with `video-calls-server migrate`; `versions` holds one file each."""
