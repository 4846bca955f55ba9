"""All that the database holds, as one value that can be put back. It knows the tables, not what they mean."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Boolean, Connection, Table, column, delete, func, insert, select
from sqlalchemy import table as named_table

from video_calls_server.store import schema
from video_calls_server.store.database import Store
from video_calls_server.store.statement import Row, Statement

TABLES: tuple[Table, ...] = tuple(
    table for table in schema.metadata.sorted_tables if table is not schema.revisions
)
"""Every table, after those that its rows refer to."""

_SELECT = {table.name: Statement(select(table).order_by(*table.primary_key)) for table in TABLES}
_DELETE = {table.name: Statement(delete(table)) for table in TABLES}
_INSERT = {table.name: Statement(insert(table)) for table in TABLES}


@dataclass(frozen=True, slots=True)
class Dump:
    """The rows of each table, by its name, with values in the order of its columns.

    `counters` holds the last id that was given to a row of a table, where it may be larger than those of
    all rows; a table that is not in it goes on after its largest id.
    """

    rows: Mapping[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    counters: Mapping[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def made(
        cls, rows: Mapping[Table, Iterable[Mapping[str, Any]]], *, counters: Mapping[str, int]
    ) -> "Dump":
        """Of rows that are given by the names of their columns; they have to refer to each other rightly."""
        return cls(
            {
                table.name: [tuple(row[column.name] for column in table.columns) for row in of_table]
                for table, of_table in rows.items()
            },
            counters,
        )

    def of(self, table: Table) -> list[dict[str, Any]]:
        """The rows of a table, each by the names of its columns."""
        names = table.columns.keys()
        return [dict(zip(names, row, strict=True)) for row in self.rows.get(table.name, [])]


def dump(connection: Connection) -> Dump:
    """All that the database holds at one moment: as all that is done within a `Store.write`."""
    if connection.dialect.name == "postgresql":  # else each table would be as it is when its turn comes
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    rows = {table.name: _SELECT[table.name].rows(connection) for table in TABLES}
    return Dump(rows, _counters(connection))


async def restore(store: Store, dump: Dump) -> None:
    """Replace everything that the database holds by a dump.

    Raises:
        UnavailableError: the database did not answer, and is as it was.
    """
    await store.write(lambda connection: _replace(connection, dump))


def _replace(connection: Connection, dump: Dump) -> None:
    if connection.dialect.name == "postgresql":  # nobody adds a row between, which would refer to none
        names = ", ".join(table.name for table in TABLES)
        connection.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
    for table in reversed(TABLES):
        _DELETE[table.name].run(connection)
    for table in TABLES:
        rows = dump.rows.get(table.name, [])
        _INSERT[table.name].run_many(connection, _as_stored(connection, table, rows))
    _count_from(connection, dump.counters)


def _as_stored(connection: Connection, table: Table, rows: list[Row]) -> list[Row]:
    """Return rows with booleans for PostgreSQL; SQLite, from which they may come, has numbers for them."""
    booleans = {index for index, each in enumerate(table.columns) if isinstance(each.type, Boolean)}
    if not booleans or connection.dialect.name == "sqlite":
        return rows
    return [
        tuple(bool(value) if index in booleans else value for index, value in enumerate(row)) for row in rows
    ]


# -- The last ids that were given --------------------------------------------------------------------
# SQLite keeps them in a table of its own, for tables with AUTOINCREMENT; PostgreSQL in sequences.

_NUMBERED = (schema.calls, schema.events)


def _counters(connection: Connection) -> dict[str, int]:
    if connection.dialect.name == "sqlite":
        cursor = connection.connection.cursor()
        cursor.execute("SELECT name, seq FROM sqlite_sequence")
        return dict(cursor.fetchall())
    found: dict[str, int] = {}
    for each in _NUMBERED:
        sequence = named_table(_sequence(each), column("last_value"), column("is_called"))
        last, is_called = connection.execute(select(sequence)).one()
        if is_called:
            found[each.name] = last
    return found


def _count_from(connection: Connection, counters: Mapping[str, int]) -> None:
    if connection.dialect.name == "sqlite":
        # It has noted the largest id of each table as its rows came in, or an earlier one as they went.
        connection.exec_driver_sql("DELETE FROM sqlite_sequence")
        for name, last in counters.items():
            connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, last))
        return
    for each in _NUMBERED:
        last = counters.get(each.name, 0)
        connection.execute(select(func.setval(_sequence(each), max(last, 1), last > 0)))


def _sequence(numbered: Table) -> str:
    return f"{numbered.name}_id_seq"
