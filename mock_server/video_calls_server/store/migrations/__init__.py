"""Migrations, one file each in `versions`. `video-calls-server migrate` applies them with Alembic."""
