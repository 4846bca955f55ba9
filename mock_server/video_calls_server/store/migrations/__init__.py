"""The changes of tables since the first revision, one file each in `versions`.

`video-calls-server migrate` applies them with Alembic to a database of an older revision. A new database gets
the tables of `schema` at once.
"""
