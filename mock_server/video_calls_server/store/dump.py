"""Copy all rows of a database into a value, and restore them. It knows the tables, not their meaning."""

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
"""All tables. A table comes after the tables that its rows refer to."""

_SELECT = {table.name: Statement(select(table).order_by(*table.primary_key)) for table in TABLES}
_DELETE = {table.name: Statement(delete(table)) for table in TABLES}
_INSERT = {table.name: Statement(insert(table)) for table in TABLES}


@dataclass(frozen=True, slots=True)
class Dump:
    """The rows of each table by its name. The values of a row have the order of the columns.

    `counters` holds the last assigned id of a table, which may be larger than all ids of its rows. If a table
    is not in `counters`, its ids continue after its largest id.
    """

    rows: Mapping[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    counters: Mapping[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def from_rows(
        cls, rows: Mapping[Table, Iterable[Mapping[str, Any]]], *, counters: Mapping[str, int]
    ) -> "Dump":
        """Return a dump of rows that map the names of columns to values. Their foreign keys must be valid."""
        return cls(
            {
                table.name: [tuple(row[column.name] for column in table.columns) for row in of_table]
                for table, of_table in rows.items()
            },
            counters,
        )

    def of(self, table: Table) -> list[dict[str, Any]]:
        """Return the rows of a table, each as a mapping of the names of columns to values."""
        names = table.columns.keys()
        return [dict(zip(names, row, strict=True)) for row in self.rows.get(table.name, [])]


def dump(connection: Connection) -> Dump:
    """Return all rows of the database, as they are at one time. Run this with `Store.write`."""
    if connection.dialect.name == "postgresql":  # otherwise each table would be read at another time
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    rows = {table.name: _SELECT[table.name].rows(connection) for table in TABLES}
    return Dump(rows, _counters(connection))


async def restore(store: Store, dump: Dump) -> None:
    """Replace all rows of the database by those of a dump.

    Raises:
        UnavailableError: if the database did not respond. Then the database is unchanged.
    """
    await store.write(lambda connection: _replace(connection, dump))


def _replace(connection: Connection, dump: Dump) -> None:
    if connection.dialect.name == "postgresql":  # no other process may add a row now
        names = ", ".join(table.name for table in TABLES)
        connection.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
    for table in reversed(TABLES):
        _DELETE[table.name].run(connection)
    for table in TABLES:
        rows = dump.rows.get(table.name, [])
        _INSERT[table.name].run_many(connection, _for_dialect(connection, table, rows))
    _set_counters(connection, dump.counters)


def _for_dialect(connection: Connection, table: Table, rows: list[Row]) -> list[Row]:
    """Return the rows as the database needs them: PostgreSQL needs booleans, and SQLite stores integers."""
    booleans = {index for index, each in enumerate(table.columns) if isinstance(each.type, Boolean)}
    if not booleans or connection.dialect.name == "sqlite":
        return rows
    return [
        tuple(bool(value) if index in booleans else value for index, value in enumerate(row)) for row in rows
    ]


# -- The last assigned ids ---------------------------------------------------------------------------
# SQLite stores them in a table of its own, for tables with AUTOINCREMENT. PostgreSQL has sequences.

_NUMBERED = (schema.calls, schema.events)


def _counters(connection: Connection) -> dict[str, int]:
    if connection.dialect.name == "sqlite":
        cursor = connection.connection.cursor()
        cursor.execute("SELECT name, seq FROM sqlite_sequence")
        return dict(cursor.fetchall())
    counters: dict[str, int] = {}
    for each in _NUMBERED:
        sequence = named_table(_sequence(each), column("last_value"), column("is_called"))
        last, is_called = connection.execute(select(sequence)).one()
        if is_called:
            counters[each.name] = last
    return counters


def _set_counters(connection: Connection, counters: Mapping[str, int]) -> None:
    if connection.dialect.name == "sqlite":
        # The deletes and inserts of `_replace` have left other values in this table.
        connection.exec_driver_sql("DELETE FROM sqlite_sequence")
        for name, last in counters.items():
            connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, last))
        return
    for each in _NUMBERED:
        last = counters.get(each.name, 0)
        connection.execute(select(func.setval(_sequence(each), max(last, 1), last > 0)))


def _sequence(numbered: Table) -> str:
    return f"{numbered.name}_id_seq"
