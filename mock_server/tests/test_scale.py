"""The query plans of the databases: no statement of a request scans a table."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import asyncpg
import pytest
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg as postgresql_asyncpg
from video_calls_server.store import agora_notices, calls, events, idempotency, people, rate_limit
from video_calls_server.store.database import database_url
from video_calls_server.store.migrate import migrate
from video_calls_server.store.statement import Statement

from support.postgres import new_database

LARGE = (
    "calls",
    "events",
    "event_recipients",
    "users",
    "doctors",
    "patients",
    "idempotency_keys",
    "agora_notices",
)

CONTROL_ONLY = {"people._ALL_PEOPLE", "calls._COUNT_ALL"}
POSTGRESQL_ONLY = {"idempotency._LOCK_KEY", "events._LOCK_OUTBOX"}

NOW = 1_700_000_000_000_000
MINUTE = 60_000_000

# 2,000 doctors and 8,000 patients with 20,000 calls, at least half an hour apart; the last 200 are open.
ROWS = {
    "users": (10_000, "SELECT 1000 + n, 'user' || n || '@example.com', 'User ' || n, 1 = 1 {}"),
    "doctors": (2_000, "SELECT n, 1000 + n, 'Cardiology' {}"),
    "patients": (8_000, "SELECT n, 3000 + n {}"),
    "calls": (
        20_000,
        f"""SELECT n, 'call_' || n, 1 + n % 2000, 1 + n % 7999,
            CASE WHEN n > 19800 THEN 'scheduled' ELSE 'completed' END,
            {NOW} + (n - 19800) * {MINUTE}, NULL, NULL, {NOW}, {NOW}, 1 = 0, 1 = 0,
            CASE WHEN n % 1000 = 0 THEN {NOW} END, CASE WHEN n % 1000 = 0 THEN {NOW} END {{}}""",
    ),
    "events": (20_000, f"SELECT n, 'call.started', {NOW} + n, '{{{{}}}}' {{}}"),
    "event_recipients": (20_000, "SELECT 1001 + n % 10000, n {}"),
    "idempotency_keys": (20_000, f"SELECT 1001 + n % 2000, 'key' || n, n, {NOW} + n {{}}"),
    "agora_notices": (20_000, f"SELECT 'notice' || n, n, 1001, '' || (10000000 + n), {NOW} + n {{}}"),
    "request_windows": (10_000, f"SELECT 1000 + n, {NOW}, 1 {{}}"),
}

TEXTS = ("channel", "channel_name", "client_seq", "data", "email", "full_name", "key", "notice_id", "type")
TIMES = ("created_at", "received_at", "scheduled_time", "started_at", "updated_at", "window")
EMPTY = ("doctor_absent_since", "ended_at", "patient_absent_since", "specialization")

VALUES: dict[str, object] = {
    **dict.fromkeys(TEXTS, "7"),
    **dict.fromkeys(TIMES, NOW),
    **dict.fromkeys(EMPTY),
    **dict.fromkeys(("doctor_present", "is_active", "patient_present"), True),
    "after": 19_000,
    "earliest": NOW - 30 * MINUTE,
    "latest": NOW + 30 * MINUTE,
    "oldest": NOW + 2,
    "status": "ongoing",
    "users": "1007,1207",
}
"""The values of parameters; the others are the integer 7."""


STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in (people, calls, idempotency, rate_limit, events, agora_notices)
    for name, value in vars(module).items()
    if isinstance(value, Statement)
}
OF_REQUESTS = sorted(STATEMENTS.keys() - CONTROL_ONLY)


def compile_for(statement: Statement, dialect: Any) -> tuple[str, list[object]]:
    """Return the SQL for a database, and values for its parameters in their order."""
    clause = statement._clause.compile(dialect=dialect)
    constants = {name: value for name, value in clause.params.items() if value is not None}
    values = VALUES | constants
    return str(clause), [values.get(name, 7) for name in clause.positiontup or ()]  # type: ignore[attr-defined]


def test_statements_are_collected_from_modules() -> None:
    examples = {"calls._LOCK_CALL", "calls._PAGE_OF_BOTH", "calls._NEIGHBOURS", "events._NEWEST_OLD"}
    assert STATEMENTS.keys() >= examples | CONTROL_ONLY | POSTGRESQL_ONLY


# -- SQLite -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["new", "analyzed"])
def on_sqlite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = str(tmp_path_factory.mktemp("scale") / "calls.db")
    asyncio.run(migrate(database_url(path), path))
    with closing(sqlite3.connect(path)) as connection:
        for table, (many, select) in ROWS.items():
            numbers = f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT {many})"  # noqa: S608 (a number of ours)
            connection.execute(f"{numbers} INSERT INTO {table} {select.format('FROM s')}")
        if request.param == "analyzed":
            connection.execute("ANALYZE")
        yield connection


@pytest.mark.parametrize("name", sorted(set(OF_REQUESTS) - POSTGRESQL_ONLY))
def test_sqlite_scans_no_table(on_sqlite: sqlite3.Connection, name: str) -> None:
    sql, values = compile_for(STATEMENTS[name], sqlite.dialect())
    plan = [str(row[3]) for row in on_sqlite.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    large = "|".join((*LARGE, "doctor_user", "patient_user"))  # the last two are aliases of `users`
    scans = [step for step in plan if re.match(rf"SCAN ({large})\b", step)]
    if name == "calls._NEWEST_CALLS":  # stops reading the index at the limit
        assert ["calls_by_time" in step for step in scans] == [True], plan
    else:  # a partial index has only the few rows of the result
        assert [step for step in scans if "calls_left_by_both" not in step] == [], plan


# -- PostgreSQL -------------------------------------------------------------------------------------


async def _filled(url: str) -> None:
    await migrate(database_url(url), url)
    connection = await asyncpg.connect(url)
    try:
        for table, (many, select) in ROWS.items():
            numbers = f"FROM generate_series(1, CAST({many} AS bigint)) AS n"
            await connection.execute(f"INSERT INTO {table} {select.format(numbers)}")
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def _plans(url: str, sql: str, values: list[object]) -> list[dict[str, Any]]:
    """Return the plans of the first six runs. After five, PostgreSQL may use one plan for all values."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"PREPARE statement AS {sql}")
        arguments = f"({', '.join(map(_literal, values))})" if values else ""
        return [
            json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE statement{arguments}"))[0][
                "Plan"
            ]
            for _ in range(6)
        ]
    finally:
        await connection.close()


def _literal(value: object) -> str:
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _is_scan(node: dict[str, Any]) -> bool:
    """Return whether a node reads a whole table, or a whole index and filters its rows."""
    return node["Node Type"] == "Seq Scan" or (
        node["Node Type"].startswith("Index")
        and node["Index Name"] != "calls_left_by_both"  # a partial index of few calls
        and "Filter" in node
        and "Index Cond" not in node
    )


@pytest.fixture(scope="module")
def filled(postgres: str) -> Iterator[str]:
    with new_database(postgres) as url:
        asyncio.run(_filled(url))
        yield url


@pytest.mark.parametrize("name", OF_REQUESTS)
def test_postgresql_scans_no_table(filled: str, name: str) -> None:
    sql, values = compile_for(STATEMENTS[name], postgresql_asyncpg.dialect())
    for plan in asyncio.run(_plans(filled, sql, values)):
        scanned = {node["Relation Name"] for node in _nodes(plan) if _is_scan(node)}
        assert scanned.isdisjoint(LARGE), json.dumps(plan, indent=1)
