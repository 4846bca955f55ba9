"""Changes of the tables, a file each in `versions`; Alembic applies them: `video-calls-server migrate`."""
