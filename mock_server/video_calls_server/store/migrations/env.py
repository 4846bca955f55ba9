"""The entry point of Alembic. It migrates the database of the connection that `migrate` passes."""

from alembic import context

from video_calls_server.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,  # SQLite cannot change most properties of a table in place
)
with context.begin_transaction():
    context.run_migrations()
